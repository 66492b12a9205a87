"""Queries and keys in one space: attention stays what it is, near means attended, and what lies together is what a head is known
to match; nothing of it with shuffled labels or in a model of random weights.
"""

import re

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from browser import chromium, serving
from transformers import LlamaConfig, LlamaForCausalLM

from agent.lab import Lab
from agent.report.pictures import picture_of
from agent.review.points import points_of
from experiments_db.findings import Statement
from experiments_db.records import Result
from experiments_db.store import Store
from tools.findings.examining import examine
from tools.methods import query_keys
from tools.methods.features import random_twin
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.point_labels import kind_of, point_labels
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import load_subject, wrap
from tools.tasks import get_task

TOOL = discover()["qk_map"]


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo", device="cpu")


@pytest.fixture(scope="module")
def told(demo):
    return use(demo, task="copying", blocks=[0, 1], examples=16)


def use(subject, **arguments):
    return TOOL.run(TOOL.parse(arguments), Context(subject, OfflineTasks([]), Nothing()))


def shares(outcome, label):
    return {m.component: m for m in outcome.measurements if (m.name, m.label) == ("shares", label)}


def value(outcome, name):
    (found,) = [m for m in outcome.measurements if m.name == name]
    return found.value


def test_the_joint_space_leaves_attention_as_it_is_and_undoes_a_mismatch_of_norms():
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(12, 8)) * 0.1, rng.normal(size=(12, 8)) * 5 + 3) for _ in range(6)]
    space = query_keys.joint(pairs, causal=True)
    for q, k in pairs:
        own, moved = (
            query_keys.attention(a, b, causal=True, factor=0.3) for a, b in ((q, k), (space.queries(q), space.keys(k)))
        )
        assert np.abs(own - moved).max() < 1e-12
        assert own[0, 1:].max() == 0
    before = np.mean([query_keys.follows(q, k, causal=True) for q, k in pairs])
    after = np.mean([query_keys.follows(space.queries(q), space.keys(k), causal=True) for q, k in pairs])
    assert after > 0.7 > before + 0.2


def test_distance_follows_the_dot_product_exactly_where_all_keys_are_equally_long():
    rng = np.random.default_rng(1)
    keys = rng.normal(size=(20, 6))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    assert query_keys.follows(rng.normal(size=(20, 6)), keys, causal=False) == pytest.approx(1.0)
    assert np.isnan(query_keys.follows(np.ones((2, 3)), np.ones((2, 3)), causal=False))


def test_the_nearest_come_as_a_stable_sort_of_all_would_give_them():
    rng = np.random.default_rng(0)
    for columns in range(1, 12):
        far = rng.integers(0, 4, size=(40, columns)).astype(float)  # with many that are equally far
        far[rng.random(far.shape) < 0.3] = np.inf
        far[rng.random(far.shape) < 0.1] = np.nan
        for count in (1, 2, 5, 20):
            assert query_keys._smallest(far, count).tolist() == np.argsort(far, axis=1, kind="stable")[:, :count].tolist()


def test_the_nearest_keys_are_those_of_other_sequences():
    q = k = np.arange(6.0)[:, None]
    own = np.array([0, 0, 0, 1, 1, 1])
    assert query_keys.nearest(q, k, own, own, 1)[:, 0].tolist() == [3, 3, 3, 2, 2, 2]


@pytest.mark.parametrize("layout", ["pca", "tsne"])
def test_clusters_in_many_dimensions_lie_apart_in_the_plane_and_the_same_each_time(layout):
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(20, 10)) + shift for shift in (0, 12)])
    found = query_keys.plane(points, layout, 0)
    assert found.shape == (40, 2)
    inside = max(np.ptp(found[:20], 0).max(), np.ptp(found[20:], 0).max())
    assert np.linalg.norm(found[:20].mean(0) - found[20:].mean(0)) > inside / 2
    assert (query_keys.plane(points, layout, 0) == found).all()


def test_on_the_demo_attention_is_unchanged_and_nearness_follows_the_dot_product_better_than_before(told):
    assert value(told, "attention_change") < 1e-6
    assert value(told, "attention_rebuilt") < 1e-4
    rows = [m for m in told.measurements if m.name == "follows"]
    assert len(rows) == 8
    assert all(m.value > 0.9 for m in rows)
    assert all(m.control.difference > 0 for m in rows)


