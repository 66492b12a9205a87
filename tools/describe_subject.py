"""What the model under study is: stacks, blocks, heads, widths, sites that can be read or changed, capabilities."""

from typing import Literal

from experiments_db.records import Measurement, Outcome
from tools.methods.tool import Context, ToolArgs
from tools.ports import port_of

KIND: Literal["experiment"] = "experiment"
EXAMPLE: dict[str, object] = {}


class Args(ToolArgs):
    """describe_subject takes no arguments."""


def run(_: Args, ctx: Context) -> Outcome:
    """Describe the subject."""
    subject = ctx.subject
    parameters = sum(p.numel() for p in subject.model.parameters())
    port, words = port_of(subject), getattr(subject.model.config, "vocab_size", None)
    size = f"vocabulary {words:,}" if words else "no vocabulary"
    lines = [
        f"{subject.name}: {subject.family.name} family, {parameters:,} parameters, {size}, "
        f"reads {', '.join(port.reads)}, is scored by {', '.join(port.objectives)}, "
        f"{str(subject.dtype).removeprefix('torch.')} on {subject.device}",
        f"fingerprint {subject.fingerprint[:16]}",
    ]
    measurements = [Measurement(name="parameters", unit="parameters", value=parameters, n=1)]
    for stack in subject.stacks.values():
        n = len(stack.blocks)
        lines.append(
            f"stack {stack.name}: blocks 0 to {n - 1}, width {stack.width}, heads 0 to {stack.n_heads - 1}, "
            f"{'causal' if stack.causal else 'bidirectional'}; sites {', '.join(stack.kinds)}"
        )
        lines += [f"refused: {stack.name}.{kind} ({why})" for kind, why in stack.refused.items()]
        measurements.append(Measurement(name="blocks", unit="blocks", value=n, n=1, variant=stack.name))
    if subject.max_positions:
        lines.append(f"up to {subject.max_positions} tokens at once")
    lines.append("capabilities: " + (", ".join(sorted(subject.capabilities)) or "programs, edits and captures only"))
    return Outcome(text="\n".join(lines), measurements=tuple(measurements))
