"""What a planner or a person is shown of a task before anything is asked about it."""

import json
import re

import pytest

from agent.planners.base import View
from agent.planners.chat import messages, opening
from tools.methods.layout import select_components
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.showing import own_examples, task_lines
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import load_subject
from tools.tasks import Example, Task, TaskError, get_task


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo")


def shown(demo, **args) -> str:
    tool = discover()["show_examples"]
    return tool.run(tool.parse(args), Context(demo, OfflineTasks([]), Nothing())).text


def test_an_example_is_shown_token_by_token_with_spans_twin_and_labels(demo):
    text = shown(demo, task="addition:digits=1x1,shots=0", examples=1)
    example = get_task("addition:digits=1x1,shots=0").examples("explore", 1, 0)[0]
    a, b = example.values["a"], example.values["b"]
    assert f"'{a}' '+' '{b}' '=' -> {example.answer!r}" in text  # tokens alone, so that no role is taken for one
    assert f"roles (anchors, not tokens): operand1: '{a}' at -4; operator: '+' at -3; operand2: '{b}' at -2; equals: '=' at -1" in text
    assert f"twin {example.twin!r} -> {example.foil!r}" in text
    assert f"a={a}" in text
    assert "chance 0." in text


def test_a_class_is_shown_alone_and_one_that_is_not_there_is_refused(demo):
    text = shown(demo, task="addition", among="carry=1", examples=3)
    assert text.count("carry=1,") >= 3
    assert "carry=0" not in text
    with pytest.raises(ToolInputError, match="carry"):
        shown(demo, task="addition:shots=0", among="carry=7")


def test_a_text_is_cut_into_tokens_and_unknown_ones_are_counted(demo):
    assert shown(demo, text="7 + ü").endswith("1 of them stand for what the tokenizer does not know")


def test_only_explore_examples_are_shown(demo):
    task = get_task("agreement")
    confirm = {e.prompt for e in task.examples("confirm", 60, 0)}
    explore = {e.prompt for e in task.examples("explore", 60, 0)}
    text = "\n".join(task_lines(demo, task, 0, n=32))
    tokens = {" ".join(f"'{w}'" for w in p.split()) for p in confirm - explore}
    assert not [p for p in tokens if p in text]


@pytest.mark.parametrize("name", ["demo", "translator", "masked"])
def test_a_planner_is_told_of_places_that_its_model_has(name):
    subject = load_subject(name)
    stacks = {n: len(s.blocks) for n, s in subject.stacks.items()}
    (told,) = [m["content"] for m in opening(View("g", name, [], [], stacks=stacks, readout=subject.readout))[:1]]
    places = [p for p in re.findall(r"`([^`\s]+@[\w.]+)`", told) if not p.startswith("stack.")]
    assert len(places) == 4
    for place in places:
        assert select_components(subject, [place], "components"), place
    assert all(f"{n} (blocks 0 to {count - 1})" in told for n, count in stacks.items())
    assert {p.split(".")[0] for p in places} == {next(iter(stacks)), subject.readout}


def test_the_first_message_shows_examples_of_the_users_task_and_is_the_same_on_every_turn(demo, tmp_path):
    own = tmp_path / "sums.jsonl"
    own.write_text("\n".join(json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) for a in range(5) for b in range(5)))

    class Brought(OfflineTasks):
        def made(self):
            from experiments_db.records import TaskData

            return [
                TaskData(name=n, description="", examples=({"prompt": "1+1=", "answer": "2"},), origin=o)
                for n, o in (("sums", "file"), ("mine", "planner"))
            ]

    text = own_examples(demo, Brought([own]), 0)
    assert "sums: " in text
    assert "mine" not in text
    assert "'+'" in text
    first = [messages(View("find it", "demo", [], [], tasks=["sums"], shown=text))[1]["content"] for _ in range(2)]
    assert text in first[0] == first[1]


def counted(drawn):
    """A task without end that notes what is drawn of it; one example in 600 is odd."""

    def draw(split, rng):
        for i in range(100_000):
            drawn.append(i)
            yield Example.of_text(f"{i}=", "1", labels={"kind": "odd" if i % 600 == 599 else "plain", "size": i % 5, "even": i % 2 == 0})

    return Task("counted", "Numbers.", draw)


@pytest.mark.parametrize(
    ("among", "says"),
    [
        ("colour=red", "no label 'colour': there are even, kind, size"),
        ("size=large", "no class size=large: size is 0, 1, 2, 3, 4"),
        ("even=7", "no class even=7: even is False, True"),
        ("kind=odd,colour=red", "no label 'colour'"),
    ],
)
def test_a_class_that_cannot_be_is_refused_after_a_few_examples(demo, among, says):
    drawn = []
    with pytest.raises(TaskError, match=re.escape(says)):
        task_lines(demo, counted(drawn), 0, among)
    assert len(drawn) < 300


@pytest.mark.parametrize("among", ["kind=odd", "size>=3.5", "even=true", "even<7", "last word==", "size=1,word 1!=3"])
def test_a_class_that_can_be_is_looked_for_however_rare_it_is(demo, among):
    assert among in task_lines(demo, counted([]), 0, among)[0]
