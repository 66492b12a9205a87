"""A component computes the answer from its inputs: they are there before it, the answer is there after it and was not before,
and it is necessary.

A composite. The stream that enters the component, where it stands, holds each input (as kind decodable has it, beyond the
most frequent value and a control task; in whatever model); a linear probe for the answer is right more often on the stream
that leaves it than on the one that enters it, by a tenth of the examples at least; and without the component the model does
worse (kind necessary). All of it must hold on the same examples. `label` names the inputs, separated by commas: labels, or
spans of the input (`operand1, operand2`), whose value is their text.

A linear function of one input is there before as much as after, as far as a linear probe can tell: then this is not confirmed.
"""

from collections.abc import Mapping, Sequence

from experiments_db.findings import Statement
from experiments_db.places import Component
from tools.findings.contrast import Contrast, Quantity
from tools.findings.kind import SMALLEST, Bench, Kind
from tools.findings.kinds.decodable import is_read, read_off
from tools.findings.parts import condition, part
from tools.findings.phrases import is_or_are, listed, on_task, place
from tools.methods.tool import ToolInputError
from tools.subjects import Subject
from tools.tasks.spans import has_words, role_words

PARTS = ("attn.out", "attn.z", "mlp.out", "block")


def inputs_of(s: Statement) -> list[str]:
    """The inputs that a statement names."""
    return [x.strip() for x in s.label.split(",") if x.strip()]


def _named(s: Statement) -> list[str]:
    """The inputs in words: roles that have some, everything else as it is named."""
    return [role_words(x) if has_words(x) else x for x in inputs_of(s)]


def _check(s: Statement) -> None:
    (c, *more) = s.members
    if (
        {(m.block, m.part, m.anchor) for m in more} - {(c.block, c.part, c.anchor)}
        or c.part not in PARTS
        or not c.anchor
    ):
        raise ToolInputError(
            f"computes is about one component where it stands, {', '.join(PARTS)} (heads of one block may be named together), as "
            f"in {c.stack}.3.mlp.out@answer"
        )
    if not inputs_of(s) or "answer" in inputs_of(s):
        raise ToolInputError(
            "label: computes names the inputs, labels or spans of the input separated by commas: operand1, operand2"
        )


def stream(subject: Subject, c: Component) -> tuple[Component, Component]:
    """The residual stream that enters a component and the one that it has been added to, where it stands."""
    spec = subject.spec(c.stack)
    bare = c.but(units=(), feature="")
    whole = bare.but(part="resid_pre"), bare.but(part="resid_post")
    if "resid_mid" not in spec.kinds or c.part == "block":
        return whole  # attention and MLP side by side
    middle = bare.but(part="resid_mid")
    return (middle, whole[1]) if c.part == "mlp.out" else (whole[0], middle)


def _measure(s: Statement, bench: Bench) -> Sequence[Contrast]:
    c = s.members[0]
    before, after = stream(bench.ctx.subject, c)
    probes = Bench(bench.ctx, s.model_copy(update={"kind": "decodable", "smallest": None}), bench.task, bench.examples)
    out = list(part(bench, "necessary" if len(s.members) == 1 else "jointly_necessary", components=s.components,
                    interventions=s.interventions, smallest=s.smallest))  # fmt: skip
    for name in inputs_of(s):
        found = read_off(probes, before, name, twins=0)
        out += [condition(k, f"{k.control or 'being never right'}, of the probe for {name} before it") for k in found]
    entering, leaving = (is_read(bench, x, "answer") for x in (before, after))
    gained = Quantity("accuracy", "share of examples", leaving - entering, (-1.0, 1.0))
    out.append(bench.beyond((gained,), "the probe for the answer before it", SMALLEST, component=str(after)))
    return out


def _sentence(s: Statement, roles: Mapping[str, str] | None) -> str:
    compute = "compute" if is_or_are(s) == "are" else "computes"
    return (
        f"{place(s, roles)} {compute} the answer {on_task(s)} from {listed(_named(s))}: a linear probe reads "
        f"{'each of them' if len(inputs_of(s)) > 1 else 'it'} from the stream before, and the answer from the stream after better "
        f"than before; without {'it' if len(s.members) == 1 else 'all of them at once'} {{falls}} by {{effect}}{{control}}."
    )


KIND = Kind(
    "computes", "its inputs (label) can be decoded before a component, the answer after it and not before, and it is necessary",
    _measure, _sentence, needs=("components", "label"), interventions=("resample(donor)", "zero"), check=_check,
)  # fmt: skip
