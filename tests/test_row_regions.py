"""What in an image decides its class: attributions that add up, regions that are where they were drawn, and models of which it is
known whether they look at the object or at the decoy; nothing of it in a model of random weights.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from ports_made import RANDOM, random_case

from agent.report.pictures import picture_of
from experiments_db.findings import Statement
from experiments_db.records import Result
from tools.findings.examining import examine
from tools.methods import regions, saliency
from tools.methods.features import random_twin
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.ports import PortError
from tools.ports.image import from_bytes, masks, to_bytes
from tools.subjects import load_subject
from tools.subjects.shapes import data
from tools.tasks import get_task

TOOL = discover()["attribute_regions"]
OWN, EDGES = "regions by integrated gradients", "regions by edges"


@pytest.fixture(scope="module")
def shapes():
    return load_subject("shapes", device="cpu")


@pytest.fixture(scope="module")
def decoy():
    return load_subject("shapes-decoy", device="cpu")


@pytest.fixture(scope="module")
def told(shapes):
    """What the tool says of images with a wrong decoy, and the result again."""
    return use(shapes, task="shape:decoys=wrong", examples=10, steps=8)


def use(subject, **arguments):
    return TOOL.run(TOOL.parse(arguments), Context(subject, OfflineTasks([]), Nothing()))


def value(outcome, name, variant=OWN, label=None):
    (found,) = [m for m in outcome.measurements if (m.name, m.variant, m.label) == (name, variant, label)]
    return found


# -- the parts ----------------------------------------------------------------------------------------------------------


def test_of_a_linear_model_an_attribution_is_weight_times_difference_from_any_baseline(monkeypatch, shapes):
    rng = np.random.default_rng(0)
    weights, x, base = (torch.from_numpy(rng.normal(size=(1, 3, 6, 6))).float() for _ in range(3))

    def linear(_, pixels):
        score = (pixels * weights).sum((1, 2, 3))
        return torch.stack([score, torch.zeros_like(score)], 1)

    monkeypatch.setattr(saliency, "class_logits", linear)
    found = saliency.integrated(shapes, x, base, torch.tensor([0]), 4, 8)
    assert found.maps == pytest.approx(((x - base) * weights).sum(1).numpy(), abs=1e-5)
    assert abs(found.error).max() < 1e-5
    assert found.whole == pytest.approx(found.maps.sum((1, 2)), abs=1e-5)


def test_integrated_gradients_are_those_of_captum(shapes):
    """The same integral, whatever steps each of the two takes it in."""
    given = saliency.seen(shapes, get_task("shape:decoys=wrong").examples("explore", 6), 2048)
    base = saliency.baseline(given.pixels, shapes, "mean", 0)

    def odds(pixels, classes):
        return saliency.log_odds(saliency.class_logits(shapes, pixels), classes)

    theirs = IntegratedGradients(odds).attribute(given.pixels, base, additional_forward_args=given.said, n_steps=200)
    own = saliency.integrated(shapes, given.pixels, base, given.said, 64, 32, rounds=2).maps
    theirs = theirs.sum(1).detach().numpy()
    assert np.abs(own - theirs).max() < 0.02 * np.abs(theirs).max()
    wrong = saliency.integrated(shapes, given.pixels, torch.zeros_like(base), given.said, 64, 32, rounds=2).maps
    assert np.abs(wrong - theirs).max() > 0.1 * np.abs(theirs).max()  # another baseline is another question


def test_attributions_of_a_real_model_add_up_and_more_steps_bring_them_nearer(shapes):
    given = saliency.seen(shapes, get_task("shape").examples("explore", 4), 2048)
    base = saliency.baseline(given.pixels, shapes, "black", 0)
    few, many = (saliency.integrated(shapes, given.pixels, base, given.said, n, 32, rounds=1) for n in (4, 96))
    assert abs(many.error).sum() < 0.05 * abs(many.whole).sum() < abs(few.error).sum()
    mended = saliency.integrated(shapes, given.pixels, base, given.said, 4, 32, rounds=4)
    assert abs(mended.error).max() < abs(few.error).max() / 4


def test_baselines_are_what_they_are_called(shapes):
    given = saliency.seen(shapes, get_task("shape").examples("explore", 2), 2048)
    made = {name: saliency.baseline(given.pixels, shapes, name, 0) for name in saliency.BASELINES}
    assert to_bytes(shapes, made["black"][0]).max() == 0
    assert to_bytes(shapes, made["mean"][0]).std((0, 1)).max() == 0
    assert to_bytes(shapes, made["noise"][0]).std() > 60
    assert made["blur"].std() < given.pixels.std() < made["noise"].std()
    assert (to_bytes(shapes, from_bytes(shapes, given.raw[0])) == given.raw[0]).all()
    with pytest.raises(ValueError, match="use black, mean, noise, blur"):
        saliency.baseline(given.pixels, shapes, "grey", 0)


def test_edges_of_an_image_are_its_own(shapes):
    given = saliency.seen(shapes, get_task("shape").examples("explore", 2), 2048)
    alone = [saliency.edges(given.pixels[i : i + 1])[0] for i in (0, 1)]
    assert saliency.edges(given.pixels) == pytest.approx(np.stack(alone))
    flat = torch.zeros(1, 3, 8, 8)
    assert saliency.edges(flat).max() == 0


def test_segments_are_the_areas_of_one_colour_and_none_is_small():
    image = np.zeros((40, 40, 3), np.uint8)
    image[5:20, 5:20], image[25:35, 10:36] = (200, 30, 30), (30, 200, 30)
    found = regions.segments(image, 100.0)
    assert len({found[10, 10], found[30, 20], found[0, 0]}) == 3
    assert {len(np.unique(found[5:20, 5:20][2:-2, 2:-2])), len(np.unique(found[27:33, 12:34]))} == {1}
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    sizes = np.bincount(regions.segments(noise, 50.0).ravel())
    assert sizes.min() >= regions.LEAST * noise.shape[0] * noise.shape[1]


def test_regions_are_ranked_by_attribution_a_pixel_until_all_is_covered():
    attribution = np.zeros((10, 10))
    attribution[:5, :5], attribution[6:, 6:] = 1.0, 2.0
    parts = [np.zeros((10, 10), bool) for _ in range(3)]
    parts[0][:5, :5], parts[1][6:, 6:], parts[2][:] = True, True, True
    found = regions.ranked(attribution, parts)
    assert [m.sum() for m in found.order] == [16, 25, 59]
    assert found.first[7, 7]
    assert not found.first[0, 0]
    assert sorted(set(found.value.ravel())) == [0, 0.5, 1]
    assert regions.lies_on(found.first, parts[1])
    assert not regions.lies_on(found.first, parts[0])


def test_a_curve_rises_with_what_is_back_and_a_better_order_has_the_larger_area():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    wanted = np.zeros((32, 32))
    wanted[8:16, 8:16] = 1
    areas = []
    for order in (wanted, -wanted):
        steps = regions.brought_back(image, np.full_like(image, 128), order)
        back = np.array([(k & (wanted > 0)).sum() / 64 for k in steps.kept])
        line = regions.curve(steps, back, 1.0, 0.0)
        assert (np.diff(steps.information) >= 0).all()
        assert (np.diff(line) >= 0).all()
        assert line[-1] == 1
        areas.append(float(regions.area(line[None])[0]))
    assert areas[0] > 0.9 > 0.2 > areas[1]


def test_the_known_pixels_of_a_role_are_those_that_were_drawn_else_its_box(shapes):
    (made,) = data.examples("explore", 1, decoys="wrong")
    (e,) = get_task("shape:decoys=wrong").examples("explore", 1)
    found = masks(shapes, e)
    assert set(found) == {"object", "decoy"}
    assert found["decoy"].sum() == data.CORNER**2
    assert data.box(found["object"]) == tuple(np.array(e.spans["object"])[[1, 0, 3, 2]])
    assert 0 < found["object"].sum() < masks(shapes, replace(e, span_labels={}))["object"].sum()
    assert data.runs(made.image.object).split()[0] == str(int(made.image.object.ravel().argmax()))
    with pytest.raises(PortError, match="do not fill"):
        masks(shapes, replace(e, span_labels={"object": {"pixels": "3 4"}}))


# -- the tool -----------------------------------------------------------------------------------------------------------


def test_the_region_ranked_first_lies_on_the_object_and_edges_lie_on_the_decoy(told):
    assert value(told, "hit", label="object").value > 0.75 > 0.25 > value(told, "hit", EDGES, "object").value
    assert value(told, "hit", EDGES, "decoy").value > 0.75 > 0.25 > value(told, "hit", label="decoy").value
    assert value(told, "decides", label="object").value > 0.25 > value(told, "decides", EDGES, "object").value
    own = value(told, "sic.area")
    assert own.value > value(told, "sic.area", EDGES).value + 0.1
    assert own.control.difference > 0
    assert {m.variant for m in told.measurements if m.name == "completeness_error" and m.value < 0.2} == {
        f"from {b}" for b in saliency.BASELINES
    }
    agreement = {m.variant: m.value for m in told.measurements if m.name == "agreement"}
    assert len(agreement) == 4  # two maps, two models that know nothing
    assert all(abs(v) < 0.5 for v in agreement.values())


def test_each_image_is_kept_with_its_maps_and_drawn(told):
    drawn = picture_of(Result(status="ok", text="", arrays=told.arrays))
    assert drawn is not None
    assert drawn.startswith(b"\x89PNG")
    images, maps = told.arrays
    assert images.shape == (8, 32, 32, 3)
    assert maps.axes[0].labels[0] == "integrated gradients"
    assert all(label.removeprefix("says ") in data.SHAPES for label in maps.axes[1].labels)
    broken = maps.model_copy(update={"axes": maps.axes[:2]})
    assert picture_of(Result(status="ok", text="", arrays=(images, broken))) is None
    assert picture_of(Result(status="ok", text="", arrays=(images,))) is None


def test_a_model_that_does_not_read_images_has_no_regions():
    with pytest.raises(ToolInputError, match="regions are those of images"):
        saliency.seen(load_subject("demo", device="cpu"), get_task("addition").examples("explore", 2), 2048)


def test_the_same_call_runs_on_a_random_model_of_the_class_and_finds_no_role(model_named):
    assert "vit" in RANDOM
    case = random_case("vit", model_named)
    given = saliency.seen(case.subject, case.examples, 64)
    found = saliency.integrated(
        case.subject, given.pixels, saliency.baseline(given.pixels, case.subject, "blur", 0), given.said, 8, 8
    )
    assert found.maps.shape == (3, *given.pixels.shape[2:])


# -- the finding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "task", "label", "split", "holds"),
    [
        ("shapes", "shape:decoys=wrong", "object", "confirm", True),
        ("shapes", "shape:decoys=wrong", "decoy", "explore", False),
        ("decoy", "shape:decoys=wrong", "decoy", "confirm", True),
        ("decoy", "shape:decoys=wrong", "object", "explore", False),
        ("random", "shape:decoys=wrong", "object", "explore", False),
    ],
)
def test_what_decides_is_a_finding_of_the_model_that_looks_there_alone(shapes, decoy, name, task, label, split, holds):
    subject = {"shapes": shapes, "decoy": decoy}.get(name) or random_twin(shapes, 9)
    made = Statement(kind="decides", task=task, label=label, examples=40)
    rows = examine(made, Context(subject, OfflineTasks([]), Nothing(), split=split)).measurements
    assert (max(m.value for m in rows if m.name == "p") < 0.025) == holds


def test_a_role_that_not_every_image_has_decides_nothing(shapes):
    made = Statement(kind="decides", task="shape", label="decoy", examples=40)
    with pytest.raises(ToolInputError, match="not every image of shape has 'decoy'; roles are decoy, object"):
        examine(made, Context(shapes, OfflineTasks([]), Nothing()))
