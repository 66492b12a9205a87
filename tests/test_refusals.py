"""What is refused says what would be valid, and every experiment's text says what it is about."""

import itertools
import re

import benches
import pytest

from agent.loop.executor import ToolRunner
from agent.loop.record import RunRecord, RunTasks
from agent.loop.strongest import in_a_line
from experiments_db.findings import Statement
from experiments_db.places import Component
from experiments_db.records import Run
from experiments_db.store import Store
from tools.findings.examining import bench_for, examine
from tools.findings.kind import kind_of
from tools.findings.sealing import statement_of
from tools.methods.anchors import span_positions
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.methods.twins import load_pairs
from tools.subjects import load_subject
from tools.tasks import Example, Task
from tools.tasks.user import read_jsonl

HEAD = "decoder.0.attn.z[0]@answer"


@pytest.fixture(scope="module")
def ctx():
    return Context(load_subject("demo"), OfflineTasks([]), Nothing())


def steers(**fields):
    return kind_of("steers").complete(Statement(kind="steers", task="addition", **{"components": HEAD, "label": "carry", **fields}))


@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ({"interventions": ("zero",)}, "interventions ['add(label, 2)'], 2 the dose"),
        ({"interventions": ("zero", "add(label, 2)")}, "interventions ['add(label, 2)'], 2 the dose"),
        ({"interventions": ("scale(2)",)}, "interventions may be add(label, 2)"),
        ({"interventions": ("add(label, 2)", "add(label, 3)")}, "['add(label, 2)'], 2 the dose, or leave interventions out"),
        ({"components": f"{HEAD} + decoder.0.mlp.out@answer"}, "one component, not 2: name one"),
    ],
)  # fmt: skip
def test_a_refused_push_says_which_would_be_valid(fields, valid):
    with pytest.raises(ToolInputError) as refused:
        steers(**fields)
    assert valid in str(refused.value)
    assert "resample" not in str(refused.value)


def test_a_label_of_many_values_is_refused_with_those_that_can_be_steered(ctx):
    with pytest.raises(ToolInputError, match=r"operand1 has \d+: use .*carry"):
        examine(steers(label="operand1", examples=64), ctx)


def test_a_kind_that_takes_a_foil_says_so_where_there_is_none():
    _, subject, _ = benches.compiled("previous")
    bare = Task("t", "without foils", lambda _, rng: iter(Example.of_text(f"a b c {i}", "a") for i in range(64)))
    s = Statement(kind="steers", task="t", components=HEAD, label="answer", interventions=("add(label, 2)",))
    with pytest.raises(ToolInputError, match="steers takes examples with a foil, a wrong answer of its own"):
        bench_for(s, benches.context(subject, bare, split="explore"))


def test_an_example_without_spans_is_named_where_one_is_asked_for(ctx):
    with pytest.raises(ToolInputError, match=r"the example '1 \+ 2 =' has no such span; its anchors are answer, and -1, -2"):
        span_positions(ctx.subject, Example.of_text("1 + 2 =", "3"), "operand1")


@pytest.fixture
def runner(tmp_path):
    def made(name, *tasks):
        store = Store(tmp_path / f"{name}.db")
        store.put_run(Run(name="r", goal="g", subject=name, planner="p", settings={}))
        book = RunTasks(store, "r") if not tasks else benches.Tasks(*tasks)
        return ToolRunner(load_subject(name, device="cpu"), RunRecord(store, "r"), book, 0, lifted=True)

    return made


