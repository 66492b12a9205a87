"""Task files, recordings and images that somebody sent: read as they are or refused in one line, never at the cost of the memory."""

import json
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from agent import run
from experiments_db.records import TaskData
from tools.tasks import Signal, TaskError, from_records, read_jsonl
from tools.tasks import signals as files

FEW = 20 * 2**20  # bytes

# -- task files --------------------------------------------------------------------------------------------------------

ROWS = [
    {
        "prompt": f"p {i} q", "answer": f" {i}", "foil": " z", "twin": f"p {i + 1} q", "labels": {"n": i}, "spans": {"first": [0, 1], "n": [2, 3]},
        "span_labels": {"first": {"head": "n"}}, "group": f"g{i}", "split": ("explore", "confirm")[i % 2], "metadata": {"k": 1.5}, "candidates": [" 1"],
        "accepted": [f" {i}"], "counterfactuals": [{"labels": {"n": 9}, "answers": [" 9"]}], "class": "a",
    }
    for i in range(4)
]  # fmt: skip
KEYS = [*ROWS[0], "surprise", "audio", "image", "source", "masked", "into", "twin_into", "twin_spans"]
STRANGE = [
    None, True, -1, 0, 10**400, 1e308, float("nan"), float("inf"), "", " ", "\0", "\ud800", "a" * 3000, "line\u2028end", "~nobody/x.png", "../../etc/passwd",
    [], [[]], {}, {"a": {}}, [0, 10**30], [1, 0], [-1, 5], "first", {"x\ud800": 1}, {"": ""}, {"all": [0, 1]}, {"n": float("nan")},
]  # fmt: skip
CHANGE = st.tuples(st.integers(0, 3), st.sampled_from(KEYS), st.sampled_from(STRANGE))


