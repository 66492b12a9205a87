"""A user's own recordings, images, translations and gaps are studied from a task file, and stay what they were."""

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agent import run
from agent.loop.session import SETTINGS
from experiments_db.records import TaskData
from experiments_db.store import Store
from tests.ports_made import built_in_case
from tools.ports import PortError, port_of
from tools.subjects import load_subject
from tools.tasks import Example, Signal, TaskError, from_records, read_jsonl
from tools.tasks import signals as signals_module
from tools.tasks.user import INPUTS, UserExample


def record(path: Path, data: Any, rate: int = 16_000, channels: int = 1, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(data, dtype=f"<i{width}").tobytes())
    return path


def draw(path: Path, seed: int, mode: str = "RGB") -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def write(folder: Path, rows: list[dict[str, Any]], name: str = "mine.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def halves(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**r, "split": ("explore", "confirm")[i % 2]} for i, r in enumerate(rows)]


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    """Four recordings of 100 ms in a folder beside their task file."""
    (tmp_path / "clips").mkdir()
    rows = []
    for i in range(4):
        record(tmp_path / "clips" / f"{i}.wav", [i, 1000 * i, -32768, 32767] * 400)
        rows.append({
            "audio": f"clips/{i}.wav", "target": f"word{i}", "twin": f"clips/{(i + 1) % 4}.wav", "foil": "other",
            "spans": {"first": [0, 50]}, "twin_spans": {"first": [50, 100]}, "labels": {"n": i},
        })  # fmt: skip
    return write(tmp_path, halves(rows))


def test_a_recording_is_read_as_it_is_and_stored_by_its_content(heard: Path) -> None:
    records = json.loads(json.dumps(read_jsonl(heard)))
    assert len(json.dumps(records)) < 4000
    for e in from_records("mine", "d", records).examples("explore", 9):
        audio = e.inputs["audio"]
        assert isinstance(audio, Signal)
        n = int(e.labels["n"])
        assert audio.data.dtype == np.float32
        assert audio.rate == 16_000
        assert audio.data[:4].tolist() == [n / 32768, 1000 * n / 32768, -1.0, 32767 / 32768]
        assert (e.target, e.foil, e.prompt) == (f"word{n}", "other", f"clips/{n}.wav")
        assert e.spans == {"first": (0, 50)}
        assert e.twin_spans == {"first": (50, 100)}
        assert e.twin == f"clips/{(n + 1) % 4}.wav"


def test_a_recording_that_has_changed_or_gone_is_refused(heard: Path) -> None:
    records = read_jsonl(heard)
    record(heard.parent / "clips" / "2.wav", [1, 2, 3])
    with pytest.raises(TaskError, match=r"2\.wav has changed"):
        from_records("mine", "d", records)
    (heard.parent / "clips" / "2.wav").unlink()
    with pytest.raises(TaskError, match=r"2\.wav is gone"):
        from_records("mine", "d", records)


def test_moving_the_folder_changes_no_split(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rows = []
        for i in range(40):
            record(tmp_path / name / f"{name}{i}.wav", [i] * 8)
            rows.append({"audio": f"{name}{i}.wav", "answer": "x"})
        found.append([r["split"] for r in read_jsonl(write(tmp_path / name, rows))])
    assert found[0] == found[1]
    assert len(set(found[0])) == 2


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_is_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    rows = []
    for i in range(4):
        path = draw(tmp_path / f"{i}.{suffix}", i, "L" if i == 0 else "RGB")
        rows.append({"image": path.name, "answer": "cat", "spans": {"ear": [0, 0, 12, 8]}})
    for e in from_records("mine", "d", read_jsonl(write(tmp_path, halves(rows)))).examples("explore", 9):
        image = e.inputs["image"]
        assert isinstance(image, Signal)
        assert image.data.dtype == np.uint8
        assert np.array_equal(image.data, np.asarray(Image.open(tmp_path / e.prompt).convert("RGB")))
        assert e.spans == {"ear": (0, 0, 12, 8)}


def test_a_source_with_its_language_and_a_masked_text_are_read(tmp_path: Path) -> None:
    rows = [
        {"source": f"a b {i}", "into": "__x__", "target": f"c {i}", "twin": f"a d {i}", "spans": {"b": "b"}}
        for i in range(4)
    ]
    rows[0] |= {"twin_into": "__y__"}
    made = from_records("t", "d", read_jsonl(write(tmp_path, halves(rows)))).examples("explore", 9)
    by_target = {e.target: e for e in made}
    assert by_target["c 0"].inputs == {"source": "a b 0", "into": "__x__"}
    assert by_target["c 0"].twin_inputs == {"source": "a d 0", "into": "__y__"}
    assert by_target["c 2"].twin_inputs == {"source": "a d 2", "into": "__x__"}
    assert by_target["c 0"].spans == {"b": (2, 3)}
    masked = [{"masked": f"a [MASK] {i}", "answer": "b"} for i in range(4)]
    made = from_records("t", "d", read_jsonl(write(tmp_path, halves(masked)))).examples("explore", 9)
    assert {e.prompt for e in made} == {"a [MASK] 0", "a [MASK] 2"}
    assert all(set(e.inputs) == {"masked"} for e in made)


def test_a_record_of_text_is_what_it_always_was(tmp_path: Path) -> None:
    (record_, *_) = read_jsonl(write(tmp_path, halves([{"prompt": f"p{i}", "answer": "a"} for i in range(4)])))
    assert set(record_) == {
        "prompt", "answer", "foil", "twin", "candidates", "split", "metadata", "group", "labels", "spans", "twin_spans",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"answer": "a"}, "give one of prompt, audio, image, source, masked, not none"),
        ({"prompt": "a", "audio": "good.wav", "answer": "a"}, "not prompt and audio"),
        ({"audio": "nowhere.wav", "answer": "a"}, "relative to the task file"),
        ({"audio": "picture.png", "answer": "a"}, "no WAV file of 16-bit PCM"),
        ({"audio": "stereo.wav", "answer": "a"}, "2 channels of 16 bits"),
        ({"audio": "deep.wav", "answer": "a"}, "1 channels of 32 bits"),
        ({"audio": "empty.wav", "answer": "a"}, "no samples"),
        ({"audio": "good.wav", "answer": "a", "spans": {"x": "word"}}, "milliseconds"),
        ({"audio": "good.wav", "answer": "a", "spans": {"x": [0, 1000]}}, "the recording has 100 milliseconds"),
        ({"audio": "good.wav", "answer": "a", "spans": {"x": [0, 0, 5, 5]}}, "in milliseconds"),
        ({"audio": "good.wav", "answer": "a", "twin": "nowhere.wav"}, "nowhere.wav cannot be read"),
        ({"image": "good.wav", "answer": "a"}, "no PNG or JPEG"),
        ({"image": "picture.png", "answer": "a", "spans": {"x": [0, 5]}}, "in pixels"),
        ({"image": "picture.png", "answer": "a", "spans": {"x": [0, 0, 13, 8]}}, "the image has 12 x 8 pixels"),
        ({"image": "picture.png", "answer": ""}, "answer: it is empty"),
        ({"image": "picture.png", "answer": "a", "into": "__x__"}, "only a source"),
        ({"source": "a", "answer": "a", "twin_into": "__x__"}, "there is no twin"),
        ({"source": "a", "answer": "a", "target": "b"}, "target"),
        ({"masked": "a", "answer": "a", "spans": {"x": [0, 9]}}, "characters 0 to 1"),
        ({"audio": ".", "answer": "a"}, "cannot be read"),
    ],
)
def test_a_bad_line_is_named_with_what_would_be_valid(row: dict[str, Any], says: str, tmp_path: Path) -> None:
    record(tmp_path / "good.wav", [1] * 1600)
    record(tmp_path / "stereo.wav", [1] * 1600, channels=2)
    record(tmp_path / "deep.wav", [1] * 1600, width=4)
    record(tmp_path / "empty.wav", [])
    draw(tmp_path / "picture.png", 1)
    with pytest.raises(TaskError) as error:
        read_jsonl(write(tmp_path, [row]))
    assert "mine.jsonl, line 1" in str(error.value)
    assert says in str(error.value)


