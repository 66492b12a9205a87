"""Headless Chromium clicks through the review: pages, figures, numbers, live runs, the exported file."""

import re
from functools import partial

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import chromium, curated_and_hostile, serving
from findings_made import Investigation

from agent.lab import Lab
from agent.loop.record import Reading
from agent.report.circuit import circuits
from agent.report.circuit_figure import circuit_svg
from agent.report.conclusion import conclude
from agent.report.figures import draw, figure_of
from agent.report.plots import plots
from agent.report.worked import worked
from agent.review.__main__ import main
from experiments_db.findings import Claim
from experiments_db.records import Control, Experiment, Measurement, Note, Result, Run, kept_answers


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return curated_and_hostile(tmp_path_factory.mktemp("review"))


@pytest.fixture(scope="module")
def addition(store):
    return next(r for r in store.runs() if r.endswith("find-where-addition-happens"))


@pytest.fixture(scope="module")
def first(store, addition):
    """The handle of a tool's first experiment in the addition run."""
    return lambda tool: next(e.handle for e in store.experiments(addition) if e.experiment.tool == tool)


@pytest.fixture(scope="module")
def site(store):
    with serving(store) as url:
        yield url


@pytest.fixture(scope="module")
def window():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def broken(store, tmp_path_factory):
    """A run in which a person ablated two MLPs, with what each prompt came to."""
    lab = Lab("demo")
    with lab.record(store.path, "what breaks addition?", tmp_path_factory.mktemp("out")) as run:
        lab.run("loss", tasks=["addition"], examples=72)
        lab.run("ablate", task="addition", components=["decoder.3.mlp.out@answer", "decoder.1.mlp.out@answer"], intervention="resample(donor)",
                examples=72)  # fmt: skip
    return run


@pytest.fixture
def page(window):
    """A page of its own; errors in its console, and dialogs, fail the test."""
    context = window.new_context(viewport={"width": 1200, "height": 900})
    made, problems = context.new_page(), []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("dialog", lambda dialog: (problems.append(f"dialog {dialog.message}"), dialog.dismiss()))
    made.on("console", lambda m: problems.append(m.text) if m.type == "error" and "404" not in m.text else None)
    yield made
    context.close()
    assert problems == []


def test_a_reader_clicks_from_the_list_of_runs_to_an_experiment_and_on_to_the_next(page, site, addition, first):
    page.goto(site)
    page.locator(f"a[href='/runs/{addition}/report']").click()
    assert page.locator(".verdict strong").first.is_visible()
    for tab in ("Hypotheses", "Timeline", "Experiments"):
        page.get_by_role("navigation", name="Run").get_by_role("link", name=tab).click()
        assert page.locator("[aria-current=page]").inner_text() == tab
    patch = first("patch")
    page.get_by_role("link", name=patch, exact=True).click()
    assert page.locator("h2").first.inner_text() == f"{patch} · patch"
    page.locator("figure.plot[data-ready]").first.wait_for()
    page.keyboard.press("j")
    page.wait_for_url(f"**/E{int(patch[1:]) + 1}")
    page.locator("pre").first.wait_for()
    page.wait_for_load_state()
    page.keyboard.press("k")
    page.wait_for_url(f"**/{patch}")


def test_the_timeline_shows_thought_call_and_result(page, site, addition):
    page.goto(f"{site}/runs/{addition}/timeline")
    turn = page.locator("#turn-2")
    assert "Capability first" in turn.inner_text()
    call = turn.locator("details").first
    assert not call.locator("pre").first.is_visible()
    call.locator("summary code").click()
    assert '"tasks"' in call.locator("pre").first.inner_text()
    assert "accuracy" in call.locator("pre").nth(1).inner_text()
    turn.locator(".call a").first.click()
    page.wait_for_url("**/E2")


