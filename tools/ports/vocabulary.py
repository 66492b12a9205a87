"""What is read of logits over a whole vocabulary, in pieces that stay in the processor's cache."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

PIECE = 2**21  # logits that are reduced at once


def over_vocabulary(
    logits: Float[Tensor, "k vocab"], own: Float[Tensor, "k 1"]
) -> tuple[Float[Tensor, " k"], Int[Tensor, " k"], Int[Tensor, " k"]]:
    """(log of the sum of exponentials, likeliest id, how many logits are above `own`) of each row.

    Rows are taken so few at a time that they stay in the processor's cache; a row's bits do not depend on how many.
    """
    rows = zip(*(t.tensor_split(_pieces(logits)) for t in (logits, own)), strict=True)
    found = [(row.logsumexp(-1), row.argmax(-1), (row > mine).sum(-1)) for row, mine in rows]
    whole, said, above = (torch.cat([f[i] for f in found]) for i in range(3))
    return whole, said, above


def divergence(
    base: Float[Tensor, "m vocab"], among: Int[Tensor, " k"], logits: Float[Tensor, "k vocab"]
) -> Float[Tensor, " k"]:
    """KL(base, softmax of the logits) in nats: of each row of logits from one row of the log-probabilities `base`.

    In pieces that stay in the processor's cache, as `over_vocabulary`.
    """
    probable, found = base.exp(), list[Tensor]()
    for row, at in zip(*(t.tensor_split(_pieces(logits)) for t in (logits, among)), strict=True):
        less = torch.sub(base[at], row.log_softmax(-1))
        found.append((probable[at] * less).sum(-1))
    return torch.cat(found)


def _pieces(logits: Tensor) -> int:
    return max(1, logits.numel() // PIECE) if logits.device.type == "cpu" else 1


def several_right(logits: Tensor, said: Tensor, accepted: Tensor) -> dict[str, Tensor]:
    """Columns of k answers, (k, vocab), that are right if they are any of several, (k, most) ids, -1 where there are fewer.

    nll: of all of them together. rank, logit: of the best. set_errors: how many answers are wrongly in or out of the set of
    the likeliest ones, as many as are right (Li et al. 2023, Emergent World Representations).
    """
    known = accepted >= 0
    found = logits.gather(1, accepted.clamp(min=0)).masked_fill(~known, -torch.inf)
    best, count = found.amax(-1), known.sum(-1)
    least = logits.sort(-1, descending=True).values.gather(1, count[:, None] - 1)
    return {
        "nll": logits.logsumexp(-1) - found.logsumexp(-1),
        "rank": (logits > best[:, None]).sum(-1) + 1,
        "top": (accepted == said[:, None]).any(-1),
        "logit": best,
        "set_errors": 2.0 * (known & (found < least)).sum(-1),
    }
