"""The planner's own code on a task: the sandbox gets inputs and a model, and what it returns is measured here.

Answers, foils and labels stay in this process, so that no code can score itself. On the model that is
studied every call is made twice, and answers that differ are refused.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments_db.places import ComponentSet, Intervention, PlaceError
from experiments_db.records import tagged_hash
from tools.methods.anchors import positions
from tools.methods.effects import Condition, score_under, sites_of
from tools.methods.features import collect, labels_of
from tools.methods.scoring import batch_of
from tools.methods.tool import Context, ToolInputError
from tools.ports import make_batch, port_of
from tools.sandbox import CodeError, Edited, Job, Returned, Rows, Sandbox, function_of
from tools.subjects import Subject, SubjectError
from tools.tasks import Example, Task

PREFIX = "code:"
RIGHT = "right"  # the label that says whether the intact model answers an example right
OFF = "own experiments are off: they run code that the planner wrote, which a person has to allow with --allow-code"
OPS = ("zero", "scale", "set", "add", "project_out")


def address(code: str) -> str:
    """What a planner's code is called: `code:` and the beginning of its hash."""
    return PREFIX + tagged_hash("code", code)[:16]


def sandbox_of(ctx: Context) -> Sandbox:
    """Where code may be run; ToolInputError where nobody has allowed that."""
    if ctx.sandbox is None:
        raise ToolInputError(OFF)
    return ctx.sandbox


def code_of(ctx: Context, name: str) -> str:
    """The code that an experiment of this or another run has put on record under a name such as code:1f0c...; else an error."""
    found = ctx.history.code(name) if name.startswith(PREFIX) else None
    if found is None or address(found) != name:
        raise ToolInputError(
            f"program: there is no code {name!r} on record; run it with the tool experiment first, which says what it is called"
        )
    return found


def ask(
    ctx: Context,
    subject: Subject,
    code: str,
    components: Sequence[str],
    examples: Sequence[Example],
    fitting: Sequence[Example],
) -> Returned:
    """What the code returns for examples on a subject. CodeError where it fails, or on the run's own subject answers differently
    when it is asked the same again.
    """
    job = Job(code, function_of(code), components, rows_of(subject, examples), rows_of(subject, fitting), ctx.seed)
    sandbox = sandbox_of(ctx)
    times = 2 if subject is ctx.subject else 1
    try:
        found = [sandbox.run(subject, job, ctx.check) for _ in range(times)]
    except CodeError as error:
        if ctx.split == "confirm":  # its own words might tell what the examples are
            raise CodeError(f"the code failed on unseen examples: {error.kind}") from None
        raise
    if found[0].raw != found[-1].raw:
        raise CodeError(
            "the code answered differently when it was asked the same again: it must not depend on chance or time"
        )
    return found[0]


def rows_of(subject: Subject, examples: Sequence[Example]) -> Rows:
    """Examples as the code gets them: inputs and where roles stand, cut before the answer."""
    if len(subject.stacks) > 1:
        raise ToolInputError(f"own experiments run models of one stack; {subject.name} has {', '.join(subject.stacks)}")
    port, batch = port_of(subject), batch_of(subject, examples)
    cut = [e if (row := port.row(e)) is None else port.with_row(subject, e, row) for e in batch.encoded]
    bare = make_batch(port, subject, range(len(examples)), examples, cut)
    shared = sorted(set.intersection(*(set(e.spans) for e in examples)))
    spans = {role: positions(subject, bare, role) for role in shared}
    last = torch.tensor([e.scored[:1] for e in batch.encoded], device=subject.device)
    found = {"answer": last, **{k: v for k, v in spans.items() if v is not None}}
    return Rows(bare.inputs, found, tuple(e.before for e in batch.encoded))


def listed(components: ComponentSet | None) -> list[str]:
    """The components as the code gets them: each unit by itself, in canonical order."""
    return [str(c) for c in components.singles()] if components is not None else []


def labels_for(ctx: Context, task: Task, examples: Sequence[Example], label: str) -> NDArray[Any]:
    """One label an example, as text; `right` is whether the intact model answers it right."""
    if label == RIGHT:
        return np.array([str(bool(v)) for v in score_under(ctx, task, examples, [])[0].correct])
    return np.array([str(v) for v in labels_of(examples, label)])


def under(
    ctx: Context, subject: Subject, edits: Sequence[Edited], examples: Sequence[Example]
) -> tuple[Condition, Condition, dict[str, Tensor]]:
    """Edits as one condition, random vectors of the same norms in their place, and their vectors by name.

    CodeError for places, operations or vectors that this model does not have.
    """
    changes: list[tuple[ComponentSet, Intervention]] = []
    directions: dict[str, Tensor] = {}
    for i, e in enumerate(edits):
        try:
            place = ComponentSet.parse(e.component)
            sites = [s for c in place.singles() for s in sites_of(subject, c)]
        except (PlaceError, ToolInputError, SubjectError) as error:
            raise CodeError(f"edit {i}: {error}") from None
        how, vector = _intervention(i, e)
        if vector is not None:
            if len(sites) != 1:
                raise CodeError(f"edit {i}: a vector is for one component, not for {e.component}")
            width = next(iter(collect(subject, examples[:1], place.singles(), ctx.max_tokens).values())).shape[1]
            if vector.shape[-1] != width:
                raise CodeError(f"edit {i}: {e.component} has {width} channels, and the value {vector.shape[-1]}")
            directions[how.direction] = vector
        changes.append((place, how))
    return Condition(tuple(changes)), Condition(tuple(changes), control=True), directions


def _intervention(i: int, e: Edited) -> tuple[Intervention, Tensor | None]:
    """An edit as an intervention, and its vector."""
    vector = None if e.value is None or isinstance(e.value, float | int) else torch.from_numpy(np.array(e.value))
    wants = {"zero": e.value is None, "scale": isinstance(e.value, float | int)}.get(e.op, vector is not None)
    if e.op not in OPS or not wants or (e.op == "project_out" and vector is not None and vector.ndim != 1):
        raise CodeError(
            f"edit {i}: {e.op} is not done so: zero takes no value, scale a number, set and add a vector (channels,) or (n, "
            "channels), project_out a vector (channels,)"
        )
    if e.op == "zero":
        return Intervention(op="zero"), None
    if e.op == "scale":
        assert isinstance(e.value, float | int)
        try:
            return Intervention(op="scale", dose=float(e.value)), None
        except ValueError as error:
            raise CodeError(f"edit {i}: {error}") from None
    assert vector is not None
    name = f"dir:own{i}~{tagged_hash('direction', vector.double().tolist())[-12:]}"
    dose = None if e.op == "project_out" else 1.0
    return Intervention(op=e.op, direction=name, dose=dose), vector  # type: ignore[arg-type]  # one of OPS


def on(ctx: Context, subject: Subject) -> Context:
    """The context with another subject."""
    return replace(ctx, subject=subject)
