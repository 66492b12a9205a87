"""How one variant of a model answers: arrays with one value an example."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Scores:
    """How one variant answers n examples.

    nll: nats, summed over all answer tokens. tokens: answer tokens. correct: every answer token is the most likely one
    (or, where the task closes the answer set and every example's choices differ in their first token after its input, the
    answer's first token beats the other choices'). rank: of the first
    answer token in the vocabulary, 1 is top. foil_margin: logit of the answer minus logit of the foil at the first token
    where they differ, NaN where an example has no foil. token_logits, token_owner: per answer token, its logit and
    the example it belongs to. kl: nats, from the first variant's distribution to this one's, summed over answer tokens;
    NaN where it was not asked for. others: what only this port's models have, (n,) by name. lacks: those of the
    quantities above, by their names in measurements, that mean nothing for this port. units: of the margin and of the
    others, by name.
    said: for each example the ids that are answered, up to the first wrong one; empty where a port has none.
    """

    nll: Float[np.ndarray, " n"]
    tokens: Int[np.ndarray, " n"]
    correct: Bool[np.ndarray, " n"]
    rank: Int[np.ndarray, " n"]
    foil_margin: Float[np.ndarray, " n"]
    token_logits: Float[np.ndarray, " k"]
    token_owner: Int[np.ndarray, " k"]
    kl: Float[np.ndarray, " n"]
    others: Mapping[str, Float[np.ndarray, " n"]] = field(default_factory=dict[str, np.ndarray])
    lacks: frozenset[str] = frozenset()
    units: Mapping[str, str] = field(default_factory=dict[str, str])
    said: tuple[tuple[int, ...], ...] = ()

    def part(self, first: int, end: int) -> "Scores":
        """Those of some of the examples, from the first on."""
        here, mine = slice(first, end), (self.token_owner >= first) & (self.token_owner < end)
        return replace(
            self, nll=self.nll[here], tokens=self.tokens[here], correct=self.correct[here], rank=self.rank[here],
            foil_margin=self.foil_margin[here], token_logits=self.token_logits[mine], token_owner=self.token_owner[mine] - first,
            kl=self.kl[here], others={name: values[here] for name, values in self.others.items()}, said=self.said[here],
        )  # fmt: skip
