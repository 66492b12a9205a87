"""Reading answers: measurements by name, references to them, and which sites an ablation singles out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agent.planners.base import Answer
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
        return False  # without a control nothing is clear
    return change.high < -drop and own.high < own.control.low


@dataclass(frozen=True)
class Expectation:
    """What ablations showed on explore examples, ready to be predicted for unseen ones.

    seen: the accuracy on explore. comparison `<=` expects the drop again, `>=` that the model is spared again.
    call: the tool and arguments that measured it, but for the split. members: components as `3.attn`, `2.head.1`.
    """

    words: str
    comparison: Literal["<=", ">="]
    threshold: float
    seen: Measurement
    seen_in: tuple[str, ...]
    sites: tuple[str, ...]
    call: tuple[str, dict[str, Any]]
    plural: bool = False
    together: bool = False

    @classmethod
    def single(cls, c: Candidate, gate: Answer, task: str, examples: int) -> "Expectation":
        """A component that both ablations singled out."""
        sites = (f"decoder.{c.layer}.{c.component}.out",)
        call = ("ablate", {"task": task, "component": c.component, "ablation": "resample", "examples": examples})
        return cls(c.words, "<=", _half_way(c.accuracy, gate), c.seen, c.seen_in, sites, call)

    @property
    def metric(self) -> str:
        """The key that the same measurement will have on the confirm split."""
        return self.seen.model_copy(update={"split": "confirm"}).key

    @property
    def statement(self) -> str:
        """The hypothesis, up to the name of the task."""
        verb = "not needed" if self.comparison == ">=" else ("together " if self.together else "") + "necessary"
        words = f"{self.words[0].upper()}{self.words[1:]}"
        return f"{words} at the answer's position {'are' if self.plural else 'is'} {verb} for"

    def confirming(self) -> tuple[str, dict[str, Any]]:
        """The call that tests it on the confirm split."""
        tool, arguments = self.call
        return tool, {**arguments, "split": "confirm"}

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
        output = (
            f"{'their outputs' if self.plural else 'its output'} there resampled{' together' if self.together else ''}"
        )
        text = f"{self.statement} {task}: with {output}, accuracy on unseen examples is {own}"
        cites = [str(answer.handle), *self.seen_in]
        common = {"sites": list(self.sites), "experiments": cites, "confidence": self.confidence(answer)}
        if self.comparison == ">=":
            return {"kind": "effect", "text": f"{text}.", **common}
        m = measurement(answer, "accuracy", site=self.seen.site)
        assert m.control is not None  # `clear` asked for it
        control = reference(answer, "accuracy", "control", site=self.seen.site)
        text += f"; the control ({m.control.kind}) leaves {control}"
        role = "jointly_necessary" if self.together else "necessary"
        return {"kind": "localisation", "role": role, "text": f"{text}.", **common}

    def confidence(self, answer: Answer) -> float:
        """High where the whole interval on unseen examples lies beyond the threshold, else lower."""
        m = measurement(answer, "accuracy", site=self.seen.site)
        bound = m.high if self.comparison == "<=" else m.low
        beyond = bound is not None and (bound <= self.threshold if self.comparison == "<=" else bound >= self.threshold)
        return 0.98 if beyond else 0.85


def spared_or_needed(
    looked: Sequence[tuple[str, list[int], Answer, Answer]], gate: Answer, task: str, examples: int, drop: float
) -> tuple[list[Expectation], list[tuple[str, list[int], Expectation]]]:
    """From (component, layers, resampled together, zeroed together): what is spared, and where a joint set
    must be, with the whole group as the set that is known to be needed.
    """
    spared: list[Expectation] = []
    needed: list[tuple[str, list[int], Expectation]] = []
    for component, layers, resample, zero in looked:
        if resample.status != "ok" or zero.status != "ok":
            continue
        m = next(m for m in resample.measurements if m.name == "accuracy" and m.site is not None)
        both = clear(resample, str(m.site), drop) and clear(zero, str(m.site), drop)
        if not both and m.value < value(gate, "accuracy") - drop:
            continue
        kind = "attention" if component == "attn" else "the MLPs"
        words = f"{kind} of blocks {listed([str(x) for x in layers])}" + ("" if both else ", all at once,")
        sites = tuple(f"decoder.{x}.{component}.out" for x in layers)
        arguments = {"task": task, "component": component, "ablation": "resample", "layers": layers, "together": True}
        call = ("ablate", {**arguments, "examples": examples})
        threshold = _half_way(m.value, gate) if both else round(m.value - drop, 3)
        handles = (str(resample.handle), str(zero.handle))
        plural = component == "mlp"
        if both:
            group = Expectation(words, "<=", threshold, m, handles, sites, call, plural, together=True)
            needed.append((component, layers, group))
        else:
            spared.append(Expectation(words, ">=", threshold, m, handles, sites, call, plural))
    return spared, needed


def set_found(answer: Answer) -> Measurement | None:
    """The accuracy that a minimal set's removal leaves, if a search found one."""
    if answer.status != "ok":
        return None
    return next((m for m in answer.measurements if m.name == "accuracy" and m.site and " without " not in m.site), None)


