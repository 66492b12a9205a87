"""Tasks have right answers, and what is confirmed on has never been explored or trained on."""

import itertools
import json
import random
import re

import pytest

from tools.subjects import load_subject
from tools.subjects.demo import _documents as documents
from tools.tasks import (
    SPLITS,
    TaskError,
    agreement,
    arithmetic,
    chance_level,
    facts,
    families,
    from_records,
    get_task,
    indirect_object,
    read_jsonl,
)
from tools.tasks.task import Example

N = 150


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo")


@pytest.mark.parametrize("name", families())
def test_splits_share_no_example_and_are_the_same_every_time(name):
    task = get_task(name)
    explore, confirm = (task.examples(s, N) for s in SPLITS)
    assert not {e.prompt for e in explore} & {e.prompt for e in confirm}
    assert explore == get_task(name).examples("explore", N)
    assert task.examples("explore", N, seed=1) != explore


@pytest.mark.parametrize("name", families())
def test_a_foil_is_wrong_and_a_twin_is_another_prompt_that_is_not_in_the_other_split(name):
    task = get_task(name)
    for split, other in (("explore", "confirm"), ("confirm", "explore")):
        unseen = {e.prompt for e in task.examples(other, 400)}
        for e in task.examples(split, N):
            assert e.foil is not None
            assert e.foil != e.answer
            if e.twin is not None:
                assert e.twin != e.prompt
                assert e.twin not in unseen


@pytest.mark.parametrize("name", sorted(set(families()) - {"json"}))
def test_a_twin_has_as_many_tokens_as_its_prompt(name, demo):
    for e in get_task(name).examples("explore", N):
        assert len(demo.tokens(e.prompt)) == len(demo.tokens(e.twin))


@pytest.mark.parametrize("spec", ["addition", "subtraction", "addition:digits=3x3", "addition:format=compact,shots=2", "arithmetic"])
def test_sums_are_right_in_every_line_of_a_prompt(spec):
    for e in get_task(spec).examples("confirm", N):
        for text in (e.prompt + e.answer, e.twin + e.foil):
            for question, answer in re.findall(r"([\d +-]+)= ?(\d+)", text):
                assert eval(question) == int(answer)  # digits, plus and minus alone match


def test_options_mean_what_they_say():
    for e in get_task("addition:digits=2x1,format=compact,shots=3").examples("explore", N):
        lines = e.prompt.split("\n")
        assert len(lines) == 4
        assert re.fullmatch(r"\d\d\+\d=", lines[-1])


def test_the_side_of_the_query_decides_the_split():
    for split in SPLITS:
        for e in get_task("addition").examples(split, N):
            assert arithmetic.side("+", e.metadata["a"], e.metadata["b"]) == split
        for e in get_task("agreement").examples(split, N):
            assert agreement.side(e.metadata["subject"], e.metadata["attractor"]) == split
        for e in get_task("facts").examples(split, N):
            assert facts.side(e.metadata["country"], e.metadata["template"]) == split
        for e in get_task("indirect_object").examples(split, N):
            assert indirect_object.side(e.metadata["subject"], e.metadata["indirect_object"]) == split


@pytest.mark.parametrize("name", ["brackets", "json"])
def test_the_closing_bracket_fits_the_innermost_open_one(name):
    pairs = {"(": ")", "[": "]", "{": "}"}
    for e in get_task(name).examples("explore", N):
        open_ = []
        for c in e.prompt:
            if c in pairs:
                open_.append(pairs[c])
            elif c in pairs.values():
                assert open_.pop() == c
        assert e.answer == open_[-1]


