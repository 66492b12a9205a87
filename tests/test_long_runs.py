"""What a turn of a long run costs: history and notebook are read to the end of what is asked for, and no further."""

import json
import tracemalloc
from pathlib import Path

import pytest

from agent import run
from agent.loop import history as loop_history
from agent.loop.history import Exchanges, history
from agent.loop.notebook import notebook_text
from agent.loop.record import Handles, RunRecord
from agent.loop.session import Session
from agent.planners.base import Answer, Exchange, PlannerError, ToolCall, Turn
from benchmarks.planted.train import FOLDER
from experiments_db.records import Experiment, Measurement, Note, Result, Run
from experiments_db.store import Store
from tools.findings.gate import capability
from tools.ports import ANSWERS

TURNS, FEW = 90, 8


def put_turn(store: Store, i: int, *, answered: bool = True) -> None:
    """A turn that asks for an experiment, and every third time a note beside it."""
    with store.transaction():
        calls = [{"id": f"c{i}", "name": "loss", "arguments": f'{{"n": {i}}}'}]
        calls += [{"id": f"n{i}", "name": "note", "arguments": "{}"}] if i % 3 == 0 else []
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.0}
        seq = store.put_event("long", "turn", {"calls": calls, "text": f"turn {i}", "usage": usage, "minutes": 0.0})
        experiment = Experiment(tool="loss", args={"n": i}, subject="s", seed=0, dtype="float32", code="c")
        found = Measurement(name="accuracy", unit="share of examples", value=i / TURNS, n=9)
        number = store.put_result(experiment, Result(status="ok", text=f"of {i}", measurements=(found,)))
        handle = store.link_experiment("long", experiment.id, number, cached=False, seq=seq, why="")
        store.put_event("long", "answer", {"call_id": f"c{i}", "text": f"of {i}", "status": "ok", "handle": handle})
        if i % 3 == 0 and answered:
            written = store.put_entry("long", seq, Note(text=f"Note of {i}."))
            store.put_event("long", "answer", {"call_id": f"n{i}", "text": "kept", "status": "ok", "handle": written})


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    store = Store(tmp_path / "e.db")
    store.put_run(Run(name="long", goal="g", subject="s", planner="p"))
    for i in range(TURNS):
        put_turn(store, i)
    return RunRecord(store, "long")


def asked(exchange: Exchange) -> str:
    return exchange.turn.calls[0].arguments


