"""One job in its own process: build the model, give up everything, run the planner's function, write what it returned.

Nothing that comes after `confine` can be believed: whoever reads what is written here checks it.
"""

import contextlib
import json
import os
import random
import traceback
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
import transformers
from safetensors import safe_open
from torch import Tensor

from experiments_db.places import Component, parse_anchor
from tools.engine.sites import HEADED, Site, channels_of
from tools.sandbox.confining import confine
from tools.subjects import Inputs, Subject, families

FILE = "<experiment>"
TOGETHER = 2048  # positions that run at once


@dataclass(frozen=True, eq=False)
class Given:
    """The examples' inputs as a planner's function gets them, with no answer in them.

    inputs: what `subject.run` takes. fitting: other examples, to compute from what is then applied to these.
    """

    subject: Subject
    inputs: Inputs
    spans: Mapping[str, Tensor]
    before: tuple[int, ...]
    fitting: "Given | None" = None

    @property
    def n(self) -> int:
        """How many examples."""
        return self.inputs.size

    def positions(self, anchor: str) -> Tensor:
        """Token positions of an anchor (answer, -2, operand1, operand1.last), (n, k); a row with fewer repeats its last one."""
        a = parse_anchor(anchor)
        if a.position is not None:
            at = [a.position if a.position >= 0 else length + a.position for length in self.before]
            if any(not 0 <= i < length for i, length in zip(at, self.before, strict=True)):
                raise ValueError(
                    f"anchor {anchor}: the shortest has {min(self.before)} positions; a class of the examples (among) may have more"
                )
            return torch.tensor(at)[:, None]
        if a.name not in self.spans:
            raise ValueError(f"anchor {anchor}: there are {', '.join(self.spans)}, and -1, -2 ...")
        found = self.spans[a.name]
        return found[:, :1] if a.policy == "first" else found[:, -1:] if a.policy == "last" else found

    def states(self, component: "Component | str") -> Tensor:
        """What a component writes on the intact model, averaged over its positions, (n, channels) in float32."""
        c = component if isinstance(component, Component) else Component.parse(component)
        spec = self.subject.spec(c.stack)
        site = Site(spec.name, int(c.block or 0), c.part)  # type: ignore[arg-type]  # run refuses what is no site
        rows: list[Tensor] = []
        for part, inputs in self._parts():
            with torch.no_grad():
                h = self.subject.activations(inputs, [site])[site].float()
            heads = spec.n_heads if site.kind in HEADED else h.shape[-1]
            h = h[..., channels_of(c.units or None, h.shape[-1] // heads)]
            mask = torch.zeros(h.shape[:2])
            if c.anchor in ("", "all"):
                for row, length in enumerate(inputs.lengths):
                    mask[row, :length] = 1
            else:
                mask = mask.scatter(1, self.positions(c.anchor)[part], 1.0)
            rows.append((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        return torch.cat(rows)

    def _parts(self) -> Generator[tuple[slice, Inputs]]:
        step = max(1, TOGETHER // max(self.inputs.lengths))
        for at in range(0, self.n, step):
            part = slice(at, at + step)
            yield part, Inputs(self.inputs.map(lambda t, p=part: t[p]), self.inputs.lengths[part])


def run(asked: Mapping[str, Any], out: int) -> None:
    """Do a job and write its answer to an open file; the first byte says that the planner's code begins, or that it cannot."""
    try:
        job, subject, batch, components = _prepared(asked)
        confine(asked["seconds"], asked["memory"], out)
    except Exception as error:  # noqa: BLE001  # nothing has been run, and nothing will be
        os.write(out, f"!{type(error).__name__}: {error}"[:300].encode())
        os._exit(0)
    os.write(out, b".")
    try:
        header, arrays = _called(job, subject, batch, components)
    except BaseException as error:  # noqa: BLE001  # whatever the code raises is its answer
        header, arrays = {"error": _said(error)}, dict[str, np.ndarray]()
    body = safetensors.numpy.save(arrays) if arrays else b""
    data = memoryview(json.dumps(header).encode() + b"\n" + body)
    while data:
        data = data[os.write(out, data) :]
    os._exit(0)


def _prepared(asked: Mapping[str, Any]) -> tuple[dict[str, Any], Subject, Given, list[Component]]:
    """Everything that needs files."""
    with safe_open(asked["job"], framework="pt") as file:
        job = json.loads(file.metadata()["job"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # it is no dict
    subject = _subject(job["subject"], asked["weights"])
    batch = _given(subject, job, tensors)
    components = [Component.parse(c) for c in job["components"]]
    _warm(subject, batch)
    random.seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002  # the planner's code may use the old generator
    torch.manual_seed(job["seed"])
    return job, subject, batch, components


def warm(told: Mapping[str, Any]) -> None:
    """Build a model of this class once and run two tokens, so that what libraries load late is there in every child."""
    with contextlib.suppress(Exception):  # it only saves time; a child finds out for itself what cannot be
        subject = _subject(told, None)
        inputs = subject.inputs([[1, 2]])
        _warm(subject, Given(subject, inputs, {}, (2,)))


def _subject(told: Mapping[str, Any], weights: str | None) -> Subject:
    """The model of a class, a configuration and weights; where they came from is not said."""
    config = getattr(transformers, told["configuration"]).from_dict(told["values"])
    config._attn_implementation = told["attention"]
    torch.set_default_dtype(getattr(torch, told["dtype"]))
    model = getattr(transformers, told["class"])(config)
    torch.set_default_dtype(torch.float32)
    if weights is not None:
        model.load_state_dict({k: v.clone() for k, v in safetensors.torch.load_file(weights).items()})
    family = next(f for f in families() if told["class"] in f.architectures)
    made = Subject(model, None, family, name="the model", fingerprint="", processor=told["processor"])
    return made.without(told["refused"])


def _given(subject: Subject, job: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Given:
    made: Given | None = None
    for name in ("fitting", "examples"):
        told = job[name]

        def of(kind: str, name: str = name) -> dict[str, Tensor]:
            prefix = f"{name}/{kind}/"
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        inputs = Inputs(of("inputs"), tuple(told["lengths"]))
        made = Given(subject, inputs, of("spans"), tuple(told["before"]), made)
    assert made is not None
    return made


def _warm(subject: Subject, batch: Given) -> None:
    """Run one example forwards and backwards: what the libraries read lazily has to be read before files are gone."""
    one = Inputs(batch.inputs.map(lambda t: t[:1]), batch.inputs.lengths[:1])
    spec = subject.spec()
    subject.run(one, capture=[Site(spec.name, 0, kind) for kind in spec.kinds]).logits.float().sum().backward()
    subject.model.zero_grad()
    x = torch.eye(3)
    for solve in (torch.linalg.svd, torch.linalg.eigh, torch.linalg.inv, torch.linalg.qr):
        solve(x)
    np.linalg.svd(np.eye(3))


def _called(
    job: Mapping[str, Any], subject: Subject, batch: Given, components: list[Component]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the planner's function returns, as a header and arrays."""
    space: dict[str, Any] = {"__name__": "experiment", "torch": torch, "np": np}
    exec(compile(job["code"], FILE, "exec"), space)  # noqa: S102  # that is what this process is for
    function = space[job["function"]]
    if job["function"] != "edits":
        given = {"examples": batch, "fitting": batch.fitting}
        return {}, {k: _numbers(function(subject, b, components)) for k, b in given.items()}
    listed, arrays = list[dict[str, Any]](), dict[str, np.ndarray]()
    for i, edit in enumerate(function(subject, batch, components)):
        value = edit.get("value")
        if value is not None and not isinstance(value, (int, float)):
            arrays[f"value{i}"], value = _numbers(value).astype(np.float32), f"value{i}"
        listed.append({"component": str(edit["component"]), "op": str(edit["op"]), "value": value})
    return {"edits": listed}, arrays


def _numbers(value: Any) -> np.ndarray:
    found = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=np.float64)
    return np.ascontiguousarray(found)


def _said(error: BaseException) -> dict[str, Any]:
    """What went wrong, and in which line of the planner's code."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == FILE]
    at = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    return {"type": type(error).__name__, "message": str(error)[:300], "line": at}