def test_a_head_that_looks_at_the_same_token_has_queries_near_keys_of_that_token_and_most_have_not(told):
    found = shares(told, "token")
    best = max(found.values(), key=lambda m: m.control.difference)
    assert best.component == "decoder.0.attn.pattern[3]"
    assert best.control.difference > 0.5
    assert best.control.difference_low > 0
    assert sum(m.control.difference > 0.3 for m in found.values()) == 1


def test_a_model_of_random_weights_has_no_head_that_matches_as_well(demo):
    blind = use(random_twin(demo, 5), task="copying", blocks=[0], examples=16)
    assert value(blind, "attention_change") < 1e-6
    assert max(m.control.difference for m in shares(blind, "token").values()) < 0.4


@pytest.mark.parametrize(("head", "label", "holds"), [(3, "token", True), (0, "token", False), (3, "position", False), (3, "role", False)])
def test_that_a_head_matches_by_a_label_is_a_finding_of_the_one_that_does(demo, head, label, holds):
    made = Statement(kind="aligns", task="copying", components=f"decoder.0.attn.pattern[{head}]", label=label, examples=64)
    rows = examine(made, Context(demo, OfflineTasks([]), Nothing(), split="confirm" if holds else "explore")).measurements
    assert (max(m.value for m in rows if m.name == "p") < 0.025) == holds


def test_a_model_of_random_weights_aligns_nothing_and_labels_that_there_are_are_named(demo):
    ctx = Context(random_twin(demo, 5), OfflineTasks([]), Nothing())
    made = Statement(kind="aligns", task="copying", components="decoder.0.attn.pattern[3]", label="token", examples=64)
    assert max(m.value for m in examine(made, ctx).measurements if m.name == "p") > 0.025
    with pytest.raises(ToolInputError, match="positions have position, role, token, kind, position before"):
        examine(made.model_copy(update={"label": "colour"}), ctx)


def test_a_label_that_only_goes_with_the_one_that_matters_is_told_from_it():
    """Queries lie near keys of their own token; roles go with tokens most of the time, and matter in nothing beyond that."""
    rng = np.random.default_rng(0)
    token = rng.integers(6, size=200)
    role = np.where(rng.random(200) < 0.9, token % 2, rng.integers(2, size=200))
    at = np.eye(6)[token] + 0.01 * rng.normal(size=(200, 6))
    space, lengths = query_keys.Joint(np.zeros(6), 1.0), [20] * 10
    names = {n: v.astype(str).astype(object) for n, v in (("token", token), ("role", role), ("fine", 2 * token + role))}
    order = rng.permutation(200)
    own, other = query_keys.shared(space, at, at, lengths, names["role"], order)
    assert own.mean() > other.mean() + 0.3  # it looks as if it matched by role
    near, base = query_keys.apart_from(space, at, at, lengths, names["role"], names["token"])
    assert abs(near.mean() - base.mean()) < 0.15  # among keys of other tokens it does not
    near, base = query_keys.apart_from(space, at, at, lengths, names["token"], names["role"])
    assert near.mean() > base.mean() + 0.3
    assert query_keys.determines(names["fine"], names["token"])
    assert not query_keys.determines(names["token"], names["role"])


def test_images_have_rows_columns_and_colours_and_every_head_is_drawn(told):
    seen = use(load_subject("shapes", device="cpu"), task="shape", blocks=[1], examples=8)
    assert {m.label for m in seen.measurements if m.label} == {"position", "role", "row", "column", "colour"}
    for outcome, heads in ((told, 8), (seen, 4)):
        points = next(a for a in outcome.arrays if a.name == "shown:points")
        assert points.shape[0] == heads
        drawn = picture_of(Result(status="ok", text="", arrays=outcome.arrays))
        assert drawn is not None
        assert drawn.startswith(b"\x89PNG")
        broken = points.model_copy(update={"axes": points.axes[:2]})
        assert picture_of(Result(status="ok", text="", arrays=(broken,))) is None


def test_labels_of_positions_are_those_of_what_stands_there(demo):
    examples = get_task("addition").examples("explore", 3)
    lengths = [len(demo.tokens(e.shown)) for e in examples]
    made = point_labels(demo, examples, "decoder", lengths)
    assert {len(v) for v in made.values()} == {sum(lengths)}
    assert made["position before"][1].tolist() == ["0", "1"]
    assert {"operand1", "operand2"} <= set(made["role"])
    assert [kind_of(t) for t in (" 12", "cat", "+", " ")] == ["number", "word", "mark", "blank"]


