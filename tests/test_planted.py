"""The planted benchmark: its cases, its scores, its models, and that a planner is scored on what it says."""

import json

import pytest
import torch
from transformers import GPT2LMHeadModel

from benchmarks.planted import __main__ as benchmark
from benchmarks.planted import ranking, train
from benchmarks.planted.cases import BLOCKS, CASES, Case
from benchmarks.planted.ranking import claimed, component_of
from benchmarks.planted.tasks import TASKS
from experiments_db.findings import Finding, Statement
from experiments_db.places import Component

BY_NAME = {c.name: c for c in CASES}
SHIPPED = [c for c in CASES if c.kind != "random"]


def found(kind, *places, probability=0.9, fate="confirmed", **more):
    statement = Statement(kind=kind, task="t", components=" + ".join(places))
    return Finding(
        handle="F1", statement=statement, seen="E1", smallest=0.1, probability=probability, power=1, fate=fate, **more
    )


def test_there_are_enough_cases_and_a_third_are_nulls_or_decoys():
    assert len(CASES) >= 24
    assert sum(c.kind != "planted" for c in CASES) >= len(CASES) / 3
    assert len({c.task for c in CASES}) >= 5
    assert len({c.name for c in CASES}) == len(CASES)


def test_the_truth_is_at_the_level_that_was_planted():
    assert BY_NAME["modular-a2-m4"].truth == {"2.attn", "4.mlp"}
    assert BY_NAME["copy-h3.1"].truth == {"3.head.1"}
    assert BY_NAME["copy-two-heads"].truth == {"2.head.0+2.head.2"}
    assert BY_NAME["lookup-backup"].truth == {"1.attn", "2.mlp+4.mlp"}
    assert BY_NAME["lookup-split"].truth == {"1.attn", "3.attn", "5.mlp"}
    assert BY_NAME["cannot-copy"].truth == BY_NAME["random-copy"].truth == frozenset()


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda t: t.name)
def test_tasks_are_single_tokens_with_twins_of_another_answer(task):
    import random

    rng = random.Random(0)
    for _ in range(50):
        v = task.draw(rng)
        twin = task.changed(v, rng)
        assert task.answer(twin) != task.answer(v)
        assert sum(a != b for a, b in zip(v, twin, strict=True)) >= 1
        assert all(t in train.INDEX for t in (*task.prompt(v), task.answer(v)))


def test_only_places_at_the_answer_bear_the_names_of_the_benchmark():
    def name(text):
        return component_of(Component.parse(text))

    assert name("decoder.3.attn.out@answer") == "3.attn"
    assert name("decoder.0.mlp.out@-1") == "0.mlp"
    assert name("decoder.3.attn.z[1]@answer") == "3.head.1"
    for other in (
        "decoder.3.attn.out@-2",
        "decoder.3.mlp.out",
        "decoder.3.resid_pre@answer",
        "decoder.3.attn.z@answer",
    ):
        assert name(other) == other


def test_confirmed_findings_are_compared_at_the_planted_level():
    heads, plain = BY_NAME["copy-h3.1"], BY_NAME["modular-a2-m4"]
    whole = found("necessary", "decoder.3.attn.out@answer")
    said = [whole, found("necessary", "decoder.3.attn.z[1]@answer", probability=0.7)]
    assert claimed(said, heads) == {"3.head.1": 0.7}
    assert claimed(said, plain) == {"3.attn": 0.9}
    pair = found("jointly_necessary", "decoder.2.mlp.out@answer", "decoder.4.mlp.out@answer")
    assert claimed([pair], plain) == {"2.mlp+4.mlp": 0.9}


@pytest.mark.parametrize(
    "silent",
    [
        found("carries", "decoder.3.resid_pre@answer"), found("not_needed", "decoder.3.attn.out@answer"),
        found("necessary", "decoder.3.attn.out@answer", fate="inconclusive"),
        found("necessary", "decoder.3.attn.out@answer", fate=None),
        found("necessary", "decoder.3.attn.out@answer", retracted="wrong"),
    ],
)  # fmt: skip
def test_what_is_not_confirmed_or_says_no_need_names_nothing(silent):
    assert claimed([silent], BY_NAME["modular-a2-m4"]) == {}


def test_scores_are_those_counted_by_hand():
    assert ranking.auroc([3, 1, 2, 2], [True, False, False, True]) == pytest.approx(0.875)
    assert ranking.average_precision([3, 2, 1], [True, False, True]) == pytest.approx((1 + 2 / 3) / 2)
    assert ranking.average_precision([1, 1], [True, False]) == 0.5  # a tie is no knowledge


