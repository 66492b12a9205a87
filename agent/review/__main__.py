"""`python -m agent.review [RUN]`: look at runs in a browser; `--export FILE.html`: a run as one file to send to a colleague."""

from experiments_db import interrupts

if __name__ == "__main__":
    interrupts.mind("agent.review")

import argparse
import contextlib
import gc
import socket
import sys
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """The command line of agent.review."""
    p = argparse.ArgumentParser(
        prog="python -m agent.review",
        description="Review runs in a browser: reports, timelines, hypotheses, experiments with interactive figures.",
        epilog="The server is for this machine alone, reads the database, and writes nothing.",
    )
    p.add_argument("run", nargs="?", help="open at this run: its name, a prefix, or latest; default: the list of runs")
    p.add_argument(
        "--db", type=Path, default=Path("experiments.db"), help="experiments database (default experiments.db)"
    )
    p.add_argument(
        "--out", type=Path, help="with --export: folder to write to, as OUT/RUN/FILE (default: the file as given)"
    )
    p.add_argument("--export", type=Path, metavar="FILE.html", help="write RUN (default: latest) as one file and end")
    p.add_argument(
        "--port", type=int, default=0, help="port on 127.0.0.1 (default: 8642, or a free one if it is taken)"
    )
    p.add_argument("--browser", action="store_true", help="open the page in the default browser")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """0 when stopped with Ctrl-C or exported, 2 bad input."""
    args = parser().parse_args(argv)
    from experiments_db.store import Store, StoreError

    try:
        store = Store(args.db, create=False)
        run = store.resolve_run(args.run or "latest") if args.run or args.export else None
    except StoreError as error:
        return _problem(str(error))
    if args.export is not None:
        with interrupts.working("agent.review"):
            return _export(store, str(run), args.export if args.out is None else args.out / str(run) / args.export.name)
    if not 0 <= args.port < 65536:
        return _problem(f"--port {args.port}: use a number from 1 to 65535")
    import uvicorn

    from agent.review.app import make_app
    from agent.review.texts import Links

    try:
        listening = listen(args.port)
    except OSError as error:
        return _problem(f"--port {args.port} cannot be used ({error.strerror}); name another, or none")
    url = f"http://127.0.0.1:{listening.getsockname()[1]}{Links().run(run) if run else '/'}"
    print(f"review of {args.db} at {url}  (Ctrl-C ends it)", flush=True)
    if args.browser:
        import webbrowser

        webbrowser.open(url)
    gc.collect()
    gc.freeze()  # what was imported stays, and a page makes many small records: looking through them again and again
    gc.set_threshold(100_000, 50, 50)  # made large pages several times slower
    server = uvicorn.Server(uvicorn.Config(make_app(store), log_level="warning", access_log=False, lifespan="off"))
    with (
        contextlib.suppress(KeyboardInterrupt),
        interrupts.working("agent.review"),
    ):  # uvicorn raises it again once it has shut down
        server.run(sockets=[listening])
    return 0


def listen(port: int, usual: int = 8642) -> socket.socket:
    """A socket on the loopback interface: the port asked for, else the usual one, else any free one."""
    for candidate in [port] if port else [usual, 0]:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", candidate))
            listening.listen()  # a browser that comes before the server is ready waits instead of being refused
        except OSError:
            listening.close()
            if candidate == port:
                raise
        else:
            return listening
    raise OSError("no free port")


def _export(store: object, run: str, file: Path) -> int:
    from agent.review.render import export
    from experiments_db.store import Store

    assert isinstance(store, Store)
    if not file.name or file.is_dir():
        return _problem(f"--export {file}: name a file to write, such as finding.html")
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(export(store, run), encoding="utf-8")
        part.replace(file)
    except OSError as error:
        return _problem(f"--export {file} cannot be written: {error.strerror}")
    finally:
        part.unlink(missing_ok=True)
    print(file)
    return 0


def _problem(message: str) -> int:
    print(f"agent.review: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(interrupts.ended(main()))
