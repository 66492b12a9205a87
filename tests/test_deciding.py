"""Sweeps that stop when they have decided: intervals that hold at every look, the same numbers, and only to explore."""

import re
from dataclasses import replace

import numpy as np
import pytest

from agent.report.plots import main_plots, plots
from experiments_db.records import Result
from tools import ablate, examine, patch, statistics
from tools.methods import deciding
from tools.methods.deciding import decide, looks
from tools.methods.effects import Condition, score_under
from tools.methods.measuring import load_examples
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError
from tools.ports.objectives import ANSWERS
from tools.subjects import load_subject

PLACES = ["decoder.0.attn.z[*]@answer", "decoder.0,3.mlp.out@answer"]
ARGS = {"task": "addition", "components": PLACES, "intervention": "zero", "mode": "decide", "examples": 128}


@pytest.fixture(scope="module")
def ctx():
    return Context(load_subject("demo", device="cpu"), OfflineTasks([]), Nothing())


@pytest.fixture(scope="module")
def outcome(ctx):
    return ablate.run(ablate.Args(**ARGS), ctx)


# -- the interval ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 40])
def test_of_equal_values_the_interval_ends_where_the_bets_have_won_forty_times_their_stake(n):
    (found,) = statistics.anytime(np.ones(n), np.arange(n), (0, 1))
    stakes, weights = np.array([0.98, 0.6, 0.3, 0.1, 0.03]), np.array([0.35, 0.25, 0.2, 0.15, 0.05])
    assert weights @ (1 + stakes * (1 / found.low - 1)) ** n == pytest.approx(40, rel=1e-6)
    assert (found.value, found.high, found.groups) == (1, 1, n)


def test_the_interval_depends_neither_on_order_nor_on_sign_nor_on_scale():
    x = np.random.default_rng(0).random(60)
    (one,) = statistics.anytime(x, np.arange(60), (0, 1))
    (turned,) = statistics.anytime(5 - 10 * x[::-1], np.arange(60), (-5, 5))
    assert one.low < one.value < one.high
    assert (turned.low, turned.high) == pytest.approx((5 - 10 * one.high, 5 - 10 * one.low))


def test_copies_within_a_group_count_once():
    x = np.random.default_rng(1).random(30)
    (one,) = statistics.anytime(x, np.arange(30), (0, 1))
    (copied,) = statistics.anytime(np.repeat(x, 3), np.repeat(np.arange(30), 3), (0, 1))
    assert (copied.low, copied.high, copied.n, copied.groups) == (one.low, one.high, 90, 30)


def test_who_looks_again_and_again_errs_rarely_by_it_and_often_by_intervals_for_one_number():
    rng = np.random.default_rng(2)
    values = rng.choice([1.0, -1.0, 0.0], (300, 192), p=[0.2, 0.1, 0.7])
    sequential, fixed = np.zeros(300, dtype=bool), np.zeros(300, dtype=bool)
    for n in range(12, 193, 12):
        g = statistics.Groups.of(np.arange(n))
        for errs, found in (
            (sequential, statistics.anytime(values[:, :n], g, (-1, 1))),
            (fixed, statistics.paired_differences(values[:, :n], np.zeros((1, n)), g, bounds=(-1, 1))),
        ):
            errs |= [not e.low <= 0.1 <= e.high for e in found]
    assert sequential.mean() <= 0.05
    assert fixed.mean() > 0.1


def test_values_outside_their_bounds_are_an_error():
    with pytest.raises(ValueError, match="outside their bounds"):
        statistics.anytime([0.0, 2.0], [0, 1], (0, 1))


def test_looks_are_fixed_and_end_at_all_examples():
    assert looks(100) == [8, 12, 16, 24, 32, 48, 64, 96, 100]
    assert looks(5) == [5]


# -- the sweep ---------------------------------------------------------------------------------------------------------


def test_what_the_demo_needs_is_decided_on_few_examples_and_what_it_does_not_is_too(outcome):
    decided = {m.component: m for m in outcome.measurements if m.name == "decided"}
    assert {c for c, m in decided.items() if m.value == 1} == {
        f"decoder.0.{p}@answer" for p in ("attn.z[0]", "attn.z[3]", "mlp.out")
    }
    assert {c for c, m in decided.items() if m.value == 0} >= {"decoder.0.attn.z[1]@answer", "decoder.3.mlp.out@answer"}
    assert decided["decoder.0.attn.z[0]@answer"].n <= 12 < decided["decoder.3.mlp.out@answer"].n < 64


