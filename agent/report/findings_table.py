"""The findings as a table: what each says, what it came to, and the numbers that decided it."""

from collections.abc import Sequence

from agent.loop.record import RunRecord
from agent.report.conclusion import Concluded
from agent.report.marked import anchor, folded, linked, links, table
from agent.report.opening import UNTESTED
from agent.report.tested import Tested, controls, effect_words
from agent.report.text import markdown

SHOWN = 4  # rows before the rest is folded
HEAD = ("", "finding", "came to", "effect", "control", "p", "said before", "examples")


def findings_section(record: RunRecord, c: Concluded) -> list[str]:
    """The section's lines: standing findings first, those taken back last and struck."""
    if not c.findings:
        return ["## Findings", "", "None: nothing was predicted."]
    ordered = sorted(c.findings, key=rank)
    lines = ["## Findings", "", *table(HEAD, [_row(t) for t in ordered[:SHOWN]])]
    if rest := ordered[SHOWN:]:
        lines += ["", *folded(f"{len(rest)} more findings", table(HEAD, [_row(t) for t in rest]))]
    said = [t for t in ordered if t.finding.sentence]
    if said:
        sentences = [f"- {t.finding.handle} {_struck(linked(t.finding.sentence, record), t)}" for t in said]
        lines += ["", *folded("The confirmed ones in full sentences", sentences)]
    if beyond := [i for i in c.interpretations if i.finding]:
        words = [
            f"- {links([i.finding])} {linked(i.words, record)} {f'*{markdown(i.beside)}*' if i.beside else ''}".rstrip()
            for i in beyond
        ]
        lines += ["", *folded(f"What the planner makes of them ({UNTESTED})", words)]
    return lines


def rank(t: Tested) -> tuple[int, int]:
    """By what it came to, those that were taken back last, then by number."""
    f = t.finding
    order = ("confirmed", "contradicted", "absent", "inconclusive", "void")
    place = order.index(f.fate) if f.fate else len(order)
    return place + 10 * bool(f.retracted), int(f.handle[1:]) if f.handle[1:].isdecimal() else 0


def _row(t: Tested) -> Sequence[str]:
    f = t.finding
    handle = str(f.experiment)
    return (
        f'<a id="{anchor(f.handle)}"></a>{markdown(f.handle)}',
        _struck(markdown(t.words), t),
        came_to(t),
        "; ".join(f"{markdown(how)}[{markdown(text)}](#{anchor(handle)})" for _, how, text in effect_words(t)),
        markdown(controls(t)),
        p_text(t),
        f"{f.probability:.2f}",
        markdown(t.sample) + (" (some seen before)" if f.reused else ""),
    )


def _struck(text: str, t: Tested) -> str:
    return f"~~{text}~~" if t.finding.retracted else text


def came_to(t: Tested) -> str:
    """Fate and reason; a planner's reason for taking it back is quoted."""
    f = t.finding
    fate = f"**{f.fate}**" if f.stands else f.fate or "open"
    why = f": {markdown(f.reason)}" if f.reason else ""
    return f"{fate}{why}" + (f"; taken back: {markdown(f.retracted)}" if f.retracted else "")


def p_text(t: Tested) -> str:
    """The p value and what it had to reach in its round."""
    f = t.finding
    return "" if f.p is None or f.threshold is None else f"{f.p:.2g} (had to reach {f.threshold:.2g})"
