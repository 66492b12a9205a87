"""What a call will take is said before it runs, and where memory runs out all the same it goes on with less at once."""

from dataclasses import replace

import pytest
import scripts
import torch

from agent import run
from agent.loop import executor
from agent.loop.executor import ToolRunner
from agent.loop.record import RunRecord, RunTasks
from agent.loop.task_check import task
from experiments_db.records import Run
from experiments_db.store import Store
from tools.engine import executor as sweeps
from tools.engine import suffix
from tools.methods import forecasting
from tools.methods.forecasting import Forecast, Pace, Work, forecast, measure
from tools.methods.measuring import load_examples
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import load_subject

TOOLS = discover()
POSITIONS = Pace(0.0, 1.0, 0.0, 0.0)  # a second for each position of each block
CALLS = [
    ("loss", {"tasks": ["addition"]}),
    ("ablate", {"task": "addition", "components": ["mlp.out@answer", "attn.z[*]@answer"], "intervention": "resample(donor)"}),
    ("ablate", {"task": "addition", "components": ["attn.out"], "intervention": "zero"}),
    ("patch", {"task": "addition", "components": ["resid_pre@each"]}),
    ("layer_program", {"tasks": ["addition"], "sweep": "skip_ranges"}),
    ("examine", {"kind": "necessary", "task": "addition", "components": ["decoder.0.mlp.out@answer"]}),
]


@pytest.fixture(scope="module")
def demo():
    return load_subject("demo", device="cpu")


@pytest.fixture(scope="module")
def ctx(demo):
    return Context(demo, OfflineTasks([]), Nothing())


@pytest.fixture
def runner(demo, tmp_path):
    store = Store(tmp_path / "e.db")
    store.put_run(Run(name="r", goal="g", subject="demo", planner="p", settings={}))
    return ToolRunner(demo, RunRecord(store, "r"), RunTasks(store, "r"), 0)


# -- what it says ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "args"), CALLS, ids=[f"{n} {i}" for i, (n, _) in enumerate(CALLS)])
def test_it_counts_the_blocks_and_positions_that_then_run(ctx, name, args, monkeypatch):
    tool = TOOLS[name]
    parsed = tool.parse({**args, "examples": 24})
    said = forecast(ctx, tool.work(parsed, ctx), POSITIONS).seconds
    said -= forecasting.PER_CONDITION * len(tool.work(parsed, ctx)[0].conditions)
    ran = 0
    for module in (sweeps, suffix):

        def counted(call, block, h, *rest, original=module.run_block, **more):
            nonlocal ran
            ran += h.shape[0] * h.shape[1]
            return original(call, block, h, *rest, **more)

        monkeypatch.setattr(module, "run_block", counted)
    tool.run(parsed, ctx)
    assert 0.6 * ran <= said <= 1.67 * ran


def test_more_conditions_and_slower_parts_take_longer_and_the_longer_of_two_batches_counts_for_memory(ctx):
    _, examples = load_examples(ctx, "addition", 32)
    task_, _ = load_examples(ctx, "addition", 8)
    conditions = [c for w in TOOLS["ablate"].work(TOOLS["ablate"].parse(CALLS[1][1]), ctx) for c in w.conditions]
    few, many = (forecast(ctx, [Work(task_, examples, conditions[:n])], POSITIONS).seconds for n in (4, 40))
    assert few < many
    pace = Pace(0.1, 0.0, 0.2, 0.0)
    assert forecast(ctx, [Work(task_, examples)], replace(pace, row=0.4)).seconds > forecast(ctx, [Work(task_, examples)], pace).seconds
    assert Forecast(1.0, 5.0) + Forecast(2.0, 3.0) == Forecast(3.0, 5.0)


def test_the_pace_is_measured_and_leaves_random_numbers_as_they_were(ctx):
    _, examples = load_examples(ctx, "addition", 8)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    pace = measure(ctx.subject, examples)
    assert pace.position > 0 < pace.row
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("found", "says"),
    [(Forecast(0.26, 4e6), "about 0.3 s and 4 MB"), (Forecast(12.0, 2.1e9), "about 12 s and 2.1 GB"), (Forecast(600.0, 1e8), "about 10 min and 100 MB")],
)
def test_it_is_said_in_words(found, says):
    assert found.text == says


def test_nothing_is_said_where_nothing_is_known_or_the_call_is_wrong(runner):
    def said(name, **args):
        return runner.forecast(TOOLS[name], TOOLS[name].parse(args))

    assert said("loss", tasks=["addition"]) is not None
    assert said("loss", tasks=["no such task"]) is None
    assert said("list_tasks") is None
    assert said("examine", kind="decodable", task="addition", label="carry", components=["decoder.0.resid_post@answer"]) is None


