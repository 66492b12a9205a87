"""Reading answers: measurements by name, references to them, and which sites an ablation singles out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agent.planners._base import Answer
from experiments_db.records import Measurement


def measurement(answer: Answer, name: str, **where: object) -> Measurement:
    """The first measurement of a name whose coordinates fit; KeyError if there is none."""
    for m in answer.measurements:
        if m.name == name and all(getattr(m, k) == v for k, v in where.items()):
            return m
    raise KeyError(f"{answer.handle} has no {name} with {where}")


def value(answer: Answer, name: str, **where: object) -> float:
    """The value of `measurement`."""
    return measurement(answer, name, **where).value


def reference(answer: Answer, name: str, part: str = "", **where: object) -> str:
    """A reference to a measurement for a text; `part` may be control, n, low or high."""
    m = measurement(answer, name, **where)
    inside = m.key.removeprefix(m.name)
    return "{{" + f"{answer.handle}.{name}{'.' + part if part else ''}{inside}" + "}}"


@dataclass(frozen=True)
class Candidate:
    """A component that two kinds of ablation single out on explore examples."""

    component: str
    layer: int
    site: str
    accuracy: float
    seen_in: tuple[str, ...]
    seen: Measurement

    @property
    def words(self) -> str:
        """'attention of block 0'."""
        return f"{'attention' if self.component == 'attn' else 'the MLP'} of block {self.layer}"


def candidates(ablations: Mapping[tuple[str, str], Answer], drop: float) -> list[Candidate]:
    """Components with a clear drop under BOTH resample and zero ablation, the largest resample effect first."""
    found: list[Candidate] = []
    for component in ("attn", "mlp"):
        resample, zero = ablations[component, "resample"], ablations[component, "zero"]
        if resample.status != "ok" or zero.status != "ok":
            continue
        for m in resample.measurements:
            if m.name != "accuracy" or m.site is None or m.layer is None:
                continue
            if clear(resample, m.site, drop) and clear(zero, m.site, drop):
                handles = (str(resample.handle), str(zero.handle))
                found.append(Candidate(component, m.layer, m.site, m.value, handles, m))
    return sorted(found, key=lambda c: c.accuracy)


def clear(answer: Answer, site: str, drop: float) -> bool:
    """The change's interval lies below -drop, and the accuracy's interval lies below its control's."""
    change = measurement(answer, "accuracy.delta", site=site)
    own = measurement(answer, "accuracy", site=site)
    if change.high is None or own.high is None or own.control is None or own.control.low is None:
        return False
    return change.high < -drop and own.high < own.control.low


@dataclass(frozen=True)
class Expectation:
    """What an ablation showed on explore examples, ready to be predicted for unseen ones.

    seen: the accuracy on explore. comparison `<=` expects the drop again, `>=` that the model is spared again.
    """

    words: str
    component: str
    layers: tuple[int, ...]
    comparison: Literal["<=", ">="]
    threshold: float
    seen: Measurement
    seen_in: tuple[str, ...]
    sites: tuple[str, ...]
    together: bool = False

    @classmethod
    def single(cls, c: Candidate, gate: Answer) -> "Expectation":
        """A component that both ablations singled out."""
        threshold = _half_way(c.accuracy, gate)
        sites = (f"decoder.{c.layer}.{c.component}.out",)
        return cls(c.words, c.component, (), "<=", threshold, c.seen, c.seen_in, sites)

    @property
    def metric(self) -> str:
        """The key that the same measurement will have on the confirm split."""
        return self.seen.model_copy(update={"split": "confirm"}).key

    @property
    def statement(self) -> str:
        """The hypothesis, up to the name of the task."""
        verb = "necessary" if self.comparison == "<=" else "not needed"
        number = "are" if self.together else "is"
        return f"{self.words[0].upper()}{self.words[1:]} at the answer's position {number} {verb} for"

    def arguments(self, task: str, examples: int) -> dict[str, Any]:
        """Arguments of the ablation that tests it on the confirm split."""
        out: dict[str, Any] = {"task": task, "component": self.component, "ablation": "resample"}
        return {**out, "layers": list(self.layers), "together": self.together, "split": "confirm", "examples": examples}

    def holds_in(self, answer: Answer, drop: float) -> bool:
        """Whether it came true: the prediction, and for a drop also an effect outside its control's interval."""
        if answer.status != "ok":
            return False
        observed = next((m.value for m in answer.measurements if m.key == self.metric), None)
        if observed is None:
            return False
        if self.comparison == ">=":
            return observed >= self.threshold
        return observed <= self.threshold and clear(answer, str(self.seen.site), drop)

    def claim(self, task: str, answer: Answer) -> dict[str, Any]:
        """Arguments of the claim it becomes once it has come true."""
        own = reference(answer, "accuracy", site=self.seen.site)
        control = reference(answer, "accuracy", "control", site=self.seen.site)
        output = "their output there resampled together" if self.together else "its output there resampled"
        text = f"{self.statement} {task}: with {output}, accuracy on unseen examples is {own}"
        if self.comparison == "<=":
            text += f"; a random vector of the same norm leaves {control}"
        kind = "localisation" if self.comparison == "<=" else "effect"
        cites = [str(answer.handle), *self.seen_in]
        claim = {"kind": kind, "text": f"{text}.", "sites": list(self.sites), "experiments": cites, "confidence": 0.9}
        role = "jointly_necessary" if self.together else "necessary"
        return {**claim, "role": role} if kind == "localisation" else claim


