"""Shared by all tests: no network, checked array shapes, and a tiny random model for every class that is supported (models_made.py).

Array shapes are checked because pytest runs with `--jaxtyping-packages=...` (and checked.py): jaxtyping hooks the imports of our
packages before this file is read.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is imported, so it has to come first
# Read by OpenMP and OpenBLAS when they are loaded, by numpy, scipy and scikit-learn as by torch, here and in the processes that tests
# start: as many tests run at once as there are processors, and threads that wait for each other's are busy waiting.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib
from pathlib import Path

import pytest

# Files whose tests run whole investigations, or train, or kill and resume: `pytest -m long` runs them, and so does naming one.
LONG = frozenset(
    f"test_{name}.py"
    for name in (
        "bad_input carried_lens claims conversation_browser faults fresh fuzz goals hostile_databases lab local_planner masked_subject mcp newcomer null_benchmark "
        "null_runs own planner_options planners_benchmark planted delegating repeat replay resume review_browser row_illusion row_maps row_othello "
        "row_regions row_speech row_translation row_trees row_truth row_user run_end_to_end workers "
        "scripts scripts_modalities soak systematic systematic_depth terminal workbench_browser"
    ).split()
)
# Those with tests or fixtures of half a minute and more, which start first: at the end no worker waits long for the other's last one.
FIRST = tuple(f"test_{name}.py" for name in "goals scripts_modalities scripts replay fuzz own planted_scoring row_trees".split())


def pytest_configure(config: pytest.Config) -> None:
    """`pytest` alone leaves the long tests out; what is asked for by name or mark runs whatever it is."""
    config.addinivalue_line("markers", "long: takes its time; run by -m long, or by name")
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if whole and not (config.option.markexpr or config.option.keyword):
        config.option.markexpr = "not long"
    if hasattr(config, "workerinput") or config.option.collectonly or getattr(config.option, "dist", "no") == "no":
        importlib.import_module("checked").checking_shapes_where_stated()  # before ours are imported
        config.pluginmanager.register(importlib.import_module("models_made"))  # where tests run, not where they are handed out


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files of long tests are not even read where they are left out."""
    return True if config.option.markexpr == "not long" and collection_path.name in LONG else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark long tests, and let those that take longest come first, each file's in their order."""
    for item in items:
        if item.path.name in LONG:
            item.add_marker(pytest.mark.long)
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))
