"""What an experiment found, in a line: its strongest effects and their places, each beside its control.

An effect stands out where its interval excludes its control and what the intact model does, and a share differs by a twentieth.
What a sequential sweep decided to be within the smallest effect never does.
"""

from collections.abc import Mapping, Sequence

from agent.loop.record import PAGE
from experiments_db.records import Measurement

MOST = 3
CHANGES = ("effect", "recovered", "flipped")  # quantities that are nothing where nothing happens
DECIDED = "decided"
LEAST = 0.05  # of a share: less is seen in the table, and is no strong effect
Intact = Mapping[tuple[str, str | None, str | None], float]
PLACES = ("component", "program", "intervention", "label", "token", "among", "task")


def strongest(measurements: Sequence[Measurement], most: int = MOST) -> list[Measurement]:
    """The measurements of the first contrasted quantity that stand out, farthest from their control or the intact model first.

    Without either, the first of all.
    """
    found = _farthest(measurements)
    return list(measurements[:most]) if found is None else [m for m, out in found if out][:most]


def _farthest(measurements: Sequence[Measurement]) -> list[tuple[Measurement, bool]] | None:
    """Those of the first contrasted quantity, farthest first, and whether each stands out; None where nothing is contrasted."""
    intact = {(m.name, m.task, m.among): m.value for m in measurements if not _changed(m)}
    gaps = [(g, m) for m in measurements if (g := _gap(m, intact)) is not None]
    if not gaps:
        return None
    mine = [(g, m) for g, m in gaps if m.name == gaps[0][1].name]
    within = {_place(m) for m in measurements if m.name == DECIDED and not m.value}
    return [
        (m, _place(m) not in within and _stands_out(m, g, intact)) for g, m in sorted(mine, key=lambda pair: -pair[0])
    ]


def _place(m: Measurement) -> tuple[object, ...]:
    return m.component, m.program, m.intervention, m.variant, m.dose, m.task, m.among


def _gap(m: Measurement, intact: Intact) -> float | None:
    """How far from its control, else from the intact model; None where neither is there."""
    if m.control is not None:
        return abs(m.value - m.control.value)
    plain = intact.get((m.name, m.task, m.among), _nothing(m))
    return abs(m.value - plain) if plain is not None and _changed(m) else None


def _nothing(m: Measurement) -> float | None:
    """What is measured where nothing happens, if that is known of itself."""
    return 0.0 if m.name in CHANGES or m.name.endswith(".delta") else None


def _stands_out(m: Measurement, gap: float, intact: Intact) -> bool:
    """Whether it differs from its control and did something itself: where only the control did, nothing was found."""
    is_share = m.unit.startswith(("share of", "of the"))
    if is_share and gap < LEAST:
        return False
    plain = intact.get((m.name, m.task, m.among), _nothing(m))
    if plain is not None and (not _excludes(m, plain) or (is_share and abs(m.value - plain) < LEAST)):
        return False
    c = m.control
    if c is not None and c.difference_low is not None and c.difference_high is not None:
        return not c.difference_low <= 0 <= c.difference_high
    return c is None or _excludes(m, c.value)


def _excludes(m: Measurement, value: float) -> bool:
    """Whether a value lies outside the interval; where there is no interval, whether it is another value."""
    return m.value != value if m.low is None or m.high is None else not m.low <= value <= m.high


def _changed(m: Measurement) -> bool:
    """Whether it was measured with something done to the model."""
    return m.component is not None or m.program not in (None, "intact")


def in_a_line(measurements: Sequence[Measurement], most: int = MOST) -> str:
    """`accuracy 0.02 [0, 0.07] (control 0.61, a random vector) at STACK.0.mlp.out@answer, zero; ... (40 more)`.

    '' without measurements.
    """
    head, found = _shown(measurements, most)
    rest = len(measurements) - len(found)
    return head + "; ".join(map(_words, found)) + (f" ({rest} more measurements)" if rest > 0 else "")


def beside(measurements: Sequence[Measurement], most: int = 8, handle: str | None = None) -> str:
    """The strongest effects a line each, with the interval and the control that a table leaves out; '' where there are none.

    handle: of the experiment, for the calls that show the rest.
    """
    head, found = _shown(measurements, most)
    if not any(m.control is not None or m.low is not None for m in found):
        return ""
    rest = len(measurements) - len(found)
    more = [f"  and {rest} more measurements: {the_rest(handle, len(measurements))}"] if rest > 0 else []
    title = head.rstrip() or "strongest:"
    return "\n".join([f"{title[:-1]}, with 95% interval and control:", *(f"  {_words(m)}" for m in found), *more])


def the_rest(handle: str | None, n: int) -> str:
    """The calls that show all measurements of an experiment: 'recall E5 (page=2 to page=3 for the rest) or query'."""
    pages = -(-n // PAGE)
    turn = "" if pages < 2 else f" (then page=2{f' to page={pages}' if pages > 2 else ''})"
    return f"recall {handle}{turn}, or query" if handle else "recall, query"


def _shown(measurements: Sequence[Measurement], most: int) -> tuple[str, list[Measurement]]:
    """What stands out; where nothing does, words that say so, and what comes nearest to it."""
    found = strongest(measurements, most)
    if found or not measurements:
        return "", found
    return "nothing stood out; farthest: ", [m for m, _ in (_farthest(measurements) or [])[:1]]


def _words(m: Measurement) -> str:
    inside = f" [{m.low:.3g}, {m.high:.3g}]" if m.low is not None and m.high is not None else ""
    control = f" (control {m.control.value:.3g}, {m.control.kind})" if m.control else ""
    at = [str(v) for name in PLACES if (v := getattr(m, name, None)) is not None]
    where = f" at {', '.join(at)}" if at else ""
    return f"{m.name} {m.value:.3g}{inside}{control}{where}"
