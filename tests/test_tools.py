"""Every tool: one declaration that is a sound schema, the right numbers, and clear answers to wrong arguments."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments_db.places import Component
from tools import __main__ as command
from tools import statistics
from tools.methods.describing import fitted
from tools.methods.effects import Condition, donors, score_under
from tools.methods.layout import select_components
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.methods.twins import donor_margin, load_pairs
from tools.subjects import load_subject
from tools.tasks import Example, families, fitting, get_task

TOOLS = discover()
# Those with needs of their own: test_own.py, test_row_regions.py, test_row_user.py, test_row_othello.py.
ELSEWHERE = ("code", "image", "attributes", "counterfactuals")
EXPERIMENTS = [n for n, t in TOOLS.items() if t.kind == "experiment" and t.needs not in ELSEWHERE and n != "converse"]


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo", device="cpu")


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A task whose answers have two tokens each in the demo's vocabulary."""
    file = tmp_path_factory.mktemp("task") / "long.jsonl"
    rows = [{"prompt": f"{a} + {a + 3} =", "answer": f" {200 + 2 * a}", "foil": f" {300 + a}"} for a in range(2, 80)]
    file.write_text("\n".join(json.dumps(r) for r in rows))
    return file


@pytest.fixture
def use(demo, mine):
    """Calls a tool by name on the demo subject."""

    def call(tool, **arguments):
        t = TOOLS[tool]
        return t.run(t.parse(arguments), Context(demo, OfflineTasks([mine]), Nothing()))

    return call


def of(outcome, name, **where):
    found = [m for m in outcome.measurements if m.name == name and m.agrees({k: str(v) for k, v in where.items()})]
    assert len(found) == 1, [m.key for m in found]
    return found[0]


# -- declarations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOOLS)
def test_the_schema_is_strict_and_flat_and_every_argument_is_described(name):
    schema = TOOLS[name].schema()
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"])
    text = json.dumps(schema)
    for word in ('"default"', '"oneOf"', '"$ref"', '"title"', '"prefixItems"', '"allOf"'):
        assert word not in text
    assert all(len(p["description"]) > 10 for p in schema["properties"].values())
    assert len(TOOLS[name].description) > 40


@pytest.mark.parametrize("name", TOOLS)
def test_the_example_is_valid_and_null_stands_for_a_default(name):
    tool = TOOLS[name]
    nulls = {k: None for k, f in tool.args.model_fields.items() if not f.is_required()}
    assert tool.parse({**nulls, **tool.example}) == tool.parse(tool.example)
    with pytest.raises(ToolInputError, match="unknown argument"):
        tool.parse({**tool.example, "no_such_argument": 1})


FEWER = {"patch": 24, "cluster": 64, "attribute": 24}  # examples, where their own example takes seconds


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_gives_the_same_finite_numbers_twice(name, use):
    asked = {**TOOLS[name].example, **({"examples": FEWER[name]} if name in FEWER else {})}
    first, second = use(name, **asked), use(name, **asked)
    assert first == second
    assert first.measurements
    assert all(math.isfinite(m.value) and m.n > 0 for m in first.measurements)
    assert len({m.key for m in first.measurements}) == len(first.measurements)


def test_the_committed_table_of_tools_is_what_the_command_prints(request, capsys):
    assert command.main(["--docs"]) == 0
    assert (request.config.rootpath / "docs" / "tools.md").read_text() == capsys.readouterr().out


# -- numbers -----------------------------------------------------------------------------------------------------------


def by_hand(demo, examples):
    """NLL over all answer tokens, correctness, rank and margin from the plain transformers model, one example at a time."""
    rows = []
    for e in examples:
        prompt = demo.tokenizer(e.prompt)["input_ids"]
        answer = demo.tokenizer(e.answer)["input_ids"]
        foil = demo.tokenizer(e.foil)["input_ids"]
        with torch.inference_mode():
            logits = demo.model(torch.tensor([prompt + answer])).logits[0]
        at = [logits[len(prompt) - 1 + i] for i in range(len(answer))]
        nll = -sum(float(x.log_softmax(-1)[t]) for x, t in zip(at, answer, strict=True))
        right = all(int(x.argmax()) == t for x, t in zip(at, answer, strict=True))
        i = next(i for i, (a, b) in enumerate(zip(answer, foil, strict=False)) if a != b)
        margin = float(at[i][answer[i]] - at[i][foil[i]])
        rows.append((nll, right, int((at[0] > at[0][answer[0]]).sum()) + 1, margin))
    return np.array(rows)