@pytest.mark.parametrize("case", SHIPPED, ids=lambda c: c.name)
def test_a_shipped_model_does_what_its_case_says(case):
    """Run as a GPT-2 of transformers with plain hooks, apart from the code that made it."""
    folder = train.FOLDER / case.name
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    kept = json.loads((folder / "truth.json").read_text())
    assert set(kept["truth"]) == case.truth
    import random

    ids, answers, _ = train.batch(TASKS[case.tasks[0]], 300, random.Random(11))
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))

    def module(name):
        block = model.transformer.h[int(name.split(".")[0])]
        return block.mlp if name.endswith("mlp") else block.attn

    clean = {}
    every = [f"{b}.{k}" for b in range(BLOCKS) for k in ("attn", "mlp")]
    watch = [
        module(n).register_forward_hook(
            lambda _m, _a, out, n=n: clean.update({n: (out[0] if isinstance(out, tuple) else out)[order, -1]})
        )
        for n in every
    ]
    with torch.inference_mode():
        model(ids)
    for h in watch:
        h.remove()

    def accuracy(removed=(), zero=False):
        def hook(name, out):
            h = (out[0] if isinstance(out, tuple) else out).clone()
            h[:, -1] = 0 if zero else clean[name]
            return (h, *out[1:]) if isinstance(out, tuple) else h

        made = [module(n).register_forward_hook(lambda _m, _a, out, n=n: hook(n, out)) for n in removed]
        with torch.inference_mode():
            found = (model(ids).logits[:, -1].argmax(-1) == answers).float().mean().item()
        for h in made:
            h.remove()
        return found

    assert accuracy() >= 0.97
    if case.kind == "cannot":
        return
    needed = {f"{k}.attn" for k in case.attention if f"{k}.attn" not in case.redundant} | {
        f"{m}.mlp" for m in case.mlps if f"{m}.mlp" not in case.redundant
    }
    planted = needed | {r for r in case.redundant if ".head." not in r}
    for name in needed:
        assert accuracy([name]) <= 0.45
        assert accuracy([name], zero=True) <= 0.45
    others = [n for n in every if n not in planted and n != case.decoy]
    assert accuracy(others) >= 0.93
    for name in others:
        assert accuracy([name]) >= 0.93
        assert accuracy([name], zero=True) >= 0.93
    if case.decoy:
        assert accuracy([case.decoy]) >= 0.93
        assert accuracy([case.decoy], zero=True) <= 0.45
    if case.redundant and ".head." not in case.redundant[0]:
        assert min(accuracy([r], zero=True) for r in case.redundant) >= 0.93
        assert max(accuracy(case.redundant), accuracy(case.redundant, zero=True)) <= 0.45


def test_the_shipped_models_are_small():
    assert sum(f.stat().st_size for f in train.FOLDER.rglob("*") if f.is_file()) < 16e6


def test_the_network_that_is_trained_is_the_one_that_is_saved(tmp_path):
    torch.manual_seed(0)
    net = train._rounded(train.Net())
    train.save(net, tmp_path)
    model = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(0, 40, (5, 6))
    with torch.inference_mode():
        assert torch.allclose(model(ids).logits[:, -1], net(ids), atol=1e-5)


def test_the_first_steps_of_training_are_the_same_each_time_and_leave_other_projections_at_nought():
    case = Case("t", "modular", "planted", (1,), (2,), steps=4)
    nets = [train.Net(), train.Net()]
    for net in nets:
        import random

        torch.manual_seed(1)
        net.load_state_dict(nets[0].state_dict())
        planted, others = train.parts(case)
        train._fit(net, case, random.Random(1), 4, 1e-3, train._zeros(net, case, others), {}, planted, others)
        assert net.blocks[0].out.weight.abs().max() == net.blocks[1].down.weight.abs().max() == 0
        assert net.blocks[1].out.weight.abs().max() > 0 < net.blocks[2].down.weight.abs().max()


def test_a_planner_is_scored_from_its_run_and_a_stopped_benchmark_goes_on(tmp_path, capsys):
    argv = ["--case", "copy-h3.1", "--case", "random-copy", "--results", str(tmp_path / "r.jsonl")]
    assert benchmark.main(argv) == 0
    printed = capsys.readouterr()
    assert "systematic copy-h3.1: decoder.3.attn.z[1]@answer" in printed.err
    assert "systematic random-copy: cannot (right" in printed.err
    assert "1 of 1 (95% interval 2.5% to 100.0%) cases exact; 0 false of" in printed.out
    line = next(x for x in printed.out.splitlines() if x.startswith("| systematic"))
    assert line.split("|")[2:4] == [" 100% ", " 100% "]
    norms = next(x for x in printed.out.splitlines() if x.startswith("| weight norms"))
    assert norms.split("|")[6] != " 0 "
    assert benchmark.main(argv) == 0
    again = capsys.readouterr()
    assert again.out.startswith("Commit ")
    assert printed.out.endswith(again.out)
    assert "systematic" not in again.err


def test_the_random_planner_draws_only_what_schemas_allow_and_the_same_again(tmp_path):
    from agent import run
    from experiments_db.store import Store

    calls = []
    for i in range(2):
        db = tmp_path / f"{i}.db"
        argv = [
            "--goal",
            "anything",
            "--planner",
            "random_valid:3",
            "--db",
            str(db),
            "--device",
            "cpu",
            "--max-experiments",
            "3",
        ]
        assert run.main([*argv, "--out", str(tmp_path / "t"), "--quiet"]) == 0
        store = Store(db)
        events = store.events(store.runs()[0])
        calls.append([e.payload["calls"] for e in events if e.kind == "turn"])
        for e in events:
            if e.kind == "answer":
                assert "unknown argument" not in e.payload["text"]
                assert "missing" not in e.payload["text"]
        assert store.verify() == []
    assert calls[0] == calls[1]
