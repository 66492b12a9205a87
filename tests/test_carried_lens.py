"""A tuned lens carried to a model that was trained on: much of its advantage survives; that of another model's does not."""

import copy
import shutil

import pytest
import torch

from tools.methods.features import random_twin
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import built_in, load_subject
from tools.tasks import get_task

STEPS = 40


def saved(subject, model, folder):
    shutil.copytree(built_in()["demo"], folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of the demo trained on for a few steps on two of its tasks alone, and of one with its shape and random weights."""
    folder, demo = tmp_path_factory.mktemp("models"), load_subject("demo")
    model = copy.deepcopy(demo.model).train()
    texts = [e.prompt + e.answer for name in ("copying", "subtraction") for e in get_task(name).examples("explore", 100)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        for _ in range(STEPS):
            chosen = [demo.tokens(texts[i]) for i in torch.randint(len(texts), (16,), generator=generator).tolist()]
            longest = max(map(len, chosen))
            rows = torch.tensor([r + [-100] * (longest - len(r)) for r in chosen])
            mask = (rows >= 0).long()
            loss = model(input_ids=rows.clamp(min=0), attention_mask=mask, labels=rows).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    other = random_twin(demo, 4).model
    return {"tuned": saved(demo, model.eval(), folder / "tuned"), "random": saved(demo, other, folder / "random")}


def call(subject, **arguments):
    tool = discover()["tuned_lens"]
    asked = {"tasks": ["addition", "copying"], "examples": 176, "steps": 20, **arguments}
    return tool.run(tool.parse(asked), Context(load_subject(subject), OfflineTasks([]), Nothing(), fresh=True))


def shares(outcome):
    return [m for m in outcome.measurements if m.name == "survives"]


@pytest.fixture(scope="module")
def carried(models):
    """By (model that is studied, model whose lens is read)."""
    return {
        ("tuned", "demo"): call(models["tuned"], lens_of="demo"),
        ("random", "demo"): call(models["random"], lens_of="demo"),
    }


def test_most_of_the_advantage_survives_fine_tuning_at_every_depth_beyond_a_lens_of_random_weights(carried):
    found = shares(carried["tuned", "demo"])
    assert len(found) == 6
    assert all(0.5 < m.low < m.value < m.high < 1 for m in found)
    assert all(m.control.difference_low > 0 for m in found)
    assert [m.component for m in found] == ["decoder.embed", *(f"decoder.{b}.resid_post" for b in range(5))]


def test_on_a_model_of_other_weights_nothing_of_it_survives(carried):
    assert all(m.value < 0.2 for m in shares(carried["random", "demo"]))


def test_whose_lens_it_is_stands_on_record_and_the_same_comes_out_again(models, carried):
    mine = carried["tuned", "demo"]
    sha = load_subject("demo").fingerprint[:12]
    assert {m.variant for m in shares(mine)} == {f"lens of demo ({sha})"}
    assert f"KL lens of demo ({sha})" in mine.text
    assert call(models["tuned"], lens_of="demo").measurements == mine.measurements


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"lens_of": "demo"}, "the very model"),
        ({"lens_of": "host"}, "have to be alike"),
        ({"lens_of": "gpt2"}, "is no folder and none of"),
        ({"lens_of": "shapes", "prompt": "3 + 4 ="}, "leave out prompt"),
    ],
)
def test_a_lens_that_cannot_be_carried_is_refused(arguments, says):
    with pytest.raises(ToolInputError, match=says):
        call("demo", **{"examples": 16, "steps": 0, **arguments})
