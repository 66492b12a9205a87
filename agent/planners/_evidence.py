"""Reading answers: measurements by name, references to them, and which sites an ablation singles out."""

from collections.abc import Mapping
from dataclasses import dataclass

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
    seen_in: list[str]

    @property
    def words(self) -> str:
        """'attention of block 0'."""
        return f"{'attention' if self.component == 'attn' else 'the MLP'} of block {self.layer}"

    def holds_in(self, answer: Answer, drop: float) -> bool:
        """Whether the effect is there in another experiment: a clear drop, below the control's interval."""
        return answer.status == "ok" and _clear(answer, self.site, drop)


def candidates(ablations: Mapping[tuple[str, str], Answer], drop: float) -> list[Candidate]:
    """Components with a clear drop under BOTH resample and zero ablation, the largest resample effect first."""
    found: list[Candidate] = []
    for component in ("attn", "mlp"):
        resample, zero = ablations[component, "resample"], ablations[component, "zero"]
        if resample.status != "ok" or zero.status != "ok":
            continue
        for m in resample.measurements:
            if m.name == "accuracy" and m.site is not None and m.layer is not None:
                if _clear(resample, m.site, drop) and _clear(zero, m.site, drop):
                    handles = [str(resample.handle), str(zero.handle)]
                    found.append(Candidate(component, m.layer, m.site, m.value, handles))
    return sorted(found, key=lambda c: c.accuracy)


def _clear(answer: Answer, site: str, drop: float) -> bool:
    """The change's interval lies below -drop, and the accuracy's interval lies below its control's."""
    change = measurement(answer, "accuracy.delta", site=site)
    own = measurement(answer, "accuracy", site=site)
    if change.high is None or own.high is None or own.control is None or own.control.low is None:
        return False
    return change.high < -drop and own.high < own.control.low
