"""Tasks derived from another one by rule: which of its examples, in what order, with what changed in them.

Both sides of the split come about by the same rule, each from its own side alone, and a derived example keeps the group of
its source. What a change makes is kept only where it stands on neither the other side nor, sealed, in another task.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from tools.methods.tool import ToolInputError
from tools.tasks import SPLITS, Example, Given, Split, Task, TaskError
from tools.tasks.task import unit_hash

POOL = 512  # independent problems of a side that are looked through
TRIED = 64  # changes that are tried for one example, until one makes a usable twin
LEAST = 8  # examples of a side without which nothing can be measured

Fits = Callable[[Example], bool]


@dataclass(frozen=True)
class Rule:
    """How examples are derived.

    among: only this class. change: spans that take the text they have in another example; swap: two spans that take each
    other's. keep, differ: labels that the other example must share, or must not. answer: what is right after the change:
    '' as the task itself has it, `same`, `foil`, or a span, whose text it is. becomes: what the changed input is.
    sort_by, descending, most: the field by which the first so many are taken.
    """

    among: str = ""
    change: tuple[str, ...] = ()
    swap: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    differ: tuple[str, ...] = ()
    answer: str = ""
    becomes: Literal["twin", "input"] = "twin"
    sort_by: str = ""
    descending: bool = False
    most: int = 256

    @property
    def spans(self) -> tuple[str, ...]:
        """The spans that a change touches."""
        return self.change or self.swap


@dataclass(frozen=True)
class Derived:
    """Examples by side, and how many were left out for which reason, of both sides together."""

    sides: Mapping[Split, list[Example]]
    left_out: Mapping[str, int]


def derive(task: Task, rule: Rule, seed: int, fits: Fits, sealed: Collection[str]) -> Derived:
    """The examples that a rule makes of a task's.

    fits: whether a twin can stand beside its example (the same number of tokens). sealed: texts that are kept for confirming
    in other tasks, which no explore example becomes. ToolInputError says which spans and labels there are, or how many examples
    are left.
    """
    whole = {side: task.examples(side, POOL, seed) for side in SPLITS}
    check(task.name, rule, whole["explore"])
    mine = {side: _class(task, rule.among, side, seed) for side in SPLITS} if rule.among else whole
    left_out: Counter[str] = Counter()
    sides: dict[Split, list[Example]] = {}
    for side in SPLITS:
        chosen = _sorted(mine[side], rule)
        other = whole["confirm" if side == "explore" else "explore"]
        hidden = _texts(other) | (set(sealed) if side == "explore" else _texts(sides["explore"]))
        sides[side] = list(_changed(chosen, whole[side], rule, fits, hidden, left_out))[: rule.most]
    for side, found in sides.items():
        if len(found) < LEAST:
            why = "; ".join(f"{n} {reason}" for reason, n in left_out.most_common())
            raise ToolInputError(
                f"the rule leaves {len(found)} examples of {task.name} to {side}, at least {LEAST} are needed"
                f"{f': of both sides {why}' if why else ''}. Ask for less: fewer labels in keep and differ, a larger class, "
                f"another span ({', '.join(_spans(whole['explore']))}), or say with answer what is right after the change"
            )
    return Derived(sides, left_out)


def _class(task: Task, among: str, side: Split, seed: int) -> list[Example]:
    """A side's examples of one class; what those that are kept to confirm have in place of it is not said."""
    try:
        return task.among(among).examples(side, POOL, seed)
    except TaskError as error:
        hidden = f"no example of {task.name} with {among} is kept to confirm; take a larger class"
        raise ToolInputError(str(error) if side == "explore" else hidden) from None


