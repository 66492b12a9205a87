"""`PYTHONPATH=. python tests/pictures.py [review|workbench]`: takes docs/review.png and docs/workbench.png anew, in headless Chromium."""

import shutil
import sys
import tempfile
from pathlib import Path

from browser import CURATED, chromium, serving, serving_app

from agent.review.workbench.app import bench_app
from agent.review.workbench.bench import Bench
from agent.review.workbench.guard import Keys
from agent.workbench import parser, run_options
from experiments_db.store import Store

DOCS = Path(__file__).parent.parent / "docs"


def review() -> None:
    """A report: the question, the answer in brief, the circuit."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(CURATED, f"{folder}/e.db")
        store = Store(Path(folder) / "e.db")
        name = next(n for n in store.runs() if n.endswith("find-where-addition-happens"))
        with serving(store) as url, chromium() as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 1080}, color_scheme="light")
            page.goto(f"{url}/runs/{name}/report")
            page.wait_for_timeout(500)
            page.screenshot(path=str(DOCS / "review.png"))


def workbench() -> None:
    """The demo model adds, and one MLP has the twin's activation put in."""
    with tempfile.TemporaryDirectory() as folder:
        bench, keys = Bench(run_options(parser().parse_args(["--db", f"{folder}/e.db", "--out", f"{folder}/out"]))), []

        def made(port):
            keys.append(Keys(port))
            return bench_app(bench, keys[0])

        with serving_app(made), chromium() as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 1080}, color_scheme="light")
            page.goto(keys[0].url)
            page.wait_for_url("**/workbench")
            page.get_by_role("combobox", name="task", exact=True).select_option("addition")
            page.locator("#input", has_text="operand").wait_for()
            page.get_by_label("patch from the twin").check()
            page.get_by_role("button", name="block 0 MLP", exact=True).click()
            page.locator("#answers .column").nth(1).wait_for()
            page.mouse.move(640, 5)
            page.wait_for_timeout(500)
            page.screenshot(path=str(DOCS / "workbench.png"))


if __name__ == "__main__":
    for take in (review, workbench):
        if not sys.argv[1:] or take.__name__ in sys.argv[1:]:
            take()
