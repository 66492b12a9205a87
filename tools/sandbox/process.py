"""The sandbox as the rest of the program sees it: jobs go in, arrays that were checked come out.

The model and the prompts are handed over as files in a folder of this process; no answer, foil or label is among them.
"""

import ast
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import safetensors.numpy
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor

import tools
from tools.sandbox.confining import missing
from tools.subjects import Inputs, Subject

Function = Literal["edits", "features", "values"]
FUNCTIONS: tuple[Function, ...] = ("edits", "features", "values")
LONGEST = 20_000  # characters of code
WIDEST = 4096  # features an example
MOST_EDITS = 64
KEPT = 3  # models whose weights are kept in files
STARTING = 180.0  # seconds until the server has loaded its libraries
ENVIRONMENT = {  # all that the server is given: nothing of this process's own
    "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0",
    "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip


class SandboxError(RuntimeError):
    """Code cannot be run safely here, and why."""


class CodeError(ValueError):
    """The planner's code failed, or returned what cannot be used; the message says where and why. kind: without its words."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind or message


@dataclass(frozen=True)
class Limits:
    """What a planner's code may use. seconds: of wall clock; memory: bytes beyond what the model takes; output: bytes."""

    seconds: float = 60.0
    memory: int = 2 * 2**30
    output: int = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Rows:
    """Examples without their answers. spans: positions of each anchor, (n, k). prompt: tokens before the answer, each row."""

    inputs: Inputs
    spans: Mapping[str, Tensor]
    prompt: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Job:
    """One call of a planner's function. fitting: other examples, never those that are scored."""

    code: str
    function: Function
    components: Sequence[str]
    examples: Rows
    fitting: Rows
    seed: int


@dataclass(frozen=True, eq=False)
class Edited:
    """One change that the code asks for. value: a factor, or a vector, (channels,), or one for each example, (n, channels)."""

    component: str
    op: str
    value: float | NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class Returned:
    """What a function came to. rows, fitting: (n, d) for the examples and those to fit on. raw: the answer, byte for byte."""

    edits: tuple[Edited, ...] = ()
    rows: NDArray[np.float64] | None = None
    fitting: NDArray[np.float64] | None = None
    raw: bytes = field(default=b"", repr=False)


def unavailable() -> str:
    """Why code cannot be run safely on this machine; empty where it can."""
    return missing()


def function_of(code: str) -> Function:
    """Which of the functions the code defines. CodeError where it defines none, several, or is no Python."""
    if len(code) > LONGEST:
        raise CodeError(f"the code has {len(code)} characters; {LONGEST} are allowed")
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CodeError(f"the code is no Python: {error}") from None
    found = [n.name for n in body if isinstance(n, ast.FunctionDef) and n.name in FUNCTIONS]
    if len(found) != 1:
        raise CodeError(
            f"the code has to define one function, edits, features or values, of (subject, batch, components); it defines "
            f"{', '.join(found) or 'none of them'}"
        )
    return cast("Function", found[0])


class Sandbox:
    """A server for one class of model, started when it is first needed. `close` ends it, and so does the end of this process."""

    def __init__(self, limits: Limits | None = None) -> None:
        reason = unavailable()
        if reason:
            raise SandboxError(f"own experiments cannot be run safely here: {reason}")
        self.limits = limits or Limits()
        self._folder = tempfile.TemporaryDirectory(prefix="locus-code-")
        self._server: subprocess.Popen[bytes] | None = None
        self._about = ""
        self._weights: dict[str, Path] = {}

    def run(self, subject: Subject, job: Job, check: Callable[[], None] = lambda: None) -> Returned:
        """What the function returns for the job's examples on a model, checked.

        check: called now and then; what it raises ends the server. CodeError for code that fails, runs too long, takes too
        much, or returns what has the wrong shape or is not finite. SandboxError where it cannot be run at all.
        """
        told = _told(subject)
        server = self._serving(json.dumps(told), check)
        file = Path(self._folder.name) / "job.safetensors"
        _write_job(file, told, job)
        asked = {
            "job": str(file), "weights": str(self._weights_of(subject)), "seconds": self.limits.seconds,
            "memory": self.limits.memory, "output": self.limits.output,
        }  # fmt: skip
        try:
            header, body = self._asked(server, asked, check)
        except BaseException:
            self.close()
            raise
        finally:
            file.unlink(missing_ok=True)
        return _returned(job, _body_of(header, body, self.limits))

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.kill()
            self._server.communicate()
            self._server = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._folder.cleanup()

    def _serving(self, about: str, check: Callable[[], None]) -> "subprocess.Popen[bytes]":
        if self._server is not None and (self._about != about or self._server.poll() is not None):
            self.close()
        if self._server is None:
            root = str(Path(next(iter(tools.__path__))).parent)
            paths = [root, *(p for p in sys.path if p and p != root)]
            start = f"import sys; sys.path[:] = {paths!r}; from tools.sandbox.server import main; sys.exit(main(sys.argv[1]))"
            self._server = subprocess.Popen(  # noqa: S603  # this interpreter, our own code
                [sys.executable, "-I", "-c", start, about], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, env=ENVIRONMENT, cwd="/", close_fds=True, start_new_session=True,
            )  # fmt: skip
            self._about = about
            try:
                _read(self._server, STARTING, check)
            except BaseException:
                self.close()
                raise
        return self._server

    def _asked(
        self, server: "subprocess.Popen[bytes]", asked: Mapping[str, Any], check: Callable[[], None]
    ) -> tuple[dict[str, Any], bytes]:
        assert server.stdin is not None
        server.stdin.write(json.dumps(asked).encode() + b"\n")
        server.stdin.flush()
        return _read(server, STARTING + self.limits.seconds, check)

    def _weights_of(self, subject: Subject) -> Path:
        """The file with a model's weights."""
        key = f"{subject.fingerprint}/{subject.dtype}"
        if key not in self._weights:
            while len(self._weights) >= KEPT:
                self._weights.pop(next(iter(self._weights))).unlink(missing_ok=True)
            file = Path(self._folder.name) / f"weights-{time.monotonic_ns()}.safetensors"
            state: dict[str, Tensor] = subject.model.state_dict()
            safetensors.torch.save_file({k: v.detach().cpu().clone().contiguous() for k, v in state.items()}, file)
            self._weights[key] = file
        return self._weights[key]


def _told(subject: Subject) -> dict[str, Any]:
    """What the child has to know of a model: its class and configuration, and nothing by which one could tell it from others."""
    import transformers

    model = subject.model
    kind, configuration = type(model).__name__, type(model.config).__name__
    if getattr(transformers, kind, None) is not type(model):
        raise SandboxError(f"own experiments run classes of transformers alone; {subject.name} is a {kind}")
    ignored = {"_name_or_path", "name_or_path", "transformers_version"}
    values = {k: v for k, v in model.config.to_dict().items() if k not in ignored}
    return {
        "class": kind, "configuration": configuration, "values": json.loads(json.dumps(values, default=str)),
        "attention": getattr(model.config, "_attn_implementation", None), "dtype": str(subject.dtype).removeprefix("torch."),
        "processor": subject.processor, "refused": {n: dict(s.refused) for n, s in subject.stacks.items()},
    }  # fmt: skip


def _write_job(file: Path, told: Mapping[str, Any], job: Job) -> None:
    tensors: dict[str, Tensor] = {}
    said: dict[str, Any] = {
        "subject": told, "code": job.code, "function": job.function, "components": list(job.components), "seed": job.seed,
    }  # fmt: skip
    for name, rows in (("examples", job.examples), ("fitting", job.fitting)):
        tensors |= {f"{name}/inputs/{k}": v for k, v in rows.inputs.fields.items()}
        tensors |= {f"{name}/spans/{k}": v for k, v in rows.spans.items()}
        said[name] = {"lengths": list(rows.inputs.lengths), "prompt": list(rows.prompt)}
    kept = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
    safetensors.torch.save_file(kept, file, metadata={"job": json.dumps(said)})


def _read(server: "subprocess.Popen[bytes]", seconds: float, check: Callable[[], None]) -> tuple[dict[str, Any], bytes]:
    """The server's next answer: a line of JSON, and as many bytes as it says."""
    assert server.stdout is not None
    out, got, until = server.stdout.fileno(), bytearray(), time.monotonic() + seconds
    header: dict[str, Any] | None = None
    while header is None or len(got) < header.get("size", 0):
        check()
        if time.monotonic() > until:
            raise SandboxError("the process that runs own experiments does not answer")
        if not select.select([out], [], [], 0.2)[0]:
            continue
        part = os.read(out, 1 << 16)
        if not part:
            raise SandboxError(
                "the process that runs own experiments has ended: is there memory for the model a second time?"
            )
        got += part
        if header is None and b"\n" in got:
            line, _, rest = bytes(got).partition(b"\n")
            header, got = json.loads(line), bytearray(rest)
    return header, bytes(got)


def _body_of(header: Mapping[str, Any], body: bytes, limits: Limits) -> bytes:
    """What the child wrote, where it came to its end."""
    end = str(header.get("end", ""))
    if not header.get("begun"):
        raise SandboxError(
            f"the model could not be prepared for own experiments here: {end or body.decode(errors='replace')}"
        )
    words = {
        "too long": f"the code ran longer than {limits.seconds:g} seconds",
        "too large": f"the code returned more than {limits.output} bytes",
        "signal 24": f"the code ran longer than {limits.seconds:g} seconds",
        "signal 9": "the code was killed: it took more memory than there is",
    }
    if end:
        raise CodeError(words.get(end, f"the code ended its process ({end})"))
    if not body:
        raise CodeError("the code ended its process without an answer")
    return body


def _returned(job: Job, body: bytes) -> Returned:
    """The child's answer, checked: it may be anything at all."""
    line, _, rest = body.partition(b"\n")
    try:
        header = json.loads(line)
        arrays: dict[str, NDArray[Any]] = dict(safetensors.numpy.load(rest)) if rest else {}
        if not isinstance(header, dict):
            raise TypeError("no object")
        header = cast("dict[str, Any]", header)
    except Exception as error:  # noqa: BLE001  # bytes of a process that is not trusted
        raise CodeError(f"the code's process answered with what is no answer ({type(error).__name__})") from None
    if "error" in header:
        raise _code_error(header["error"])
    if not all(a.dtype.name in ("float32", "float64") and np.isfinite(a).all() for a in arrays.values()):
        raise CodeError(f"{job.function} returned numbers that are not finite")
    n, fit = job.examples.inputs.size, job.fitting.inputs.size
    if job.function == "edits":
        try:
            return Returned(edits=_edits(header.get("edits"), arrays, n), raw=body)
        except (AttributeError, TypeError, OverflowError) as error:
            raise CodeError(f"edits has to return a list of edits ({type(error).__name__})") from None
    rows, fitting = (_table(arrays.get(k), k, m, job.function) for k, m in (("examples", n), ("fitting", fit)))
    if rows.shape[1] != fitting.shape[1]:
        raise CodeError(
            f"{job.function} returned {rows.shape[1]} columns for some examples and {fitting.shape[1]} for others"
        )
    return Returned(rows=rows, fitting=fitting, raw=body)


def _code_error(said: Any) -> CodeError:
    told: dict[str, Any] = cast("dict[str, Any]", said) if isinstance(said, dict) else {}
    at = f"line {told['line']}: " if isinstance(told.get("line"), int) else ""
    kind = str(told.get("type", "an error"))[:60]
    return CodeError(f"{at}{kind}: {str(told.get('message', ''))[:300]}", f"{at}{kind}")


def _table(found: NDArray[Any] | None, name: str, n: int, function: str) -> NDArray[np.float64]:
    """(n, d) of one batch."""
    wanted = f"({n},)" if function == "values" else f"({n}, d) with d from 1 to {WIDEST}"
    shape = None if found is None else found.shape
    if (
        found is None
        or found.ndim != (1 if function == "values" else 2)
        or len(found) != n
        or not 0 < found[0].size <= WIDEST
    ):
        raise CodeError(f"{function} has to return an array of shape {wanted} for {name}, not {shape}")
    return found.reshape(n, -1).astype(np.float64)


def _edits(listed: Any, arrays: Mapping[str, NDArray[Any]], n: int) -> tuple[Edited, ...]:
    if not isinstance(listed, list) or not 0 < len(cast("list[Any]", listed)) <= MOST_EDITS:
        raise CodeError(f"edits has to return a list of 1 to {MOST_EDITS} edits")
    made: list[Edited] = []
    for i, e in enumerate(cast("list[dict[str, Any]]", listed)):
        value = e.get("value")
        if isinstance(value, str):
            value = arrays.get(value)
            if value is None or not (value.ndim == 1 or (value.ndim == 2 and len(value) == n)) or not value.size:
                shape = None if value is None else value.shape
                raise CodeError(f"edit {i}: a value is a number, (channels,) or ({n}, channels), not {shape}")
            value = value.astype(np.float32)
        elif value is not None and (isinstance(value, bool) or not abs(float(value)) < float("inf")):
            raise CodeError(f"edit {i}: {value} is no finite number")
        made.append(Edited(str(e.get("component", ""))[:200], str(e.get("op", ""))[:20], value))
    return tuple(made)
