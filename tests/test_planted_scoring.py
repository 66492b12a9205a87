"""What a run is worth where the truth is known: findings that are false are counted, what is named coarsely is not exact."""

import re

import pytest
import torch

from benchmarks.planted import scoring, tables
from benchmarks.planted.baselines import judged, places, positives
from benchmarks.planted.cases import CASES
from benchmarks.planted.facts import facts_of, targets
from benchmarks.planted.judging import Judge
from benchmarks.planted.oracle import Oracle
from benchmarks.planted.posed import compiled
from benchmarks.planted.scoring import Said, Scored, score, summarise
from benchmarks.planted.sites import Map, Row, rows_of
from experiments_db.findings import Finding, Statement

BOTH = ("resample(donor)", "zero")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("posed")


@pytest.fixture(scope="module")
def posed(folder):
    """Compiled cases by program, seed 0."""
    made = {}

    def get(program):
        if program not in made:
            made[program] = compiled(program, 0, folder / program)
        return made[program]

    return get


def says(kind, components="", among="", how=BOTH, fate="confirmed", **more):
    done = how if kind in ("necessary", "jointly_necessary", "not_needed", "disagree") else ()
    s = Statement(kind=kind, task="t", components=components, among=among, interventions=done, **more)
    return Finding(handle="F1", statement=s, seen="E1", smallest=0.1, probability=0.9, power=1, fate=fate)


def truth(case):
    """Findings that say all that has to be named, word for word."""
    out = []
    for f in case.facts:
        if f.kind in ("necessary", "jointly_necessary") and "resample" in f.ops:
            # Resampled, one of two that contradict each other may decide by itself: the set is minimal under zeroing.
            how = BOTH if f.kind == "necessary" else ("zero",)
            out.append(says(f.kind, " + ".join(f.components), f"class={f.of_class}" if f.of_class else "", how))
    return out


@pytest.mark.parametrize("program", ["relay", "routes", "duplicate", "chain", "backup", "vote", "phrase", "constant", "lookup"])
def test_the_truth_itself_is_exact_and_none_of_it_false(posed, program):
    case = posed(program)
    said, missed, exact = score(truth(case), case.judge, case.targets)
    assert (missed, exact) == ((), True)
    assert {s.verdict for s in said} == {"true"}


def test_a_claim_left_out_is_a_miss_and_a_false_one_beside_the_truth_is_counted(posed):
    case = posed("relay")
    _, missed, exact = score(truth(case)[1:], case.judge, case.targets)
    assert (len(missed), exact) == (1, False)
    idle = next(f for f in case.facts if f.kind == "not_needed" and f.of_class is None).components[0]
    said, missed, exact = score([*truth(case), says("necessary", f"{idle}@answer")], case.judge, case.targets)
    assert [s.verdict for s in said] == ["true", "true", "false"]
    assert (missed, exact) == ((), False)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda n: says("not_needed", n), lambda n: says("not_needed", n, how=("zero",)), lambda _: says("cannot"),
        lambda n: says("necessary", n.replace("@answer", "@item")),
    ],
)  # fmt: skip
def test_what_contradicts_the_facts_is_false(posed, wrong):
    case = posed("relay")
    needed = next(f.components[0] for f in case.facts if f.kind == "necessary" and "@answer" in f.components[0])
    assert case.judge.verdict(wrong(needed).statement) == ("false", "facts")


def test_nothing_that_is_not_confirmed_counts(posed):
    case = posed("relay")
    for fate in ("inconclusive", "absent", None):
        open_ones = [f.model_copy(update={"fate": fate}) for f in truth(case)]
        said, missed, _ = score(open_ones, case.judge, case.targets)
        assert (said, len(missed)) == ((), len(case.targets))


