"""A tool's schema as a form, and a filled-in form as the tool's arguments."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tools.methods.tool import Tool

LONG = 300  # characters beyond which a text gets several lines
Shape = Literal["choice", "yes_no", "number", "list", "long", "text"]


@dataclass(frozen=True)
class Field:
    """One field of a form. value: what stands in it; step, low, high: of a number; many: what a list's lines are."""

    name: str
    shape: Shape
    help: str
    required: bool
    value: str
    example: str
    choices: tuple[str, ...] = ()
    step: str = "any"
    low: float | None = None
    high: float | None = None
    many: str = ""


def fields_of(tool: Tool, given: Mapping[str, Any] | None = None) -> list[Field]:
    """The fields of a tool's form. given: arguments to fill in, over the defaults."""
    out: list[Field] = []
    for name, prop in tool.schema()["properties"].items():
        plain, nullable = _plain(prop)
        info = tool.args.model_fields[name]
        default = None if info.is_required() else info.default
        value = (given or {}).get(name, default)
        shape, kind = _shape(plain), plain.get("type")
        out.append(
            Field(
                name=name,
                shape=shape,
                help=info.description or "",
                required=not nullable,
                value=_text(value, shape),
                example=_text(tool.example.get(name), shape),
                choices=tuple(map(str, plain.get("enum", ()))),
                step="1" if kind == "integer" else "any",
                low=plain.get("minimum"),
                high=plain.get("maximum"),
                many=str(plain.get("items", {}).get("type", "")),
            )
        )
    return out


def _plain(prop: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A property's own type, and whether null may be given."""
    options: list[dict[str, Any]] = list(prop.get("anyOf", [dict(prop)]))
    own = [o for o in options if o.get("type") != "null"]
    return own[0], len(own) < len(options)


def _shape(plain: Mapping[str, Any]) -> Shape:
    if "enum" in plain:
        return "choice"
    match plain.get("type"):
        case "boolean":
            return "yes_no"
        case "integer" | "number":
            return "number"
        case "array":
            return "list"
        case _:
            return "long" if plain.get("maxLength", 0) > LONG else "text"


def _text(value: Any, shape: Shape) -> str:
    if value is None:
        return ""
    if shape == "list":
        return "\n".join(str(v).replace("\\", "\\\\").replace("\n", "\\n") for v in value)
    return ("yes" if value else "no") if shape == "yes_no" else str(value)


def arguments(tool: Tool, filled: Mapping[str, Any]) -> dict[str, Any]:
    """What a filled-in form asks for; what is left empty is left out. What is no number stays a text, for the tool to refuse."""
    known = {f.name: f for f in fields_of(tool)}
    found: dict[str, Any] = {}
    for name, raw in filled.items():
        text = str(raw).replace("\r\n", "\n")
        field = known.get(name)
        if field is None:
            found[name] = text  # the tool says that it has no such argument
        elif field.shape == "list":
            lines = [_unescaped(line) for line in text.split("\n") if line.strip()]
            if lines:
                found[name] = [_number(line) for line in lines] if field.many in ("number", "integer") else lines
            elif field.value:
                found[name] = []
        elif text.strip() or (field.shape in ("text", "long") and field.value):
            found[name] = _value(field, text)
    return found


def _value(field: Field, text: str) -> Any:
    match field.shape:
        case "number":
            return _number(text)
        case "yes_no":
            return text == "yes"
        case _:
            return text


def _number(text: str) -> Any:
    try:
        return json.loads(text.strip())
    except ValueError:
        return text


def _unescaped(line: str) -> str:
    r"""A line whose \n stands for a line break."""
    return line.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
