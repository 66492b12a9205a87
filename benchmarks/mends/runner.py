"""Run tests of a tree in a process of its own that begins with the libraries already loaded: they take longer than the tests."""

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

OURS = ("agent", "benchmarks", "experiments_db", "tests", "tools")
HEAVY = (
    "numpy", "pandas", "torch", "transformers", "scipy.stats", "scipy.optimize", "sklearn.linear_model", "sklearn.pipeline",
    "sklearn.neural_network", "statsmodels.stats.multitest", "sqlite_utils", "pydantic", "jinja2", "hypothesis", "pytest",
    "tokenizers", "safetensors.torch", "transformers.masking_utils", "transformers.modeling_utils",
    "transformers.models.gpt2.modeling_gpt2", "transformers.models.llama.modeling_llama",
    "transformers.models.gpt_neox.modeling_gpt_neox", "starlette.applications", "openai",
)  # fmt: skip
NO_FAILURE = ("SyntaxError", "ImportError", "ModuleNotFoundError", "NameError", "IndentationError")


@dataclass
class Ran:
    """What a session came to. outcomes: by test, passed or failed; why: the last line of each failure; broken: what kept tests
    from running at all; seconds: by test.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, test: str) -> str:
        """red, green, or broken, of a test with all its cases."""
        mine = {k: v for k, v in self.outcomes.items() if k == test or k.startswith(test + "[")}
        failed = [k for k, v in mine.items() if v == "failed"]
        if self.broken or not mine or any(self.why[k].startswith(NO_FAILURE) for k in failed):
            return "broken"
        return "red" if failed else "green"

    def reason(self, test: str) -> str:
        """Why a test of these failed, or did not run."""
        return next((v for k, v in self.why.items() if k.startswith(test)), "; ".join(self.broken) or "it was not run")

    def cost(self, test: str) -> float:
        """Seconds of a test with all its cases."""
        return sum(v for k, v in self.seconds.items() if k == test or k.startswith(test + "["))


class _Watching:
    """A pytest plugin that notes what came of each test."""

    def __init__(self) -> None:
        self.ran = Ran()

    def pytest_runtest_logreport(self, report: object) -> None:
        """A phase of a test is over."""
        name, failed = report.nodeid, report.failed  # type: ignore[attr-defined]
        self.ran.seconds[name] = self.ran.seconds.get(name, 0.0) + report.duration  # type: ignore[attr-defined]
        if report.skipped:  # type: ignore[attr-defined]
            self.ran.broken.append(f"{name} was skipped")
        if failed or self.ran.outcomes.get(name) != "failed":
            self.ran.outcomes[name] = "failed" if failed else "passed"
        if failed:
            crash = getattr(report.longrepr, "reprcrash", None)  # type: ignore[attr-defined]
            said = crash.message if crash else str(report.longrepr)  # type: ignore[attr-defined]
            self.ran.why[name] = " ".join(said.split())[:200]

    def pytest_collectreport(self, report: object) -> None:
        """Tests were looked for."""
        if report.failed:  # type: ignore[attr-defined]
            said = str(report.longrepr).strip().splitlines()[-1:]  # type: ignore[attr-defined]
            self.ran.broken.append(f"{report.nodeid} cannot be read: {' '.join(said)[:200]}")  # type: ignore[attr-defined]


def load() -> None:
    """Import what tests need and what is none of ours."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def run(tree: Path, tests: Sequence[str], log: Path) -> Ran:
    """Run tests of a tree; `load` was called before. log: where pytest writes."""
    answer = log.with_suffix(".json")
    answer.unlink(missing_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            _child(tree, tests, log, answer)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    if not answer.exists():
        return Ran(broken=["the session died"])
    return Ran(**json.loads(answer.read_text(encoding="utf-8")))


def _child(tree: Path, tests: Sequence[str], log: Path, answer: Path) -> None:
    """In the new process: forget where our own code lay, and run pytest in the tree."""
    import pytest

    to = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(to, 1)
    os.dup2(to, 2)
    os.chdir(tree)
    here = Path(__file__).parents[2].resolve()
    sys.path = [str(tree), *(p for p in sys.path if p and Path(p).resolve() != here)]
    for name in [n for n in sys.modules if n.partition(".")[0] in OURS]:
        del sys.modules[name]
    watching = _Watching()
    # Without the checks of array shapes that pytest is configured with: they cost as much as the tests, and are not what is shown.
    quick = ["-q", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:playwright", "-p", "no:warnings", "--tb=short"]
    pytest.main([*quick, *tests], plugins=[watching])
    strays = {m for m in sys.modules if m.partition(".")[0] in OURS[:-2] and not _inside(m, tree)}
    watching.ran.broken += [f"{m} was read from elsewhere" for m in sorted(strays)[:1]]
    answer.write_text(json.dumps(asdict(watching.ran)), encoding="utf-8")


def _inside(module: str, tree: Path) -> bool:
    file = getattr(sys.modules[module], "__file__", None)
    return file is None or Path(file).resolve().is_relative_to(tree.resolve())
