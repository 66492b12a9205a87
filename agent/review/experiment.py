"""What the page of one experiment shows: what was asked and why, figure, numbers by quantity, examples, provenance."""

import base64
import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from agent.loop.record import Reading
from agent.report.examples import condition_of, examples
from agent.report.figures import NEVER, beside, chance_of, draw, figures_of
from agent.report.numbers import value_text
from agent.report.pictures import picture_of, words_of
from agent.report.plots import Plot, Point, plots, shown
from agent.review.points import points_of
from agent.review.texts import PAGE, Texts, first_line, offset, page_numbers
from experiments_db.records import COORDINATES, Experiment, Measurement, Result

if TYPE_CHECKING:
    from agent.review.pages import Pages

Context = dict[str, Any]
POINTS = 3000  # of a figure on the report's page


def experiment_page(
    pages: "Pages", name: str, handle: str, page: int = 1, size: int | None = PAGE, under: int | None = None, quantity: str = ""
) -> Context:  # fmt: skip
    """One experiment. under: the condition under which examples are shown; quantity: one to draw in place of the main ones."""
    head = pages.head(name)
    row, result = pages.result(name, handle)
    found = result.measurements
    size = size or max(1, len(found))
    start = offset(page, len(found), size)
    number = int(handle[1:])
    record = pages.reading(name)
    texts = Texts(record, pages.links)
    findings = record.findings()
    also = [] if pages.links.single_file else pages.store.rows(
        "SELECT run, 'E' || number AS handle FROM run_experiments WHERE result = ? AND NOT (run = ? AND number = ?) LIMIT 12",
        row.result_id, name, number,
    )  # fmt: skip
    told = examples(row.experiment, result, head["run"].status, under, most=12 if pages.links.single_file else None)
    quantities = list(dict.fromkeys(p.name for p in plots(row.experiment.tool, result)))
    return {
        **head,
        "handle": handle, "row": row, "x": row.experiment, "result": result, "why": texts.parts(row.why),
        "first": first_line(result.text)[:90],
        "args": json.dumps(row.experiment.args, indent=2, ensure_ascii=False),
        "figure": figure(pages, record, {handle: row.experiment}, {handle: result}, quantity),
        "picture": _picture(result), "points": not pages.links.single_file and points_of(result) is not None,
        "quantities": quantities if len(quantities) > 1 and not pages.links.single_file else [], "quantity": quantity,
        "tables": tables(found[start : start + size], handle, start, _shown(told, single=pages.links.single_file)),
        "examples": told,
        "arrays": [
            {"name": a.name, "shape": " × ".join(map(str, a.shape)), "unit": a.unit, "sha": a.sha[:16]}
            for a in result.arrays
        ],
        "also": [{**r, "href": pages.links.experiment(r["run"], r["handle"])} for r in also],
        "settled": [{"f": f, "href": pages.links.handle(name, f.handle)} for f in findings if f.experiment == handle],
        "begun": [{"f": f, "href": pages.links.handle(name, f.handle)} for f in findings if f.seen == handle],
        "before": f"E{number - 1}" if number > 1 else None,
        "after": f"E{number + 1}" if number < head["experiments"] else None,
        **page_numbers(page, len(found), size),
    }  # fmt: skip


def _picture(result: Result) -> Context | None:
    """The images that a result keeps beside their maps, as data of the page."""
    found = picture_of(result)
    return None if found is None else {"png": base64.b64encode(found).decode(), "words": words_of(result)}


def _shown(told: Context | None, *, single: bool) -> list[Context]:
    """The conditions whose examples a number can lead to: in one file the one that is shown."""
    if told is None:
        return []
    return [told["under"]] if single and told.get("under") else [] if single else told["conditions"]


def figure(
    pages: "Pages", record: Reading, asked: dict[str, Experiment], results: dict[str, Result], quantity: str = ""
) -> Markup | None:
    """The figure of experiments that are drawn as one; None where there is nothing to draw."""
    first = next(iter(asked.values()))
    chance = chance_of(record, first)
    if quantity and len(results) == 1:
        found = [p for p in plots(first.tool, next(iter(results.values())), chance) if p.name == quantity][:6]
    else:
        found = figures_of(asked, results, chance)
    return drawing(pages, record.run, asked, found) if found else None


