"""The worked example of a task: chosen by a stated rule, in the model's own tokens, kept once a run."""

import json

import pytest

from tools.methods.tool import ToolInputError
from tools.methods.worked import worked_example
from tools.subjects import load_subject
from tools.tasks import from_records, get_task


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo")


def test_it_is_one_that_the_model_and_its_twin_answer_right_where_there_is_one(demo):
    made = worked_example(demo, get_task("addition"), 0)
    assert made["chosen"] == "an explore example that the model answers right"
    assert made["said"] == made["answer"].strip()
    assert made["twin_said"] == made["twin_answer"].strip()
    first, second = (int(made["tokens"][made["anchors"][role][0]]) for role in ("operand1", "operand2"))
    assert first + second == int(made["answer"])


def test_a_task_that_the_model_cannot_do_shows_what_it_says_instead(demo):
    made = worked_example(demo, get_task("subtraction:digits=3x3"), 0)
    assert made["chosen"] == "the first explore example"
    assert made["said"] != made["answer"].strip()


def test_a_task_that_the_model_cannot_read_has_none(demo):
    rows = [
        {"prompt": f"zyx{i} ⁂ wvu =", "answer": " 7", "split": "explore", "foil": None, "twin": None, "candidates": [], "metadata": {}}
        for i in range(12)
    ]
    with pytest.raises(ToolInputError, match="does not fit this model: its tokenizer cannot read"):
        worked_example(demo, from_records("unread", "words that the model lacks", rows), 0)


def test_it_is_plain_data_and_the_same_each_time(demo):
    one, other = (json.dumps(worked_example(demo, get_task("agreement"), 3)) for _ in range(2))
    assert one == other
