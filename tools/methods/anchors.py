"""Anchors: which positions of an example `answer`, `-2`, `operand1.last` are, and in words what stands there.

Roles are stretches of characters of the example (`Example.spans`); the tokenizer's offsets say which tokens lie in them.
An anchor that an example does not have is an error, never another position in its place.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from experiments_db.places import Anchor, PlaceError, parse_anchor
from tools.methods.scoring import Encoded, Microbatch, encode
from tools.methods.tool import ToolInputError
from tools.subjects import Subject
from tools.tasks import Example, Task
from tools.tasks.spans import role_words


def positions(subject: Subject, batch: Microbatch, anchor: str, *, twin: bool = False) -> Int[Tensor, "batch n"] | None:
    """Token positions of an anchor in each row of a microbatch, ascending; None stands for `all` (and for no anchor).

    `answer`: every position that predicts an answer token, the prompt's last one first. `-1`, `-2` ...: counted back from
    the prompt's last token; `0`, `1` ...: from the first one. Names: the tokens of that span, or the `.first` or `.last`
    of them. A row with fewer positions than another repeats its last one. twin: where the anchor is in the row's twin,
    whose spans are those of the example unless it has its own. ToolInputError where a row has no such anchor.
    """
    if anchor in ("", "all"):
        return None
    try:
        parsed = parse_anchor(anchor)
    except PlaceError as error:
        raise ToolInputError(f"anchor: {error}") from None
    rows = [_row(subject, e, c, parsed, twin) for e, c in zip(batch.examples, batch.encoded, strict=True)]
    longest = max(map(len, rows))
    filled = [[*row, *[row[-1]] * (longest - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long, device=subject.device)


def _row(subject: Subject, example: Example, encoded: Encoded, anchor: Anchor, twin: bool) -> list[int]:
    length = len(encoded.prompt)
    if anchor.position is not None:
        at = anchor.position if anchor.position >= 0 else length + anchor.position
        if not 0 <= at < length:
            raise ToolInputError(f"anchor {anchor}: the prompt {example.prompt!r} has {length} tokens")
        return [at]
    if anchor.name == "answer":
        found = list(range(length - 1, length - 1 + len(encoded.answer)))
    else:
        found = span_positions(subject, example, anchor.name, twin=twin)
    match anchor.policy:
        case "first":
            return found[:1]
        case "last":
            return found[-1:]
        case "all":
            return found


def span_positions(subject: Subject, example: Example, role: str, *, twin: bool = False) -> list[int]:
    """The tokens of the prompt (with `twin`, of the twin) that hold a character of a role's span, ascending.

    ToolInputError names the roles there are.
    """
    sides = (example.prompt, example.spans), (example.twin, example.twin_spans)
    text, spans = sides[twin]
    if not spans:  # a side without spans of its own has the other's, token for token: its characters may have moved
        text, spans = sides[not twin]
    if role not in spans:
        known = ", ".join(["answer", *spans])
        raise ToolInputError(
            f"anchor {role!r}: the example {(text or example.prompt)!r} has no such span; its anchors are {known}, and -1, -2"
        )
    return tokens_of(subject, text or "", spans[role])


def tokens_of(subject: Subject, text: str, span: tuple[int, int]) -> list[int]:
    """The tokens of a text that hold characters of the stretch, special tokens in front counted in."""
    start, end = span
    offsets = token_offsets(subject, text)
    inside = [i for i, (a, b) in enumerate(offsets or ()) if max(a, start) < min(b, end)]
    return inside or _by_prefix(subject, text, start, end)


def token_offsets(subject: Subject, text: str) -> tuple[tuple[int, int], ...] | None:
    """Which characters each of `subject.tokens(text)` comes from; None where the tokenizer does not tell."""
    if not getattr(subject.tokenizer, "is_fast", False):
        return None
    found = subject.tokenizer(text, add_special_tokens=True, return_offsets_mapping=True, verbose=False)
    return tuple((a, b) for a, b in found["offset_mapping"])[: len(subject.tokens(text))]


def _by_prefix(subject: Subject, text: str, start: int, end: int) -> list[int]:
    """For tokenizers without offsets: the tokens by which the text up to the stretch and with it differ in number."""
    total = len(subject.tokens(text))
    first = min(len(subject.tokens(text[:start].rstrip())) if text[:start].strip() else _in_front(subject), total - 1)
    last = min(len(subject.tokens(text[:end])), total) - 1
    return list(range(first, max(first, last) + 1))


def _in_front(subject: Subject) -> int:
    """How many special tokens the tokenizer puts before a text."""
    return len(subject.tokens("a")) - len(subject.tokens("a", special=False))


def anchor_names(subject: Subject, task: Task, examples: Sequence[Example]) -> dict[str, str]:
    """Words for the anchors of a task's examples: `operand1` -> `the first operand`, `-2` -> `the second operand`.

    Counted positions have words where the same role stands there in every example; of several such roles, the shortest
    span's. A role of several tokens says which of them: `the last token of the subject`.
    """
    if not examples:
        raise ToolInputError(f"{task.name} has no examples")
    shared = [role for role in examples[0].spans if all(role in e.spans for e in examples)]
    names = {"answer": "the answer", **{role: role_words(role) for role in shared}}
    lengths = [len(encode(subject, e.prompt, e.answer)[0]) for e in examples]
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
