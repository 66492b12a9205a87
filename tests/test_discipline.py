"""What a planner may not do, tried through a run: the code says no, and how to do it properly."""

import re

import pytest
import scripts

from agent import run
from agent.loop.record import RunRecord
from experiments_db.store import Store

ATTN = {"task": "addition", "components": ["decoder.0.attn.out@answer"], "examples": 48}
MLPS = {"task": "addition", "components": ["decoder.1-2.mlp.out@answer"], "examples": 48}
ABLATE = {"task": "addition", "components": ["decoder.*.attn.out@answer"], "intervention": "resample", "examples": 48}


def case(name, /, **arguments):
    return scripts.call(name, **arguments)


STEPS = [
    # (call, status, what the answer says)
    (case("list_kinds"), "ok", "capability"),
    (case("ablate", **ABLATE), "rejected", "first measure whether the intact model can do addition"),
    (case("patch", task="key_value", components=["decoder.*.attn.out@answer"]), "rejected", "first measure"),
    (case("loss", tasks=["addition"], examples=48), "ok", "accuracy"),
    (case("loss", tasks=["key_value"], examples=48), "ok", "accuracy"),
    (case("patch", task="key_value", components=["decoder.*.attn.out@answer"]), "rejected", "examine kind cannot"),
    (case("ablate", **ABLATE), "ok", "0.attn.out@answer"),
    (case("examine", kind="necessity", **ATTN), "rejected", "there are aligns, attends, breaks, cannot, "),
    (case("examine", kind="necessary", task="addition"), "rejected", "necessary needs components"),
    (case("examine", kind="necessary", task="addition", components=["decoder.99.mlp.out@answer"]), "rejected", "blocks 0 to 5"),
    (case("examine", kind="necessary", **ATTN, universe=["decoder.*.attn.out@answer"]), "rejected", "has no universe"),
    (case("examine", kind="necessary", **ATTN, smallest=0.001), "rejected", "easier to come true"),
    (case("examine", kind="necessary", task="key_value", components=ATTN["components"], examples=48), "rejected", "kind cannot"),
    (case("examine", kind="capability", task="addition", examples=48), "ok", "E4"),
    (case("examine", kind="necessary", **ATTN), "ok", "whole statement, by its largest p value (intersection-union test): p = "),
    (case("examine", kind="jointly_necessary", **MLPS), "ok", "E6"),
    (case("hypothesis", statement="Attention of block 0 is needed."), "ok", "H1"),
    (case("predict", experiment="E3", hypothesis="H1"), "rejected", "a finding is predicted from an examine experiment"),
    (case("predict", experiment="E9"), "rejected", "there is no 'E9'"),
    (case("confirm"), "rejected", "no finding is open"),
    (case("claim", finding="F1"), "rejected", "there is no 'F1'"),
    (case("predict", experiment="E4"), "ok", "F1"),
    (case("predict", experiment="E5", hypothesis="H1"), "ok", "power: the chance that unseen examples show it"),
    (case("predict", experiment="E5", hypothesis="H1"), "rejected", "F2 says exactly this"),
    (case("predict", experiment="E6", probability=0.3), "ok", "will probably leave it open"),
    (case("claim", finding="F2"), "rejected", "still open"),
    (case("retract", finding="F3", reason="It looks bad."), "rejected", "settled before it can be taken back"),
    (case("finish", answer="found"), "rejected", "sealed and not settled"),
    (case("confirm"), "ok", "F2 confirmed in E8"),
    (case("confirm", findings=["F2"]), "rejected", "a fate never changes"),
    (case("predict", experiment="E5"), "rejected", "is settled: confirmed"),
    (case("predict", experiment="E7"), "rejected", "on explore examples"),
    (case("claim", finding="F3"), "rejected", "only a confirmed finding can be claimed"),
    (case("claim", finding="F2", interpretation="It brings 97% of it."), "rejected", "typed by hand"),
    (case("finish", answer="cannot"), "rejected", "kind cannot"),
    (case("claim", finding="F2", question="Q2", interpretation="It seems to fetch the operands."), "ok", "not tested"),
    (case("claim", finding="F2"), "rejected", "claimed already"),
    (case("finish", answer="found"), "rejected", "not yet: claim (call 1) was refused in this turn; mend it or leave it, then finish"),
    (case("note", text="It is claimed already."), "ok", "N1"),
    (case("claim", finding="F9"), "rejected", "there is no 'F9'"),
    (case("finish", answer="found"), "ok", "found"),
]  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("discipline")
    turns = [{"text": "", "calls": [c for c, _, _ in STEPS[i : i + 4]]} for i in range(0, len(STEPS), 4)]
    script = scripts.write(folder / "s.jsonl", turns)
    assert run.main(["--goal", "where is addition done", "--planner", f"scripted:{script}", "--quiet", *scripts.places(folder)]) == 0
    store = Store(folder / "e.db")
    name = store.runs()[0]
    return store, name, [e.payload for e in store.events(name) if e.kind == "answer"]


@pytest.mark.parametrize("index", range(len(STEPS)))
def test_each_step_is_answered_as_discipline_demands(answers, index):
    _, _, given = answers
    (_, status, says) = STEPS[index]
    assert given[index]["status"] == status, given[index]["text"]
    assert says in given[index]["text"]


def test_nothing_forbidden_left_a_trace(answers):
    store, name, _ = answers
    record = RunRecord(store, name)
    tools = [e.experiment.tool for e in record.experiments()]
    assert tools == ["loss", "loss", "ablate", *["examine"] * 6]
    assert [f.fate == "confirmed" for f in record.findings()] == [True, True, False]
    assert [c.finding for c in record.claims()] == ["F2"]
    assert record.hypotheses()[0].status == "supported"
    assert store.verify() == []


def test_only_what_settled_a_finding_was_measured_on_confirm_examples(answers):
    store, name, _ = answers
    record = RunRecord(store, name)
    opened = [e.handle for e in record.experiments() if e.experiment.args.get("split") == "confirm"]
    assert opened == [f.experiment for f in record.findings()]
    rows = record.select({"split": {"=": "confirm"}}, [], "mean", None, False, 100, False)
    assert rows == []  # another run's would be shown here: they stay sealed


def test_what_a_finding_came_to_is_answered_with_its_effect_interval_and_control(answers):
    _, _, given = answers
    settled, claimed = (next(a["text"] for a, (c, status, _) in zip(given, STEPS, strict=True) if c["name"] == name and status == "ok") for name in ("confirm", "claim"))
    (line,) = (text for text in settled.splitlines() if text.startswith("F2 confirmed"))
    assert re.search(r"; effect .*\d+% \[\d+%, \d+%\].*, n=\d+.*; control .*: a random vector of the same norm", line), line
    assert re.search(r"accuracy falls by .*\d+% \[\d+%, \d+%; n=\d+\]", claimed)
    assert "{{" not in settled + claimed
