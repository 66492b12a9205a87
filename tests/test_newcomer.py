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
from agent.loop.offering import usable
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
        "resid_pre", *(f"attn.{p}" for p in ("q", "k", "v", "z", "out")), "resid_mid", "mlp.act", "mlp.out", "resid_post"
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


RUNS = {  # every general tool that experiments, with a call for the tower
    "ablate": {"task": "marked", "components": ["attn.out@-1", "mlp.out@-1"], "intervention": "resample"},
    "attention": {"task": "marked"},
    "attribute": {"task": "marked", "method": "patching", "components": ["attn.out", "mlp.out"]},
    "describe_subject": {},
    "examine": {"kind": "carries", "task": "marked", "objective": "error", "components": ["*.0.resid_pre@marked"]},
    "illustrate": {"task": "marked", "zero": ["*.0.attn.out@-1"], "programs": ["skip 2"], "attention": "tower.attn"},
    "layer_program": {"tasks": ["marked"], "sweep": "skip_each"},
    "lens": {"task": "marked"},
    "loss": {"tasks": ["marked"]},
    "minimal_set": {"task": "marked", "components": ["attn.out@-1"], "goal": "breaking", "intervention": "zero"},
    "patch": {"task": "marked", "components": ["*.0.resid_pre@marked", "*.0.resid_pre@-1"]},
    "path_patch": {"task": "marked", "components": ["*.0.attn.out@-1"], "receiver": "*.2.mlp.out@-1"},
    "probe": {"task": "marked", "label": "positive", "components": ["*.0.resid_pre@marked"], "examples": 256},
    "qk_map": {"task": "marked", "blocks": [0]},
    "relation_probe": {"task": "starred", "examples": 80},
    "rep_similarity": {"tasks": ["marked", "marked:filled=mirrored"], "components": ["resid_post@-1"]},
    "steer": {"task": "marked", "label": "positive", "value": "False", "components": ["*.2.resid_post"], "doses": [0, 2]},
    "structural_probe": {"task": "starred", "components": ["*.1.resid_post@all"], "rank": 8, "examples": 80, "steps": 30},
}
NOT_FOR_IT = {  # and those that mean nothing for what gives a number: how they are called, and what is said
    "attribute_regions": ({"task": "marked"}, "image"),
    "cluster": ({"task": "marked", "components": ["attn.out@-1"]}, "probability"),
    "cross_dataset": ({"tasks": ["marked", "starred"], "components": ["*.1.mlp.act[3]"]}, "tokens"),
    "sparse_autoencoder": ({"tasks": ["marked"], "components": ["*.1.mlp.act"]}, "tokens"),
    "causal_basis": ({"tasks": ["marked"], "components": ["*.0.resid_pre"]}, "it gives a number"),
    "converse": ({"says": "hello"}, "marked|conversation|attributes"),
    "experiment": ({}, ""),
    "generate": ({"prompts": ["a"]}, "it gives a number"),
    "inference_time_intervention": ({"task": "marked"}, "no foils|statements|it gives a number"),
    "mistakes": ({"task": "marked"}, "no words of its own"),
    "rewrite": ({"task": "marked", "label": "positive"}, "counterfactuals|would be right"),
    "trajectory_anomaly": ({"normal": "marked", "anomalous": "starred"}, "it gives a number"),
    "tuned_lens": ({"tasks": ["marked"]}, "it gives a number"),
    "user_model": ({"task": "marked"}, "user"),
}
MEANINGLESS = {"accuracy", "probability", "rank", "nll", "nll_per_token", "kl", "answer_logit"}


@pytest.fixture(scope="module")
def ran(ctx: Context) -> dict[str, Any]:
    return {name: run(ctx, name, **arguments) for name, arguments in RUNS.items()}


def test_every_tool_that_experiments_runs_on_it_or_is_said_to_mean_nothing(ran: dict[str, Any]) -> None:
    assert {n for n, t in discover().items() if t.kind == "experiment"} == {*RUNS, *NOT_FOR_IT}
    for name, outcome in ran.items():
        assert outcome.text
        if name not in ("probe", "examine"):  # whose accuracy is the probe's; a finding's p value is a probability
            assert not MEANINGLESS & {m.name.removesuffix(".delta") for m in outcome.measurements}, name
        assert not [m for m in outcome.measurements if m.unit.startswith("logits") or "decoder" in (m.component or "")], name
        assert "logits" not in outcome.text, name


def test_the_general_tools_find_what_the_tower_does(ran: dict[str, Any]) -> None:
    assert max(m.value for m in ran["ablate"].measurements if m.name == "error.delta") > 0.05
    assert "error.delta" in ran["ablate"].text
    assert value(ran["patch"], "recovered", component="tower.0.resid_pre@marked") > 0.95
    assert abs(value(ran["patch"], "recovered", component="tower.0.resid_pre@-1")) < 0.1
    assert value(ran["probe"], "accuracy") > 0.9
    assert value(ran["attribute"], "agreement") > 0.5
    depths = [m.value for m in ran["lens"].measurements if m.name == "error"]
    assert depths[0] > depths[1] > 0.1 > depths[-1] == value(ran["loss"], "error")
    similar = next(m for m in ran["rep_similarity"].measurements if m.name == "retrieval" and "2.resid_post" in m.component)
    assert similar.value > 0.8 > 0.4 > similar.control.value
    steered = {m.dose: m for m in ran["steer"].measurements if m.name == "error"}
    assert steered[2].value > 5 * steered[2].control.value > steered[0].value
    assert value(ran["qk_map"], "attention_change") < 1e-6
    arcs = next(m for m in ran["relation_probe"].measurements if m.name == "relation" and m.component == "tower.0.attn.pattern")
    assert arcs.value > arcs.control.value  # who is looked at, and not how far apart they are
    tree = next(m for m in ran["structural_probe"].measurements if m.name == "distance_spearman.beyond")
    assert tree.low < 0  # it was told of no tree


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


@pytest.mark.parametrize("name", sorted(NOT_FOR_IT))
def test_what_it_cannot_do_is_refused_with_the_reason_or_not_offered(ctx: Context, name: str) -> None:
    arguments, why = NOT_FOR_IT[name]
    if name not in usable(discover(), ctx.subject, ctx.tasks):
        return
    with pytest.raises((ToolInputError, tools.subjects.SubjectError), match=why):
        run(ctx, name, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("attribute", {"task": "marked", "method": "direct"}, "no token or class"),
        ("lens", {"prompt": "a"}, "it gives a number"),
        ("steer", {**RUNS["steer"], "measure": "generate"}, "it gives a number"),
        ("patch", {**RUNS["patch"], "written": True}, "no words of its own"),
    ],
)
def test_an_option_that_means_nothing_for_it_is_refused_with_the_reason(
    ctx: Context, name: str, arguments: dict[str, Any], why: str
) -> None:
    with pytest.raises((ToolInputError, tools.subjects.SubjectError), match=why):
        run(ctx, name, **arguments)
