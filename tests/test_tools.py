"""Every tool: one declaration that is a sound schema, the right numbers, and clear answers to wrong arguments."""

import json
import math

import numpy as np
import pytest
import torch

from tools import __main__ as command
from tools.methods.interventions import derangement
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import load_subject
from tools.tasks import get_task

TOOLS = discover()
EXPERIMENTS = [n for n, t in TOOLS.items() if t.kind == "experiment"]


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
    found = [m for m in outcome.measurements if m.name == name and all(getattr(m, k) == v for k, v in where.items())]
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


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_gives_the_same_finite_numbers_twice(name, use):
    first, second = use(name, **TOOLS[name].example), use(name, **TOOLS[name].example)
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


def test_a_sweep_says_what_single_programs_say(use):
    swept = use("layer_program", tasks=["addition", "agreement"], sweep="skip_each", examples=16)
    alone = use("layer_program", tasks=["agreement"], operation="skip", blocks=[4], examples=16)
    where = {"task": "agreement", "program": "skip 4"}
    assert of(swept, "nll", **where).value == pytest.approx(of(alone, "nll", **where).value, abs=1e-5)
    intact = use("loss", tasks=["agreement"], examples=16)
    assert of(swept, "nll", task="agreement", program="intact").value == pytest.approx(of(intact, "nll").value, abs=1e-5)


def test_the_deepest_lens_reading_is_the_model_itself(demo, use):
    outcome = use("lens", prompt="The keys to the cabinet", watch=[" is", " are"])
    with torch.inference_mode():
        logits = demo.model(torch.tensor([demo.tokens("The keys to the cabinet")])).logits[0, -1]
    for word in (" is", " are"):
        token = demo.tokens(word)[0]
        assert of(outcome, "rank", layer=6, token=word).value == int((logits > logits[token]).sum()) + 1
        assert of(outcome, "logprob", layer=6, token=word).value == pytest.approx(float(logits.log_softmax(-1)[token]), abs=1e-4)
    task = use("lens", task="agreement", examples=16)
    assert of(task, "nll", layer=6).value == pytest.approx(of(use("loss", tasks=["agreement"], examples=16), "nll").value, abs=1e-5)


def test_number_of_the_subject_decides_which_verb_leads():
    demo = load_subject("demo")
    ranks = {}
    for noun in ("key", "keys"):
        tool = TOOLS["lens"]
        args = tool.parse({"prompt": f"The {noun} to the cabinet", "watch": [" is", " are"]})
        outcome = tool.run(args, Context(demo, OfflineTasks([]), Nothing()))
        ranks[noun] = of(outcome, "rank", layer=6, token=" is").value - of(outcome, "rank", layer=6, token=" are").value
    assert ranks["key"] < 0 < ranks["keys"]


def test_without_the_norm_the_lens_reads_the_raw_state(demo, use):
    raw = use("lens", prompt="2 + 4 =", watch=["6"], norm=False)
    with torch.inference_mode():
        states = demo.model.transformer(torch.tensor([demo.tokens("2 + 4 =")]), output_hidden_states=True).hidden_states
        logits = states[3][0, -1] @ demo.model.lm_head.weight.T
    assert of(raw, "logprob", layer=3).value == pytest.approx(float(logits.log_softmax(-1)[demo.tokens("6")[0]]), abs=1e-3)


def test_zeroing_an_mlp_is_what_a_plain_hook_gives(demo, use):
    outcome = use("ablate", task="addition", component="mlp", ablation="zero", layers=[1], position="all", examples=24)
    handle = demo.model.transformer.h[1].mlp.register_forward_hook(lambda _m, _a, out: out * 0)
    try:
        nll = by_hand(demo, get_task("addition").examples("explore", 24)).mean(0)[0]
    finally:
        handle.remove()
    assert of(outcome, "nll", site="1.mlp").value == pytest.approx(nll, abs=1e-4)


def test_addition_needs_attention_of_block_0_at_the_answer_and_not_of_block_3(use):
    outcome = use("ablate", task="addition", component="attn", ablation="resample", examples=64)
    assert of(outcome, "accuracy", site="0.attn").value < 0.2
    assert of(outcome, "accuracy", site="3.attn").value >= 0.95
    assert of(outcome, "accuracy", site="0.attn").value < of(outcome, "accuracy", site="0.attn").control.low


def test_heads_removed_one_by_one_name_the_heads(use):
    outcome = use("ablate", task="addition", component="head", ablation="resample", layers=[0], examples=48)
    accuracy = [of(outcome, "accuracy", layer=0, head=h).value for h in range(4)]
    assert min(accuracy) < 0.3
    assert max(accuracy) > 0.9


def test_an_ablation_of_everything_at_once_is_one_target(use):
    outcome = use("ablate", task="addition", component="attn", ablation="mean", layers=[1, 2, 3], together=True, examples=24)
    assert {m.site for m in outcome.measurements if m.site} == {"1+2+3.attn"}