@pytest.mark.parametrize(
    ("subject", "tool", "given", "lacks"),
    [
        ("demo", "ablate", {"task": "brackets", "components": ["decoder.0.mlp.out@-7"], "intervention": "zero"}, "anchor -7"),
        ("demo", "probe", {"task": "brackets", "components": ["decoder.0.resid_post@-7"], "label": "innermost", "dimensions": 8}, "anchor -7"),
        ("demo", "examine", {"kind": "necessary", "task": "brackets", "components": ["decoder.0.mlp.out@-7"], "among": "depth<4"}, "anchor -7"),
        ("shapes", "patch", {"task": "shape", "components": ["*.2.attn.out@decoy"]}, "anchor 'decoy'"),
        ("translator", "ablate", {"task": "translation", "components": ["encoder.0.mlp.out@object_adjective"], "intervention": "resample(donor)"}, "anchor 'object_adjective'"),
    ],
)  # fmt: skip
def test_an_anchor_that_some_examples_lack_is_refused_with_a_class_in_which_all_have_it(runner, subject, tool, given, lacks):
    running, tool = runner(subject), discover()[tool]
    with pytest.raises(ToolInputError, match=lacks) as refused:
        running.run(tool, tool.parse({**given, "examples": 40}))
    among = re.search(r"; name a class that has it: among='(.*?)' \((\d+) of (\d+) examples to explore\)", str(refused.value))
    assert 8 <= int(among[2]) < int(among[3])
    assert among[1].startswith(given.get("among", ""))
    found = running.run(tool, tool.parse({**given, "examples": 40, "among": among[1]}))
    assert found.outcome.status == "ok"


def test_examples_too_different_to_stand_in_for_each_other_are_refused_with_a_class_of_one_length(runner):
    rows = [Example.of_text("".join(p) + "[", "]", metadata={"size": "small"}) for p in itertools.product("([{", repeat=3)]
    rows += [Example.of_text("{" * n + "[", "]", metadata={"size": "large"}) for n in range(5, 21)]
    task = Task("t", "lengths", lambda _, rng: iter(rng.sample(rows, len(rows))))
    tool = discover()["ablate"]
    given = {"task": "t", "components": ["decoder.0.mlp.out"], "intervention": "resample(donor)"}
    running = runner("demo", task)
    with pytest.raises(ToolInputError, match="have no other example of their length") as refused:
        running.run(tool, tool.parse({**given, "examples": 16}))
    among = re.search(r"among='(.*?)' \(27 of 43", str(refused.value))
    assert among[1] == "size=small"
    assert running.run(tool, tool.parse({**given, "examples": 16, "among": among[1]})).outcome.status == "ok"


def test_no_class_is_named_in_which_examples_would_have_none_to_stand_in_for_them_again(runner):
    rows = [Example.of_text("{" * n + "[", "]", metadata={"side": "a"}) for n in range(1, 21, 2)]
    rows += [Example.of_text("(" * n + "[", "]", metadata={"side": "b"}) for n in range(1, 21)]
    task = Task("t", "every other length on one side, all on the other", lambda _, rng: iter(rng.sample(rows, len(rows))))
    tool = discover()["ablate"]
    with pytest.raises(ToolInputError, match=r"or a class of them \(among\)$"):
        runner("demo", task).run(tool, tool.parse({"task": "t", "components": ["decoder.0.mlp.out"], "intervention": "resample(donor)"}))


def test_an_anchor_that_no_example_has_is_refused_without_a_class(runner):
    tool = discover()["ablate"]
    with pytest.raises(ToolInputError, match="its anchors are answer, innermost_bracket, outermost_bracket, and -1, -2$"):
        runner("demo").run(tool, tool.parse({"task": "brackets", "components": ["mlp.out@nowhere"], "intervention": "zero"}))


CLASS = "carry=1"
ABOUT_A_CLASS = {
    "ablate": {"components": [HEAD], "intervention": "zero"}, "patch": {"components": [HEAD]},
    "path_patch": {"components": [HEAD], "receiver": "decoder.logits@answer"}, "attribute": {"method": "patching", "components": [HEAD]}, "lens": {"tasks": ["addition"]},
    "loss": {"tasks": ["addition"]}, "mistakes": {}, "examine": {"kind": "necessary", "components": [HEAD]},
    "layer_program": {"tasks": ["addition"], "operation": "skip", "blocks": [5]},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(ABOUT_A_CLASS))
def test_the_first_lines_name_the_class_and_what_effects_are_compared_with(ctx, name):
    tool = discover()[name]
    given = {"task": "addition", **ABOUT_A_CLASS[name]}
    known = {k: v for k, v in given.items() if k in tool.args.model_fields}
    size = "pairs" if "pairs" in tool.args.model_fields else "examples"
    outcome = tool.run(tool.parse({**known, "among": CLASS, size: 16}), ctx)
    first = " ".join(outcome.text.splitlines()[:2])
    assert CLASS in first
    if name in ("ablate", "patch", "path_patch"):
        controls = {m.control.kind for m in outcome.measurements if m.control}
        assert all(f"against {kind}" in first or f"and {kind}" in first for kind in controls)
        assert controls
        assert all(kind in in_a_line(outcome.measurements) for kind in controls)


