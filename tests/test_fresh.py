"""Fresh cases: a seed draws them, the same each time; what is planted is where it was planted; a stop loses nothing."""

import json
import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.planted.fresh import mix, train
from benchmarks.planted.fresh.checks import accepted, checks
from benchmarks.planted.fresh.making import make, save, write_examples
from benchmarks.planted.fresh.net import Edits, Net, Shape
from benchmarks.planted.fresh.recipes import PLANTED, FreshCase, null_case, planted_case
from benchmarks.planted.fresh.tasks import compare, item, lookup, modular, pair
from benchmarks.planted.fresh.train import Part, Recipe
from tools.tasks.user import read_jsonl

TASKS = (lookup, modular, compare, item, pair)


@pytest.mark.parametrize("make_task", TASKS)
def test_what_is_read_says_what_the_answer_is(make_task):
    for seed in range(5):
        task = make_task(random.Random(seed))
        ids, answers, operands = task.batch(64, torch.Generator().manual_seed(seed))
        assert ids.shape == (64, task.length)
        assert answers.shape == (64, task.tokens)
        assert int(max(ids.max(), answers.max())) < len(task.words) == len(set(task.words))
        for i, role in enumerate(task.roles):
            (at,) = task.positions(role)
            assert torch.equal(ids[:, at], operands[:, i] + task.first[i])
        assert torch.equal(task.solve(operands), answers)
        new, at = task.changed(operands[0], torch.Generator().manual_seed(1))
        assert not torch.equal(task.solve(new[None])[0], answers[0])
        assert [i for i in range(len(new)) if new[i] != operands[0, i]] == [at]


def test_a_seed_draws_the_same_cases_and_another_one_others():
    def drawn(seed):
        return [(c.recipe.shape, c.recipe.parts, c.recipe.task.words, c.seed) for c in (planted_case(seed, i) for i in range(8))]

    assert drawn(3) == drawn(3) != drawn(4)
    assert mix.drawn(24, 5) == mix.drawn(24, 5) != mix.drawn(24, 6)


def test_all_kinds_come_and_every_mechanism_fits_its_model():
    for seed in range(20):
        cases = [planted_case(seed, i) for i in range(8)]
        assert {c.name.split("-", 3)[-1] for c in cases} == {f.__name__ for f in PLANTED}
        for c in cases:
            r = c.recipe
            assert 3 <= r.shape.blocks <= 8
            assert r.shape.width % r.shape.heads == 0
            assert {p.name for p in r.parts} <= set(r.names)
            assert r.task.length <= r.shape.positions
            assert len(r.task.words) == r.shape.vocabulary


def test_the_mix_is_a_third_trained_a_quarter_nulls_and_programs_differ():
    origins = [o for o, _, _ in mix.drawn(24, 1)]
    assert [origins.count(o) for o in ("trained", "compiled", "null")] == [8, 10, 6]
    programs = [p for o, p, _ in mix.drawn(24, 1) if o == "compiled"]
    assert len(set(programs)) == 10
    with pytest.raises(ValueError, match="at least four"):
        mix.mix(3)


def small():
    task = item(random.Random(0))
    return Recipe(task, Shape(3, 2, 32, len(task.words)), (Part("1.attn", "answer", tuple(range(len(task.ranges)))),))


def test_in_the_first_stage_only_what_is_planted_writes_and_only_at_its_role():
    """Before the second stage nothing else can matter: whatever is removed, at whatever position, changes no logit."""
    recipe = small()
    net, generator = Net(recipe.shape), torch.Generator().manual_seed(0)
    skip = [o for o in recipe.others if ".head." not in o]
    ids, _, _ = recipe.task.batch(8, generator)
    quiet = train._only(recipe, 8, 0.0, generator)
    clean = net(ids, 1, quiet, skip)
    record = {}
    net(ids, 1, Edits(quiet.masks, quiet.values, record), skip)
    assert set(record) == {"1.attn", "1.head.0", "1.head.1"}
    away = ~recipe.mask("answer").expand(8, -1)
    moved = Edits(quiet.masks | {"1.attn": away | quiet.masks["1.attn"]}, quiet.values)
    assert torch.equal(net(ids, 1, moved, skip), clean)


