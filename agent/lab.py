"""The notebook: the tools on a subject from Python, with or without a record.

    from agent.lab import Lab

    lab = Lab("demo")
    lab.tasks                                                    # what there is to ask
    found = lab.run("ablate", task="addition", components=["attn.out@answer"], intervention="zero")
    found.frame()                                                # pandas, where it is installed
    found.plot()                                                 # a Matplotlib figure
    with lab.record("notes.db", goal="where is addition done?"): # from here on as in any run: recorded, replayable
        lab.run("examine", kind="necessary", task="addition", components=["decoder.0.mlp.out@answer"])
        lab.run("predict", experiment="E1")
        lab.run("confirm")
    lab.subject                                                  # the engine's own: run, sweep, generate, sites, edits

Nothing imports torch before a `Lab` is made.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from experiments_db.records import Measurement, Outcome, Result
    from tools.subjects import Subject

ToolName = Literal[
    "ablate", "attention", "attribute", "attribute_regions", "causal_basis", "claim", "cluster", "confirm", "converse",
    "cross_dataset", "describe_subject", "examine", "experiment", "finish", "generate", "help", "hypothesis", "illustrate",
    "inference_time_intervention", "investigate", "layer_program", "lens", "list_kinds", "list_tasks", "loss", "make_task",
    "minimal_set", "mistakes", "note", "patch", "path_patch", "predict", "probe", "qk_map", "query", "recall", "relation_probe",
    "rep_similarity", "retract", "rewrite", "show_examples", "sparse_autoencoder", "steer", "structural_probe",
    "trajectory_anomaly", "tuned_lens", "user_model",
]  # fmt: skip
EXPERIMENTS = 100_000


class LabError(ValueError):
    """A call that cannot be carried out; the message says what would be valid."""


@dataclass(frozen=True)
class Found:
    """What a call came to: its text, its measurements (value, interval, n, control) and, in a record, its handle."""

    tool: str
    text: str
    result: "Result" = field(repr=False)
    handle: str | None = None

    @property
    def measurements(self) -> "tuple[Measurement, ...]":
        """Every number with its coordinates, interval, n and control."""
        return self.result.measurements

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict a measurement: quantity, value, unit, low, high, n, groups, coordinates, control and its value."""
        from experiments_db.records import COORDINATES

        used = [c for c in COORDINATES if any(c in m.coordinates for m in self.measurements)]
        return [
            {
                "quantity": m.name, "value": m.value, "unit": m.unit, "low": m.low, "high": m.high, "n": m.n, "groups": m.groups,
                **{c: m.coordinates.get(c) for c in used},
                "control": m.control.kind if m.control else None, "control_value": m.control.value if m.control else None,
            }
            for m in self.measurements
        ]  # fmt: skip

    def frame(self) -> Any:
        """The measurements as a pandas DataFrame; LabError where pandas is not installed (`rows` needs nothing)."""
        try:
            import pandas as pd  # pyright: ignore
        except ImportError:
            raise LabError("frame() needs pandas: pip install pandas; or use .rows") from None
        frame: Any = pd
        return frame.DataFrame(self.rows)

    def plot(self) -> Any:
        """The figure that a report would show (`.svg`, `.save(path)`, shown by a notebook); LabError where there is none."""
        from agent.report.boards import boards
        from agent.report.figures import figure_of
        from agent.report.plots import main_plots, plots

        found = [*boards(self.tool, {"": self.result}), *main_plots(self.tool, plots(self.tool, self.result))]
        if not found:
            raise LabError(f"{self.tool} measured nothing that a figure would show; print the result, or see .rows")
        return figure_of(self.tool, found)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.text)}</pre>"


