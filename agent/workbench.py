"""`python -m agent.workbench --subject S`: experiments by hand, in a browser on this machine."""

from experiments_db import interrupts

if __name__ == "__main__":
    interrupts.mind("agent.workbench")

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line of agent.workbench."""
    p = argparse.ArgumentParser(
        prog="python -m agent.workbench",
        description="Try things on a model by hand, in the browser: look at one example, switch parts off, run any tool.",
        epilog="The page is for this machine alone and opens with the token in its address. What is kept belongs to a run by the "
        "planner `person`, which is reported and replayed like any other.",
    )
    p.add_argument("--subject", default="demo", help="model to study: demo (default), a folder, or a hub name")
    p.add_argument("--task", type=Path, action="append", default=[], metavar="FILE.jsonl",
                   help='your own task: one {"prompt": ..., "answer": ...} a line; may be given again')  # fmt: skip
    p.add_argument("--goal", help="the question; a run begins with it at once (else when you write one on the page)")
    p.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped: its name, a prefix, or latest")
    p.add_argument(
        "--max-experiments", type=int, metavar="N", help="stop after N experiments (default: no limit that matters)"
    )
    p.add_argument("--max-minutes", type=float, metavar="M", help="stop after M minutes")
    p.add_argument(
        "--null-twins", type=int, metavar="N", help="as for agent.run: tests on nulls when the run is finished"
    )
    p.add_argument(
        "--allow-code", action="store_true", help="as for agent.run: experiments written in Python, in a sandbox"
    )
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps or auto (default)")
    p.add_argument("--dtype", help="float32 (default), bfloat16 or float16")
    p.add_argument("--seed", type=int, help="decides which examples are drawn (default 0)")
    p.add_argument(
        "--db", type=Path, default=Path("experiments.db"), help="experiments database (default experiments.db)"
    )
    p.add_argument("--out", type=Path, default=Path("transcripts"), help="folder for transcripts (default transcripts)")
    p.add_argument(
        "--port", type=int, default=0, help="port on 127.0.0.1 (default: 8643, or a free one if it is taken)"
    )
    p.add_argument("--browser", action="store_true", help="open the page in the default browser")
    return p


def run_options(args: argparse.Namespace) -> argparse.Namespace:
    """The options of agent.run that these are."""
    from agent.lab import EXPERIMENTS
    from agent.run import parser as run_parser

    given = run_parser().parse_args([])
    shared = {k: v for k, v in vars(args).items() if k in vars(given)}
    experiments = args.max_experiments if args.max_experiments is not None or args.resume else EXPERIMENTS
    return argparse.Namespace(**{**vars(given), **shared, "max_experiments": experiments, "quiet": True})


def main(argv: Sequence[str] | None = None) -> int:
    """0 when stopped with Ctrl-C, once the run's report is written; 2 bad input."""
    args = parser().parse_args(argv)
    from agent.run import plain_problem

    options = run_options(args)
    problem = plain_problem(
        argparse.Namespace(**{**vars(options), "goal": args.goal or (None if args.resume else "look around")})
    )
    if not problem and not 0 <= args.port < 65536:
        problem = f"--port {args.port}: use a number from 1 to 65535"
    if problem:
        return _problem(problem)
    print("loading …", flush=True)
    from tools.engine.threads import share_the_machine

    share_the_machine()
    from agent.loop.session import InputError, writable
    from agent.review.__main__ import listen
    from agent.review.workbench.app import bench_app
    from agent.review.workbench.bench import Bench
    from agent.review.workbench.guard import Keys
    from experiments_db.store import StoreError

    try:
        listening = listen(args.port, 8643)
    except OSError as error:
        return _problem(f"--port {args.port} cannot be used ({error.strerror}); name another, or none")
    import uvicorn

    with interrupts.working("agent.workbench"):
        try:
            writable(args.out)
            bench = Bench(options)
        except (InputError, StoreError) as error:
            return _problem(str(error))
        keys = Keys(listening.getsockname()[1])
        print(f"workbench for {bench.subject.name} at {keys.url}  (Ctrl-C ends it)", flush=True)
        if args.browser:
            import webbrowser

            webbrowser.open(keys.url)
        server = uvicorn.Server(
            uvicorn.Config(bench_app(bench, keys), log_level="warning", access_log=False, lifespan="off")
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once it has shut down
            server.run(sockets=[listening])
        if bench.hand is not None:
            bench.end()
            where = f" --db {args.db}" if str(args.db) != "experiments.db" else ""
            print(f"\nreport    {args.out / bench.hand.name / 'report.md'}")
            if bench.run is not None and bench.run.status != "finished":
                print(f"go on     python -m agent.workbench --resume {bench.hand.name}{where}")
    return 0


def _problem(message: str) -> int:
    print(f"agent.workbench: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(interrupts.ended(main()))
