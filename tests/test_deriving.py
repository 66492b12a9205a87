"""Tasks derived by rule: what the rule says and nothing else, each side of the split from its own side alone."""

from dataclasses import replace
from functools import partial

import pytest

from experiments_db.records import TaskData
from tools import make_task
from tools.methods.deriving import POOL, Rule, derive, replaced
from tools.methods.offline import Nothing
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import load_subject
from tools.tasks import SPLITS, Example, Task, from_records, get_task

MAKE, LOSS = discover()["make_task"], discover()["loss"]
PEOPLE = ("Ann", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal", "Ida", "Jo")


def always(_: Example) -> bool:
    return True


def sentences() -> Task:
    """`Ann likes Bo:` -> ` Bo`; whether both names are short is a label; which side a pair is on follows from its sum."""

    def draw(split, rng):
        pairs = [(a, b) for a in range(10) for b in range(10) if a != b and (a + b) % 2 == (split == "confirm")]
        rng.shuffle(pairs)
        for a, b in pairs:
            who, whom = PEOPLE[a], PEOPLE[b]
            text, at = f"{who} likes {whom}:", len(who) + 7
            yield Example.of_text(
                text, f" {whom}", f" {who}", group=f"{a}-{b}", spans={"who": (0, len(who)), "whom": (at, at + len(whom))},
                labels={"long": int(len(whom) == 3), "sum": a + b},
            )  # fmt: skip

    return Task("likes", "Who is liked.", draw)


def made(**rule):
    return derive(sentences(), Rule(**{"change": (), **rule}), 0, always, ()).sides


def texts(examples):
    return {t for e in examples for t in (e.prompt, e.twin) if t}


def test_a_span_is_changed_and_a_label_kept_and_the_answer_is_the_tasks_own():
    for side, examples in made(change=("whom",), keep=("long",)).items():
        known = {e.prompt: e for e in sentences().examples(side, POOL)}
        assert len(examples) > 20
        for e in examples:
            twin = known[e.twin]
            assert (e.target, e.values, e.group) == (known[e.prompt].target, known[e.prompt].values, known[e.prompt].group)
            assert (e.foil, twin.values["long"]) == (twin.target, e.values["long"])
            assert e.prompt.split()[0] == e.twin.split()[0]


def test_a_label_can_be_made_to_differ():
    for examples in made(change=("whom",), differ=("long",)).values():
        assert {(e.values["long"], int(len(e.foil.strip()) == 3)) for e in examples} <= {(0, 1), (1, 0)}


@pytest.mark.parametrize(
    "rule",
    [
        {"change": ("whom",)},
        {"change": ("whom",), "answer": "whom"},
        {"change": ("who",), "answer": "same", "becomes": "input"},
        {"swap": ("who", "whom"), "answer": "whom"},
        {"among": "long=1"},
        {"sort_by": "sum"},
    ],
)
def test_no_text_stands_on_both_sides_and_groups_are_those_of_the_source(rule):
    sides = made(**rule)
    assert not texts(sides["explore"]) & texts(sides["confirm"])
    for side in SPLITS:
        source = {e.group for e in sentences().examples(side, POOL)}
        assert {e.group for e in sides[side]} <= source
        other = sentences().examples("confirm" if side == "explore" else "explore", POOL)
        assert not texts(sides[side]) & texts(other)


def test_what_another_task_seals_is_not_explored_by_a_change():
    free = made(change=("whom",), answer="whom")
    sealed = {e.twin for e in free["explore"][:20]} | {e.twin for e in free["confirm"]}
    again = derive(sentences(), Rule(change=("whom",), answer="whom"), 0, always, sealed).sides
    assert not {e.twin for e in again["explore"]} & sealed
    assert len(again["explore"]) > 20


def test_swapped_spans_and_the_answer_that_a_span_then_holds():
    for e in made(swap=("who", "whom"), answer="whom", becomes="input")["explore"]:
        who, _, whom = e.prompt.rstrip(":").split()
        assert (e.target, e.foil) == (f" {whom}", f" {who}")
        assert [e.prompt[slice(*e.spans[r])] for r in ("who", "whom")] == [who, whom]
        assert e.labels == {}  # nobody knows what the change did to them


def test_a_class_and_an_order_take_the_same_examples_as_by_hand():
    sides = made(among="long=1", sort_by="sum", descending=True, most=9)
    for side, examples in sides.items():
        by_hand = sorted((e.values["sum"] for e in sentences().among("long=1").examples(side, POOL)), reverse=True)
        assert [e.values["sum"] for e in examples] == by_hand[:9]


def test_a_change_that_leads_nowhere_is_counted_and_too_few_examples_are_refused():
    with pytest.raises(ToolInputError, match=r"leaves 0 examples of likes to explore.* get another number of tokens"):
        derive(sentences(), Rule(change=("whom",)), 0, lambda _: False, ())
    with pytest.raises(ToolInputError, match="no other example that the change could lead to"):
        made(change=("who",))  # the answer is the same, so that no twin comes of it


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"change": ("verb",)}, "no span 'verb': spans are who, whom; labels are long, sum"),
        ({"change": ("who",), "keep": ("mood",)}, "no label 'mood': spans are who, whom; labels are long, sum"),
        ({"sort_by": "size"}, "no label 'size'"),
        ({"change": ("who",), "answer": "verb"}, "no span 'verb'"),
        ({"among": "mood=good"}, "no label 'mood'"),
        ({"swap": ("who",)}, "two spans"),
        ({"swap": ("who", "whom"), "change": ("who",)}, "one of them"),
        ({"differ": ("long",)}, "give change"),
        ({"answer": "foil"}, "give change or swap"),
        ({"change": ("who",), "answer": "same"}, "another right answer"),
        ({"change": ("who",), "becomes": "input"}, "say with answer"),
    ],
)
def test_what_a_task_has_not_is_refused_with_what_it_has(rule, says):
    with pytest.raises(ToolInputError, match=says):
        made(**rule)


