"""What the machine does to a run is said in one line, and the run goes on from there: its database is that of one it did not happen to."""

import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import scripts

from agent import run
from agent.loop import session
from agent.report.build import run_folder
from benchmarks.soak.equal import dump, first_difference
from experiments_db import __main__ as command
from experiments_db import opening, store
from experiments_db.faults import WORDS, FaultError
from experiments_db.records import Note, Run
from experiments_db.run_tables import transaction
from experiments_db.store import Store
from tools.findings import integrity
from tools.methods.tool import discover
from tools.subjects import load_subject

ROOT = Path(__file__).parent.parent
GOAL = ("--goal", "can the demo add")


def arguments(folder, *more):
    script = scripts.write(Path(tempfile.gettempdir()) / "locus-faults.jsonl")
    places = ["--planner", f"scripted:{script}", "--db", str(folder / "e.db"), "--out", str(folder / "t")]
    return [*places, "--device", "cpu", "--null-twins", "0", "--quiet", *more]


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """The model is loaded and checked once for all runs of this file: what is tried here lies behind it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "load_subject", cache(lambda name, **_: load_subject(name)))
        patch.setattr(session.integrity, "check", cache(integrity.check))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run to which nothing happened: its folder."""
    folder = tmp_path_factory.mktemp("whole")
    assert run.main(arguments(folder, *GOAL)) == 0
    return folder


@pytest.fixture(scope="module")
def rows(whole):
    return dump(whole / "e.db")


def goes_on(folder, rows, *more):
    """The run is resumed, or begun where it had not been, and its database is what it should be."""
    assert Store(folder / "e.db").verify() == []
    again = ["--resume", "latest"] if Store(folder / "e.db").runs() else GOAL
    assert run.main(arguments(folder, *again, *more)) == 0
    assert first_difference(rows, dump(folder / "e.db")) is None
    assert Store(folder / "e.db").verify() == []
    (name,) = Store(folder / "e.db").runs()
    assert (run_folder(Store(folder / "e.db").run(name)) / "report.md").is_file()


def cut_off(folder, monkeypatch, events):
    """Begin a run that ends as if it had been killed, with so many events on record."""
    put, left = Store.put_event, iter(range(events))

    def put_event(self, *given):
        if next(left, None) is None:
            raise FaultError("cut off")
        return put(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put_event", put_event)
        assert run.main(arguments(folder, *GOAL)) == 1


def one_line(capsys):
    said = capsys.readouterr().err
    assert said.strip().count("\n") == 0, said
    return said


def pages(path):
    with sqlite3.connect(path) as db:
        return db.execute("PRAGMA page_count").fetchone()[0]


# -- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(share, whole, rows, tmp_path, monkeypatch, capsys):
    Store(tmp_path / "e.db").db.close()
    empty, end = pages(tmp_path / "e.db"), pages(whole / "e.db")
    room = int(empty + share * (end - empty))

    def connect(path, **how):
        db = opening.connect(path, **how)
        db.execute(f"PRAGMA max_page_count = {room}")
        return db

    with monkeypatch.context() as patch:
        patch.setattr(store, "connect", connect)
        assert run.main(arguments(tmp_path, *GOAL)) == 1
    said = one_line(capsys)
    assert "the disk (or a quota) is full: make room" in said
    assert "--resume" in said or "nothing was begun" in said
    goes_on(tmp_path, rows)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, and a function that mounts it again with other options; skipped where that may not be done."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True).returncode == 0

    if shutil.which("mount") is None or not mount("size=32m"):
        pytest.skip("a file system can be mounted by root alone")
    yield folder, mount
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_in_earnest(small_disk, rows, capsys):
    folder, mount = small_disk
    kept = folder / "ballast"
    kept.write_bytes(bytes(32 * 2**20 - 300 * 1024))
    assert run.main(arguments(folder, *GOAL)) == 1
    assert "full" in one_line(capsys)
    kept.unlink()
    goes_on(folder, rows)


def test_a_report_that_finds_no_room_is_written_later(whole, tmp_path, monkeypatch, capsys, rows):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "report.md.part")

    with monkeypatch.context() as patch:
        patch.setattr(session, "write_report", full)
        assert run.main(arguments(tmp_path, *GOAL)) == 1
    said = one_line(capsys)
    assert "No space left on device" in said
    assert "--resume" in said
    goes_on(tmp_path, rows)


