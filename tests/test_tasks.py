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
    fitting,
    from_records,
    get_task,
    indirect_object,
    read_jsonl,
    to_records,
)
from tools.tasks.task import Example
from tools.tasks.words import NOUNS

N = 150


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo")


@pytest.mark.parametrize("name", fitting(("text",)))
def test_splits_share_no_example_and_are_the_same_every_time(name):
    task = get_task(name)
    explore, confirm = (task.examples(s, N) for s in SPLITS)
    assert not {e.prompt for e in explore} & {e.prompt for e in confirm}
    assert explore == get_task(name).examples("explore", N)
    assert task.examples("explore", N, seed=1) != explore


@pytest.mark.parametrize("name", fitting(("text",)))
def test_a_sample_holds_each_problem_once_and_draws_share_none_until_they_run_out(name):
    task = get_task(name)
    whole = task.sample("confirm", 2000)
    groups = [e.group for e in whole.examples]
    assert len(set(groups)) == len(groups)
    n = min(len(groups) // 3, 40)
    slices = [task.sample("confirm", n, draw=k * n) for k in range(3)]
    assert [e for s in slices for e in s.examples] == list(whole.examples[: 3 * n])
    assert not any(s.reused for s in slices)
    if whole.groups is not None:
        assert whole.groups == len(groups)
        last = task.sample("confirm", n, draw=n * (len(groups) // n))
        assert last.reused == bool(n * (len(groups) // n + 1) > len(groups))
        assert len({e.group for e in last.examples}) == n
        assert task.sample("confirm", len(groups), draw=1).reused
    for e in whole.examples[:N]:
        assert e.spans
        assert all(e.prompt[a:b].strip() == e.prompt[a:b] != "" for r, (a, b) in e.spans.items() if r != "shots")


@pytest.mark.parametrize("name", fitting(("text",)))
def test_what_is_confirmed_on_depends_on_the_draw_and_on_no_seed(name):
    task = get_task(name)
    assert task.examples("confirm", 20, seed=0) == task.examples("confirm", 20, seed=1)
    assert task.sha("confirm", 8, draw=0) != task.sha("confirm", 8, draw=1)


def test_the_problems_of_a_small_task_are_all_found_and_counted():
    sums = {(a, b) for a in range(10) for b in range(a, 10)}
    for split in SPLITS:
        sample = get_task("addition:digits=1x1").sample(split, 128)
        assert sample.groups == len(sample.examples)
        assert {e.group for e in sample.examples} == {
            f"{a}+{b}" for a, b in sums if arithmetic.side("+", a, b) == split
        }
        pairs = {(a, b) for a in NOUNS for b in NOUNS if a != b and agreement.side(a, b) == split}
        assert {e.group for e in get_task("agreement").examples(split, 999)} == {f"{a}/{b}" for a, b in pairs}


@pytest.mark.parametrize("family", ["addition", "subtraction"])
def test_two_formats_of_a_problem_share_its_group_and_its_place_in_the_order(family):
    spaced, compact = (get_task(f"{family}:format={f},shots={s}") for f, s in (("spaced", 2), ("compact", 4)))
    for split, other in (("explore", "confirm"), ("confirm", "explore")):
        groups = [e.group for e in spaced.examples(split, N)]
        assert [e.group for e in compact.examples(split, N)] == groups
        assert not set(groups) & {e.group for e in compact.examples(other, 500)}
    assert {e.group for e in get_task(family).examples("explore", 10)} <= {
        e.group for e in spaced.examples("explore", 999)
    }


def test_examples_with_the_same_text_are_one_problem_and_a_group_names_it():
    assert Example.of_text("a", " b").group == Example.of_text("a", " b", foil=" c").group
    assert len({Example.of_text("a", " b").group, Example.of_text("a", " c").group, Example.of_text("a b", "").group}) == 3
    assert Example.of_text("a", " b", group="one").group == "one"
    assert Example.of_text("p", "a", "f", "t", ("c",), {"k": 1}).as_json()["metadata"] == {"k": 1}


@pytest.mark.parametrize(
    "spans", [{"x": (0, 0)}, {"x": (0, 9)}, {"x": (-1, 2)}, {"answer": (0, 1)}, {"a.first": (0, 1)}, {"-1": (0, 1)}]
)
def test_a_span_that_no_anchor_could_name_or_that_lies_outside_is_refused(spans):
    with pytest.raises(TaskError, match="span|characters"):
        Example.of_text("text", " x", spans=spans)


def test_labels_are_what_the_digits_say():
    for spec, sign in (("addition", 1), ("subtraction", -1)):
        for e in get_task(spec).examples("explore", N):
            v = e.values
            units = v["units1"] + sign * v["units2"]
            assert v["units_sum" if sign == 1 else "units_difference"] == units
            assert (v["a"] - v["units1"]) % 100 == 10 * v["tens1"]
            assert v["result_units"] == units % 10
            assert v["result_tens"] == (v["tens1"] + sign * v["tens2"] + sign * v["carry"]) % 10
            assert [e.prompt[slice(*e.spans[r])] for r in ("operand1", "operand2")] == [str(v["a"]), str(v["b"])]


def test_roles_of_the_other_tasks_are_the_words_that_decide():
    def role(e, name):
        return e.prompt[slice(*e.spans[name])]

    for e in get_task("key_value").examples("explore", N):
        assert role(e, "value") == e.answer.strip()
        assert role(e, "key") == role(e, "key_again")
        assert e.spans["key"] != e.spans["key_again"]
    for e in get_task("copying").examples("explore", N):
        assert role(e, "item") == e.answer.strip()
        assert ("before_item" in e.spans) == (e.metadata["index"] > 0)
        if "before_item" in e.spans:
            assert role(e, "before_item") == role(e, "last_copied") == e.prompt[-1]
    for e in get_task("indirect_object").examples("explore", N):
        assert role(e, "receiver") == e.answer.strip()
        assert role(e, "giver") == role(e, "giver_again") == e.foil.strip()
        assert e.spans["first_name"] < e.spans["second_name"] < e.spans["giver_again"]
        assert {role(e, "first_name"), role(e, "second_name")} == {role(e, "giver"), role(e, "receiver")}
    for name in ("brackets", "json"):
        for e in get_task(name).examples("explore", N):
            assert role(e, "innermost_bracket") + e.answer in ("()", "[]", "{}")
    for e in get_task("agreement").examples("explore", N):
        assert role(e, "subject").rstrip("s") == e.metadata["subject"]
        assert (role(e, "attractor")[-1] == "s") == (e.metadata["attractor_number"] == "plural")
    for e in get_task("facts").examples("explore", N):
        assert role(e, "subject") == e.metadata["country"] or role(e, "subject") == e.values["capital"]
        assert role(e, "subject") != e.answer.strip()
    for e in get_task("arithmetic").examples("explore", N):
        assert eval(e.group) == int(e.answer)  # numbers and plus signs alone
        assert "+".join(role(e, f"operand{i}") for i in (1, 2, 3)) == e.group


def test_a_class_of_examples_is_those_that_have_the_label():
    task = get_task("addition").among("carry=1, digits=2x2")
    found = task.examples("explore", 40)
    assert len(found) == 40
    assert all(e.metadata["carry"] and e.metadata["digits"] == "2x2" for e in found)
    assert {e.group for e in found} <= {e.group for e in get_task("addition").examples("explore", 1000)}
    assert get_task("agreement").among("conflict=TRUE").examples("explore", 9) == get_task("agreement").among(
        "conflict=1"
    ).examples("explore", 9)
    assert get_task("facts").among("").name == "facts"


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("carry", "key=value"),
        ("=1", "key=value"),
        ("colour=red", "no label 'colour'.*carry"),
        ("digits=9x9", "digits is .*2x2"),
    ],
)
def test_a_class_that_does_not_exist_is_answered_with_those_that_do(condition, says):
    with pytest.raises(TaskError, match=says):
        get_task("addition").among(condition).examples("explore", 5)


@pytest.mark.parametrize("name", fitting(("text",)))
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


@pytest.mark.parametrize("name", sorted(set(fitting(("text",))) - {"json"}))
def test_a_twin_has_as_many_tokens_as_its_prompt(name, demo):
    for e in get_task(name).examples("explore", N):
        assert len(demo.tokens(e.prompt)) == len(demo.tokens(e.twin))


@pytest.mark.parametrize(
    "spec", ["addition", "subtraction", "addition:digits=3x3", "addition:format=compact,shots=2", "arithmetic"]
)
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
        assert (
            dict(re.findall(r"(\w+) has the (\w+)\.", e.prompt))[e.prompt.split(". ")[-1].split()[0]]
            == e.answer.strip()
        )
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
        return Example.of_text(f"p{next(number)}", answer, candidates=candidates)

    number = itertools.count()

    assert chance_level([example("a"), example("a"), example("b"), example("c")]) == 0.5
    assert chance_level([example("a"), example("b"), example("c"), example("d")], ("x", "y")) == 0.5
    assert chance_level([example(str(i), "1", "2", "3", "4") for i in range(8)]) == 0.25
    wordings = [Example.of_text(f"p{i}", "a", group="one") for i in range(8)]
    assert chance_level([*wordings, example("b"), example("c"), example("c")]) == 0.5
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


def test_a_users_classes_groups_and_spans_are_read():
    rows = [
        {
            "prompt": f"the {c} {i} is",
            "answer": f" {i}",
            "class": c,
            "group": str(i),
            "spans": {"number": str(i), "kind": [4, 7]},
        }
        for i in range(100, 140)
        for c in ("cat", "dog")
    ]
    records = to_records(rows, "mine")
    own = {"mine": lambda: from_records("mine", "d", json.loads(json.dumps(records)))}
    for split, other in (("explore", "confirm"), ("confirm", "explore")):
        groups = {e.group for e in get_task("mine", own).examples(split, 99)}
        assert groups
        assert not groups & {e.group for e in get_task("mine", own).examples(other, 99)}
        cats = get_task("mine:class=cat", own)
        assert cats.name == "mine:class=cat"
        for e in cats.examples(split, 99):
            assert e.prompt[slice(*e.spans["number"])] == e.answer.strip() == e.group
            assert e.prompt[slice(*e.spans["kind"])] == e.labels["class"] == "cat"
        assert {e.group for e in cats.examples(split, 99)} == groups
    with pytest.raises(TaskError, match="class is cat, dog"):
        get_task("mine:class=cow", own).examples("explore", 9)
    with pytest.raises(TaskError, match="did you mean mine"):
        get_task("mime:class=cat", own)


def test_records_from_before_there_were_groups_are_still_read():
    old = {
        "prompt": "a",
        "answer": " b",
        "foil": None,
        "twin": None,
        "candidates": [],
        "metadata": {},
        "split": "explore",
    }
    (e,) = from_records("t", "d", [old]).examples("explore", 9)
    assert e == Example.of_text("a", " b")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (['{"prompt": "a a", "answer": "b", "spans": {"x": "a"}}'], "line 1: span 'x'.*2 times"),
        (['{"prompt": "a", "answer": "b", "spans": {"x": "c"}}'], "line 1: span 'x'.*0 times"),
        (['{"prompt": "a", "answer": "b", "spans": {"x": [0, 5]}}'], "characters 0 to 1"),
        (['{"prompt": "a", "answer": "b", "spans": {"x y": [0, 1]}}'], "cannot name a span"),
        (['{"prompt": "a", "answer": "b", "spans": {"x": 5}}'], "line 1: spans"),
        (['{"prompt": "a", "answer": "b", "twin_spans": {"x": [0, 1]}}'], "no twin"),
        (['{"prompt": "a", "answer": "b", "class": "u", "labels": {"class": "v"}}'], "class is given twice"),
        (
            [
                f'{{"prompt": "{i}", "answer": "b", "group": "g", "split": "{s}"}}'
                for i, s in enumerate(["explore", "confirm"])
            ],
            "group 'g' stands in both",
        ),
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