def test_spans_move_with_the_text():
    text, spans = replaced("a bb c", {"x": (2, 4), "y": (5, 6), "all": (0, 6), "in": (3, 4)}, {"x": "long"})
    assert (text, spans) == ("a long c", {"x": (2, 6), "y": (7, 8), "all": (0, 8)})
    assert replaced("abc", {"x": (0, 2), "y": (1, 3)}, {"x": "", "y": "z"}) is None


# -- with a model ------------------------------------------------------------------------------------------------------


class Empty(Nothing):
    def handles(self, letter: str) -> list[str]:
        del letter
        return []


class Book:
    """Tasks made in a run, and others by name."""

    def __init__(self, *made: TaskData, **others: Task) -> None:
        self.kept, self.others = list(made), others

    def made(self) -> list[TaskData]:
        return self.kept

    def get(self, spec: str) -> Task:
        if spec in self.others:
            return self.others[spec]
        return get_task(spec, {d.name: partial(from_records, d.name, d.description, d.examples) for d in self.kept})


def context(demo, *made, **others):
    return Context(demo, Book(*made, **others), Empty())


@pytest.fixture(scope="module")
def demo():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_task, "LOOKED_FOR", 32)  # to look through all that other tasks seal takes seconds
        yield load_subject("demo", device="cpu")


def call(demo, **arguments):
    return MAKE.run(MAKE.parse(arguments), context(demo))


def test_a_derived_task_of_the_model_keeps_its_sides_and_names_what_fails(demo):
    made = call(demo, **{**MAKE.example, "answer": "same", "becomes": "input", "differ": [], "keep": [], "examples": 24})
    (data,) = made.entries
    assert "by one rule from each side of agreement" in made.text
    task = from_records(data.name, data.description, data.examples)
    for side in SPLITS:
        assert {e.group for e in task.examples(side, 99)} <= {e.group for e in get_task("agreement").examples(side, 999)}
    said = LOSS.run(LOSS.parse({"tasks": [data.name], "examples": 24}), context(demo, data)).text
    # A subject of the other number with the old answer is wrong about half of the time, and says so by name.
    named = [line for line in said.splitlines() if line.startswith("  wrong: ")]
    assert 1 <= len(named) <= 6
    explored = {e.prompt for e in task.examples("explore", 99)}
    assert all(any(repr(p)[1:-1] in line for p in explored) for line in named)
    brought = data.model_copy(update={"origin": "file"})
    assert "wrong:" not in LOSS.run(LOSS.parse({"tasks": [data.name], "examples": 24}), context(demo, brought)).text


def test_a_task_is_derived_or_written(demo):
    for arguments, says in (
        ({"source": "agreement", "prompts": ["a"]}, "prompts: a task is derived from a source"),
        ({"change": ["subject"]}, "change: a task is derived"),
        ({"prompts": ["a"], "answers": ["b"]}, "at least 8 are needed; or give a source"),
        ({"source": "agreemnt"}, "did you mean agreement"),
        ({"source": "shape", "change": ["half"]}, "not a task of texts"),
    ):
        with pytest.raises(ToolInputError, match=says):
            call(demo, name="x", description="d", **arguments)


def test_answers_that_a_task_closes_stay_closed(demo):
    closed = replace(get_task("agreement"), name="closed", choices=(" is", " are", " was"))
    arguments = MAKE.parse({"name": "x", "description": "d", "source": "closed"})
    made = MAKE.run(arguments, context(demo, closed=closed))
    (data,) = made.entries
    assert {e.choices for e in from_records("x", "d", data.examples).examples("explore", 9)} == {closed.choices}
