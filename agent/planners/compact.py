"""Tool schemas as short as they can be offered: what every turn repeats should cost little, and `help` says the rest.

Kept are names, types, choices and the first words of what a tool or argument is for; what the system prompt explains once
(task, components, among, examples ...) is not explained again. Arguments that have a default may be left out, so the strict form of
function calling, which would have each of them named in every call, is not asked for; what does not fit is answered with
what would.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

from agent.planners.base import ToolInfo

EXPLAINED = frozenset({
    "task", "tasks", "components", "among", "examples", "intervention", "interventions", "objective", "depth", "blocks", "steps",
    "prompt", "hypothesis", "finding", "limit", "descending", "order_by", "group_by", "top_k", "max_new_tokens", "max_size", "text",
    "handle", "reason", "name", "description", "prompts", "other_task", "other_among", "status", "times", "written", "keys",
    "source", "answers", "foils", "twins", "groups", "classes", "swap", "sort_by", "tool", "evidence_for", "evidence_against",
    "experiments", "words", "dimensions", "directions", "norm", "weights", "transfer", "members", "length", "page",
    "receiver", "question", "label", "program", "statement", "check", "share",
})  # fmt: skip
SENTENCE, CLAUSE = 88, 46  # characters of a tool's and of an argument's description


def compact(tool: ToolInfo) -> dict[str, Any]:
    """The function of a tool as a chat request offers it."""
    properties: Mapping[str, Any] = tool.parameters["properties"]
    return {
        "name": tool.name,
        "description": first_words(tool.description, SENTENCE),
        "parameters": {
            "type": "object",
            "properties": {name: _argument(name, p) for name, p in properties.items()},
            "required": [name for name, p in properties.items() if "anyOf" not in p],
        },
    }


def _argument(name: str, p: Mapping[str, Any]) -> dict[str, Any]:
    made = _type(p)
    said = re.sub(r"\s*\(null: .*\)$", "", p.get("description", ""))
    short = "" if name in EXPLAINED or "enum" in made else whole_clause(said, CLAUSE)
    if short:
        made["description"] = short
    return made


def _type(p: Mapping[str, Any]) -> dict[str, Any]:
    """The type alone, and choices; that null stands for a default is said by leaving it out."""
    if "anyOf" in p:
        kinds = [cast("Mapping[str, Any]", q) for q in p["anyOf"] if q.get("type") != "null"]
        return _type(kinds[0]) if len(kinds) == 1 else {"anyOf": [_type(q) for q in kinds]}
    made: dict[str, Any] = {"type": p["type"]}
    if "enum" in p:
        made["enum"] = [v for v in p["enum"] if v is not None]
    if p["type"] == "array":
        made["items"] = _type(p["items"])
    return made


def whole_clause(text: str, most: int) -> str:
    """The first sentence, or as many of its clauses as fit; nothing where not even half of that does: half a phrase misleads."""
    sentence = re.split(r"(?<=[.!?])\s|\n", text.strip(), maxsplit=1)[0]
    if len(sentence) <= most:
        return sentence
    cuts = (sentence[: most + 2].rfind(separator) for separator in ("; ", ": ", ", "))
    return next((sentence[:cut] for cut in cuts if cut > most // 2), "")


def first_words(text: str, most: int) -> str:
    """The first clauses of a text, or words, that fit."""
    return whole_clause(text, most) or text[: most + 1].rpartition(" ")[0] or text[:most]
