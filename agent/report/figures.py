"""Figures of a report and of its page: what is on record, drawn once by Vega-Lite as SVG, with all that a reader needs inside.

What a mark says and where it leads are data of its element (`data-said`, `data-href`), so that the page adds no more than the
mouse and the arrow keys.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json import dumps
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from agent.loop.record import RunRecord
from agent.report.boards import boards
from agent.report.plots import Plot, main_plots, plots_beside
from agent.report.text import inert
from agent.report.tradeoff import tradeoffs
from agent.report.vega import CONTROL, GRID, GROUND, INK, QUIET, SERIES, Link, spec_of
from experiments_db.records import Experiment, Result

SVG = "http://www.w3.org/2000/svg"
THEME = {
    INK: "ink",
    QUIET: "quiet",
    GRID: "grid",
    GROUND: "raised",
    CONTROL: "control",
    SERIES[0]: "bar",
    SERIES[1]: "bar2",
}
NEVER = ("loss", "generate", "describe_subject")  # tools whose numbers are read sooner than a figure
VERSION = "6.4"  # of Vega-Lite
SAID = re.compile(r"mark\|([^|]*)\|(.*)", re.DOTALL)


@dataclass(frozen=True)
class Figure:
    """A drawing as SVG text. words: what it shows, for those who do not see it."""

    svg: str
    words: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: Path | str) -> None:
        """Write it as SVG."""
        Path(path).write_text(self.svg, encoding="utf-8")


def figures_of(
    asked: Mapping[str, Experiment], results: Mapping[str, Result], chance: float | None = None
) -> list[Plot]:
    """The main plots of one experiment, or of several that differ in their intervention, by handle; none for a few numbers."""
    tool = next(iter(asked.values())).tool
    if tool in NEVER:
        return []
    return [*boards(tool, results), *tradeoffs(tool, results), *main_plots(tool, plots_beside(tool, results, chance))]


def chance_of(record: RunRecord, x: Experiment) -> float | None:
    """What a guesser gets on an experiment's task, as the run measured it first; None where it did not."""
    if len({name.partition(" ")[0] for name in x.tasks}) != 1:
        return None
    task = next(iter(x.tasks)).rpartition(" ")[0]
    sql = (
        "SELECT m.value FROM run_experiments r JOIN measurements m ON m.result = r.result WHERE r.run = ? AND m.name = 'chance' "
        "AND m.task = ? AND m.unit = 'share of examples' AND coalesce(m.among, '') = ? ORDER BY r.number LIMIT 1"
    )
    found = record.store.rows(sql, record.run, task, x.args.get("among") or "")
    return float(found[0]["value"]) if found else None


def draw(
    asked: Mapping[str, Experiment], found: Sequence[Plot], link: Link = lambda _: "", *, themed: bool = False
) -> Figure:
    """Plots of the experiments as one figure. link: where a point leads; themed: in the colours of the page that it is put into."""
    title, subtitle = heading(asked, found)
    spec = spec_of(found, title, subtitle, link)
    return Figure(
        _finished(_rendered(dumps(spec)), f"{title}. {subtitle}", "-".join(asked), themed=themed),
        f"{title}. {subtitle}",
    )


def figure_of(tool: str, found: Sequence[Plot]) -> Figure:
    """Plots of a result that is not on record."""
    spec = spec_of(found, f"{tool}: {_quantities(found)}", _sample(found), lambda _: "")
    return Figure(_finished(_rendered(dumps(spec)), tool, tool, themed=False), tool)


def heading(asked: Mapping[str, Experiment], found: Sequence[Plot]) -> tuple[str, str]:
    """Title and subtitle: tool and quantities; task, what was done, split, how many examples, intervals, control."""
    args = [x.args for x in asked.values()]
    first = next(iter(asked.values()))

    def every(name: str) -> str:
        values = dict.fromkeys(
            ", ".join(map(str, v)) if isinstance(v, list) else str(v) for a in args if (v := a.get(name))
        )
        return " and ".join(values)

    about = [every("task") or every("tasks"), every("among"), every("intervention") or every("interventions")]
    about.append(
        {"noise": "the twin put in (noise)", "denoise": "the clean one put in (denoise)"}.get(every("direction"), "")
    )
    about.append(f"{first.args.get('split', 'explore')} examples" if first.tasks else "")
    title = f"{', '.join(asked)} {first.tool}: {_quantities(found)}"
    return inert(title), inert(", ".join([a for a in about if a] + [_sample(found)]))


def _quantities(found: Sequence[Plot]) -> str:
    return ", ".join(dict.fromkeys(f"{p.name} ({p.unit})" for p in found))


def _sample(found: Sequence[Plot]) -> str:
    low, high = min(p.n[0] for p in found), max(p.n[1] for p in found)
    words = [f"n={low}" if low == high else f"n={low} to {high}"]
    points = [p.measurement for plot in found if plot.kind != "heat" for line in plot.points for p in line if p]
    words += ["lines and bands are 95% intervals"] if any(m.low is not None for m in points) else []
    controls = sorted({k for p in found if p.kind != "heat" for k in p.controls})
    words += [f"hollow: control, {', '.join(controls)}"] if controls else []
    hidden = sum(p.hidden for p in found)
    return ", ".join(words) + (f"; {hidden} more in the table" if hidden else "") + "."


@lru_cache(maxsize=256)
def _rendered(spec: str) -> str:
    import vl_convert  # pyright: ignore[reportMissingTypeStubs]

    return vl_convert.vegalite_to_svg(spec, vl_version=VERSION)


def _finished(svg: str, words: str, prefix: str, *, themed: bool) -> str:
    """The drawing with data of its marks, ids of its own, and, on the page, colours that follow its theme."""
    ET.register_namespace("", SVG)
    root = ET.fromstring(svg)  # noqa: S314  # written just now by Vega
    for node in root.iter():
        said = SAID.fullmatch(node.attrib.pop("aria-label", ""))
        for name in ("role", "aria-roledescription", "aria-hidden", "style", "pointer-events"):
            node.attrib.pop(name, None)
        if said is not None:
            node.set("class", "cell")
            for name, value in zip(("href", "said"), said.groups(), strict=True):
                node.set(f"data-{name}", value)
        for name, value in node.attrib.items():
            node.set(name, _own(name, value, prefix, themed=themed))
    root.set("role", "img")
    root.set("aria-label", inert(words))
    return ET.tostring(root, encoding="unicode")


def _own(name: str, value: str, prefix: str, *, themed: bool) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    value = re.sub(r"url\(#", f"url(#{prefix}-", value) if "url(#" in value else value
    if not themed or name not in ("fill", "stroke"):
        return value
    plain = {"white": GROUND, "#fff": GROUND}.get(value, value)
    return f"var(--{THEME[plain]}, {plain})" if plain in THEME else value


def beside(rows: Sequence[Any]) -> dict[str, tuple[str, ...]]:
    """Experiments that differ in nothing but their intervention, by the handle of the first: they are drawn as one figure."""
    sets: dict[str, list[str]] = {}
    for row in rows:
        x: Experiment = row.experiment
        rest = {k: v for k, v in x.args.items() if k != "intervention"}
        key = dumps([x.tool, rest, x.subject, x.seed], sort_keys=True) if "intervention" in x.args else row.handle
        sets.setdefault(key, []).append(row.handle)
    return {handles[0]: tuple(handles) for handles in sets.values()}
