"""Two runs, or two experiments, side by side."""

import json
from collections.abc import Mapping, Sequence

from agent.report.summary import summary
from agent.review.pages import ROWS, Context, NotFound, Pages
from agent.review.texts import arguments_text
from experiments_db.places import Component
from experiments_db.records import COORDINATES, Measurement
from experiments_db.store import Store


def compare(pages: Pages, a: str, b: str) -> Context:
    """Two runs, or two experiments written RUN/E3."""
    if not a or not b:
        return {"kind": "nothing", "a": a, "b": b, "names": pages.names()}
    if "/" in a and "/" in b:
        return _experiments(pages, a, b)
    if "/" in a or "/" in b:
        raise NotFound("compare two runs, or two experiments written RUN/E3")
    return _runs(pages, pages.resolve(a), pages.resolve(b))


def _runs(pages: Pages, a: str, b: str) -> Context:
    both = "x.tool, x.args, x.tasks, x.subject, x.dtype, x.seed"
    each = f"SELECT r.number, r.result, {both} FROM run_experiments r JOIN experiments x ON x.id = r.experiment WHERE r.run = ?"
    rows = [pages.store.rows(each, name) for name in (a, b)]
    keys = [{tuple(v for k, v in r.items() if k not in ("number", "result")): r for r in found} for found in rows]
    shared = [(keys[0][k], keys[1][k]) for k in keys[0] if k in keys[1]]
    pairs = [
        {
            "a": f"E{x['number']}", "b": f"E{y['number']}", "tool": x["tool"], "args": arguments_text(json.loads(x["args"])),
            "same": "the same result" if x["result"] == y["result"] else _differ(pages.store, x["result"], y["result"]),
        }
        for x, y in shared[:ROWS]
    ]  # fmt: skip
    alone = [[r for k, r in mine.items() if k not in other] for mine, other in ((keys[0], keys[1]), (keys[1], keys[0]))]
    shown = [
        [
            {"handle": f"E{r['number']}", "tool": r["tool"], "args": arguments_text(json.loads(r["args"]))}
            for r in rest[:ROWS]
        ]
        for rest in alone
    ]
    return {
        "kind": "runs", "a": a, "b": b, "names": pages.names(), "sides": [summary(pages.reading(n)) for n in (a, b)],
        "shared": len(shared), "pairs": pairs, "alone": shown, "counts": [len(x) for x in alone],
    }  # fmt: skip


def _differ(store: Store, a: int, b: int) -> str:
    """Whether two results say the same."""
    shas = store.rows("SELECT sha FROM results WHERE id IN (?, ?)", a, b)
    return (
        "computed twice, equal to the last bit" if len({r["sha"] for r in shas}) == 1 else "computed twice, different"
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
            "plots": pages.plots(run, handle, row.experiment.tool, result),
        })  # fmt: skip
    found = [s["result"].measurements for s in sides]
    apart = _set_apart(found[0], found[1])
    left, right = ({_place(m, apart): m for m in side} for side in found)
    keys = [k for k in left if k in right]
    rows = [_difference(k, left[k], right[k]) for k in keys[:1000]]
    return {
        "kind": "experiments", "a": a, "b": b, "names": pages.names(), "sides": sides, "rows": rows, "both": len(keys),
        "only": [len(left) - len(keys), len(right) - len(keys)], "apart": apart,
    }  # fmt: skip


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
