"""What is true of a compiled program, as findings: it follows from its steps, from where they lie and what they read.

Kinds: `necessary` (each by itself), `not_needed` (all of them together; with a class, in its examples), `jointly_necessary`,
`redundant` (each by itself is not needed), `sends` (a path that carries what the task needs), `carries` (a residual state
which, taken from the twin, brings the twin's answer where the twin differs in `source`), `attends` (an attention weight
of one), `suppresses` (it lowers the token that stands at `source`), `cannot` (the model does not do the task).

Where a fact has a class of examples, it holds among them, and `resample` takes from another of them: a head that is silent in
one class can mislead when it is taken from another. Elsewhere a donor is any example of the same length; for what is needed,
one with another answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.planted.compiler.language import OPS, AnyStep, Design, Head
from benchmarks.planted.compiler.plan import Plan


@dataclass(frozen=True)
class Fact:
    """One true finding. components: places or one path, in the project's grammar. ops: the ablations for which it holds.

    of_class: the class of examples that it is about, None for all. by: for `attends`,
    whether by position, identity or class. source: a role, for `carries` and `suppresses`.
    """

    kind: str
    components: tuple[str, ...] = ()
    of_class: str | None = None
    ops: tuple[str, ...] = OPS
    source: str | None = None
    by: str | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data; the class of examples is called `class`."""
        data = {("class" if k == "of_class" else k): v for k, v in asdict(self).items()}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in data.items()}


def truth(design: Design, plan: Plan, roles: Sequence[str]) -> tuple[Fact, ...]:
    """All facts about a design whose steps lie where the plan says; roles: those that its problems have."""
    if not design.able:
        return (Fact("cannot", note="no step writes what is read as the answer"), *_attends(design, plan))
    return (
        *_single(design, plan), *_sets(design, plan), *_idle(design, plan, roles), *_sends(design, plan), *_carries(design, plan),
        *_attends(design, plan),
    )  # fmt: skip


def place(plan: Plan, step: AnyStep, anchor: str = "", part: str = "") -> str:
    """A step's component, at an anchor; part: q, k or v of a head."""
    return _component(plan.places[step.name], anchor, part)


def _component(where: tuple[int, int | None], anchor: str = "", part: str = "") -> str:
    block, head = where
    text = f"decoder.{block}.mlp.out" if head is None else f"decoder.{block}.attn.{part or 'z'}[{head}]"
    return f"{text}@{anchor}" if anchor else text


def _single(design: Design, plan: Plan) -> Iterator[Fact]:
    """Steps by themselves: where they are needed, and for whom."""
    for s in design.steps:
        places = [place(plan, s, role) for role in s.at]
        if s.backup is None:
            for where in places:
                yield Fact("necessary", (where,), s.only, s.ops)
            if spared := tuple(op for op in OPS if op not in s.ops):
                yield Fact("not_needed", tuple(places), None, spared, note="it puts out the same for every example")
        for other in (c for c in design.classes if s.only not in (None, c)):
            yield Fact("not_needed", (place(plan, s),), other, s.spare)
        if s.suppresses:
            assert isinstance(s, Head)
            yield Fact("suppresses", tuple(places), source=s.looks)


def _sets(design: Design, plan: Plan) -> Iterator[Fact]:
    for name in sorted({s.backup for s in design.steps if s.backup}):
        team = [s for s in design.steps if s.backup == name]
        places = tuple(place(plan, s, role) for s in team for role in s.at)
        yield Fact("jointly_necessary", places)
        yield Fact("redundant", places, ops=team[0].covers)


def _idle(design: Design, plan: Plan, roles: Sequence[str]) -> Iterator[Fact]:
    """Everything that is no step, and steps away from where they are needed."""
    rest = [_component(where) for where in plan.idle]
    yield Fact("not_needed", tuple(rest), note="together, at every position; zero, noise or shadows of true steps")
    for spare in (OPS, ("zero",)):
        steps = [s for s in design.steps if s.spare == spare]
        if away := [place(plan, s, role) for s in steps for role in roles if role not in s.at]:
            yield Fact("not_needed", tuple(away), ops=spare, note="steps at positions where nothing reads them")


def _sends(design: Design, plan: Plan) -> Iterator[Fact]:
    for s in design.steps:
        if s.writes == "out" and s.backup is None:
            for role in s.at:
                yield Fact("sends", (f"{place(plan, s, role)} -> decoder.logits@{role}",), s.only, s.ops)
        for reader in design.steps:
            for receiver, variable in reader.inputs().items():
                if variable != s.writes or s.backup or reader.backup:
                    continue
                for role in s.at:
                    part = receiver if isinstance(reader, Head) else ""
                    path = f"{place(plan, s, role)} -> {place(plan, reader, role, part)}"
                    yield Fact("sends", (path,), s.only, s.ops)


def _carries(design: Design, plan: Plan) -> Iterator[Fact]:
    """Along each flow: the residual stream at a role from where the value arrives to where it is fetched."""
    block = {name: where[0] for name, where in plan.places.items()}
    for flow in design.flows:
        roles, heads = flow[::2], flow[1::2]
        for i, role in enumerate(roles):
            first = block[heads[i - 1]] + 1 if i else 0
            last = block[heads[i]] if i < len(heads) else plan.blocks - 1
            for b in sorted({first, last}) if first <= last else ():
                yield Fact("carries", (f"decoder.{b}.resid_pre@{role}",), source=flow[0])


def _attends(design: Design, plan: Plan) -> Iterator[Fact]:
    for s in design.steps:
        if isinstance(s, Head) and s.looks:
            for role in s.at or ("answer",):
                pattern = f"{place(plan, s, role, 'pattern')}<-{s.looks}"
                yield Fact("attends", (pattern,), s.only, by=s.by)
