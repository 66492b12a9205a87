"""Reading answers: what a measurement says of a place, and which places an ablation singles out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.planners.base import Answer
from experiments_db.places import Component, ComponentSet
from experiments_db.records import Measurement

SMALLEST = 0.1  # of what separates the model from chance: less does not count
SEEN = 1.5 * SMALLEST  # on a first look the effect has to be somewhat larger, or no test would find it again


def reference(answer: Answer, m: Measurement) -> str:
    """A reference to a measurement, for a text."""
    return "{{" + f"{answer.handle}.{m.key}" + "}}"


def named(answer: Answer, name: str) -> Measurement | None:
    """The first measurement of a name."""
    return next((m for m in answer.measurements if m.name == name), None)


@dataclass(frozen=True)
class Ability:
    """How the intact model does a task on explore examples."""

    answer: Answer
    accuracy: Measurement
    chance: float

    @classmethod
    def read(cls, answer: Answer, task: str = "") -> "Ability | None":
        """From an answer of loss, of one of its tasks if one is named; None where it could not be measured."""
        mine = [m for m in answer.measurements if task in ("", m.task)]
        accuracy, chance = (next((m for m in mine if m.name == n), None) for n in ("accuracy", "chance"))
        return None if accuracy is None or chance is None else cls(answer, accuracy, chance.value)

    @property
    def gap(self) -> float:
        """What separates the model from chance."""
        return self.accuracy.value - self.chance

    @property
    def able(self) -> bool:
        """The accuracy's interval lies above chance, and the model gets a tenth of what there is to get."""
        low = self.accuracy.low if self.accuracy.low is not None else self.accuracy.value
        return low > self.chance and self.gap > SMALLEST * (1 - self.chance)


@dataclass(frozen=True)
class Drop:
    """What accuracy loses when something is removed, as a share of what separates the model from chance."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Large enough to be looked at more closely."""
        return self.value >= SEEN and self.low > 0

    @property
    def partial(self) -> bool:
        """Neither nothing nor nearly everything: it may be all there is for some of the examples."""
        return 0.75 * SMALLEST <= self.value <= 0.6


def drops(answer: Answer, gap: float) -> dict[str, Drop]:
    """By the text of what was removed."""
    out: dict[str, Drop] = {}
    for m in answer.measurements:
        if m.name == "accuracy.delta" and m.component:
            low, high = (m.value if x is None else x for x in (m.low, m.high))
            out[m.component] = Drop(-m.value / gap, -high / gap, -low / gap)
    return out


def component(text: str) -> Component:
    """The one component that a text names."""
    return Component.parse(text)


def as_set(texts: Sequence[str]) -> str:
    """The canonical text of components together."""
    return str(ComponentSet.of(*(component(t) for t in texts)))


@dataclass(frozen=True)
class Pair:
    """What removing each component does under both interventions."""

    resample: dict[str, Drop]
    zero: dict[str, Drop]

    @classmethod
    def read(cls, resampled: Answer, zeroed: Answer, gap: float) -> "Pair":
        """From two answers of ablate about the same components."""
        return cls(drops(resampled, gap), drops(zeroed, gap))

    def merged(self, other: "Pair") -> "Pair":
        """Both together."""
        return Pair({**self.resample, **other.resample}, {**self.zero, **other.zero})

    @property
    def places(self) -> list[str]:
        """Everything that was measured under both."""
        return [p for p in self.resample if p in self.zero]

    @property
    def both(self) -> list[str]:
        """What both single out, the largest effect first."""
        found = [p for p in self.places if self.resample[p].clear and self.zero[p].clear]
        return sorted(found, key=lambda p: (-self.size(p), p))

    def size(self, place: str) -> float:
        """The smaller of the two effects."""
        return min(self.resample[place].value, self.zero[place].value)

    def under(self, how: str) -> dict[str, Drop]:
        """The effects of one intervention."""
        return self.resample if how.startswith("resample") else self.zero

    def quiet(self, how: str, at: str = "") -> list[str]:
        """What removing alone does not show under an intervention, at an anchor if one is given."""
        found = self.under(how)
        return [p for p in self.places if not found[p].clear and (not at or component(p).anchor == at)]


@dataclass(frozen=True)
class Flip:
    """The share of examples that a patch takes over to the twin's answer, and what of it is beyond its control."""

    share: float
    beyond: float


def flips(answer: Answer) -> dict[Component, Flip]:
    """By place."""
    out: dict[Component, Flip] = {}
    for m in answer.measurements:
        if m.name == "flipped" and m.component:
            beyond = m.value if m.control is None else m.value - m.control.value
            low = None if m.control is None else m.control.difference_low
            out[component(m.component)] = Flip(m.value, beyond if low is None or low > 0 else 0.0)
    return out


def carrying(found: Mapping[Component, Flip], most: int = 3) -> list[str]:
    """Anchors before the answer at which a later state still decides: something there is read after it was written.

    What differs in the embedding always decides; only what does so past the first block could have been written by one.
    Names for one position, where every patch does the same, are one anchor.
    """
    by_anchor: dict[str, dict[int, Flip]] = {}
    for c, flip in found.items():
        by_anchor.setdefault(c.anchor, {})[c.block or 0] = flip
    seen = [_shares(by_anchor.pop("answer", {}))]
    by_anchor.pop("-1", None)  # where the answer begins
    out: list[tuple[float, str]] = []
    for anchor, blocks in by_anchor.items():
        late = max((flip.beyond for b, flip in blocks.items() if b >= 1), default=0.0)
        if late >= SMALLEST and _shares(blocks) not in seen:
            seen.append(_shares(blocks))
            out.append((-late, anchor))
    return [anchor for _, anchor in sorted(out)[:most]]


def _shares(blocks: Mapping[int, Flip]) -> dict[int, float]:
    return {b: flip.share for b, flip in blocks.items()}