def test_hovering_a_heat_map_shows_the_measurement_with_interval_n_and_control(page, site, store, addition, first):
    patch = first("patch")
    page.goto(f"{site}/runs/{addition}/experiments/{patch}")
    result = store.result(store.experiment(addition, patch).result_id)
    cells = page.locator("figure.plot svg .cell")
    leads = [int(cells.nth(i).get_attribute("data-href").rpartition("-m")[2]) for i in range(cells.count())]
    wanted = next(i for i, n in enumerate(leads) if 0.2 < result.measurements[n - 1].value < 0.8)
    cells.nth(wanted).hover()
    tip, m = page.locator(".tip").inner_text(), result.measurements[leads[wanted] - 1]
    assert m.name == "recovered"
    for number in (m.value, m.low, m.high, m.control.value):
        assert number is None or f"{number:.3g}".rstrip("0") in tip.replace(",", "")
    assert f"n={m.n}" in tip
    assert m.control.kind in tip
    box = page.locator("figure.plot svg .cell").nth(wanted).bounding_box()
    under = page.locator("figure.plot svg text", has_text=re.compile(f"^{m.place.anchor}$")).bounding_box()
    beside = page.locator("figure.plot svg text", has_text=re.compile(f"^{m.place.block}$")).first.bounding_box()
    assert box["x"] < under["x"] + under["width"] < box["x"] + box["width"]  # the label ends, slanting, under its column
    assert box["y"] - 2 < beside["y"] < box["y"] + box["height"]
    cells.nth(wanted).click()
    page.wait_for_url(f"**#{patch}-m{leads[wanted]}")
    assert page.locator("tr:target").get_attribute("title") == m.key


def test_arrow_keys_move_through_a_figure_and_say_each_point(page, site, addition, first):
    page.goto(f"{site}/runs/{addition}/experiments/{first('patch')}")
    canvas, said = page.locator("figure.plot .canvas").first, []
    canvas.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        canvas.press(key)
        said.append(page.locator("figure.plot output").first.inner_text())
    assert len(set(said)) == 3
    assert said[0].startswith("depth (blocks passed) 0")
    assert said[2].startswith("depth (blocks passed) 1")


def test_another_quantity_can_be_chosen_and_a_lens_grid_shows_its_tokens(page, site, addition, first):
    page.goto(f"{site}/runs/{addition}/experiments/{first('lens')}")
    labels = page.locator("figure.plot svg text").all_text_contents()
    assert "-1 =" in labels
    assert "↵" in " ".join(labels)
    page.locator("form.choose select").select_option(label="logit_margin")
    page.wait_for_url("**quantity=logit_margin")
    assert "lens: logit_margin" in page.locator("figure.plot svg").get_attribute("aria-label")


def test_a_number_in_the_report_leads_to_the_row_it_was_read_from(page, site, store, addition):
    page.goto(f"{site}/runs/{addition}/report")
    number = page.locator("a.number:visible").first
    shown, title = number.inner_text(), number.get_attribute("title")
    handle, _, key = title.partition(" ")
    number.click()
    row = page.locator("tr:target")
    assert row.get_attribute("title") == key
    box, head = row.bounding_box(), page.locator("table:has(tr:target) thead").bounding_box()
    assert 60 <= head["y"] < box["y"] < 900  # below the bar at the top, and the headings above the row
    m = next(m for m in store.measurements(store.experiment(addition, handle).result_id) if m.key == key)
    assert float(row.locator("td[data-v]").first.get_attribute("data-v")) == m.value
    assert shown.startswith(row.locator("td[data-v]").first.inner_text())


def test_a_table_is_sorted_by_its_column_both_ways(page, site, addition, first):
    page.goto(f"{site}/runs/{addition}/experiments/{first('patch')}")
    table = page.locator("table.sortable:has(caption)", has_text="recovered")
    column = table.locator("thead th").all_inner_texts().index("recovered")
    table.locator("thead th button", has_text=re.compile("^recovered$")).click()
    read = f"[...[...document.querySelectorAll('table.sortable')].find((t) => t.caption?.textContent.startsWith('recovered')).tBodies[0].rows].map((r) => Number(r.cells[{column}].dataset.v))"
    up = page.evaluate(read)
    table.locator("thead th button", has_text=re.compile("^recovered$")).click()
    assert up == sorted(up)
    assert page.evaluate(read) == up[::-1] or page.evaluate(read) == sorted(up, reverse=True)
    assert len(set(up)) > 10


