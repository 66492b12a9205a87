"""What a planner may not do, tried through a run: the code says no, and how to do it properly."""

import pytest
import scripts

from agent import run
from agent.loop.record import RunRecord
from agent.report import build
from experiments_db.records import Control, Measurement
from experiments_db.store import Store
from tools.findings.discipline import effect_p, family, outside_control

ATTN = "accuracy[task=addition, split=confirm, site=0.attn, layer=0, position=last, variant=resample]"
SPARED = "accuracy[task=addition, split=confirm, site=4.attn, layer=4, position=last, variant=resample]"
ABLATE = {"task": "addition", "component": "attn", "ablation": "resample", "examples": 48}
CLAIM = {"kind": "localisation", "text": "Here.", "confidence": 0.9}


def case(name, /, **arguments):
    return scripts.call(name, **arguments)


STEPS = [
    # (call, status, what the answer says)
    (case("ablate", **ABLATE), "rejected", "first measure whether the intact model can do addition"),
    (case("patch", task="key_value", site="attn.out"), "rejected", "first measure"),
    (case("loss", tasks=["addition"], examples=48), "ok", "accuracy"),
    (case("loss", tasks=["key_value"], examples=48), "ok", "accuracy"),
    (case("patch", task="key_value", site="attn.out"), "rejected", "claim an absence"),
    (case("ablate", **ABLATE), "ok", "0.attn"),
    (case("hypothesis", statement="Attention of block 0 is needed."), "ok", "H1"),
    (case("hypothesis", statement="Attention of block 4 is not."), "ok", "H2"),
    (case("predict", hypothesis="H1", metric=ATTN, comparison="<=", threshold=0.5, probability=0.9), "ok", "P1"),
    (case("predict", hypothesis="H2", metric=ATTN, comparison="<=", threshold=0.6, probability=0.9), "rejected", "P1 already predicts"),
    (case("predict", hypothesis="H2", metric=SPARED, comparison=">=", threshold=0.9, probability=0.9), "ok", "P2"),
    (case("claim", **CLAIM, role="necessary", sites=["decoder.0.attn.out"], experiments=["E3"]), "rejected", "came true on the confirm split"),
    (case("ablate", **ABLATE, split="confirm", layers=[0, 4]), "ok", "0.attn"),
    # The same metric on more examples, or another metric for a hypothesis that has had its confirmation: no.
    (case("predict", hypothesis="H1", metric=ATTN.replace("resample", "zero"), comparison="<=", threshold=0.5, probability=0.9), "rejected", "one confirmation"),
    (case("ablate", **{**ABLATE, "examples": 64}, split="confirm", layers=[0]), "rejected", "use predict first"),
    (case("claim", **CLAIM, sites=["decoder.0.attn.out"], experiments=["E3", "E4"]), "rejected", "needs a role: necessary"),
    (case("claim", **CLAIM, role="necessary", experiments=["E3", "E4"]), "rejected", "names its sites"),
    (case("claim", **CLAIM, role="sufficient", sites=["decoder.0.attn.out"], experiments=["E3", "E4"]), "rejected", "goal sufficient"),
    (case("claim", **CLAIM, role="jointly_necessary", sites=["decoder.0.attn.out"], experiments=["E3", "E4"]), "rejected", "together"),
    (case("claim", **CLAIM, role="necessary", sites=["decoder.0.attn.out"], experiments=["E3"]), "rejected", "P1 in E4"),
    (case("claim", kind="effect", role="necessary", text="So.", experiments=["E4"], confidence=0.5), "rejected", "role is for localisations"),
    (case("claim", **CLAIM, role="necessary", sites=["decoder.0.attn.out"], experiments=["E4"]), "ok", "one ablation type (resample)"),
    (case("finish", answer="found", conclusion="Block 0."), "ok", "found"),
]  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("discipline")
    turns = [{"text": "", "calls": [c for c, _, _ in STEPS[i : i + 4]]} for i in range(0, len(STEPS), 4)]
    script = scripts.write(folder / "s.jsonl", turns)
    argv = ["--goal", "try what is forbidden", "--planner", f"scripted:{script}", "--db", str(folder / "e.db"), "--device", "cpu"]
    assert run.main([*argv, "--out", str(folder / "t"), "--quiet"]) == 0
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
    assert [e.experiment.tool for e in record.experiments()] == ["loss", "loss", "ablate", "ablate"]
    assert [p.outcome for p in record.predictions()] == [True, True]
    assert [(c.kind, c.role) for c in record.claims()] == [("localisation", "necessary")]
    assert store.verify() == []


def test_the_report_names_role_caveats_number_of_tests_and_corrected_p_values(answers):
    store, name, _ = answers
    text = build.render(store, name, None)
    assert "localisation: necessary" in text
    assert "Rests on one prompt format (addition), one ablation type (resample)" in text
    assert "adjusted by Holm's method over the run's 2 confirmatory tests" in text
    assert "2 of 2 tested predictions came true; Brier score 0.010" in text
    families = [f for e in store.experiments(name) if (f := family(store.measurements(e.result_id)))]
    assert f"{sum(map(len, families))} of them stand beside a control, in {len(families)} families" in text


def made(value, low, high, control, c_low, c_high):
    c = Control(kind="random", value=control, low=c_low, high=c_high, n=50)
    return Measurement(name="accuracy", unit="", value=value, low=low, high=high, n=50, control=c)


def test_an_effect_counts_only_where_the_intervals_do_not_touch():
    assert outside_control(made(0.2, 0.1, 0.3, 0.9, 0.8, 1.0))
    assert outside_control(made(0.9, 0.8, 1.0, 0.2, 0.1, 0.3))
    assert not outside_control(made(0.5, 0.3, 0.8, 0.9, 0.8, 1.0))
    assert not outside_control(Measurement(name="accuracy", unit="", value=0.2, low=0.1, high=0.3, n=50))
    assert effect_p(made(0.5, 0.4, 0.6, 0.5, 0.4, 0.6)) == pytest.approx(1)
    # Two estimates with standard error 0.05 each, 0.2 apart: z = 0.2 / 0.0707 = 2.83, p = 0.0047.
    half = 1.959964 * 0.05
    assert effect_p(made(0.5, 0.5 - half, 0.5 + half, 0.7, 0.7 - half, 0.7 + half)) == pytest.approx(0.0047, abs=2e-4)


def test_more_comparisons_make_each_of_them_harder():
    lone = made(0.5, 0.4, 0.6, 0.7, 0.6, 0.8)
    (alone,) = (q for _, q in family([lone]))
    crowd = [q for _, q in family([lone.model_copy(update={"layer": i}) for i in range(10)])]
    assert crowd == pytest.approx([min(1, 10 * alone)] * 10)
