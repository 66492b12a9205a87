"""A modality that the project does not know takes a family file, a port file and a task file, and no change anywhere else."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tools.ports
import tools.subjects
import tools.tasks
from agent.run import main
from experiments_db.findings import Statement
from experiments_db.places import Component
from experiments_db.store import Store
from tools.findings.examining import examine
from tools.findings.integrity import check
from tools.methods.effects import Condition, score_under
from tools.methods.offline import Nothing
from tools.methods.pairing import auto_twins
from tools.methods.tool import Context, ToolInputError, discover
from tools.ports import port_of
from tools.subjects import Subject, load_subject
from tools.tasks import Task, get_task

HERE = Path(__file__).parent / "newcomer"
STEPS = 700
PARTS = (("family", tools.subjects), ("port", tools.ports), ("task", tools.tasks))


class Book:
    def get(self, spec: str) -> Task:
        return get_task(spec)

    def made(self) -> list[Any]:
        return []


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A trained tower, loaded from its folder like any other model."""
    folder = tmp_path_factory.mktemp("newcomer")
    for kind, package in PARTS:
        (folder / kind).mkdir()
        name = next(p for p in HERE.glob(f"{kind}_*.py"))
        shutil.copy(name, folder / kind / name.name.removeprefix(f"{kind}_"))
        package.__path__.append(str(folder / kind))
    from tools.subjects.tower import TowerConfig, TowerForRegression

    torch.manual_seed(0)
    model = TowerForRegression(TowerConfig())
    made = get_task("marked").examples("explore", 3000, seed=7)
    x = torch.tensor(np.stack([e.inputs["series"].data for e in made]))
    y = torch.tensor([float(e.target) for e in made])
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(STEPS):
        rows = torch.randint(len(x), (128,), generator=torch.Generator().manual_seed(step))
        loss = (model(x[rows]).logits[:, 0] - y[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder / "model")
    tower = load_subject(str(folder / "model"))
    config = json.loads((folder / "model" / "config.json").read_text())
    assert config["architectures"] == ["TowerForRegression"]
    yield tower
    for _, package in PARTS:
        package.__path__.pop()


@pytest.fixture(scope="module")
def ctx(tower: Subject) -> Context:
    return Context(subject=tower, tasks=Book(), history=Nothing())


def run(ctx: Context, name: str, **arguments: Any) -> Any:
    tool = discover()[name]
    return tool.run(tool.parse(arguments), ctx)


def value(outcome: Any, name: str, **where: Any) -> float:
    found = [m for m in outcome.measurements if m.name == name and all(getattr(m, k) == v for k, v in where.items())]
    assert found, (name, where, [m.key for m in outcome.measurements][:20])
    return found[0].value


def test_the_gate_passes_it_with_what_it_has(tower: Subject) -> None:
    report = check(tower)
    assert not [c for c in report.checks if c.verdict == "fails"]
    assert {c.part for c in report.checks if c.name == "edit"} == {
        "resid_pre", "attn.z", "attn.out", "resid_mid", "mlp.act", "mlp.out", "resid_post"
    }


def test_it_is_described_and_scored_by_its_own_objective(ctx: Context) -> None:
    assert port_of(ctx.subject).first == "error"
    assert "is scored by error, margin" in run(ctx, "describe_subject").text
    scored = run(ctx, "loss", tasks=["marked"])
    assert value(scored, "error") < 0.1
    assert not {"accuracy", "nll", "rank"} & {m.name for m in scored.measurements}


def test_the_marked_value_is_found_where_it_enters_and_at_the_end_where_it_is_read(ctx: Context) -> None:
    patched = run(ctx, "patch", task="marked", components=["tower.0.resid_pre@marked", "tower.0.resid_pre@-1", "tower.2.resid_post@-1"])
    assert value(patched, "recovered", component="tower.0.resid_pre@marked") > 0.95
    assert abs(value(patched, "recovered", component="tower.0.resid_pre@-1")) < 0.1
    assert value(patched, "recovered", component="tower.2.resid_post@-1") > 0.95


def test_findings_about_it_are_made_of_its_objective(ctx: Context) -> None:
    def fate(kind: str, **fields: Any) -> float:
        made = Statement(kind=kind, task="marked", objective="error", examples=128, **fields)
        return next(m.value for m in reversed(examine(made, ctx).measurements) if m.name == "probability")

    assert fate("capability") > 0.5
    assert fate("cannot") < 0.2
    assert fate("carries", components="tower.0.resid_pre@marked") > 0.5
    assert fate("carries", components="tower.0.resid_pre@-1") < 0.2
    with pytest.raises(ToolInputError, match="scored by error, margin"):
        examine(Statement(kind="capability", task="marked", examples=128), ctx)


def test_the_general_tools_run_on_it(ctx: Context) -> None:
    ablated = run(ctx, "ablate", task="marked", components=["attn.out@-1", "mlp.out@-1"], intervention="resample")
    assert max(m.value for m in ablated.measurements if m.name == "error.delta") > 0.05
    run(ctx, "layer_program", tasks=["marked"], sweep="skip_each")
    run(ctx, "minimal_set", task="marked", components=["attn.out@-1"], goal="breaking", intervention="zero")
    read = run(ctx, "probe", task="marked", label="positive", components=["tower.0.resid_pre@marked"], examples=256)
    assert value(read, "accuracy") > 0.9
    attributed = run(ctx, "attribute", task="marked", method="patching", components=["attn.out", "mlp.out"])
    assert value(attributed, "agreement") > 0.5
    run(ctx, "path_patch", task="marked", components=["tower.0.attn.out@-1"], receiver="tower.2.mlp.out@-1")


def test_the_port_says_who_can_be_a_twin_and_over_whom_is_averaged(ctx: Context) -> None:
    marked = get_task("marked")
    made = marked.examples("explore", 60, seed=3)
    found = auto_twins(ctx.subject, marked, [replace(e, twin_inputs=None, foil=None, twin_spans={}) for e in made], 0)
    assert all(e.spans == e.twin_spans and abs(float(e.target) - float(e.foil)) >= 0.5 for e in found if e.foil is not None)
    assert sum(e.foil is not None for e in found) > 40
    # Two series, marked elsewhere, several times each: its own kind's mean is what is there already.
    a, b = next(e for e in made if e.labels["at"] == 0), next(e for e in made if e.labels["at"] == 2)
    same = [replace(e, group=f"{i}") for i, e in enumerate((a, b) * 4)]
    for place, changes in (("tower.1.resid_pre@0", False), ("tower.1.resid_pre", True)):
        intact, mean = score_under(ctx, marked, same, [Condition.of(Component.parse(place), "mean")])
        moved = np.abs(mean.others["error"] - intact.others["error"]).max()
        assert (moved > 1e-3) == changes  # a mean over positions is another thing


def test_a_goal_about_it_ends_in_a_confirmed_report_in_its_own_objective(tower: Subject, tmp_path: Path) -> None:
    goal, db = "where does the tower read the marked value?", tmp_path / "e.db"
    argv = ["--goal", goal, "--subject", tower.name, "--db", str(db), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*argv, "--null-twins", "0", "--max-experiments", "36"]) == 0
    store = Store(db)
    standing = [f.statement for f in store.findings(store.runs()[0]) if f.stands]
    assert {(s.kind, s.objective) for s in standing} >= {("capability", "error"), ("necessary", "error")}
    assert all(s.objective == "error" for s in standing)
    # The last time has to read the marked one, which attention alone can do.
    assert {c.part for s in standing if s.kind == "necessary" for c in s.members} <= {"attn.out", "attn.z"}
    report = next(tmp_path.glob("out/*/report.md")).read_text()
    assert "its error is" in report
    assert "the error gets worse by" in report
    assert "accuracy" not in report.split("## ")[0]


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("lens", {"task": "marked"}, "no token or class"),
        ("attention", {"task": "marked"}, "attn.pattern"),
        ("generate", {"prompts": ["a"]}, "it gives a number"),
        ("mistakes", {"task": "marked"}, "no words of its own"),
        ("tuned_lens", {"tasks": ["marked"]}, "it gives a number"),
    ],
)
def test_what_it_cannot_do_is_refused_with_the_reason(ctx: Context, name: str, arguments: dict[str, Any], why: str) -> None:
    with pytest.raises((ToolInputError, tools.subjects.SubjectError), match=why):
        run(ctx, name, **arguments)
