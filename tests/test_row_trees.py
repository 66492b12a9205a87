"""Trees in activations: found where they were put by construction and where training put them, and nowhere else."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments_db.findings import Statement
from tools.findings.examining import examine
from tools.methods import structural
from tools.methods.features import random_twin
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.probing import Probe, without_means
from tools.methods.tool import Context, ToolInputError, discover
from tools.methods.trees import MEASURES, random_trees, scores, spanning_arcs, spearman, tree_of, with_trees
from tools.subjects import load_subject
from tools.tasks import TaskError, get_task, read_jsonl
from tools.tasks.task import Example

CONTROLS = ("position", "words", "random_init", "random_trees", "untrained")


@pytest.fixture(scope="module")
def masked():
    return load_subject("masked", device="cpu")


@pytest.fixture(scope="module")
def drawn():
    """Sentences with their trees: two thirds to fit on, the others to score on."""
    return with_trees(get_task("trees").examples("explore", 120))


def use(subject, tool, **arguments):
    t = discover()[tool]
    return t.run(t.parse(arguments), Context(subject, OfflineTasks([]), Nothing()))


def beyond(outcome, name, component):
    """Of each control: the lower end of the interval of what sets the probe apart from it."""
    return {m.variant: m.low for m in outcome.measurements if m.name == f"{name}.beyond" and m.component == component}


def value(outcome, name, component):
    (found,) = [m for m in outcome.measurements if m.name == name and m.component == component]
    return found


def test_a_tree_is_read_from_the_labels_of_spans_and_its_distances_are_the_grammars():
    from tools.subjects.masked import data

    made = next(s for s in data.sentences("explore", 30) if len(s.words) >= 5)
    roles = {f"word{i + 1}": w for i, w in enumerate(made.words)}
    heads = {r: {"head": "" if w.head < 0 else f"word{w.head + 1}", "relation": w.relation} for r, w in roles.items()}
    e = Example({"masked": made.text}, "x", spans={r: w.span for r, w in roles.items()}, span_labels=heads)
    tree = tree_of(e)
    assert (tree.distances() == made.distances()).all()
    assert (tree.depths() == made.depths()).all()
    assert tree.relations == tuple(w.relation for w in made.words)
    loop = {**heads, "word1": {"head": "word1"}}
    for broken, why in ((loop, "no tree"), ({"word1": {"head": "word99"}}, "no word 'word99'"), ({}, "no tree")):
        with pytest.raises(ToolInputError, match=why):
            tree_of(replace(e, span_labels=broken))
    with pytest.raises(TaskError, match="no span 'word0'"):
        replace(e, span_labels={"word0": {"head": ""}})


def test_labels_of_spans_are_hashed_only_where_there_are_any_and_stand_in_task_files(tmp_path):
    plain = Example.of_text("a b", " c", spans={"word1": (0, 1)})
    assert "span_labels" not in plain.as_json()
    assert replace(plain, span_labels={"word1": {"head": ""}}).as_json()["span_labels"] == {"word1": {"head": ""}}
    file = tmp_path / "t.jsonl"
    row = {"answer": " x", "spans": {"a": [0, 1]}, "span_labels": {"a": {"head": ""}}}
    rows = [{**row, "prompt": f"{c} b", "split": s} for c, s in zip("cdef", ("explore", "confirm") * 2, strict=True)]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert OfflineTasks([file]).get("t").examples("explore", 1)[0].span_labels == {"a": {"head": ""}}
    file.write_text("\n".join(json.dumps({k: v for k, v in r.items() if k != "span_labels"}) for r in rows))
    assert all("span_labels" not in r for r in read_jsonl(file))
    file.write_text(json.dumps({**rows[0], "span_labels": {"b": {}}}))
    with pytest.raises(TaskError, match="no span 'b'"):
        read_jsonl(file)


@pytest.mark.parametrize("name", ["trees", "bracket_trees"])
def test_every_example_of_the_tasks_is_a_tree_whose_words_are_the_text(name):
    for e in get_task(name).examples("explore", 60):
        tree = tree_of(e)
        text = next(iter(e.inputs.values()))
        assert "".join(text[slice(*e.spans[r])] for r in tree.roles) == text.replace(" ", "")
        assert len(tree.arcs) == len(tree) - 1
        assert (tree.distances()[tree.root] == tree.depths()).all()


def test_true_distances_and_depths_score_one_and_noise_scores_what_chance_gives(drawn):
    _, trees = drawn
    best = scores(trees, [t.distances() for t in trees], [t.depths() for t in trees])
    assert {name: v.min() for name, v in best.items()} == pytest.approx(dict.fromkeys(MEASURES, 1.0))
    rng = np.random.default_rng(0)
    noise = [x + x.T for x in (rng.random((len(t), len(t))) for t in trees)]
    assert abs(scores(trees, noise, None)["distance_spearman"].mean()) < 0.06
    assert spearman(np.ones(4), np.arange(4)) == 0
    assert spanning_arcs(np.array([[0, 0, 9], [0, 0, 2], [9, 2, 0.0]])) == {(0, 1), (1, 2)}


def pythagorean(trees, width):
    """States whose squared distances are exactly tree distances: the arc above a sentence's i-th word is the i-th direction."""
    return np.concatenate([[np.isin(np.arange(width), t._up(i)) * 1.0 for i in range(len(t))] for t in trees])


