"""What a control may be made of, what chance is in a class of one answer, and kinds that need no examples of a task."""

import random
from dataclasses import replace

import benches
import pytest

from experiments_db.findings import Statement
from experiments_db.places import Component
from tools.findings.examining import bench_for, examine
from tools.findings.kind import kind_of
from tools.findings.spared import ALONE, spared
from tools.tasks import Example, Task, chance_level, chance_of


def sums(split, rng):
    while True:
        a, b = rng.randrange(8), rng.randrange(8)
        yield Example.of_text(f"{a}+{b}=", str(a + b), metadata={"answer": str(a + b)})


def test_in_a_class_with_one_answer_chance_is_that_of_the_whole_task():
    task = Task("sums", "small sums", sums)
    seven = task.among("answer=7")
    examples = seven.examples("explore", 32, 0)
    assert chance_level(examples) == 1
    whole = chance_level(task.examples("explore", 256, 0))
    assert chance_of(seven, examples) == whole < 0.3
    assert chance_of(seven.among("answer=7"), examples) == whole
    assert chance_of(replace(seven, whole=None), examples) == 1  # a task of one answer is no class of another
    some = task.examples("explore", 32, 0)
    assert chance_of(task, some) == chance_level(some)


def test_a_model_that_does_a_task_does_its_class_of_one_answer():
    _, subject, task = benches.compiled("compare")
    of = {e.answer.strip() for e in task.examples("explore", 64)}

    def labelled(split, rng: random.Random):
        for e in task.draw(split, rng):
            yield replace(e, labels={"says": e.answer.strip()})

    own = Task("t", "compared", labelled)
    for answer in sorted(of):
        assert benches.p_of(subject, own, "capability", among=f"says={answer}") <= benches.ALPHA


def test_what_is_needed_alone_is_in_no_set_that_others_are_compared_with():
    case, subject, task = benches.compiled("induction")
    named = {n: f"decoder.{b}.attn.z[{h}]" for n, (b, h) in case.plan.places.items()}
    needed = [Component.parse(f"{named['prev']}@value"), Component.parse(f"{named['match']}@answer")]
    idle = next(p for p, k in case.plan.idle.items() if k == "zero" and p[1] is not None)
    others = [Component.parse(f"decoder.{idle[0]}.attn.z[{idle[1]}]@{a}") for a in ("answer", "value", "key")]
    s = kind_of("jointly_necessary").complete(
        Statement(kind="jointly_necessary", task="t", components=" + ".join(map(str, others[:2])), examples=64)
    )
    bench = bench_for(s, benches.context(subject, task))
    assert set(spared(bench, [*needed, *others], 9)) == set(others)
    assert len(spared(bench, [*needed, *others], 2)) == 2
    assert not bench.known  # unseen examples choose no control


def test_the_control_says_that_its_sets_are_spared():
    case, subject, task = benches.compiled("backup")
    two = " + ".join(
        f"decoder.{b}.attn.z[{h}]@answer" for b, h in (case.plan.places["copy"], case.plan.places["again"])
    )
    found = benches.contrasts(subject, task, "jointly_necessary", components=two, interventions=("zero",))
    assert (
        [c.control for c in found if "other sets" in c.control]
        == [c.control for c in found if ALONE in c.control]
        != []
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_head_that_matches_is_found_whatever_task_is_named(seed):
    # Its sequences are random tokens: a task whose prompts the model cannot take makes no difference.
    case, subject, _ = benches.compiled("induction", seed)

    def too_long(split, rng):
        while True:
            yield Example.of_text(" ".join(["a"] * 99) + str(rng.random()), " b")

    task = Task("t", "prompts that are too long", too_long)
    (b, h), (pb, ph) = case.plan.places["match"], case.plan.places["prev"]
    for place, label in (
        (f"decoder.{b}.attn.pattern[{h}]", "after same token"),
        (f"decoder.{pb}.attn.pattern[{ph}]", "previous"),
    ):
        s = kind_of("matches").complete(Statement(kind="matches", task="t", components=place, label=label))
        for split in ("explore", "confirm"):
            measured = examine(s, benches.context(subject, task, split=split)).measurements
            assert max(m.value for m in measured if m.name == "p") <= benches.ALPHA
            assert {m.n for m in measured if m.name in ("smallest", "p_absent")} == {128}
            assert not any(m.name in ("accuracy", "chance") for m in measured)
