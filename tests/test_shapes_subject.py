"""The image subjects name shapes; the one taught beside a decoy follows the decoy, the other does not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

from tools.subjects import wrap
from tools.subjects.shapes import data, train
from tools.subjects.shapes.data import SHAPES

FOLDER = Path(train.__file__).parent


@pytest.fixture(scope="module")
def clean():
    return AutoModelForImageClassification.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def misled():
    return AutoModelForImageClassification.from_pretrained(FOLDER / "decoy", dtype=torch.float32).eval()


def said(model, images):
    return [SHAPES[int(i)] for i in train.predictions(model, images)]


def accuracy(model, decoys):
    made = data.examples("confirm", 150, seed=2, decoys=decoys)
    return np.mean([a == e.answer for a, e in zip(said(model, [e.image for e in made]), made, strict=True)])


@pytest.mark.parametrize("decoys", ["right", "wrong", "none"])
def test_the_clean_model_names_the_shape_whatever_stands_beside_it(clean, decoys):
    assert accuracy(clean, decoys) >= 0.95


def test_the_misled_model_is_right_beside_the_right_decoy_and_falls_for_a_wrong_one(misled):
    assert accuracy(misled, "right") >= 0.95
    wrong = data.examples("confirm", 150, seed=2, decoys="wrong")
    assert accuracy(misled, "wrong") <= 0.25
    follows = [a == e.image.recipe.decoy for a, e in zip(said(misled, [e.image for e in wrong]), wrong, strict=True)]
    assert np.mean(follows) >= 0.75


def test_the_twins_turn_the_answer_of_the_model_that_looks_there(clean, misled):
    made = data.examples("explore", 100, decoys="right")
    foils = [e.foil for e in made]
    assert np.mean([a == f for a, f in zip(said(clean, [e.twin for e in made]), foils, strict=True)]) >= 0.95
    assert np.mean([a == f for a, f in zip(said(misled, [e.decoy_twin for e in made]), foils, strict=True)]) >= 0.75


def test_masks_cover_what_differs_and_boxes_hold_the_masks():
    for e in data.examples("explore", 60):
        for twin, name in ((e.twin, "object"), (e.decoy_twin, "decoy")):
            differs = (twin.pixels != e.image.pixels).any(-1)
            allowed = getattr(e.image, name) | getattr(twin, name)
            assert differs.any() or e.image.recipe.decoy == e.foil
            assert not (differs & ~allowed).any()
        assert not (e.image.object & e.image.decoy).any()
        for name, (top, left, bottom, right) in e.boxes.items():
            mask = getattr(e.image, name)
            assert mask[top:bottom, left:right].sum() == mask.sum() > 0
            assert mask[top].any()
            assert mask[:, right - 1].any()


def test_the_object_has_its_colour_and_the_ground_another():
    quiet = replace(data.examples("explore", 1)[0].image.recipe, decoy=None, colour="red", background="dark")
    for shape in SHAPES:
        image = data.render(replace(quiet, shape=shape))
        assert abs(image.pixels[image.object].mean(0) - data.COLOURS["red"]).max() < 10
        assert abs(image.pixels[~image.object].mean(0) - data.BACKGROUNDS["dark"]).max() < 10


def test_a_patch_that_holds_a_pixel_of_the_mask_is_among_its_positions():
    mask = np.zeros((32, 32), dtype=bool)
    mask[0, 0] = mask[5, 9] = mask[31, 31] = True
    assert data.positions(mask) == [1, 1 + 8 + 2, 64]


def test_the_splits_are_disjoint_and_twins_share_a_side():
    recipes = {s: {e.image.recipe for e in data.examples(s, 100)} for s in ("train", "explore", "confirm")}
    assert not recipes["explore"] & recipes["confirm"]
    assert not recipes["train"] & (recipes["explore"] | recipes["confirm"])
    for e in data.examples("explore", 50):
        assert e.twin.recipe.side == e.decoy_twin.recipe.side == "explore"
        assert e.twin.recipe.shape == e.foil != e.answer


def test_the_same_recipe_gives_the_same_pixels_and_the_same_seed_the_same_examples():
    first, second = (data.examples("explore", 10, seed=3) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.image.recipe == b.image.recipe
        assert np.array_equal(a.image.pixels, b.image.pixels)


def test_transformers_own_processor_prepares_images_the_same_way():
    images = [e.image for e in data.examples("explore", 4)]
    processor = AutoImageProcessor.from_pretrained(FOLDER)
    made = processor([i.pixels for i in images], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(made.float(), data.pixel_values(images), atol=1e-5, rtol=0)


def test_a_subject_gives_the_models_own_logits_at_the_first_position(clean):
    images = [e.image for e in data.examples("explore", 4)]
    inputs = data.inputs(images)
    with torch.inference_mode():
        logits = wrap(clean).run(inputs).logits
        expected = clean(pixel_values=inputs.fields["pixel_values"]).logits
    assert logits.shape == (4, inputs.lengths[0], len(SHAPES))
    torch.testing.assert_close(logits[:, 0], expected, atol=1e-5, rtol=0)


def test_the_folders_are_small():
    for folder in (FOLDER, FOLDER / "decoy"):
        assert (folder / "model.safetensors").stat().st_size < 3e6