def test_the_task_check_says_what_the_first_experiments_take():
    said = [f.says for f in task("addition", "demo", "cpu") if f.about == "forecast"]
    assert [s.partition(", on 72 examples: about ")[0] for s in said] == [
        "how well it is done (loss)", "each attention and each MLP removed (ablate)", "the twin's residual stream at each depth and place (patch)",
    ]  # fmt: skip


# -- what a planner is told --------------------------------------------------------------------------------------------

LOSS = {"name": "loss", "arguments": {"tasks": ["addition"], "examples": 16}}


def investigated(folder, *more):
    end = {"name": "finish", "arguments": {"outcome": "not_found", "summary": "Nothing was looked for."}}
    turns = [{"text": why, "calls": [call]} for why, call in (("see", LOSS), ("again", LOSS), ("end", end))]
    script = scripts.write(folder / "script.jsonl", turns)
    argv = ["--planner", f"scripted:{script}", "--db", str(folder / "e.db"), "--out", str(folder / "t"), "--device", "cpu", "--quiet"]
    assert run.main(["--goal", "can the demo add", *argv, *more]) == 0
    store = Store(folder / "e.db")
    (name,) = store.runs()
    return store, name, [e.payload for e in store.events(name) if e.kind == "answer"]


def test_a_call_that_takes_most_of_the_minutes_left_is_held_back_once(tmp_path, monkeypatch):
    monkeypatch.setattr(executor, "measure", lambda *_: Pace(0.0, 0.0, 0.0, 6.0))
    _, _, (first, second, *_) = investigated(tmp_path, "--max-minutes", "2")
    assert first["status"] == "rejected"
    assert "about 2 min" in first["text"]
    assert "min are left. Name fewer components or examples, or ask for the same again" in first["text"]
    assert second["status"] == "ok"


@pytest.mark.parametrize(("seconds", "more"), [(6.0, ()), (1e-4, ("--max-minutes", "2"))], ids=["no limit", "in time"])
def test_other_calls_run_at_once_and_what_is_kept_does_not_depend_on_the_forecast(tmp_path, monkeypatch, seconds, more):
    monkeypatch.setattr(executor, "measure", lambda *_: Pace(0.0, 0.0, 0.0, seconds))
    store, name, (first, *_) = investigated(tmp_path, *more)
    assert first["status"] == "ok"
    kept = [str(e.payload) for e in store.events(name)]
    assert not any("MB" in text for text in kept)


# -- out of memory -----------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(demo):
    """Sets how many positions an MLP and how many states the head takes before memory runs out."""
    most = {"mlp": 10**9, "head": 10**9}

    def guard(kind, error):
        def before(_, given):
            if given[0].numel() // given[0].shape[-1] > most[kind]:
                raise error(f"tried to allocate for the {kind}")

        return before

    model = demo.model
    hooks = [b.mlp.register_forward_pre_hook(guard("mlp", MemoryError)) for b in model.transformer.h]
    hooks.append(model.lm_head.register_forward_pre_hook(guard("head", torch.OutOfMemoryError)))
    yield most.update
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("limits", [{"mlp": 100}, {"head": 20}], ids=str)
@pytest.mark.parametrize(("name", "args"), [CALLS[0], CALLS[2], ("lens", {"task": "addition"})], ids=["loss", "ablate", "lens"])
def test_with_less_memory_it_goes_on_with_less_at_once_and_says_the_same(runner, limited, name, args, limits):
    parsed = TOOLS[name].parse({**args, "examples": 16})
    whole = runner.execute(TOOLS[name], parsed)
    limited(limits)
    small = runner.execute(TOOLS[name], parsed)
    assert (whole.status, small.status) == ("ok", "ok")
    assert [m.value for m in small.measurements] == pytest.approx([m.value for m in whole.measurements], abs=1e-4)


@pytest.mark.parametrize("part", ["mlp", "head"])
def test_where_not_even_one_example_fits_it_fails_and_says_why(runner, limited, part):
    limited({part: 0})
    found = runner.execute(TOOLS["loss"], TOOLS["loss"].parse({"tasks": ["addition"], "examples": 16}))
    assert found.status == "failed"
    assert f"out of memory at 8 tokens a batch: tried to allocate for the {part}" in found.text


def test_a_call_that_cannot_be_read_is_still_refused_by_the_call_itself(runner):
    with pytest.raises(ToolInputError, match="there is no task"):
        runner.run(TOOLS["loss"], TOOLS["loss"].parse({"tasks": ["no such task"]}))
