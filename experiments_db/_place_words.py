"""Places in plain English, for sentences: `heads 0 and 3 of block 0 at the answer`."""

from collections.abc import Iterable, Mapping, Sequence

from experiments_db._intervention import Intervention
from experiments_db._place_text import PARTS, parse_anchor
from experiments_db._place_types import Component, ComponentSet, Path

_NOUNS = {  # parts whose name does not say it; what lies in a block is followed by "block 3" or "blocks 3 and 4"
    "conv": "the convolutions",
    "embed": "the embedding",
    "resid_pre": "the residual stream before",
    "resid_mid": "the residual stream in the middle of",
    "resid_post": "the residual stream after",
    "final": "the final residual stream",
    "logits": "the logits",
}
_SUBLAYERS = {"attn": "attention", "cross": "cross-attention", "mlp": "MLP"}
_ASPECTS = {"q": "queries", "k": "keys", "v": "values", "pattern": "pattern", "act": "hidden activations"}


def listed(items: Iterable[object]) -> str:
    """`1, 2 and 3`."""
    texts = [str(i) for i in items]
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " and " + texts[-1]


def numbers(values: Sequence[int]) -> str:
    """`1, 2 and 5`; more than five in a row as `1 to 8`."""
    is_run = len(values) > 5 and list(values) == list(range(values[0], values[-1] + 1))
    return f"{values[0]} to {values[-1]}" if is_run else listed(values)


_COUNTED = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
    "twenty"
).split()


def anchor_text(text: str, roles: Mapping[str, str]) -> str:
    """An anchor in words: `the answer`, `two tokens before the answer`, `the last token of the subject`."""
    anchor = parse_anchor(text)
    if str(anchor) in roles:
        return roles[str(anchor)]
    if anchor.position is not None:
        if anchor.position >= 0:
            return f"position {anchor.position}"
        back = -anchor.position  # the answer's first token is what comes after -1
        if back == 1:
            return "the last token of the prompt"
        return f"{_COUNTED[back - 2]} tokens before the answer" if back <= 20 else f"position {back} from the end"
    if anchor.name == "answer" and anchor.policy != "all":
        first = anchor.policy == "first"
        return "the last token of the prompt" if first else "where the answer's last token is predicted"
    name = roles.get(
        anchor.name, "the answer" if anchor.name == "answer" else " ".join(anchor.name.replace("_", " ").split())
    )
    return name if anchor.policy == "all" else f"the {anchor.policy} token of {name}"


def where(c: Component, roles: Mapping[str, str]) -> str:
    """What follows the component itself: pass, anchor and key, each with a blank before it."""
    text = "" if c.passes is None else f" on pass {c.passes}"
    if c.anchor:
        said = anchor_text(c.anchor, roles)
        text += (" from " if c.key else " " if said.endswith(" before the answer") else " at ") + said
    if c.key:
        text += " to " + anchor_text(c.key, roles) + (f" in the {c.key_stack}" if c.key_stack else "")
    return text


def what(c: Component, blocks: Sequence[int]) -> str:
    """The component without its anchor, in words; `blocks` are all the blocks that are said together."""
    many = len(blocks) > 1
    at = (
        f"{'' if c.stack == 'decoder' else c.stack + ' '}block{'s' if many else ''} {numbers(blocks)}" if blocks else ""
    )
    part = PARTS[c.part]
    sublayer, _, aspect = c.part.partition(".")
    cross = "cross-attention " if sublayer == "cross" else ""
    if c.feature:
        return f"{_feature(c.feature)} in {what(c.but(feature=''), blocks)}"
    if c.units:
        noun = part.unit if len(c.units) == 1 else part.units
        if part.unit in ("logit", "neuron"):
            text = f"{noun} {numbers(c.units)}"
        elif part.unit == "head":
            text = f"{cross}{noun} {numbers(c.units)}"
            text = f"the {_ASPECTS[aspect]} of {text}" if aspect in _ASPECTS else text
        else:
            return f"{noun} {numbers(c.units)} of {what(c.but(units=()), blocks)}"
        return f"{text} of {at}" if at else text
    if c.part == "block":
        return at
    if c.part in _NOUNS:
        joint = " " if part.in_block else (" of the " + c.stack if c.stack != "decoder" else "")
        return f"{_NOUNS[c.part]}{joint}{at}"
    if aspect == "z":
        return f"all {cross}heads of {at}"
    whole = f"the {_SUBLAYERS[sublayer]}{'s' if many and sublayer == 'mlp' else ''} of {at}"
    return f"the {_ASPECTS[aspect]} of {whole}" if aspect in _ASPECTS else whole