def test_a_network_that_learnt_nothing_is_refused():
    recipe = small()
    torch.manual_seed(0)
    assert not accepted(checks(Net(recipe.shape).eval(), recipe))
    good = {"intact": 1.0, "chance": 0.1, "planted": 0.1, "others": 1.0, "away": 1.0, "together": 1.0}
    assert accepted(good)
    for name, value in (("intact", 0.9), ("planted", 0.6), ("others", 0.8), ("away", 0.8), ("together", 0.5), ("either", 0.5)):
        assert not accepted({**good, name: value})


def test_an_exchange_of_what_is_planted_asks_for_the_answer_that_it_brings():
    recipe, generator = small(), torch.Generator().manual_seed(3)
    torch.manual_seed(0)
    net = Net(recipe.shape)
    ids, answers, operands = recipe.task.batch(200, generator)
    edits, targets = train._interchange(net, recipe, ids, answers, operands, 1.0, generator)
    planted = edits.masks["1.attn"][:, recipe.task.positions("answer")[0]]
    assert torch.equal(targets[~planted], answers[~planted])
    assert float((targets[planted] != answers[planted]).float().mean()) > 0.8


def test_the_network_that_is_trained_is_the_one_that_is_saved(tmp_path):
    recipe = small()
    torch.manual_seed(1)
    net = train.rounded(Net(recipe.shape))
    save(net, recipe.task.words, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids, _, _ = recipe.task.batch(5, torch.Generator().manual_seed(0))
    assert tokenizer(" ".join(recipe.task.words[i] for i in ids[0]))["input_ids"] == ids[0].tolist()
    with torch.inference_mode():
        assert torch.allclose(model(ids).logits[:, -1:], net(ids), atol=1e-5)


@pytest.mark.parametrize("make_task", TASKS)
def test_the_file_of_a_task_has_spans_groups_and_twins_that_differ_in_the_answer(make_task, tmp_path):
    task = make_task(random.Random(2))
    write_examples(task, tmp_path, 1)
    rows = read_jsonl(tmp_path / "task.jsonl")
    assert min(sum(r["split"] == s for r in rows) for s in ("explore", "confirm")) >= 40
    for r in rows:
        words, twin = r["prompt"].split(), r["twin"].split()
        assert len(words) == len(twin) == len(task.layout)
        assert sum(a != b for a, b in zip(words, twin, strict=True)) == 1
        assert r["answer"] != r["foil"]
        for role, (start, end) in r["spans"].items():
            assert r["prompt"][start:end] == words[task.positions(role)[0]]


def test_what_was_made_is_taken_from_its_folder(tmp_path):
    case = null_case(9, 0)
    first = make(case, tmp_path)
    (tmp_path / "made.json").write_text(json.dumps({**first, "attempts": 5}))
    assert make(case, tmp_path)["attempts"] == 5
    assert case.facts(True)[0].kind == "cannot"
    with pytest.raises(RuntimeError, match="another case"):
        make(null_case(8, 0), tmp_path)


def test_a_mechanism_is_trained_where_it_is_planted(tmp_path):
    """The whole way, for the cheapest kind: seconds."""
    recipe = small()
    net = train.train(recipe, 5)
    found = checks(net, recipe)
    assert accepted(found), found
    case = FreshCase("c", "planted", recipe, recipe.task, 1)
    assert [f.components for f in case.facts(False) if f.kind == "necessary"] == [("decoder.1.attn.out@answer",)]


def test_what_cannot_be_trained_is_left_out_told_and_stood_in_for(tmp_path, capsys):
    made = {"attempts": 8, "seconds": 1.0, "done": False, "checks": {}}
    refused, spare = (planted_case(2, i) for i in (0, 1))
    (tmp_path / refused.name).mkdir()
    (tmp_path / refused.name / "made.json").write_text(json.dumps(made))
    (tmp_path / spare.name).mkdir()
    write_examples(spare.asked, tmp_path / spare.name, 1)
    done = {**made, "attempts": 2, "done": True}
    (tmp_path / spare.name / "made.json").write_text(json.dumps(done))
    posed = next(mix._trained([refused, spare], tmp_path))
    assert (posed.name, posed.made) == (spare.name, "2 attempts, 1 CPU s")
    assert refused.name in capsys.readouterr().err
    assert mix.left_out(2, tmp_path) == 1
