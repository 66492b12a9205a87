"""What an experiment found, in a line: its strongest effects and their places, each beside its control."""

from collections.abc import Sequence

from experiments_db.records import Measurement

MOST = 3
PLACES = ("component", "program", "intervention", "label", "token", "among", "task")


def strongest(measurements: Sequence[Measurement], most: int = MOST) -> list[Measurement]:
    """The measurements of the first contrasted quantity that are farthest from their control, or from the intact model.

    Without either, the first of all.
    """
    intact = {(m.name, m.task, m.among): m.value for m in measurements if not _changed(m)}
    gaps = [(g, m) for m in measurements if (g := _gap(m, intact)) is not None]
    if not gaps:
        return list(measurements[:most])
    first = gaps[0][1].name
    mine = [(g, m) for g, m in gaps if m.name == first]
    return [m for _, m in sorted(mine, key=lambda pair: -pair[0])[:most]]


def _gap(m: Measurement, intact: dict[tuple[str, str | None, str | None], float]) -> float | None:
    """How far from its control, else from the intact model; None where neither is there."""
    if m.control is not None:
        return abs(m.value - m.control.value)
    plain = intact.get((m.name, m.task, m.among))
    return abs(m.value - plain) if plain is not None and _changed(m) else None


def _changed(m: Measurement) -> bool:
    """Whether it was measured with something done to the model."""
    return m.component is not None or m.program not in (None, "intact")


def in_a_line(measurements: Sequence[Measurement], most: int = MOST) -> str:
    """`accuracy 0.02 [0, 0.07] (control 0.61, a random vector) at STACK.0.mlp.out@answer, zero; ... (40 more)`.

    '' without measurements.
    """
    found = strongest(measurements, most)
    rest = len(measurements) - len(found)
    return "; ".join(map(_words, found)) + (f" ({rest} more measurements)" if rest > 0 else "")


def beside(measurements: Sequence[Measurement], most: int = 8) -> str:
    """The strongest effects a line each, with the interval and the control that a table leaves out; '' where there are none."""
    found = strongest(measurements, most)
    if not any(m.control is not None or m.low is not None for m in found):
        return ""
    rest = len(measurements) - len(found)
    more = [f"  and {rest} more measurements: recall, query"] if rest > 0 else []
    return "\n".join(["strongest, with 95% interval and control:", *(f"  {_words(m)}" for m in found), *more])


def _words(m: Measurement) -> str:
    inside = f" [{m.low:.3g}, {m.high:.3g}]" if m.low is not None and m.high is not None else ""
    control = f" (control {m.control.value:.3g}, {m.control.kind})" if m.control else ""
    at = [str(v) for name in PLACES if (v := getattr(m, name, None)) is not None]
    where = f" at {', '.join(at)}" if at else ""
    return f"{m.name} {m.value:.3g}{inside}{control}{where}"