@pytest.mark.parametrize("task", ["addition", "long", "facts"])
def test_loss_is_what_a_hand_sum_over_all_answer_tokens_gives(task, demo, use, mine):
    outcome = use("loss", tasks=[task], examples=24)
    examples = OfflineTasks([mine]).get(task).examples("explore", 24)
    if task == "long":
        assert all(len(demo.tokens(e.answer)) == 2 for e in examples)
    nll, right, rank, margin = by_hand(demo, examples).mean(0)
    assert of(outcome, "nll").value == pytest.approx(nll, abs=1e-4)
    assert of(outcome, "accuracy").value == right
    assert of(outcome, "rank").value == rank
    assert of(outcome, "logit_margin").value == pytest.approx(margin, abs=1e-4)
    assert of(outcome, "nll").n == len(examples)


def test_skipping_a_block_is_a_model_in_which_the_block_does_nothing(demo, use):
    outcome = use("loss", tasks=["addition"], examples=24, operation="skip", blocks=[1])
    handle = demo.model.transformer.h[1].register_forward_hook(lambda _m, args, _out: args[0])
    try:
        nll, right, _, _ = by_hand(demo, get_task("addition").examples("explore", 24)).mean(0)
    finally:
        handle.remove()
    assert of(outcome, "nll").value == pytest.approx(nll, abs=1e-4)
    assert of(outcome, "accuracy").value == right
    assert of(outcome, "nll.delta").value > 0


def test_what_a_decoder_of_text_writes_under_a_program_is_judged(use):
    swept = use("layer_program", tasks=["addition"], sweep="drop_last", written=True, examples=32)
    right = [of(swept, "right", program=p).value for p in ("intact", "drop last 5")]
    assert right[0] > 0.9 > 0.5 > right[1]


def test_a_sweep_says_what_single_programs_say(use):
    swept = use("layer_program", tasks=["addition", "agreement"], sweep="skip_each", examples=16)
    alone = use("layer_program", tasks=["agreement"], operation="skip", blocks=[4], examples=16)
    where = {"task": "agreement", "program": "skip 4"}
    assert of(swept, "nll", **where).value == pytest.approx(of(alone, "nll", **where).value, abs=1e-5)
    intact = use("loss", tasks=["agreement"], examples=16)
    assert of(swept, "nll", task="agreement", program="intact").value == pytest.approx(
        of(intact, "nll").value, abs=1e-5
    )


def test_the_deepest_lens_reading_is_the_model_itself(demo, use):
    outcome = use("lens", prompt="The keys to the cabinet", watch=[" is", " are"])
    with torch.inference_mode():
        logits = demo.model(torch.tensor([demo.tokens("The keys to the cabinet")])).logits[0, -1]
    for word in (" is", " are"):
        token = demo.tokens(word)[0]
        assert of(outcome, "rank", block=5, token=word).value == int((logits > logits[token]).sum()) + 1
        assert of(outcome, "logprob", block=5, token=word).value == pytest.approx(
            float(logits.log_softmax(-1)[token]), abs=1e-4
        )
    task = use("lens", task="agreement", examples=16)
    assert of(task, "nll", block=5).value == pytest.approx(
        of(use("loss", tasks=["agreement"], examples=16), "nll").value, abs=1e-5
    )


def test_number_of_the_subject_decides_which_verb_leads():
    demo = load_subject("demo")
    ranks = {}
    for noun in ("key", "keys"):
        tool = TOOLS["lens"]
        args = tool.parse({"prompt": f"The {noun} to the cabinet", "watch": [" is", " are"]})
        outcome = tool.run(args, Context(demo, OfflineTasks([]), Nothing()))
        ranks[noun] = of(outcome, "rank", block=5, token=" is").value - of(outcome, "rank", block=5, token=" are").value
    assert ranks["key"] < 0 < ranks["keys"]