def further(looked: Sequence[Answer], gate: Answer, drop: float) -> list[Expectation]:
    """Expectations about single heads, and about all other sites of a kind together, from pairs (resample, zero)."""
    out: list[Expectation] = []
    for resample, zero in zip(looked[::2], looked[1::2], strict=True):
        if resample.status != "ok" or zero.status != "ok":
            continue
        handles = (str(resample.handle), str(zero.handle))
        for m in resample.measurements:
            if m.name != "accuracy" or m.site is None:
                continue
            needed = clear(resample, m.site, drop) and clear(zero, m.site, drop)
            if m.head is not None and m.layer is not None and needed:
                words, sites = f"head {m.head} of block {m.layer}", (f"decoder.{m.layer}.attn.z head {m.head}",)
                out.append(Expectation(words, "head", (m.layer,), "<=", _half_way(m.value, gate), m, handles, sites))
            elif m.head is None:
                numbers, _, component = m.site.partition(".")
                layers = tuple(map(int, numbers.split("+")))
                kind = "attention" if component == "attn" else "the MLPs"
                words = f"{kind} of blocks {listed([str(x) for x in layers])} together"
                sites = tuple(f"decoder.{x}.{component}.out" for x in layers)
                spared = m.value >= value(gate, "accuracy") - drop
                if needed or spared:
                    threshold = _half_way(m.value, gate) if needed else round(m.value - drop, 3)
                    sign: Literal["<=", ">="] = "<=" if needed else ">="
                    out.append(Expectation(words, component, layers, sign, threshold, m, handles, sites, together=True))
    return out


def listed(words: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _half_way(accuracy: float, gate: Answer) -> float:
    """Half-way between what an ablation left and the intact accuracy."""
    return round((accuracy + value(gate, "accuracy")) / 2, 3)


@dataclass(frozen=True)
class Arrival:
    """The block in which patching the answer's position begins to carry the answer over: a jump across one half.

    before, after: recovered margin when the residual stream is patched before this block and before the next one; after
    the last block it is 1 by construction, and `after` is None.
    """

    block: int
    before: Measurement
    after: Measurement | None

    @classmethod
    def find(cls, where: Answer) -> "Arrival | None":
        """The first jump in a map of `resid_pre` patches, at the prompt's last position."""
        if where.status != "ok":
            return None
        column = [m for m in where.measurements if m.name == "recovered" and m.position == "-1"]
        for before, after in zip(column, [*column[1:], None], strict=True):
            if before.layer is not None and before.value < 0.5 and (after is None or after.value >= 0.5):
                return cls(before.layer, before, after)
        return None

    @property
    def words(self) -> str:
        """A sentence."""
        return f"Most of what decides the answer reaches that position in block {self.block}."

    @property
    def layers(self) -> list[int]:
        """The blocks before which the residual stream is patched."""
        return [self.block] if self.after is None else [self.block, self.block + 1]

    def predictions(self) -> list[tuple[str, str]]:
        """(metric on the confirm split, comparison with one half)."""
        sides = [(self.before, "<"), *([(self.after, ">=")] if self.after else [])]
        return [(m.model_copy(update={"split": "confirm"}).key, c) for m, c in sides]

    def holds_in(self, answer: Answer) -> bool:
        """Whether the jump is there again."""
        if answer.status != "ok":
            return False
        values = {m.key: m.value for m in answer.measurements}
        return all((values[k] < 0.5) == (c == "<") for k, c in self.predictions())

    def claim(self, task: str, answer: Answer, seen_in: str) -> dict[str, Any]:
        """Arguments of the claim."""
        before = reference(answer, "recovered", site=self.before.site)
        text = (
            f"Most of what decides the answer to {task} reaches the position that predicts it in block {self.block}: on unseen "
            f"examples, putting the twin's residual stream there before this block moves the answer by {before}"
        )
        if self.after is not None:
            control = reference(answer, "recovered", "control", site=self.after.site)
            after = reference(answer, "recovered", site=self.after.site)
            text += f", before the next block by {after} (a random vector of the same norm: {control})"
        site = f"decoder.{self.block}"
        cites = [str(answer.handle), seen_in]
        return {
            "kind": "localisation",
            "role": "carries",
            "text": f"{text}.",
            "sites": [site],
            "experiments": cites,
            "confidence": 0.9,
        }