# -- a database that cannot be written --------------------------------------------------------------------------------


def test_a_read_only_database_is_read_and_not_written(small_disk, tmp_path, capsys):
    folder, mount = small_disk
    assert run.main(arguments(tmp_path, *GOAL, "--max-experiments", "2")) == 0
    capsys.readouterr()
    copied(tmp_path / "e.db", folder)
    assert mount("remount,ro")
    for asked in (["--resume", "latest", "--max-experiments", "60"], GOAL):
        assert run.main([*arguments(folder, *asked), "--out", str(tmp_path / "t")]) in (1, 2)
        assert "make the file and its folder" in one_line(capsys)
    assert mount("remount,rw")
    assert command.main(["verify", str(folder / "e.db")]) == 0


@pytest.mark.parametrize("asked", ["new", "resumed"])
def test_a_database_that_another_process_keeps_locked_is_waited_for_and_then_said_so(asked, tmp_path, monkeypatch, capsys, rows):
    Store(tmp_path / "e.db").db.close()
    if asked == "resumed":
        cut_off(tmp_path, monkeypatch, 6)
    capsys.readouterr()
    holder = subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path / "e.db")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    again = ["--resume", "latest"] if asked == "resumed" else GOAL
    with monkeypatch.context() as patch:
        patch.setattr(opening, "WAIT_SECONDS", 0.2)
        assert run.main(arguments(tmp_path, *again)) in (1, 2)
    assert "another process has it locked: end that process or wait for it" in one_line(capsys)
    holder.kill()
    holder.wait()
    goes_on(tmp_path, rows)


