"""The tool that counts what is answered instead of the right answer."""

import pytest

from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, discover
from tools.mistakes import form, line_answers, off_by_one, words
from tools.ports.text import said_in
from tools.subjects import load_subject


@pytest.fixture(scope="module")
def shares():
    tool = discover()["mistakes"]
    ctx = Context(load_subject("demo", device="cpu"), OfflineTasks([]), Nothing())

    def of(task):
        rows = tool.run(tool.parse({"task": task, "examples": 48}), ctx).measurements
        return {m.name: m for m in rows}

    return of


def test_what_the_demo_can_do_is_right_and_what_it_cannot_has_the_form_and_not_the_value(shares):
    able, unable = shares("addition:digits=1x1"), shares("subtraction:digits=3x3")
    assert able["right"].value > 0.9
    assert unable["right"].value < 0.3
    assert unable["right"].low is not None
    assert set(able) == {"right", "right_form", "from_prompt", "from_line", "off_by_one", "commonest"}


def test_right_answers_have_the_right_form(shares):
    found = shares("addition")
    assert found["right"].value <= found["right_form"].value
    assert found["commonest"].token


def test_a_completion_is_read_to_the_end_of_its_first_line_and_as_far_as_the_answer_goes():
    assert said_in(" 6\n2 + 3 = 5", " 7") == "6"
    assert said_in(" New York is", " San Diego") == "New York"
    assert said_in("  ", " 7") == ""


def test_forms_tell_digits_from_letters_and_nothing_more():
    assert form("17") == form("4") != form("four") == form("Paris")
    assert form("-4") != form("4")


def test_answers_of_earlier_lines_are_known_and_the_question_s_own_line_is_none():
    assert line_answers("2 + 4 = 6\n2+5=7\n4 + 2 =") == {"6", "7"}
    assert line_answers("4 + 2 =") == set()
    assert {"cat", "sat."} <= words("the cat sat.")


@pytest.mark.parametrize(
    ("said", "right", "is_"),
    [("7", "8", True), ("9", "8", True), ("8", "8", False), ("x", "8", False), ("-1", "0", True)],
)
def test_off_by_one_is_about_whole_numbers(said, right, is_):
    assert off_by_one(said, right) is is_
