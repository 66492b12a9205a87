"""Headless Chromium at the workbench: what a person does there, to the letter."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import chromium, serving_app
from playwright.sync_api import expect

from agent.report.build import render
from agent.review.workbench.app import bench_app
from agent.review.workbench.bench import Bench
from agent.review.workbench.guard import Keys
from agent.workbench import parser, run_options
from experiments_db.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workbench")


@pytest.fixture(scope="module")
def address(folder):
    """The printed address of a workbench on the demo model."""
    given = ["--db", str(folder / "e.db"), "--out", str(folder / "out"), "--null-twins", "0"]
    bench, keys = Bench(run_options(parser().parse_args(given))), []

    def made(port):
        keys.append(Keys(port))
        return bench_app(bench, keys[0])

    with serving_app(made):
        yield keys[0].url
    bench.end()


@pytest.fixture(scope="module")
def window():
    expect.set_options(timeout=30_000)
    with chromium() as browser:
        yield browser
    expect.set_options(timeout=5_000)


@pytest.fixture
def page(window, address):
    """A page of its own that has entered; errors in its console, and dialogs, fail the test."""
    context = window.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(10_000)
    made, problems = context.new_page(), []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("dialog", lambda dialog: (problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
    made.on("console", lambda m: problems.append(m.text) if m.type == "error" and not re.search("422|409", m.text) else None)
    made.goto(address)
    made.wait_for_url("**/workbench")
    expect(made.locator("#took")).to_contain_text("ms")
    yield made
    context.close()
    assert problems == []


def choose(page, task):
    page.get_by_role("combobox", name="task", exact=True).select_option(task)
    expect(page.locator("#input")).to_contain_text("+" if task == "addition" else "")
    expect(page.locator("#eyes")).to_have_attribute("aria-busy", "false")


def answer(page, side):
    """The likeliest answer, as it is (0) or changed (1)."""
    return page.locator("#answers .column").nth(side).locator("code").first


def test_a_person_finds_by_hand_which_block_carries_the_operands_and_has_a_report_of_it(page, folder):
    choose(page, "addition")
    page.get_by_label("What do you want to find out?").fill("Which block of the demo carries the operands of addition?")
    page.get_by_role("button", name="Begin a run").click()
    expect(page.locator("#goal")).to_have_text("Which block of the demo carries the operands of addition?")

    # Looking: with the twin's activation in its place, the MLP of which block says the twin's answer?
    own, twin = re.search(r"right is “(.*?)”.*→ “(.*?)”", page.locator("#input").inner_text()).groups()
    page.get_by_label("patch from the twin").check()
    said = {}
    for block in range(6):
        part = page.get_by_role("button", name=f"block {block} MLP", exact=True)
        part.click()
        expect(part).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#answers")).to_contain_text(f"decoder.{block}.mlp.out@answer")
        said[block] = answer(page, 1).inner_text()
        if block == 0:
            page.get_by_role("button", name="Keep in the record").click()
            expect(page.locator("#r-E1")).to_contain_text("illustration")
        part.click()
        expect(page.locator("#answers .column")).to_have_count(1)
    assert own != twin and [block for block, words in said.items() if words == twin] == [0]

    # Measuring it on many examples, predicting, settling on unseen ones, claiming, finishing: by forms.
    form = page.locator("form.tool")
    page.get_by_role("button", name="Measure this on many examples").click()
    expect(form.get_by_label("kind")).to_have_value("capability")
    page.get_by_role("button", name="Run examine").click()
    expect(page.locator("#result h3")).to_contain_text("examine: E2")
    page.get_by_role("button", name="block 0 MLP", exact=True).click()
    page.get_by_role("button", name="Measure this on many examples").click()
    expect(form.get_by_label("kind")).to_have_value("carries")
    assert form.get_by_label("components").input_value() == "decoder.0.mlp.out@answer"
    form.get_by_label("examples").fill("64")
    form.get_by_label("kind").fill("carrying")
    page.get_by_role("button", name="Run examine").click()
    expect(form.get_by_role("alert")).to_contain_text("carries")
    form.get_by_label("kind").fill("carries")
    page.get_by_role("button", name="Run examine").click()
    expect(page.locator("#result h3")).to_contain_text("examine: E3")
    for finding, seen in (("F1", "E2"), ("F2", "E3")):
        page.locator(f"#r-{seen}").get_by_role("button", name="predict").click()
        page.get_by_role("button", name="Run predict").click()
        expect(page.locator(f"#r-{finding}")).to_contain_text("open")
    page.get_by_role("button", name="settle what is open").click()
    page.get_by_role("button", name="Run confirm").click()
    expect(page.locator("#r-F2")).to_contain_text("confirmed")
    page.locator("#r-F2").get_by_role("button", name="claim").click()
    page.get_by_role("button", name="Run claim").click()
    expect(page.locator("#r-F2")).to_contain_text("claimed")
    page.get_by_role("button", name="finish the run").click()
    page.locator("form.tool").get_by_label("answer").select_option("found")
    page.locator("form.tool").get_by_label("words").fill("The sum seems to be made in the first block.")
    page.get_by_role("button", name="Run finish").click()
    expect(page.locator("#spent")).to_contain_text("ask the next question", timeout=60_000)
    page.get_by_role("link", name="the report", exact=True).click()
    expect(page.locator(".verdict")).to_contain_text("The MLP of block 0 at the answer carries what decides the answer for addition")
    page.get_by_role("link", name="Workbench").click()
    page.wait_for_url("**/workbench")
    expect(page.locator("#on")).to_contain_text("patch decoder.0.mlp.out@answer")  # as it was left

    store = Store(folder / "e.db", create=False)
    (name,) = store.runs()
    assert store.run(name).planner == "person"
    text = render(store, name, None)
    assert text.splitlines()[2].startswith("**Found.**") and "MLP of block 0" in text.splitlines()[2]
    assert "Illustrations of one example each, looked at by hand, and evidence for nothing: E1." in text
    assert (folder / "out" / name / "report.md").read_text() == text


@pytest.fixture(params=[(w, s) for s in ("light", "dark") for w in (1280, 390)], ids=lambda p: f"{p[1]}-{p[0]}")
def seen(request, page):
    """The width at which the page is looked at, in a scheme of colours."""
    width, scheme = request.param
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})
    return width


def assert_usable(page, width):
    """Everybody can use what is shown, and nothing is cut."""
    found = Axe().run(page)
    assert [(v["id"], [n["html"][:120] for n in v["nodes"]][:3]) for v in found.response["violations"]] == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_everybody_can_use_it_and_nothing_is_cut(page, seen):
    choose(page, "addition")
    page.get_by_role("button", name="block 1 attention", exact=True).click()
    expect(page.locator("#answers .column")).to_have_count(2)
    page.get_by_role("button", name="examine", exact=True).click()
    page.locator("form.tool").wait_for()
    for summary in page.locator("main details > summary").all():
        summary.click()
    assert_usable(page, seen)


def test_a_task_is_checked_before_a_run(page, seen):
    choose(page, "addition")
    page.get_by_text("Check a task before a run").click()
    checked = page.locator("#checked")
    expect(page.get_by_label("task to check")).to_have_value("addition")
    expect(checked).to_contain_text("addition: 256 or more independent problems to explore")
    page.get_by_label("task to check").select_option("agreement")
    expect(checked).to_contain_text("agreement: 80 independent problems to explore")
    expect(checked).not_to_contain_text("addition")
    expect(checked.locator("[data-about=example]")).to_contain_text("'The' 'dog' 'to' 'the' 'cars' -> ' is'")
    expect(checked.locator("[data-about=forecast]")).to_contain_text("(patch), on 72 examples: about")
    expect(page.get_by_role("combobox", name="task", exact=True)).to_have_value("addition")  # what is looked at is another matter
    assert_usable(page, seen)
    assert page.evaluate("() => document.querySelector('#checked .scroll').scrollWidth <= document.querySelector('#checked .scroll').clientWidth")


def test_a_form_that_is_on_its_way_leaves_none_to_be_run_by_mistake(page):
    page.locator("#tool").select_option("loss")
    expect(page.get_by_role("button", name="Run loss")).to_be_visible()
    waiting = []
    page.route("**/workbench/forms/lens*", lambda route: waiting.append(route))
    page.locator("#tool").select_option("lens")
    expect(page.get_by_role("button", name="Run loss")).to_have_count(0)
    page.locator("#tool").select_option("loss")
    expect(page.get_by_role("button", name="Run loss")).to_be_visible()
    with page.expect_response("**/workbench/forms/lens*"):
        waiting[0].continue_()  # late: somebody chose another one since
    page.wait_for_timeout(100)
    expect(page.get_by_role("button", name="Run lens")).to_have_count(0)
    expect(page.get_by_role("button", name="Run loss")).to_be_visible()


def test_keys_alone_switch_look_and_undo(page):
    choose(page, "addition")
    page.get_by_label("zero", exact=True).check()
    first = page.locator(".map button").first
    first.focus()
    for key in ["ArrowDown"] * 5 + ["ArrowRight"] * 5:
        page.keyboard.press(key)
    page.keyboard.press("Space")
    expect(page.locator("#on")).to_contain_text("zero decoder.0.mlp.out@answer")
    expect(page.locator("#answers")).to_contain_text("zero decoder.0.mlp.out@answer")
    page.keyboard.press("Escape")
    expect(page.locator("#on")).to_contain_text("nothing")
    page.get_by_role("button", name="Undo").press("Enter")
    expect(page.locator("#on")).to_contain_text("zero decoder.0.mlp.out@answer")
    expect(page.locator("#answers")).to_contain_text("zero decoder.0.mlp.out@answer")  # which draws what is lit anew
    page.locator(".lit").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#lens output")).to_contain_text("block 5, at")
    tile = page.locator(".tile").first
    tile.focus()
    expect(page.locator("#heads p")).to_contain_text("block 0 head 0 (changed): from “=” it looks at")
    page.locator(".asked button").nth(2).hover()
    token = page.locator(".asked button").nth(2).inner_text()
    expect(page.locator("#heads p")).to_contain_text(f"from “{token}” it looks at")
    expect(page.locator(".looked li")).to_have_count(page.locator(".asked button").count())


def test_what_is_typed_is_looked_at_and_what_is_wrong_is_said(page):
    page.get_by_text("Type your own").click()
    page.get_by_label("in place of the example").fill("4 + 4 =")
    page.keyboard.press("Tab")
    expect(page.locator("#input")).to_contain_text("followed is what the model says, “8”")
    expect(page.get_by_label("patch from the twin")).to_be_disabled()
    expect(page.locator("#how-not")).to_contain_text("no twin")
    page.get_by_label("blocks in another order").fill("jump 3")
    page.keyboard.press("Tab")
    expect(page.locator("#problem")).to_contain_text("skip")
    page.get_by_label("blocks in another order").fill("skip 0")
    page.keyboard.press("Tab")
    expect(page.locator("#problem")).to_be_hidden()
    expect(page.locator("#answers")).to_contain_text("decoder: skip 0")
