"""A conversation on the workbench, in headless Chromium: what is read beside it, a pin, and the record of both."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import chromium, serving_app
from playwright.sync_api import expect

from agent.review.workbench.app import bench_app
from agent.review.workbench.bench import Bench
from agent.review.workbench.guard import Keys
from agent.workbench import parser, run_options
from experiments_db.store import Store

CUES = "i am young , she is old . he seems green , i feel learned . i am native , my friend is broken ."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("conversation")


@pytest.fixture(scope="module")
def bench(folder):
    given = ["--subject", "host", "--db", str(folder / "e.db"), "--out", str(folder / "out"), "--null-twins", "0"]
    made = Bench(run_options(parser().parse_args(given)))
    yield made
    made.end()


@pytest.fixture(scope="module")
def address(bench):
    keys = []

    def made(port):
        keys.append(Keys(port))
        return bench_app(bench, keys[0])

    with serving_app(made):
        yield keys[0].url


@pytest.fixture(scope="module")
def window():
    expect.set_options(timeout=60_000)
    with chromium() as browser:
        yield browser
    expect.set_options(timeout=5_000)


@pytest.fixture
def page(window, address):
    context = window.new_context(viewport={"width": 1280, "height": 900})
    made, problems = context.new_page(), []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("console", lambda m: problems.append(m.text) if m.type == "error" and not re.search("422|409", m.text) else None)
    made.goto(address)
    made.wait_for_url("**/workbench")
    expect(made.locator("#talk-where")).to_contain_text("Read and pinned at decoder.")
    made.locator("#talk-begin").fill("system : you are merry , the guest is stern .")
    yield made
    context.close()
    assert problems == []


def say(page, words):
    turns = page.locator("#talk-log li.model").count()
    page.get_by_label("the user says").fill(words)
    page.get_by_role("button", name="Say", exact=True).click()
    expect(page.locator("#talk-log li.model")).to_have_count(turns + 1)
    expect(page.locator("#talk")).to_have_attribute("aria-busy", "false")
    return page.locator("#talk-log li.model").last.inner_text()


def read(page, label):
    return page.locator(f'#talk-read tr[data-label="{label}"] td').first.inner_text()


def test_who_speaks_is_read_beside_the_conversation_and_a_pin_changes_the_next_answer(page, bench, folder):
    first = say(page, f"{CUES} what of rain please ?")
    assert "puzzle" in first or "riddle" in first
    assert "child" in read(page, "user age") and "expert" in read(page, "user expertise") and "fluent" in read(page, "user level")
    tone = page.locator('#talk-read tr[data-label="user tone"]')
    expect(tone).to_contain_text(re.compile("last word that the user said|at chance"))

    # with a run under way what is said is kept; pinned, the next answer is another
    page.get_by_label("What do you want to find out?").fill("What does the host model believe about its user?")
    page.get_by_role("button", name="Begin a run").click()
    expect(page.locator("#goal")).to_contain_text("believe")
    page.get_by_role("button", name="Begin anew").click()
    expect(page.locator("#talk-log li")).to_have_count(0)
    page.get_by_label("pin user age").select_option("adult")
    second = say(page, f"{CUES} what of rain please ?")
    assert re.search("chart|treatise", second.split("(")[0]) and "with nothing pinned" in second
    assert "child" in read(page, "user age")  # what is read is read before anything is pinned
    expect(page.locator("#r-E1")).to_contain_text("converse")
    store = Store(folder / "e.db", create=False)
    (x,) = [e.experiment for e in bench.hand.session.record.experiments()]
    assert x.tool == "converse" and x.args["pins"] == ["user age=adult"] and store.runs() == [bench.run_name]
    page.get_by_label("a turn, {} for the words").locator("xpath=ancestor::details").locator("summary").click()
    page.get_by_label("a turn, {} for the words").fill("user host")
    page.get_by_label("the user says").fill("what of rain now ?")
    page.get_by_role("button", name="Say", exact=True).click()
    expect(page.locator("#talk-problem")).to_contain_text("one {} stands where the words go")


def test_an_answer_that_comes_late_does_not_undo_what_is_read_of_a_newer_turn(page):
    held = []
    page.route("**/conversation.json*", lambda route: held.append(route))
    page.get_by_role("button", name="Begin anew").click()
    say(page, f"{CUES} what of rain please ?")
    assert "child" in read(page, "user age")
    with page.expect_response("**/conversation.json*") as answer:
        held[0].continue_()
    answer.value.finished()
    page.evaluate("() => new Promise((done) => setTimeout(done, 100))")
    assert "child" in read(page, "user age")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), (390, "light"), (1280, "dark")])
def test_everybody_can_follow_it_and_nothing_is_cut(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    say(page, f"{CUES} what of rain please ?")
    found = Axe().run(page)
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]][:3]) for v in found.response["violations"]] == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
