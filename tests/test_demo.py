"""The shipped demo model can do what it was taught and cannot do what it was not."""

import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tools import statistics
from tools.engine.executor import Variant
from tools.methods.scoring import score
from tools.subjects import DEMO, load_subject
from tools.subjects.demo import train
from tools.tasks import chance_level, fitting, get_task


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo")


def correct(demo, spec, n=128):
    task = get_task(spec)
    examples = task.examples("confirm", n, seed=9)
    scores, _ = score(demo, examples, lambda _: [Variant(tuple(range(6)))], choices=task.choices)
    return scores[0].correct, chance_level(examples, task.choices)


@pytest.mark.parametrize(
    "spec",
    ["addition", "addition:format=compact", "subtraction", "agreement", "indirect_object", "brackets", "copying"],
)
def test_it_can_do_what_it_was_taught_on_items_it_never_saw(spec, demo):
    assert correct(demo, spec)[0].mean() >= 0.95


def test_it_cannot_recall_key_value_pairs(demo):
    right, chance = correct(demo, "key_value")
    assert statistics.proportion(right, range(len(right))).high < chance


def test_the_table_beside_it_says_what_is_measured(demo):
    table = dict(re.findall(r"\| ([\w:=,]+) \| [\d.]+ \(n=\d+\) \| ([\d.]+) \(n", (DEMO / "README.md").read_text()))
    for spec in ("addition", "key_value", "indirect_object"):
        assert abs(float(table[spec]) - correct(demo, spec)[0].mean()) <= 0.05


def test_it_is_an_ordinary_small_transformers_folder():
    assert (DEMO / "model.safetensors").stat().st_size < 3.5e6
    model = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    out = model.generate(
        **tokenizer("2 + 4 = 6\n2 + 5 = 7\n4 + 2 =", return_tensors="pt"), max_new_tokens=1, do_sample=False
    )
    assert tokenizer.decode(out[0, -1]).strip() == "6"


def test_numbers_are_one_token_spaces_do_not_matter_and_no_task_needs_an_unknown_token(demo):
    assert all(len(demo.tokens(str(n))) == 1 for n in range(199))
    assert demo.tokens("12+34=") == demo.tokens("12 + 34 =")
    unknown = demo.tokenizer.unk_token_id
    for name in fitting(("text",)):
        for e in get_task(name).examples("explore", 40):
            assert unknown not in demo.tokens(e.prompt + e.answer)


def test_the_same_seed_trains_the_same_weights_and_another_does_not():
    def weights(seed):
        model, _ = train.train(seed, steps=2, log=False)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    first = weights(0)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))