@pytest.mark.parametrize(("given", "why"), [({"blocks": [9]}, "blocks 0 to 5"), ({"layout": "umap", "blocks": [0]}, "pip install umap-learn")])
def test_wrong_arguments_are_answered_with_what_would_be_valid(demo, given, why, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(ToolInputError, match=why):
        use(demo, task="copying", examples=8, **given)


@pytest.fixture(scope="module")
def page_of_maps(tmp_path_factory):
    """A store with a map of the demo's heads and one of an image model's, and where it is served."""
    folder = tmp_path_factory.mktemp("maps")
    runs = []
    for name, task in (("demo", "copying"), ("shapes", "shape")):
        lab = Lab(name)
        with lab.record(folder / "e.db", f"map {name}", folder / "out") as run:
            lab.run("qk_map", task=task, blocks=[0], examples=8)
        runs.append(run)
    with serving(Store(folder / "e.db")) as url:
        yield [f"{url}/runs/{run}/experiments/E1" for run in runs]


@pytest.mark.parametrize("width", [1280, 390])
def test_on_the_page_points_are_coloured_searched_and_followed_to_where_a_query_looks(page_of_maps, width):
    words, images = page_of_maps
    with chromium() as browser:
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            problems = []
            page.on("pageerror", lambda e, to=problems: to.append(str(e)))
            page.on("console", lambda m, to=problems: to.append(m.text) if m.type == "error" else None)
            page.goto(words)
            page.locator(".points .head").nth(3).click()
            assert page.locator(".points h3").first.inner_text() == "Head 0.3"
            page.get_by_label("coloured by").select_option("token")
            assert "|" in page.locator(".points .legend").inner_text()
            page.get_by_label("search", exact=True).fill("|")
            found = int(re.match(r"(\d+) of", page.locator(".points [role=status]").inner_text())[1])
            assert page.locator(".points .mark:not(.faded)").count() == found > 0
            page.locator(".points .canvas").focus()
            page.keyboard.press("ArrowRight")  # to a point that was searched for
            assert "“|”" in page.locator(".points [aria-live]").inner_text()
            page.keyboard.press("Enter")
            assert page.locator(".points [aria-live]").inner_text().endswith("held")
            query = page.locator(".points circle.mark:not(.faded)").first
            query.dispatch_event("click")
            looks = [float(t) for t in page.locator(".points .sentence li span").all_inner_texts()]
            assert sum(looks) == pytest.approx(1.0, abs=0.05)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert Axe().run(page).violations_count == 0
            page.goto(images)
            page.locator(".points circle.mark").first.dispatch_event("click")
            assert page.locator(".points .over span").count() == 64
            assert page.locator(".points .over span.own").count() <= 1
            page.close()
            assert problems == []


def test_a_map_whose_parts_do_not_fit_together_is_not_shown(told):
    whole = points_of(Result(status="ok", text="", arrays=told.arrays))
    assert len(whole["heads"]) == 8
    assert whole["attention"]["keys"] == max(map(len, whole["tokens"].values()))
    for a in told.arrays:
        others = tuple(b for b in told.arrays if b is not a)
        cut = a.model_copy(update={"shape": (max(1, a.shape[0] - 1), *a.shape[1:]), "axes": ()})
        points_of(Result(status="ok", text="", arrays=(*others, cut)))  # never an error
        if a.name in ("shown:points", "shown:at", "shown:tokens"):
            assert points_of(Result(status="ok", text="", arrays=others)) is None
            assert points_of(Result(status="ok", text="", arrays=(*others, cut))) is None


def test_in_a_model_with_rotary_positions_and_shared_keys_queries_and_keys_are_those_that_attention_uses(demo):
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         vocab_size=len(demo.tokenizer))  # fmt: skip
    found = use(wrap(LlamaForCausalLM(config), demo.tokenizer, name="rotary"), task="copying", examples=8)
    assert value(found, "attention_change") < 1e-6
    assert value(found, "attention_rebuilt") < 1e-4
    assert len([m for m in found.measurements if m.name == "follows"]) == 8
