"""What is put into `standalone.py` for findings about a planner's own code: what the code is given, rebuilt in plain torch."""

import random
import re
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agent.report.standalone import DATA, MORE, Change, Model, Place, objective
from agent.report.standalone_states import Ridge

# -- from here on the text is part of the script -----------------------------------------------------------------------


# The planner's code, word for word. It ran in a sandbox when the finding was measured, and it would run without one here: read it.
CODE = ""  # filled in

ORDER = (
    "resid_pre",
    "attn.q",
    "attn.k",
    "attn.v",
    "attn.z",
    "attn.out",
    "resid_mid",
    "mlp.act",
    "mlp.out",
    "resid_post",
)


@dataclass(frozen=True)
class Component:
    """A place as the code is given it, and as it names one."""

    stack: str
    block: int
    part: str
    units: tuple[int, ...]
    anchor: str

    @classmethod
    def parse(cls, text: str) -> "Component":
        """From STACK.3.attn.z[2]@answer, as a finding names it."""
        found = re.fullmatch(r"(\w+)\.(\d+)\.([a-z_.]+)(?:\[([\d,]+)\])?(?:@([\w.-]+))?", text.strip())
        if found is None:
            raise ValueError(f"{text!r} is no place that this script can read or change")
        units = tuple(int(u) for u in (found[4] or "").split(",") if u)
        return cls(found[1], int(found[2]), found[3], units, found[5] or "")

    def __str__(self) -> str:
        units = f"[{','.join(map(str, self.units))}]" if self.units else ""
        return f"{self.stack}.{self.block}.{self.part}{units}" + (f"@{self.anchor}" if self.anchor else "")

    def place(self, part: str = "") -> Place:
        """What the model reads and changes."""
        if (part or self.part) not in ORDER:
            raise ValueError(f"{self}: this script reads and changes {', '.join(ORDER)}")
        return {"block": self.block, "part": part or self.part, "units": list(self.units), "anchor": self.anchor}


@dataclass(frozen=True)
class Inputs:
    """What the model is given by name, (n, ...), and how many positions each row has."""

    fields: dict[str, torch.Tensor]
    lengths: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many rows."""
        return len(self.lengths)


class Subject:
    """Of what the code is given for the model, the model itself."""

    def __init__(self, model: Model) -> None:
        self.model = model.net


class Given:
    """Examples without their answers, as the code is given them."""

    def __init__(self, model: Model, rows: Any, fitting: "Given | None" = None) -> None:
        self._model, self.fitting, self.before = model, fitting, tuple(rows["before"])
        given = {k: model.arrays[v] if isinstance(v, str) else torch.tensor(v) for k, v in rows["fields"].items()}
        self.inputs = Inputs(given, tuple(rows["lengths"]))
        self.spans = {k: torch.tensor(v) for k, v in rows["spans"].items()}
        self.n = self.inputs.size

    def positions(self, anchor: str) -> torch.Tensor:
        """Of an anchor in each row: (n, k)."""
        rows = [
            positions(anchor, b, {k: v[i].tolist() for k, v in self.spans.items()}) for i, b in enumerate(self.before)
        ]
        return torch.tensor(rows)

    def states(self, component: Any) -> torch.Tensor:
        """What a component writes, the mean over its positions: (n, channels)."""
        c, out = Component.parse(str(component)), list[torch.Tensor]()
        at = None if c.anchor in ("", "all") else self.positions(c.anchor).tolist()
        for i, n in enumerate(self.inputs.lengths):
            row = {k: v[i] if v.is_floating_point() else v[i, :n] for k, v in self.inputs.fields.items()}
            h = self._model.run(row, read=[c.place()])[1][0].float()
            h = h[:, self._model.channels(c.place(), h.shape[-1])]
            out.append((h if at is None else h[sorted(set(at[i]))]).mean(0))
        return torch.stack(out)


def positions(anchor: str, before: int, roles: dict[str, list[int]]) -> list[int]:
    """Where an anchor is in one row. before: how many positions come before the answer."""
    if re.fullmatch(r"-?\d+", anchor):
        return [int(anchor) if int(anchor) >= 0 else before + int(anchor)]
    name, _, which = anchor.partition(".")
    if name not in roles:
        raise ValueError(f"anchor {anchor}: there are {', '.join(roles)}, and -1, -2 ...")
    return roles[name][:1] if which == "first" else roles[name][-1:] if which == "last" else roles[name]


def returned(model: Model) -> Any:
    """What the planner's function gives: edits, or the numbers of the examples and of those to fit on."""
    if "--run-code" not in sys.argv:
        print("This file holds code that a planner wrote: read CODE in it, then run it again with --run-code")
        raise SystemExit(2)
    fitting = Given(model, DATA["fitting"])
    batch, components = Given(model, DATA["asked"], fitting), [Component.parse(c) for c in DATA["components"]]
    random.seed(DATA["seed"])
    np.random.seed(DATA["seed"])  # noqa: NPY002  # as where it was measured
    torch.manual_seed(DATA["seed"])
    space: dict[str, Any] = {"__name__": "experiment", "torch": torch, "np": np}
    exec(compile(CODE, "<experiment>", "exec"), space)  # noqa: S102  # with leave
    function = space[DATA["function"]]
    if DATA["function"] == "edits":
        return list(function(Subject(model), batch, components))
    found = [function(Subject(model), b, components) for b in (batch, fitting)]
    return [
        torch.as_tensor(np.asarray(v.detach() if isinstance(v, torch.Tensor) else v)).reshape(len(v), -1) for v in found
    ]


