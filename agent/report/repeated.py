"""What repeated runs of one question came to: each statement once, with the share of the runs that reached it.

Statements are matched as data (kind, places, task and class, quantity), never by their words; a confirmed one and a contradicted
one say opposite directions. A run that never tested a statement did not reach it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.loop.record import Reading
from agent.loop.repeats import Group, group, varied
from agent.report.conclusion import conclude, verdict
from agent.report.marked import folded, table
from agent.report.summary import headline
from agent.report.tested import Tested, effect_words, statement_words
from agent.report.text import markdown
from experiments_db.findings import Finding, Statement
from experiments_db.store import Store
from tools.findings.consequences import contradictions
from tools.statistics.multiplicity import ALPHA as RATE

UNTOLD = ("interventions", "smallest", "examples")  # how it was tested, not what it says
ALPHA = (
    f"Each run by itself confirms something false with a probability of at most {RATE:g}; what one run of many confirmed is "
    "therefore weaker than it is in that run's own report."
)
ORDER = ("confirmed", "contradicted", "absent", "inconclusive", "void", "open", "taken back")


@dataclass(frozen=True)
class OneRun:
    """A repeat: its number and run, what it was asked, and what it came to."""

    number: int
    name: str
    goal: str
    planner: str
    seed: int
    verdict: str
    answer: str
    experiments: int
    confirmed: int
    reused: int


@dataclass(frozen=True)
class Came:
    """What a statement came to in one run: its fate (of several tests the best), the finding and its effect in words."""

    fate: str
    handle: str
    effect: str
    how: str


@dataclass(frozen=True)
class Reached:
    """A statement with what it came to, by the number of the run; runs that never tested it are not in it."""

    words: str
    came: Mapping[int, Came]
    every: tuple[int, ...]

    def runs(self, fate: str = "confirmed") -> list[int]:
        """The numbers of the runs in which it came to this."""
        return [i for i, c in self.came.items() if c.fate == fate]

    @property
    def share(self) -> str:
        """'2 of 3'."""
        return f"{len(self.runs())} of {len(self.every)}"

    @property
    def otherwise(self) -> str:
        """What it came to in the other runs: 'not tested in run 2; absent in run 3'."""
        rest = {fate: self.runs(fate) for fate in ORDER[1:]}
        rest["not tested"] = [i for i in self.every if i not in self.came]
        return "; ".join(f"{fate} in {_runs(found)}" for fate, found in rest.items() if found)

    @property
    def hows(self) -> str:
        """Under which interventions it was confirmed, where not all runs used the same."""
        by_how: dict[str, list[int]] = {}
        for i in self.runs():
            by_how.setdefault(self.came[i].how, []).append(i)
        return "; ".join(f"{how} in {_runs(i)}" for how, i in by_how.items()) if len(by_how) > 1 else ""


@dataclass(frozen=True)
class Combined:
    """A group of repeats: the runs that ended, what was confirmed in any of them, and where they disagree."""

    group: Group
    runs: tuple[OneRun, ...]
    reached: tuple[Reached, ...]
    never: tuple[Reached, ...]
    disagree: tuple[str, ...]

    @property
    def of_one(self) -> list[Reached]:
        """What one run of several alone confirmed."""
        return [r for r in self.reached if len(r.runs()) == 1] if len(self.runs) > 1 else []

    @property
    def in_all(self) -> list[Reached]:
        """What every run confirmed."""
        return [r for r in self.reached if len(r.runs()) == len(self.runs)]

    def line(self) -> str:
        """What is shared, in one sentence."""
        n, found = len(self.runs), len(self.reached)
        done = f"{n} of {len(self.group.plan)} runs have ended" if n < len(self.group.plan) else f"{n} runs"
        if not found:
            return f"{done}; none of them confirmed anything."
        return (
            f"{done}; {found} statement{'s were' if found > 1 else ' was'} confirmed in at least one, {len(self.in_all)} of them "
            f"in every run and {len(self.of_one)} in one run only."
        )

    def what_varied(self) -> list[str]:
        """A line each on what the repeats were given otherwise and alike, and on the examples."""
        said = varied(self.group.plan)
        lines = [f"{name}: {', '.join(words)}" for name, words in said.items() if len(words) > 1]
        same = [name for name, words in said.items() if len(words) == 1]
        again = sum(r.reused for r in self.runs)
        return [
            f"Varied: {'; '.join(lines) or 'nothing that was asked for'}.",
            *([f"The same in all: {', '.join(same)}."] if same else []),
            "Examples: each run settled its findings on problems that no other run had settled any on."
            if not again
            else f"Examples: {again} findings had to be settled on problems that some other round or run had used.",
        ]


def combined(store: Store, name: str) -> Combined:
    """Read a group from the database."""
    found = group(store, name)
    runs: list[OneRun] = []
    by_statement: dict[str, tuple[Statement, dict[int, Came]]] = {}
    standing: list[Finding] = []
    numbers = tuple(sorted(found.ended))
    for number, run in found.ended.items():
        record = Reading(store, run.name)
        c = conclude(record)
        tests = c.findings
        runs.append(
            OneRun(
                number, run.name, run.goal, run.planner, int(run.settings["seed"]), verdict(record),
                headline(record, c, brief=True),
                len(record.experiments()), sum(t.finding.stands for t in tests), sum(t.finding.reused for t in tests),
            )
        )  # fmt: skip
        for t in sorted(
            tests, key=lambda t: ORDER.index(_fate(t.finding)), reverse=True
        ):  # the best comes last and stays
            came = by_statement.setdefault(key(t.finding.statement), (t.finding.statement, {}))[1]
            came[number] = _came(t)
        standing += [
            t.finding.model_copy(update={"handle": f"{t.finding.handle} of run {number}"})
            for t in tests
            if t.finding.stands
        ]
    every = [Reached(_words(s), dict(sorted(came.items())), numbers) for s, came in by_statement.values()]
    ordered = sorted(every, key=lambda r: (-len(r.runs()), -len(r.came), r.words))
    disagree = [f"{a} and {b} contradict each other: {why}" for a, b, why in contradictions(standing)]
    disagree += [
        f"{r.words}: confirmed in {_runs(r.runs())}, {fate} in {_runs(r.runs(fate))}"
        for r in ordered
        for fate in ("contradicted", "absent")
        if r.runs() and r.runs(fate)
    ]
    return Combined(
        found, tuple(runs), tuple(r for r in ordered if r.runs()), tuple(r for r in ordered if not r.runs()),
        tuple(dict.fromkeys(disagree)),
    )  # fmt: skip


def key(s: Statement) -> str:
    """What makes two statements the same one: all that they say, without how it was tested."""
    return s.model_copy(update={"interventions": (), "smallest": None, "examples": 1}).model_dump_json()


def _words(s: Statement) -> str:
    return statement_words(s.model_copy(update={"interventions": ()}))


def _fate(f: Finding) -> str:
    return "taken back" if f.retracted else f.fate or "open"


def _came(t: Tested) -> Came:
    effect = "; ".join(f"{how}{text}" for _, how, text in effect_words(t))
    return Came(_fate(t.finding), t.finding.handle, effect, ", ".join(t.finding.statement.interventions))


def _runs(numbers: Sequence[int]) -> str:
    return f"run{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


# -- as markdown -------------------------------------------------------------------------------------------------------


def render_repeated(store: Store, name: str) -> str:
    """The combined report as markdown, from the database alone."""
    c = combined(store, name)
    plan, where = c.group.plan, f" --db {store.path.name}" if store.path.name != "experiments.db" else ""
    sections = [
        [f"# {markdown(plan[0].goal)}: {len(plan)} runs", "", markdown(c.line()), "", ALPHA],
        _unfinished(c, where),
        ["## What varied", "", *(f"- {markdown(line)}" for line in c.what_varied()), "", *_runs_table(c)],
        _reached_section(c),
        _of_one(c),
        ["## Where the runs disagree", "", *(f"- {markdown(d)}" for d in c.disagree)] if c.disagree else [],
        _never(c),
        [
            "## Replay", "", "```sh",
            f"python -m agent.report {name}{where} --check    # derives this file again from the database",
            *(f"python -m agent.replay {r.name}{where}" for r in c.runs), "```",
        ],
    ]  # fmt: skip
    return "\n\n".join("\n".join(s) for s in sections if s) + "\n"


def _unfinished(c: Combined, where: str) -> list[str]:
    if len(c.runs) == len(c.group.plan):
        return []
    return [
        "Not all repeats are done; go on with",
        "",
        "```sh",
        f"python -m agent.run --resume {c.group.name}{where}",
        "```",
    ]


def _link(c: Combined, number: int, handle: str = "") -> str:
    run = next(r for r in c.runs if r.number == number)
    return f"[{number}](../{run.name}/report.md{f'#{handle.lower()}' if handle else ''})"


def _runs_table(c: Combined) -> list[str]:
    head = ("run", "question", "planner", "seed", "conclusion", "experiments", "confirmed")
    rows = [
        (
            _link(c, r.number), markdown(r.goal), markdown(r.planner), str(r.seed), f"{markdown(r.verdict)}. {markdown(r.answer)}",
            str(r.experiments), str(r.confirmed),
        )
        for r in c.runs
    ]  # fmt: skip
    return table(head, rows)


def _reached_section(c: Combined) -> list[str]:
    if not c.reached:
        return ["## Findings", "", "None: no run confirmed anything."]
    rows = [
        (
            markdown(r.words),
            r.share,
            "; ".join(f"{_link(c, i, r.came[i].handle)}: {markdown(r.came[i].effect)}" for i in r.runs()),
            markdown("; ".join(filter(None, (r.otherwise, r.hows)))),
        )
        for r in c.reached
    ]
    return ["## Findings", "", *table(("statement", "confirmed in", "effect, by run", "otherwise"), rows)]


def _of_one(c: Combined) -> list[str]:
    if not c.of_one:
        return []
    lines = [f"- {markdown(r.words)} (run {_link(c, r.runs()[0])}; {markdown(r.otherwise)})" for r in c.of_one]
    return ["## Findings of one run only", "", *lines]


def _never(c: Combined) -> list[str]:
    if not c.never:
        return []
    lines = [f"- {markdown(r.words)}: {markdown(r.otherwise)}" for r in c.never]
    return ["## Tested and never confirmed", "", *folded(f"{len(lines)} statements", lines)]


def repeated_folder(found: Group, out: Path | None = None) -> Path:
    """Where a group's report belongs: beside its runs, or below `out`."""
    first = next(iter(found.runs.values()))
    return (out or Path(first.settings.get("out", "transcripts"))) / found.name


def write_repeated(store: Store, name: str, out: Path | None = None) -> Path:
    """Write the combined report; returns its path."""
    folder = repeated_folder(group(store, name), out)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "report.md.part"
    try:
        part.write_text(render_repeated(store, name), encoding="utf-8")
        part.replace(folder / "report.md")
    finally:
        part.unlink(missing_ok=True)
    return folder / "report.md"
