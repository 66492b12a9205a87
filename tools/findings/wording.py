"""Checks that tools make on texts and handles before anything is written."""

import re

from experiments_db.records import COORDINATES
from tools.findings.naming import NAMED, ORDINAL, PLACE, SHORT, missing
from tools.findings.numerals import quantity
from tools.methods.tool import Context, History, ToolInputError

REFERENCE = re.compile(r"\{\{(?:(?!\{\{|\}\}).)*\}\}", re.DOTALL)
HANDLE = re.compile(r"\b[ENHFCQ]\d+\b")
SPEC = re.compile(r"\b[a-zA-Z_]\w*:[\w.-]+=[\w.=,-]*\w")
HEAD = re.compile(r"(?<![\w.-])(\d+)\.(\d+)(?![\w.%]|\s*(?:%|percent|per cent|nats?|logits?|points?|of\b))")
BEFORE_A_NUMBER = frozenset(
    "is was were be to by from at of about accuracy equals than roughly around only nearly reaches = < > ≈ ~".split()
)
QUOTED = re.compile(r"`([^`]*)`|(?<!\w)'([^']{0,400})'(?!\w)|\"([^\"]{0,400})\"|“([^”]{0,400})”")


def check_handles(ctx: Context, handles: list[str], letter: str) -> None:
    """Raise ToolInputError for a handle that does not exist."""
    known = ctx.history.handles(letter)
    bad = [h for h in handles if h not in known]
    if bad and not bad[0].startswith(letter):
        raise ToolInputError(f"{bad[0]!r} stands for something else: here handles begin with {letter}; there are "
                             f"{', '.join(known[-20:]) or 'none yet'}")  # fmt: skip
    if bad:
        raise ToolInputError(f"there is no {bad[0]!r}; there are {', '.join(known[-20:]) or 'none yet'}")


def check_references(ctx: Context, text: str, *, digits: bool = False) -> None:
    """Raise ToolInputError for a reference that names no measurement and, if asked, for a quantity typed by hand, or a
    place that the subject does not have.

    Figures and number words may stand in references, handles, places, task specs and quotations of the examples only.
    """
    problems = ctx.history.unresolved(text)
    if problems:
        raise ToolInputError("; ".join(problems))
    if not digits:
        return
    said = _without_quotations(ctx, text)
    nowhere = missing(ctx.subject, said)
    if nowhere:
        raise ToolInputError(nowhere)
    word = quantity(_without_names(ctx, said))
    if word:
        meant = could_mean(ctx.history, word) if re.fullmatch(r"-?(?:\d+(?:\.\d+)?|\.\d+)\s?%?", word) else []
        instead = (
            f"it could be {', '.join(meant)}"
            if meant
            else "a reference looks like {{E1.accuracy[task=addition]}}, and blocks and heads are named as such (block 3, head 1.0)"
        )
        raise ToolInputError(
            f"{word!r} is typed by hand: write the measurement's reference instead, so that its value comes from "
            f"the record: {instead} (recall E1 lists the names of E1)"
        )


def _without_quotations(ctx: Context, text: str) -> str:
    """The text without what is not the planner's own: references, task specs, quotations of the examples."""
    text = QUOTED.sub(
        lambda m: " " if _is_quotation(ctx, next(g for g in m.groups() if g is not None)) else m.group(), text
    )
    return SPEC.sub(lambda m: _unless_task(ctx, m), REFERENCE.sub(" ", text))


def _without_names(ctx: Context, text: str) -> str:
    """A text of the planner's own without the names that may hold figures: handles and places."""
    text = re.sub(ORDINAL, " ", SHORT.sub(" ", HANDLE.sub(" ", PLACE.sub(" ", text))), flags=re.IGNORECASE)
    spec = ctx.subject.spec()

    def exists(name: str) -> bool:
        block, _, unit = name.partition(".")
        return int(block) < len(spec.blocks) and int(unit) < spec.n_heads and unit == str(int(unit))

    def head(m: re.Match[str]) -> str:
        before = re.findall(r"\S+", m.string[: m.start()])[-1:]
        free = not before or before[0].lower().strip("(,;:") not in BEFORE_A_NUMBER
        return " " if free and exists(m.group()) else m.group()

    def named(m: re.Match[str]) -> str:
        fractions = [n for n in re.findall(r"\d+\.\d+", m[1]) if not exists(n)]
        return m.group() if fractions else re.sub(r"[\d.]", " ", m.group())

    return HEAD.sub(head, NAMED.sub(named, text))


def _unless_task(ctx: Context, m: re.Match[str]) -> str:
    try:
        ctx.tasks.get(m.group())
    except ValueError:
        return m.group()
    return " "


def _is_quotation(ctx: Context, quoted: str) -> bool:
    """Whether a quoted text has no figure, or stands word for word in an input or an answer that this run has looked at, or names
    a span of one.
    """
    if quantity(quoted) is None and not re.search(r"\d", quoted):
        return True
    tasks = {m.task for h in ctx.history.handles("E") for m in ctx.history.measurements_of(h)[:1] if m.task}
    for name in sorted(tasks):
        try:
            examples = ctx.tasks.get(name).examples("explore", 256, ctx.seed)
        except ValueError:
            continue
        if any(quoted in e.spans for e in examples):
            return True
        if any(quoted in text for e in examples for text in (e.prompt, e.answer, e.prompt + e.answer, e.twin or "")):
            return True
    return False


def could_mean(history: History, typed: str, most: int = 6) -> list[str]:
    """References to this run's measurements that round to a number as it was typed (0.97, 97%, 97.4 %), newest first."""
    digits = typed.rstrip("% ").replace(",", "")
    scale = 0.01 if typed.endswith("%") else 1.0
    half = 0.5 * scale * 10.0 ** -len(digits.partition(".")[2])
    number = scale * float(digits)
    found: list[str] = []
    for low, high in ((number - half, number + half), (-number - half, -number + half)):
        rows = history.select({"value": {">=": low, "<=": high}}, [], "mean", None, False, 1000, True)
        for row in reversed(rows):
            where = ", ".join(f"{c}={row[c]}" for c in COORDINATES if row[c] is not None)
            found.append("{{" + f"{row['experiment']}.{row['name']}" + (f"[{where}]" if where else "") + "}}")
    return found[:most]
