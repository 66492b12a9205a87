"""The layout is the architecture: who may import whom, beyond what import contracts can say by pattern."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from tools.methods.similarity import cka
from tools.statistics.calibration import Bin
from tools.statistics.multiplicity import adjusted_in_round

ROOT = Path(__file__).parent.parent
TOOLS = sorted(p for p in (ROOT / "tools").glob("*.py") if not p.name.startswith("_"))
SOURCES = sorted(p for d in ("agent", "tools", "experiments_db") for p in (ROOT / d).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Names of all modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    return found


@pytest.mark.parametrize("path", TOOLS, ids=lambda p: p.stem)
def test_a_tool_file_imports_no_other_tool_file(path):
    others = {f"tools.{p.stem}" for p in TOOLS if p != path}
    assert not imported(path) & others


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_planners_import_an_llm_library_and_only_subjects_name_model_attributes(path):
    parts = path.relative_to(ROOT).parts
    if parts[:2] != ("agent", "planners"):
        assert not {m for m in imported(path) if m.split(".")[0] in {"openai", "tenacity"}}
    if "subjects" not in parts:
        text = path.read_text()
        assert not [a for a in ("c_proj", "self_attn", "ln_f", "embed_tokens") if a in text]


def test_shapes_are_checked_in_every_file_that_states_them():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]
    (asked,) = [o.partition("=")[2].split(",")[:-1] for o in options if o.startswith("--jaxtyping-packages=")]
    stating = {".".join(p.relative_to(ROOT).with_suffix("").parts) for p in SOURCES if "jaxtyping" in imported(p)}
    assert len(stating) > 30
    assert {m for m in stating if not any(f"{m}.".startswith(f"{a}.") for a in asked)} == set()


def test_a_wrong_shape_is_an_error(request):
    if not request.config.option.jaxtyping_packages:
        pytest.skip("the checks are switched off")
    with pytest.raises(TypeCheckError, match="similarity.cka"):
        cka(np.ones((3, 2)), np.ones((4, 2)))


def test_a_wrong_type_is_an_error_where_no_shape_is_stated_too(request):
    if not request.config.option.jaxtyping_packages:
        pytest.skip("the checks are switched off")
    with pytest.raises(BeartypeCallHintViolation, match="number"):
        adjusted_in_round([0.5], "1")
    with pytest.raises(BeartypeCallHintViolation, match="n='many'"):
        Bin("many", 0.5, 0.5)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_file_is_longer_than_it_can_be_read(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize(
    "module",
    ["agent.run", "agent.report.__main__", "agent.replay", "tools.__main__", "tools.subjects.__main__", "experiments_db.__main__"],
)
def test_command_lines_import_nothing_heavy(module):
    code = (
        f"import sys, {module}; print(sorted({{'torch', 'transformers', 'openai', 'vl_convert'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


SLOW = {"scipy.stats", "scipy.ndimage", "scipy.sparse", "scipy.cluster", "sklearn", "statsmodels", "pandas", "matplotlib"}


def at_import(tree: ast.Module) -> set[str]:
    """What a module imports as soon as it is imported: packages, modules and names, each with what it lies in."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(name.split(".")[: i + 1]) for name in found for i in range(name.count(".") + 1)}


@pytest.mark.parametrize("path", [p for p in SOURCES if "subjects" not in p.parts], ids=lambda p: str(p.relative_to(ROOT)))
def test_what_takes_long_to_import_is_imported_where_something_is_computed_with_it(path):
    assert not at_import(ast.parse(path.read_text())) & SLOW


PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
PACKAGES = ("agent", "tools", "experiments_db", "prompts")


def in_packages() -> list[Path]:
    """The files of the folders that are packages, but what Python leaves there."""
    found = (p.relative_to(ROOT) for name in PACKAGES for p in (ROOT / name).rglob("*") if p.is_file())
    return [p for p in found if "__pycache__" not in p.parts and not p.name.startswith(".")]


def test_every_folder_with_modules_is_a_package_that_is_installed():
    folders = {".".join(f.parent.parts) for f in in_packages() if f.suffix == ".py"} | {"prompts"}
    assert folders == set(PYPROJECT["packages"])


def test_every_data_file_in_a_package_is_installed_with_it():
    data = PYPROJECT["package-data"]

    def is_installed(file):
        owner = next(p for p in (".".join(d.parts) for d in file.parents) if p in PYPROJECT["packages"])
        inside = str(file.relative_to(owner.replace(".", "/")))
        return any(Path(inside).match(pattern) and inside.count("/") == pattern.count("/") for pattern in data.get(owner, ()))

    assert [str(f) for f in in_packages() if f.suffix != ".py" and not is_installed(f)] == []


