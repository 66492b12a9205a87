"""What contrasts say together, and what becomes of findings in a round: confirmed, contradicted, absent, inconclusive, void."""

import re

import benches
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments_db.findings import Finding, Statement
from experiments_db.records import Measurement
from tools.findings.contrast import Contrast, Quantity, p_absent, p_contradicted
from tools.findings.examining import examine
from tools.findings.kind import kind_of
from tools.findings.settling import settle
from tools.methods.tool import ToolInputError

SIGNS = (-1.0, 1.0)


def contrast(values, must="exceed", bound=0.1, bounds=SIGNS, role="effect", against=None, times=1):
    values = np.asarray(values, dtype=float)
    q = Quantity("x", "share", values, bounds)
    other = (
        None
        if against is None
        else (Quantity("x", "share", np.asarray(against, dtype=float), bounds), [f"o{i}" for i in range(len(against))])
    )
    return Contrast(
        role,
        must,
        bound,
        (q,) * times,
        [f"g{i}" for i in range(len(values))],
        control="another" if role == "control" else "",
        against=other,
    )


@given(st.integers(5, 60), st.floats(0.0, 0.9))
def test_an_effect_on_every_example_has_the_closed_form_of_its_bound(n, bound):
    # Of values that are all as large as they can be: the chance that n draws of a mean of `bound` at most are all so.
    assert contrast([1.0] * n, bound=bound).p() == pytest.approx(((1 + bound) / 2) ** n, rel=1e-4)


VALUES = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=8, max_size=40)


def test_an_effect_the_other_way_shows_nothing():
    assert contrast([1.0] * 40).p() < 1e-6
    assert contrast([-1.0] * 40).p() == pytest.approx(1.0)
    assert contrast([-1.0] * 40).p_contradicted() < 1e-6


@given(VALUES, st.floats(0.01, 0.5))
def test_staying_below_is_exceeding_turned_round(values, bound):
    assert contrast(values, "below", bound).p() == pytest.approx(contrast([-x for x in values], "exceed", -bound).p())


@given(VALUES, st.floats(0.01, 0.5))
def test_staying_within_needs_both_sides(values, bound):
    sides = contrast(values, "below", bound).p(), contrast(values, "exceed", -bound).p()
    assert contrast(values, "stay", bound).p() == max(sides)


@given(VALUES, st.floats(0.01, 0.5))
def test_it_cannot_be_shown_and_contradicted_or_absent_at_once(values, bound):
    c = contrast(values, "exceed", bound)
    for other in (c.p_contradicted(), c.p_absent()):
        assert c.p() > 0.5 or other > 0.025
        assert not (c.p() <= 0.025 and other <= 0.025)


@given(VALUES, VALUES)
def test_two_samples_cannot_each_exceed_the_other(a, b):
    one, other = contrast(a, bound=0.0, against=b).p(), contrast(b, bound=0.0, against=a).p()
    assert not (one <= 0.05 and other <= 0.05)


def test_a_difference_between_samples_is_seen_with_its_direction():
    assert contrast([1] * 40, against=[0] * 40).p() < 1e-4
    assert contrast([0] * 40, against=[1] * 40).p() == pytest.approx(1.0)
    e = contrast([1] * 40, against=[0] * 40).estimate()
    assert e.low <= e.value == 1.0


def test_of_several_quantities_the_best_counts_times_their_number():
    values = [1.0] * 12 + [0.0] * 4
    assert contrast(values, role="control", times=2).p() == pytest.approx(2 * contrast(values, role="control").p())


def test_too_few_groups_show_nothing():
    c = contrast([1.0] * 4)
    assert c.p() == 1.0
    assert c.estimate() is None
    assert contrast([1.0] * 40, bounds=None).p() < 0.05 < contrast([3.0] * 40, bounds=None).p() == 1.0


def test_a_statement_is_contradicted_or_absent_by_any_one_of_its_effects():
    large, none, other_way = [1.0] * 40, [0.0] * 40, [-1.0] * 40
    assert p_absent([contrast(large), contrast(none)]) == pytest.approx(2 * contrast(none).p_absent())
    assert p_contradicted([contrast(large), contrast(other_way)]) == pytest.approx(
        2 * contrast(other_way).p_contradicted()
    )
    # A control that has to be beaten by as much as counts, and is shown not to be, is an absence; one to be beaten at all is none.
    assert p_absent([contrast(large), contrast(none, role="control")]) < 0.05
    assert p_absent([contrast(large), contrast(none, role="control", bound=0.0)]) > 0.5


# -- a round -----------------------------------------------------------------------------------------------------------


def finding(number, kind="necessary"):
    statement = Statement(kind=kind, task="t", components="decoder.0.attn.out@answer", interventions=("zero",))
    return Finding(handle=f"F{number}", statement=statement, seen="E1", smallest=0.1, probability=0.5, power=0.5)


def rows(p, contradicted=1.0, absent=1.0, control=0.0, low=0.2, high=0.4):
    where = {"task": "t", "split": "confirm", "n": 64, "unit": "p value"}
    place = {"component": "decoder.0.attn.out@answer", "intervention": "zero"}
    beside = {**where, **place, "variant": "against a random vector of the same norm"}
    return [
        Measurement(name="accuracy", value=0.9, **where), Measurement(name="chance", value=0.1, **where),
        Measurement(name="smallest", value=0.1, **where),
        Measurement(name="effect", value=0.3, low=low, high=high, **where, **place),
        Measurement(name="p", value=p, **where, **place), Measurement(name="p", value=control, **beside),
        Measurement(name="p_contradicted", value=contradicted, **where), Measurement(name="p_absent", value=absent, **where),
    ]  # fmt: skip


