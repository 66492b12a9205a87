"""The benchmark's tables in markdown, and their place in the README."""

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.planted.scoring import Scored, Summary, interval, summarise

README = Path(__file__).parents[1] / "README.md"
HEAD = (
    "| method | exact cases | sites named | AUROC | AP | false claims | not judged | nulls: said so | ECE | Brier skill "
    "| experiments | tokens | s a case, median (max) |"
)


def table(rows: Sequence[Scored]) -> str:
    """What counts most first, then a line for each method."""
    methods = list(dict.fromkeys(r.method for r in rows))
    made = [summarise(m, [r for r in rows if r.method == m]) for m in methods]
    lines = [
        *(headline(s) for s in made if s.settled and s.tokens == s.tokens and s.method in _planners(rows)),
        "",
        HEAD,
    ]
    return "\n".join([*lines, "|" + "---|" * (HEAD.count("|") - 1), *(_line(s) for s in made)])


def _planners(rows: Sequence[Scored]) -> set[str]:
    return {r.method for r in rows if r.auroc is None and r.experiments != 1}


def headline(s: Summary) -> str:
    """Exact cases and false claims with their intervals."""
    return (
        f"**{s.method}**: {_of(s.exact)} cases exact; {s.false[0]} false of {s.false[1]} confirmed findings that could be judged "
        f"({_range(s.false)}), {s.unjudged} more could not; {_of(s.nulls)} nulls said so; ECE {_number(s.ece)} and Brier skill "
        f"{_number(s.skill) or 'undefined'} over all {s.settled} settled predictions.\n"
    )


def _of(share: tuple[int, int]) -> str:
    k, n = share
    return f"{k} of {n} ({_range(share)})" if n else "none"


def _range(share: tuple[int, int]) -> str:
    low, high = interval(*share)
    return f"95% interval {100 * low:.1f}% to {100 * high:.1f}%"


def _line(s: Summary) -> str:
    return (
        f"| {s.method} | {_share(s.exact)} | {_share(s.named)} | {_number(s.auroc)} | {_number(s.precision)} | {s.false[0]} | "
        f"{s.unjudged} | {_share(s.nulls)} | {_number(s.ece)} | {_number(s.skill)} | {s.experiments:.0f} | {s.tokens:.0f} | "
        f"{s.seconds:.1f} ({s.slowest:.1f}) |"
    )


def _share(share: tuple[int, int]) -> str:
    return f"{100 * share[0] / share[1]:.0f}%" if share[1] else ""


def _number(x: float) -> str:
    return "" if math.isnan(x) else f"{x:.3f}"


def misses(rows: Sequence[Scored]) -> str:
    """A line for each case of a planner that is not exact, or in which something is false."""
    lines: list[str] = []
    for r in rows:
        if r.method not in _planners(rows) or (r.exact and not r.false and (r.targets or r.quiet)):
            continue
        parts = [f"not named: {', '.join(r.missed)}"] if r.missed else []
        parts += [f"false: {s.kind} {s.text}" for s in r.false]
        parts += [
            f"not shown to be true: {s.kind} {s.text}"
            for s in r.said
            if s.verdict == "unjudged" and "necessary" in s.kind
        ]
        parts += [] if r.targets or r.quiet else [f"a null ended in {r.ending or 'nothing'}"]
        lines.append(f"- {r.method}, {r.case}: {'; '.join(parts)}")
    return "\n".join(lines)


def write(text: str, marker: str) -> None:
    """Put a table between its markers in the README; ValueError where there are none."""
    begin, end = f"<!-- {marker} -->", f"<!-- end {marker} -->"
    old = README.read_text(encoding="utf-8")
    if begin not in old or end not in old:
        raise ValueError(f"{README} has no {begin}")
    before, _, rest = old.partition(begin)
    README.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")