def joint(
    search: Answer, zeroed: Answer, gate: Answer, component: str, arguments: dict[str, Any], drop: float
) -> Expectation | None:
    """A set that resampling found and zeroing confirms: necessary together, no member of it alone."""
    m = set_found(search)
    if (
        m is None
        or zeroed.status != "ok"
        or not clear(search, str(m.site), drop)
        or not clear(zeroed, str(m.site), drop)
    ):
        return None
    members = str(m.site).split("+")
    call = ("minimal_set", {**arguments, "ablation": "resample", "members": members})
    return Expectation(
        _set_words(component, members), "<=", _half_way(m.value, gate), m, (str(search.handle), str(zeroed.handle)),
        tuple(_site_of(x) for x in members), call, plural=len(members) > 1 and component != "attn", together=len(members) > 1,
    )  # fmt: skip


def _set_words(component: str, members: Sequence[str]) -> str:
    if component == "head":
        words = [f"head {h} of block {b}" for b, _, h in (m.split(".") for m in members)]
        return listed(words)
    blocks = [m.partition(".")[0] for m in members]
    kind = "attention" if component == "attn" else "the MLPs" if len(blocks) > 1 else "the MLP"
    return f"{kind} of block{'s' if len(blocks) > 1 else ''} {listed(blocks)}"


def _site_of(member: str) -> str:
    block, kind, *head = member.split(".")
    return f"decoder.{block}.attn.z head {head[0]}" if head else f"decoder.{block}.{kind}.out"


def heads(
    resample: Answer, zero: Answer, gate: Answer, layer: int, task: str, examples: int, drop: float
) -> list[Expectation]:
    """Heads that both ablations single out."""
    out: list[Expectation] = []
    if resample.status != "ok" or zero.status != "ok":
        return out
    for m in resample.measurements:
        if (
            m.name == "accuracy"
            and m.head is not None
            and clear(resample, str(m.site), drop)
            and clear(zero, str(m.site), drop)
        ):
            # Confirmed beside other heads: a random vector in place of a head's whole output can break the model by itself.
            arguments = {
                "task": task,
                "component": "head",
                "goal": "breaking",
                "ablation": "resample",
                "layers": [layer],
            }
            call = ("minimal_set", {**arguments, "members": [str(m.site)], "examples": examples})
            seen = m.model_copy(update={"layer": None, "head": None})
            seen_in = (str(resample.handle), str(zero.handle))
            sites = (f"decoder.{layer}.attn.z head {m.head}",)
            words = f"head {m.head} of block {layer}"
            out.append(Expectation(words, "<=", _half_way(m.value, gate), seen, seen_in, sites, call))
    return out