def fates(*measured, number=1):
    found = settle([(finding(i), f"E{i}", m) for i, m in enumerate(measured)], number)
    return [f.fate for f in found]


def test_a_round_spends_its_share_by_holms_method():
    # Round 1 has .025: the smallest of three p values may be .0083, then .0125, then .025.
    assert fates(rows(0.008), rows(0.012), rows(0.024)) == ["confirmed"] * 3
    assert fates(rows(0.009), rows(0.012), rows(0.024)) == ["inconclusive"] * 3
    assert fates(rows(0.024), rows(0.008), rows(0.013)) == ["inconclusive", "confirmed", "inconclusive"]


@pytest.mark.parametrize(("number", "most"), [(1, 0.025), (2, 0.0125), (3, 0.00625)])
def test_each_round_has_half_of_what_the_one_before_had(number, most):
    assert fates(rows(0.99 * most), number=number) == ["confirmed"]
    assert fates(rows(1.01 * most), number=number) == ["inconclusive"]


def test_the_contrast_that_holds_least_decides():
    assert fates(rows(1e-9, control=0.03)) == ["inconclusive"]
    (found,) = settle([(finding(1), "E1", rows(1e-9, control=0.03))], 1)
    assert found.p == 0.03
    assert "control as destructive" in found.reason


def test_what_is_not_so_spends_as_little_as_what_is():
    # Of two findings of a round each may be contradicted or absent at half of its share, whatever the other came to.
    assert fates(rows(1.0, contradicted=0.012), rows(1.0, absent=0.012)) == ["contradicted", "absent"]
    assert fates(rows(1.0, contradicted=0.013), rows(1.0, absent=0.013)) == ["inconclusive", "inconclusive"]
    assert fates(rows(1e-9, absent=0.01)) == ["confirmed"]


def test_a_failed_experiment_is_void_and_costs_the_others_nothing():
    found = settle([(finding(1), "E1", "out of memory"), (finding(2), "E2", rows(0.024))], 1)
    assert [(f.fate, f.reason, f.sentence != "") for f in found] == [
        ("void", "out of memory", False),
        ("confirmed", "", True),
    ]


def test_an_open_fate_says_why():
    (wide,) = settle([(finding(1), "E1", rows(0.5, low=0.05, high=0.9))], 1)
    (crowded,) = settle([(finding(1), "E1", rows(0.5, low=0.4, high=0.6))], 1)
    (other,) = settle([(finding(1), "E1", rows(0.5, low=-0.6, high=-0.4))], 1)
    (small,) = settle([(finding(1), "E1", rows(0.5, low=-0.01, high=0.01))], 1)
    (few,) = settle([(finding(1), "E1", rows(1.0, low=None, high=None))], 1)
    assert "interval too wide" in wide.reason
    assert "too few independent groups" in few.reason
    assert "is there, but p = 0.5 is more than the round has left" in crowded.reason
    assert "the other way round, but p = " in other.reason
    assert "smaller than what counts, but p = " in small.reason


# -- measured ----------------------------------------------------------------------------------------------------------


def settled(kind, **fields):
    case, subject, task = benches.compiled("previous")
    block, head = case.plan.places["copy"]
    idle = next(p for p, k in case.plan.idle.items() if k == "zero" and p[1] is not None)
    names = {"copy": f"decoder.{block}.attn.z[{head}]@answer", "idle": f"decoder.{idle[0]}.attn.z[{idle[1]}]@answer"}
    fields = {k: names.get(v, v) if isinstance(v, str) else v for k, v in fields.items()}
    statement = kind_of(kind).complete(Statement(kind=kind, task="t", **fields))
    made = Finding(handle="F1", statement=statement, seen="E1", smallest=0.1, probability=0.5, power=0.5)
    measured = examine(statement, benches.context(subject, task)).measurements
    assert len({m.key for m in measured}) == len(measured)
    return settle([(made, "E2", measured)], 1)[0]


def test_fates_of_measured_findings():
    true = settled("necessary", components="copy")
    assert true.fate == "confirmed"
    assert not re.search(r"(?<!\{)\{[a-z_]+\}(?!\})", true.sentence)
    assert true.sentence.count("{{E2.effect") == 4  # under each of two interventions, with its control
    assert settled("not_needed", components="copy").fate == "contradicted"
    assert settled("necessary", components="idle").fate == "absent"
    few = settled("necessary", components="copy", examples=40, objective="margin")  # of what has no bounds, 64 tell
    assert few.fate == "inconclusive"
    assert "too few independent groups" in few.reason
    with pytest.raises(ToolInputError, match="4 independent problems"):
        settled("necessary", components="copy", examples=4)


def test_a_smallest_effect_can_be_made_stricter_and_never_laxer():
    _, subject, task = benches.compiled("previous")
    seen = benches.context(subject, task, split="explore")

    def tried(kind, smallest):
        examine(
            kind_of(kind).complete(
                Statement(kind=kind, task="t", components="decoder.0.attn.out@answer", smallest=smallest)
            ),
            seen,
        )

    for kind, smallest in [
        ("necessary", 0.01),
        ("not_needed", 0.5),
        ("necessary", -1.0),
        ("carries", 0.05),
        ("necessary", 1.0),
    ]:
        with pytest.raises(ToolInputError, match="smallest"):
            tried(kind, smallest)
    tried("necessary", 0.5)
    tried("not_needed", 0.01)
    tried("carries", 0.5)