def test_without_the_norm_the_lens_reads_the_raw_state(demo, use):
    raw = use("lens", prompt="2 + 4 =", watch=["6"], norm=False)
    with torch.inference_mode():
        states = demo.model.transformer(torch.tensor([demo.tokens("2 + 4 =")]), output_hidden_states=True).hidden_states
        logits = states[3][0, -1] @ demo.model.lm_head.weight.T
    assert of(raw, "logprob", block=2).value == pytest.approx(
        float(logits.log_softmax(-1)[demo.tokens("6")[0]]), abs=1e-3
    )


def test_zeroing_an_mlp_is_what_a_plain_hook_gives(demo, use):
    outcome = use("ablate", task="addition", components=["decoder.1.mlp.out@all"], intervention="zero", examples=24)
    handle = demo.model.transformer.h[1].mlp.register_forward_hook(lambda _m, _a, out: out * 0)
    try:
        nll = by_hand(demo, get_task("addition").examples("explore", 24)).mean(0)[0]
    finally:
        handle.remove()
    assert of(outcome, "nll", component="decoder.1.mlp.out").value == pytest.approx(nll, abs=1e-4)


def test_addition_needs_attention_of_block_0_at_the_answer_and_not_of_block_3(use):
    outcome = use("ablate", task="addition", components=["attn@answer"], intervention="resample", examples=64)
    first, third = (of(outcome, "accuracy", component=f"decoder.{b}.attn.out@answer") for b in (0, 3))
    assert first.value < 0.2
    assert third.value >= 0.95
    assert first.value < first.control.low
    assert first.control.difference_high < 0 <= third.control.difference_high
    assert first.control.difference == pytest.approx(first.value - first.control.value)


def test_heads_removed_one_by_one_name_the_heads(use):
    outcome = use(
        "ablate", task="addition", components=["decoder.0.attn.z[*]@answer"], intervention="resample", examples=48
    )
    accuracy = [of(outcome, "accuracy", block=0, part="attn.z", unit_index=h).value for h in range(4)]
    assert min(accuracy) < 0.3
    assert max(accuracy) > 0.9


def test_an_ablation_of_everything_at_once_is_one_set(use):
    outcome = use(
        "ablate",
        task="addition",
        components=["decoder.1-3.attn.out@answer"],
        intervention="mean",
        mode="together",
        examples=24,
    )
    (place,) = {m.place for m in outcome.measurements if m.component}
    assert [c.block for c in place] == [1, 2, 3]


def test_a_multi_token_answer_is_ablated_at_every_position_that_predicts_it(demo, use, mine):
    outcome = use("ablate", task="long", components=["decoder.1.mlp.out@answer"], intervention="zero", examples=24)
    rows = []
    for e in OfflineTasks([mine]).get("long").examples("explore", 24):
        start = len(demo.tokens(e.prompt)) - 1
        silent = torch.ones(1, start + 2, 1)
        silent[:, start:] = 0
        handle = demo.model.transformer.h[1].mlp.register_forward_hook(
            lambda _m, _a, out, keep=silent: out * keep[:, : out.shape[1]]
        )
        rows.append(by_hand_two(demo, e))
        handle.remove()
    assert of(outcome, "nll", component="decoder.1.mlp.out@answer").value == pytest.approx(np.mean(rows), abs=1e-4)


def by_hand_two(demo, example):
    """NLL of a two-token answer from the plain model, which is given the prompt and the first of them."""
    prompt, answer = demo.tokens(example.prompt), demo.tokenizer(example.answer)["input_ids"]
    with torch.inference_mode():
        logits = demo.model(torch.tensor([[*prompt, answer[0]]])).logits[0].log_softmax(-1)
    return -sum(float(logits[len(prompt) - 1 + i][t]) for i, t in enumerate(answer))


def test_patching_everything_at_the_start_moves_the_whole_answer_and_the_last_token_alone_nothing(use):
    whole = use("patch", task="addition", components=["decoder.0.resid_pre@all"], examples=64)
    assert of(whole, "recovered").value == pytest.approx(1, abs=1e-3)
    assert of(whole, "flipped").value == 1
    last = use("patch", task="addition", components=["decoder.0.resid_pre@-1"], examples=24)
    assert of(last, "recovered").value == pytest.approx(0, abs=1e-4)
    after = use("patch", task="addition", components=["decoder.5.resid_post@-1"], direction="denoise", examples=24)
    assert of(after, "recovered").value == pytest.approx(1, abs=1e-3)


