"""The process that planners' code is run from: it loads the libraries once, and forks for each job a child that confines itself.

Started by `tools.sandbox.process` with what it tells of a model, as JSON. It reads one line of JSON a job from its standard input
and answers with a line of JSON and the child's bytes. The jobs themselves are files that only the child reads, so that nothing
of an earlier one is in a later one's memory. It ends when its standard input is closed.
"""

import importlib
import json
import os
import select
import signal
import sys
import time
from typing import Any

from tools.sandbox.confining import bindings

LIBRARIES = (
    "collections", "dataclasses", "functools", "heapq", "itertools", "math", "numpy", "numpy.fft", "numpy.linalg", "numpy.random",
    "random", "re", "scipy.linalg", "scipy.special", "statistics", "string", "torch", "torch.nn.functional", "typing",
)  # fmt: skip
LOADING = 120.0  # seconds that our own part of a job may take


def main(told: str) -> int:
    """Serve until the input ends. told: the class and the configuration of the models that jobs are about."""
    for library in LIBRARIES:
        importlib.import_module(library)
    import torch

    torch.set_num_threads(1)
    from tools.sandbox.running import warm

    warm(json.loads(told))
    bindings()
    _say({"ready": True})
    while (line := _line()) is not None:
        _answer(json.loads(line))
    return 0


def _answer(asked: dict[str, Any]) -> None:
    """Fork, watch and say how it ended, with what the child wrote."""
    r, w = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(r)
            from tools.sandbox.running import run

            run(asked, w)
        finally:
            os._exit(1)
    os.close(w)
    end, written = "", bytearray()
    until, first = time.monotonic() + LOADING, b""
    while not end:
        ready, _, _ = select.select([r, 0], [], [], max(0.0, until - time.monotonic()))
        if r in ready:
            part = os.read(r, 1 << 16)
            if not part:
                break
            if not first:  # `.` says that the planner's code begins
                first, part, until = part[:1], part[1:], time.monotonic() + asked["seconds"]
            written += part
            end = "too large" if len(written) > asked["output"] else ""
        elif 0 in ready:
            end = "left"  # nobody waits for it any more
        elif time.monotonic() >= until:
            end = "too long" if first else "not loaded"
    os.close(r)
    if end:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if end == "left":
        os._exit(0)
    if not end and os.WIFSIGNALED(status):
        end = f"signal {os.WTERMSIG(status)}"
    if end:
        written.clear()
    _say({"end": end, "begun": first == b".", "size": len(written)}, bytes(written))


def _line() -> bytes | None:
    """The next line of the input, read byte by byte so that nothing waits in a buffer that is forked."""
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line) if byte else None


def _say(header: dict[str, Any], body: bytes = b"") -> None:
    data = memoryview(json.dumps(header).encode() + b"\n" + body)
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
