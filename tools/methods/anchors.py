"""Anchors: which positions of an example `answer`, `-2`, `operand1.last` are, and in words what stands there.

Roles are stretches of characters of the example (`Example.spans`); the tokenizer's offsets say which tokens lie in them.
An anchor that an example does not have is an error, never another position in its place.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from experiments_db.places import Anchor, PlaceError, parse_anchor
from tools.methods.narrowing import Fits, SomeOnlyError
from tools.methods.scoring import encoded_all
from tools.methods.tool import ToolInputError
from tools.ports import Batch, Encoded, PortError, port_of
from tools.subjects import Subject
from tools.tasks import Example, Task
from tools.tasks.spans import role_words


def positions(
    subject: Subject, batch: Batch, anchor: str, *, stack: str | None = None, twin: bool = False
) -> Int[Tensor, "batch n"] | None:
    """Positions of an anchor in each row of a batch, ascending; None stands for `all` (and for no anchor).

    `answer`: every position that predicts a part of the answer, in the stack that is read out. `-1`, `-2` ...: counted back
    from the last position before the answer, in other stacks from the input's last one; `0`, `1` ...: from the first one.
    Names: the positions of that span, or the `.first` or `.last` of them. A row with fewer positions than another repeats
    its last one. stack: which one's positions; None is the one that is read out. twin: where the anchor is in the row's
    twin, whose spans are those of the example unless it has its own. ToolInputError where a row has no such anchor, of the kind
    `SomeOnlyError` where others may have it.
    """
    if anchor in ("", "all"):
        return None
    name = subject.spec(stack).name
    known = batch.anchors.get((anchor, name, twin))
    if known is None:
        known = batch.anchors[anchor, name, twin] = _positions(subject, batch, anchor, name, twin=twin)
    return known


def _positions(subject: Subject, batch: Batch, anchor: str, name: str, *, twin: bool) -> Int[Tensor, "batch n"]:
    try:
        parsed = parse_anchor(anchor)
    except PlaceError as error:
        raise ToolInputError(f"anchor: {error}") from None
    rows = [_row(subject, e, c, parsed, name, twin=twin) for e, c in zip(batch.examples, batch.encoded, strict=True)]
    longest = max(map(len, rows))
    filled = [[*row, *[row[-1]] * (longest - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long, device=subject.device)


def _row(
    subject: Subject, example: Example, encoded: Encoded, anchor: Anchor, stack: str, *, twin: bool = False
) -> list[int]:
    length = length_in(subject, encoded, stack)
    if anchor.position is not None:
        at = anchor.position if anchor.position >= 0 else length + anchor.position
        if not 0 <= at < length:
            fits = having(subject, [str(anchor)], stack=stack, twin=twin)
            raise SomeOnlyError(f"anchor {anchor}: {example.shown!r} has {length} positions", fits)
        return [at]
    if anchor.name == "answer":
        if stack != subject.readout:
            raise ToolInputError(f"anchor answer: the answer is predicted in {subject.readout}, not in {stack}")
        found = list(encoded.scored)
    else:
        try:
            found = span_positions(subject, example, anchor.name, stack=stack, twin=twin)
        except ToolInputError as error:
            raise SomeOnlyError(str(error), having(subject, [str(anchor)], stack=stack, twin=twin)) from None
    match anchor.policy:
        case "first":
            return found[:1]
        case "last":
            return found[-1:]
        case "all":
            return found


def having(subject: Subject, anchors: Sequence[str], *, stack: str | None = None, twin: bool = False) -> Fits:
    """Which of given examples have all of these anchors."""
    parsed, name = [parse_anchor(a) for a in anchors if a not in ("", "all")], subject.spec(stack).name

    def has(e: Example) -> bool:
        try:
            (encoded,) = encoded_all(subject, [e])
            return all(_row(subject, e, encoded, a, name, twin=twin) for a in parsed)
        except ToolInputError:
            return False

    return lambda examples: [has(e) for e in examples]


def same_positions(subject: Subject, examples: Sequence[Example], stack: str, a: str, b: str) -> bool:
    """Whether two anchors are the same positions in each of some examples, and in its twin."""
    whole = [*examples, *(e.as_twin(e.target) for e in examples if e.twin is not None)]
    one, other = parse_anchor(a), parse_anchor(b)
    try:
        rows = zip(whole, encoded_all(subject, whole), strict=True)
        return all(_row(subject, e, c, one, stack) == _row(subject, e, c, other, stack) for e, c in rows)
    except ToolInputError:
        return False


def length_in(subject: Subject, encoded: Encoded, stack: str) -> int:
    """How many positions anchors count in: of the stack that is read out those before the answer, of others all."""
    return encoded.before if stack == subject.readout else encoded.lengths[stack]


def span_positions(
    subject: Subject, example: Example, role: str, *, stack: str | None = None, twin: bool = False
) -> list[int]:
    """The positions that hold a part of a role's span (with `twin`, in the twin), ascending.

    stack: which one's; None is the one that the input enters. ToolInputError names the roles there are.
    """
    port = port_of(subject)
    try:
        return port.span(subject, example, role, stack or port.reading(subject), twin=twin)
    except PortError as error:
        raise ToolInputError(str(error)) from None


def anchor_names(subject: Subject, task: Task, examples: Sequence[Example]) -> dict[str, str]:
    """Words for the anchors of a task's examples: `operand1` -> `the first operand`, `-2` -> `the second operand`.

    Counted positions have words where the same role stands there in every example; of several such roles, the shortest
    span's. A role of several tokens says which of them: `the last token of the subject`.
    """
    if not examples:
        raise ToolInputError(f"{task.name} has no examples")
    shared = [role for role in examples[0].spans if all(role in e.spans for e in examples)]
    names = {"answer": "the answer", **{role: role_words(role) for role in shared}}
    stack = port_of(subject).reading(subject)
    lengths = [length_in(subject, e, stack) for e in encoded_all(subject, examples)]
    best: dict[str, tuple[int, str]] = {}
    for role in shared:
        found = [span_positions(subject, e, role) for e in examples]
        size = max(map(len, found))
        for policy, pick in (("first", 0), ("last", -1)):
            back = {row[pick] - length for row, length in zip(found, lengths, strict=True)}
            if len(back) > 1:
                continue
            words = names[role] if size == 1 else f"the {policy} token of {names[role]}"
            key = str(back.pop())
            if key not in best or size < best[key][0]:
                best[key] = size, words
    return {**names, **{key: words for key, (_, words) in sorted(best.items(), key=lambda kv: -int(kv[0]))}}


def as_many(at: Tensor | None, own: Tensor | None) -> Tensor | None:
    """As many positions as the receiver's: where a role has more tokens here or there, one for one, the last one again."""
    if at is None or own is None or at.shape[1] == own.shape[1]:
        return at
    return at[:, torch.arange(own.shape[1], device=at.device).clamp(max=at.shape[1] - 1)]