TEXT_ONLY = {  # tools and methods that mean nothing but for models which continue text
    "tools/causal_basis.py", "tools/generate.py", "tools/make_task.py", "tools/trajectory_anomaly.py", "tools/tuned_lens.py",
    "tools/methods/completing.py", "tools/methods/translators.py", "tools/experiment.py", "tools/methods/own.py", "agent/report/own_code.py",
    "tools/inference_time_intervention.py", "tools/methods/truth.py", "tools/methods/telling.py",  # statements, completions
    "agent/review/workbench/conversing.py",
    "tools/user_model.py", "tools/converse.py", "tools/methods/attributes.py", "tools/methods/conversing.py",  # conversations
}  # fmt: skip
PLANNERS = r"prompts/prices|prompt_tokens|loop\.prompts|prompts_version|\"prompts\""  # of what planners read
ALLOWED = {  # file -> (words that it may use all the same, why)
    "tools/lens.py": ("prompt", "the name of an argument, for a text in place of a task"),
    "tools/mistakes.py": (r"from_prompt|e\.prompt", "a measurement on record; a text's own property"),
    "tools/methods/features.py": ("prompt_length", "a label on record"),
    "tools/methods/measuring.py": ("of the prompt's own answer", "a unit on record"),
    "agent/planners/systematic/asking.py": ("from_prompt|something out of the prompt", "notes on record, and what they count"),
    "tools/findings/null_report.py": ("(weights,|to which) prompts?", "the words of reports on record"),
    "tools/findings/null_twins.py": (r"example\.prompt", "a text's own property"),
    "tools/findings/wording.py": (r"e\.prompt", "a text's own property"),
    "agent/report/examples.py": (r"(self\.)?prompts?\b", "the key under which answers to each example are told"),
    "agent/report/evidence.py": ('"prompt"', "the same key"),
    "agent/report/opening.py": ("from the last token of the prompt on", "for runs on record that do not say where they answer"),
    "agent/doctor.py": (PLANNERS + "|tasks of prompt and answer|long prompt", "what planners read; a warning about models of text"),
    "agent/lab.py": (r"decoder\.0\.mlp", "an example of the demo"),
    "agent/run.py": (PLANNERS + '|{"prompt"', "what planners read; an example of the help"),
    "agent/workbench.py": ('{"prompt"', "an example of the help"),
    "agent/loop/goal.py": (r"decoder\.2\.mlp\.act\[37\]", "an example"),
    "agent/loop/history.py": (PLANNERS, "what planners read"),
    "agent/loop/investigate.py": (PLANNERS, "what planners read"),
    "agent/loop/literature.py": (PLANNERS, "what planners read"),
    "agent/loop/progress.py": (PLANNERS, "what planners read"),
    "agent/loop/repeating.py": (PLANNERS, "what planners read"),
    "agent/loop/session.py": (PLANNERS, "what planners read"),
    "agent/loop/task_check.py": (r"e\.prompt", "a text's own property"),
    "agent/review/workbench/views.py": (r'"prompt"|e\.prompt', "a text's own property"),
}
GENERAL = sorted(
    p for pattern in (
        "tools/*.py", "tools/methods/*.py", "tools/findings/**/*.py", "tools/statistics/*.py", "agent/report/*.py",
        "agent/planners/systematic/*.py", "agent/*.py", "agent/loop/*.py", "agent/review/**/*.py", "prompts/*.md",
    )
    for p in ROOT.glob(pattern)
    if str(p.relative_to(ROOT)) not in {*TEXT_ONLY, "agent/loop/prompts.py"}  # which is about what planners read
)  # fmt: skip


def test_no_general_file_names_a_stack_or_the_last_position_or_a_prompt():
    named = re.compile(r"\b(?:en|de)coder\.(?=[\d*])|\blast position\b(?! before)|prompt")
    files = {str(p.relative_to(ROOT)): p.read_text() for p in GENERAL}
    assert set(ALLOWED) < set(files)
    for file, (words, why) in ALLOWED.items():
        assert re.search(words, files[file]), f"{file} has no longer what is allowed: {why}"
        files[file] = re.sub(words, "", files[file])
    assert {file: found for file, text in files.items() if (found := named.findall(text))} == {}
