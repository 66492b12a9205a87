"""Clusters of examples by the components that they need: found where they were planted, told by a rule, and nowhere else."""

import random
from dataclasses import replace

import benches
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_systematic import begin, calls, compiled, proceed, write_rows

from agent.planners.base import Answer, Known
from agent.planners.systematic.candidates import Desk
from agent.planners.systematic.classes import classes, told
from agent.planners.systematic.exploring import Seen
from agent.planners.systematic.reading import Drop, Pair
from experiments_db.records import Control, Measurement
from tools import cluster, statistics
from tools.findings.kind import kinds
from tools.methods.class_rules import best_rule, largest_class
from tools.subjects import load_subject
from tools.tasks import Example, Task, TaskError, get_task
from tools.tasks.conditions import known, parse, visible


def bare(task):
    """The task without what is known of its examples but their texts; each is a problem of its own."""

    def draw(split, rng):
        for e in task.draw(split, rng):
            yield replace(e, metadata={}, labels={}, group="")

    return Task(task.name, task.description, draw)


def measured(subject, task, *places, examples=128):
    ctx = benches.context(subject, task, split="explore")
    return cluster.run(cluster.Args(task=task.name, components=list(places), examples=examples), ctx)


def named(outcome, name, **where):
    return [
        m for m in outcome.measurements if m.name == name and all(getattr(m, k) == v for k, v in where.items())
    ]


# -- the language of classes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("n=3", True), ("n=3.0", True), ("n!=3", False), ("n>=3", True), ("n<3", False), ("n>=2.5,kind=A", True), ("n=3,kind=b", False),
        ("sign==", True), ("sign!==", False), ("other=1", False), ("other!=1", False), ("kind>=2", False), ("last word=?", True),
    ],
)  # fmt: skip
def test_a_class_is_named_by_conditions_on_what_is_known(text, holds):
    values = {"n": 3, "kind": "a", "sign": "=", "last word": "?"}
    assert all(c.holds(values) for c in parse(text)) == holds
    for c in parse(text):
        assert (c.key not in values) or c.sign in (">=", "<") or c.opposite.holds(values) != c.holds(values)
        assert parse(str(c)) == (c,)


def test_what_is_visible_are_words_from_both_ends_those_of_spans_and_their_kinds():
    seen = visible("The cats sleep 12 ?", {"subject": (4, 8)})
    assert seen["words"] == 5 and seen["word 1"] == "The" and seen["last word"] == "?" and seen["word of subject"] == "cats"
    assert [seen[f"kind of {w}"] for w in ("word 1", "word 2", "word 4", "last word")] == ["capital", "small", "number", "sign"]


def test_examples_are_chosen_by_what_can_be_seen_and_an_unknown_name_is_refused():
    plain = bare(get_task("addition")).examples("explore", 40)
    task = Task("sums", "", lambda split, rng: iter(plain))
    first = str(visible(plain[0].prompt, {})["word 1"])
    chosen = task.among(f"word 1={first}").examples("explore", 8)
    assert 0 < len(chosen) < 40 and all(e.prompt.startswith(first) for e in chosen)
    with pytest.raises(TaskError, match=r"no label 'mood'.*last word"):
        task.among("mood=1").examples("explore", 4)
    with pytest.raises(TaskError, match="written key=value"):
        task.among("mood")


# -- clusters and rules -------------------------------------------------------------------------------------------------


def test_two_groups_of_points_are_two_clusters_and_shuffled_or_alike_they_are_not():
    rng = np.random.default_rng(0)
    side = np.arange(60) % 3 == 0
    apart = np.where(side[:, None], [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]) + rng.normal(0, 0.1, (60, 4))
    found = statistics.clusters(apart, 6)
    assert len(found.centres) == 2 and ((found.labels == 1) == side).all()
    assert (found.nearest(apart) == found.labels).all()
    assert statistics.shuffled_silhouettes(apart, 6, 20).max() < found.silhouette
    alike = rng.normal(0, 0.1, (60, 4))
    width = statistics.clusters(alike, 6).silhouette
    assert (statistics.shuffled_silhouettes(alike, 6, 20) >= width).mean() > 0.05
    assert len(statistics.clusters(np.ones((60, 4)), 6).centres) == 1