def check(name: str, rule: Rule, examples: Sequence[Example]) -> None:
    """ToolInputError unless the task has what a rule names, and the rule is one."""
    if rule.spans and not all(_first(e.inputs) for e in examples):
        raise ToolInputError(f"{name} is not a task of texts, in which alone spans can be changed or swapped")
    values = list(dict.fromkeys(n for e in examples for n in e.values))
    known = {"span": _spans(examples), "label": values}
    asked = [("span", s) for s in (*rule.spans, *([rule.answer] if rule.answer not in ("", "same", "foil") else []))]
    asked += [("label", n) for n in (*rule.keep, *rule.differ, *([rule.sort_by] if rule.sort_by else []))]
    for what, wanted in asked:
        if wanted not in known[what]:
            there = "; ".join(f"{kind}s are {', '.join(names) or 'none'}" for kind, names in known.items())
            raise ToolInputError(f"{name} has no {what} {wanted!r}: {there}")
    if rule.change and rule.swap:
        raise ToolInputError("give change or swap, one of them")
    if rule.swap and len(set(rule.swap)) != 2:
        raise ToolInputError(f"swap takes two spans, not {', '.join(rule.swap)}; spans are {', '.join(known['span'])}")
    if not rule.change and (rule.differ or (rule.keep and not rule.swap)):
        raise ToolInputError(
            "keep and differ say which other example a change takes its text from: give change, a span"
        )
    if not rule.spans and rule.answer:
        raise ToolInputError("answer says what is right after a change: give change or swap")
    if rule.becomes == "twin" and rule.answer == "same":
        raise ToolInputError("a twin has another right answer; with answer 'same' the changed text becomes the input")
    if rule.becomes == "input" and rule.spans and not rule.answer:
        raise ToolInputError(
            "say with answer what is right for the changed text: same, foil, or a span whose text it is"
        )
    if rule.answer == "foil" and not any(e.foil for e in examples):
        raise ToolInputError(f"answer 'foil': the examples of {name} have no foil")


def _spans(examples: Sequence[Example]) -> list[str]:
    return list(dict.fromkeys(role for e in examples for role in e.spans))


def _first(given: Given | None) -> str:
    """The first input where it is a text, '' where there is none."""
    first = next(iter((given or {}).values()), "")
    return first if isinstance(first, str) else ""


def _texts(examples: Iterable[Example]) -> set[str]:
    return {t for e in examples for t in (_first(e.inputs), _first(e.twin_inputs)) if t}


def _sorted(examples: list[Example], rule: Rule) -> list[Example]:
    """The examples in the order of a field, those without it left out; ToolInputError where its values have no order."""
    if not rule.sort_by:
        return examples
    having = [e for e in examples if rule.sort_by in e.values]
    if len({isinstance(e.values[rule.sort_by], str) for e in having}) > 1:
        raise ToolInputError(f"sort_by {rule.sort_by!r}: some of its values are numbers and some are words")
    return sorted(having, key=lambda e: e.values[rule.sort_by], reverse=rule.descending)  # type: ignore[arg-type,return-value]


def _changed(
    examples: Iterable[Example], pool: Sequence[Example], rule: Rule, fits: Fits, hidden: Collection[str],
    left_out: Counter[str],
) -> Iterable[Example]:  # fmt: skip
    """Each example with what the rule makes of it; those of which it makes nothing are counted."""
    if not rule.spans:
        yield from examples
        return
    donors = _Donors(pool, rule)
    seen = set[str]()
    made = 0
    for e in examples:
        if made == rule.most:
            return
        missing = [role for role in rule.spans if role not in e.spans]
        if missing:
            left_out[f"have no span {missing[0]}"] += 1
            continue
        found, why = None, "have no other example that the change could lead to"
        for new in donors.changes(e):
            text = _first(new.twin_inputs if rule.becomes == "twin" else new.inputs)
            if text in hidden:
                why = "become what is kept for the other side"
            elif rule.becomes == "input" and text in seen:
                why = "become what another one is already"
            elif rule.becomes == "twin" and not fits(new):
                why = "get another number of tokens by the change"
            else:
                found = new
                seen.add(text)
                break
        if found is None:
            left_out[why] += 1
        else:
            made += 1
            yield found


