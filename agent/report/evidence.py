"""The experiments of a run, folded by the question that their findings are about; the rest by itself."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.loop.record import RunRecord
from agent.report.conclusion import Concluded, would_answer
from agent.report.examples import condition_of, examples
from agent.report.marked import folded, links, table
from agent.report.own_code import shown_args
from agent.report.text import code, inert, markdown
from experiments_db.findings import Question
from experiments_db.records import Result
from experiments_db.store import ExperimentRow
from tools.findings.kind import kinds

Drawn = Mapping[str, tuple[str, str]]
MAIN, BROKEN = 4, 3  # findings of which examples are shown, and how many of each
LOOKED = " images"  # of an experiment: its picture stands under this name beside its figure


def draw_all(
    record: RunRecord, rows: Sequence[ExperimentRow], results: Mapping[str, Result], figures: Path | None
) -> Drawn:
    """File and words of each figure, by the first of its experiments; drawn into a folder, or not at all where it is None."""
    from agent.report.figures import beside, chance_of, draw, figures_of, heading

    asked, made = {r.handle: r.experiment for r in rows}, dict[str, tuple[str, str]]()
    for first, handles in beside(rows).items():
        these = {h: asked[h] for h in handles}
        found = figures_of(these, {h: results[h] for h in handles}, chance_of(record, asked[first]))
        if not found:
            continue
        name = f"{'-'.join(handles)}-{asked[first].tool}.svg"
        made[first] = name, ". ".join(heading(these, found))
        if figures is not None:
            figures.mkdir(parents=True, exist_ok=True)
            draw(these, found).save(figures / name)
    return made | _pictures(results, figures)


def _pictures(results: Mapping[str, Result], figures: Path | None) -> dict[str, tuple[str, str]]:
    """The images that experiments keep, beside their maps."""
    from agent.report.pictures import picture_of, words_of

    made: dict[str, tuple[str, str]] = {}
    for handle, result in results.items():
        picture = picture_of(result)
        if picture is None:
            continue
        made[f"{handle}{LOOKED}"] = f"{handle}-images.png", f"{handle}: {words_of(result)}"
        if figures is not None:
            figures.mkdir(parents=True, exist_ok=True)
            (figures / f"{handle}-images.png").write_bytes(picture)
    return made


def evidence_section(
    rows: Sequence[ExperimentRow], results: Mapping[str, Result], drawn: Drawn, c: Concluded, status: str
) -> list[str]:
    """The section's lines; what the planner said of an experiment stands under the first for which it said so.

    status: of the run, which decides whether its unseen examples may be shown.
    """
    if not rows:
        return ["## Evidence", "", "No experiment was made."]
    lines, known, left = ["## Evidence"], {r.handle: r for r in rows}, dict.fromkeys(r.handle for r in rows)
    if broke := _that_broke(c, known, results, status):
        lines += [
            "",
            *folded("Unseen examples that were answered right and no longer are, for the main findings", broke),
        ]
    said_before = {""}
    for q in (a.question for a in c.questions):
        mine = [h for h in _rests_on(q, c) if h in left]
        for h in mine:
            del left[h]
        if mine:
            said = f"{q.handle} {q.text}: what its findings rest on ({len(mine)})"
            lines += ["", *folded(said, _experiments([known[h] for h in mine], results, drawn, said_before))]
    if left:
        what = "Other experiments" if len(left) < len(rows) else "Experiments"
        lines += [
            "",
            *folded(f"{what} ({len(left)})", _experiments([known[h] for h in left], results, drawn, said_before)),
        ]
    return lines


def _that_broke(
    c: Concluded, rows: Mapping[str, ExperimentRow], results: Mapping[str, Result], status: str
) -> list[str]:
    """A table of up to BROKEN examples for each of the first MAIN findings of the headline under which answers turned wrong."""
    found, known = list[Sequence[str]](), {t.finding.handle: t for t in c.findings}
    named = list(dict.fromkeys(h for s in c.headline for h in s.findings))
    shown = 0
    for t in (known[h] for h in named):
        f, kind, handle = t.finding, kinds().get(t.finding.statement.kind), t.finding.experiment or ""
        if kind is None or kind.stays or not t.effects or handle not in rows or shown == MAIN:
            continue
        x, result, done = rows[handle].experiment, results[handle], condition_of(t.effects[0])
        told = examples(x, result, status)
        under = next((k for k in (told or {"conditions": []})["conditions"] if k["name"] == done), None)
        if under is None or not under["broken"]:
            continue
        shown += 1
        what = f"{links([f.handle])}, {code(done)}: {under['broken']} of {under['n']} broke, {links([handle])}"
        made = examples(x, result, status, under["number"], BROKEN)
        for row in (r for r in (made or {"rows": []})["rows"] if r["came"] == "broke"):
            found.append((what, *(code(str(row[k])) for k in ("prompt", "before", "after"))))
            what = ""
    return (
        table(("finding, what was done", "example", "right, as the model said", "then it said"), found) if found else []
    )


def _rests_on(question: Question, c: Concluded) -> list[str]:
    """Experiments of the findings that could answer a question: where each was examined, and where it was settled."""
    about = would_answer(question, [t.finding for t in c.findings])
    return list(dict.fromkeys(h for f in about for h in (f.seen, f.experiment) if h is not None))


def _experiments(
    rows: Sequence[ExperimentRow], results: Mapping[str, Result], drawn: Drawn, said_before: set[str]
) -> list[str]:
    from agent.report.figures import beside

    lines: list[str] = []
    by_handle = {r.handle: r for r in rows}
    for handles in beside(rows).values():
        these = [by_handle[h] for h in handles]
        anchors = "".join(f'<a id="{h.lower()}"></a>' for h in handles)
        known = " (known from an earlier run)" if all(r.cached for r in these) else ""
        title = f"### {', '.join(handles)} · {markdown(these[0].experiment.tool)}{known}"
        lines += ["", anchors, "", title, ""]
        for why in dict.fromkeys(r.why for r in these):
            if why not in said_before:
                lines += [f"*{markdown(why)}*", ""]
                said_before.add(why)
        for name in (handles[0], *(f"{h}{LOOKED}" for h in handles)):
            if name in drawn:
                file, words = drawn[name]
                lines += [f"![{markdown(words)}](figures/{file})", ""]
        text = "\n\n".join(results[h].text for h in handles)
        fence = "`" * max(3, 1 + max((len(r) for r in re.findall(r"`+", text)), default=0))
        lines += [fence + "text", inert(text), fence]
    return lines[1:]


def tried_section(
    rows: Sequence[ExperimentRow], results: Mapping[str, Result], refused: Sequence[tuple[str, str]]
) -> list[str]:
    """Every experiment in a line, and the calls that brought none. refused: (status, text) of those."""
    made: list[str] = ["| | tool | arguments | status | seconds |", "|---|---|---|---|---|"]
    for row in rows:
        result = results[row.handle]
        args = shown_args(row)
        made.append(
            f"| [{row.handle}](#{row.handle.lower()}) | {markdown(row.experiment.tool)} | {code(args[:160])} | {result.status} "
            f"| {result.wall_seconds:.2f} |"
        )
    seconds = sum(results[r.handle].wall_seconds for r in rows)
    count = sum(len(results[r.handle].measurements) for r in rows)
    tools = dict.fromkeys(r.experiment.tool for r in rows)
    each = ", ".join(f"{sum(r.experiment.tool == t for r in rows)} {markdown(t)}" for t in tools)
    lines = ["## What was tried", ""]
    lines.append(
        f"{len(rows)} experiments ({each}) gave {count} measurements in {seconds:.1f} s." if rows else "Nothing."
    )
    lines += ["", *folded("Every experiment", made)] if rows else []
    if refused:
        calls = [f"- {markdown(status)}: {markdown(text[:300])}" for status, text in refused]
        lines += ["", *folded(f"Calls that were not answered with a result ({len(refused)})", calls)]
    return lines