@pytest.mark.parametrize("written", ["resample", "resample(donor)"])
def test_one_name_of_an_intervention_is_said_and_both_are_understood(ctx, written):
    for name in ("ablate", "minimal_set"):
        tool = discover()[name]
        assert tool.parse({**tool.example, "intervention": written}).intervention == "resample(donor)"
        assert "`resample`" not in tool.description
    asked = {"kind": "necessary", "task": "addition", "components": [HEAD], "interventions": [written]}
    assert statement_of(ctx, asked).interventions == ("resample(donor)",)


def test_a_path_may_end_at_the_logits_however_they_are_written(ctx):
    asked = {"kind": "sends", "task": "addition"}
    paths = {statement_of(ctx, {**asked, "path": f"{a}.3.mlp.out@answer->{b}"}).path for a in ("decoder", "*") for b in ("logits", "*.logits", " decoder.logits ")}
    assert paths == {"decoder.3.mlp.out@answer -> decoder.logits"}
    sent = examine(statement_of(ctx, {**asked, "path": "decoder.5.mlp.out@answer -> logits", "examples": 40}), ctx)
    assert [m.component for m in sent.measurements if m.name == "effect"] == ["decoder.5.mlp.out@answer -> decoder.logits"]


@pytest.mark.parametrize(
    ("path", "valid"),
    [
        ("decoder.3.mlp.out@answer -> foo", "the last may be logits"), ("decoder.3.mlp.out", "joined by ' -> '"),
        ("logits -> decoder.3.mlp.out", "cannot send: senders are attn.q"), ("decoder.3.mlp.out -> decoder.2.mlp.out", "come before receivers"),
    ],
)  # fmt: skip
def test_a_path_that_cannot_be_says_what_can(ctx, path, valid):
    with pytest.raises(ToolInputError) as refused:
        examine(statement_of(ctx, {"kind": "sends", "task": "addition", "path": path, "examples": 40}), ctx)
    assert valid in str(refused.value)
    assert "Value error" not in str(refused.value)


def test_no_message_bears_the_prefix_of_the_library_that_checked(ctx, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"prompt": "a b", "answer": "c", "spans": {"x": [1, 9]}}\n{"prompt": "a b", "answer": "a b", "audio": "x.wav"}\n')
    tries = [
        lambda: discover()["show_examples"].parse({"task": "addition", "text": "a"}),
        lambda: statement_of(ctx, {"kind": "necessary", "task": "addition", "components": [HEAD], "interventions": ["zap"]}),
        lambda: ctx.tasks.get("addition:digits=9x9"),
        lambda: read_jsonl(tmp_path / "t.jsonl"),
        lambda: Component(stack="decoder", part="mlp.out"),
    ]
    for attempt in tries:
        with pytest.raises(ValueError) as refused:
            attempt()
        assert len(str(refused.value)) > 20
        assert "Value error" not in str(refused.value)


def test_of_several_tasks_the_one_that_cannot_be_measured_is_named(ctx):
    tool = discover()["loss"]
    with pytest.raises(ToolInputError, match=r"task agreement: .* have no label 'carry': .*; nothing was measured: mend it"):
        tool.run(tool.parse({"tasks": ["addition", "agreement"], "among": "carry=1", "examples": 8}), ctx)
    with pytest.raises(ToolInputError) as alone:
        tool.run(tool.parse({"tasks": ["agreement"], "among": "carry=1", "examples": 8}), ctx)
    assert "nothing was measured" not in str(alone.value)


def test_too_few_twins_are_counted_and_the_tool_that_derives_some_is_named(ctx):
    alone = Task("t", "each of another length", lambda _, rng: iter(Example.of_text("a " * i + "b =", f"{i}") for i in range(1, 20)))
    with pytest.raises(ToolInputError, match=r"needs examples with a twin: .*t has 0 among \d+ on this subject; make_task derives some"):
        load_pairs(benches.context(ctx.subject, alone, split="explore"), "t", 12)
