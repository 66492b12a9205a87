"""`python -m tools`: list the tools, describe one, or run one on a subject without a database."""

from experiments_db import interrupts

if __name__ == "__main__":
    interrupts.mind("tools")

import argparse
import ast
import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tools.methods.tool import Tool


def main(argv: Sequence[str] | None = None) -> int:
    """0 an answer was printed, 2 bad input."""
    p = argparse.ArgumentParser(prog="python -m tools", description="List the tools, describe one, or run one.")
    p.add_argument("name", nargs="?", help="a tool; without one, all are listed")
    p.add_argument("arguments", nargs="?", help='its arguments as JSON, for example \'{"tasks": ["addition"]}\'')
    p.add_argument("--subject", default="demo", help="demo, a folder, or a hub name")
    p.add_argument("--task", type=Path, action="append", default=[], metavar="FILE.jsonl", help="a task of your own")
    p.add_argument("--device", default="auto")
    p.add_argument("--dtype", default="float32")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--allow-code", action="store_true", help="let the tool experiment run the code it is given")
    p.add_argument("--json", action="store_true", help="print the measurements, one JSON object a line")
    p.add_argument("--docs", action="store_true", help="print the table of all tools as markdown")
    args = p.parse_args(argv)
    listed = headlines()
    asked: str = args.name or ""
    if not asked and not args.docs:
        width = max(map(len, listed))
        print("\n".join(f"{name:{width}}  {line}" for name, line in listed.items()))
        return 0
    if not args.docs and asked not in listed:
        near = difflib.get_close_matches(asked, listed, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        print(f"tools: there is no tool {asked!r}{hint}; tools are {', '.join(listed)}", file=sys.stderr)
        return 2
    from tools.engine.threads import share_the_machine

    share_the_machine()
    from tools.methods.describing import describe
    from tools.methods.tool import ToolInputError, discover
    from tools.sandbox import SandboxError
    from tools.subjects import SubjectError
    from tools.tasks import TaskError

    tools = discover()
    if args.docs:
        print(docs(tools), end="")
        return 0
    try:
        tool = tools[asked]
        if args.arguments is None:
            print(describe(tool))
            return 0
        return _run(tool, args)
    except (ToolInputError, SubjectError, SandboxError, TaskError) as error:
        print(f"tools: {error}", file=sys.stderr)
        return 2


def headlines() -> dict[str, str]:
    """Every tool's name with the first paragraph of what it says, read from the files without running them."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = " ".join(doc.split("\n\n")[0].split())
    return found


def _run(tool: "Tool", args: argparse.Namespace) -> int:
    """Run a tool on a subject and print what it answers."""
    from experiments_db.reading import read_json
    from tools.methods.offline import Nothing, OfflineTasks
    from tools.methods.tool import Context, ToolInputError
    from tools.sandbox import Sandbox
    from tools.subjects import load_subject

    try:
        given: Any = read_json(args.arguments)
    except json.JSONDecodeError as error:
        raise ToolInputError(f"the arguments are not JSON: {error.msg} at character {error.pos}") from None
    except ValueError as error:
        raise ToolInputError(f"the arguments are not JSON that can be read: {error}") from None
    if not isinstance(given, dict):
        raise ToolInputError("the arguments must be a JSON object")
    parsed = tool.parse(given)
    subject = load_subject(args.subject, device=args.device, dtype=args.dtype)
    sandbox = Sandbox() if args.allow_code else None
    outcome = tool.run(parsed, Context(subject, OfflineTasks(args.task), Nothing(), seed=args.seed, sandbox=sandbox))
    if args.json:
        print("\n".join(m.model_dump_json(exclude_none=True) for m in outcome.measurements))
    else:
        print(outcome.text)
    return 0


def docs(tools: Mapping[str, "Tool"]) -> str:
    """The table of all tools as markdown."""
    from tools.methods.describing import type_words

    lines = ["# Tools", "", "Made by `python -m tools --docs`; one file a tool in `tools/`.", ""]
    for tool in tools.values():
        lines += [f"## {tool.name}", "", tool.description.replace("\n", "\n\n"), ""]
        properties = tool.schema()["properties"]
        if properties:
            lines += ["| argument | type | what it says |", "|---|---|---|"]
            for name, prop in properties.items():
                words = prop.get("description", "").replace("|", "\\|")
                lines.append(f"| `{name}` | {type_words(prop)} | {words} |")
            lines.append("")
        lines += [f"```sh\npython -m tools {tool.name} '{json.dumps(tool.example, ensure_ascii=False)}'\n```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(interrupts.ended(main()))
