"""What a person sees while a run is under way: what is done, why, how far, at what rate."""

import os
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from agent.loop.budget import Limits
from agent.loop.record import RunRecord, own_experiments
from agent.loop.strongest import in_a_line
from agent.planners.base import Answer, ToolCall, Turn
from agent.planners.external import PERSON
from agent.report.conclusion import conclude
from agent.report.numbers import number_text
from agent.report.references import substitute
from agent.report.summary import headline
from agent.report.text import inert
from experiments_db.records import Run
from tools.findings.integrity_report import IntegrityReport
from tools.subjects import Subject

WIDE = 160  # characters of a line where nobody says how wide it is
ROOMY = 120  # characters of a line that has room for the budget too
BAR = 12  # cells


def cut(text: str, width: int) -> str:
    """A line that fits, cut at the end of a word."""
    if len(text) <= width:
        return text
    kept = text[: width - 1]
    end = kept.rfind(" ")
    return f"{kept[:end] if end > width // 2 else kept}…"


class _Lasting:
    """A stream that may be closed at the other end (a pipe, a terminal that is gone): the run goes on in silence."""

    def __init__(self, out: TextIO) -> None:
        self.out, self.gone = out, False

    def write(self, text: str) -> int:
        """Write, or nothing once nobody reads."""
        if not self.gone:
            try:
                return self.out.write(text)
            except (OSError, ValueError):  # ValueError: written to after it was closed
                self._leave()
        return 0

    def flush(self) -> None:
        """Flush what can be."""
        if not self.gone:
            try:
                self.out.flush()
            except (OSError, ValueError):
                self._leave()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return not self.gone and self.out.isatty()

    def _leave(self) -> None:
        self.gone = True
        if self.out is sys.stdout:  # else the interpreter fails over it once more at its end
            sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


class Progress:
    """Prints a run line by line; implements the loop's `Viewer`."""

    def __init__(
        self, run: Run, limits: Limits, subject: Subject, record: RunRecord, *, quiet: bool, out: TextIO | None = None,
        watch: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.watch = watch
        self.run, self.limits, self.subject, self.record, self.quiet = run, limits, subject, record, quiet
        self.out = _Lasting(out or sys.stdout)
        self.started = time.monotonic()
        self.before = self.experiments = own_experiments(record, run)  # of an earlier sitting
        self.tokens = 0
        self.cost = 0.0
        self.live = self.out.isatty() and not quiet
        self.width = max(60, shutil.get_terminal_size((WIDE, 24)).columns) if self.live else WIDE

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
        self._say(cut(f"\n{self._clock()}  {first or '(no words)'}", self.width))

    def working(self, call: ToolCall, message: str) -> None:
        """Show what is being computed, on a line that is overwritten."""
        self.watch(f"{call.name} {message}".strip())
        self._passing(f"{call.name} {inert(message)}")

    def answered(self, call: ToolCall, answer: Answer, seconds: float) -> None:
        """Show the first line of the answer, and how far the run is."""
        if self.live:
            self.out.write("\r\033[K")
        first = inert(answer.text).splitlines()[0] if answer.text else ""
        first = substitute(first, lambda inside: number_text(inside, self.record))
        before, self.experiments = self.experiments, own_experiments(self.record, self.run)
        if self.experiments > before or (answer.handle or "").startswith("E"):
            limit = f"/{self.limits.experiments}" if self.limits.experiments else ""
            told = inert(in_a_line(answer.measurements, 1)) if answer.status == "ok" else ""
            told = self._settled() if call.name == "confirm" and answer.status == "ok" else told
            left = self._left()
            about = f"   [{seconds:.1f} s; {self.experiments}{limit} experiments{f', {left}' if left else ''}]"
            if self.width < ROOMY:  # the effect comes first; the bar says how long it may go on
                about = f"  [{self.experiments}{limit}]"
            known = f"{answer.handle}: {told}" if told and answer.handle else told or first
            first = cut(known, self.width - len(about) - len(call.name) - 11) + about
        mark = "" if answer.status == "ok" else f"{answer.status}: "
        self._say(cut(f"         {call.name}: {mark}{first}", self.width))

    def note(self, line: str, *, passing: bool = False) -> None:
        """Say something beside the run; passing: on a line that is overwritten."""
        self.watch(line.strip())
        if passing:
            self._passing(inert(line))
        else:
            self._say(("\r\033[K" if self.live else "") + line)

    def closing(self) -> None:
        """Say that the report is being written: figures take their time."""
        if self.live:
            self._passing("writing the report")
        else:
            self._say("\nwriting the report")

    def end(self, run: Run, report: Path, database: Path) -> None:
        """The answer and where to look; printed even when quiet."""
        found = conclude(self.record)
        shown = f"{found.verdict}. {headline(self.record, found, brief=True)}"
        if found.unanswered:
            shown += (
                f"\nunanswered: {'; '.join(f'{a.question.handle} {inert(a.question.text)}' for a in found.unanswered)}"
            )
        where = f" --db {shlex.quote(str(database))}" if str(database) != "experiments.db" else ""
        if self.live:
            self.out.write("\r\033[K")
        print(
            f"\n{shown}\n\nreport    {report}\ndatabase  {database}, run {run.name}\n"
            f"replay    python -m agent.replay {run.name}"
            + where
            + (
                f"\ngo on     python -m agent.{'workbench' if run.planner == PERSON else 'run'} --resume {run.name}{where}"
                if run.status == "stopped"
                else ""
            ),
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

    def _share(self) -> float:
        """How much is spent of the budget that is spent the most, from 0 to 1."""
        minutes = (time.monotonic() - self.started) / 60
        spent = (
            (self.experiments, self.limits.experiments), (minutes, self.limits.minutes), (self.tokens, self.limits.tokens),
            (self.cost, self.limits.cost),
        )  # fmt: skip
        return min(1.0, max((used / limit for used, limit in spent if limit), default=0.0))

    def _left(self) -> str:
        """How long the budget lasts at this rate; a run may end before."""
        share, seconds = self._share(), time.monotonic() - self.started
        if not 0 < share < 1:
            return ""
        left = seconds * (1 - share) / share
        return f"at most {left / 60:.0f} min left" if left >= 90 else f"at most {left:.0f} s left"

    def _settled(self) -> str:
        """What the last round came to: '12 confirmed, 1 absent'."""
        findings = self.record.findings()
        last = max((f.round or 0 for f in findings), default=0)
        fates = Counter(str(f.fate) for f in findings if f.round == last)
        return f"round {last}: " + ", ".join(f"{n} {fate}" for fate, n in fates.most_common())

    def _passing(self, line: str) -> None:
        """A line that the next one overwrites, on a terminal: how much of the budget is spent, how long it lasts, what is done."""
        if self.live:
            full = round(BAR * self._share())
            left = self._left()
            shown = f"{'█' * full}{'░' * (BAR - full)} {100 * self._share():.0f}%{f' {left}' if left else ''}  {line}"
            self.out.write(f"\r\033[K{cut(shown, self.width - 2)} …")
            self.out.flush()

    def _say(self, line: str) -> None:
        if not self.quiet:
            print(line, file=self.out, flush=True)
