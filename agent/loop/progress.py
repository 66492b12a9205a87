"""What a person sees while a run is under way: what is done, why, how far, at what rate."""

import sys
import time
from pathlib import Path
from typing import TextIO

from agent.loop.budget import Limits
from agent.loop.record import RunRecord
from agent.planners.base import Answer, ToolCall, Turn
from agent.report.conclusion import conclude
from agent.report.numbers import number_text
from agent.report.references import substitute
from agent.report.summary import headline
from agent.report.text import inert
from experiments_db.records import Run
from tools.findings.integrity_report import IntegrityReport
from tools.subjects import Subject


class Progress:
    """Prints a run line by line; implements the loop's `Viewer`."""

    def __init__(
        self, run: Run, limits: Limits, subject: Subject, record: RunRecord, *, quiet: bool, out: TextIO | None = None
    ) -> None:
        self.run, self.limits, self.subject, self.record, self.quiet = run, limits, subject, record, quiet
        self.out = out or sys.stdout
        self.started = time.monotonic()
        self.experiments = self.tokens = 0
        self.cost = 0.0
        self.live = self.out.isatty() and not quiet

    def begin(self, folder: Path) -> None:
        """Say what is about to be done."""
        self._say(f'goal     "{inert(self.run.goal)}"')
        self._say(f"subject  {self.subject.name} on {self.subject.device}, planner {self.run.planner}")
        if kept := self.run.settings.get("integrity"):
            self._say(f"checked  {inert(IntegrityReport.from_json(kept).line())}")
        self._say(f"run      {self.run.name} -> {folder}")

    def turn(self, turn: Turn) -> None:
        """Show the planner's reason."""
        self.tokens += turn.usage.prompt_tokens + turn.usage.completion_tokens
        self.cost += turn.usage.cost
        first = " ".join(inert(turn.text).split())
        self._say(f"\n{self._clock()}  {first or '(no words)'}")

    def working(self, call: ToolCall, message: str) -> None:
        """Show what is being computed, on a line that is overwritten."""
        if self.live:
            self.out.write(f"\r\033[K         {call.name} {inert(message)[:90]} …")
            self.out.flush()

    def answered(self, call: ToolCall, answer: Answer, seconds: float) -> None:
        """Show the first line of the answer, and how far the run is."""
        if self.live:
            self.out.write("\r\033[K")
        first = inert(answer.text).splitlines()[0] if answer.text else ""
        first = substitute(first, lambda inside: number_text(inside, self.record))
        if answer.handle and answer.handle.startswith("E"):
            self.experiments += 1
            rate = self.experiments / max(1e-9, (time.monotonic() - self.started) / 60)
            limit = f"/{self.limits.experiments}" if self.limits.experiments else ""
            first = f"{first[:150]}   [{seconds:.1f} s; {self.experiments}{limit} experiments, {rate:.0f} a minute]"
        mark = "" if answer.status == "ok" else f"{answer.status}: "
        self._say(f"         {call.name}: {mark}{first[:230]}")

    def note(self, line: str, *, passing: bool = False) -> None:
        """Say something beside the run; passing: on a line that is overwritten."""
        if passing and self.live:
            self.out.write(f"\r\033[K         {inert(line)[:90]} …")
            self.out.flush()
        elif not passing:
            self._say(("\r\033[K" if self.live else "") + line)

    def end(self, run: Run, report: Path, database: Path) -> None:
        """The answer and where to look; printed even when quiet."""
        found = conclude(self.record)
        shown = f"{found.verdict}. {headline(self.record, found)}"
        if found.unanswered:
            shown += (
                f"\nunanswered: {'; '.join(f'{a.question.handle} {inert(a.question.text)}' for a in found.unanswered)}"
            )
        print(
            f"\n{shown}\n\nreport    {report}\ndatabase  {database}, run {run.name}\n"
            f"replay    python -m agent.replay {run.name}"
            + (f" --db {database}" if str(database) != "experiments.db" else ""),
            file=self.out,
            flush=True,
        )

    def _clock(self) -> str:
        """Time, and what a language model has cost, with the budgets there are."""
        shown = f"{time.monotonic() - self.started:5.1f} s"
        if self.limits.minutes is not None:
            shown += f" of {self.limits.minutes:g} min"
        if self.tokens:
            limit = f"/{self.limits.tokens:,}" if self.limits.tokens else ""
            shown += f", {self.tokens:,}{limit} tokens"
        if self.cost:
            limit = f" of {self.limits.cost:g}" if self.limits.cost else ""
            shown += f", {self.cost:.2f}{limit} dollars"
        return shown

    def _say(self, line: str) -> None:
        if not self.quiet:
            print(line, file=self.out, flush=True)
