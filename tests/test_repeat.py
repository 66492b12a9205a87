"""One question asked several times: what the runs share is matched as data, resumable, and derived from the database."""

import signal

import pytest
import scripts
from starlette.testclient import TestClient

from agent import run
from agent.loop import null_twins
from agent.loop.repeats import group, group_named, groups, planned
from agent.loop.session import Session
from agent.report.__main__ import main as report
from agent.report.repeated import combined, key
from agent.review.app import make_app
from experiments_db import interrupts
from experiments_db.findings import Statement
from experiments_db.store import Store


def turns(*kinds):
    """A run that examines, predicts and confirms capability of these tasks, in this order."""
    out = []
    for i, task in enumerate(kinds):
        out.append({"text": "", "calls": [scripts.call("examine", kind="capability", task=task, examples=16)]})
        out.append({"text": "", "calls": [scripts.call("predict", experiment=f"E{i + 1}", probability=0.9)]})
    out.append({"text": "", "calls": [scripts.call("confirm")]})
    out.append({"text": "", "calls": [scripts.call("finish", answer="unclear", words="Done.")]})
    return out


def arguments(folder, *more):
    return [*more, "--db", str(folder / "e.db"), "--out", str(folder / "t"), "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """Three repeats under two planners: all find copying, one of them agreement too."""
    folder = tmp_path_factory.mktemp("repeat")
    both = scripts.write(folder / "both.jsonl", turns("copying", "agreement"))
    one = scripts.write(folder / "one.jsonl", turns("copying"))
    argv = ["--goal", "can it copy", "--paraphrase", "does it repeat letters", "--repeat", "3"]
    assert run.main(arguments(folder, *argv, "--planners", f"scripted:{one},scripted:{both}")) == 0
    return folder


def test_each_finding_has_the_share_of_the_runs_that_reached_it(repeated):
    store = Store(repeated / "e.db")
    (name,) = groups(store)
    c = combined(store, name)
    assert {r.words: (r.share, r.runs()) for r in c.reached} == {
        "does the task; copying": ("3 of 3", [1, 2, 3]),
        "does the task; agreement": ("1 of 3", [2]),
    }
    assert [r.words for r in c.of_one] == ["does the task; agreement"]
    assert c.of_one[0].otherwise == "not tested in runs 1, 3"
    text = (repeated / "t" / name / "report.md").read_text()
    assert "## Findings of one run only" in text
    assert "goal: can it copy, does it repeat letters" in text
    assert "seed: 0, 1, 2" in text
    assert "no other run had settled any on" in text


def test_what_varied_is_what_the_runs_were_given_and_each_was_settled_on_its_own_examples(repeated):
    store = Store(repeated / "e.db")
    runs = group(store, groups(store)[0]).runs
    assert [(r.goal, r.settings["seed"]) for r in runs.values()] == [("can it copy", 0), ("can it copy", 1), ("does it repeat letters", 2)]
    draws = [
        e.experiment.args["draw"]
        for r in runs.values()
        for e in store.experiments(r.name)
        if e.experiment.args.get("split") == "confirm" and e.experiment.args["task"] == "copying"
    ]
    assert draws == [0, 16, 32]


def test_the_report_is_rebuilt_and_checked_and_a_changed_one_is_found(repeated, capsys):
    store = Store(repeated / "e.db")
    (name,) = groups(store)
    where = ["--db", str(repeated / "e.db")]
    assert group_named(store, name[:-1]) == name
    assert group_named(store, f"{name}-r1") is None
    assert report([name, *where, "--check"]) == 0
    file = repeated / "t" / name / "report.md"
    right = file.read_text()
    file.write_text(right.replace("1 of 3", "3 of 3"))
    assert report([name, *where, "--check"]) == 1
    assert report([name, *where]) == 0
    assert file.read_text() == right
    assert report([f"{name}-r2", *where, "--check"]) == 0  # a run of the group by itself
    capsys.readouterr()


def test_the_pages_list_the_repeats_and_show_what_they_share(repeated):
    store = Store(repeated / "e.db")
    (name,) = groups(store)
    client = TestClient(make_app(store), base_url="http://127.0.0.1")
    assert client.get("/").text.count(f'href="/repeats/{name}"') == 3
    page = client.get(f"/repeats/{name}").text
    assert "1 of 3" in page
    assert f'href="/runs/{name}-r2/report#F2"' in page
    assert client.get("/repeats/nothing").status_code == 404


def test_statements_are_one_by_what_they_say_and_not_by_how_they_were_tested():
    s = Statement(kind="necessary", task="addition", components="decoder.0.mlp.out@answer", interventions=("zero",))
    same = [
        s.model_copy(update={"interventions": ("mean",), "examples": 64, "smallest": 0.3}),
        Statement(kind="necessary", task="addition", components=" decoder.0.mlp.out @answer "),
    ]
    other = [
        s.model_copy(update={"kind": "not_needed"}), s.model_copy(update={"task": "agreement"}),
        s.model_copy(update={"among": "carry=1"}), s.model_copy(update={"components": "decoder.1.mlp.out@answer"}),
        s.model_copy(update={"objective": "foil_margin"}),
    ]  # fmt: skip
    assert {key(x) for x in same} == {key(s)}
    assert key(s) not in {key(x) for x in other}


def test_planners_take_turns_and_every_one_of_them_gets_every_goal():
    plan = planned(["a", "b"], ["p", "q"], 7, 5)
    assert [(r.goal, r.planner, r.seed) for r in plan] == [
        ("a", "p", 7), ("a", "q", 8), ("b", "p", 9), ("b", "q", 10), ("a", "p", 11),
    ]  # fmt: skip


def test_a_group_that_was_killed_keeps_what_is_done_and_goes_on(tmp_path, monkeypatch, capsys):
    script = scripts.write(tmp_path / "s.jsonl", turns("copying"))
    whole = Session.investigate

    def killed_in_the_second(session):
        if session.run.name.endswith("-r2"):
            raise SystemExit(9)  # nothing is written on the way out
        return whole(session)

    def interrupted(session):
        del session
        return 130

    with monkeypatch.context() as patch:
        patch.setattr(Session, "investigate", killed_in_the_second)
        with pytest.raises(SystemExit):
            run.main(arguments(tmp_path, "--goal", "can it copy", "--repeat", "3", "--planner", f"scripted:{script}"))
    store = Store(tmp_path / "e.db", create=False)
    (name,) = groups(store)
    found, before = group(store, name), len(store.events(f"{name}-r1"))
    assert (found.open.name, found.waiting) == (f"{name}-r2", [3])
    assert "1 of 3 runs have ended" in combined(store, name).line()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "investigate", interrupted)
        assert run.main(arguments(tmp_path, "--resume", name)) == 130
    assert f"--resume {name}" in capsys.readouterr().err
    assert run.main(arguments(tmp_path, "--resume", name)) == 0
    assert [r.status for r in group(store, name).runs.values()] == ["finished"] * 3
    assert len(store.events(f"{name}-r1")) == before
    assert "3 of 3" in capsys.readouterr().out
    assert run.main(arguments(tmp_path, "--resume", name)) == 2
    assert "all 3 runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("first", "then", "status", "made"),
    [
        (signal.SIGINT, None, 0, 3),
        (signal.SIGINT, signal.SIGINT, 130, 1),
        (signal.SIGINT, signal.SIGTERM, 130, 1),
        (signal.SIGTERM, None, 130, 1),
        (signal.SIGHUP, None, 130, 1),
    ],
)
def test_one_ctrl_c_in_null_twins_skips_those_alone_and_more_ends_all_repeats(first, then, status, made, tmp_path, monkeypatch, capsys):
    asked = scripts.call("examine", kind="necessary", task="addition", components=["decoder.0.mlp.out@answer"], examples=48)
    script = scripts.write(tmp_path / "s.jsonl", [{"text": "", "calls": [asked]}, *turns("copying")[1:]])
    skip, counts = null_twins.skip, []

    def trial(*given):
        del given
        signal.raise_signal(first)

    def skipped(*given):
        skip(*given)
        counts.append(given)
        if then is not None:
            signal.raise_signal(then)

    monkeypatch.setattr(null_twins, "trial", trial)
    monkeypatch.setattr(null_twins, "skip", skipped)
    monkeypatch.setattr(interrupts, "_no_terminal", lambda: None)
    argv = ["--goal", "what does it need", "--repeat", "3", "--planner", f"scripted:{script}", "--null-twins", "1"]
    assert run.main(arguments(tmp_path, *argv)) == status
    store = Store(tmp_path / "e.db", create=False)
    (name,) = groups(store)
    assert [r.status for r in group(store, name).runs.values()] == ["finished"] * made
    assert len(counts) == made
    assert (f"go on with all repeats: python -m agent.run --resume {name}" in capsys.readouterr().err) == (status == 130)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--repeat", "1"], "at least 2"),
        (["--paraphrase", "x"], "--repeat N"),
        (["--repeat", "2", "--planners", "systematic", "--planner", "systematic"], "one of them"),
        (["--repeat", "2", "--planners", "systematic,oracle"], "no planner 'oracle'"),
        (["--repeat", "2", "--planners", " , "], "name at least one"),
    ],
)
def test_what_cannot_be_repeated_is_said_before_anything_is_written(tmp_path, argv, says, capsys):
    assert run.main(arguments(tmp_path, "--goal", "can it copy", *argv)) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "e.db").exists()