def test_a_class_an_anchor_an_intervention_and_a_head_have_to_be_named(posed):
    routes, relay = posed("routes"), posed("relay")
    coarse = [says("necessary", f.statement.components) for f in truth(routes)]
    said, missed, _ = score(coarse, routes.judge, routes.targets)
    assert len(missed) == 3
    assert "false" not in {s.verdict for s in said}  # true of all examples together, and coarser
    halved = [f.model_copy(update={"statement": f.statement.model_copy(update={"interventions": ("zero",)})}) for f in truth(relay)]
    assert len(score(halved, relay.judge, relay.targets)[1]) == 2
    merged = [*halved, *(says("necessary", f.statement.components, how=("resample(donor)",)) for f in truth(relay))]
    assert score(merged, relay.judge, relay.targets)[1:] == ((), True)
    whole = [says("necessary", re.sub(r"z\[\d+\]", "out", f.statement.components)) for f in truth(relay)]
    said, missed, _ = score(whole, relay.judge, relay.targets)
    assert (len(missed), {s.verdict for s in said}) == (2, {"true"})


def test_one_place_has_several_names(posed):
    """Where answers have one token, -1 is the answer, and the marker always stands at its index."""
    case = posed("relay")
    said = [says("necessary", f.statement.components.replace("@answer", "@-1").replace("@marker", "@-3")) for f in truth(case)]
    assert score(said, case.judge, case.targets)[1:] == ((), True)


def test_a_null_has_nothing_to_name_and_any_place_that_is_claimed_is_false(posed):
    case = posed("shadow")
    assert case.targets == ()
    said, _, _ = score([says("necessary", "decoder.0.mlp.out@answer")], case.judge, case.targets)
    assert said[0].verdict == "false"
    assert score([says("cannot")], case.judge, ())[0][0].verdict == "true"


def test_what_the_facts_leave_open_is_measured_on_the_plain_model(posed):
    """Any two of three voters outvote the third when they say the same wrong thing; zeroed, one is enough."""
    case = posed("vote")
    a, b, c = next(f.components for f in case.facts if f.kind == "jointly_necessary")
    pair = says("jointly_necessary", f"{a} + {b}", how=("resample(donor)",))
    assert case.judge.verdict(pair.statement) == ("true", "oracle")
    zeroed = says("jointly_necessary", f"{a} + {b}", how=("zero",))
    assert case.judge.verdict(zeroed.statement)[0] == "false"
    assert case.judge.verdict(says("not_needed", f"{a} + {b}", how=("zero",)).statement) == ("true", "oracle")


@pytest.mark.long
def test_the_second_opinion_agrees_with_the_facts(posed):
    """Without the facts about what is needed, measuring says the same of every single place."""
    for program in ("relay", "chain", "duplicate"):
        case = posed(program)
        blind = Judge((), case.whole, case.judge.oracle)
        for f in truth(case):
            assert blind.verdict(f.statement) == ("true", "oracle")
        rest = max((f.components for f in case.facts if f.kind == "not_needed"), key=len)
        assert blind.verdict(says("not_needed", " + ".join(f"{r}@answer" for r in rest)).statement) == ("true", "oracle")
        assert blind.verdict(says("necessary", f"{rest[0]}@answer").statement) == ("false", "oracle")


def test_planted_attentions_are_named_by_their_heads_too():
    case = next(c for c in CASES if c.name == "lookup-a1-m2")
    rows = (Row(("1", "?", "2", "="), ("3",), ("1", "?", "4", "="), ("5",), {}, {}, {}, "g", 0),)
    facts, where = facts_of(case), Map(6, 4, rows)
    wanted = targets(facts, where)
    judge = Judge(facts, where)
    mlp = says("necessary", "decoder.2.mlp.out@answer")
    for attention in ("decoder.1.attn.out@answer", "decoder.1.attn.z[3]@answer", "decoder.1.attn.z[0]@-1"):
        assert scoring.names([says("necessary", attention).statement], wanted[0], where)
    assert score([says("necessary", "decoder.1.attn.out@answer"), mlp], judge, wanted)[2]
    assert not scoring.names([says("necessary", "decoder.1.attn.z[3]@-2").statement], wanted[0], where)
    assert judge.verdict(says("necessary", "decoder.3.attn.out@answer").statement) == ("false", "facts")


def line(**more):
    base = {"case": "c", "origin": "compiled", "method": "m", "targets": 1, "named": 1, "exact": True, "ending": "found"}
    return Scored(**{**base, **more})