class Lab:
    """A subject with the tools at hand.

    subject: demo, a folder, or a hub name. tasks: files of your own (JSON lines), named after the files. allow_code: offer the
    tool `experiment`, which runs code that it is given. LabError for what cannot be loaded.
    """

    def __init__(
        self, subject: str = "demo", *, tasks: Sequence[str | Path] = (), device: str = "auto", dtype: str = "float32",
        seed: int = 0, allow_code: bool = False,
    ) -> None:  # fmt: skip
        from tools.engine.threads import share_the_machine
        from tools.methods.offline import OfflineTasks
        from tools.sandbox import Sandbox, SandboxError
        from tools.subjects import SubjectError, load_subject
        from tools.tasks import TaskError

        share_the_machine()
        self.name, self.device, self.dtype, self.seed = subject, device, dtype, seed
        self.files = [Path(t) for t in tasks]
        missing = [str(f) for f in self.files if not f.is_file()]
        if missing:
            raise LabError(f"there is no file {missing[0]}")
        try:
            self.subject: Subject = load_subject(subject, device=device, dtype=dtype)
            self._tasks = OfflineTasks(self.files)
            self.sandbox = Sandbox() if allow_code else None
        except (SubjectError, SandboxError, TaskError) as error:
            raise LabError(str(error)) from None
        self._recording: _Recording | None = None

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Names of the built-in tasks and of the files'; `lab.run("list_tasks")` says more."""
        from tools.tasks import families

        return (*families(), *(f.stem for f in self.files))

    def run(self, tool: ToolName, **args: Any) -> Found:
        """Run a tool. LabError says what is wrong with the arguments, as a planner would be told.

        While a record is open the call goes through the loop of a run: it is recorded and held to the same discipline.
        Otherwise nothing is kept, and tools that need a record refuse.
        """
        if self._recording is not None:
            return self._recording.run(tool, args)
        from tools.methods.answers import with_answers
        from tools.methods.offline import Nothing
        from tools.methods.tool import Context, ToolInputError, discover
        from tools.sandbox import SandboxError
        from tools.subjects import SubjectError
        from tools.tasks import TaskError

        if tool not in discover():
            raise LabError(f"there is no tool {tool!r}; tools are {', '.join(discover())}")
        chosen = discover()[tool]
        ctx = Context(self.subject, self._tasks, Nothing(), seed=self.seed, sandbox=self.sandbox)
        try:
            outcome = with_answers(chosen, chosen.parse(args), ctx)
        except (ToolInputError, SubjectError, SandboxError, TaskError) as error:
            raise LabError(str(error)) from None
        result = _result(self.subject, outcome)
        return Found(tool, outcome.text, result)

    @contextmanager
    def record(
        self, db: str | Path = "experiments.db", goal: str = "notes", out: str | Path = "transcripts"
    ) -> "Generator[str]":
        """A run by the planner `person`: inside, every call is recorded; yields the run's name.

        When it is left the run ends and its report is written; `finish` inside states an answer first. LabError for a store or
        folder that cannot be written, and for a record inside a record.
        """
        if self._recording is not None:
            raise LabError(f"run {self._recording.name} is being recorded; leave it first")
        self._recording = _Recording(self, Path(db), goal, Path(out))
        try:
            yield self._recording.name
        finally:
            recording, self._recording = self._recording, None
            recording.end()


def _result(subject: "Subject", outcome: "Outcome") -> "Result":
    """What nobody timed, as a result."""
    from agent.loop.provenance import provenance
    from experiments_db.records import Result

    return Result(
        status=outcome.status, text=outcome.text, measurements=outcome.measurements, arrays=outcome.arrays, wall_seconds=0.0,
        peak_memory_bytes=0, provenance=provenance(subject),
    )  # fmt: skip


class _Recording:
    """A run under way that takes the notebook's calls."""

    def __init__(self, lab: Lab, db: Path, goal: str, out: Path) -> None:
        from agent.loop.by_hand import ByHand
        from agent.loop.session import InputError
        from agent.run import parser
        from experiments_db.store import Store

        args = ["--goal", goal, "--subject", lab.name, "--db", str(db), "--out", str(out), "--quiet"]
        args += ["--device", lab.device, "--dtype", lab.dtype, "--seed", str(lab.seed)]
        args += ["--max-experiments", str(EXPERIMENTS), *(part for f in lab.files for part in ("--task", str(f)))]
        args += ["--allow-code"] if lab.sandbox else []
        try:
            self.hand = ByHand.open(parser().parse_args(args))
        except InputError as error:
            raise LabError(str(error)) from None
        self.name = self.hand.name
        self.store = Store(db, create=False)  # a connection of this thread's own

    def run(self, tool: str, args: Mapping[str, Any]) -> Found:
        from experiments_db.records import Outcome

        answer = self.hand.submit(tool, args).result()
        if answer.status in ("rejected", "budget"):
            raise LabError(answer.text)
        if answer.handle and answer.handle.startswith("E"):
            result = self.store.result(self.store.experiment(self.name, answer.handle).result_id)
        else:
            result = _result(self.hand.session.subject, Outcome(text=answer.text))
        return Found(tool, answer.text, result, answer.handle)

    def end(self) -> None:
        self.hand.end()