def test_of_a_long_history_the_latest_are_held_and_earlier_ones_read_when_asked_for(record, monkeypatch):
    whole = list(history(record)[0])
    assert [asked(e) for e in whole] == [f'{{"n": {i}}}' for i in range(TURNS)]
    assert [len(e.answers) for e in whole[:4]] == [2, 1, 1, 2]
    monkeypatch.setattr(loop_history, "HELD", FEW)
    made, pending = history(record)
    assert pending is None
    assert list(made) == whole
    assert len(made) == TURNS
    for i in (0, 5, TURNS - 1, -1, -TURNS):
        assert made[i] == whole[i]
    for wanted in (slice(0, 3), slice(70, 86), slice(-4, None), slice(None, 4), slice(80, 2, -7), slice(4, 4), slice(0, 500)):
        assert made[wanted] == whole[wanted]
    with pytest.raises(IndexError):
        made[TURNS]
    read = []
    events = record.store.events
    monkeypatch.setattr(record.store, "events", lambda *a, **k: read.append(a) or events(*a, **k))
    assert made[-FEW:] == whole[-FEW:]
    assert not read, "the latest are held"
    made[TURNS // 2]
    assert len(events(*read[0])) <= 4, "one earlier exchange takes its own events"


def test_what_is_held_of_a_history_does_not_grow_with_it(record, monkeypatch):
    monkeypatch.setattr(loop_history, "HELD", FEW)
    made, held = history(record)[0], set[int]()
    for i in range(TURNS, TURNS + 4 * FEW):
        put_turn(record.store, i)
        made.append(Exchange(Turn((ToolCall(f"c{i}", "loss", f'{{"n": {i}}}'),), ""), (Answer(f"c{i}", "", "ok"),)))
        held.add(sum(isinstance(e, Exchange) for v in vars(made).values() if isinstance(v, list) for e in v))
    assert max(held) < 2 * FEW
    assert [asked(e) for e in made] == [f'{{"n": {i}}}' for i in range(TURNS + 4 * FEW)]


def test_a_turn_that_was_cut_off_is_pending_and_its_exchange_is_found_again_once_it_is_complete(record, monkeypatch):
    monkeypatch.setattr(loop_history, "HELD", 1)
    put_turn(record.store, 99, answered=False)
    made, pending = history(record)
    assert pending is not None
    turn, answers = pending
    assert (len(made), len(turn.calls), [a.call_id for a in answers]) == (TURNS, 2, ["c99"])
    record.store.put_event("long", "answer", {"call_id": "n99", "text": "kept", "status": "ok", "handle": None})
    made.append(Exchange(turn, (*answers, Answer("n99", "kept", "ok"))))
    put_turn(record.store, 100)
    put_turn(record.store, 101)
    assert isinstance(made, Exchanges)
    assert [a.call_id for a in made[TURNS].answers] == ["c99", "n99"]


def test_a_notebook_reads_each_experiment_once_and_the_latest_notes_alone(record, monkeypatch):
    read, noted = [], []
    result, notes = record.store.result, record.store.notes
    monkeypatch.setattr(record.store, "result", lambda number, **k: read.append(number) or result(number, **k))
    monkeypatch.setattr(record.store, "notes", lambda *a: noted.append(notes(*a)) or noted[-1])
    text = notebook_text(record)
    assert len(read) == 60
    put_turn(record.store, TURNS)
    again = notebook_text(record)
    assert len(read) == 61
    assert all(len(n) == 20 for n in noted)
    assert again == notebook_text(RunRecord(record.store, "long"))
    assert "  N31 Note of 90." in again and "N11 " not in again and "  N11 Note of 30." in text
    assert "  E91 loss" in again and "E31 " not in again and "  E31 loss" in text
    assert notebook_text(record, last_experiments=70) == notebook_text(RunRecord(record.store, "long"), last_experiments=70)


def test_an_experiment_asked_before_in_another_run_has_no_handle_in_this_one(record):
    store = record.store
    store.put_run(Run(name="other", goal="g", subject="s", planner="p"))
    experiment = record.experiment("E7")
    assert record.handle_of(experiment.id) == "E7"
    assert RunRecord(store, "other").handle_of(experiment.id) is None
    store.link_experiment("other", experiment.id, store.experiment("long", "E7").result_id, cached=True, seq=1, why="")
    assert RunRecord(store, "other").handle_of(experiment.id) == "E1"
    assert record.handle_of(experiment.id) == "E7"


class Weighed:
    """Asks for another experiment each turn; in some turns it writes and recalls instead, and keeps the KiB at the peak of each of those."""

    name = "weighed"
    knows_price = True

    def __init__(self, when: tuple[int, ...]) -> None:
        self.when, self.peaks, self.answers = when, [], []

    async def propose(self, view):
        number = len(view.exchanges)
        if tracemalloc.is_tracing():
            self.peaks.append(tracemalloc.get_traced_memory()[1] / 1024)
            tracemalloc.stop()
            self.answers += [a.status for a in view.exchanges[-1].answers]
        if number in self.when:
            asked = {"note": {"text": "As before.", "experiments": ["E2"]}, "hypothesis": {"statement": "It copies."},
                     "recall": {"handle": "E2"}}  # fmt: skip
            tracemalloc.start()
        elif number > max(self.when):
            raise PlannerError("that was all")
        else:
            asked = {"generate": {"prompts": [f"{number % 24} ? {number // 24} ="], "max_new_tokens": 1, "operation": "skip", "blocks": [0]}}
        return Turn(tuple(ToolCall(f"{name}{number}", name, json.dumps(given)) for name, given in asked.items()), "")


def test_what_a_turn_takes_of_memory_does_not_grow_with_what_the_run_has_on_record(tmp_path):
    planner = Weighed((65, 70, 250))
    argv = ["--goal", "describe the model", "--subject", str(FOLDER / "lookup-a1-m2"), "--db", str(tmp_path / "e.db"), "--out",
            str(tmp_path), "--device", "cpu", "--null-twins", "0", "--quiet", "--max-experiments", "300"]  # fmt: skip
    Session.begin(run.parser().parse_args(argv), {}, planner).investigate()
    assert planner.answers == ["ok"] * 9
    _, early, late = planner.peaks
    assert late < early + 100, f"{early:.0f} KiB after 70 turns, {late:.0f} after 250"


def test_handles_are_those_of_the_record_and_no_experiment_is_read_for_them(record, monkeypatch):
    expected = {"E": [e.handle for e in record.experiments()], "N": [f"N{i + 1}" for i in range(len(record.notes()))]}
    monkeypatch.setattr(record.store, "experiments", None)
    monkeypatch.setattr(record.store, "notes", None)
    for letter, handles in expected.items():
        found = record.handles(letter)
        assert list(found) == handles
        assert (len(found), found[0], found[-1], found[-20:], found[3:50:7]) == (len(handles), handles[0], handles[-1], handles[-20:], handles[3:50:7])
        assert all(h in found for h in handles)
        for other in (f"{letter}0", f"{letter}{len(handles) + 1}", f"{letter}01", f"{letter}-1", f"{letter}1\n", "H1", letter, "", 1, f"{letter}{'9' * 5000}"):
            assert other not in found
    assert list(Handles("E", 0)) == Handles("E", 0)[-20:] == []


def test_what_is_recalled_is_read_alone(record, monkeypatch):
    read, experiments, notes = [], record.store.experiments, record.store.notes
    monkeypatch.setattr(record.store, "experiments", lambda *a, **k: read.append(experiments(*a, **k)) or read[-1])
    monkeypatch.setattr(record.store, "notes", lambda *a, **k: read.append(notes(*a, **k)) or read[-1])
    assert record.recall("N2") == 'N2: {"text":"Note of 3.","experiments":[]}'
    assert record.recall("N30").startswith('N30: {"text":"Note of 87."')
    assert record.recall("E7").startswith("E7: loss {'n': 6}")
    assert [len(r) for r in read] == [1, 1, 1]
    with pytest.raises(ValueError, match=r"there is no 'N31'; there are N11, N12, .*, N30$"):
        record.recall("N31")
    with pytest.raises(ValueError, match=r"there is no 'E91'; there are E71, E72, .*, E90$"):
        record.recall("E91")
    assert len(read) == 3


def test_what_the_intact_model_does_is_found_without_reading_the_record_through(monkeypatch):
    curated = Store(Path(__file__).parent.parent / "transcripts" / "curated" / "experiments.db", read_only=True)
    met = 0
    for name_ in curated.runs():
        record = RunRecord(curated, name_)
        rows = [(h, m) for h in record.handles("E") for m in record.measurements_of(h) if m.split == "explore" and m.among is None]
        beside = {(h, m.task) for h, m in rows if m.name == "chance"}
        best: dict[tuple[str, str], tuple[int, str]] = {}
        for h, m in rows:
            if m.program == "intact" and m.task and (h, m.task) in beside and m.n > best.get((m.task, m.name), (0, ""))[0]:
                best[m.task, m.name] = (m.n, h)
        found = {(t, name): record.intact(t, name) for _, m in rows if (t := m.task) for name in (m.name, "chance")}
        assert {k: h for k, h in found.items() if h} == {k: h for k, (_, h) in best.items()}
        for (task, name), (n, handle) in best.items():
            if name in ANSWERS:
                read = list[str]()
                monkeypatch.setattr(record, "measurements_of", lambda h, of=record.measurements_of, read=read: read.append(h) or of(h))
                known = capability(record, task, ANSWERS[name])
                monkeypatch.undo()
                assert known and (known.experiment, known.measured.n, read) == (handle, n, [handle])
                met += 1
    assert met > 8
