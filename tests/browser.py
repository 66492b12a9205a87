"""Headless Chromium and a review server for the tests that click through pages."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from findings_made import typical
from hostile import hostile_run

from agent.review.__main__ import listen
from agent.review.app import make_app
from experiments_db.store import Store

CURATED = Path(__file__).parent.parent / "transcripts" / "curated" / "experiments.db"

CHROMIUM = os.environ.get("CHROMIUM") or next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


def curated_and_hostile(folder: Path) -> Store:
    """A copy of the curated runs, with a hostile one beside them, and one with findings of every fate."""
    shutil.copy(CURATED, folder / "e.db")
    made = Store(folder / "e.db")
    hostile_run(made, "hostile")
    typical(made)
    return made


@contextmanager
def serving(store) -> Iterator[str]:
    """The address of a review server over a store, in a thread."""
    with serving_app(lambda _: make_app(store)) as url:
        yield url


@contextmanager
def serving_app(make) -> Iterator[str]:
    """The address of a server in a thread; `make` gives its application for a port."""
    listening = listen(0)
    app = make(listening.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def chromium():
    """A headless browser, or a skipped test that says why."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install Debian's chromium, or set CHROMIUM to its path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
