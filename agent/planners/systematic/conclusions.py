"""What the systematic planner looks at more closely, and what it says of what it saw, as calls."""

from collections.abc import Sequence
from typing import Any

from agent.planners.base import Answer
from agent.planners.systematic.evidence import clear, reference


def readout_claims(main: str, lens: Answer) -> list[tuple[str, dict[str, Any]]]:
    """From which depth on the head can read the answer."""
    if lens.status != "ok":
        return []
    first = next((m for m in lens.measurements if m.name == "accuracy" and m.layer and m.value >= 0.5), None)
    if first is None or first.layer is None:
        return []
    text = (
        f"Read with the logit lens, the answer to {main} is on top for {reference(lens, 'accuracy', layer=first.layer)} of "
        f"examples after {first.layer} blocks and for {reference(lens, 'accuracy', layer=first.layer - 1)} one block earlier; "
        "the lens can miss what is there in another form."
    )
    return [("claim", {"kind": "effect", "text": text, "experiments": [lens.handle], "confidence": 0.9})]


def disagreements(main: str, ablations: Sequence[Answer], drop: float) -> list[tuple[str, dict[str, Any]]]:
    """Sites at which the two ablation types say different things."""
    claims: list[tuple[str, dict[str, Any]]] = []
    for resample, zero in (ablations[:2], ablations[2:]):
        if resample.status != "ok" or zero.status != "ok":
            continue
        for m in resample.measurements:
            if m.name == "accuracy" and m.site and clear(resample, m.site, drop) != clear(zero, m.site, drop):
                text = (
                    f"Ablation types disagree about {m.site} at the answer's position for {main}: accuracy is "
                    f"{reference(resample, 'accuracy', site=m.site)} resampled and {reference(zero, 'accuracy', site=m.site)} "
                    "zeroed, so no necessity is claimed for it alone."
                )
                both = [resample.handle, zero.handle]
                claims.append(("claim", {"kind": "effect", "text": text, "experiments": both, "confidence": 0.9}))
    return claims[:4]


def limits(where: Answer) -> str | None:
    """What the search was limited to, in words; None where the patching map failed."""
    if where.status != "ok":
        return None
    return (
        f"Limits: one prompt format family; necessity was tested at the answer's position only, and earlier positions by "
        f"patching ({where.handle}) with twins that differ in one thing."
    )


def layers_of(answer: Answer) -> list[int]:
    """The blocks that an answer measured."""
    return sorted({m.layer for m in answer.measurements if m.layer is not None})
