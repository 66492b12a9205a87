"""`locus COMMAND ...`, or `python -m agent COMMAND ...`: every command line of the project under one name."""

import sys
from collections.abc import Sequence
from importlib import import_module

from experiments_db import interrupts

COMMANDS = {
    "run": ("agent.run", "investigate a question and write a report"),
    "workbench": ("agent.workbench", "try things on a model by hand, in a browser"),
    "review": ("agent.review.__main__", "look at runs in a browser"),
    "report": ("agent.report.__main__", "write a run's report again from the database, or check it"),
    "replay": ("agent.replay", "run a run's experiments again and compare"),
    "mcp": ("agent.mcp", "serve the tools to a client of the Model Context Protocol"),
    "doctor": ("agent.doctor", "check what a run needs"),
    "tools": ("tools.__main__", "list the tools, describe one, or run one"),
    "db": ("experiments_db.__main__", "verify, export and import databases"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command's own exit status; 2 where there is no such command."""
    args = list(sys.argv[1:] if argv is None else argv)
    name, rest = (args[0], args[1:]) if args else ("--help", [])
    if name in ("-h", "--help"):
        print("usage: locus COMMAND [...]\n")
        for command, (module, words) in COMMANDS.items():
            print(f"  {command:9} {words} (python -m {module.removesuffix('.__main__')})")
        print("\n`locus COMMAND --help` says more.")
        return 0
    if name not in COMMANDS:
        print(f"locus: there is no command {name!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return int(import_module(COMMANDS[name][0]).main(rest) or 0)


def program() -> int:
    """`main` as a process of its own."""
    interrupts.mind("locus")
    return interrupts.ended(main())


if __name__ == "__main__":
    sys.exit(program())
