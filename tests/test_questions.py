"""What a goal asks, and which confirmed findings answer it."""

import pytest

from agent.loop.goal import questions
from experiments_db.findings import Finding, Question, Statement
from tools.findings.consequences import answers, shared_word

HEAD, OTHER, MLP = "decoder.0.attn.z[2]@answer", "decoder.1.attn.z[0]@answer", "decoder.0.mlp.out@answer"
SHARED = Question(handle="Q1", asks="shared", text="?", tasks=("addition", "subtraction"))
CLASSES = Question(handle="Q1", asks="shared", text="?", tasks=("addition",))


def confirmed(number, kind, task, components, **more):
    s = Statement(kind=kind, task=task, components=components, **more)
    about = {"seen": "E1", "smallest": 0.1, "probability": 0.5, "power": 0.5, "fate": "confirmed"}
    return Finding(handle=f"F{number}", statement=s, **about)


@pytest.mark.parametrize(
    ("goal", "asks"),
    [
        ("do addition and subtraction use the same heads?", "shared"), ("same heads for addition as for subtraction", "shared"),
        ("do addition and subtraction share an MLP", "shared"), ("what have addition and subtraction in common", "shared"),
        ("do addition and subtraction overlap, or differ?", "shared"), ("how do addition and subtraction differ", "compare"),
        ("how does it do addition and subtraction, with the same heads?", "shared"),
        ("do addition and subtraction rest on one circuit", "shared"), ("are addition and subtraction done alike", "shared"),
        ("compare addition with subtraction", "compare"), ("addition versus subtraction", "compare"),
        ("what share of addition and subtraction is right", ""), ("addition and subtraction in the same model", ""),
    ],
)  # fmt: skip
def test_whether_tasks_share_parts_is_another_question_than_how_they_differ(goal, asks):
    found = [q for q in questions(goal) if q.asks in ("shared", "compare")]
    assert [q.asks for q in found] == ([asks] if asks else [])
    assert all(q.tasks == ("addition", "subtraction") for q in found)
    assert all(("same parts" in q.text) == (asks == "shared") for q in found)


@pytest.mark.parametrize(
    ("pair", "by"),
    [
        ([("necessary", "addition", HEAD), ("necessary", "subtraction", HEAD)], ["F1", "F2"]),
        ([("necessary", "addition", HEAD), ("jointly_necessary", "subtraction", f"{HEAD} + {OTHER}")], ["F1", "F2"]),
        ([("necessary", "addition", HEAD), ("not_needed", "subtraction", f"{HEAD} + {MLP}")], ["F1", "F2"]),
        ([("carries", "addition", HEAD), ("carries", "subtraction", HEAD)], ["F1", "F2"]),
        ([("necessary", "addition", HEAD), ("necessary", "subtraction", OTHER)], []),
        ([("necessary", "addition", HEAD), ("necessary", "addition", HEAD)], []),
        ([("not_needed", "addition", HEAD), ("not_needed", "subtraction", HEAD)], []),
        ([("necessary", "addition", HEAD), ("necessary", "copying", HEAD)], []),
    ],
)  # fmt: skip
def test_what_is_said_of_one_place_for_two_tasks_answers_whether_they_share_it(pair, by):
    found = [confirmed(i, *said) for i, said in enumerate(pair, 1)]
    assert [f.handle for f in answers(SHARED, found)] == by


def test_a_difference_between_two_tasks_answers_whether_they_share_parts():
    apart = confirmed(1, "differs", "addition", HEAD, other_task="subtraction")
    elsewhere = confirmed(2, "differs", "addition", HEAD, other_task="copying")
    classes = confirmed(3, "differs", "addition", HEAD, among="carry=1", other_among="carry=0")
    assert answers(SHARED, [apart, elsewhere, classes]) == [apart]


def test_a_goal_about_one_task_asks_whether_its_examples_share_parts():
    (asked,) = [q for q in questions("do sums with a carry use the same heads in addition?") if q.asks == "shared"]
    assert asked.tasks == ("addition",) and asked.text == "Do all examples of addition rest on the same parts of the model?"
    assert [q.asks for q in questions("which heads do addition, and do all examples need the same ones?")].count("shared") == 1
    assert not [q for q in questions("find where addition happens in the same model") if q.asks == "shared"]


BOTH = [("necessary", "addition", HEAD), ("necessary", "subtraction", HEAD)]
CARRY, NONE = {"among": "carry=1"}, {"among": "carry=0"}


@pytest.mark.parametrize(
    ("question", "said", "word"),
    [
        (SHARED, BOTH, "yes"),
        (SHARED, [*BOTH, ("necessary", "addition", MLP)], "in part"),  # more is needed for one of them
        (SHARED, [*BOTH, ("differs", "addition", MLP, {"other_task": "subtraction"})], "in part"),
        (SHARED, [("differs", "addition", HEAD, {"other_task": "subtraction"})], "no"),
        (SHARED, [("necessary", "addition", HEAD), ("not_needed", "subtraction", HEAD)], "no"),
        (SHARED, [("similar", "addition", HEAD, {"other_task": "subtraction"})], "yes"),
        (SHARED, [("similar", "addition", HEAD, {"other_task": "copying"})], ""),
        (SHARED, [("necessary", "addition", HEAD), ("necessary", "subtraction", OTHER)], ""),  # nothing sets them apart
        (CLASSES, [("necessary", "addition", HEAD, CARRY), ("necessary", "addition", HEAD, NONE)], "yes"),
        (CLASSES, [("necessary", "addition", HEAD, CARRY), ("not_needed", "addition", HEAD, NONE)], "no"),
        (CLASSES, [("differs", "addition", HEAD, {**CARRY, "other_among": "carry=0"})], "no"),
        (CLASSES, [("necessary", "addition", HEAD), ("necessary", "addition", HEAD, CARRY)], ""),  # all, and a part of them
        (CLASSES, [("differs", "addition", HEAD, {"other_task": "copying"})], ""),
        (Question(handle="Q1", asks="where", text="?", tasks=("addition",)), BOTH, ""),
    ],
)  # fmt: skip
def test_whether_parts_are_shared_is_answered_in_a_word(question, said, word):
    found = [confirmed(i, *s[:3], **(s[3] if len(s) > 3 else {})) for i, s in enumerate(said, 1)]
    assert shared_word(question, found) == word
    open_ = [f.model_copy(update={"fate": "inconclusive"}) for f in found]
    assert shared_word(question, open_) == ""