@settings(max_examples=150)
@given(changes=st.lists(CHANGE, min_size=1, max_size=2), literal=st.booleans(), bytes_=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=2))
def test_whatever_stands_in_a_task_file_is_taken_up_whole_or_refused_in_one_line(changes, literal, bytes_, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sent")
    rows = json.loads(json.dumps(ROWS))
    for row, key, value in changes:
        rows[row][key] = value
    text = bytearray("\n".join(json.dumps(r, ensure_ascii=not literal) for r in rows).encode("utf-8", "surrogatepass"))
    for at, byte in bytes_:
        text[at % len(text)] = byte
    (folder / "t.jsonl").write_bytes(text)
    records, refused = (), ""
    try:
        records = read_jsonl(folder / "t.jsonl")
    except TaskError as error:
        refused = str(error)
    assert "\n" not in refused and (records or str(folder / "t.jsonl") in refused)
    if records:
        task = from_records("t", "d", records)
        assert sum(len(task.examples(split, 4)) for split in ("explore", "confirm")) == 4
        assert TaskData(name="t", description="d", examples=tuple(records), origin="file").sha
    assert [f.name for f in folder.iterdir()] == ["t.jsonl"]


@pytest.mark.parametrize(("label", "says"), [("NaN", "number in it is none"), ("-Infinity", "number in it is none"), ('"\\ud800"', "half of a character")])
def test_what_no_record_can_hold_is_refused_where_it_stands(label, says, tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_text("".join(f'{{"prompt": "p {i}", "answer": " a", "labels": {{"n": {label if i == 2 else i}}}}}\n' for i in range(4)))
    with pytest.raises(TaskError, match=rf"t.jsonl, line 3: .*{says}"):
        read_jsonl(file)


def test_a_sign_that_ends_lines_elsewhere_may_stand_in_a_text(tmp_path):
    rows = [{"prompt": f"one\u2028two\x85 {i}", "answer": " a", "split": s} for i, s in enumerate(["explore", "confirm"] * 2)]
    (tmp_path / "t.jsonl").write_text("\r\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8", newline="")
    assert [r["prompt"] for r in read_jsonl(tmp_path / "t.jsonl")] == [r["prompt"] for r in rows]


def test_a_task_file_nested_without_end_is_refused(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"prompt": ' + "[" * 200_000)
    with pytest.raises(TaskError, match="line 1: it is nested too deeply"):
        read_jsonl(tmp_path / "t.jsonl")


# -- images and recordings ---------------------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *more):
    """A PNG that says it is so large, with one row in it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(bytes(1 + 3 * 8))) + chunk(b"IEND", b"")


def jpeg(folder, width, height):
    """A JPEG that says it is so large."""
    Image.new("RGB", (8, 8)).save(folder / "small.jpg")
    data = bytearray((folder / "small.jpg").read_bytes())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def wav(samples, fmt=(1, 1, 16_000, 32_000, 2, 16), says=None, before=b""):
    data = b"WAVE" + before + b"fmt " + struct.pack("<IHHIIHH", 16, *fmt) + b"data" + struct.pack("<I", len(samples) if says is None else says) + samples
    return b"RIFF" + struct.pack("<I", 0xFFFFFFFF if says else len(data)) + data


def stored(kind, folder, content):
    file = folder / f"sent.{kind}"
    file.write_bytes(content)
    return files.taken_up(kind, file.name, folder)


@pytest.mark.parametrize("size", [(4097, 4096), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)], ids=str)
@pytest.mark.parametrize("form", ["png", "jpeg", "gif"])
def test_an_image_that_says_it_is_huge_is_refused_before_it_is_decoded(form, size, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    small = tuple(min(n, 65_500) for n in size)
    made = {"png": png(*size), "jpeg": jpeg(tmp_path, *small), "gif": b"GIF89a" + struct.pack("<HH", *small) + b"\0\0\0;"}
    with pytest.raises(TaskError, match=r"sent.image is no PNG or JPEG that can be read: [^\n]+$"):
        stored("image", tmp_path, made[form])
    assert not list(recwarn)


def test_an_image_as_large_as_can_be_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_PIXELS", 6)
    for width, fits in ((2, True), (3, False)):
        Image.new("RGB", (width, 3)).save(tmp_path / f"{width}.png")
        if fits:
            assert files.signal("image", files.taken_up("image", f"{width}.png", tmp_path)).data.shape == (3, 2, 3)
        else:
            with pytest.raises(TaskError, match="it has 3 x 3 pixels, and at most 6 are read"):
                files.taken_up("image", f"{width}.png", tmp_path)


def test_text_in_an_image_that_would_grow_without_end_is_not_unpacked(tmp_path):
    bomb = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(64 * 2**20), 9))
    tracemalloc.start()
    try:
        with pytest.raises(TaskError, match="is no PNG or JPEG that can be read"):
            stored("image", tmp_path, png(8, 8, bomb))
        assert tracemalloc.get_traced_memory()[1] < FEW
    finally:
        tracemalloc.stop()


NANS = np.full(64, np.nan, dtype="<f4").tobytes()
NESTED = b"".join(b"LIST" + struct.pack("<I", 2**31 - 1 - i) for i in range(500))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (wav(NANS, (3, 1, 16_000, 64_000, 4, 32)), "16-bit PCM"), (wav(b"\0\0" * 8, (1, 0, 16_000, 0, 0, 16)), "16-bit PCM"),
        (wav(b"\0\0" * 8, (1, 1, 16_000, 32_000, 2, 8)), "1 channels of 8 bits"), (wav(b"\0" * 64, (1, 65_535, 16_000, 0, 0, 16)), "65535 channels"),
        (wav(b"\0\0" * 8, (1, 1, 0, 0, 2, 16)), "0 samples a second"), (wav(b"", says=0), "no samples"), (wav(b"", says=2**32 - 1), "no samples"),
        (wav(b"\0\0" * 8, before=NESTED), "16-bit PCM"), (b"RIFF\xff\xff\xff\xffWAVE", "16-bit PCM"), (b"", "16-bit PCM"), (b"RIFX" + bytes(99), "16-bit PCM"),
        (wav(b"\0\0" * 8)[:30], "16-bit PCM"),
    ],
)  # fmt: skip
def test_a_recording_that_is_none_is_refused_in_one_line(content, says, tmp_path):
    with pytest.raises(TaskError, match=rf"^audio [^\n]*{says}[^\n]*$"):
        stored("audio", tmp_path, content)


def test_a_recording_that_says_it_is_huge_is_as_long_as_it_is(tmp_path):
    tracemalloc.start()
    try:
        kept = stored("audio", tmp_path, wav(b"\1\0" * 8, says=2**32 - 2))
        assert files.signal("audio", kept) == Signal(np.full(8, 1 / 32768, dtype=np.float32), kept["name"], 16_000)
        assert tracemalloc.get_traced_memory()[1] < FEW
    finally:
        tracemalloc.stop()


@settings(max_examples=150)
@given(data=st.data(), kind=st.sampled_from(files.KINDS))
def test_whatever_bytes_are_sent_are_a_signal_or_refused_in_one_line(data, kind, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    good = bytearray(wav(np.arange(40, dtype="<i2").tobytes()) if kind == "audio" else data.draw(st.sampled_from([png(8, 1), jpeg(folder, 8, 8)])))
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), min_size=1, max_size=6)):
        good[at] = byte
    cut, found, refused = data.draw(st.integers(1, len(good))), None, ""
    try:
        found = files.signal(kind, stored(kind, folder, bytes(good[:cut])))
    except TaskError as error:
        refused = str(error)
    assert "\n" not in refused and (found is None) == bool(refused)
    assert found is None or (found.data.size and np.isfinite(found.data).all())


@pytest.mark.parametrize("kind", files.KINDS)
@pytest.mark.parametrize("what", ["pipe", "device", "folder", "huge", "gone", "nobody's home", "a zero"])
def test_what_has_no_end_or_is_not_there_is_not_waited_for(kind, what, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(2**36)
    names = {"device": "/dev/zero", "folder": ".", "nobody's home": "~nobody-at-all/x", "a zero": "x\0y"}
    with pytest.raises(TaskError, match=rf"^{kind} [^\n]*(cannot be read|no path)[^\n]*$"):
        files.taken_up(kind, names.get(what, what), tmp_path)


@pytest.mark.parametrize(("kind", "content"), [("image", png(60_000, 60_000)), ("audio", wav(NANS, (3, 1, 16_000, 64_000, 4, 32)))])
def test_a_run_on_such_files_is_refused_in_one_line_and_leaves_nothing(kind, content, tmp_path, capsys):
    (tmp_path / "sent").write_bytes(content)
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps({kind: "sent", "answer": f"a{i}"}) + "\n" for i in range(4)))
    argv = ["--goal", "what about mine", "--subject", {"image": "shapes", "audio": "speech"}[kind], "--task", str(tmp_path / "mine.jsonl")]
    assert run.main([*argv, "--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "mine.jsonl, line 1" in printed.err
    assert sorted(f.name for f in tmp_path.iterdir()) == ["mine.jsonl", "sent"]