def test_the_summary_counts_what_was_counted_by_hand():
    false = (Said("necessary", "x", "false", "facts"), Said("carries", "y", "unjudged", ""), Said("carries", "z", "true", "facts"))
    rows = [
        line(settled=((0.9, True), (0.9, True))), line(exact=False, named=0, said=false, settled=((0.8, False),)),
        line(targets=0, named=0, ending="cannot"), line(targets=0, named=0, ending="found", said=false[:1]),
    ]  # fmt: skip
    s = summarise("m", rows)
    assert (s.exact, s.named, s.false, s.unjudged, s.nulls) == ((1, 2), (1, 2), (2, 3), 1, (1, 2))
    assert s.ece == pytest.approx((2 * 0.1 + 0.8) / 3)
    brier, base = (2 * 0.01 + 0.64) / 3, (2 / 3) * (1 / 3)
    assert s.skill == pytest.approx(1 - brier / base)
    assert "2 false of 3" in tables.headline(s)


def test_intervals_are_clopper_and_pearsons():
    assert scoring.interval(0, 20) == pytest.approx((0, 1 - 0.025 ** (1 / 20)))
    assert scoring.interval(20, 20) == pytest.approx((0.025 ** (1 / 20), 1))
    assert scoring.interval(0, 0) == (0, 1)


def test_a_ranking_names_what_has_half_of_the_largest_effect(posed):
    case = posed("relay")
    wanted = places(case)
    true = positives(case, wanted)
    assert {wanted[n] for n in true} == {f.components[0] for f in case.facts if f.kind == "necessary"}
    scores = {n: 1.0 if n in true else 0.1 for n in wanted}
    row = judged(case, "r", scores, true, 0.0)
    assert (row.exact, row.named, row.auroc, row.precision, len(row.false)) == (True, 2, 1.0, 1.0, 0)
    worse = judged(case, "r", {**scores, next(n for n in wanted if n not in true): 0.6}, true, 0.0)
    assert (worse.exact, worse.named, len(worse.false)) == (False, 2, 1)


def test_roles_and_indices_are_positions_of_the_example(posed):
    row = rows_of(posed("relay").task)[0]
    n = len(row.prompt)
    assert row.at("answer") == row.at("-1") == (n - 1,)
    assert row.prompt[row.at("marker")[0]] == "|"
    assert row.at("nothing") == ()
    assert row.at("") == tuple(range(n))


def test_the_oracle_says_nothing_with_too_few_examples(posed):
    case = posed("relay")
    oracle = Oracle(case.model, rows_of(case.more)[:5])
    assert oracle.drop([], "zero") is None
    with torch.inference_mode():
        assert case.judge.oracle.drop([], "zero") == pytest.approx(0.0)


def test_patterns_readings_and_what_is_carried_are_measured_too(posed):
    """In the relay one head fetches at the marker, a later one hands on: both ways round for each kind of claim."""
    case = posed("relay")
    judge = Judge((), case.whole, case.judge.oracle)
    looks = next(f.components[0] for f in case.facts if f.kind == "attends" and "@answer" in f.components[0])
    (last,) = (int(f.components[0].split(".")[1]) for f in case.facts if f.kind == "necessary" and "@answer" in f.components[0])
    true = [
        says("attends", looks), says("readable", f"decoder.{last}.resid_post@answer"),
        says("carries", f"decoder.{last}.resid_pre@marker"), says("carries", "decoder.0.resid_pre@item"),
    ]  # fmt: skip
    false = [
        says("attends", looks.replace("<-marker", "<-item")), says("readable", f"decoder.{last - 1}.resid_post@answer"),
        says("carries", "decoder.0.resid_pre@marker"), says("carries", f"decoder.{last}.resid_pre@item"),
    ]  # fmt: skip
    assert [judge.verdict(f.statement) for f in true] == [("true", "oracle")] * 4
    assert [judge.verdict(f.statement) for f in false] == [("false", "oracle")] * 4
    assert {case.judge.verdict(f.statement)[0] for f in true} == {"true"}
    assert {case.judge.verdict(f.statement)[0] for f in false} == {"false"}