def test_answers_follow_from_the_text():
    for e in get_task("key_value").examples("explore", N):
        assert dict(re.findall(r"(\w+) has the (\w+)\.", e.prompt))[e.prompt.split(". ")[-1].split()[0]] == e.answer.strip()
    for e in get_task("agreement").examples("explore", N):
        assert (e.answer == " are") == e.prompt.split()[1].endswith("s")
    for e in get_task("indirect_object").examples("explore", N):
        named = [w.strip(",.") for w in e.prompt.split() if w.strip(",.") in documents.NAMES]
        assert named.count(e.answer.strip()) == 1
        assert named.count(e.foil.strip()) == 2
    for e in get_task("copying").examples("explore", N):
        full, shown = e.prompt.split(" |")
        assert e.answer.strip() == full.split()[len(shown.split())]


def test_nothing_held_out_is_in_the_training_documents():
    rng = random.Random(3)
    for _ in range(400):
        for op in ("+", "-"):
            text = "".join(t for t, _ in documents.arithmetic_document(rng, op))
            for a, b in re.findall(rf"(\d+) ?\{op} ?(\d+) ?=", text):
                assert arithmetic.side(op, int(a), int(b)) == "train"
        held = {e.prompt for s in SPLITS for e in get_task("facts").examples(s, 100)}
        assert documents.facts_document(rng)[0][0] not in held
        pair = re.findall(r"[A-Z]\w+", documents.indirect_object_document(rng)[0][0])
        names = list(dict.fromkeys(w for w in pair if w in documents.NAMES))
        assert indirect_object.side(*names) == "train"


def test_chance_is_what_the_best_guesser_without_content_gets():
    def example(answer, *candidates):
        return Example(f"p{next(number)}", answer, candidates=candidates)

    number = itertools.count()

    assert chance_level([example("a"), example("a"), example("b"), example("c")]) == 0.5
    assert chance_level([example("a"), example("b"), example("c"), example("d")], ("x", "y")) == 0.5
    assert chance_level([example(str(i), "1", "2", "3", "4") for i in range(8)]) == 0.25
    with pytest.raises(ValueError, match="no examples"):
        chance_level([])


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("additoin", "did you mean addition"),
        ("addition:digits=9x9", "1x1"),
        ("addition:colour=red", "digits"),
        ("addition:digits", "option=value"),
        ("agreement:x=1", "none"),
        ("", "tasks are"),
    ],
)
def test_a_wrong_spec_is_answered_with_what_would_be_valid(spec, says):
    with pytest.raises(TaskError, match=says):
        get_task(spec)


def test_a_users_file_is_read_and_split_by_content(tmp_path):
    file = tmp_path / "t.jsonl"
    rows = [{"prompt": f"p{i}", "answer": f" {i}", "metadata": {"i": i}} for i in range(40)]
    file.write_text("\n\n".join(json.dumps(r) for r in rows))
    task = from_records("t", "d", read_jsonl(file))
    explore, confirm = (task.examples(s, 100) for s in SPLITS)
    assert len(explore) + len(confirm) == 40
    assert min(len(explore), len(confirm)) > 10
    shuffled = tmp_path / "u.jsonl"
    shuffled.write_text("\n".join(json.dumps(r) for r in reversed(rows)))
    again = from_records("t", "d", read_jsonl(shuffled))
    assert {e.prompt for e in again.examples("explore", 100)} == {e.prompt for e in explore}


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (['{"prompt": "a", "answer": "b"}', "{"], "line 2: not JSON"),
        (['{"prompt": "a"}'], "line 1: answer"),
        (['{"prompt": "", "answer": "b"}'], "line 1: prompt"),
        (['{"prompt": "a", "answer": "b", "anwser": "c"}'], "line 1: anwser"),
        (['{"prompt": "a", "answer": 3}'], "line 1: answer"),
        (['"text"'], "line 1"),
        (['{"prompt": "a", "answer": "b"}'] * 2, "twice"),
        (['{"prompt": "a", "answer": "b", "split": "explore"}'], "explore split"),
    ],
)
def test_a_bad_file_is_named_with_the_line_and_what_is_wrong(lines, says, tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text("\n".join(lines))
    with pytest.raises(TaskError, match=says) as error:
        read_jsonl(file)
    assert "bad.jsonl" in str(error.value)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskError, match="UTF-8"):
        read_jsonl(file)
