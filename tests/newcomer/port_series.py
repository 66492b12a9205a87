"""Series: real numbers (time, features), and a number to be predicted at the last position."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tools.ports.objectives import Objective
from tools.ports.port import Asked, Batch, Encoded, Port, PortError
from tools.ports.scores import Scores
from tools.subjects import Inputs, Subject
from tools.tasks import Example, Signal, Task


def _error(scores: Scores) -> np.ndarray:
    return scores.others["error"]


class Series(Port):
    name = "series"
    reads = ("series",)
    lacks = frozenset(
        {"accuracy", "probability", "rank", "nll", "nll_per_token", "kl", "answer_logit"}
    )
    objectives = {
        "error": Objective("error", "squared", _error, lambda c: c, sign=-1),
        "margin": Objective("margin", "squared, nearer to the answer than to the foil", lambda s: s.foil_margin, lambda _: 0.0),
    }

    def encode(self, subject: Subject, example: Example) -> Encoded:
        given = example.inputs.get("series")
        if not isinstance(given, Signal):
            raise PortError(f"{example.shown!r} has no series")
        n, name = len(given.data), subject.readout
        foil = None if example.foil is None else (0, float(example.foil))
        tokens = tuple(map(tuple, given.data.tolist()))
        return Encoded(tokens, {name: n}, n, (n - 1,), (float(example.target),), foil, name, {"data": given.data})

    def inputs(self, subject: Subject, encoded: Sequence[Encoded]) -> Inputs:
        rows = torch.tensor(np.stack([e.fields["data"] for e in encoded]), dtype=subject.dtype, device=subject.device)
        return Inputs({"series": rows}, tuple(e.before for e in encoded))

    def span(self, subject: Subject, example: Example, role: str, stack: str, *, twin: bool = False) -> list[int]:
        spans = (example.twin_spans or example.spans) if twin else example.spans
        if role not in spans:
            raise PortError(f"no span {role!r}: there are {', '.join(spans)}")
        return list(range(*spans[role]))

    def can_foil(self, encoded: Encoded, other: Encoded) -> bool:
        return abs(encoded.targets[0] - other.targets[0]) >= 0.5  # any two numbers differ somewhat

    def baseline_key(self, subject: Subject, example: Example, encoded: Encoded) -> tuple[int, ...]:
        return tuple(example.spans.get("marked", ()))

    def noise(self, subject: Subject, n: int, length: int, generator: torch.Generator) -> list[Encoded]:
        drawn = [torch.randn(length, subject.model.config.features, generator=generator).numpy() for _ in range(n)]
        return [self.encode(subject, Example({"series": Signal(d, "noise")}, "0")) for d in drawn]

    def labels(self, subject: Subject, example: Example, *, stack: str | None = None, twin: bool = False) -> list[str]:
        return [f"t{i}" for i in range(self.encode(subject, example).before)]

    def read(self, subject: Subject, states: Tensor, asked: Asked) -> dict[str, Tensor]:
        said = subject.unembed(states)[:, 0].float()
        error, other = (said - asked.targets).square(), (said - asked.foils).square()
        nothing = torch.full_like(said, torch.nan)
        return {
            "nll": error / 2, "rank": torch.ones_like(said), "top": error < other, "logit": said,
            "margin": torch.where(asked.differs, other - error, nothing), "kl": nothing, "error": error,
        }

    def distribution(self, subject: Subject, states: Tensor) -> Tensor:
        return torch.zeros(len(states), 1)

    def margin(self, logits: Tensor, batch: Batch) -> Tensor:
        said = torch.stack([logits[i, e.scored[0], 0] for i, e in enumerate(batch.encoded)]).float()
        target, foil = (
            torch.tensor([x(e) for e in batch.encoded]) for x in (lambda e: e.targets[0], lambda e: e.foil[1] if e.foil else e.targets[0])
        )
        return (said - foil).square() - (said - target).square()

    def guess(self, objective: Objective, task: Task, examples: Sequence[Example]) -> float:
        values = np.array([float(e.target) for e in examples])
        return -float(values.var()) if objective.name == "error" else 0.0


PORT = Series()
