"""Runs, or two experiments, side by side: findings in pairs, maps laid over each other or subtracted."""

import json
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from agent.loop.record import Reading
from agent.report.conclusion import conclude
from agent.report.summary import summary
from agent.report.tested import effect_words
from agent.review.experiment import figure
from agent.review.maps import maps, subtracted
from agent.review.pages import ROWS, Context, NotFound, Pages
from agent.review.texts import arguments_text
from experiments_db.places import Component
from experiments_db.records import COORDINATES, Measurement
from experiments_db.store import Store

MOST = 10  # runs that are laid beside each other


def compare(pages: Pages, asked: Sequence[str]) -> Context:
    """Up to ten runs, or two experiments written RUN/E3."""
    names = list(dict.fromkeys(a for a in asked if a)) if len(asked) > 2 else [a for a in asked if a]
    if len(names) < 2:
        return {"kind": "nothing", "asked": [*names, "", ""][:2], "names": pages.names()}
    if len(names) > MOST:
        raise NotFound(f"compare at most {MOST} runs, not {len(names)}")
    if len(names) == 2 and all("/" in n for n in names):
        return _experiments(pages, names[0], names[1])
    if any("/" in n for n in names):
        raise NotFound("compare runs, or two experiments written RUN/E3")
    return _runs(pages, [pages.resolve(n) for n in names])


def _runs(pages: Pages, names: Sequence[str]) -> Context:
    """Summaries, findings in pairs, maps laid over each other, experiments that are in all or in one."""
    records = [pages.reading(n) for n in names]
    each = (
        "SELECT r.number, r.result, x.tool, x.args FROM run_experiments r JOIN experiments x ON x.id = r.experiment "
        "WHERE r.run = ?"
    )
    known = [{(r["tool"], r["args"]): r for r in pages.store.rows(each, name)} for name in names]
    shared = [key for key in known[0] if all(key in k for k in known[1:])]
    pairs = [
        {
            "tool": key[0], "args": arguments_text(json.loads(key[1])), "handles": [f"E{k[key]['number']}" for k in known],
            "same": _same(pages.store, [k[key]["result"] for k in known]),
        }
        for key in shared[:ROWS]
    ]  # fmt: skip
    alone = [[r for key, r in mine.items() if not any(key in k for k in known if k is not mine)] for mine in known]
    return {
        "kind": "runs", "asked": list(names), "names": pages.names(), "sides": [summary(r) for r in records],
        "findings": _findings(pages, records), "maps": maps(pages, names, [[k[key] for k in known] for key in shared]),
        "shared": len(shared), "pairs": pairs, "counts": [len(x) for x in alone],
        "alone": [
            [{"handle": f"E{r['number']}", "tool": r["tool"], "args": arguments_text(json.loads(r["args"]))} for r in rest[:ROWS]]
            for rest in alone
        ],
    }  # fmt: skip


def _findings(pages: Pages, records: Sequence[Reading]) -> list[Context]:
    """One row for each thing that a run put to the test: what it came to in each of them."""
    rows: dict[str, list[Context | None]] = {}
    for i, record in enumerate(records):
        for t in conclude(record).findings:
            f = t.finding
            effects = "; ".join(f"{how}{text}" for _, how, text in effect_words(t))
            cell = {
                "handle": f.handle,
                "href": pages.links.handle(record.run, f.handle),
                "fate": f.fate or "open",
                "effects": effects,
            }
            rows.setdefault(t.words, [None] * len(records))[i] = cell
    made = [
        {"words": words, "cells": cells, "confirmed": sum(bool(c) and c["fate"] == "confirmed" for c in cells if c)}
        for words, cells in rows.items()
    ]
    return sorted(made, key=lambda r: -sum(c is not None for c in r["cells"]))


def _same(store: Store, results: Sequence[int]) -> str:
    """Whether results say the same."""
    if len(set(results)) == 1:
        return "the same result"
    marks = ", ".join("?" * len(results))
    shas = store.rows(
        f"SELECT x.tasks, x.seed, s.sha FROM results s JOIN experiments x ON x.id = s.experiment WHERE s.id IN ({marks})",
        *results,
    )
    if len({(r["tasks"], r["seed"]) for r in shas}) > 1:
        return "other examples"
    return (
        "computed again, equal to the last bit" if len({r["sha"] for r in shas}) == 1 else "computed again, different"
    )


def _experiments(pages: Pages, a: str, b: str) -> Context:
    sides: list[Context] = []
    for text in (a, b):
        run, _, handle = text.rpartition("/")
        run = pages.resolve(run)
        row, result = pages.result(run, handle)
        href = pages.links.experiment(run, handle)
        sides.append({
            "run": run, "handle": handle, "href": href, "x": row.experiment, "result": result,
            "args": json.dumps(row.experiment.args, indent=2, ensure_ascii=False),
            "figure": figure(pages, pages.reading(run), {handle: row.experiment}, {handle: result}),
        })  # fmt: skip
    found = [s["result"].measurements for s in sides]
    apart = _set_apart(found[0], found[1])
    left, right = ({_place(m, apart): m for m in side} for side in found)
    keys = [k for k in left if k in right]
    rows = [_difference(k, left[k], right[k]) for k in keys[:1000]]
    return {
        "kind": "experiments", "asked": [a, b], "map": _subtracted(pages, sides, apart), "names": pages.names(),
        "sides": sides, "rows": rows, "both": len(keys),
        "only": [len(left) - len(keys), len(right) - len(keys)], "apart": apart,
    }  # fmt: skip


def _subtracted(pages: Pages, sides: Sequence[Context], apart: Mapping[str, object]) -> Markup | None:
    """The figure of two experiments of one tool, the first taken from the second."""
    if sides[0]["x"].tool != sides[1]["x"].tool:
        return None
    left, right = ({_place(m, apart): m for m in s["result"].measurements} for s in sides)
    return subtracted(
        pages, sides[0]["run"], sides[0]["handle"], sides[0]["x"], [(left[k], right[k]) for k in left if k in right]
    )


def _set_apart(a: Sequence[Measurement], b: Sequence[Measurement]) -> dict[str, tuple[str, str]]:
    """Coordinates with one value in one experiment and another in the other: what the two compare, not where they measure."""
    found: dict[str, tuple[str, str]] = {}
    for c in (*COORDINATES, "anchor"):
        left, right = ({v for m in side if (v := _value(m, c)) is not None} for side in (a, b))
        if len(left) == len(right) == 1 and left != right:
            found[c] = (left.pop(), right.pop())
    if "component" in found:
        found.pop("anchor", None)  # the whole of it is what they compare
    return found


def _value(m: Measurement, coordinate: str) -> str | None:
    """A coordinate as text; `anchor` is the position of the component, `all` where it names none."""
    if coordinate != "anchor":
        return m.coordinates.get(coordinate)
    return m.place.anchor or "all" if isinstance(m.place, Component) else None


def _place(m: Measurement, apart: Mapping[str, object]) -> str:
    """A measurement's key without the coordinates that set two experiments apart."""
    changes: dict[str, str | None] = {c: None for c in apart if c != "anchor"}
    if "anchor" in apart and isinstance(m.place, Component):
        changes["component"] = str(m.place.but(anchor=""))
    return m.model_copy(update=changes).key


def _difference(key: str, a: Measurement, b: Measurement) -> Context:
    return {"key": key, "unit": a.unit, "a": a, "b": b, "difference": b.value - a.value, "apart": _disjoint(a, b)}


def _disjoint(a: Measurement, b: Measurement) -> bool:
    """Whether both have intervals and these do not touch."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return a.high < b.low or b.high < a.low