def test_every_number_says_that_it_is_sequential_and_how_many_examples_it_took(outcome):
    deltas = {m.component: m for m in outcome.measurements if m.name == "accuracy.delta"}
    assert {m.variant for m in outcome.measurements} == {"sequential"}
    assert len({m.n for m in deltas.values()}) > 1
    decided = {m.component: m.value for m in outcome.measurements if m.name == "decided"}
    for component, m in deltas.items():
        assert (m.control is None) == (decided.get(component) == 0), "where nothing happens there is nothing to explain"
        assert m.control is None or m.control.n == m.n
    assert all(f"n={m.n}" in outcome.text for m in deltas.values())
    assert "sequential" in outcome.text
    assert "nll" not in {m.name.partition(".")[0] for m in outcome.measurements}  # nothing that has no such interval


def test_a_control_answers_as_in_a_sweep_over_all_examples(ctx):
    task, examples = load_examples(ctx, "addition", 64)
    sets = [ablate.ComponentSet.parse(f"decoder.0.{p}@answer") for p in ("attn.z[0]", "attn.z[1]", "attn.z[3]")]
    own, controls = ([Condition.of(s, "zero", control=c) for s in sets] for c in (0, 1))
    found = decide(ctx, task, examples, own, ANSWERS["accuracy"], 0.1, controls)
    assert [d.verdict for d in found.decisions] == ["beyond", "within", "beyond"]
    assert [d.control is None for d in found.decisions] == [False, True, False]
    _, *whole = score_under(ctx, task, examples, controls)
    place = {e.shown: i for i, e in enumerate(examples)}
    at = [place[e.shown] for e in found.examples]
    for d, scores in zip(found.decisions, whole, strict=True):
        if d.verdict == "beyond":
            np.testing.assert_array_equal(d.control, scores.correct[at[: d.n]])


def test_a_record_of_an_earlier_engine_has_its_controls_everywhere(ctx, outcome):
    subject = replace(ctx, subject=ctx.subject.watched(lambda: None))
    subject.subject.engine = 3
    before = ablate.run(ablate.Args(**ARGS), subject)
    assert all(m.control is not None for m in before.measurements if m.name == "accuracy.delta")
    assert [m.key for m in before.measurements] == [m.key for m in outcome.measurements]


# -- patching ----------------------------------------------------------------------------------------------------------

PATCHES = {"task": "addition", "components": ["decoder.1,3.resid_pre@each", "decoder.0.attn.z[*]@answer"], "examples": 72}


def test_patches_are_decided_as_a_whole_sweep_finds_them(ctx):
    whole = {m.component: m for m in patch.run(patch.Args(**PATCHES), ctx).measurements if m.name == "flipped"}
    found = patch.run(patch.Args(**PATCHES, mode="decide"), ctx)
    decided = {m.component: m.value for m in found.measurements if m.name == "decided"}
    assert {c for c, beyond in decided.items() if beyond} == {c for c, m in whole.items() if m.value > 0.3}
    assert {m.name for m in found.measurements} == {"flipped", "decided"}, "of nothing else is there such an interval"
    for m in (m for m in found.measurements if m.name == "flipped"):
        assert m.variant == "noise, sequential"
        assert (m.control is None) == (decided.get(m.component) == 0)
        assert m.n < 72


def test_a_patch_decides_how_strong_it_has_to_be(ctx):
    asked = {**PATCHES, "components": ["decoder.1.resid_pre@answer"], "mode": "decide", "weights": [0.05, 1.0]}
    found = patch.run(patch.Args(**asked), ctx)
    weak, strong = (m for m in found.measurements if m.name == "flipped")
    assert (weak.dose, strong.dose) == (0.05, 1.0)
    assert weak.value < 0.1 < strong.value
    (array,) = found.arrays
    assert array.shape == (1, 2)
    np.testing.assert_array_equal(np.frombuffer(array.data, array.dtype), [weak.value, strong.value])
    assert "decoder.1.resid_pre@answer x 0.05  within" in found.text
    assert "decoder.1.resid_pre@answer x 1     beyond" in found.text


def test_a_margin_that_is_no_number_decides_nothing(ctx, monkeypatch):
    def overflowing(*args, score=deciding.score, **more):
        found, cost = score(*args, **more)
        found[-1].foil_margin[0] = np.nan
        return found, cost

    monkeypatch.setattr(deciding, "score", overflowing)
    with pytest.raises(ToolInputError, match="some examples have no flipped: use mode each"):
        patch.run(patch.Args(**PATCHES, mode="decide"), ctx)


def test_what_was_decided_is_drawn(ctx):
    found = patch.run(patch.Args(**PATCHES, mode="decide"), ctx)
    drawn = plots("patch", Result(status="ok", text=found.text, measurements=found.measurements))
    assert {p.name for p in main_plots("patch", drawn)} == {"flipped"}
    whole = patch.run(patch.Args(**PATCHES), ctx)
    drawn = plots("patch", Result(status="ok", text=whole.text, measurements=whole.measurements))
    assert {p.name for p in main_plots("patch", drawn)} == {"recovered"}


