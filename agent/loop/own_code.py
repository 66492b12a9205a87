"""Whether a run may run code that its planner wrote: only where a person has said so, on this command line."""

import argparse
from typing import TYPE_CHECKING

from experiments_db.records import Experiment, Run
from tools.methods.own import PREFIX

if TYPE_CHECKING:
    from tools.sandbox import Sandbox

ALLOW = "--allow-code"
TOOL = "experiment"


def sandbox_for(args: argparse.Namespace) -> "Sandbox | None":
    """Where the planner's code runs, None unless it is allowed. SandboxError where it cannot be run safely here."""
    if not getattr(args, "allow_code", False):
        return None
    from tools.sandbox import Sandbox

    return Sandbox()


def mismatch(run: Run, args: argparse.Namespace) -> str:
    """What is wrong with going on with a run under these arguments; empty if nothing is."""
    before, now = bool(run.settings.get("allow_code")), bool(getattr(args, "allow_code", False))
    if before == now:
        return ""
    if before:
        return f"run {run.name} was begun with {ALLOW} and its planner may write code: give {ALLOW} again to allow that here too"
    return (
        f"run {run.name} was begun without {ALLOW}: leave it out, or begin a new run from a turn of it with --from STEP"
    )


def runs_code(experiment: Experiment) -> bool:
    """Whether an experiment on record runs code of a planner."""
    return experiment.tool == TOOL or str(experiment.args.get("program", "")).startswith(PREFIX)
