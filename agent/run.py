"""`python -m agent.run --goal "..."`: one investigation from question to report. Heavy imports wait until it is needed."""

from experiments_db import interrupts

if __name__ == "__main__":
    interrupts.mind("agent.run", "interrupted; nothing was begun")

import argparse
import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line of agent.run."""
    p = argparse.ArgumentParser(
        prog="python -m agent.run",
        description="Investigate a transformer: choose experiments, run them, record them, report.",
        epilog="Without OPENAI_API_KEY or OPENAI_BASE_URL the systematic planner is used; it needs no key and no network.",
    )
    p.add_argument("--goal", help='the question, for example "find where addition happens in gpt2"')
    p.add_argument(
        "--subject", help="model to study: demo, a folder, or a hub name; default: the one the goal names, or demo"
    )
    p.add_argument(
        "--planner", help="systematic, openai:MODEL, local:FOLDER_OR_ID, random_valid, or scripted:FILE.jsonl"
    )
    p.add_argument("--temperature", type=float, metavar="T", help="for an OpenAI planner (or OPENAI_TEMPERATURE)")
    p.add_argument(
        "--reasoning-effort",
        metavar="WORD",
        help="for an OpenAI planner: low, medium, high (or OPENAI_REASONING_EFFORT)",
    )
    p.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="for one request to a planner (default 180, or OPENAI_TIMEOUT)"
    )
    p.add_argument("--prices", type=Path, metavar="FILE.json", help="prices over prompts/prices.json (or LOCUS_PRICES)")
    p.add_argument("--planner-device", metavar="DEVICE", help="for a local planner: where it runs (default cpu)")
    p.add_argument("--planner-dtype", metavar="DTYPE", help="for a local planner (default: as its weights are stored)")
    p.add_argument(
        "--continue-from",
        metavar="RUN",
        help="show the planner the notes and claims of an earlier run on the same subject",
    )
    p.add_argument("--task", type=Path, action="append", default=[], metavar="FILE.jsonl",
                   help='your own task: one {"prompt": ..., "answer": ...} a line; may be given again')  # fmt: skip
    p.add_argument(
        "--notes",
        type=Path,
        metavar="FILE.md",
        help="literature notes for the planner, as data; at most 8,000 characters",
    )
    p.add_argument("--max-experiments", type=int, metavar="N", help="stop after N experiments (default 60)")
    p.add_argument("--max-minutes", type=float, metavar="M", help="stop after M minutes")
    p.add_argument("--max-tokens", type=int, metavar="N", help="stop after N planner tokens")
    p.add_argument("--max-cost", type=float, metavar="DOLLARS", help="stop after this much; needs a known price")
    p.add_argument(
        "--memory-limit",
        type=bytes_in,
        metavar="SIZE",
        help="how much of what unchanged runs gave is kept for the next experiment, for example 2GB; 0 keeps nothing (default an "
        "eighth of what is free); no result depends on it",
    )
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps or auto (default)")
    p.add_argument("--device-map", metavar="MAP", help="in place of --device, for a model too large for one: auto, or a "
                   "JSON file of modules and their devices (docs/scale.md)")  # fmt: skip
    p.add_argument("--dtype", help="float32 (default), bfloat16 or float16")
    p.add_argument("--seed", type=int, help="decides which examples are drawn (default 0)")
    p.add_argument(
        "--null-twins",
        type=int,
        metavar="N",
        help="after the run, test what it confirmed once more on N models of random weights and N times with other problems' "
        "answers (default 3 where the subject has at most 10 million parameters, else 0; 0 switches it off)",
    )
    p.add_argument(
        "--db", type=Path, default=Path("experiments.db"), help="experiments database (default experiments.db)"
    )
    p.add_argument("--out", type=Path, default=Path("transcripts"), help="folder for transcripts (default transcripts)")
    p.add_argument("--resume", metavar="RUN", help="continue a run: its name, a prefix, or latest")
    p.add_argument(
        "--from",
        dest="step",
        metavar="STEP",
        help="with --resume: begin a new run that shares RUN's record up to turn STEP (or up to the turn of an "
        "experiment, E17) and goes on under this command's --planner, --goal and budgets; 0 shares the question alone",
    )
    p.add_argument("--repeat", type=int, metavar="N", help="run the same question N times, each with another seed and on other "
                   "unseen examples, and report which findings how many runs reached; budgets are for each run")  # fmt: skip
    p.add_argument("--paraphrase", action="append", default=[], metavar="GOAL",
                   help="with --repeat: the goal in other words, for some of the runs; may be given again")  # fmt: skip
    p.add_argument("--planners", metavar="P,Q", help="with --repeat: planners that take turns, in place of --planner")
    p.add_argument(
        "--allow-code",
        action="store_true",
        help="let the planner write experiments of its own in Python; they run without files, network or other processes "
        "(docs/own-experiments.md)",
    )
    p.add_argument("--executor", choices=["local", "ray"], default="local",
                   help="where experiments are computed: in this process (default), or by Ray workers (docs/scale.md)")  # fmt: skip
    p.add_argument("--workers", type=int, metavar="N",
                   help="with --executor ray: how many (default: as many as GPUs, or processors, allow)")  # fmt: skip
    p.add_argument("--quiet", action="store_true", help="print only the conclusion and where to look")
    return p


def bytes_in(text: str) -> int:
    """The bytes of a size such as 2GB, 500MB or 0."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]b)|0", text.strip().lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 500MB or 2GB, or 0 to keep nothing")
    return int(float(found[1]) * 1000 ** (1 + "kmgt".index(found[2][0]))) if found[1] else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 a report was written, 2 bad input (one line says what would be valid), 130 interrupted.

    1 where the machine does not let it go on (a full disk, a locked or damaged database): one line says why, and how to go on.
    """
    args = parser().parse_args(argv)
    problem = plain_problem(args)
    if problem:
        print(f"agent.run: {problem}", file=sys.stderr)
        return 2
    from agent.loop.asked import InputError, before_loading

    try:
        before_loading(args, os.environ)
    except InputError as error:
        print(f"agent.run: {error}", file=sys.stderr)
        return 2
    if not args.quiet:
        print("loading …", flush=True)
    from tools.engine.threads import share_the_machine

    share_the_machine()
    from agent.loop import repeating
    from agent.loop.session import Session
    from experiments_db.store import FaultError

    session = None

    def interrupted() -> str:
        return f"interrupted{go_on(args, session.run.name if session else None)}"

    try:
        with interrupts.working("agent.run", interrupted) as minded:
            status = repeating.repeat(args, os.environ) if args.repeat is not None else None
            if args.resume is not None and args.step is None:
                status = repeating.resume(args, os.environ)
            if status is None:
                session = Session.open(args, os.environ)
                status = session.investigate()
            if minded.asked > 1 and not status:  # the first was for the null twins alone
                raise KeyboardInterrupt
            return status
    except InputError as error:
        print(f"agent.run: {error}", file=sys.stderr)
        return 2
    except (FaultError, OSError) as error:
        said = go_on(args, session.run.name if session else None, "; nothing was begun")
        print(f"agent.run: {error}{said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before or after the investigation, which minds its own
        print(f"\nagent.run: {interrupted()}", file=sys.stderr)
        return 130


def go_on(args: argparse.Namespace, run: str | None, nothing: str = " before the run began") -> str:
    """What is on record after an interrupt or a fault, and the command that goes on from there."""
    if run is None and args.repeat is None and args.resume is None:
        return nothing
    name = run or getattr(args, "group", None) or args.resume or "latest"
    where = "" if str(args.db) == "experiments.db" else f" --db {shlex.quote(str(args.db))}"
    return f"; what was done is on record. Go on: python -m agent.run --resume {name}{where}"


def plain_problem(args: argparse.Namespace) -> str | None:
    """What is wrong with the arguments, as far as can be seen without loading anything."""
    if args.resume is None and not (args.goal or "").strip():
        return 'say what to find out, for example --goal "find where addition happens" (or --resume RUN)'
    if args.step is not None and args.resume is None:
        return "--from STEP says from where in a run to go on: name the run with --resume RUN"
    if args.goal is not None and not args.goal.strip():
        return "--goal is empty: say what to find out"
    if args.resume is not None and args.step is None and args.goal:
        return "--resume RUN keeps the run's goal; to go on under another one, say from where with --from STEP"
    if args.repeat is not None and (args.resume is not None or args.repeat < 2):
        return "--repeat N runs a question N times, at least 2; --resume GROUP goes on with a group of them"
    if args.repeat is None and (args.paraphrase or args.planners):
        return "--paraphrase and --planners vary repeated runs: say how many with --repeat N"
    if args.planners and args.planner:
        return "give --planner or --planners, one of them"
    for name in ("max_experiments", "max_minutes", "max_tokens", "max_cost", "timeout"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            return f"--{name.replace('_', '-')} must be more than 0, not {value:g}"
    if args.null_twins is not None and args.null_twins < 0:
        return f"--null-twins must be 0 or more, not {args.null_twins}"
    if args.workers is not None and (args.executor != "ray" or args.workers < 1):
        return "--workers N says how many workers --executor ray has, at least 1"
    if args.executor == "ray" and importlib.util.find_spec("ray") is None:
        return "--executor ray needs Ray: pip install 'locus-agent[ray]'"
    if args.device_map and (args.device != "auto" or args.executor == "ray"):
        return "--device-map says where the model lies: leave out --device and --executor ray, whose workers have one device each"
    if args.device_map and args.device_map != "auto" and not Path(args.device_map).is_file():
        return f"--device-map {args.device_map}: there is no such file; give auto, or a JSON file of modules and their devices"
    for file in args.task:
        if not file.is_file():
            return f"--task {file}: there is no such file"
    return None


if __name__ == "__main__":
    sys.exit(interrupts.ended(main()))
