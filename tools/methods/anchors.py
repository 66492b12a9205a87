"""From an anchor to token positions: `answer`, `answer.first`, `-1` (the prompt's last token), 0, `all`."""

import torch
from jaxtyping import Int
from torch import Tensor

from experiments_db.places import parse_anchor
from tools.methods.scoring import Microbatch
from tools.methods.tool import ToolInputError
from tools.subjects import Subject


def positions(subject: Subject, batch: Microbatch, anchor: str, *, twin: bool = False) -> Int[Tensor, "batch n"] | None:
    """Token indices of an anchor in each row; None for `all`.

    Rows with fewer positions than others repeat their last one. ToolInputError names the anchors there are.
    """
    del subject, twin
    if anchor == "all":
        return None
    found = parse_anchor(anchor or "answer")
    if found.index is not None:
        index = torch.full_like(batch.last, found.index)
        return (batch.last + 1 + found.index).clamp(min=0) if found.index < 0 else torch.minimum(index, batch.last)
    if found.name != "answer":
        raise ToolInputError(
            f"there is no {anchor!r} in these examples; anchors are answer, answer.first, -1, -2 ..., all"
        )
    longest = 1 if found.policy == "first" else max(len(e.answer) for e in batch.encoded)
    steps = [[min(i, len(e.answer) - 1) for i in range(longest)] for e in batch.encoded]
    return batch.last + torch.tensor(steps, device=batch.last.device)