def test_what_is_recovered_is_a_ratio_of_two_uncertain_means(demo, use):
    outcome = use("patch", task="addition", components=["decoder.0.attn.out@answer"], examples=80)
    m, base, donor = of(outcome, "recovered"), of(outcome, "margin.base"), of(outcome, "margin.donor")
    gap = donor.value - base.value
    assert m.low < m.value < m.high
    # A gap that were known would leave the spread of the moves alone; here the two vary together.
    ctx = Context(demo, OfflineTasks([]), Nothing())
    task, receivers = load_pairs(ctx, "addition", 80)
    place = Component.parse("decoder.0.attn.out@answer")
    intact, patched = score_under(ctx, task, receivers, [Condition.of(place, "resample(twin)")])
    groups = [e.group for e in receivers]
    moved, whole = patched.foil_margin - intact.foil_margin, donor_margin(ctx, receivers) - intact.foil_margin
    expected = statistics.ratio(moved, whole, groups)
    assert (m.value, m.low, m.high) == pytest.approx((expected.value, expected.low, expected.high), abs=1e-6)
    known = statistics.mean(moved / gap, groups)
    assert (m.low, m.high) != pytest.approx((known.low, known.high), abs=1e-3)


def test_heads_at_several_positions_keep_every_head_apart(use):
    outcome = use("patch", task="addition", components=["decoder.0.attn.z[0-3]@each"], depth=2, examples=16)
    found = {
        (m.derived["unit_index"], m.derived["anchor"]): m.value for m in outcome.measurements if m.name == "recovered"
    }
    assert len(found) == 8
    for (head, anchor), value in found.items():
        alone = use("patch", task="addition", components=[f"decoder.0.attn.z[{head}]@{anchor}"], examples=16)
        assert of(alone, "recovered").value == pytest.approx(value, abs=1e-5)
        assert f"decoder.0.attn.z[{head}]@{anchor}" in outcome.text
    (array,) = [a for a in outcome.arrays if a.name == "recovered"]
    assert len(array.axes[1].labels) == 8


def test_every_ablation_and_patch_has_its_control_beside_it(use):
    for outcome in (
        use("ablate", task="agreement", components=["block@answer"], intervention="zero", examples=16),
        use("patch", task="agreement", components=["head@answer"], examples=16),
    ):
        effects = [m for m in outcome.measurements if m.component is not None]
        assert effects
        assert all(m.control is not None and m.control.n == m.n for m in effects)
        assert all(m.control.difference == pytest.approx(m.value - m.control.value, abs=1e-6) for m in effects)


def test_the_control_of_a_pattern_is_said_to_be_anothers_weights(use):
    outcome = use(
        "patch",
        task="addition",
        components=["decoder.0.attn.pattern[0]@answer", "decoder.0.attn.z[0]@answer"],
        examples=16,
    )
    kinds = {m.derived["part"]: m.control.kind for m in outcome.measurements if m.name == "recovered"}
    assert kinds == {
        "attn.pattern": "another example's weights",
        "attn.z": "random vector of the same norm at the same site",
    }


@pytest.mark.parametrize("n", [2, 5, 40])
def test_nobody_is_their_own_donor_and_those_without_one_are_counted(demo, n):
    examples = [Example.of_text(f"{a} + 3 =", f" {a}") for a in range(n)] + [Example.of_text("1 + 1 + 1 =", " 3")]
    chosen, alone = donors(demo, examples, ["all"], seed=n)
    assert alone == 1
    assert chosen[-1] == n
    assert all(chosen[i] != i and chosen[i] < n for i in range(n))
    assert donors(demo, examples, ["answer"], seed=n)[1] == 0


def test_wordings_of_one_problem_are_no_donors_of_each_other(demo):
    examples = [Example.of_text(f"{a} + 3 =", f" {a}", group="one") for a in range(4)] + [
        Example.of_text("9 + 3 =", " 12", group="other")
    ]
    chosen, alone = donors(demo, examples, ["all"], seed=0)
    assert alone == 0
    assert chosen[:4] == [4] * 4


