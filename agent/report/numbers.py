"""Measurements as text: one format for report, terminal and notes."""

from agent.loop.record import RunRecord
from agent.report.references import Reference, UnresolvedReference, resolve
from experiments_db.records import Measurement
from experiments_db.store import StoreError

BARE = ("chance", "smallest")  # computed, not measured on examples


def _is_share(unit: str) -> bool:
    """Whether a value is a share of something, which is said in percent."""
    return unit.startswith("share of ")


def value_text(value: float, unit: str) -> str:
    """A value in its unit: shares in percent, everything else with three significant digits."""
    if _is_share(unit):
        return f"{100 * value:.0f}%" if abs(value) >= 0.1 or value == 0 else f"{100 * value:.1f}%"
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:.3g}"


def measurement_text(m: Measurement) -> str:
    """Value, 95% interval and n: '97% [93%, 99%; n=128]'."""
    inside = [f"n={m.n}"]
    if m.low is not None and m.high is not None:
        inside.insert(0, f"{value_text(m.low, m.unit)}, {value_text(m.high, m.unit)}")
    unit = "" if _is_share(m.unit) or m.name == "chance" else f" {m.unit}"
    return f"{value_text(m.value, m.unit)}{unit} [{'; '.join(inside)}]"


def compact_text(m: Measurement) -> str:
    """Value and 95% interval for a table: '97% [93%, 99%]'."""
    inside = "" if m.low is None or m.high is None else f" [{value_text(m.low, m.unit)}, {value_text(m.high, m.unit)}]"
    return f"{value_text(m.value, m.unit)}{'' if _is_share(m.unit) else f' {m.unit}'}{inside}"


def control_text(m: Measurement) -> str | None:
    """The control that stands beside a measurement: its value where that is all that is known and it is about as many examples,
    else in the same format; None where it has none.
    """
    c = m.control
    if c is None:
        return None
    if c.low is None and c.n == m.n:
        return value_text(c.value, m.unit) + ("" if _is_share(m.unit) else f" {m.unit}")
    return measurement_text(m.model_copy(update={"value": c.value, "low": c.low, "high": c.high, "n": c.n}))


def reference_text(found: Reference) -> str:
    """What stands in a text where the reference stood."""
    m = found.measurement
    match found.part:
        case None:
            return measurement_text(m) if m.name not in BARE else value_text(m.value, m.unit)
        case "n":
            return str(m.n)
        case "control":
            return control_text(m) or "(no control on record)"
        case part:
            bound = m.low if part == "low" else m.high
            return "(no interval on record)" if bound is None else value_text(bound, m.unit)


def number_text(inside: str, record: RunRecord) -> str:
    """The inside of {{...}} as plain text; an unresolvable one is shown as it was written."""
    try:
        return reference_text(resolve(inside, record.measurements_of))
    except (UnresolvedReference, StoreError):
        return "{{" + inside + "}}"
