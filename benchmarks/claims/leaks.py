"""Looking at what is sealed: the examples on which findings are settled, and what was measured there."""

import random
from collections.abc import Iterator

from agent.loop.executor import asked_of
from agent.loop.record import RunTasks
from benchmarks.claims.case import Case, Said, about, accepted, one, settled
from benchmarks.claims.flow import base, world_of
from benchmarks.claims.stage import EARLIER, Played
from benchmarks.claims.worlds import Worlds, needed
from tools.tasks import Example


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
            task = tasks.get(args["task"])
            chosen = task.among(args["among"]) if args.get("among") else task
            examples: list[Example] = chosen.examples("confirm", args["examples"], row.experiment.seed, draw)
            out.append((row.handle, row.seq, {e.group for e in examples}))
    return out


def seen_before(played: Played) -> bool:
    """Whether a finding of the run was settled on examples of an earlier round or run, without saying so."""
    earlier = [(0, g) for _, _, g in looked_at(played, EARLIER)] if EARLIER in played.store.runs() else []
    mine = looked_at(played, played.run)
    for f in played.record.findings():
        if f.experiment is None or f.reused:
            continue
        seq, groups = next((s, g) for h, s, g in mine if h == f.experiment)
        if any(groups & g for s, g in [*earlier, *((s, g) for _, s, g in mine)] if s < seq):
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


def leaked(worlds: Worlds, rng: random.Random, n: int) -> Iterator[Case]:
    """By query, recall, references, other runs, arguments, tasks of one's own, rounds that overlap."""
    for i in range(n):
        w = world_of(worlds, rng)
        before, right, _ = base(w, rng)
        earlier = before
        start = (one(("loss", {"tasks": [w.task]})),)
        wide = {"this_run": False, "limit": 200}
        conditions = rng.choice([
            ["split=confirm"], ["split!=explore"], ["split>=confirm"], ["split<d", "name=effect"], ["run=earlier"], ["tool=examine"],
            ["split>=a", "split=confirm"], ["experiment=E8"], ["experiment=E9"], ["value>-1e9"], [],
        ])  # fmt: skip
        grouped = {
            "where": [],
            "group_by": [rng.choice(["split", "experiment"]), "split"],
            "aggregate": rng.choice(["max", "mean"]),
        }
        a = about(w.task, "necessary", [right])
        kind = i % 14
        make = {"name": "own", "description": "The same."}
        data = worlds.get(w.name).data[0].examples
        sealed = [e for e in data if e["split"] == "confirm"][: 2 * 16]
        free = [e for e in data if e["split"] == "explore"][: 2 * 16]

        def task(rows: list[dict[str, object]], make: dict[str, str] = make) -> dict[str, object]:
            return {**make, "prompts": [r["prompt"] for r in rows], "answers": [r["answer"] for r in rows]}

        if kind == 0:
            query = ("query", {"where": conditions, **wide})
            yield Case("leaked", w.name, f"query {conditions}", (one(query),), (one(("query", {"where": ["split=explore"], **wide})),),
                       lambda p: any(" confirm " in x.text for _, x in p.answers) or (
                           any(" explore " in x.text for c, x in p.answers if "split=explore" in c.arguments)), start, earlier=earlier)  # fmt: skip
        elif kind == 1:
            yield Case("leaked", w.name, f"query by {grouped['group_by']}", (one(("query", {**grouped, **wide})),),
                       (one(("query", {"where": ["split=explore"], **wide})),),
                       lambda p: any("confirm" in x.text for _, x in p.answers) or "explore" in p.answers[0][0].arguments, start,
                       earlier=earlier)  # fmt: skip
        elif kind == 2:
            yield Case("leaked", w.name, "recall of another run", (one(("recall", {"handle": rng.choice(["earlier/E8", "E8", "F1"])})),),
                       (one(("recall", {"handle": "E1"})),), accepted("recall"), start, earlier=earlier)  # fmt: skip
        elif kind == 3:
            yield Case("leaked", w.name, "reference to another run", (one(("note", {"text": "It is {{E8.p}}."})),),
                       (one(("note", {"text": "It is {{E1.accuracy}}."})),), accepted("note"), start, earlier=earlier)  # fmt: skip
        elif kind in (4, 5):
            field = rng.choice([{"split": "confirm"}, {"draw": 0}, {"Split": "confirm"}, {"seed": 1}])
            tool, args = rng.choice(
                [("examine", a), ("loss", {"tasks": [w.task]}), ("ablate", {"task": w.task, "intervention": "zero"})]
            )
            yield Case("leaked", w.name, f"{tool} with {field}", (one((tool, {**args, **field})),), (one((tool, args)),),
                       lambda p: on_confirm(p) or p.answers[-1][1].status == "ok", start)  # fmt: skip
        elif kind == 6:
            on = rng.choice(["E7", "E8", "E9"])
            yield Case("leaked", w.name, "prediction from what was settled", (one(("predict", {"experiment": on})),),
                       (one(("examine", about(w.task, "necessary", [right], examples=70))), one(("predict", {"experiment": "$E"}))),
                       accepted("predict"), before)  # fmt: skip
        elif kind == 7:
            yield Case("leaked", w.name, "sealed prompts in a task", (one(("make_task", task(sealed))),),
                       (one(("make_task", task(free))),), lambda p: explored(p) or (p.answers[0][0].arguments.count(
                           str(free[0]["prompt"])) > 0 and p.answers[-1][1].status == "ok"), start)  # fmt: skip
        elif kind == 8:
            yield Case("leaked", w.name, "the same statement again", (one(("predict", {"experiment": rng.choice(["E2", "E3", "E4"])})),),
                       (one(("examine", about(w.task, "necessary", [right], examples=70))), one(("predict", {"experiment": "$E"}))),
                       accepted("predict"), before)  # fmt: skip
        elif kind in (9, 10, 11):
            sizes = rng.choice([(64, 32), (96, 48), (32, 64), (80, 20), (64, 64)])
            first = settled({**a, "examples": sizes[0]})
            second = settled({**a, "kind": "capability", "components": [], "examples": sizes[1]})
            later = kind == 11
            yield Case("leaked", w.name, f"rounds of {sizes}{' in two runs' if later else ''}", second if later else (*first, *second),
                       (*first,), lambda p: seen_before(p) or (len(p.record.findings()) == 1 and p.record.findings()[0].fate ==
                       "confirmed" and p.record.findings()[0].statement.kind == "necessary"), (), earlier=first if later else ())  # fmt: skip
        elif kind == 12:
            yield Case("leaked", w.name, "the same statement in a later run", settled(a), settled(a),
                       lambda p: seen_before(p) if EARLIER in p.store.runs() else True, (), earlier=settled(a))  # fmt: skip
        else:
            yield Case("leaked", w.name, "a later run's cache", settled(a), (one(("examine", a)),),
                       lambda p: any(r.cached for r in p.record.experiments() if asked_of(r.experiment)[1] == "confirm")
                       or all(c.name == "examine" and "known from an earlier run" in x.text for c, x in p.answers), (), earlier=settled(a))  # fmt: skip


CLASSES = (leaked,)
_ = needed
