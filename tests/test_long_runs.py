"""What a turn of a long run costs: history and notebook are read to the end of what is asked for, and no further."""

from pathlib import Path

import pytest

from agent.loop import history as loop_history
from agent.loop.history import Exchanges, history
from agent.loop.notebook import notebook_text
from agent.loop.record import RunRecord
from agent.planners.base import Answer, Exchange, ToolCall, Turn
from experiments_db.records import Experiment, Measurement, Note, Result, Run
from experiments_db.store import Store

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