def test_the_first_screen_says_what_was_found_for_which_tokens(page, site, addition):
    page.goto(f"{site}/runs/{addition}/report")
    seen = "document.elementsFromPoint ? [...document.querySelectorAll('.verdict, .tokens li, .example p')].filter((e) => e.getBoundingClientRect().bottom <= innerHeight).map((e) => e.innerText) : []"
    said = page.evaluate(seen)
    assert "The model does addition" in said[0]
    assert "heads 0 and 3 of block 0 and the MLP of block 0" in said[0]
    assert "the model says “5”" in " ".join(said)
    assert [t.splitlines() for t in said if "operand" in t] == [["0", "the first operand"], ["5", "the second operand"]]
    assert page.locator("figure.circuit").bounding_box()["y"] < 900


def test_a_reader_finds_the_three_examples_that_an_ablation_breaks(page, site, store, broken):
    page.goto(f"{site}/runs/{broken}/experiments")
    page.get_by_role("link", name="E2", exact=True).click()
    row = page.get_by_role("region", name="accuracy of E2", exact=True).locator("tr", has_text="decoder.3.mlp.out@answer")
    row.get_by_role("link", name="examples").click()
    page.wait_for_url("**#E2-examples")
    assert "breaks 3 of 72" in page.locator("#E2-examples").inner_text()
    rows = page.get_by_role("region", name="Examples of E2").locator("tbody tr")
    broke = [[c.strip() for c in rows.nth(i).locator("td").all_inner_texts()] for i in range(rows.count()) if "broke" in rows.nth(i).inner_text()]
    assert len(broke) == 3
    for _, prompt, answer, before, after, came in broke:
        a, b = map(int, re.search(r"(\d+) \+ (\d+) =$", prompt).groups())
        assert (answer, before, came) == (str(a + b), f"{a + b} ✓", "broke")
        assert after.endswith("✗")
        assert after != f"{a + b} ✗"
    assert broke == [[c.strip() for c in rows.nth(i).locator("td").all_inner_texts()] for i in range(3)]  # they come first
    page.get_by_role("region", name="Examples of E2").get_by_role("button", name="input").click()
    prompts = rows.locator("td:nth-child(2)").all_inner_texts()
    assert len(prompts) == 72
    assert prompts != [b[1] for b in broke][:1] + prompts[1:]  # sorted otherwise now
    page.locator("summary", has_text="Another condition (2)").click()
    page.get_by_role("link", name="resample(donor) of decoder.1.mlp.out@answer").click()
    page.wait_for_url("**under=2**")
    assert int(re.search(r"breaks (\d+) of 72", page.locator("#E2-examples").inner_text())[1]) > 30


def test_an_old_run_says_that_examples_were_not_kept_yet(page, site, addition, first, store):
    page.goto(f"{site}/runs/{addition}/experiments/{first('ablate')}")
    kept = store.result(store.experiment(addition, first("ablate")).result_id)
    shown = page.locator(f"#{first('ablate')}-examples")
    assert shown.inner_text().startswith("Examples")
    if not kept_answers(kept):
        assert page.get_by_text("before the answers to single examples were kept").is_visible()


def test_the_keys_do_what_the_footer_says(page, site, addition, first):
    page.goto(site)
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.closest('tr').rowIndex") == 1
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.closest('tr').rowIndex") == 2
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.goto(f"{site}/runs/{addition}/report")
    page.keyboard.press("j")
    page.wait_for_url("**/hypotheses")
    page.wait_for_load_state()
    page.keyboard.press("k")
    page.wait_for_url("**/report")
    page.wait_for_load_state()
    page.keyboard.press("/")
    page.wait_for_url("**/experiments#search")
    page.wait_for_function("document.activeElement.type === 'search'")
    page.goto(f"{site}/runs/{addition}/experiments/{first('ablate')}")
    canvas = page.locator("figure.plot .canvas")
    canvas.focus()
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        canvas.press(key)
    page.wait_for_url(f"**#{first('ablate')}-m*")
    assert page.locator("tr:target").count() == 1


def test_the_list_of_runs_says_the_answer_and_searches_what_was_found(page, site, addition):
    page.goto(site)
    row = page.locator("tbody tr", has=page.locator(f"a[href='/runs/{addition}/report']"))
    assert "Necessary for addition are, at the answer, heads 0 and 3 of block 0" in row.inner_text()
    page.locator("input[type=search]").fill("straight to the MLP of block 0")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=straight**")
    assert page.locator(f"a[href='/runs/{addition}/report']").count() == 1
    page.goto(f"{site}/?q=nobodyclaimedthis")
    assert "No run fits" in page.locator("tbody").inner_text()