def test_under_no_map_at_all_a_pythagorean_embedding_is_its_tree(drawn):
    _, trees = drawn
    found = scores(trees, structural.squared_distances(pythagorean(trees, 40), trees), None)
    assert found["distance_spearman"].min() > 0.999
    assert found["uuas"].min() == 1


def test_the_probe_finds_a_pythagorean_embedding_beside_noise_and_under_a_rotation_and_no_tree_in_noise(drawn):
    _, trees = drawn
    rng = np.random.default_rng(2)
    tree_part, cut = pythagorean(trees, 28), 80
    noise, turn = rng.normal(size=(len(tree_part), 36)) * 3, np.linalg.qr(rng.normal(size=(64, 64)))[0]
    rows, held = sum(map(len, trees[:cut])), trees[cut:]

    def tried(x):
        probe = structural.fit(x[:rows], trees[:cut], 32, 250, 0)
        found = scores(held, probe.distances(x[rows:], held), probe.depths(x[rows:], held))
        return {k: v.mean() for k, v in found.items()}

    there, nothing = tried(np.concatenate([tree_part, noise], 1) @ turn), tried(noise)
    assert there["distance_spearman"] > 0.8  # eighty sentences, and noise of nine times the variance of a direction
    plain = tried(np.concatenate([tree_part, noise / 30], 1) @ turn)
    assert plain["distance_spearman"] > 0.9
    assert plain["distance_spearman"] > there["distance_spearman"] > nothing["distance_spearman"] + 0.5
    assert abs(nothing["distance_spearman"]) < 0.15


def test_random_trees_are_those_of_other_sentences_of_the_same_length(drawn):
    _, trees = drawn
    made = random_trees(trees, 0)
    assert [len(t) for t in made] == [len(t) for t in trees]
    assert all((t.heads < 0).sum() == 1 for t in made)
    assert np.mean([(a.heads == b.heads).all() for a, b in zip(made, trees, strict=True)]) < 0.4
    assert [t.heads.tolist() for t in made] == [t.heads.tolist() for t in random_trees(trees, 0)]


def test_the_masked_model_has_the_tree_after_its_first_block_beyond_every_control_and_its_last_does_not(masked):
    places = [f"encoder.{b}.resid_post@all" for b in (0, 3)]
    o = use(masked, "structural_probe", task="trees", components=places, examples=400, steps=120)
    first, last = (
        p.removesuffix("@all") if p.removesuffix("@all") in {m.component for m in o.measurements} else p for p in places
    )
    for name in MEASURES:
        lows = beyond(o, name, first)
        assert set(lows) == set(CONTROLS) - ({"words"} if name in ("depth_spearman", "root") else set())
        assert min(lows.values()) > 0, (name, lows)
    assert value(o, "distance_spearman", first).value > 0.6
    assert value(o, "uuas", first).value > 0.6
    assert min(beyond(o, "distance_spearman", last).values()) < 0
    assert {a.name for a in o.arrays} >= {*MEASURES, "squared_distance", "pairs"}
    means = next(a for a in o.arrays if a.name == "squared_distance")
    drawn = np.frombuffer(means.data, "<f8").reshape(means.shape)[0]
    assert (np.diff(drawn[:5]) > 0).all()  # farther in the tree is farther under the map


def test_a_model_of_the_same_class_with_random_weights_has_no_tree_beyond_the_controls(masked):
    o = use(random_twin(masked, 7), "structural_probe", task="trees", components=["encoder.0.resid_post@all"], steps=80)
    (place,) = {m.component for m in o.measurements if m.component}
    for name in MEASURES:
        assert min(beyond(o, name, place).values()) <= 0, name


