"""The interpretability illusion: a unit that is one thing on one corpus and another elsewhere is flagged, one that is the same is
not, and of a model of random weights nothing is said.
"""

import copy
import io
import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from agent.loop.goal import GoalError, unit_named_in
from agent.loop.offering import usable
from agent.report.pictures import picture_of, words_of
from agent.run import main
from experiments_db.findings import Statement
from experiments_db.records import Axis, Result
from experiments_db.store import Store
from tools.findings.contrast import Contrast, p_absent
from tools.findings.examining import examine
from tools.findings.kind import Bench
from tools.findings.kinds import mixed
from tools.methods.concepts import Corpus, compare, inside
from tools.methods.dictionaries import name_of, random_dictionary, read_dictionary, train
from tools.methods.features import random_twin
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.point_labels import kind_of
from tools.methods.scoring import microbatches
from tools.methods.tool import Context, ToolInputError, discover
from tools.ports import port_of
from tools.subjects import load_subject
from tools.tasks import get_task

TOOL = discover()["cross_dataset"]
CORPORA = ["addition", "copying"]
MIXED, PURE = 7, 8  # neurons of block 0 that are written over
HEIGHT = 6.0


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo", device="cpu")


@pytest.fixture(scope="module")
def planted(demo):
    """The demo with a neuron for `=` of additions and three letters of copying, and one for marks in both."""
    subject = random_twin(demo, 0)
    subject.model.load_state_dict(copy.deepcopy(demo.model.state_dict()))
    states, tokens = [], []
    mlp = subject.model.transformer.h[0].mlp
    for task in CORPORA:
        examples = get_task(task).examples("explore", 256, 0)
        for batch in microbatches(subject, examples, 4096):
            kept = []
            handle = mlp.register_forward_pre_hook(lambda _, given, kept=kept: kept.append(given[0].detach()))
            subject.run(batch.inputs)
            handle.remove()
            for row, index in enumerate(batch.indices):
                said = port_of(subject).labels(subject, examples[index])
                states.append(kept[0][row, : len(said)])
                tokens += said
    x = torch.cat(states).double()
    x1 = torch.cat([x, torch.ones(len(x), 1)], 1)
    gram = x1.T @ x1 + 1e-3 * torch.eye(x1.shape[1])
    for neuron, fires in ((MIXED, lambda t: t in ("=", "m", "r", "t")), (PURE, lambda t: kind_of(t) == "mark")):
        y = torch.tensor([2.0 * HEIGHT * fires(t) - HEIGHT for t in tokens]).double()
        weights = torch.linalg.solve(gram, x1.T @ y).float()
        with torch.no_grad():
            mlp.c_fc.weight[:, neuron] = weights[:-1]
            mlp.c_fc.bias[neuron] = weights[-1]
    return subject


@pytest.fixture(scope="module")
def told(planted):
    return use(planted, tasks=CORPORA, components=[f"*.0.mlp.act[{MIXED},{PURE}]"], examples=96)


def context(subject, **more):
    return Context(subject, OfflineTasks([]), Nothing(), **more)


def use(subject, **arguments):
    return TOOL.run(TOOL.parse(arguments), context(subject))


def of(outcome, name, component):
    (found,) = [m for m in outcome.measurements if m.name == name and m.component == component]
    return found


def corpus(name, words, seed, examples=64, length=10):
    rng = np.random.default_rng(seed)
    said = [str(w) for w in rng.choice(words, examples * length)]
    return Corpus(
        name, (length,) * examples, (length,) * examples, tuple((f"token {w}", f"kind {kind_of(w)}") for w in said), tuple(said),
        tuple(map(str, range(examples))), np.arange(examples) % 2,
    )


def fires(corpus, *words):
    return np.array([[float(t in words)] for t in corpus.tokens])


@pytest.mark.parametrize(
    ("first", "second", "own", "carried"),
    [
        (["a"], ["a"], 1.0, 1.0),  # the same token in both
        (["1", "2"], ["3"], 1.0, 1.0),  # numbers: what only one has is told by what both have
        (["a"], ["b"], 1.0, 0.0),  # another token in each, of those that both have
    ],
)
def test_a_concept_is_carried_over_exactly_where_it_is_the_same(first, second, own, carried):
    shared = ["a", "b", "c"]
    a, b = corpus("a", [*shared, "1", "2"], 0), corpus("b", [*shared, "3"], 1)
    found = compare((a, b), (fires(a, *first), fires(b, *second)))
    for side in (found.first, found.second):
        assert side.own.mean() / side.spread.mean() == pytest.approx(own, abs=0.02)
        assert side.carried.mean() / side.spread.mean() == pytest.approx(carried, abs=0.05)
        assert side.lost.mean() == pytest.approx(side.own.mean() - side.carried.mean())


