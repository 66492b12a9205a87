"""What is read of logits over a whole vocabulary, in pieces that stay in the processor's cache."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

PIECE = 2**21  # logits that are reduced at once
QUICK = 4  # the first version of the engine that reads so quickly


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


def quickly(
    logits: Float[Tensor, "k vocab"],
    targets: Int[Tensor, " k"],
    base: tuple[Float[Tensor, "m vocab"], Float[Tensor, "m vocab"]] | None,
    among: Int[Tensor, " k"] | None,
) -> tuple[Float[Tensor, " k"], Int[Tensor, " k"], Int[Tensor, " k"], Float[Tensor, " k"]]:
    """(nll of the target, likeliest id, how many logits are above the target's, KL from the base as in `divergence`) of each row.

    base: log-probabilities and probabilities; KL is not a number without one. The same as the two above with other bits, in a
    third of the time: one kernel for what is exponentiated, numpy's for the likeliest on a processor, and counts added up as
    floats, which is exact up to 2^24 of them.
    """
    found = list[tuple[Tensor, ...]]()
    parts = [t.tensor_split(_pieces(logits)) for t in (logits, targets[:, None], targets if among is None else among)]
    for row, target, at in zip(*parts, strict=True):
        log = row.log_softmax(-1)
        above = torch.gt(row, row.gather(1, target), out=torch.empty_like(row)).sum(-1).long()
        nll = 0.0 - log.gather(1, target)[:, 0]
        apart = torch.full_like(nll, torch.nan)
        if base is not None:
            apart = torch.sub(base[0][at], log, out=log).mul_(base[1][at]).sum(-1)
        found.append((nll, _likeliest(row), above, apart))
    nll, said, above, apart = (torch.cat(column) for column in zip(*found, strict=True))
    return nll, said, above, apart


def _likeliest(rows: Float[Tensor, "k vocab"]) -> Int[Tensor, " k"]:
    return torch.from_numpy(rows.detach().numpy().argmax(-1)) if rows.device.type == "cpu" else rows.argmax(-1)


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