def listed(words: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _half_way(accuracy: float, gate: Answer) -> float:
    """Half-way between what an ablation left and the intact accuracy."""
    return round((accuracy + value(gate, "accuracy")) / 2, 3)


SOURCE = 0.25  # share of the margin that a position has to carry to be named


@dataclass(frozen=True)
class Arrival:
    """The block in which patching the answer's position begins to carry the answer over: a jump across one half.

    before, after: recovered margin when the residual stream is patched before this block and before the next one; after
    the last block it is 1 by construction, and `after` is None. sources: earlier positions that carry it before this block.
    """

    block: int
    before: Measurement
    after: Measurement | None
    sources: tuple[Measurement, ...] = ()

    @classmethod
    def find(cls, where: Answer) -> "Arrival | None":
        """The first jump in a map of `resid_pre` patches, at the prompt's last position."""
        if where.status != "ok":
            return None
        column = [m for m in where.measurements if m.name == "recovered" and m.position == "-1"]
        for before, after in zip(column, [*column[1:], None], strict=True):
            if before.layer is not None and before.value < 0.5 and (after is None or after.value >= 0.5):
                row = [m for m in where.measurements if m.name == "recovered" and m.layer == before.layer]
                sources = [
                    m for m in row if m.position != "-1" and m.value >= SOURCE and m.low is not None and m.low > 0
                ]
                return cls(before.layer, before, after, tuple(sources))
        return None

    @property
    def words(self) -> str:
        """A sentence."""
        origin = f" from position{'s' if len(self.sources) > 1 else ''} {self._positions()}" if self.sources else ""
        return f"Most of what decides the answer reaches that position in block {self.block}{origin}."

    def _positions(self) -> str:
        return listed([str(m.position) for m in self.sources])

    @property
    def layers(self) -> list[int]:
        """The blocks before which the residual stream is patched."""
        return [self.block] if self.after is None else [self.block, self.block + 1]

    @property
    def depth(self) -> int:
        """How many positions, counted back from the last, have to be patched again."""
        return max([1, *(-int(str(m.position)) for m in self.sources)])

    def predictions(self) -> list[tuple[str, str, float]]:
        """(metric on the confirm split, comparison, threshold)."""
        sides = [(self.before, "<", 0.5), *([(self.after, ">=", 0.5)] if self.after else [])]
        sides += [(m, ">=", round(m.value / 2, 3)) for m in self.sources]
        return [(m.model_copy(update={"split": "confirm"}).key, c, t) for m, c, t in sides]

    def holds_in(self, answer: Answer) -> bool:
        """Whether the jump is there again, and every source carries again."""
        if answer.status != "ok":
            return False
        values = {m.key: m.value for m in answer.measurements}
        return all(values[k] < t if c == "<" else values[k] >= t for k, c, t in self.predictions())

    def claim(self, task: str, answer: Answer, seen_in: str) -> dict[str, Any]:
        """Arguments of the claim."""
        before = reference(answer, "recovered", site=self.before.site, position="-1")
        text = (
            f"Most of what decides the answer to {task} reaches the position that predicts it in block {self.block}: on unseen "
            f"examples, putting the twin's residual stream there before this block moves the answer by {before}"
        )
        if self.after is not None:
            control = reference(answer, "recovered", "control", site=self.after.site, position="-1")
            after = reference(answer, "recovered", site=self.after.site, position="-1")
            text += f", before the next block by {after} (a random vector of the same norm: {control})"
        for m in self.sources:
            own = reference(answer, "recovered", site=m.site, position=m.position)
            text += f"; before this block position {m.position} carries {own}"
        site = f"decoder.{self.block}"
        cites = [str(answer.handle), seen_in]
        common = {"text": f"{text}.", "sites": [site], "experiments": cites, "confidence": 0.98}
        if self.after is None and not self.sources:
            return {"kind": "effect", **common}
        return {"kind": "localisation", "role": "carries", **common}
