"""Pieces of the sentences that findings are said in."""

from collections.abc import Iterable, Mapping, Sequence

from experiments_db.findings import Statement
from experiments_db.places import Component, ComponentSet, Intervention, display, is_plural, parse_anchor
from tools.tasks.spans import anchor_words

WORDS = {"zero": "zeroed", "mean": "replaced by its mean", "resample": "resampled", "scale": "scaled", "add": "shifted"}
FALLS = {
    "accuracy": "accuracy falls", "probability": "the answer's probability falls", "margin": "the margin to the foil falls",
    "nll": "the loss grows",
}  # fmt: skip
WORSENS = {"accuracy": "falls", "probability": "falls", "margin": "falls", "nll": "grows"}
RISES = {
    "accuracy": "accuracy rises", "probability": "the answer's probability rises", "margin": "the margin to the foil grows",
    "nll": "the loss falls",
}  # fmt: skip
CHANGES = {
    "accuracy": "accuracy changes", "probability": "the answer's probability changes",
    "margin": "the margin to the foil changes", "nll": "the loss changes",
}  # fmt: skip
COSTS = {
    "accuracy": "in accuracy", "probability": "of the answer's probability", "margin": "of the margin to the foil",
    "nll": "in loss",
}  # fmt: skip
Roles = Mapping[str, str]


def roles_of(s: Statement) -> dict[str, str]:
    """Words for the roles that a statement's places name: `operand1` is the first operand."""
    nodes = s.route.nodes if s.route is not None else ()
    return role_names([*s.members, *s.among_what, *nodes])


def role_names(components: Iterable[Component]) -> dict[str, str]:
    """Words for the roles that components name."""
    names = {parse_anchor(a).name for c in components for a in (c.anchor, c.key) if a}
    return {n: anchor_words(n) for n in sorted(names) if n not in ("", "answer", "all")}


def place(s: Statement, roles: Roles | None = None) -> str:
    """The components in words, as a sentence begins: `Heads 0 and 3 of block 0 at the answer`."""
    assert s.set is not None
    return capital(display(s.set, roles_of(s) if roles is None else roles))


def is_or_are(s: Statement, each: str = "are") -> str:
    """The verb after `place`. each: what stands after a plural."""
    assert s.set is not None
    return each if is_plural(s.set.members) else "is"


def many(s: Statement) -> bool:
    """Whether the words for the components are a plural, or stand for several components: `all at once`, `any one of them`."""
    assert s.set is not None
    return len(s.members) > 1 or is_plural(s.set.members)


def at_once(s: Statement) -> str:
    """` all at once` where several components are changed together."""
    return " all at once" if len(s.members) > 1 else ""


def heads(components: Sequence[Component]) -> str:
    """The heads of patterns in words, without where they look."""
    plain = (c.but(part=c.part.replace("pattern", "z"), anchor="", key="", key_stack="") for c in components)
    return display(ComponentSet.of(*plain))


def capital(text: str) -> str:
    """With a capital letter in front."""
    return text[:1].upper() + text[1:]


def within(words: str) -> str:
    """A place in the middle of a sentence, from how it begins one: names keep their capitals."""
    return words if words[:3].isupper() else words[:1].lower() + words[1:]


def on_task(s: Statement) -> str:
    """'for addition', with the class of examples where it is about one."""
    return f"for {s.task}{f' among {s.among}' if s.among else ''}"


def how_words(how: Intervention) -> str:
    """'resampled', 'with the twin's', 'zeroed'."""
    if how.op == "resample" and how.source == "twin":
        return "with the twin's activation"
    return WORDS.get(how.op, str(how))


def under(s: Statement) -> str:
    """'resampled from other examples, and also zeroed': every intervention that it was tested under."""
    return listed([how_words(h) for h in s.done], "and also")


def listed(words: Sequence[str], last: str = "and") -> str:
    """'a, b and c'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""
