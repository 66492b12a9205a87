"""Looking at what is sealed: the examples on which findings are settled, and what was measured there."""

import random
from collections.abc import Iterator
from typing import Any

from agent.loop.executor import asked_of
from agent.loop.record import RunTasks
from benchmarks.claims.case import Case, Said, about, accepted, one, settled
from benchmarks.claims.flow import base, world_of
from benchmarks.claims.stage import EARLIER, Call, Played, Script, World
from benchmarks.claims.worlds import Worlds

CONDITIONS = (
    ["split=confirm"], ["split!=explore"], ["split>=confirm"], ["split<d", "name=effect"], ["run=earlier"], ["tool=examine"],
    ["split>=a", "split=confirm"], ["experiment=E8"], ["experiment=E9"], ["value>-1e9"], [],
)  # fmt: skip
FIELDS = ({"split": "confirm"}, {"draw": 0}, {"Split": "confirm"}, {"seed": 1})
SIZES = ((64, 32), (96, 48), (32, 64), (80, 20), (64, 64))
WIDE = {"this_run": False, "limit": 200}


def shows(text: str) -> Said:
    """Whether an answer of this script holds a text."""
    return lambda played: any(text in a.text for _, a in played.answers)


def looked_at(played: Played, run: str) -> list[tuple[str, int, set[str]]]:
    """(handle, seq, groups) of each experiment of a run on confirm examples."""
    tasks = RunTasks(played.store, run)
    out: list[tuple[str, int, set[str]]] = []
    for row in played.store.experiments(run):
        args, split, draw = asked_of(row.experiment)
        if split == "confirm":
            chosen = tasks.get(args["task"]).among(args.get("among", ""))
            examples = chosen.examples("confirm", args["examples"], row.experiment.seed, draw)
            out.append((row.handle, row.seq, {e.group for e in examples}))
    return out


def seen_before(played: Played) -> bool:
    """Whether a finding of the run was settled on examples of an earlier round or run, without saying so."""
    earlier = [g for _, _, g in looked_at(played, EARLIER)] if EARLIER in played.store.runs() else []
    mine = looked_at(played, played.run)
    for f in played.record.findings():
        if f.experiment is not None and not f.reused:
            seq, groups = next((s, g) for h, s, g in mine if h == f.experiment)
            if any(groups & g for g in [*earlier, *(g for _, s, g in mine if s < seq)]):
                return True
    return False


def explored(played: Played) -> bool:
    """Whether a task of the planner's own puts what is sealed elsewhere among the examples to explore."""
    tasks = RunTasks(played.store, played.run)
    made = [d for d in tasks.made() if d.origin == "planner"]
    known = [d.name for d in tasks.made() if d.origin == "file"]
    sealed = {e.prompt for name in known for e in tasks.get(name).examples("confirm", 2000)}
    return any(e.prompt in sealed for d in made for e in tasks.get(d.name).examples("explore", 2000))


def on_confirm(played: Played) -> bool:
    """Whether anything was measured on confirm examples outside a round."""
    settled_in = {f.experiment for f in played.record.findings()}
    return any(h not in settled_in for h, _, _ in looked_at(played, played.run))


def cached(played: Played) -> bool:
    """Whether a round took its result from another run."""
    return any(r.cached for r in played.record.experiments() if asked_of(r.experiment)[1] == "confirm")


def confirmed(played: Played) -> bool:
    """Whether all findings of the run were confirmed, of at least one."""
    findings = played.record.findings()
    return bool(findings) and all(f.fate == "confirmed" for f in findings)


def _task(rows: list[dict[str, Any]]) -> Call:
    """A task of one's own from examples of another."""
    return "make_task", {
        "name": "own", "description": "The same.", "prompts": [r["prompt"] for r in rows], "answers": [r["answer"] for r in rows],
    }  # fmt: skip


