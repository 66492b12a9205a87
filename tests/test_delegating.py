"""A child run: paid for by its parent, settled on examples of its own within one error rate, and found again after a kill."""

import gc
import json
import re

import pytest
import scripts

from agent import replay, run
from agent.loop.budget import Limits, Spent
from agent.loop.delegating import child_limits, children, rounds_used
from agent.loop.executor import ToolRunner
from agent.loop.history import spending
from agent.loop.record import RunRecord
from agent.report.__main__ import main as report
from experiments_db.store import Store
from tools.methods.tool import ToolInputError

ASK = scripts.call("investigate", question="Can the model do agreement?", share=6)


def turn(*calls, **more):
    return {"text": "", "calls": list(calls), **more}


def settled(task, handle="E1"):
    return [
        turn(scripts.call("examine", kind="capability", task=task, examples=16)),
        turn(scripts.call("predict", experiment=handle, probability=0.9)),
        turn(scripts.call("confirm")),
    ]


DONE = turn(scripts.call("finish", answer="unclear", words="Done."))
CHILD = [
    turn(scripts.call("investigate", question="Can the model do copying?", share=4), child=0),
    *({**t, "child": 0} for t in settled("agreement")),
    {**DONE, "child": 0},
]
TURNS = [*settled("agreement"), turn(ASK), *settled("copying", "E3"), *CHILD, DONE]


def arguments(folder, *more):
    return [*more, "--db", str(folder / "e.db"), "--out", str(folder / "t"), "--device", "cpu", "--quiet"]


def begin(folder, turns, *more):
    script = scripts.write(folder / "s.jsonl", turns)
    return run.main(arguments(folder, "--goal", "can it", "--subject", "demo", "--planner", f"scripted:{script}", *more))


def record_of(folder, which=0):
    store = Store(folder / "e.db")
    return RunRecord(store, store.runs()[which])


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A parent that settles a finding, has a child settle one, and settles another."""
    folder = tmp_path_factory.mktemp("family")
    assert begin(folder, TURNS, "--max-experiments", "12") == 0
    return folder


def answers(record):
    return [e.payload for e in record.store.events(record.run) if e.kind == "answer"]


def test_the_rounds_of_a_family_stand_in_one_sequence(family):
    parent = record_of(family)
    (child,) = children(parent)
    its = RunRecord(parent.store, child.name)
    assert [[f.round for f in r.findings()] for r in (parent, its)] == [[1, 3], [2]]
    assert [round(f.threshold, 6) for f in (*parent.findings(), *its.findings())] == [0.025, 0.00625, 0.0125]
    assert rounds_used(parent) == rounds_used(its) == 3


def test_a_child_is_settled_on_examples_that_its_parent_was_not(family):
    parent = record_of(family)
    its = RunRecord(parent.store, children(parent)[0].name)
    mine, theirs = (
        next(e.experiment.args["draw"] for e in r.experiments() if e.experiment.args.get("split") == "confirm") for r in (parent, its)
    )
    assert (mine, theirs) == (0, 16)
    assert not any(f.reused for f in its.findings())


def test_what_a_child_spends_its_parent_has_spent(family):
    parent = record_of(family)
    assert spending(parent, parent.store.run(parent.run)).experiments == 4 + 2
    child = parent.store.run(children(parent)[0].name)
    assert child.settings["max_experiments"] == 6
    assert child.settings["parent"]["run"] == parent.run


def test_a_child_has_no_children(family):
    parent = record_of(family)
    refused = answers(RunRecord(parent.store, children(parent)[0].name))[0]
    assert refused["status"] == "rejected"
    assert "there is no tool 'investigate'" in refused["text"]


def test_its_findings_come_back_and_stand_in_the_parents_report(family, capsys):
    parent = record_of(family)
    told = next(a["text"] for a in answers(parent) if "-c1" in a["text"])
    assert "F1 [confirmed] does the task; agreement" in told
    assert "settled in round 2" in told
    text = (family / "t" / parent.run / "report.md").read_text()
    assert "## Investigated by child runs" in text
    assert f"(../{parent.run}-c1/report.md)" in text
    for name in (parent.run, f"{parent.run}-c1"):
        assert report([name, "--db", str(family / "e.db"), "--check"]) == 0
    assert Store(family / "e.db").resolve_run("latest") == parent.run
    assert run.main(arguments(family, "--resume", f"{parent.run}-c1")) == 2
    assert f"--resume {parent.run}" in capsys.readouterr().err


def test_replay_runs_the_experiments_of_the_child_too(family, capsys):
    parent = record_of(family)
    assert replay.main([parent.run, "--db", str(family / "e.db"), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert re.findall(r"(\d) of \d experiments came out as recorded, \d of them", said) == ["4", "2"]


def test_a_share_is_a_share_of_every_budget_and_never_more_than_is_left():
    spent = Spent(experiments=10, reserved=2, tokens=4000, cost=1.0)
    made = child_limits(Limits(experiments=32, minutes=None, tokens=24_000, cost=3.0), spent, 5)
    assert made == Limits(5, None, 5000, 0.5)
    with pytest.raises(ToolInputError, match="20 experiments are left"):
        child_limits(Limits(experiments=32), spent, 21)


def test_a_child_stops_at_its_share_and_the_parent_goes_on(tmp_path):
    greedy = [{**turn(scripts.call("loss", tasks=["agreement"], examples=8 + i)), "child": 0} for i in range(8)]
    assert begin(tmp_path, [turn({**ASK, "arguments": {**ASK["arguments"], "share": 4}}), *greedy, DONE], "--max-experiments", "5") == 0
    parent = record_of(tmp_path)
    child = RunRecord(parent.store, children(parent)[0].name)
    assert len(child.experiments()) == 4
    assert "budget of 4 experiments" in parent.store.run(child.run).reason
    assert parent.store.run(parent.run).status == "finished"


def test_a_parent_killed_inside_its_child_goes_on_inside_it_and_ends_the_same(family, tmp_path, monkeypatch):
    whole = ToolRunner.confirm

    def killed(runner, *args, **kwargs):
        if runner.record.run.endswith("-c1"):
            raise SystemExit(9)
        return whole(runner, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ToolRunner, "confirm", killed)
        with pytest.raises(SystemExit):
            begin(tmp_path, TURNS, "--max-experiments", "12")
    gc.collect()  # with the session that was killed goes its lock
    store = Store(tmp_path / "e.db")
    assert [store.run(n).status for n in store.runs()][1:] == ["running"]
    store.db.execute("UPDATE runs SET status = 'running', reason = ''")  # a kill leaves no word
    store.db.conn.commit()
    assert run.main(arguments(tmp_path, "--resume", "latest")) == 0
    for which in (0, 1):
        there, here = record_of(family, which), record_of(tmp_path, which)
        kinds = [[e.kind for e in r.store.events(r.run)] for r in (there, here)]
        assert kinds[0] == kinds[1]
        assert [json.dumps(f.model_dump()) for f in there.findings()] == [json.dumps(f.model_dump()) for f in here.findings()]
    assert len(children(record_of(tmp_path))) == 1