@pytest.mark.parametrize(("block", "split", "holds"), [(0, "confirm", True), (3, "explore", False)])
def test_that_a_state_holds_the_tree_is_a_finding_of_the_first_block_alone(masked, block, split, holds):
    made = Statement(kind="encodes_tree", task="trees", components=f"encoder.{block}.resid_post", examples=128)
    rows = examine(made, Context(masked, OfflineTasks([]), Nothing(), split=split)).measurements
    apart = {m.variant: m for m in rows if m.name == "beyond_control.spearman"}
    assert len(apart) == 5
    assert (max(m.value for m in rows if m.name == "p") < 0.025) == holds
    assert (apart["against the same probe of positions alone"].low > 0) == holds


@pytest.mark.parametrize("components", ["encoder.0.resid_post@word1", "encoder.0.resid_post + encoder.1.resid_post"])
def test_a_tree_is_in_one_component_at_all_words(masked, components):
    with pytest.raises(ToolInputError, match="one component at all words"):
        examine(Statement(kind="encodes_tree", task="trees", components=components), Context(masked, OfflineTasks([]), Nothing()))


def test_attention_tells_relations_beyond_the_distance_in_words_and_random_weights_do_not(masked):
    def told(o, name):
        (m,) = [m for m in o.measurements if m.name == name and m.variant.endswith("all blocks")]
        return m

    trained = use(masked, "relation_probe", task="trees")
    blind = use(random_twin(masked, 7), "relation_probe", task="trees")
    for name, least in (("relation", 0.7), ("link", 0.72)):
        mine = told(trained, name)
        assert mine.value > least
        assert mine.control.difference_low > 0
        assert told(trained, f"{name}.beyond_shuffled").low > 0
        assert told(trained, f"{name}.beyond_random_init").low > 0
        assert told(blind, name).control.difference < 0


def test_a_word_with_two_senses_comes_to_lie_near_its_own_centroid_in_the_last_block(masked):
    """Most of the distance is between words, so that the margin is small: it takes the words' own means away, and examples."""
    o = use(
        masked, "probe", task="gap_sense:ambiguous=yes", label="sense", model="centroid", beyond="ambiguous",
        components=["encoder.0.resid_pre@ambiguous", "encoder.3.resid_post@ambiguous"], examples=640,
    )  # fmt: skip
    before, after = (value(o, "accuracy", f"encoder.{p}@ambiguous") for p in ("0.resid_pre", "3.resid_post"))
    assert before.value < 0.6 < 0.75 < after.value
    assert after.control.difference_low > 0
    margins = [value(o, "centroid_margin", f"encoder.{p}@ambiguous").value for p in ("0.resid_pre", "3.resid_post")]
    assert abs(margins[0]) < 0.05 < margins[1]
    for place, is_there in (("encoder.0.resid_pre@ambiguous", False), ("encoder.3.resid_post@ambiguous", True)):
        margin, apart = (value(o, f"centroid_margin{x}", place) for x in ("", ".beyond_random_init"))
        assert (margin.control.difference_low > 0, apart.low > 0) == (is_there, is_there)


def test_without_the_means_of_words_what_context_adds_is_left():
    rng = np.random.default_rng(0)
    words, context = np.repeat(np.arange(5), 4), np.tile([-1.0, 1.0], 10)
    states = rng.normal(size=(5, 3))[words] * 9 + context[:, None]
    assert without_means(states, [str(w) for w in words], 16)[:16] == pytest.approx(np.tile(context[:16, None], 3))
    new = without_means(states, [*words[:16], "x", "x", "x", "x"], 16)[16:]
    assert new == pytest.approx(states[16:] - states[:16].mean(0))


def test_margins_of_centroids_are_what_the_distances_say():
    x, y = np.array([[-1.0], [-1.0], [1.0], [1.0]]), np.array([0, 0, 1, 1])
    found = Probe(model="centroid").margins(x, y, np.array([[-1.0], [0.0], [1.0], [0.5]]), np.array([0, 0, 0, 1]), 0)
    assert found == pytest.approx([1, 0, -1, 0.5])


def test_what_has_no_tree_or_no_single_place_is_refused(masked):
    cases = [
        ("structural_probe", {"task": "gap_sense"}, "has no tree"),
        ("relation_probe", {"task": "gap_agreement"}, "has no tree"),
        ("relation_probe", {"task": "trees", "stack": "decoder"}, "this model has encoder"),
        ("structural_probe", {"task": "trees", "components": ["encoder.0.resid_post@word1"]}, "at all words"),
        ("probe", {"task": "trees", "label": "words", "model": "centroid", "target": "number"}, "no centroids"),
    ]
    for tool, given, why in cases:
        with pytest.raises(ToolInputError, match=why):
            use(masked, tool, **given)