def leaked(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """By query, recall, references, other runs, arguments, tasks of one's own, rounds that overlap."""
    for i in range(n):
        w = world_of(worlds, rng)
        yield _reading(w, rng, i % 14) if i % 14 < 9 else _overlapping(w, rng, i % 14)


def _reading(w: World, rng: random.Random, kind: int) -> Case:
    """What is on record, or could be asked for."""
    before, right, _ = base(w, rng)
    start: Script = (one(("loss", {"tasks": [w.task]})),)
    conditions = list(rng.choice(CONDITIONS))
    grouped = {"group_by": [rng.choice(["experiment", "name"]), "split"], "aggregate": rng.choice(["max", "mean"])}
    fair: Call = ("query", {"where": ["split=explore"], **WIDE})
    again: Script = (
        one(("examine", about(w.task, "necessary", [right], examples=70))),
        one(("predict", {"experiment": "$E"})),
    )
    a = about(w.task, "necessary", [right])
    field = rng.choice(FIELDS)
    removal: dict[str, object] = {"task": w.task, "intervention": "zero"}
    tool, args = rng.choice([("examine", a), ("loss", {"tasks": [w.task]}), ("ablate", removal)])
    rows = list(w.data[0].examples)
    sides = {s: [e for e in rows if e["split"] == s][:32] for s in ("explore", "confirm")}
    handle, old = rng.choice(["earlier/E8", "E8", "F1"]), rng.choice(["E2", "E3", "E4"])
    recalled, noted = accepted("recall"), accepted("note")
    predicted, made = accepted("predict"), accepted("make_task")
    other, own = {"text": "It is {{E8.p}}."}, {"text": "It is {{E1.accuracy}}."}
    asked, plain = one((tool, {**args, **field})), one((tool, args))
    confirmed_in = rng.choice(["E7", "E8", "E9"])
    words, hostile, true, leaks, passes, begun, earlier = (
        (f"query {conditions}", one(("query", {"where": conditions, **WIDE})), (one(fair),), shows(" confirm "), shows(" explore "),
         start, before),
        (f"query by {grouped['group_by']}", one(("query", {**grouped, **WIDE})), (one(fair),), shows("| confirm"),
         shows(" explore "), start, before),
        ("recall of another run", one(("recall", {"handle": handle})), (one(("recall", {"handle": "E1"})),), recalled, recalled,
         start, before),
        ("reference to another run", one(("note", other)), (one(("note", own)),), noted, noted, start, before),
        (f"{tool} with {field}", asked, (plain,), on_confirm, accepted(tool), start, ()),
        (f"{tool} with {field}, accepted", asked, (plain,), accepted(tool), accepted(tool), start, ()),
        ("prediction from what was settled", one(("predict", {"experiment": confirmed_in})), again, predicted, predicted, before,
         ()),
        ("sealed prompts in a task", one(_task(sides["confirm"])), (one(_task(sides["explore"])),), explored, made, start, ()),
        ("the same statement again", one(("predict", {"experiment": old})), again, predicted, predicted, before,
         ()),
    )[kind]  # fmt: skip
    return Case("leaked", w.name, words, (hostile,), true, leaks, begun, earlier=earlier, passes=passes)


def _overlapping(w: World, rng: random.Random, kind: int) -> Case:
    """Rounds of different sizes, here and in a later run, and what a later run finds ready."""
    _, right, _ = base(w, rng)
    a = about(w.task, "necessary", [right])
    sizes = rng.choice(SIZES)
    first, second = settled({**a, "examples": sizes[0]}), settled({**about(w.task, "capability"), "examples": sizes[1]})
    words, hostile, true, leaks, earlier = {
        9: (f"rounds of {sizes}", (*first, *second), (*first, *second), seen_before, ()),
        10: (f"rounds of {sizes}", (*second, *first), (*second, *first), seen_before, ()),
        11: (f"rounds of {sizes} in two runs", second, second, seen_before, first),
        12: ("the same statement in a later run", settled(a), settled(a), seen_before, settled(a)),
        13: ("a later run's cache", settled(a), settled(a), cached, settled(a)),
    }[kind]
    return Case("leaked", w.name, words, hostile, true, leaks, earlier=earlier, passes=confirmed)


CLASSES = (leaked,)