def _said_together(members: Sequence[Component]) -> list[list[Component]]:
    """Those that differ in their block alone."""
    groups: dict[tuple[object, ...], list[Component]] = {}
    for c in members:
        at = (c.passes, c.anchor, c.key, c.key_stack)
        groups.setdefault((c.stack, c.part, c.units, c.feature, *at), []).append(c)
    return list(groups.values())


def is_plural(members: Sequence[Component]) -> bool:
    """Whether the words for components are a plural: heads 0 and 3 are, the attention of blocks 1 and 2 is."""
    groups = _said_together(members)
    c, blocks = groups[0][0], len(groups[0])
    sublayer, _, aspect = c.part.partition(".")
    if len(groups) > 1 or c.feature:
        return len(groups) > 1
    if aspect in _ASPECTS and PARTS[c.part].unit not in ("neuron", "logit"):
        return _ASPECTS[aspect].endswith("s")
    if c.units:
        return len(c.units) > 1 or blocks > 1
    if c.part in _NOUNS:
        return c.part in ("conv", "logits")
    return aspect in ("z", "act") or (blocks > 1 and (c.part == "block" or sublayer == "mlp"))


def words(members: Sequence[Component], roles: Mapping[str, str]) -> str:
    """Components in plain words, those that differ in their block alone said together."""
    groups = _said_together(members)
    ends = [where(group[0], roles) for group in groups]
    texts = [what(group[0], [c.block for c in group if c.block is not None]) for group in groups]
    if len(set(ends)) == 1:  # said once, for all
        return listed(texts) + ends[0]
    return listed(text + end for text, end in zip(texts, ends))


def usual_name(component: Component) -> str | None:
    """`1.0`, as a head is usually called, for one head's output; None for everything else."""
    is_head = component.part == "attn.z" and len(component.units) == 1 and not component.feature
    return f"{component.block}.{component.units[0]}" if is_head else None


def display(place: "Component | ComponentSet | Path | Intervention", roles: Mapping[str, str] | None = None) -> str:
    """The place in plain words: `heads 0 and 3 of block 0 at the answer`; `roles` are words for the names of anchors."""
    roles = roles or {}
    match place:
        case Component():
            return words([place], roles)
        case ComponentSet():
            return words(place.members, roles)
        case Path():
            held = f", with {listed(place.frozen)} held frozen" if place.frozen else ""
            return "the path from " + " to ".join(words([c], roles) for c in place.nodes) + held
        case Intervention():
            return _done(place)


def _done(done: Intervention) -> str:
    source = {"donor": "another example", "twin": "its twin"}.get(done.source, done.source)
    direction = _feature(done.direction) if done.direction else source
    dose = "" if done.dose is None else f"{done.dose:g}"
    match done.op:
        case "zero":
            return "set to zero"
        case "mean":
            return "replaced by its mean" + (f" over {source}" if source else "")
        case "resample":
            moved = f"moved {dose} of the way to" if dose else "replaced by"
            return f"{moved} its value in {source or 'another example'}"
        case "set":
            along = f"set to {dose} along {direction}" if done.direction else f"set to {dose}"
            return f"set to its value in {source}" if source else along
        case "add":
            return f"with {dose} times {direction} added"
        case "scale":
            return f"scaled by {dose}" + (f" along {direction}" if done.direction else "")
        case "project_out":
            return f"with {direction} removed"
        case "program":
            return f"under the program {done.program}"


def _feature(text: str) -> str:
    kind, _, name = text.partition(":")
    return f"the direction {name.partition('~')[0]}" if kind == "dir" else f"feature {name}"