def test_scale_and_offset_of_a_corpus_are_no_other_concept_and_what_is_shuffled_is_none():
    a, b = corpus("a", ["a", "b"], 0), corpus("b", ["a", "b"], 1)
    found = compare((a, b), (fires(a, "a"), 0.7 * fires(b, "a") - 3))
    assert found.both("carried").mean() == pytest.approx((1 + 0.49) / 2, rel=0.02)  # of the variance where it varies more
    assert found.second.spread.mean() == pytest.approx(0.49, rel=0.05)
    turned = compare((a, b), (fires(a, "a"), -fires(b, "a")))
    assert abs(turned.both("carried").mean()) < 0.02  # active where the other is not
    shuffled = np.random.default_rng(0).permutation(fires(a, "a"))
    assert abs(compare((a, b), (shuffled, fires(b, "a"))).first.own.mean()) < 0.03


def test_values_at_every_position_are_cut_to_those_that_a_corpus_reads():
    made = Corpus("a", (2, 0, 1), (2, 1), ((),) * 3, ("x",) * 3, ("1", "3"), np.array([0, 1]))
    found = inside(made, [np.arange(4.0)[:, None], np.zeros((1, 1)), np.arange(10.0, 12.0)[:, None]])
    assert found[:, 0].tolist() == [1, 2, 11]


def test_a_planted_mixed_unit_is_flagged_and_a_pure_one_is_not(told):
    mixed, pure = (f"decoder.0.mlp.act[{n}]" for n in (MIXED, PURE))
    assert of(told, "lost", mixed).low > 0.4
    assert of(told, "lost.beyond_random_init", mixed).low > 0
    assert of(told, "lost", mixed).control.difference_low > 0
    assert of(told, "carried", mixed).value < 0.1
    assert of(told, "carried", pure).low > 0.3
    assert of(told, "lost", pure).value < of(told, "carried", pure).value
    first, second = told.text.split("decoder.0.mlp.act[8]")
    assert "addition and copying: CHANGES" in first
    assert "addition: goes with token '='" in first
    assert "copying: goes with token '" in first
    assert "addition and copying: one concept" in second
    assert "CHANGES" not in second
    for m in told.measurements:
        if m.name == "explained":
            assert abs(m.control.value) < 0.1  # the activations in another order


@pytest.mark.parametrize(("kind", "neuron", "holds"), [("mixed", MIXED, True), ("mixed", PURE, False), ("one_concept", PURE, True)])
def test_what_is_planted_is_a_finding_on_unseen_examples_and_its_opposite_is_none(planted, kind, neuron, holds):
    made = Statement(kind=kind, task="addition", other_task="copying", components=f"decoder.0.mlp.act[{neuron}]", examples=96)
    rows = examine(made, context(planted, split="confirm")).measurements
    assert (max(m.value for m in rows if m.name == "p") < 0.025) == holds


def test_a_unit_of_the_demo_is_active_at_differences_and_quiet_at_sums(demo):
    made = Statement(kind="quiet", task="subtraction", other_task="addition", components="decoder.2.mlp.act[37]", examples=96)
    rows = examine(made, context(demo, split="confirm")).measurements
    assert max(m.value for m in rows if m.name == "p") < 0.025
    turned = made.model_copy(update={"task": "addition", "other_task": "subtraction"})
    assert max(m.value for m in examine(turned, context(demo)).measurements if m.name == "p") > 0.5


@pytest.mark.parametrize("kind", ["mixed", "one_concept", "quiet"])
def test_of_a_model_of_random_weights_nothing_is_said(demo, kind):
    blind = random_twin(demo, 11)
    made = Statement(kind=kind, task="addition", other_task="copying", components="decoder.2.mlp.act[37]", examples=96)
    assert max(m.value for m in examine(made, context(blind)).measurements if m.name == "p") > 0.025


def test_heads_are_read_along_their_first_component_or_a_label(demo):
    seen = use(demo, tasks=["agreement", "copying"], components=["*.3.attn.z[2]"], label="subject_number=plural", examples=64)
    assert "decoder.3.attn.z[2], the direction of subject_number=plural" in seen.text
    seen = use(demo, tasks=CORPORA, components=["*.3.resid_post"], examples=32)
    assert "decoder.3.resid_post, its first principal component" in seen.text