@pytest.mark.parametrize("how", ["resample(donor)", "resample(twin)", "mean"])
@pytest.mark.parametrize("control", [0, 1])
def test_what_takes_a_components_place_does_not_depend_on_the_batch(demo, how, control):
    task = get_task("addition")
    examples = task.examples("explore", 24)
    places = ["decoder.0.attn.z[0]@answer", "decoder.2.mlp.out"]
    if how == "mean":  # of each example's positions, of which another may have more
        ends = [e.spans["operator"][1] if i % 2 else len(e.prompt) for i, e in enumerate(examples)]
        examples = [replace(e, spans={"sum": (e.spans["operand1"][0], end)}) for e, end in zip(examples, ends, strict=True)]
        places.append("decoder.0.resid_post@sum")
    else:
        places.append("decoder.0.attn.pattern[1]@answer")
    parts = [Component.parse(t) for t in places]
    conditions = [Condition.of(p, how, control=control) for p in parts]
    runs = [
        score_under(Context(demo, OfflineTasks([]), Nothing(), max_tokens=n), task, examples, conditions)
        for n in (32, 4096)
    ]
    for small, large in zip(*runs, strict=True):
        assert small.nll == pytest.approx(large.nll, abs=1e-3)
        assert (small.correct == large.correct).all()


def test_examples_without_a_donor_are_left_out_and_counted(use, demo, tmp_path):
    rows = [
        {"prompt": f"{a} + {b} =", "answer": f" {a + b}", "split": "explore"} for a in range(2, 8) for b in range(2, 9)
    ]
    rows.append({"prompt": "2 + 1 + 1 + 1 =", "answer": " 5", "split": "explore"})
    n = len(rows)
    rows += [{"prompt": f"9 + {b} =", "answer": f" {9 + b}", "split": "confirm"} for b in range(2, 5)]
    file = tmp_path / "mixed.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    ctx, tool = Context(demo, OfflineTasks([file]), Nothing()), TOOLS["minimal_set"]
    args = {
        "task": "mixed",
        "components": ["decoder.0.attn.out@all"],
        "goal": "breaking",
        "intervention": "resample",
        "examples": 64,
    }
    outcome = tool.run(tool.parse(args), ctx)
    assert of(outcome, "accuracy", program="intact").n == n - 1
    assert "1 more examples have no other one to resample from and were left out" in outcome.text


def test_the_intact_completion_is_what_transformers_generates(demo, use):
    outcome = use("generate", prompts=["2 + 4 = 6\n4 + 2 ="], operation="skip", blocks=[0], max_new_tokens=8)
    ids = torch.tensor([demo.tokens("2 + 4 = 6\n4 + 2 =")])
    plain = demo.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)[
        0, ids.shape[1] :
    ]
    assert repr(demo.completion(ids[0].tolist(), plain.tolist())) in outcome.text
    assert of(outcome, "tokens_as_intact").value < 1


