"""What the page draws of one example, and what it offers for a subject: plain data."""

import base64
from typing import Any

import numpy as np
from torch import Tensor

from experiments_db.records import Run
from tools.engine.programs import OPERATIONS as PROGRAMS
from tools.methods.one_example import Chosen
from tools.methods.opened import Opened, Said, Side, attention_of
from tools.ports import Port, Shown, port_of
from tools.subjects import Subject
from tools.tasks import Example, Signal
from tools.tasks.spans import role_words

Data = dict[str, Any]
PARTS = ("attn.out", "cross.out", "mlp.out", "block")
WORDS = {"attn.out": "attention", "cross.out": "cross-attention", "mlp.out": "MLP", "block": "whole block"}


def opened_data(subject: Subject, found: Opened) -> Data:
    """An opened example: inputs with roles, answers, lens, attention, as it is and changed."""
    port, e = port_of(subject), found.chosen.example
    sides = [found.intact, *([found.changed] if found.changed else [])]
    attention = None
    if found.attention is not None and found.intact.patterns is not None:
        stack, kind = found.attention
        blocks, heads, queries, keys = found.intact.patterns.shape
        attention = {
            "stack": stack, "keys_in": subject.spec(stack).keys_in(kind), "kind": kind.partition(".")[0], "blocks": blocks,
            "heads": heads, "queries": queries, "keys": keys,
        }  # fmt: skip
    return {
        "example": {
            "prompt": e.prompt, "right": e.target, "asked": found.chosen.asked, "task": found.chosen.task, "twin": e.twin,
            "foil": e.foil if e.twin is not None else None,
        },
        "readout": subject.readout,
        "stacks": {s.name: {"labels": s.labels, "roles": [_role(e, r) for r in s.roles]} for s in found.stacks.values()},
        "scored": list(found.encoded.scored),
        "shown": _media(port.show(subject, e)),
        "twin_shown": _media(port.show(subject, e, twin=True)) if e.twin is not None else None,
        "sides": [_side(subject, port, s, lens=found.readable) for s in sides],
        "words": list(found.changes.words),
        "attention": attention,
        "why_not": dict(found.why_not),
        "cannot": _cannot(found.chosen),
        "roles": list(e.spans),
    }  # fmt: skip


def _role(e: Example, roles: str) -> str:
    """What a position is called, by the smallest of the spans that hold it."""
    of = [r for r in roles.split("/") if r]
    return role_words(min(of, key=lambda r: e.spans[r][1] - e.spans[r][0])) if of else ""


def _side(subject: Subject, port: Port, side: Side, *, lens: bool) -> Data:
    shown = {int(i): port.answer_label(subject, int(i)) for i in side.top.flatten().unique()} if lens else {}
    return {
        "answers": [
            {
                "label": a.label, "top": [_said(s) for s in a.top], "right": _said(a.right),
                "foil": None if a.foil is None else _said(a.foil),
            }
            for a in side.answers
        ],
        "values": dict(side.values),
        "wrote": side.wrote,
        "steps": list(side.steps),
        "top": [[shown[i] for i in row] for row in side.top.tolist()] if lens else [],
        "chance": _rounded(side.chance),
        "followed": _rounded(side.followed),
        "rank": side.rank.tolist(),
        "patterns": None if side.patterns is None else _bytes(side.patterns),
        "ran": list(side.ran),
    }  # fmt: skip


def _said(s: Said) -> Data:
    return {"label": s.label, "p": s.probability, "rank": s.rank}


def _rounded(t: Tensor) -> list[list[float]]:
    return [[round(v, 7) for v in row] for row in t.tolist()]


def _bytes(weights: Tensor) -> str:
    """Shares from 0 to 1 as one byte each, in base 64."""
    return base64.b64encode((255 * weights.clamp(0, 1)).round().numpy().astype(np.uint8).tobytes()).decode()


def _media(shown: Shown | None) -> Data | None:
    if shown is None:
        return None
    media = {"picture": shown.picture, "sound": shown.sound}
    return {"words": shown.words, **{k: base64.b64encode(v).decode() for k, v in media.items() if v}}


def _cannot(chosen: Chosen) -> dict[str, str]:
    """Switches that this example has no use for, and why."""
    out: dict[str, str] = {}
    if chosen.example.twin_inputs is None:
        out["patch"] = "this example has no twin: give a second text"
    if len(chosen.sample) < 8:
        out["mean"] = out["resample"] = out["steer"] = "needs a task's examples: pick a task"
    return out


def offered(subject: Subject, run: Run | None) -> Data:
    """What the page offers: stacks with their blocks and parts, kinds of attention, programs, and what is refused, with reasons."""
    port = port_of(subject)
    stacks: list[Data] = []
    for name, spec in subject.stacks.items():
        kinds = ("block", *spec.kinds)
        heads = [(k, f"{w} head") for k, w in (("attn.z", "attention"), ("cross.z", "cross-attention")) if k in kinds]
        parts = [
            {"part": f"{k}[{h}]", "label": str(h), "words": f"{w} {h}"} for k, w in heads for h in range(spec.n_heads)
        ]
        whole = [{"part": k, "label": WORDS[k], "words": WORDS[k]} for k in PARTS if k in kinds]
        refused = [f"{k}: {why}" for k, why in spec.refused.items()]
        stacks.append(
            {
                "name": name, "blocks": len(spec.blocks), "heads": [p for p in parts if p["part"].startswith("attn")],
                "cross_heads": [p for p in parts if p["part"].startswith("cross")], "whole": whole, "refused": refused,
                "readout": name == subject.readout,
            }
        )  # fmt: skip
    missing = [k for k in ("next_token",) if k not in subject.capabilities]
    return {
        "subject": subject.name, "port": port.name, "reads": port.reads, "stacks": stacks, "attention": attention_of(subject),
        "programs": list(PROGRAMS), "missing": missing, "run": run, "answered": port.answered,
    }  # fmt: skip


def example_line(e: Any) -> Data:
    """An example in a list."""
    return {"prompt": e.prompt, "answer": e.target, "signal": any(isinstance(v, Signal) for v in e.inputs.values())}
