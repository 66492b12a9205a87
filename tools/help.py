"""What a tool is for and what each of its arguments means, in full, with an example call. Free."""

import difflib
from typing import Literal

from pydantic import Field

from experiments_db.records import Outcome
from tools.methods.describing import describe, fitted
from tools.methods.tool import Context, ToolArgs, ToolInputError, discover
from tools.ports import port_of

KIND: Literal["notebook"] = "notebook"
EXAMPLE: dict[str, object] = {"tool": "patch"}


class Args(ToolArgs):
    """Arguments of help."""

    tool: str = Field(description="a tool's name")


def run(args: Args, ctx: Context) -> Outcome:
    """Describe a tool."""
    tools = discover()
    if args.tool not in tools:
        near = difflib.get_close_matches(args.tool, tools, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ToolInputError(f"there is no tool {args.tool!r}{hint}; tools are {', '.join(tools)}")
    return Outcome(text=describe(fitted(tools[args.tool], port_of(ctx.subject).reads)))