@pytest.mark.parametrize(("given", "why"), [
    ({"components": ["*.2.mlp.act[512]"]}, "0 to 511"),
    ({"components": ["*.9.mlp.act[3]"]}, "blocks? 0 to 5"),
    ({"components": ["*.2.mlp.act[3]@answer"]}, "name no anchor"),
    ({"components": ["*.2.attn.pattern[1]"]}, "is no activation of its own"),
    ({"components": ["*.2.mlp.act[*]"]}, "512 units are too many"),
    ({"tasks": ["addition", "addition"]}, "at least two different corpora"),
    ({"components": ["*.2.resid_post"], "label": "carry"}, "write label=value"),
    ({"components": ["*.2.resid_post"], "label": "carry=7"}, "values are 0, 1"),
])  # fmt: skip
def test_wrong_arguments_are_answered_with_what_would_be_valid(demo, given, why):
    with pytest.raises(ToolInputError, match=why):
        use(demo, **{"tasks": CORPORA, "components": ["*.2.mlp.act[3]"], "examples": 16, **given})


def test_a_finding_is_about_one_unit_and_two_corpora(demo):
    base = {"kind": "mixed", "task": "addition", "other_task": "copying", "examples": 16}
    with pytest.raises(ToolInputError, match="about one unit wherever it stands"):
        examine(Statement(**base, components="decoder.2.mlp.act[3,4]"), context(demo))
    with pytest.raises(ToolInputError, match="name another task as other_task"):
        examine(Statement(**{**base, "other_task": "addition"}, components="decoder.2.mlp.act[3]"), context(demo))


def test_the_examples_are_drawn_side_by_side_and_broken_ones_are_not(told):
    values, tokens = told.arrays
    assert values.shape[:3] == (2, 2, 3)
    result = Result(status="ok", text="", arrays=told.arrays)
    drawn = Image.open(io.BytesIO(picture_of(result)))
    pixels = np.asarray(drawn)
    assert (pixels == (220, 38, 38)).all(-1).any()  # the largest activation is the darkest
    assert (pixels[:, -2:] == 255).all()  # nothing is cut off
    assert words_of(result).startswith("the examples on which decoder.0.mlp.act[7], decoder.0.mlp.act[8]")
    top = np.unravel_index(np.nanargmax(np.frombuffer(values.data, "<f4")), values.shape)
    assert tokens.axes[0].labels[np.ravel_multi_index(top, values.shape)] in "=mrt+|"
    broken = tokens.model_copy(update={"axes": (Axis(name="token", labels=("a",)),)})
    assert picture_of(Result(status="ok", text="", arrays=(values, broken))) is None


