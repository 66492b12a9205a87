"""What can be claimed, as records: a finding says exactly what was measured, and is settled once.

A `Statement` is the whole content of a finding, as data: nothing else decides how it is measured and tested. With a
probability it is a prediction; settled on examples that nobody had seen it is confirmed, contradicted, absent, inconclusive
or void, and stays so.
"""

from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from experiments_db.places import Component, ComponentSet, Intervention, Path, PlaceError

Fate = Literal["confirmed", "contradicted", "absent", "inconclusive", "void"]
Asks = Literal["where", "whether", "how", "compare", "shared", "open"]
FATES: tuple[Fate, ...] = ("confirmed", "contradicted", "absent", "inconclusive", "void")
Probability = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


@lru_cache(maxsize=4096)
def _canonical_set(text: str) -> str:
    return str(ComponentSet.parse(text))


class Statement(_Record):
    """What a finding says, in one language of places.

    kind: one of tools/findings/kinds. task, among: the examples, and the class of them (`key=value`) that it is about.
    components: what it is about, canonical text of a set; path: sender -> ... -> receiver. universe: among what a set is
    sufficient or minimal. interventions: what is done there; with several, all must hold. objective: the quantity.
    other_task, other_among: the examples to compare with, for `differs`. label: the variable, for `decodable`. program: layers that
    run, for `tolerates`. smallest: the smallest effect that counts, in the objective's unit; None leaves it to code,
    which takes 10% of what separates the intact model from chance.
    """

    kind: str
    task: str
    among: str = ""
    components: str = ""
    path: str = ""
    universe: str = ""
    interventions: tuple[str, ...] = ()
    objective: str = "accuracy"
    other_task: str = ""
    other_among: str = ""
    label: str = ""
    program: str = ""
    smallest: float | None = None
    examples: int = 128

    @field_validator("components", "universe")
    @classmethod
    def _a_set(cls, text: str) -> str:
        try:
            return _canonical_set(text) if text else ""
        except PlaceError as error:
            raise ValueError(str(error)) from None

    @field_validator("path")
    @classmethod
    def _a_path(cls, text: str) -> str:
        try:
            return str(Path.parse(text)) if text else ""
        except PlaceError as error:
            raise ValueError(str(error)) from None

    @field_validator("interventions")
    @classmethod
    def _known(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(sorted({str(Intervention.parse(t)) for t in texts}))
        except PlaceError as error:
            raise ValueError(str(error)) from None

    @property
    def members(self) -> tuple[Component, ...]:
        """The components, each unit by itself."""
        return ComponentSet.parse(self.components).singles() if self.components else ()

    @property
    def set(self) -> ComponentSet | None:
        """The components as a set."""
        return ComponentSet.parse(self.components) if self.components else None

    @property
    def among_what(self) -> tuple[Component, ...]:
        """The universe, each unit by itself."""
        return ComponentSet.parse(self.universe).singles() if self.universe else ()

    @property
    def route(self) -> Path | None:
        """The path."""
        return Path.parse(self.path) if self.path else None

    @property
    def done(self) -> tuple[Intervention, ...]:
        """The interventions."""
        return tuple(Intervention.parse(t) for t in self.interventions)

    def as_json(self) -> dict[str, Any]:
        """Plain data without what is empty: how it stands in arguments."""
        return {k: v for k, v in self.model_dump(mode="json").items() if v not in ("", None, [], ())}


class Finding(_Record):
    """A statement with how sure somebody was before, and what unseen examples said.

    seen: the experiment on explore examples that it rests on. smallest: the smallest effect that counts, fixed when it was
    predicted; stricter: more was asked than its kind asks by itself. power: chance to confirm it if the explore effect is true.
    round: in which confirmation it was settled. experiment: the one on confirm examples. p, threshold: the p value and what
    Holm's method asked of it in its round.
    reused: some of its unseen examples stood in an earlier round or run too, for want of others.
    retracted: why its author took it back.
    """

    handle: str = Field(description="F1, F2, ...")
    statement: Statement
    hypothesis: str | None = None
    seen: str
    smallest: float
    stricter: bool = False
    probability: Probability
    power: Probability
    round: int | None = None
    experiment: str | None = None
    fate: Fate | None = None
    reason: str = ""
    p: float | None = None
    threshold: float | None = None
    sentence: str = ""
    reused: bool = False
    retracted: str = ""

    @property
    def settled(self) -> bool:
        """Whether unseen examples have decided it."""
        return self.fate is not None

    @property
    def stands(self) -> bool:
        """Whether it may be claimed: confirmed and not taken back."""
        return self.fate == "confirmed" and not self.retracted


class Claim(_Record):
    """A confirmed finding, adopted as an answer. interpretation: words beyond what was measured, marked as such."""

    finding: str
    question: str | None = None
    interpretation: str = ""


class Question(_Record):
    """One thing that a goal asks, as the program understood it. asks: where, whether, how, compare, shared, open."""

    handle: str = Field(description="Q1, Q2, ...")
    asks: Asks
    text: str
    tasks: tuple[str, ...] = ()


class Conclusion(_Record):
    """How an investigation ended, in the words of whoever led it: interpretation, beside what the findings say."""

    answer: Literal["found", "not_found", "cannot", "unclear"]
    words: str = ""
