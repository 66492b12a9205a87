"""What a port is: the one place that knows what a modality's inputs are made of. One file of this folder a modality.

A port turns examples into batches with anchors and reads per-example arrays from a run; everything above it sees batches,
components and arrays alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from experiments_db.places import parse_anchor
from tools.ports.objectives import ANSWERS, Objective
from tools.ports.vocabulary import QUICK, divergence, over_vocabulary, quickly, several_right
from tools.subjects import Inputs, Subject, SubjectError
from tools.tasks import Example, Given, Task, chance_of


class PortError(SubjectError):
    """An input, an anchor or an ability that this modality does not have; the message says what it has."""


@dataclass(frozen=True)
class Encoded:
    """One example as the model is given it.

    tokens: ids of what is read, where that is tokens; else what stands for them, one hashable thing a position: two
    examples with the same tokens, prefix and targets are the same to the model.
    lengths: how many positions of each stack are the example's own. before: how many of the readout stack's come before
    what is predicted, so that anchor -1 is the last of them. scored: positions of the readout stack at which the targets
    are predicted. targets: token or class ids, or numbers. foil: (offset into the targets, the foil's) of the first difference.
    reads: the stack that the tokens enter. fields: what else the port needs to make a batch of it.
    """

    tokens: tuple[Any, ...]
    lengths: Mapping[str, int]
    before: int
    scored: tuple[int, ...]
    targets: tuple[int | float, ...]
    foil: tuple[int, int | float] | None
    reads: str
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def identity(self) -> tuple[Any, ...]:
        """What the model is given and has to say."""
        return self.tokens, self.fields.get("prefix", ()), self.targets

    @property
    def size(self) -> int:
        """Positions of the longest stack, what a batch is cut by."""
        return max(self.lengths.values())


@dataclass(frozen=True)
class Batch:
    """Examples that run together.

    indices: which examples these are. rows, columns: where answers are predicted in the readout stack; targets: what they are.
    anchors: positions found so far, by anchor, stack and whether they are the twins'; nobody writes to them.
    """

    indices: tuple[int, ...]
    examples: tuple[Example, ...]
    encoded: tuple[Encoded, ...]
    inputs: Inputs
    rows: Int[Tensor, " k"]
    columns: Int[Tensor, " k"]
    targets: Tensor
    anchors: dict[tuple[str, str, bool], Tensor] = field(
        init=False, repr=False, compare=False, default_factory=dict[tuple[str, str, bool], Tensor]
    )

    @cached_property
    def last(self) -> Int[Tensor, "batch 1"]:
        """The last position before each answer in the readout stack."""
        return torch.tensor([[e.before - 1] for e in self.encoded], device=self.rows.device)


@dataclass(frozen=True)
class Asked:
    """What is asked of states at k scored positions.

    targets, foils: (k,) ids, or numbers. differs: (k,) whether the foil is another answer there. first: (k,) whether it is
    the first of an example's targets. closed: (k, choices) ids to choose among there. base: (m, vocab) log-probabilities to
    measure the divergence from, probable: the probabilities, and `among`: (k,) which row of them. accepted: (k, most) ids
    that are right there, -1 beyond as many as there are.
    """

    targets: Tensor
    foils: Tensor
    differs: Tensor
    first: Tensor
    closed: Tensor | None = None
    base: Tensor | None = None
    accepted: Tensor | None = None
    among: Tensor | None = None
    probable: Tensor | None = None


@dataclass(frozen=True)
class Shown:
    """An input as a person sees it. words: in one line. picture: PNG. sound: WAV."""

    words: str
    picture: bytes = b""
    sound: bytes = b""


class Port(ABC):
    """One modality. Methods get the subject, so that a port has no state.

    name: what families call it. reads: the names of an example's inputs. objectives: what can be scored. lacks: which of the
    usual quantities mean nothing here. writes: whether a model says its answer in words of its own (`write`). answered: what
    stands at the anchor `answer`, in words that follow "at the answer:".
    """

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    objectives: ClassVar[Mapping[str, Objective]] = ANSWERS
    lacks: ClassVar[frozenset[str]] = frozenset()
    writes: ClassVar[bool] = False
    answered: ClassVar[str] = "where it is predicted"

    @property
    def first(self) -> str:
        """The objective that is asked about where none is named."""
        return next(iter(self.objectives))

    @property
    def margin_unit(self) -> str:
        """In what the margin between answer and foil is measured."""
        return self.objectives["margin"].unit if "margin" in self.objectives else "logits, answer minus foil"

    # -- inputs ---------------------------------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, subject: Subject, example: Example) -> Encoded:
        """One example as the model is given it. PortError where it cannot be."""

    @abstractmethod
    def inputs(self, subject: Subject, encoded: Sequence[Encoded]) -> Inputs:
        """Encoded examples as one batch of tensors, padded at the right so that padding changes nothing."""

    @abstractmethod
    def span(self, subject: Subject, example: Example, role: str, stack: str, *, twin: bool = False) -> list[int]:
        """The positions of a stack that hold a part of a role's span, ascending; with `twin` in the twin. PortError for none."""

    @abstractmethod
    def noise(self, subject: Subject, n: int, length: int, generator: torch.Generator) -> list[Encoded]:
        """Random inputs that mean something to the model, for the integrity gate: n of about a length in the readout stack."""

    def row(self, encoded: Encoded) -> list[int] | None:
        """The token ids that enter the readout stack, where it is tokens that do and there may be fewer of them."""
        return None

    def with_row(self, subject: Subject, encoded: Encoded, row: Sequence[int]) -> Encoded:
        """The same with other token ids in the readout stack, the last one left to predict."""
        raise PortError(f"{subject.name} reads inputs of one size")

    @abstractmethod
    def labels(self, subject: Subject, example: Example, *, stack: str | None = None, twin: bool = False) -> list[str]:
        """What stands at each position of a stack, as short labels; None is the stack that the first input enters."""

    def show(self, subject: Subject, example: Example, *, twin: bool = False) -> "Shown | None":
        """The input, or the twin's, for a person to look at or listen to; None where its labels show it as it is."""
        return None

    def answers_at(self, encoded: "Encoded") -> tuple[int, ...]:
        """The places among the labels of what is read at which the answer is predicted; none where that is another stack."""
        return encoded.scored[:1]

    def answer_label(self, subject: Subject, index: int) -> str:
        """One thing that the model can answer, a token or a class, as a short label."""
        return subject.token_label(index)

    def require(self, subject: Subject) -> None:  # noqa: B027  # most ports ask for nothing
        """CapabilityError where this subject cannot answer as the port has it."""

    def check(self, subject: Subject, task: Task, examples: Sequence[Example]) -> None:
        """PortError where a task cannot be read by this subject; it names what is wrong."""
        self.check_inputs(subject, task, examples)
        for e in examples:
            self.encode(subject, e)

    def check_inputs(self, subject: Subject, task: Task, examples: Sequence[Example]) -> None:
        """PortError where examples lack an input that this modality reads."""
        missing = next((n for n in self.reads for e in examples if n not in e.inputs), None)
        if missing is not None:
            raise PortError(
                f"task {task.name} has no {missing}: {subject.name} reads {', '.join(self.reads)}, and its examples have "
                f"{', '.join(examples[0].inputs)}"
            )

    def reading(self, subject: Subject) -> str:
        """The stack that the first input enters."""
        return next(iter(subject.stacks))

    # -- what stands in for an example --------------------------------------------------------------------------------

    def donor_key(
        self, subject: Subject, example: Example, encoded: Encoded, anchors: Sequence[str]
    ) -> tuple[Hashable, ...]:
        """Of two examples with one key, each one's activations at these anchors can stand in for the other's.

        Here: as many tokens of the answer, for `all` the same length in every stack, for a span as many positions in it.
        """
        whole, first = "all" in anchors, self.reading(subject)
        roles = sorted({parse_anchor(a).name for a in anchors if a != "all"} - {"", "answer"})
        sizes = [len(self.span(subject, example, role, first)) for role in roles]
        elsewhere = [n for name, n in sorted(encoded.lengths.items()) if name != subject.readout]
        return (encoded.before if whole else 0, len(encoded.targets), *sizes, *(elsewhere if whole else ()))

    def twin_key(self, subject: Subject, example: Example, encoded: Encoded) -> tuple[Hashable, ...]:
        """Of two examples with one key, each can be the other's twin, if they ask for different answers (`can_foil`).

        Here: as many positions in every stack, and the same roles at the same positions.
        """
        first = self.reading(subject)
        roles = tuple((r, tuple(self.span(subject, example, r, first))) for r in sorted(example.spans))
        return tuple(sorted({**encoded.lengths, subject.readout: encoded.before}.items())), roles

    def can_foil(self, encoded: Encoded, other: Encoded) -> bool:
        """Whether the other's answer is another one, so that there is a margin between the two: here, at a token that both have."""
        return any(a != b for a, b in zip(encoded.targets, other.targets, strict=False))

    def baseline_key(self, subject: Subject, example: Example, encoded: Encoded) -> tuple[Hashable, ...]:
        """Of examples with one key, the activations are averaged, where an activation is replaced by its mean. Here: of all."""
        return ()

    # -- answers --------------------------------------------------------------------------------------------------------

    def choices(self, subject: Subject, example: Example, choices: Sequence[str]) -> tuple[int, ...] | None:
        """The id by which each choice begins in this example's place; None where two share one and cannot decide."""
        found = tuple(int(self.encode(subject, replace_target(example, c)).targets[0]) for c in choices)
        return found if found and len(set(found)) == len(found) else None

    def accepted(self, subject: Subject, example: Example) -> tuple[int, ...]:
        """The ids of all answers that are right, in this example's place. PortError unless each is one token or class."""
        found = {a: self.encode(subject, replace_target(example, a)).targets for a in example.rights}
        long = next((a for a, ids in found.items() if len(ids) != 1), None)
        if long is not None:
            raise PortError(
                f"{example.shown!r} accepts several answers, and {long!r} is {len(found[long])} tokens: each has to be one"
            )
        return tuple(int(ids[0]) for ids in found.values())

    def read(self, subject: Subject, states: Tensor, asked: "Asked") -> dict[str, Tensor]:
        """Columns for finished-but-for-the-head states at scored positions, (k, width).

        The columns nll, rank, top, logit, margin, kl as in `Scores`, before they are summed over an example's targets; said, the
        id that is answered; others are a port's own.
        """
        logits = subject.unembed(states).float()
        own = logits.gather(1, asked.targets[:, None])
        kl = torch.full_like(own[:, 0], torch.nan)
        if subject.engine >= QUICK:
            compared = None if asked.base is None or asked.probable is None else (asked.base, asked.probable)
            nll, said, above, kl = quickly(logits, asked.targets, compared, asked.among)
        else:
            whole, said, above = over_vocabulary(logits, own)
            nll = whole - own[:, 0]
            if asked.base is not None and asked.among is not None:
                kl = divergence(asked.base, asked.among, logits)
        top = said == asked.targets
        if asked.closed is not None:  # the first token decides; the rest of the answer follows from it
            among = logits.gather(1, asked.closed)
            top = (among.amax(-1) == own[:, 0]) | ~asked.first
            said = torch.where(asked.first, asked.closed.gather(1, among.argmax(-1)[:, None])[:, 0], asked.targets)
        other = logits.gather(1, asked.foils[:, None])[:, 0]
        columns = {
            "nll": nll,
            "rank": above + 1,
            "top": top,
            "said": said,
            "logit": own[:, 0],
            "margin": torch.where(asked.differs, own[:, 0] - other, torch.nan),
            "kl": kl,
        }
        return columns if asked.accepted is None else columns | several_right(logits, said, asked.accepted)

    def margin(self, logits: Tensor, batch: "Batch") -> Tensor:
        """How much more an answer is said than its foil where the two first differ, (batch), with gradients."""
        rows, at, answer, foil = differences(batch, logits.device)
        picked = logits[rows, at].float()
        return picked[rows, answer] - picked[rows, foil]

    def distribution(self, subject: Subject, states: Tensor) -> Tensor:
        """Log-probabilities at scored positions, (k, vocab), where the readout is a vocabulary."""
        return subject.unembed(states).float().log_softmax(-1)

    def guess(self, objective: Objective, task: Task, examples: Sequence[Example]) -> float:
        """What a guesser who knows the format, and nothing else, gets in an objective, turned so that higher is better."""
        return objective.chance(chance_of(task, examples))

    def write(self, subject: Subject, examples: Sequence[Example], max_tokens: int = 2048, **how: Any) -> list[str]:
        """What the model says to each example. how: `program` (by stack) and `edits`. PortError where it has no words."""
        raise PortError(f"{subject.name} answers with no words of its own")

    def own_answer(self, subject: Subject, inputs: Given) -> str:
        """What the model answers to inputs whose right answer nobody named, as a target is written. PortError for none."""
        first = next((v for v in inputs.values() if isinstance(v, str)), "")
        return self.write(subject, [Example(inputs, first)])[0]

    def judge(self, example: Example, said: str) -> dict[str, tuple[float, float]]:
        """What was said held against the target: (numerator, weight) by name, none where it cannot be scored."""
        return {"right": (float(example.is_right(said)), 1.0)}


def replace_target(example: Example, target: str) -> Example:
    """The same question with another target, and no foil."""
    return Example(example.inputs, target, group=example.group, spans=example.spans, metadata=example.metadata)


def first_difference(targets: Sequence[int], other: Sequence[int]) -> tuple[int, int] | None:
    """(offset, the other's id) where two answers first differ, None where one begins the other."""
    return next(((i, b) for i, (a, b) in enumerate(zip(targets, other, strict=False)) if a != b), None)


def batch_of(port: Port, subject: Subject, examples: Sequence[Example], indices: Sequence[int] | None = None) -> Batch:
    """Examples as one batch, in the order given. indices: which of a sample they are; else counted from 0."""
    encoded = [port.encode(subject, e) for e in examples]
    return make_batch(port, subject, range(len(examples)) if indices is None else indices, examples, encoded)


def make_batch(
    port: Port, subject: Subject, indices: Sequence[int], examples: Sequence[Example], encoded: Sequence[Encoded]
) -> Batch:
    """A batch of what is already encoded."""
    places = [(r, c) for r, e in enumerate(encoded) for c in e.scored]
    device = subject.device
    return Batch(
        tuple(indices),
        tuple(examples),
        tuple(encoded),
        port.inputs(subject, encoded),
        torch.tensor([r for r, _ in places], device=device),
        torch.tensor([c for _, c in places], device=device),
        torch.tensor([t for e in encoded for t in e.targets], device=device),
    )


def differences(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row, position that predicts it, answer and foil of each example's first difference, (batch) each."""

    def place(e: Encoded) -> tuple[int, int | float, int | float]:
        offset, foil = e.foil if e.foil is not None else (0, e.targets[0])
        return e.scored[offset], e.targets[offset], foil

    places = [place(e) for e in batch.encoded]
    at, answer, foil = (torch.tensor(list(c), device=device) for c in zip(*places, strict=True))
    return torch.arange(len(places), device=device), at, answer, foil
