"""What a goal asks, and which confirmed findings answer it."""

import pytest

from agent.loop.goal import questions
from experiments_db.findings import Finding, Question, Statement
from tools.findings.consequences import answers

HEAD, OTHER, MLP = "decoder.0.attn.z[2]@answer", "decoder.1.attn.z[0]@answer", "decoder.0.mlp.out@answer"
SHARED = Question(handle="Q1", asks="shared", text="?", tasks=("addition", "subtraction"))


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