# -- wrong arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("loss", {"tasks": ["additoin"]}, "did you mean addition"),
        ("loss", {"tasks": []}, "tasks"),
        ("loss", {"tasks": ["addition"], "split": "confirm"}, "unknown argument"),
        ("loss", {"tasks": ["addition"], "examples": 1}, "greater than or equal to 8"),
        ("loss", {"tasks": ["addition"], "operation": "skip", "blocks": [6]}, "0 to 5"),
        ("loss", {"tasks": ["addition"], "operation": "skip"}, "at least one block"),
        ("loss", {"tasks": ["addition"], "blocks": [1]}, "without an operation"),
        ("layer_program", {"tasks": ["addition"]}, "either"),
        ("layer_program", {"tasks": ["addition"], "sweep": "skip_each", "operation": "skip", "blocks": [1]}, "either"),
        ("layer_program", {"tasks": ["addition"], "operation": "swap", "blocks": [1]}, "exactly two"),
        ("layer_program", {"tasks": ["addition"], "operation": "permute", "blocks": [1, 0]}, "exactly once"),
        ("lens", {}, "either prompt or task"),
        ("lens", {"prompt": "a", "task": "addition"}, "either prompt or task"),
        ("lens", {"prompt": ""}, "no tokens"),
        ("ablate", {"task": "addition", "intervention": "freeze"}, "'zero', 'mean' or 'resample\\(donor\\)'"),
        ("ablate", {"task": "addition", "intervention": "zero", "components": ["decoder.9.mlp.out"]}, "0 to 5"),
        ("ablate", {"task": "addition", "intervention": "zero", "components": ["decoder.0.attn.z[4]"]}, "0 to 3"),
        ("ablate", {"task": "addition", "intervention": "zero", "components": ["decoder.0.soul"]}, "mlp.out"),
        ("ablate", {"task": "addition", "intervention": "zero", "components": ["mlp@subject"]}, "operand1"),
        ("ablate", {"task": "addition", "intervention": "zero", "among": "mood=good"}, "carry"),
        ("patch", {"task": "addition", "components": ["encoder.0.mlp.out"]}, "decoder"),
        ("patch", {"task": "addition", "components": ["decoder.0.resid_pre@-40"]}, "positions"),
        ("generate", {"prompts": []}, "prompts"),
        ("generate", {"prompts": [""]}, "at least one token"),
        ("generate", {"prompts": ["a " * 125], "max_new_tokens": 20}, "128 positions"),
        (
            "make_task",
            {"name": "1x", "description": "d", "prompts": list("abcdefgh"), "answers": list("abcdefgh")},
            "letter",
        ),
        (
            "make_task",
            {"name": "addition", "description": "d", "prompts": list("abcdefgh"), "answers": list("abcdefgh")},
            "already",
        ),
        (
            "make_task",
            {"name": "x", "description": "d", "prompts": list("abcdefgh"), "answers": list("abcdefghi")},
            "as many",
        ),
        ("query", {"where": ["accuracy"]}, "no condition"),
    ],
)
def test_wrong_arguments_are_answered_with_what_would_be_valid(tool, arguments, says, use):
    with pytest.raises(ToolInputError, match=says):
        use(tool, **arguments)


def test_resampling_everywhere_needs_other_examples_of_the_same_length(use):
    with pytest.raises(ToolInputError, match="no other example of their length"):
        use("ablate", task="key_value:pairs=any", components=["attn@all"], intervention="resample", examples=8)


# -- command line ------------------------------------------------------------------------------------------------------


def test_the_command_line_lists_describes_and_runs_tools(capsys):
    assert command.main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in TOOLS)
    assert command.main(["ablate"]) == 0
    assert "`resample(donor)`" in capsys.readouterr().out
    assert command.main(["loss", '{"tasks": ["addition"], "examples": 16}', "--json", "--device", "cpu"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert next(r for r in rows if r["name"] == "accuracy")["value"] == 1.0


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["los"], "did you mean loss"),
        (["loss", "{"], "not JSON"),
        (["loss", "[]"], "JSON object"),
        (["loss", '{"tasks": ["x"]}'], "there is no task"),
        (["loss", '{"tasks": ["addition"]}', "--subject", "./nowhere"], "folder"),
        (["recall", '{"handle": "E1"}'], "record of a run"),
        (["note", '{"text": "x"}'], "record of a run"),
    ],
)
def test_the_command_line_answers_bad_input_in_one_line(argv, says, capsys):
    assert command.main(argv) == 2
    line = capsys.readouterr().err
    assert says in line
    assert line.count("\n") == 1


def test_cumulative_ablation_removes_more_and_more_and_ends_where_together_does(use):
    order = [f"decoder.{b}.mlp.out@answer" for b in (3, 1, 2)]
    common = {"task": "addition", "components": order, "intervention": "zero", "examples": 24}
    more = {
        m.component: m.value
        for m in use("ablate", **common, mode="cumulative").measurements
        if m.name == "nll" and m.component
    }
    assert list(more) == [order[0], f"{order[1]} + {order[0]}", f"{order[1]} + {order[2]} + {order[0]}"]
    alone = use("ablate", **{**common, "components": order[:1]})
    whole = use("ablate", **common, mode="together")
    assert more[order[0]] == pytest.approx(of(alone, "nll", component=order[0]).value, abs=1e-5)
    assert more[list(more)[2]] == pytest.approx(
        next(m.value for m in whole.measurements if m.name == "nll" and m.component), abs=1e-5
    )


