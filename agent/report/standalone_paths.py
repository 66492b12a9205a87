"""What is put into `standalone.py` for findings about the way from one component straight into another."""

import sys
from itertools import pairwise
from typing import Any

from agent.report.standalone import DATA, MORE, Change, Model, Place, changed, margin, means, objective

# -- from here on the text is part of the script -----------------------------------------------------------------------


ORDER = {"attn": 0, "cross": 1, "mlp": 2}  # of what a block writes


def sent(model: Model, q: Any) -> list[float]:
    """How far the objective falls, or whether an example goes over to the foil, with what a changed first node sends along a path
    put into its last one, all else as it was.
    """
    mean = means(model, [d["place"] for d in q["edits"] if d["how"] == "mean"], DATA["examples"])
    out: list[float] = []
    for e in DATA["examples"]:
        intact = model.run(e["ids"])[0]
        edited = model.run(e["ids"], along(model, e, q["path"], changed(model, e, q["edits"], mean)))[0]
        if q["flips"]:
            out.append(float(margin(edited, e) < 0) - float(margin(intact, e) < 0))
        else:
            out.append(objective(intact, e, DATA["objective"]) - objective(edited, e, DATA["objective"]))
    return out


def along(model: Model, e: Any, path: list[Place], changes: list[Change]) -> list[Change]:
    """What arrives at the end of a path: each node is computed with all that lies between it and the one before held as it was."""
    every: list[Place] = [
        {"stack": stack, "block": b, "part": part, "units": [], "anchor": "all"}
        for stack in dict.fromkeys(stack_of(model, p) for p in path)
        for b in range(len(model.blocks(stack)))
        for part in ("attn.out", *(["cross.out"] if "cross_out" in model.stacks[stack] else []), "mlp.out")
    ]
    clean = model.run(e["ids"], read=every)[1]
    for a, b in pairwise(path):
        held: list[Change] = [
            (p, list(range(len(value))), value)
            for p, value in zip(every, clean, strict=True)
            if between(model, a, p, b)
        ]
        values = model.run(e["ids"], changes + held, [b])[1][0]
        at = e["at"][b["anchor"]]
        changes = [(b, at, values[at][:, model.channels(b, values.shape[-1])])]
    return changes


def stack_of(model: Model, place: Place) -> str:
    """By name."""
    return place.get("stack", model.readout)


def between(model: Model, a: Place, p: Place, b: Place) -> bool:
    """Whether something is written after the sender, in its stack, and before the receiver, in that one's."""

    def when(place: Place) -> tuple[int, int]:
        last = place["part"] == "resid_post"  # the logits read it
        return (sys.maxsize, 0) if last else (place["block"], ORDER[place["part"].split(".")[0]])

    sender, here, receiver = (stack_of(model, x) for x in (a, p, b))
    return (
        here in (sender, receiver) and (here != sender or when(a) < when(p)) and (here != receiver or when(p) < when(b))
    )


MORE.update({"sent": sent})