def test_a_rule_is_the_condition_that_tells_members_from_others():
    rng = random.Random(0)
    examples = [
        Example.of_text(f"{rng.choice('ab')} {rng.randrange(100)} {rng.choice('?!')}", " x", metadata={"n": rng.randrange(50)})
        for _ in range(80)
    ]
    words = [e.prompt.split() for e in examples]
    assert best_rule(examples, np.array([w[-1] == "?" for w in words])) == "last word=?"
    assert best_rule(examples, np.array([w[0] == "a" and w[-1] == "?" for w in words])) in (
        "last word=?,word -3=a", "word -3=a,last word=?",
    )  # fmt: skip
    (by_number,) = parse(best_rule(examples, np.array([e.values["n"] >= 25 for e in examples])))
    assert (by_number.key, by_number.sign) == ("n", ">=") and 20 <= float(by_number.value) <= 30
    alike = [Example.of_text("a b", " x", group=str(i)) for i in range(20)]
    assert best_rule(alike, np.arange(20) < 10) == ""


@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.booleans(), st.booleans()), min_size=1, max_size=20),
    threshold=st.integers(0, 30),
)  # fmt: skip
def test_the_largest_class_holds_for_members_alone_and_no_single_condition_for_more(rows, threshold):
    examples = [
        Example.of_text(f"{word} {i}", " x", metadata={"n": n, "word": word}, **({"spans": {"first": (0, 1)}} if has else {}))
        for i, (word, n, has, _) in enumerate(rows)
    ]
    for members in (np.array([r[2] for r in rows]), np.array([r[1] >= threshold for r in rows]), np.array([r[3] for r in rows])):
        rule = largest_class(examples, members)
        held = np.array([bool(rule) and parse(rule)[0].holds(known(e)) for e in examples])
        assert not (held & ~members).any()
        numbers = [c for n in range(31) for c in (f"n>={n}", f"n<{n}")]
        for text in (*numbers, "words of first>=1", *(f"word={w}" for w in "abc")):
            other = np.array([parse(text)[0].holds(known(e)) for e in examples])
            assert (other & ~members).any() or other.sum() <= held.sum()


def test_a_rule_counts_where_it_surely_tells_half_of_what_a_guess_does_not():
    def said(guess, low):
        control = Control(kind="guess", value=guess, n=64, difference_low=low)
        return Measurement(name="told", unit="share", value=0.9, n=64, label="cluster 1", variant="word 1=a", control=control)

    def rules(m):
        return told(Answer("1", "", measurements=(m,)))

    assert rules(said(0.6, 0.3)) == ["word 1=a"]
    assert rules(said(0.6, 0.1)) == rules(said(0.95, 0.01)) == []


# -- on models of which the truth is known ------------------------------------------------------------------------------


def test_examples_that_need_other_components_are_found_and_told_by_what_is_seen_in_them():
    case, subject, task = benches.compiled("routes")
    out = measured(subject, bare(task), "attn.z[*]@answer", "mlp.out@answer")
    (count,) = named(out, "clusters")
    assert count.value == 2
    (p,), (width,) = named(out, "p"), named(out, "silhouette")
    assert p.value <= 0.01 and width.value > 0.8 > 0.4 > width.control.value
    near = f"decoder.{case.plan.places['near'][0]}.attn.z[{case.plan.places['near'][1]}]@answer"
    far = {
        f"decoder.{case.plan.places['far'][0]}.attn.z[{case.plan.places['far'][1]}]@answer",
        f"decoder.{case.plan.places['map'][0]}.mlp.out@answer",
    }
    needs, rules = {}, {}
    for m in named(out, "lost", intervention="zero"):
        if m.value > 0.5:
            needs.setdefault(m.label, set()).add(m.component)
    for m in named(out, "told"):
        assert m.value == 1.0 and m.control.value < 0.7
        rules[m.label] = m.variant
    assert {rules[c]: frozenset(n) for c, n in needs.items()} == {
        "last word=?": frozenset({near}), "last word=!": frozenset(far),
    }  # fmt: skip
    assert set(told(Answer("1", "", measurements=out.measurements))) == set(rules.values())