def test_the_tool_is_offered_where_a_goal_asks_what_a_unit_means_and_a_goal_without_one_is_answered(demo):
    for goal, there in (("does unit 37 of block 2 mean one thing?", True), ("where is addition done?", False)):
        assert ("cross_dataset" in usable(discover(), demo, OfflineTasks([]), goal=goal)) == there
    assert unit_named_in("is neuron 5 in layer 1 polysemantic?") == "*.1.mlp.act[5]"
    assert unit_named_in("what does decoder.3.attn.z[2] mean?") == "decoder.3.attn.z[2]"
    assert unit_named_in("where is addition done?") == ""
    with pytest.raises(GoalError, match="write neuron 37 of block 2"):
        unit_named_in("does this neuron mean one thing?")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Goals about a unit that is one thing and one that is active on one corpus alone, with their standing findings and reports."""
    out = {}
    for unit in ("37 of block 2", "323 of block 3"):
        folder = tmp_path_factory.mktemp("unit")
        code = main(["--goal", f"does unit {unit} mean one thing?", "--db", str(folder / "e.db"), "--out", str(folder / "out"),
                     "--null-twins", "0", "--quiet"])  # fmt: skip
        assert code == 0
        store = Store(folder / "e.db")
        said = {(f.statement.kind, f.statement.task, f.statement.other_task) for f in store.findings(store.runs()[0]) if f.stands}
        (report,) = folder.glob("out/*/report.md")
        out[unit] = said, report.read_text(), list(folder.glob("out/*/figures/E*-images.png"))
    return out


def test_whether_a_unit_means_one_thing_is_answered_by_what_was_confirmed(reports):
    said, report, pictures = reports["37 of block 2"]
    assert said
    assert {(k, a) for k, a, _ in said} == {("quiet", "subtraction")}
    assert "**Not found.**" in report
    assert pictures
    said, report, _ = reports["323 of block 3"]
    assert ("one_concept", "addition", "subtraction") in said
    assert not any(k == "mixed" for k, _, _ in said)
    assert "**Found.**" in report
    assert "goes with the same in addition and in subtraction" in report


def test_the_caveat_names_the_corpora_on_which_a_unit_was_seen(reports):
    report = reports["323 of block 3"][1]
    assert "elsewhere a unit may mean something else" in report


def test_a_goal_about_a_unit_that_does_not_exist_is_refused_with_what_would_be_valid(tmp_path, capsys):
    code = main(["--goal", "does unit 999 of block 2 mean one thing?", "--db", str(tmp_path / "e.db"), "--out", str(tmp_path)])
    assert code == 2
    assert "neurons 0 to 511" in capsys.readouterr().err


def written(folder, arch="standard", width=4, latents=3, **config):
    """A dictionary in SAELens' layout: what it is made of, and the folder."""
    generator = torch.Generator().manual_seed(1)
    made = {"W_enc": torch.randn(width, latents, generator=generator), "W_dec": torch.randn(latents, width, generator=generator),
            "b_enc": torch.randn(latents, generator=generator), "b_dec": torch.randn(width, generator=generator)}  # fmt: skip
    if arch == "jumprelu":
        made["threshold"] = torch.tensor([0.5, 2.0, 0.0])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps({"architecture": arch, "d_in": width, "d_sae": latents, **config}))
    save_file(made, str(folder / "sae_weights.safetensors"))
    return made


@pytest.mark.parametrize(("arch", "config"), [
    ("standard", {"normalize_activations": "none"}), ("topk", {"k": 1}), ("topk", {"k": 2, "rescale_acts_by_decoder_norm": True}),
    ("jumprelu", {"apply_b_dec_to_input": False}), ("standard", {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 1}}),
])  # fmt: skip
def test_a_dictionary_in_the_layout_of_saelens_does_what_its_formula_says(tmp_path, arch, config):
    w = written(tmp_path, arch, **config)
    made = read_dictionary(tmp_path)
    h = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    x = h - w["b_dec"] if config.get("apply_b_dec_to_input", True) else h
    z = x @ w["W_enc"] + w["b_enc"]
    norms = w["W_dec"].norm(dim=-1) if config.get("rescale_acts_by_decoder_norm") else torch.ones(3)
    k = config.get("k") or config.get("activation_fn_kwargs", {}).get("k") or 3
    z = (z * norms).relu()
    kept = z >= z.sort(-1, descending=True).values[:, k - 1 : k]
    wanted = z * kept
    if arch == "jumprelu":
        wanted = z * (z > w["threshold"])
    assert torch.allclose(made.encode(h), wanted, atol=1e-6)
    assert torch.allclose(made.reconstruct(h), (wanted / norms) @ w["W_dec"] + w["b_dec"], atol=1e-5)


def test_dictionaries_that_cannot_be_read_are_refused_with_what_can(tmp_path):
    for name, arch, config, why in (
        ("a", "gated", {}, "standard, topk and jumprelu can be read"), ("b", "topk", {"k": 9}, "k is 9, not 1 to 3"),
        ("c", "standard", {"normalize_activations": "expected_average_only_in"}, "folded into its weights"),
    ):  # fmt: skip
        written(tmp_path / name, arch, **config)
        with pytest.raises(ToolInputError, match=why):
            read_dictionary(tmp_path / name)
    with pytest.raises(ToolInputError, match="has no cfg.json and no sae_weights.safetensors"):
        read_dictionary(tmp_path)
    (tmp_path / "a" / "sae_weights.safetensors").write_bytes(b"\x80\x04nonsense")
    with pytest.raises(ToolInputError, match="cannot be read"):
        read_dictionary(tmp_path / "a")