def own_edits(model: Model, q: Any) -> list[float]:
    """How far the objective of each example falls under the edits that the code returns, made one on top of the other."""
    del q
    edits: list[tuple[Component, str, str, Any]] = []
    for edit in returned(model):
        for text in str(edit["component"]).split(" + "):
            c = Component.parse(text)
            parts = ("attn.out", "mlp.out") if c.part == "block" else (c.part,)
            edits += [(c, part, str(edit["op"]), edit.get("value")) for part in parts]
    edits.sort(key=lambda e: (e[0].block, ORDER.index(e[1])))
    out: list[float] = []
    for i, e in enumerate(DATA["examples"]):
        changes: list[Change] = []
        for c, part, op, value in edits:
            place = c.place(part)
            rows = model.run(e["ids"], changes, [place])[1][0].float()
            every = list(range(len(rows)))
            at = every if c.anchor in ("", "all") else positions(c.anchor, e["before"], e["at"])
            here = rows[at][:, model.channels(place, rows.shape[-1])]
            changes.append((place, at, edited(here, op, value, i)))
        after, before = model.run(e["ids"], changes)[0], model.run(e["ids"])[0]
        out.append(objective(before, e, DATA["objective"]) - objective(after, e, DATA["objective"]))
    return out


def edited(here: torch.Tensor, op: str, value: Any, i: int) -> torch.Tensor:
    """A state, (positions, channels), after an edit of the i-th example."""
    if op == "zero":
        return torch.zeros_like(here)
    if op == "scale":
        return here * float(value)
    v = torch.as_tensor(np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)).float()
    v = v[i] if v.ndim > 1 else v
    if op == "set":
        return v.expand_as(here)
    if op == "add":
        return here + v
    v = v / v.norm().clamp(min=1e-12)  # project_out
    return here - (here @ v)[:, None] * v


def own_probe(model: Model, q: Any) -> list[float]:
    """Whether a probe reads the label of each example from the numbers that the code returns, fitted on other examples."""
    del q
    new, known = returned(model)
    read = Ridge(known, DATA["values"]).read(new)
    return [float(a == e["labels"][0]) for a, e in zip(read, DATA["examples"], strict=True)]


MORE.update({"own edits": own_edits, "own probe": own_probe})
