"""What goes into a run of a subject and what comes out, and what can go wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from tools.engine.sites import Site


class SubjectError(ValueError):
    """A subject that cannot be had or cannot do what was asked; the message says what can."""


class CapabilityError(SubjectError):
    """This family cannot do this, and why."""


@dataclass(frozen=True)
class Inputs:
    """A batch: named tensors whose first axis is the example, and each row's number of real positions (right-padded).

    lengths: in the stack that is read out; elsewhere: in other stacks, by name.
    """

    fields: Mapping[str, Tensor]
    lengths: tuple[int, ...]
    elsewhere: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])

    def of(self, stack: str) -> tuple[int, ...]:
        """Each row's number of real positions in a stack."""
        return self.elsewhere.get(stack, self.lengths)

    @property
    def size(self) -> int:
        """Number of examples."""
        return len(self.lengths)

    def map(self, f: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """The fields with `f` applied to each."""
        return {k: f(v) for k, v in self.fields.items()}


@dataclass(frozen=True)
class Trace:
    """What one run gives: logits (batch, seq, vocab), the readout stack's last state, and captured activations."""

    logits: Float[Tensor, "batch seq vocab"]
    final: Float[Tensor, "batch seq width"]
    captured: Mapping[Site, Tensor] = field(default_factory=dict)