def test_a_dictionary_that_is_trained_finds_the_directions_that_data_are_made_of():
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(12, 8, generator=generator)
    true = true / true.norm(dim=-1, keepdim=True)
    codes = torch.rand(4000, 12, generator=generator) * (torch.rand(4000, 12, generator=generator) < 0.1)
    x = codes @ true
    made, again = (train(x, 16, k=2, seed=3, steps=500) for _ in range(2))
    assert torch.equal(made.encoder, again.encoder)
    found = (made.directions @ true.T).max(0).values
    none = (random_dictionary(made, 7).directions @ true.T).max(0).values
    assert found.mean() > none.mean() + 0.15

    def explained(d):
        return 1 - float(((d.reconstruct(x) - x) ** 2).sum() / ((x - x.mean(0)) ** 2).sum())

    assert explained(made) > 0.8 > 0.4 > explained(random_dictionary(made, 7))
    assert (made.encode(x) > 0).sum(-1).max() == 2


def test_a_dictionary_of_the_demo_beats_random_ones_and_the_neurons_and_its_features_are_places(demo):
    tool = discover()["sparse_autoencoder"]
    seen = tool.run(tool.parse({"tasks": CORPORA, "components": ["*.2.mlp.act"], "dictionary": "topk.64.8.0", "examples": 64}),
                    context(demo))  # fmt: skip
    explained = [m for m in seen.measurements if m.name == "explained"]
    assert len(explained) == 2
    assert all(m.control.difference_low > 0 for m in explained)
    (sparse,) = [m for m in seen.measurements if m.name == "l0"]
    assert sparse.value <= 8
    assert {m.name for m in seen.measurements} == {"explained", "l0", "own", "carried", "lost"}
    place = "decoder.2.mlp.act[sae:topk.64.8.0/addition/copying/3]"
    assert place in use(demo, tasks=CORPORA, components=[place], examples=16).text
    made = Statement(kind="quiet", task="addition", other_task="copying", components=place, examples=64)
    assert any(m.name == "effect" for m in examine(made, context(demo)).measurements)
    with pytest.raises(ToolInputError, match="features 0 to 63"):
        use(demo, tasks=CORPORA, components=[place.replace("/3]", "/64]")], examples=16)


def test_a_feature_of_a_folder_is_named_by_the_weights_that_lie_there(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "saes", width=128, latents=8)
    name = name_of(Path("saes"))
    assert "own" in use(demo, tasks=CORPORA, components=[f"decoder.2.resid_post[sae:{name}/5]"], examples=16).text
    with pytest.raises(ToolInputError, match=f"write {name}"):
        use(demo, tasks=CORPORA, components=["decoder.2.resid_post[sae:saes.00000000/5]"], examples=16)
    with pytest.raises(ToolInputError, match="reads 128 channels, and decoder.2.mlp.act has 512"):
        use(demo, tasks=CORPORA, components=[f"decoder.2.mlp.act[sae:{name}/5]"], examples=16)
    with pytest.raises(ToolInputError, match="write topk.LATENTS.K.SEED"):
        use(demo, tasks=CORPORA, components=["decoder.2.resid_post[sae:nowhere/5]"], examples=16)


@pytest.mark.parametrize(("second", "holds"), [(0.3, True), (0.05, False)])
def test_a_unit_that_means_almost_nothing_on_one_corpus_is_neither_mixed_there_nor_shown_not_to_be(monkeypatch, second, holds):
    rng, groups = np.random.default_rng(0), [str(i) for i in range(96)]
    first, other = (v + 0.01 * rng.normal(size=96) for v in (0.6, second))

    def compared(a, b):
        corpora = [SimpleNamespace(corpus=SimpleNamespace(name=n), lost=[v], groups=groups) for n, v in (("one", a), ("two", b))]
        return SimpleNamespace(first=corpora[0], second=corpora[1], groups=groups, both=lambda _: [(a + b) / 2])

    nothing = compared(np.zeros(96), np.zeros(96))
    found = SimpleNamespace(own=compared(first, other), random=nothing, blind=nothing)
    monkeypatch.setattr(mixed, "meanings", lambda s, bench: found)
    monkeypatch.setattr(mixed, "best_of", lambda other, what: 0)
    bench = Mock(spec=Bench, smallest=0.1, groups=groups)
    bench.effect = lambda q, least, g, component: Contrast("effect", "exceed", least, (q,), g, component=component)
    bench.beyond = lambda q, control, least, g, component: Contrast("control", "exceed", least, q, g, "", component, control)
    said = Statement(kind="mixed", task="one", other_task="two", components="decoder.2.mlp.act[37]")
    made = mixed.must_exceed(said, bench, "lost")
    assert (max(c.p() for c in made) < 0.025) == holds
    assert p_absent(made) > 0.5
