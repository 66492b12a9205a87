"""The code that a planner wrote, as it ran: for a reader who has to judge what it measures."""

from collections.abc import Sequence

from agent.loop.own_code import TOOL
from agent.report.marked import folded
from agent.report.text import inert
from experiments_db.store import ExperimentRow
from tools.methods.own import address


def own_code_section(rows: Sequence[ExperimentRow]) -> list[str]:
    """Every piece of code with the experiments that ran it, folded; nothing where a planner wrote none."""
    written: dict[str, list[str]] = {}
    for row in rows:
        if row.experiment.tool == TOOL:
            written.setdefault(str(row.experiment.args.get("code", "")), []).append(row.handle)
    if not written:
        return []
    lines = [
        "## Code of the planner",
        "",
        "It ran on prompts without answers, on this model and on models with random weights without being told which; what it "
        "returned was measured by the program. Read it before you rely on a finding of kind own.",
    ]
    for text, handles in written.items():
        fence = "`" * max(3, 1 + max((len(run) for run in text.split() if set(run) == {"`"}), default=0))
        shown = [fence + "python", inert(text).rstrip("\n"), fence]
        lines += ["", *folded(f"{address(text)}, in {', '.join(handles)}", shown)]
    return lines


def shown_args(row: ExperimentRow) -> str:
    """An experiment's arguments in a line, code by its address."""
    args = {k: address(str(v)) if k == "code" else v for k, v in row.experiment.args.items() if v not in (None, [], "")}
    return ", ".join(f"{k}={v}" for k, v in args.items())
