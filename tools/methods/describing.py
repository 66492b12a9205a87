"""A tool in words: what it is for, its arguments with types and defaults, an example call."""

import json
from collections.abc import Mapping
from typing import Any

from tools.methods.tool import Tool


def describe(tool: Tool) -> str:
    """A tool's description, its arguments with types and defaults, and an example call."""
    lines = [f"{tool.name} ({tool.kind})", "", tool.description, "", "arguments:"]
    for name, prop in tool.schema()["properties"].items():
        lines.append(f"  {name}: {type_words(prop)}. {prop.get('description', '')}")
    example = json.dumps(tool.example, ensure_ascii=False)
    return "\n".join([*lines, "", f"example: python -m tools {tool.name} '{example}'"])


def type_words(prop: Mapping[str, Any]) -> str:
    """A JSON schema type in words."""
    if "anyOf" in prop:
        return " or ".join(type_words(p) for p in prop["anyOf"] if p.get("type") != "null")
    if "enum" in prop:
        return ", ".join(f"`{v}`" for v in prop["enum"])
    if prop.get("type") == "array":
        return f"list of {type_words(prop.get('items', {}))}"
    return str(prop.get("type", "any"))