def test_what_the_model_writes_is_not_decided(ctx):
    with pytest.raises(ToolInputError, match="leave out written, or use mode each"):
        patch.run(patch.Args(**PATCHES, mode="decide", written=True), ctx)
    with pytest.raises(ToolInputError, match="for exploring only"):
        patch.run(patch.Args(**PATCHES, mode="decide"), replace(ctx, split="confirm"))


def test_what_is_undecided_has_no_decision_and_took_all_there_are(ctx):
    found = ablate.run(ablate.Args(**{**ARGS, "components": PLACES[1:], "examples": 16}), ctx)
    (late,) = (
        m for m in found.measurements if m.name == "accuracy.delta" and m.component == "decoder.3.mlp.out@answer"
    )
    assert (late.n, "undecided" in found.text) == (16, True)
    assert not [m for m in found.measurements if m.name == "decided" and m.component == late.component]


def test_it_is_the_same_again_and_under_another_memory_limit(ctx, outcome):
    again = ablate.run(ablate.Args(**ARGS), ctx)
    assert (again.text, again.measurements) == (outcome.text, outcome.measurements)
    small = ablate.run(ablate.Args(**ARGS), replace(ctx, max_tokens=512))
    assert [(m.key, m.value, m.n) for m in small.measurements] == [(m.key, m.value, m.n) for m in outcome.measurements]


def test_each_condition_answers_as_in_a_sweep_over_all_examples(ctx):
    task, examples = load_examples(ctx, "addition", 64)
    conditions = [
        Condition.of(ablate.ComponentSet.parse(f"decoder.{b}.mlp.out@answer"), "resample(donor)") for b in (0, 2)
    ]
    found = decide(ctx, task, examples, conditions, ANSWERS["probability"], 0.1)
    intact, *whole = score_under(ctx, task, examples, conditions)
    place = {e.shown: i for i, e in enumerate(examples)}
    at = [place[e.shown] for e in found.examples]
    assert len(set(at)) == len(at) > 8
    np.testing.assert_allclose(found.intact, np.exp(-intact.nll)[at], atol=1e-5)
    for decision, scores in zip(found.decisions, whole, strict=True):
        np.testing.assert_allclose(decision.own, np.exp(-scores.nll)[at[: decision.n]], atol=1e-5)


def test_it_spends_less_than_a_sweep_over_as_many_examples(ctx):
    task, examples = load_examples(ctx, "addition", 128)
    conditions = [Condition.of(ablate.ComponentSet.parse(f"decoder.{b}.attn.out@answer"), "zero") for b in range(6)]
    found = decide(ctx, task, examples, conditions, ANSWERS["accuracy"], 0.1)
    assert [d.verdict for d in found.decisions] == ["beyond", *["within"] * 5]
    assert max(d.n for d in found.decisions) <= 64


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"split": "confirm"}, "for exploring only.*mode each, whose number of examples is fixed"),
        ({"objective": ANSWERS["nll"]}, "nll has none: use mode each"),
        ({"objective": ANSWERS["margin"]}, "margin has none: use mode each"),
        ({"smallest": 0.0}, "a smallest effect above 0"),
    ],
)
def test_where_it_would_prove_nothing_it_is_refused(ctx, change, says):
    task, examples = load_examples(ctx, "addition", 16)
    asked = {"objective": ANSWERS["accuracy"], "smallest": 0.1, **change}
    context = replace(ctx, split=asked.pop("split", "explore"))
    with pytest.raises(ToolInputError, match=says):
        decide(context, task, examples, [Condition()], asked["objective"], asked["smallest"])


def test_on_confirm_examples_the_tool_says_what_to_use_instead(ctx):
    with pytest.raises(ToolInputError, match="mode decide .* is for exploring only"):
        ablate.run(ablate.Args(**{**ARGS, "examples": 16}), replace(ctx, split="confirm"))


# -- what examining says ------------------------------------------------------------------------------------------------


def test_where_any_of_several_quantities_tells_a_control_apart_the_text_names_them_all(ctx):
    asked = {"kind": "necessary", "task": "addition", "components": ["decoder.0.mlp.out@answer"], "interventions": ["zero"], "examples": 64}
    text = examine.run(examine.Args(**asked), ctx).text
    line = next(x for x in text.splitlines() if "the difference from" in x)
    assert re.search(
        r": accuracy -?\d\.\d{3} \[.*\], probability -?\d\.\d{3} \[.*\], .*one of which has to be \(its p times \d\) > 0: p = ", line
    )
    assert "one of which" not in next(x for x in text.splitlines() if "the effect under" in x)
    before = replace(ctx, subject=ctx.subject.watched(lambda: None))
    before.subject.engine = 3
    old = next(x for x in examine.run(examine.Args(**asked), before).text.splitlines() if "the difference from" in x)
    assert re.search(r": -?\d\.\d{3} \[[^]]*\], has to be > 0: p = ", old)
