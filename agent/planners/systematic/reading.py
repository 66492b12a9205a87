"""Reading answers: what a measurement says of a place, and which places an ablation singles out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.planners.base import Answer
from experiments_db.places import Component, ComponentSet
from experiments_db.records import Measurement

SMALLEST = 0.1  # of what separates the model from chance: less does not count
SEEN = 1.5 * SMALLEST  # on a first look the effect has to be somewhat larger, or no test would find it again
NEARLY_ALL = 0.9  # of what there is to lose, beyond which a control cannot be told from what it controls


def reference(answer: Answer, m: Measurement) -> str:
    """A reference to a measurement, for a text."""
    return "{{" + f"{answer.handle}.{m.key}" + "}}"


def named(answer: Answer, name: str) -> Measurement | None:
    """The first measurement of a name."""
    return next((m for m in answer.measurements if m.name == name), None)


@dataclass(frozen=True)
class Judged:
    """The quantity by which answers are judged, and whether more of it is better (1) or less (-1)."""

    objective: str = "accuracy"
    better: int = 1

    @property
    def named(self) -> dict[str, str]:
        """Its name as an argument; none where it is what is asked about anyway."""
        return {} if self.objective == "accuracy" else {"objective": self.objective}

    def there_is(self, chance: float) -> float:
        """What there is to get beyond chance: a share of examples, or of what a guesser misses."""
        return 1 - chance if self.objective == "accuracy" else abs(chance)


@dataclass(frozen=True)
class Ability:
    """How the intact model does a task on explore examples, in the quantity that it is judged by."""

    answer: Answer
    measured: Measurement
    chance: float
    judged: Judged = Judged()

    @classmethod
    def read(cls, answer: Answer, task: str = "", judged: Judged | None = None) -> "Ability | None":
        """From an answer of loss, of one of its tasks if one is named; None where it could not be measured."""
        judged = judged or Judged()
        mine = [m for m in answer.measurements if task in ("", m.task)]
        own, chance = (next((m for m in mine if m.name == n), None) for n in (judged.objective, "chance"))
        return None if own is None or chance is None else cls(answer, own, chance.value, judged)

    @property
    def gap(self) -> float:
        """What separates the model from chance, above 0 where it is better."""
        return self.judged.better * (self.measured.value - self.chance)

    @property
    def able(self) -> bool:
        """The interval lies on the better side of chance, and the model gets a tenth of what there is to get."""
        worst = self.measured.low if self.judged.better > 0 else self.measured.high
        worst = self.measured.value if worst is None else worst
        enough = self.gap > SMALLEST * self.judged.there_is(self.chance)
        return self.judged.better * (worst - self.chance) > 0 and enough

    @property
    def half(self) -> bool:
        """Whether it gets half of it: half of the examples right, or half of what a guesser misses."""
        if self.judged.objective == "accuracy":
            return self.measured.value >= 0.5
        return self.gap >= 0.5 * self.judged.there_is(self.chance)


@dataclass(frozen=True)
class Drop:
    """What is lost when something is removed, as a share of what separates the model from chance.

    noise: a change of the same size without information loses as much, and leaves enough that it might have lost less.
    """

    value: float
    low: float
    high: float
    noise: bool = False

    @property
    def clear(self) -> bool:
        """Large enough to be looked at more closely."""
        return self.value >= SEEN and self.low > 0

    @property
    def partial(self) -> bool:
        """Neither nothing nor nearly everything: it may be all there is for some of the examples."""
        return 0.75 * SMALLEST <= self.value <= 0.6


def drops(answer: Answer, gap: float, judged: Judged) -> dict[str, Drop]:
    """By the text of what was removed."""
    out: dict[str, Drop] = {}
    for m in answer.measurements:
        if m.name == f"{judged.objective}.delta" and m.component:
            low, high = (m.value if x is None else x for x in (m.low, m.high))
            ends = sorted((-judged.better * high / gap, -judged.better * low / gap))
            out[m.component] = Drop(-judged.better * m.value / gap, *ends, noise=_as_control(m, gap, judged))
    return out


def _as_control(m: Measurement, gap: float, judged: Judged) -> bool:
    if m.control is None or m.control.difference is None:
        return False
    told = -judged.better * m.control.value / gap < NEARLY_ALL
    return told and judged.better * m.control.difference >= 0


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
    def read(cls, resampled: Answer, zeroed: Answer, gap: float, judged: Judged) -> "Pair":
        """From two answers of ablate about the same components."""
        return cls(drops(resampled, gap, judged), drops(zeroed, gap, judged))

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

    @property
    def specific(self) -> list[str]:
        """Of those what is lost under both beyond what noise of the same size loses."""
        return [p for p in self.both if not (self.resample[p].noise or self.zero[p].noise)]

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
