"""A tool in words: what it is for, its arguments with types and defaults, an example call."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any, get_args

from tools.methods.tool import Tool
from tools.tasks import Family, families, fitting, get_task


def describe(tool: Tool) -> str:
    """A tool's description, its arguments with types and defaults, and an example call."""
    lines = [f"{tool.name} ({tool.kind})", "", tool.description, "", "arguments:"]
    for name, prop in tool.schema()["properties"].items():
        lines.append(f"  {name}: {type_words(prop)}. {prop.get('description', '')}")
    example = json.dumps(tool.example, ensure_ascii=False)
    return "\n".join([*lines, "", f"example: python -m tools {tool.name} '{example}'"])


def fitted(tool: Tool, reads: Sequence[str], subject: str = "") -> Tool:
    """The tool with an example call for a model that reads such inputs: its tasks, and a label and a value that they have.

    subject: its name, which tells whether it is one that has tasks of its own.

    The tool itself where its example fits already, or where no task of the program does.
    """
    fit, example = fitting(reads, subject), dict(tool.example)
    able = [n for n in fit if tool.needs != "trees" or n == "trees"]
    named = [example[k] for k in ("task", "other_task") if k in example] + list(example.get("tasks", ()))
    families_named = [str(n).partition(":")[0] for n in named]
    if not able or all(n in fit or n not in families() for n in families_named):
        return tool
    names = cycle(able)
    for key in ("task", "other_task"):
        if key in example:
            example[key] = next(names)
    if "tasks" in example:
        several = able if len(able) > 1 else _versions(fit[able[0]])
        example["tasks"] = several[: len(example["tasks"])]
    (shown,) = get_task(example.get("task", able[0])).examples("explore", 1)
    labels = list(shown.values.items())
    if "label" in example and labels:
        example["label"], value = labels[-1]
        example |= {"value": str(value)} if "value" in example else {}
    example |= {"toward": shown.target} if "toward" in example else {}
    return replace(tool, example=example)


def _versions(family: Family) -> list[str]:
    """Specs of a family: as it is, and with each option set otherwise."""
    fields = family.options.model_fields
    other = [
        (n, v) for n, f in fields.items() for v in get_args(f.annotation) if v != f.default and v is not type(None)
    ]
    return [family.name, *(f"{family.name}:{n}={v}" for n, v in other if isinstance(v, str))]


def type_words(prop: Mapping[str, Any]) -> str:
    """A JSON schema type in words."""
    if "anyOf" in prop:
        return " or ".join(type_words(p) for p in prop["anyOf"] if p.get("type") != "null")
    if "enum" in prop:
        return ", ".join(f"`{v}`" for v in prop["enum"])
    if prop.get("type") == "array":
        return f"list of {type_words(prop.get('items', {}))}"
    return str(prop.get("type", "any"))