HOLDING = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1]); db.execute("BEGIN EXCLUSIVE"); print("held", flush=True); time.sleep(600)
"""


@pytest.mark.parametrize("begin", [opening.writing, lambda db: transaction(SimpleNamespace(db=db), "BEGIN IMMEDIATE")], ids=["writing", "transaction"])
def test_an_interrupt_as_soon_as_the_right_to_write_is_there_leaves_nothing_open(begin, tmp_path, monkeypatch):
    with closing(opening.connect(tmp_path / "e.db")) as db:
        real = db.execute

        def interrupted(*asked):
            real(*asked)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(db, "execute", interrupted)
            with pytest.raises(KeyboardInterrupt), begin(db):
                pass
        assert not db.conn.in_transaction
        with opening.writing(db):
            assert db.conn.in_transaction


def test_a_writer_that_lets_go_in_time_is_only_waited_for(tmp_path):
    mine = Store(tmp_path / "e.db")
    mine.put_run(Run(name="r", goal="g", subject="s", planner="p"))
    other = sqlite3.connect(tmp_path / "e.db", check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, other.rollback).start()
    began = time.monotonic()
    assert mine.put_entry("r", 1, Note(text="t")) == "N1"
    assert time.monotonic() - began > 0.2


def test_two_that_begin_in_the_same_second_get_a_name_each(tmp_path, monkeypatch):
    own, other = Store.transaction, []
    monkeypatch.setattr(session, "slug", lambda _: "asked")
    monkeypatch.setattr(session, "datetime", type("Noon", (), {"now": staticmethod(lambda _: datetime(2026, 1, 1, tzinfo=UTC))}))

    def transaction(self):
        if not other and self.path == tmp_path / "e.db":
            other.append(Store(tmp_path / "e.db"))
            other[0].put_run(Run(name="20260101-000000-asked", goal="g", subject="s", planner="p"))
        return own(self)

    monkeypatch.setattr(Store, "transaction", transaction)
    assert run.main(arguments(tmp_path, *GOAL, "--max-experiments", "1")) == 0
    assert Store(tmp_path / "e.db").runs()[0] == "20260101-000000-asked"
    assert sorted(Store(tmp_path / "e.db").runs())[1] == "20260101-000000-asked-2"


# -- damage -----------------------------------------------------------------------------------------------------------


def copied(path, folder):
    """A database as one file, in another folder."""
    with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(folder / path.name)) as other:
        one.backup(other)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.99])
def test_a_file_that_is_cut_short_is_said_to_be_damaged_and_nothing_is_written_to_it(kept, whole, tmp_path, capsys):
    copied(whole / "e.db", tmp_path)
    data = (tmp_path / "e.db").read_bytes()
    (tmp_path / "e.db").write_bytes(data[: int(kept * len(data))])
    before = (tmp_path / "e.db").read_bytes()
    assert command.main(["verify", str(tmp_path / "e.db")]) in (1, 2)
    printed = capsys.readouterr()
    assert "damaged" in printed.out + printed.err
    assert run.main(arguments(tmp_path, *GOAL)) in (1, 2)
    assert "damaged" in one_line(capsys)
    assert (tmp_path / "e.db").read_bytes() == before


@pytest.mark.parametrize("seed", range(4))
def test_a_page_that_was_overwritten_is_found(seed, whole, tmp_path, capsys):
    copied(whole / "e.db", tmp_path)
    rng = random.Random(seed)
    data = bytearray((tmp_path / "e.db").read_bytes())
    at = 4096 * rng.randrange(1, len(data) // 4096)
    data[at : at + 4096] = rng.randbytes(4096)
    (tmp_path / "e.db").write_bytes(data)
    assert command.main(["verify", str(tmp_path / "e.db")]) in (1, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_errors_of_the_program_are_no_faults_of_the_machine(tmp_path):
    made = Store(tmp_path / "e.db")
    with pytest.raises(sqlite3.OperationalError):
        made.rows("SELECT nonsense FROM runs")
    with pytest.raises(sqlite3.IntegrityError), made.transaction():
        made.db.execute("INSERT INTO run_experiments VALUES ('nobody', 1, 'x', 1, 0, 1, '')")
    assert all("\n" not in words for words in WORDS.values())
    assert issubclass(FaultError, store.StoreError)


# -- power that fails -------------------------------------------------------------------------------------------------

PARTS = ("", "-wal", "-shm")
FRAME = 24 + 4096  # bytes of a page in the log


def state_of(path):
    return tuple(p.read_bytes() if p.exists() else b"" for p in (path.with_name(path.name + end) for end in PARTS))


def laid_out(state, folder):
    folder.mkdir()
    for end, data in zip(PARTS, state, strict=True):
        if data:
            (folder / f"e.db{end}").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def instants(tmp_path_factory):
    """The three files after each write of a whole run, with a log that is moved into the file every few pages."""
    folder, seen = tmp_path_factory.mktemp("instants"), []
    path = folder / "e.db"

    def note(_statement):
        stamp = [(p.stat().st_size, p.stat().st_mtime_ns) for p in folder.glob("e.db*") if not p.name.endswith("shm")]
        if not seen or stamp != seen[-1][0]:
            seen.append((stamp, state_of(path)))

    def connect(file, **how):
        db = opening.connect(file, **how)
        db.execute("PRAGMA wal_autocheckpoint = 25")
        db.conn.set_trace_callback(note)
        return db

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "connect", connect)
        assert run.main(arguments(folder, *GOAL)) == 0
    return [state for _, state in seen]


def torn(state, rng):
    """A state some of whose last writes to the log did not reach the disk, or reached it as noise; the index is lost.

    What has been moved into the file had been synced before: the index says how much that is (walformat, nBackfillAttempted).
    """
    file, log, index = state
    at = rng.randrange(min(len(log), 32 + FRAME * int.from_bytes(index[128:132], sys.byteorder)), len(log) + 1)
    kept = log[:at]
    if rng.random() < 0.5:
        kept += rng.randbytes(min(len(log) - at, rng.choice([1, 100, 5000])))
    return file, kept, b""


def mixed(before, after, rng):
    """While the log is moved into the file: some pages are there, others not yet; the log is still whole."""
    pages = max(len(before[0]), len(after[0])) // 4096
    some = [(after if rng.random() < 0.5 else before)[0][4096 * i : 4096 * (i + 1)] for i in range(pages)]
    longest = next((i for i, page in enumerate(some) if len(page) < 4096), pages)
    return b"".join(some[:longest]), after[1], b""


def test_whatever_had_reached_the_disk_when_the_power_failed_opens_and_verifies(instants, rows, tmp_path):
    rng = random.Random(0)
    made = list(instants)
    made += [torn(state, rng) for state in instants if state[1]]
    halfway = [mixed(a, b, rng) for a, b in itertools.pairwise(instants) if a[1][16:24] == b[1][16:24] and a[0] != b[0]]
    made += halfway
    assert len(instants) > 20
    assert halfway
    chosen = {len(instants) // 2, len(instants) * 3 // 2, len(made) - len(halfway) // 2 - 1}
    counts = []
    for i, state in enumerate(made):
        if not state[0]:
            continue
        opened = Store(laid_out(state, tmp_path / str(i)) / "e.db")
        assert opened.verify() == [], i
        events = opened.rows("SELECT kind, payload FROM events ORDER BY rowid")
        assert len(events) <= len(rows["events"])
        counts.append(len(events))
        opened.db.close()
        if i not in chosen:
            shutil.rmtree(tmp_path / str(i))
    assert len(set(counts)) > 10  # of many instants
    left = [f for f in tmp_path.iterdir() if f.is_dir()]
    assert len(left) == 3
    for folder in left:
        goes_on(folder, rows)


def test_a_log_whose_bytes_changed_is_read_up_to_there_or_said_to_be_unsound(instants, rows, tmp_path):
    said: list[str] = []
    rng, sound, kinds = random.Random(1), 0, [kind for _, kind, _ in rows["events"]]
    for i in range(24):
        file, log, _ = rng.choice([s for s in instants if len(s[1]) > 4 * FRAME])
        bad = bytearray(log)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        try:
            opened = Store(laid_out((file, bytes(bad), b""), tmp_path / str(i)) / "e.db")
        except FaultError as error:
            said.append(str(error))
            continue
        if opened.verify() == []:
            sound += 1
            found = [r["kind"] for r in opened.rows("SELECT kind FROM events ORDER BY rowid")]
            assert found == kinds[: len(found)]
        opened.db.close()
    assert sound > 6
    assert all("is damaged" in text for text in said)


# -- a clock that goes backwards --------------------------------------------------------------------------------------


def test_a_clock_that_goes_backwards_changes_neither_which_run_is_the_latest_nor_what_a_run_says(tmp_path, monkeypatch, rows):
    first = tmp_path / "first"
    first.mkdir()
    cut_off(first, monkeypatch, 6)
    with monkeypatch.context() as patch:
        patch.setattr(store, "now", lambda: "1999-12-31T23:59:59.000+00:00")
        patch.setattr(time, "time", lambda: 946684799.0)
        goes_on(first, rows)
        again = Store(first / "e.db")
        again.put_run(Run(name="after", goal="g", subject="demo", planner="p"))
        assert again.resolve_run("latest") == "after"
    (name, _) = sorted(again.runs())
    times = [e.time for e in again.events(name)]
    assert times != sorted(times)  # the clock did go back
    assert [e.seq for e in again.events(name)] == list(range(1, len(times) + 1))
    assert again.verify() == []


# -- who ends it ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_the_foreground")
@pytest.mark.parametrize(("name", "moment"), [("SIGINT", 2), ("SIGINT", 9), ("SIGTERM", 14), ("SIGHUP", 20), ("SIGINT", 26)])
def test_an_end_at_any_write_and_another_right_after_leave_a_run_that_goes_on(name, moment, tmp_path, monkeypatch, rows):
    own, seen = Store.transaction, []

    def transaction(self):
        seen.append(1)
        if len(seen) in (moment, moment + 1):  # the second one where the first is minded
            signal.raise_signal(getattr(signal, name))
        return own(self)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "transaction", transaction)
        assert run.main(arguments(tmp_path, *GOAL)) == 130
    assert len(seen) >= moment
    goes_on(tmp_path, rows)


@pytest.mark.usefixtures("in_the_foreground")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_end_does_not_wait_for_what_is_computed(name, tmp_path, monkeypatch, rows):
    tool, own = discover()["loss"], discover()["loss"].run
    steps = []

    def endless(args, ctx):
        threading.Timer(0.1, lambda: os.kill(os.getpid(), getattr(signal, name))).start()
        while len(steps) < 20_000:
            ctx.subject.run(ctx.subject.inputs([[5, 6]]))
            steps.append(1)
        return own(args, ctx)

    with monkeypatch.context() as patch:
        patch.setitem(tool.__dict__, "run", endless)
        assert run.main(arguments(tmp_path, *GOAL)) == 130
    assert 0 < len(steps) < 20_000
    goes_on(tmp_path, rows)