def test_patching_everything_at_the_start_moves_the_whole_answer_and_the_last_token_alone_nothing(use):
    whole = use("patch", task="addition", site="resid_pre", layers=[0], positions="all", examples=24)
    assert of(whole, "recovered").value == pytest.approx(1, abs=1e-3)
    assert of(whole, "flipped").value == 1
    last = use("patch", task="addition", site="resid_pre", layers=[0], positions="last", examples=24)
    assert of(last, "recovered").value == pytest.approx(0, abs=1e-4)
    after = use("patch", task="addition", site="resid_post", layers=[5], positions="last", direction="denoise", examples=24)
    assert of(after, "recovered").value == pytest.approx(1, abs=1e-3)


def test_every_ablation_and_patch_has_its_control_beside_it(use):
    for outcome in (
        use("ablate", task="agreement", component="block", ablation="zero", examples=16),
        use("patch", task="agreement", site="head", examples=16),
    ):
        effects = [m for m in outcome.measurements if m.site is not None]
        assert effects
        assert all(m.control is not None and m.control.n == m.n for m in effects)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_nobody_is_their_own_donor_and_those_without_a_group_are_counted(n):
    donors, alone = derangement([0] * n + ["other"], torch.Generator().manual_seed(n))
    assert alone == 1
    assert all(int(donors[i]) != i for i in range(n))
    assert sorted(donors.tolist()) == list(range(n + 1))


def test_the_intact_completion_is_what_transformers_generates(demo, use):
    outcome = use("generate", prompts=["2 + 4 = 6\n4 + 2 ="], operation="skip", blocks=[0], max_new_tokens=8)
    ids = torch.tensor([demo.tokens("2 + 4 = 6\n4 + 2 =")])
    plain = demo.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert repr(demo.completion(ids[0].tolist(), plain.tolist())) in outcome.text
    assert of(outcome, "tokens_as_intact").value < 1


# -- wrong arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("loss", {"tasks": ["additoin"]}, "did you mean addition"),
        ("loss", {"tasks": []}, "tasks"),
        ("loss", {"tasks": ["addition"], "split": "test"}, "explore"),
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
        ("ablate", {"task": "addition", "component": "mlp", "ablation": "freeze"}, "'zero', 'mean' or 'resample'"),
        ("ablate", {"task": "addition", "component": "mlp", "ablation": "zero", "layers": [9]}, "0 to 5"),
        ("ablate", {"task": "addition", "component": "head", "ablation": "zero", "heads": [4]}, "0 to 3"),
        ("ablate", {"task": "addition", "component": "mlp", "ablation": "zero", "heads": [1]}, "not head"),
        ("ablate", {"task": "addition", "component": "head", "ablation": "zero", "together": True}, "for sets of heads use minimal_set"),
        ("patch", {"task": "json", "site": "resid_pre"}, "twin"),
        ("patch", {"task": "addition", "site": "resid_pre", "layers": [-1]}, "0 to 5"),
        ("generate", {"prompts": []}, "prompts"),
        ("generate", {"prompts": [""]}, "at least one token"),
        ("generate", {"prompts": ["a " * 125], "max_new_tokens": 20}, "128 positions"),
        ("make_task", {"name": "1x", "description": "d", "prompts": list("abcdefgh"), "answers": list("abcdefgh")}, "letter"),
        ("make_task", {"name": "addition", "description": "d", "prompts": list("abcdefgh"), "answers": list("abcdefgh")}, "already"),
        ("make_task", {"name": "x", "description": "d", "prompts": list("abcdefgh"), "answers": list("abcdefghi")}, "as many"),
        ("query", {"where": ["accuracy"]}, "no condition"),
    ],
)
def test_wrong_arguments_are_answered_with_what_would_be_valid(tool, arguments, says, use):
    with pytest.raises(ToolInputError, match=says):
        use(tool, **arguments)


def test_resampling_everywhere_needs_other_examples_of_the_same_length(use):
    with pytest.raises(ToolInputError, match="no other example of their length"):
        use("ablate", task="key_value:pairs=any", component="attn", ablation="resample", position="all", examples=8)


# -- command line ------------------------------------------------------------------------------------------------------


def test_the_command_line_lists_describes_and_runs_tools(capsys):
    assert command.main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in TOOLS)
    assert command.main(["ablate"]) == 0
    assert "`resample`" in capsys.readouterr().out
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
    common = {"task": "addition", "component": "mlp", "ablation": "zero", "layers": [3, 1, 2], "examples": 24}
    more = {m.site: m.value for m in use("ablate", **common, cumulative=True).measurements if m.name == "nll" and m.site}
    assert list(more) == ["3.mlp", "3+1.mlp", "3+1+2.mlp"]
    alone = use("ablate", **{**common, "layers": [3]})
    whole = use("ablate", **common, together=True)
    assert more["3.mlp"] == pytest.approx(of(alone, "nll", site="3.mlp").value, abs=1e-5)
    assert more["3+1+2.mlp"] == pytest.approx(of(whole, "nll", site="1+2+3.mlp").value, abs=1e-5)
    with pytest.raises(ToolInputError, match="choose one"):
        use("ablate", **common, cumulative=True, together=True)
