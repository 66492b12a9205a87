"""The experiments of a run, folded by the question that their findings are about; the rest by itself."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.report.conclusion import Concluded, would_answer
from agent.report.marked import folded
from agent.report.own_code import shown_args
from agent.report.text import code, inert, markdown
from experiments_db.findings import Question
from experiments_db.records import Result
from experiments_db.store import ExperimentRow


def draw_all(
    rows: Sequence[ExperimentRow], results: Mapping[str, Result], figures: Path | None
) -> dict[str, tuple[str, str]]:
    """File stem and caption of each experiment's figure, drawn into a folder, or not at all where it is None."""
    from agent.report.figures import draw

    return {r.handle: d for r in rows if (d := draw(r, results[r.handle], figures))}


def evidence_section(
    rows: Sequence[ExperimentRow], results: Mapping[str, Result], drawn: Mapping[str, tuple[str, str]], c: Concluded
) -> list[str]:
    """The section's lines."""
    if not rows:
        return ["## Evidence", "", "No experiment was made."]
    lines, known, left = ["## Evidence"], {r.handle: r for r in rows}, dict.fromkeys(r.handle for r in rows)
    for q in (a.question for a in c.questions):
        mine = [h for h in _rests_on(q, c) if h in left]
        for h in mine:
            del left[h]
        if mine:
            said = f"{q.handle} {q.text}: what its findings rest on ({len(mine)})"
            lines += ["", *folded(said, _experiments([known[h] for h in mine], results, drawn))]
    if left:
        what = "Other experiments" if len(left) < len(rows) else "Experiments"
        lines += ["", *folded(f"{what} ({len(left)})", _experiments([known[h] for h in left], results, drawn))]
    return lines


def _rests_on(question: Question, c: Concluded) -> list[str]:
    """Experiments of the findings that could answer a question: where each was examined, and where it was settled."""
    about = would_answer(question, [t.finding for t in c.findings])
    return list(dict.fromkeys(h for f in about for h in (f.seen, f.experiment) if h is not None))


def _experiments(
    rows: Sequence[ExperimentRow], results: Mapping[str, Result], drawn: Mapping[str, tuple[str, str]]
) -> list[str]:
    lines: list[str] = []
    before = ""
    for row in rows:
        text = results[row.handle].text
        known = " (known from an earlier run)" if row.cached else ""
        lines += [
            "",
            f'<a id="{row.handle.lower()}"></a>',
            "",
            f"### {row.handle} · {markdown(row.experiment.tool)}{known}",
            "",
        ]
        if row.why and row.why != before:
            lines += [f"*{markdown(row.why)}*", ""]
        before = row.why
        if row.handle in drawn:
            stem, caption = drawn[row.handle]
            lines += [
                f"![{row.handle}](figures/{stem}.png)",
                "",
                f"{markdown(caption)} [vector](figures/{stem}.svg)",
                "",
            ]
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
