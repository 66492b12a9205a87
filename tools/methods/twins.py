"""Pairs of an example and its corrupted twin: the same number of tokens, another answer.

Where a task has no twins, its examples serve as each other's (tools.methods.pairing).
"""

from dataclasses import replace

import numpy as np

from tools.engine.executor import Variant
from tools.methods.arguments import Direction
from tools.methods.measuring import load_examples
from tools.methods.pairing import auto_twins
from tools.methods.scoring import batch_of, score
from tools.methods.tool import Context, ToolInputError
from tools.ports import Batch
from tools.subjects import Inputs, Subject
from tools.tasks import Example, Task


def load_pairs(
    ctx: Context, spec: str, n: int, direction: Direction = "noise", among: str = ""
) -> tuple[Task, list[Example]]:
    """The receivers: with `noise` the clean examples, with `denoise` their twins, whose answer is then the foil.

    Examples without a twin of their own get another example for one; those for which there is none are left out.
    """
    task, found = load_examples(ctx, spec, n, among)
    clean = [e for e in auto_twins(ctx.subject, task, found, ctx.seed) if e.twin is not None]
    if len(clean) < 8:
        raise ToolInputError(
            f"this tool needs examples with a twin: of the same number of tokens and the same format, with another answer; "
            f"{task.name} has {len(clean)} among {len(found)} on this subject; make_task derives some by rule (source, change)"
        )
    return task, clean if direction == "noise" else [swapped(e) for e in clean]


def swapped(example: Example) -> Example:
    """The twin as the example: its answer is the foil. Its labels are not known; its group is the pair's."""
    assert example.foil is not None
    return replace(example.as_twin(example.foil), foil=example.target, candidates=(), labels={})


def donor_inputs(subject: Subject, batch: Batch) -> Inputs:
    """The twins of a microbatch, each followed by the receiver's own answer, so that positions agree."""
    return batch_of(subject, [e.as_twin(e.target) for e in batch.examples]).inputs


def donor_margin(ctx: Context, receivers: list[Example]) -> np.ndarray:
    """Logit margin of the receiver's answer over the donor's when the donor itself is run."""
    blocks = tuple(range(len(ctx.subject.spec().blocks)))
    donors = [swapped(e) for e in receivers]
    scores, _ = score(ctx.subject, donors, lambda _: [Variant(blocks)], max_tokens=ctx.max_tokens)
    return -scores[0].foil_margin


def whole_gap(base: np.ndarray, donor: np.ndarray, task: str) -> float:
    """What a complete change is worth, in logits; ToolInputError where the twins change nothing."""
    gap = float(np.mean(donor - base))
    if abs(gap) < 1e-3:
        raise ToolInputError(f"on {task} the twins do not move the answer of this model: there is nothing to patch")
    return gap