def test_maps_of_two_runs_are_subtracted_and_those_of_ten_laid_beside_each_other(page, site, store, addition, first):
    names, measured = [f"copy-{i}" for i in range(10)], store.measurements(store.experiment(addition, first("ablate")).result_id)
    for i, name in enumerate(names):
        moved = tuple(x.model_copy(update={"value": x.value * (1 - 0.01 * i), "low": None, "high": None}) for x in measured)
        Investigation(store, name).experiment(moved, tool="ablate", run="same", number=1, task="addition", intervention="zero")
    page.goto(f"{site}/compare?" + "&".join(f"run={n}" for n in names[:2]))
    cell = page.locator("figure.plot .cell").first
    assert "accuracy.difference" in cell.get_attribute("data-said")
    page.goto(f"{site}/compare?" + "&".join(f"run={n}" for n in names))
    heads = page.locator("figure.plot").first.locator("svg text").all_text_contents()
    assert {f"run {i}" for i in range(1, 11)} <= set(heads)
    page.goto(f"{site}/compare?run={addition}/{first('ablate')}&run={addition}/{first('ablate')}")
    assert page.locator("figure.plot").count() == 3
    assert "accuracy.difference 0" in page.locator("figure.plot").last.locator(".cell").first.get_attribute("data-said")


def test_two_runs_and_two_experiments_are_compared(page, site, store, addition):
    page.goto(site)
    other = next(r for r in store.runs() if "recall" in r)
    for run in (addition, other):
        page.locator(f"input[name=run][value='{run}']").check()
    page.get_by_role("button", name="Compare the chosen").click()
    assert page.locator(".two section").count() == 2
    assert page.get_by_role("region", name="Findings in pairs").locator("tbody tr").count() > 13
    page.goto(f"{site}/compare?a={addition}/E2&b={other}/E2")
    assert page.locator("table.sortable tbody tr").count() > 3


def test_a_live_run_grows_on_the_page_without_a_reload(page, site, store):
    store.put_run(Run(name="under-way", goal="does it grow?", subject="demo", planner="scripted", settings={"seed": 0}))
    store.put_event("under-way", "start", {"goal": "does it grow?"})
    page.goto(f"{site}/runs/under-way/timeline")
    page.evaluate("window.sameDocument = true")
    assert page.locator(".turn").count() == 0
    call = {"id": "c1", "name": "loss", "arguments": '{"tasks": ["addition"]}'}
    turn = {
        "calls": [call],
        "text": "First thought.",
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0},
        "minutes": 0,
    }
    store.put_event("under-way", "turn", turn)
    page.locator(".turn", has_text="First thought.").wait_for(timeout=10_000)
    assert "under way" in page.locator(".turn").inner_text()
    store.put_event(
        "under-way", "answer", {"call_id": "c1", "text": "no such task", "status": "rejected", "handle": None}
    )
    page.locator(".turn .tag", has_text="rejected").wait_for(timeout=10_000)
    store.put_entry("under-way", 4, Note(text="It grew."))
    store.put_event("under-way", "end", {"status": "finished", "reason": "found"})
    store.update_run("under-way", "finished", "found")
    page.locator("[data-part=state] .tag", has_text="finished").wait_for(timeout=10_000)
    assert page.evaluate("window.sameDocument") is True


def test_a_long_live_run_shows_its_newest_turns_and_they_stay_when_it_ends(page, site, store):
    store.put_run(Run(name="long", goal="how long?", subject="demo", planner="scripted", settings={"seed": 0}))
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}

    def turn(i):
        store.put_event("long", "turn", {"calls": [], "text": f"Thought {i}.", "usage": usage, "minutes": 0})

    for i in range(1, 26):
        turn(i)
    page.goto(f"{site}/runs/long/timeline")
    assert page.locator(".turn").count() == 25
    for i in (26, 27):
        turn(i)
        page.locator("#turn-" + str(i)).wait_for(timeout=10_000)
    assert page.locator(".turn h3").first.inner_text().startswith("Turn 3 ")
    page.locator("[data-part=timeline] a[rel=prev]").focus()
    turn(28)
    page.locator("#turn-28").wait_for(timeout=10_000)
    assert page.evaluate("document.activeElement.rel") == "prev"
    store.put_event("long", "end", {"status": "stopped", "reason": "enough"})
    store.update_run("long", "stopped", "enough")
    page.locator("[data-part=state] .tag", has_text="stopped").wait_for(timeout=10_000)
    assert page.locator("#turn-28").count() == 1
    page.locator("[data-part=timeline] a[rel=prev]").first.click()
    page.locator("#turn-1").wait_for(timeout=10_000)