def drawing(
    pages: "Pages", run: str, asked: dict[str, Experiment], found: Sequence[Plot], *, link: bool = True
) -> Markup:
    """Plots as SVG. link: its marks lead to the rows of these experiments."""
    leads = partial(_link, pages, run, next(iter(asked))) if link else lambda _: ""
    return Markup(draw(asked, found, leads, themed=True).svg)  # noqa: S704  # every letter in it is escaped


def _link(pages: "Pages", run: str, handle: str, p: Point) -> str:
    return pages.links.experiment(run, p.handle or handle, p.number)


def figure_of(pages: "Pages", record: Reading, handle: str) -> list[Context]:
    """The figure of an experiment together with those that differ in their intervention alone; empty where there is none."""
    rows = record.experiments()
    handles = next((hs for hs in beside(rows).values() if handle in hs), (handle,))
    asked = {r.handle: r.experiment for r in rows if r.handle in handles}
    measured = {h: record.measurements_of(h) for h in handles}
    if asked[handle].tool in NEVER or sum(map(len, measured.values())) > POINTS:
        return []  # its figure is on its own page
    ids = {r.handle: r.result_id for r in rows}
    results = {h: pages.store.result(ids[h], measurements=m) for h, m in measured.items()}
    drawn = figure(pages, record, asked, results)
    if drawn is None:
        return []
    return [{
        "handle": handles[0], "handles": handles, "href": pages.links.experiment(record.run, handle), "tool": asked[handle].tool,
        "text": first_line(results[handle].text), "figure": drawn,
    }]  # fmt: skip


def tables(found: Sequence[Measurement], handle: str, start: int, conditions: Sequence[Context]) -> list[Context]:
    """Measurements grouped by quantity: coordinates that vary are columns, what all of them share stands above."""
    named = {c["name"]: c["number"] for c in reversed(conditions)}
    groups: dict[tuple[str, str], list[tuple[int, Measurement]]] = {}
    for i, m in enumerate(found, start + 1):
        groups.setdefault((m.name, m.unit), []).append((i, m))
    return [_table(name, unit, rows, handle, named) for (name, unit), rows in groups.items()]


def _table(
    name: str, unit: str, found: Sequence[tuple[int, Measurement]], handle: str, named: dict[str, int]
) -> Context:
    own = [m.coordinates for _, m in found]
    used = [c for c in COORDINATES if len({o.get(c) for o in own}) > 1]
    shared = [shown(v) for c, v in own[0].items() if c not in used]
    samples = {m.n for _, m in found}
    shared += [f"n={samples.copy().pop()}"] if len(samples) == 1 else []
    kinds = {m.control.kind for _, m in found if m.control}
    shared += [f"control: {kinds.copy().pop()}"] if len(kinds) == 1 else []
    rows: list[Context] = [
        {
            "id": f"{handle}-m{i}", "m": m, "coordinates": [shown(o[c]) if c in o else "" for c in used],
            "value": value_text(m.value, m.unit), "interval": _interval(m.low, m.high, unit),
            "control": None if m.control is None else value_text(m.control.value, unit), "under": named.get(condition_of(m)),
        }
        for (i, m), o in zip(found, own, strict=True)
    ]  # fmt: skip
    return {
        "name": name, "unit": unit, "columns": used, "shared": ", ".join(shared), "rows": rows, "n": len(samples) > 1,
        "interval": any(r["interval"] for r in rows), "control": bool(kinds), "kinds": len(kinds) > 1,
        "examples": any(r["under"] for r in rows),
    }  # fmt: skip


def _interval(low: float | None, high: float | None, unit: str) -> str:
    return "" if low is None or high is None else f"{value_text(low, unit)} to {value_text(high, unit)}"