def test_the_same_recording_under_two_names_stands_there_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        record(tmp_path / f"{name}.wav", [1, 2, 3])
    rows = [{"audio": f"{name}.wav", "answer": "x"} for name in ("a", "b")]
    with pytest.raises(TaskError, match=r"the audio 'b\.wav' stands there twice"):
        read_jsonl(write(tmp_path, halves(rows)))


def test_a_recording_at_another_rate_is_refused_with_the_way_to_convert_it(tmp_path: Path) -> None:
    speech = load_subject("speech")
    path = record(tmp_path / "a.wav", [1] * 400, rate=44_100)
    stored = signals_module.taken_up("audio", path.name, tmp_path)
    with pytest.raises(PortError, match=r"44100 samples a second.*hears 16000.*-ar 16000"):
        port_of(speech).encode(speech, Example({"audio": signals_module.signal("audio", stored)}, "one"))


def test_a_clip_written_to_a_file_is_heard_as_the_clip_itself(tmp_path: Path) -> None:
    case = built_in_case("speech", 1)
    clip = case.examples[0].inputs["audio"]
    assert isinstance(clip, Signal)
    path = record(tmp_path / "clip.wav", np.round(clip.data * 32768).clip(-32768, 32767))
    own = signals_module.signal("audio", signals_module.taken_up("audio", path.name, tmp_path))
    said = port_of(case.subject).write(case.subject, [Example({"audio": own}, case.examples[0].target)])
    assert said == [case.examples[0].target]


def test_a_run_whose_recordings_have_changed_is_not_resumed(
    heard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments_db.records import Run

    store = Store(tmp_path / "e.db")
    settings = {
        **dict.fromkeys(SETTINGS, 0), "planner": "systematic", "device": "cpu", "dtype": "float32", "out": str(tmp_path),
    }  # fmt: skip
    store.put_run(
        Run.model_validate(
            {"name": "r1", "goal": "g", "subject": "speech", "planner": "systematic", "settings": settings}
        )
    )
    data = TaskData(name="mine", description="d", examples=tuple(read_jsonl(heard)), origin="file")
    store.put_entry("r1", 1, data)
    (heard.parent / "clips" / "1.wav").unlink()
    assert run.main(["--resume", "r1", "--db", str(tmp_path / "e.db"), "--quiet"]) == 2
    assert "1.wav is gone" in capsys.readouterr().err


def test_the_lines_that_the_documentation_shows_are_valid() -> None:
    text = (Path(__file__).parent.parent / "docs" / "ports.md").read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    shown = [UserExample.model_validate(line) for line in lines]
    assert {name for e in shown for name in INPUTS if getattr(e, name)} == set(INPUTS) - {"prompt"}
