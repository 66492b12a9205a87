"""What a subject has, in the language of places, so that selectors in arguments resolve to the components that there are."""

import re
from collections.abc import Sequence
from functools import cache, partial

from torch import Tensor

from experiments_db.places import (
    BlockLayout,
    Component,
    ComponentSet,
    Layout,
    Path,
    PlaceError,
    Selector,
    StackLayout,
    expand_anchors,
    parse_anchor,
)
from tools.engine.adapter import StackSpec
from tools.engine.version import NAMED
from tools.methods.anchors import length_in, same_positions
from tools.methods.scoring import encoded_all
from tools.methods.tool import ToolInputError
from tools.ports import port_of
from tools.subjects import Subject
from tools.tasks import Example


def layout_of(subject: Subject) -> Layout:
    """Stacks, blocks, parts and sizes of a subject."""
    stacks: list[StackLayout] = []
    for name, spec in subject.stacks.items():
        width = _neurons(spec)
        block = BlockLayout(parts=("block", *spec.kinds), heads=spec.n_heads, neurons=width)
        blocks = (block,) * len(spec.blocks)
        stacks.append(StackLayout(name=name, blocks=blocks, width=spec.width, attends_to=spec.attends_to or ""))
    return Layout(stacks=tuple(stacks))


def _neurons(spec: StackSpec) -> int:
    """Hidden neurons of an MLP, from the shape of its last linear map."""
    if spec.down_proj is None:
        return 0
    weight: Tensor = spec.blocks[0].get_submodule(spec.down_proj).get_parameter("weight")
    return weight.numel() // spec.width


def select_components(subject: Subject, texts: Sequence[str], what: str = "components") -> list[Component]:
    """The components that selectors such as `*.3.attn.z[*]@answer` mean, in order, each once.

    ToolInputError says what would be valid.
    """
    layout = layout_of(subject)
    found: list[Component] = []
    for text in texts:
        try:
            terms = [Selector.parse(term).resolve(layout) for term in text.split("+")]
        except PlaceError as error:
            raise ToolInputError(f"{what}: {error}") from None
        found += sorted({c for term in terms for c in _where_it_lies(subject, term)}, key=Component.rank)
    return list(dict.fromkeys(found))


def _where_it_lies(subject: Subject, found: Sequence[Component]) -> Sequence[Component]:
    """Of what a selector for every stack means at the answer or at a span, what lies in the one stack that has it."""
    anchor = next((c.anchor for c in found), "")
    if len({c.stack for c in found}) < 2 or anchor in ("", "all", "each") or parse_anchor(anchor).position is not None:
        return found
    is_answer = parse_anchor(anchor).name == "answer"
    stack = subject.readout if is_answer else port_of(subject).reading(subject)
    return [c for c in found if c.stack == stack]


def chosen_components(
    subject: Subject, texts: Sequence[str], examples: Sequence[Example], depth: int = 8, what: str = "components"
) -> list[Component]:
    """The components that selectors mean, `@each` as every position from -1 back to -`depth` that all examples have there.

    A position that another selector names, as `@answer` does the last one before it, is not named again by `@each`; before
    version NAMED of the engine it was.
    """
    encoded, out = encoded_all(subject, examples), list[Component]()
    selected = select_components(subject, texts, what)
    named = (
        {c for c in selected if c.anchor not in ("", "all", "each")} if subject.engine >= NAMED else set[Component]()
    )
    alike = cache(partial(same_positions, subject, examples))
    for c in selected:
        shortest = min(length_in(subject, e, c.stack) for e in encoded) if c.anchor == "each" else 1
        wide = expand_anchors([c], [str(-1 - i) for i in range(min(depth, shortest))])
        names = [n.anchor for n in named if c.anchor == "each" and n.but(anchor="") == c.but(anchor="")]
        out += [p for p in wide if not any(alike(c.stack, p.anchor, name) for name in names)]
    return list(dict.fromkeys(out))


def select_path(subject: Subject, text: str, what: str = "path") -> Path:
    """The path that a text means: `*` is the one stack there is, `logits` what the model's answers are read from.

    ToolInputError says what would be valid.
    """
    body, frozen, held = text.partition("(")
    nodes = [" ".join(node.split()) for node in body.split("->")]
    stack = next(iter(subject.stacks)) if len(subject.stacks) == 1 else "*"
    named = [re.sub(r"^(\*\.)?(?=logits\b)", f"{subject.readout}.", node) for node in nodes]
    try:
        return Path.parse(" -> ".join(re.sub(r"^\*\.", f"{stack}.", node) for node in named) + frozen + held)
    except PlaceError as error:
        raise ToolInputError(
            f"{what}: {error}. A path is written sender -> receiver, each one component, such as "
            f"{subject.spec().name}.0.attn.z[1]@answer -> {subject.spec().name}.2.mlp.out@answer; the last may be logits: what "
            "goes straight there, through no block in between"
        ) from None


def depth_component(subject: Subject, depth: int, anchor: str = "") -> Component:
    """The residual stream after `depth` blocks: the embedding at 0, the model's own last state at the end."""
    if depth == 0:
        return Component(stack=subject.spec().name, part="embed", anchor=anchor)
    return Component(stack=subject.spec().name, block=depth - 1, part="resid_post", anchor=anchor)


def one_component(subject: Subject, texts: Sequence[str], what: str = "components") -> Component:
    """The one component that selectors mean. ToolInputError where they mean several."""
    found = select_components(subject, texts, what)
    if len(found) != 1 or found[0].anchor == "each":
        raise ToolInputError(f"{what}: one place at a time is needed here, not {', '.join(map(str, found[:4]))}")
    return found[0]


def select_set(subject: Subject, texts: Sequence[str], what: str = "components") -> ComponentSet | None:
    """The same as one set; None where nothing was named."""
    found = select_components(subject, texts, what)
    return ComponentSet.of(*found) if found else None