def test_the_exported_file_works_from_disk_without_a_network(window, store, addition, first, tmp_path):
    file = tmp_path / "run.html"
    assert main([addition, "--db", str(store.path), "--export", str(file)]) == 0
    context = window.new_context(offline=True)
    page, asked, problems = context.new_page(), [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.goto(file.as_uri())
    assert page.locator(".verdict strong").first.is_visible()
    screens = page.evaluate("document.documentElement.scrollHeight / innerHeight")
    number = page.locator("a.number:visible").first
    title = number.get_attribute("title")
    number.click()
    assert page.locator("tr:target").get_attribute("title") == title.partition(" ")[2]
    assert page.locator("tr:target").is_visible()
    page.goto(f"{file.as_uri()}#{first('patch')}")
    figure = page.locator(f"#{first('patch')} figure.plot").first
    figure.locator("svg .cell").first.hover()
    assert "n=" in page.locator(".tip").inner_text()
    assert page.locator("details.card[id^=E]").count() == len(store.experiments(addition))
    context.close()
    assert screens <= 12
    assert problems == []
    assert [u for u in asked if not u.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("tab", ["report", "hypotheses", "timeline", "experiments", "experiments/E1"])
def test_hostile_text_is_shown_and_does_nothing(page, site, tab):
    page.goto(f"{site}/runs/hostile/{tab}")
    page.wait_for_timeout(150)
    assert page.evaluate("window.pwned") is None
    assert page.locator("main script:not([type='application/json']), main img, main iframe, main b.evil").count() == 0
    assert page.locator("a[href^='javascript'], a[href*='evil.example']").count() == 0
    text = page.content()
    assert "\x1b" not in text
    assert "\\x1b" in text
    assert "&lt;script&gt;" in text


def test_a_token_that_is_only_a_newline_and_one_that_is_a_script_are_shown_as_such(page, site):
    page.goto(f"{site}/runs/hostile/experiments/E1")
    labels = page.locator("figure.plot svg text").all_text_contents()
    cells = page.locator("table tbody td").all_inner_texts()
    assert "↵" in labels
    assert "↵" in cells
    assert any("<script>" in c for c in cells)
    page.locator("figure.plot svg .cell").first.hover()
    assert "↵" in page.locator(".tip").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_kind_of_page_passes_the_accessibility_check(window, site, store, addition, first, broken, scheme, tmp_path):
    file = tmp_path / "run.html"
    recall = next(r for r in store.runs() if "recall" in r and r.endswith("happens"))
    main([recall, "--db", str(store.path), "--export", str(file)])
    context = window.new_context(color_scheme=scheme)
    page, run = context.new_page(), f"{site}/runs/{addition}"
    kinds = [
        site,
        f"{run}/report",
        f"{run}/hypotheses",
        f"{run}/timeline",
        f"{run}/experiments",
        f"{run}/experiments/{first('patch')}",
    ]
    kinds += [
        f"{run}/experiments/{first('lens')}",
        f"{site}/runs/{broken}/experiments/E2",
        f"{site}/compare",
        f"{site}/compare?a={addition}&b={recall}",
        file.as_uri(),
        f"{site}/runs/none/report",
    ]
    found = {}
    for url in kinds:
        page.goto(url)
        page.wait_for_timeout(100)
        broken = Axe().run(page).response["violations"]
        if broken:
            found[url] = [(v["id"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"]) for v in broken]
    context.close()
    assert found == {}


def test_nothing_is_wider_than_a_phone(window, site, addition, first):
    context = window.new_context(viewport={"width": 360, "height": 740}, device_scale_factor=2)
    page, run = context.new_page(), f"{site}/runs/{addition}"
    kinds = [
        f"{run}/{t}"
        for t in (
            "report",
            "hypotheses",
            "timeline",
            "experiments",
            f"experiments/{first('patch')}",
            f"experiments/{first('lens')}",
        )
    ]
    wide = {}
    for url in [site, *kinds, f"{site}/compare?a={addition}/{first('ablate')}&b={addition}/{first('lens')}"]:
        page.goto(url)
        page.wait_for_timeout(100)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 360:
            wide[url] = width
    context.close()
    assert wide == {}


LONG = "a_part_with_a_very_long_name_that_somebody_once_gave_it_for_a_reason"


def kinds_of_figures():
    """One of each kind of plot, with short and with long names."""
    for name in ("x", LONG):
        for kind, places in {
            "dots": [f"decoder.{i}.mlp.out@answer" for i in range(12)],
            "line": [f"decoder.{i}.resid_pre@answer" for i in range(8)],
            "heat": [f"decoder.{i}.resid_pre@{name}{j}" for i in range(6) for j in range(9)],
            "heads": [f"decoder.{i}.attn.z[{j}]@answer" for i in range(3) for j in range(4)],
        }.items():
            control = Control(kind=f"control {name}", value=0.1, low=0.0, high=0.2, n=64)
            rows = [
                Measurement(name="accuracy", value=0.01 * i, low=0.0, high=1.0, unit="share of examples", n=64, component=p,
                            task=name, label=f"{name} {k}" if kind == "dots" else None, control=control)
                for k in range(2 if kind == "dots" else 1) for i, p in enumerate(places)
            ]  # fmt: skip
            rows.append(Measurement(name="accuracy", value=1.0, unit="share of examples", n=64, task=name, program="intact"))
            found = plots("ablate", Result(status="ok", text="", measurements=tuple(rows)), 0.5)
            asked = Experiment(tool=f"tool {name}", args={"task": name, "intervention": f"set({name})"}, subject="", seed=0, dtype="", code="")
            yield f"{kind} {name}", draw({"E1": asked}, found).svg
    grid = [Measurement(name="top1", value=0.1 * (i % 9), unit="probability", n=1, token=LONG + str(i), component=f"decoder.{i % 5}.resid_post@-{1 + i // 5}")
            for i in range(20)]  # fmt: skip
    ranks = [Measurement(name="rank", value=10.0**i, unit="rank", n=64, component=f"decoder.{i}.resid_post@answer") for i in range(4)]
    yield "tokens", figure_of("lens", plots("lens", Result(status="ok", text="", measurements=(*grid, *ranks)))).svg


def test_no_text_of_any_kind_of_figure_is_cut_off_however_long_the_names(page, store, addition):
    cut, read = {}, """() => { const s = document.querySelector("svg").getBoundingClientRect();
        return [[...document.querySelectorAll("svg text")].length, [...document.querySelectorAll("svg text")].filter((t) => {
          const r = t.getBoundingClientRect(); return r.left < s.left || r.right > s.right || r.top < s.top || r.bottom > s.bottom; })
          .map((t) => t.textContent)]; }"""
    record = Reading(store, addition)
    circuit = circuit_svg(circuits(conclude(record).findings, partial(worked, record)))
    for name, svg in [*kinds_of_figures(), ("circuit", circuit)]:
        page.set_content(f"<body style='margin:200px'>{svg}</body>")
        count, outside = page.evaluate(read)
        assert count > 8
        if outside:
            cut[name] = outside
    assert cut == {}


def test_the_theme_can_be_changed_and_is_kept(page, site, addition):
    page.goto(site)
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.locator("#theme").click()
    after = page.evaluate(ground)
    page.goto(f"{site}/runs/{addition}/report")
    assert before != after == page.evaluate(ground)


def test_a_finding_confirmed_in_a_run_under_way_reaches_an_open_report(page, site, store):
    under_way = Investigation(store, "confirming")
    page.goto(f"{site}/runs/confirming/report")
    f = under_way.confirmed("necessary", "decoder.0.mlp.out@answer", 0.6)
    store.put_entry("confirming", 1, Claim(finding=f.handle, interpretation="It may add."))
    store.put_event(
        "confirming",
        "turn",
        {"calls": [], "text": "", "usage": {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}, "minutes": 0},
    )
    page.locator("#F1").wait_for(timeout=10_000)
    assert "60% [52%, 68%]" in page.locator("#F1").inner_text()
    assert "It may add." in page.locator("#C1").inner_text()
    assert "Necessary for addition" in page.locator(".verdict").inner_text()
