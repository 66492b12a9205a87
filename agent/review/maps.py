"""Maps of several experiments that asked the same: two subtracted, more laid beside each other place by place."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from agent.report.plots import main_plots, plots, plots_beside
from agent.review.experiment import POINTS, drawing
from agent.review.pages import Pages
from experiments_db.records import Experiment, Measurement, Result

DRAWN = 4  # figures of one comparison


def maps(pages: Pages, runs: Sequence[str], asked: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Figures of experiments that all runs made. asked: of each the rows (number, result, tool) in the order of the runs."""
    made: list[dict[str, Any]] = []
    for rows in asked:
        handles = [f"E{r['number']}" for r in rows]
        found = [pages.result(run, handle) for run, handle in zip(runs, handles, strict=True)]
        tool, measured = rows[0]["tool"], [result.measurements for _, result in found]
        if (
            len({r["result"] for r in rows}) == 1
            or max(map(len, measured)) > POINTS
            or not main_plots(tool, plots(tool, found[0][1]))
        ):
            continue
        if len(rows) == 2:
            right = {m.key: m for m in measured[1]}
            pairs = [(m, right[m.key]) for m in measured[0] if m.key in right]
            drawn = subtracted(pages, runs[0], handles[0], found[0][0].experiment, pairs)
        else:
            drawn = _beside(pages, runs, handles, found[0][0].experiment, [r for _, r in found])
        if drawn is not None:
            made.append({"tool": tool, "handles": handles, "figure": drawn})
        if len(made) == DRAWN:
            break
    return made


def subtracted(
    pages: Pages, run: str, handle: str, x: Experiment, pairs: Sequence[tuple[Measurement, Measurement]]
) -> Markup | None:
    """The main quantity of the second less that of the first, place by place."""
    none = {"low": None, "high": None, "control": None}
    moved = [
        a.model_copy(update={**none, "name": f"{a.name}.difference", "value": b.value - a.value}) for a, b in pairs
    ]
    wanted = {f"{p.name}.difference" for p in main_plots(x.tool, plots(x.tool, _result([a for a, _ in pairs])))[:1]}
    found = [p for p in plots(x.tool, _result(moved)) if p.name in wanted]
    return drawing(pages, run, {handle: x}, found, link=False) if found else None


def _beside(
    pages: Pages, runs: Sequence[str], handles: Sequence[str], x: Experiment, results: Sequence[Result]
) -> Markup | None:
    named = {
        f"run {i}": _result([m.model_copy(update={"variant": f"run {i}"}) for m in r.measurements])
        for i, r in enumerate(results, 1)
    }
    found = main_plots(x.tool, plots_beside(x.tool, named))[:6]
    return drawing(pages, runs[0], {handles[0]: x}, found, link=False) if found else None


def _result(measurements: Sequence[Measurement]) -> Result:
    return Result(status="ok", text="", measurements=tuple(measurements))
