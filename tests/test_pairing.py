"""Automatic twins: one format, another answer, another problem, the fewest tokens changed; the same in any order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.methods.pairing import auto_twins, twins_by_span, without_twin
from tools.methods.tool import ToolInputError
from tools.methods.twins import swapped
from tools.subjects import load_subject
from tools.tasks import Example, Task, get_task

TASK = Task("mine", "letters", lambda _split, _rng: iter(()))
LETTERS = st.sampled_from("abcd")


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo")


@st.composite
def samples(draw):
    """Examples of one to three letters, the first of which is a role in some; a few share a group."""
    found = {}
    for _ in range(draw(st.integers(1, 14))):
        letters = [draw(LETTERS) for _ in range(draw(st.integers(1, 3)))]
        found[" ".join(letters)] = f" {draw(LETTERS)}", draw(st.sampled_from("12345")), draw(st.booleans())
    return found


def distance(demo, a, b):
    return sum(x != y for x, y in zip(demo.tokens(a), demo.tokens(b), strict=True))


@settings(max_examples=60)
@given(sample=samples(), seed=st.integers(0, 3), shuffle=st.randoms(use_true_random=False))
def test_a_twin_is_the_nearest_other_problem_of_its_format_with_another_answer(demo, sample, seed, shuffle):
    sample = [Example.of_text(p, a, group=g, spans={"head": (0, 1)} if s else {}) for p, (a, g, s) in sample.items()]
    by_prompt = {e.prompt: e for e in sample}
    paired = auto_twins(demo, TASK, sample, seed)
    assert [e.prompt for e in paired] == [e.prompt for e in sample]
    for e in paired:
        fit = [
            o
            for o in sample
            if len(o.prompt) == len(e.prompt) and o.spans == e.spans and o.answer != e.answer and o.group != e.group
        ]
        if e.twin is None:
            assert not fit
            assert e.foil is None
            continue
        twin = by_prompt[e.twin]
        assert twin in fit
        assert e.foil == twin.answer
        assert distance(demo, e.prompt, e.twin) == min(distance(demo, e.prompt, o.prompt) for o in fit)
    assert without_twin(paired) == sum(e.twin is None for e in paired)
    other = list(sample)
    shuffle.shuffle(other)
    assert {e.prompt: e.twin for e in auto_twins(demo, TASK, other, seed)} == {e.prompt: e.twin for e in paired}


def test_the_seed_draws_among_equally_near_twins(demo):
    sample = [Example.of_text(f"{c} x", f" {c}") for c in "abcdefgh"]
    assert len({tuple(e.twin for e in auto_twins(demo, TASK, sample, seed)) for seed in range(4)}) > 1


def test_a_twin_of_its_own_is_kept_where_it_has_as_many_tokens(demo):
    sample = [
        Example.of_text("a b", " c", foil=" d", twin="a e"),
        Example.of_text("a f", " g", foil=" d", twin="a e e"),
        Example.of_text("h i", " k"),
    ]
    first, second, third = auto_twins(demo, TASK, sample, 0)
    assert (first.twin, first.foil) == ("a e", " d")
    assert (second.twin, second.foil) == ("a b", " c")
    assert third.twin in ("a b", "a f")


def test_twins_by_span_differ_in_that_span_and_nowhere_else(demo):
    sample = [
        Example.of_text(f"{a} + {b} =", f" {a + b}", spans={"operand1": (0, 1), "operand2": (4, 5)})
        for a in range(5)
        for b in range(5)
    ]
    for e in twins_by_span(demo, sample, "operand2"):
        assert e.twin is not None
        assert e.twin[:4] == e.prompt[:4]
        assert e.twin[4] != e.prompt[4]
        assert e.foil == f" {int(e.twin[0]) + int(e.twin[4])}"
    lone = [sample[0], sample[6]]
    assert without_twin(twins_by_span(demo, lone, "operand1")) == 2
    with pytest.raises(ToolInputError, match="operand1"):
        twins_by_span(demo, sample, "carry")


def test_a_task_whose_own_twins_do_not_fit_gets_others(demo):
    task = get_task("json")
    examples = task.examples("explore", 300)
    paired = auto_twins(demo, task, examples, 0)
    found = [e for e in paired if e.twin is not None]
    assert found
    for e in found:
        assert {e.answer, e.foil} == {"]", "}"}
        assert (e.prompt.count("{") - e.prompt.count("}")) != (e.twin.count("{") - e.twin.count("}"))


def test_swapping_twice_gives_the_pair_back(demo):
    for e in get_task("indirect_object").examples("explore", 10):
        there = swapped(e)
        assert (there.prompt, there.answer, there.foil, there.group) == (e.twin, e.foil, e.answer, e.group)
        back = swapped(there)
        assert (back.prompt, back.answer, back.twin, back.spans, back.twin_spans) == (
            e.prompt,
            e.answer,
            e.twin,
            e.spans,
            e.twin_spans,
        )
