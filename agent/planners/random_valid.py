"""Calls drawn at random from what the schemas allow: a planner that knows nothing, as a baseline and to try the tools out.

What it draws depends on the seed and on how many turns there have been, so that a resumed run goes on as it would have.
"""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from agent.planners.base import ToolCall, ToolInfo, Turn, View

TASKS = ("addition", "agreement", "copying", "indirect_object", "facts", "key_value")
TEXTS = ("The keys to the cabinet", " is", " are", "3 + 4 =", "It may be so.")
SITES = ("resid_pre", "resid_post", "attn.out", "mlp.out", "attn.z")
SMALL = 6
CALLS = 8  # a turn, since many that the schema allows make no sense


class RandomValid:
    """Draws a tool and valid arguments for it; never finishes by itself."""

    knows_price = True

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.name = f"random_valid:{seed}"

    async def propose(self, view: View) -> Turn:
        """Random calls."""
        turn = len(view.exchanges)
        rng = random.Random(f"{self.seed} {turn}")
        known = _Known.of(view)
        tools = [rng.choice([t for t in view.tools if t.name != "finish"]) for _ in range(CALLS)]
        calls = [ToolCall(f"r{turn}.{i}", t.name, json.dumps(arguments(t, rng, known))) for i, t in enumerate(tools)]
        return Turn(tuple(calls))


class _Known:
    """Names that texts in arguments can refer to."""

    def __init__(self, tasks: Sequence[str], handles: Mapping[str, Sequence[str]], metrics: Sequence[str]) -> None:
        self.tasks, self.handles, self.metrics = tasks, handles, metrics

    @classmethod
    def of(cls, view: View) -> "_Known":
        answers = [a for e in view.exchanges for a in e.answers]
        handles: dict[str, list[str]] = {}
        for a in answers:
            if a.handle:
                handles.setdefault(a.handle[0], []).append(a.handle)
        return cls(view.tasks or TASKS, handles, [m.key for a in answers for m in a.measurements])


def arguments(tool: ToolInfo, rng: random.Random, known: _Known) -> dict[str, Any]:
    """Arguments that the tool's schema allows."""
    return {n: _draw(n, s, rng, known) for n, s in tool.parameters["properties"].items()}


def _draw(name: str, schema: Mapping[str, Any], rng: random.Random, known: _Known) -> Any:
    if "anyOf" in schema:
        options: list[Mapping[str, Any]] = schema["anyOf"]
        nullable = any(o.get("type") == "null" for o in options)
        if nullable and rng.random() < 0.5:
            return None
        return _draw(name, rng.choice([o for o in options if o.get("type") != "null"]), rng, known)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    match schema.get("type"):
        case "integer":
            low = int(schema.get("minimum", schema.get("exclusiveMinimum", 0)))
            return rng.randint(low, min(int(schema.get("maximum", low + 2 * SMALL)), low + 2 * SMALL))
        case "number":
            low, high = float(schema.get("minimum", 0.0)), float(schema.get("maximum", 1.0))
            return round(rng.uniform(low, high), 3)
        case "boolean":
            return rng.random() < 0.5
        case "array":
            low = int(schema.get("minItems", 0))
            count = rng.randint(low, max(low, min(int(schema.get("maxItems", 3)), 3)))
            return [_draw(name.rstrip("s"), schema["items"], rng, known) for _ in range(count)]
        case "object":
            properties: Mapping[str, Any] = schema.get("properties", {})
            return {n: _draw(n, s, rng, known) for n, s in properties.items()}
        case _:
            return _text(name, schema, rng, known)


def _text(name: str, schema: Mapping[str, Any], rng: random.Random, known: _Known) -> str:
    """A string that fits what the argument is called."""
    of_kind = {"experiment": "E", "evidence_for": "E", "evidence_against": "E", "hypothesis": "H"}
    if name in of_kind:
        return rng.choice(known.handles.get(of_kind[name]) or [of_kind[name] + "1"])
    if name == "handle":
        return rng.choice([h for many in known.handles.values() for h in many] or ["E1"])
    match name:
        case "task" | "normal" | "anomalou":
            return rng.choice(list(known.tasks))
        case "metric":
            metric = rng.choice(list(known.metrics) or ["accuracy[task=addition, split=explore]"])
            return metric.replace("split=explore", "split=confirm") if rng.random() < 0.5 else metric
        case "site":
            return rng.choice(SITES) if rng.random() < 0.5 else f"decoder.{rng.randint(0, SMALL)}.{rng.choice(SITES)}"
        case "member":
            return f"{rng.randint(0, SMALL)}.{rng.choice(('attn', 'mlp', 'head.0'))}"
        case "label":
            return rng.choice(("answer", "a", "a % 2", "prompt_length"))
        case _:
            longest = int(schema.get("maxLength", 40))
            return rng.choice(TEXTS)[:longest]