@pytest.mark.parametrize("program", ["previous", "modular"])  # what stands in for an example may be like it
def test_one_mechanism_is_one_cluster(program):
    _, subject, task = benches.compiled(program)
    out = measured(subject, bare(task), "attn.z[*]@answer", "mlp.out@answer", examples=88)
    assert [m.value for m in named(out, "clusters")] == [1]
    assert not named(out, "told") and "no more than one cluster" in out.text


def test_two_tasks_of_a_trained_model_in_one_are_two_clusters():
    parts = [get_task("addition"), get_task("agreement")]

    def draw(split, rng):
        for pair in zip(*(bare(t).draw(split, rng) for t in parts), strict=False):
            yield from pair

    both = Task("both", "sums and sentences", draw)
    out = measured(load_subject("demo"), both, "*.0-1.attn.z[*]@answer", "*.0-1.mlp.out@answer")
    rules = told(Answer("1", "", measurements=out.measurements))
    assert rules
    for rule in rules:
        kept = both.among(rule).examples("confirm", 32)
        digits = [any(c.isdigit() for c in e.prompt) for e in kept]
        assert all(digits) or not any(digits)


def test_the_planner_asks_for_clusters_only_where_something_is_missed_by_part_of_the_examples():
    def step(value):
        drop = {"decoder.0.mlp.out@answer": Drop(value, value, value)}
        seen = Seen("mine", 0.9, layers=Pair(drop, drop))
        return next(classes(Desk(lambda _: Known(), frozenset(kinds())), seen), None)

    asked = step(0.4)
    assert [name for name, _ in asked.calls] == ["cluster"] and asked.calls[0][1]["components"] == ["decoder.0.mlp.out@answer"]
    assert step(0.9) is None and step(0.0) is None


def test_the_planner_tests_the_rules_as_classes_of_examples():
    drop = {"decoder.0.mlp.out@answer": Drop(0.4, 0.3, 0.5)}
    plan = classes(Desk(lambda _: Known(), frozenset(kinds())), Seen("mine", 0.9, layers=Pair(drop, drop)))
    next(plan)
    sure = Control(kind="guess", value=0.5, n=64, difference_low=0.4)
    rows = [
        Measurement(name="told", unit="share", value=1.0, n=64, label=f"cluster {i}", variant=f"word 1={w}", control=sure)
        for i, w in enumerate("ab", 1)
    ]
    step = plan.send([Answer("1", "", measurements=tuple(rows))])
    assert [(name, args["among"], args["intervention"]) for name, args in step.calls] == [
        ("ablate", f"word 1={w}", how) for w in "ab" for how in ("resample(donor)", "zero")
    ]  # fmt: skip
    unsure = classes(Desk(lambda _: Known(), frozenset(kinds())), Seen("mine", 0.9, layers=Pair(drop, drop)))
    next(unsure)
    with pytest.raises(StopIteration):
        unsure.send([Answer("1", "")])


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The planner on examples of two classes, without the label that says so."""
    folder = tmp_path_factory.mktemp("routes")
    model, rows = compiled(folder, "routes")
    case, _, task = benches.compiled("routes")
    rows = [
        {"prompt": e.prompt, "answer": e.answer, "foil": e.foil, "twin": e.twin, "split": split}
        for split in ("explore", "confirm") for e in bare(task).examples(split, 200)
    ]  # fmt: skip
    file = write_rows(folder / "mine.jsonl", rows)
    store, loaded = begin(folder, "find where the model does what the examples of mine ask for", model, [file])
    _, record = proceed(store, loaded)
    return case, record


@pytest.mark.long
def test_the_planner_confirms_what_only_a_class_needs_that_no_label_names(planned):
    case, record = planned
    assert [args["components"] for tool, args in calls(record) if tool == "cluster"]
    places = {
        name: f"decoder.{b}.mlp.out@answer" if h is None else f"decoder.{b}.attn.z[{h}]@answer"
        for name, (b, h) in case.plan.places.items()
    }
    rule = {"near": "last word=?", "far": "last word=!", "map": "last word=!"}
    stands = [f.statement for f in record.findings() if f.stands]
    of_class = {(s.components, s.among) for s in stands if s.kind == "necessary" and s.among}
    assert of_class == {(places[n], rule[n]) for n in places}
    differs = [s for s in stands if s.kind == "differs"]
    assert differs and all((s.components, s.among) in of_class and s.other_among != s.among for s in differs)
    assert "among last word=" in " ".join(f.sentence for f in record.findings())