class _Donors:
    """What an example can be changed into, from the examples of its own side."""

    def __init__(self, pool: Sequence[Example], rule: Rule) -> None:
        self.rule = rule
        self.rows: dict[object, list[Example]] = defaultdict(list)
        for e in pool:
            if all(role in e.spans for role in rule.spans) and (not rule.change or self._labelled(e)):
                self.rows[self._key(e)].append(e)

    def _labelled(self, e: Example) -> bool:
        return all(name in e.values for name in (*self.rule.keep, *self.rule.differ))

    def _key(self, e: Example) -> object:
        """What two examples must share: the text around the change where the answer is looked up, and the labels kept."""
        labels = tuple(str(e.values[name]) for name in self.rule.keep) if self.rule.change else ()
        if self.rule.answer:
            return labels
        parts = replaced(_first(e.inputs), e.spans, dict.fromkeys(self.rule.spans, "\0"))
        return (parts and parts[0], tuple(e.inputs.values())[1:], labels)

    def changes(self, e: Example) -> Iterable[Example]:
        """What the rule can make of an example, in an order that its text alone decides, as many as are tried."""
        if self.rule.change and not self._labelled(e):
            return
        others = self.rows.get(self._key(e), []) if self.rule.change or not self.rule.answer else [e]
        start = int(unit_hash("derived", e.shown) * len(others))
        tried = 0
        for other in (*others[start:], *others[:start]):
            if tried == TRIED:
                return
            made = self._made(e, other)
            if made is not None:
                tried += 1
                yield made

    def _made(self, e: Example, other: Example) -> Example | None:
        """The example after the change that `other` gives the text for; None where that is no change, or has no answer."""
        rule = self.rule
        if any(other.values[name] == e.values.get(name) for name in rule.differ):
            return None
        there = {role: _text(other, role) for role in rule.spans}
        if rule.swap:
            a, b = rule.swap
            there = {a: _text(e, b), b: _text(e, a)}
        result = replaced(_first(e.inputs), e.spans, there)
        if result is None or result[0] == _first(e.inputs):
            return None
        text, spans = result
        if not rule.answer:  # the change leads to an example of the task itself
            if _first(other.inputs) != text or other.target == e.target:
                return None
            return replace(e.with_twin(other), labels=e.labels)
        answer = {"same": e.target, "foil": e.foil}.get(rule.answer)
        if rule.answer not in ("same", "foil"):
            lead = e.target[: len(e.target) - len(e.target.lstrip())]
            a, b = spans.get(rule.answer, (0, 0))
            answer = lead + text[a:b].strip() if b else None
        if not answer:
            return None
        inputs = {**e.inputs, next(iter(e.inputs)): text}
        if rule.becomes == "twin":
            return None if answer == e.target else replace(e, twin_inputs=inputs, foil=answer, twin_spans=spans)
        foil = e.target if answer != e.target else e.foil
        values = {**{n: e.values[n] for n in rule.keep}, **{n: other.values[n] for n in rule.differ}}
        return replace(
            e, inputs=inputs, target=answer, foil=foil, twin_inputs=None, twin_spans={}, spans=spans, labels=values,
            metadata={}, span_labels={},
        )  # fmt: skip


def _text(e: Example, role: str) -> str:
    start, end = e.spans[role]
    return _first(e.inputs)[start:end]


def replaced(
    text: str, spans: Mapping[str, tuple[int, ...]], new: Mapping[str, str]
) -> tuple[str, dict[str, tuple[int, int]]] | None:
    """A text with some of its spans replaced, and where all of them are then; None where two that are replaced overlap.

    A span that lies inside one that is replaced is gone.
    """
    edits = sorted((spans[role][0], spans[role][1], words) for role, words in new.items())
    if any(b[0] < a[1] for a, b in pairwise(edits)):
        return None

    def moved(at: int) -> int | None:
        if any(a < at < b for a, b, _ in edits):
            return None
        return at + sum(len(words) - (b - a) for a, b, words in edits if at >= b)

    out, last = "", 0
    for a, b, words in edits:
        out += text[last:a] + words
        last = b
    found: dict[str, tuple[int, int]] = {}
    for role, (a, b) in ((r, (s[0], s[-1])) for r, s in spans.items() if len(s) == 2):
        start, end = moved(a), moved(b)
        if start is not None and end is not None and start < end:
            found[role] = (start, end)
    return out + text[last:], found
