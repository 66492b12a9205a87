"""What could be found: statements to examine, and those of them that explore examples promise to hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent.planners.base import Answer, Known
from agent.planners.systematic.plan import Call, Part, ask
from agent.planners.systematic.reading import Judged, named
from experiments_db.findings import Finding
from experiments_db.places import Component, ComponentSet, Intervention, Path, display, is_plural, parse_anchor
from tools.findings.phrases import how_words
from tools.tasks.spans import role_words

RESAMPLE, ZERO = "resample(donor)", "zero"
BOTH = (RESAMPLE, ZERO)
LIKELY = 0.5
SOME_POWER = 0.2
SECOND = 4  # times as many examples where something stayed open
MOST_AGAIN = 2
SAYS = {
    "capability": "The intact model can do {task}.",
    "cannot": "The intact model cannot do {task}.",
    "necessary": "{place} is necessary for {task}.",
    "jointly_necessary": "{place} is necessary together for {task}.",
    "not_needed": "{place} is not needed for {task}.",
    "carries": "{place} carries what decides the answer to {task}.",
    "carries_nothing": "{place} carries nothing of what decides the answer to {task}.",
    "attends": "{place} has more weight than attention has elsewhere, for {task}.",
    "matches": "{place} attends by identity.",
    "readable": "{place} is where the answer to {task} can first be read.",
    "differs": "{place} matters more for {task} than for {other}.",
    "disagree": "The interventions disagree about {place} for {task}.",
    "tolerates": "The model bears it that some of the last blocks of {stack} are left out, for {task}.",
    "breaks": "The model does not bear it that some of the last blocks of {stack} are left out, for {task}.",
    "aligns": "{place} brings together queries and keys of the same {label}.",
    "mixed": "{place} is one thing in {task} and another in {other}.",
    "one_concept": "{place} is the same thing in {task} and in {other}.",
    "quiet": "{place} is active in {task} and quiet in {other}.",
    "decides": "What decides the answer to {task} is the {label} of the image.",
    "encodes_tree": "{place} is where the trees of the sentences of {task} can be read.",
    "decodable": "{place} is where {label} can be read, for {task}.",
    "used": "{place} is where what is read of {label} is used, for {task}.",
    "reads_better": "{place} is where the first of {label} is read better than the second, for {task}.",
    "elicits": "{place} is where more of {task} is held than the model says.",
    "steers": "{place} is where pushing along {label} moves the answer, for {task}.",
    "sends": "{place}: this way goes what decides the answer to {task}.",
}


@dataclass(frozen=True)
class Candidate:
    """A statement to examine: arguments of `examine`. examples: how many, where that is not what the desk tries everything on."""

    kind: str
    task: str
    components: tuple[str, ...] = ()
    interventions: tuple[str, ...] = ()
    among: str = ""
    label: str = ""
    other_task: str = ""
    other_among: str = ""
    path: str = ""
    program: str = ""
    objective: str = ""
    examples: int = 0

    def call(self, examples: int, judged: Judged) -> Call:
        """The experiment that examines it, in the objective that the answers are judged by where it names none."""
        given = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items() if v}
        return "examine", {**judged.named, **given, "examples": self.examples or examples}

    @property
    def words(self) -> str:
        """The hypothesis that it tests."""
        place = display(ComponentSet.parse(" + ".join(self.components)), self._roles) if self.components else ""
        if self.path:
            place = " to ".join(display(c, self._roles) for c in Path.parse(self.path).nodes)
        under = f", {how_words(Intervention.parse(self.interventions[0]))}," if len(self.interventions) == 1 else ""
        text = SAYS[self.kind].format(
            task=f"{self.task}{f' among {self.among}' if self.among else ''}",
            place=f"{place[:1].upper()}{place[1:]}{under}",
            stack=self.program.partition(":")[0] if ":" in self.program else "the model",
            label=self.label,
            other=f"{self.other_task or self.task}{f' among {self.other_among}' if self.other_among else ''}",
        )
        plural = bool(self.components) and is_plural(ComponentSet.parse(" + ".join(self.components)).members)
        return text.replace(" is ", " are ", 1) if plural and " is " in SAYS[self.kind] else text

    @property
    def _roles(self) -> dict[str, str]:
        """Words for the roles that its places name: the first operand."""
        members = [Component.parse(c) for c in self.components]
        members += Path.parse(self.path).nodes if self.path else ()
        names = {parse_anchor(a).name for c in members for a in (c.anchor, c.key) if a}
        return {name: role_words(name) for name in names if name not in ("", "answer", "all")}


@dataclass(frozen=True)
class Examined:
    """A candidate with what explore examples say of it."""

    candidate: Candidate
    answer: Answer

    @property
    def probability(self) -> float:
        """The calibrated probability that unseen examples will confirm it; 0 where it could not be measured."""
        m = named(self.answer, "probability")
        return m.value if m is not None and self.answer.status == "ok" else 0.0

    def short(self, examples: int) -> bool:
        """Whether every effect is there and large, so that more than this many examples may show it; False where there are no
        more.
        """
        least, power = named(self.answer, "smallest"), named(self.answer, "power")
        if least is None or power is None or self.promises or power.value < SOME_POWER:
            return False
        effects = [m for m in self.answer.measurements if m.name == "effect"]
        return all(m.value >= 2 * least.value and (m.groups or 0) >= 0.9 * examples for m in effects)

    @property
    def promises(self) -> bool:
        """Whether it is worth a prediction."""
        return self.probability >= LIKELY

    @property
    def silent(self) -> bool:
        """Whether nothing happened, and there are too few examples to say so: fewer components at a time would not help."""
        least = named(self.answer, "smallest")
        effects = [m.value for m in self.answer.measurements if m.name == "effect"]
        return not self.promises and least is not None and max(map(abs, effects), default=1.0) < least.value / 4

    def breaks(self, how: str) -> bool:
        """Whether an intervention has an effect as large as the smallest that counts."""
        least = named(self.answer, "smallest")
        found = [m.value for m in self.answer.measurements if m.name == "effect" and m.intervention == how]
        return least is not None and max(found, default=0.0) >= least.value


@dataclass
class Desk:
    """What a plan works with, and what it has gathered: candidates that promise to hold, in order.

    kinds: the kinds of finding there are. looks: the model reads images. screen, test: examples for looking and for
    examining. At 64 independent problems
    every quantity has its interval; some are left out of a look, for want of a twin or donor, so that it takes a few more.
    """

    known: Callable[[str], Known]
    kinds: frozenset[str]
    findings: Sequence[Finding] = ()
    screen: int = 72
    test: int = 128
    promised: list[Examined] = field(default_factory=list[Examined])
    examined: dict[Candidate, Examined] = field(default_factory=dict[Candidate, Examined])
    stacks: tuple[str, ...] = ()
    judged: Judged = field(default_factory=Judged)
    looks: bool = False

    @property
    def several(self) -> bool:
        """Whether the model has more than one stack: an encoder reads, and a decoder is read out."""
        return len(self.stacks) > 1

    def at(self, part: str, anchor: str) -> str:
        """The selector of a part at an anchor: of the stack that is read out at the answer, else of the one that reads."""
        if not self.several:
            return f"{part}@{anchor}"
        return f"{self.stacks[-1] if anchor == 'answer' else self.stacks[0]}.*.{part}@{anchor}"

    @property
    def reserve(self) -> int:
        """Experiments that confirming takes as things stand."""
        return len(self.promised) + 1

    def examine(self, why: str, candidates: Sequence[Candidate], *, must: bool = False) -> Part[list[Examined]]:
        """Examine each of them once; those that promise to hold are kept for confirming."""
        new = [c for c in dict.fromkeys(candidates) if c not in self.examined and c.kind in self.kinds]
        reserve = None if must else self.reserve + len(new)
        answers = yield from ask(why, [c.call(self.test, self.judged) for c in new], reserve)
        for c, a in zip(new, answers, strict=True):
            self.examined[c] = Examined(c, a)
        out = [self.examined[c] for c in dict.fromkeys(candidates) if c in self.examined]
        self.promised += [e for e in out if e.promises and e not in self.promised]
        return out

    def insist(self, found: Sequence[Examined]) -> Part[list[Examined]]:
        """Those of them that only more examples could show, examined once more with more."""
        short = [e for e in found if e.short(self.test)][:MOST_AGAIN]
        answers = yield from ask(
            "It is there and not yet shown: look again with more examples.",
            [e.candidate.call(SECOND * self.test, self.judged) for e in short],
            self.reserve + len(short) + 1,
        )
        out = [Examined(e.candidate, a) for e, a in zip(short, answers, strict=True)]
        self.examined.update({e.candidate: e for e in out})
        self.promised += [e for e in out if e.promises]
        return out

    def drop(self, found: Sequence[Examined]) -> None:
        """What another finding says and more is not confirmed beside it."""
        self.promised = [e for e in self.promised if e not in found]