def test_random_sets_lie_outside_the_candidates_and_their_spread_is_in_the_interval(use):
    outcome = use(
        "minimal_set", task="addition", components=["decoder.1-2.mlp.out@answer"], goal="breaking", intervention="zero",
        members=["decoder.1.mlp.out@answer"], examples=48,
    )  # fmt: skip
    control = of(outcome, "accuracy", component="decoder.1.mlp.out@answer").control
    assert control.kind == "4 random sets of the same size, outside the candidates"
    others = use(
        "ablate", task="addition", components=["decoder.0,3-5.mlp.out@answer"], intervention="zero", examples=48
    )
    accuracies = [m.value for m in others.measurements if m.name == "accuracy" and m.component]
    assert control.value == pytest.approx(np.mean(accuracies), abs=1e-6)
    assert control.high - control.low > 2 * np.std(accuracies, ddof=1) / 2  # one set breaks the task, the others do not


def test_where_nothing_lies_outside_the_candidates_the_control_is_a_random_vector(use):
    outcome = use(
        "minimal_set", task="addition", components=["mlp.out@answer"], goal="breaking", intervention="zero",
        members=["decoder.1.mlp.out@answer"], examples=32,
    )  # fmt: skip
    control = of(outcome, "accuracy", component="decoder.1.mlp.out@answer").control
    assert control.kind == "random vector of the same norm at the same site"


def test_heads_that_are_named_directly_get_their_own_share_of_the_answer(use):
    outcome = use("attribute", task="addition", method="direct", components=["head", "attn", "mlp"], examples=24)
    direct = {m.component: m.value for m in outcome.measurements if m.name == "direct"}
    assert sum(".attn.z[" in c for c in direct) == 24
    for block in range(6):  # heads add up to what their attention writes, but for the bias of its projection
        heads = sum(direct[f"decoder.{block}.attn.z[{h}]@answer"] for h in range(4))
        assert heads == pytest.approx(direct[f"decoder.{block}.attn.out@answer"], abs=0.3)
    spread = [direct[f"decoder.5.attn.z[{h}]@answer"] for h in range(4)]
    assert max(spread) - min(spread) > 0.05


def test_what_an_experiment_reads_is_in_its_key(use):
    for name, arguments in (
        ("trajectory_anomaly", {"task": "agreement", "other_task": "brackets"}),
        ("probe", {"task": "agreement", "label": "answer"}),
        ("steer", {"task": "agreement", "label": "answer", "value": "are", "components": ["decoder.2.resid_post"]}),
    ):
        tool = TOOLS[name]
        specs = tool.task_specs(tool.parse(arguments))
        assert [s for s, _ in specs] == [arguments[k] for k in ("task", "other_task") if k in arguments]


@pytest.mark.parametrize("reads", [("text",), ("masked",), ("audio",), ("source",), ("image",)])
def test_an_example_call_names_what_the_model_can_be_given(reads):
    for tool in TOOLS.values():
        shown = fitted(tool, reads)
        shown.parse(shown.example)
        named = [shown.example.get(k) for k in ("task", "other_task")] + list(shown.example.get("tasks", ()))
        known = {str(n).partition(":")[0] for n in named if n} & set(families())
        assert known <= set(fitting(reads)) or not (tool.needs != "trees" or "trees" in fitting(reads)), tool.name
        if "label" in shown.example and "label" in tool.args.model_fields and tool.name != "examine":
            (e,) = get_task(shown.example["task"]).examples("explore", 1)
            assert shown.example["label"].partition("%")[0].strip() in {*e.values, *e.spans, "answer"}, tool.name


def test_a_selector_for_every_stack_means_the_one_that_has_the_answer_or_the_span():
    subject = load_subject("translator")
    for anchor, stack in (("answer", "decoder"), ("verb", "encoder")):
        found = select_components(subject, [f"*.0.mlp.out@{anchor}", f"attn.out@{anchor}"])
        assert {c.stack for c in found} == {stack}
    assert {c.stack for c in select_components(subject, ["*.0.mlp.out@-1", "mlp.out"])} == {"encoder", "decoder"}
    assert [c.stack for c in select_components(subject, ["encoder.0.mlp.out@answer"])] == ["encoder"]  # as it was written
