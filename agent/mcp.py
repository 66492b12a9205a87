"""`python -m agent.mcp --goal "..."`: the tools over the Model Context Protocol, so that any MCP client can be the researcher.

The client's calls go through the same loop as any planner's: same store, same discipline, same budgets, same report.
Over standard input and output, as MCP clients start their servers; progress goes to standard error.
"""

from experiments_db import interrupts

if __name__ == "__main__":
    interrupts.mind("agent.mcp")

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from agent.run import parser as run_parser
from agent.run import plain_problem


def parser() -> argparse.ArgumentParser:
    """The options of agent.run, but for the planner: that is the client."""
    p = run_parser()
    p.prog, p.description = (
        "python -m agent.mcp",
        "Offer the researcher's tools over the Model Context Protocol (stdio).",
    )
    p.epilog = (
        "The run ends with the client's `finish`, with a budget, or when the client goes; then its report is written."
    )
    return p


def serve(session: Any, planner: Any) -> tuple[Any, threading.Thread]:
    """(MCP server, thread that drives the run, which has begun): the client is told and offered what any planner is."""
    import mcp_types as types
    from mcp.server import Server

    from agent.loop.history import history
    from agent.planners.chat import opening, told

    def drive() -> None:
        try:
            session.investigate(out=sys.stderr)
        finally:
            exchanges, _ = history(session.record)
            planner.close(exchanges[-1].answers[-1] if exchanges and exchanges[-1].answers else None)

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=offered)

    async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        answer = await asyncio.wrap_future(planner.submit(params.name, params.arguments or {}))
        content = types.TextContent(type="text", text=told(answer))
        return types.CallToolResult(content=[content], is_error=answer.status != "ok")

    thread = threading.Thread(target=drive, name="investigation", daemon=True)
    thread.start()
    view = planner.first.result()
    offered = [
        types.Tool(name=t.name, description=t.description, input_schema=dict(t.parameters))
        for t in (view.tools if view else ())
    ]
    lines = [str(m["content"]) for m in opening(view)] if view else ["The run has ended."]
    if view and view.notebook:  # of a run that is resumed, or that branches from another
        lines.append(f"On record so far:\n{view.notebook}")
    server = Server("locus", instructions="\n".join(lines), on_list_tools=list_tools, on_call_tool=call_tool)
    return server, thread


async def _over_stdio(server: Any) -> None:
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def main(argv: Sequence[str] | None = None) -> int:
    """0 when the client has gone and the report is written, 2 bad input."""
    args = parser().parse_args(argv)
    args.planner = "mcp"
    args.null_twins = args.null_twins or 0  # the client waits for the end; --resume makes them later
    problem = plain_problem(args)
    if problem:
        print(f"agent.mcp: {problem}", file=sys.stderr)
        return 2
    if find_spec("mcp") is None:
        print("agent.mcp: the MCP SDK is not installed: pip install 'locus-agent[mcp]'", file=sys.stderr)
        return 2
    from tools.engine.threads import share_the_machine

    share_the_machine()
    from agent.loop.session import InputError, Session
    from agent.planners.external import External

    planner = External()
    with interrupts.working("agent.mcp"):
        try:
            session = Session.open(args, os.environ, planner)
        except InputError as error:
            print(f"agent.mcp: {error}", file=sys.stderr)
            return 2
        server, thread = serve(session, planner)
        try:
            asyncio.run(_over_stdio(server))
        finally:
            planner.hang_up()
            thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(interrupts.ended(main()))
