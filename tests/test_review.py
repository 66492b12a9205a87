"""The review's pages without a browser: every number leads somewhere, large runs are cut into pages, nobody else can read it."""

import html
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from browser import CURATED, curated_and_hostile, serving
from findings_made import Investigation
from hostile import EVIL

from agent.report import build
from agent.report.figures import figure_of
from agent.report.plots import main_plots, plots, shown
from agent.review.__main__ import main
from agent.review.render import export
from experiments_db.records import Array, Axis, Experiment, Hypothesis, Measurement, Note, Result, Run
from experiments_db.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return curated_and_hostile(tmp_path_factory.mktemp("review"))


@pytest.fixture(scope="module")
def site(store):
    with serving(store) as url:
        yield url


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def ids(text):
    return set(re.findall(r'\bid="([^"]+)"', text))


@pytest.mark.long
def test_every_link_of_every_report_and_hypothesis_leads_to_a_place_that_exists(store, site):
    pages = {}
    for run in store.runs():
        for tab in ("report", "hypotheses", "timeline"):
            status, text, _ = get(f"{site}/runs/{run}/{tab}")
            assert status == 200
            numbers = re.findall(r'class="number" href="([^"]+)"', text)
            if tab == "report" and run != "hostile":
                assert numbers, f"{run}: a report without a number"
            for link in {html.unescape(x) for x in re.findall(r'href="(/runs/[^"]+)"', text)}:
                path, _, anchor = link.partition("#")
                if path not in pages:
                    pages[path] = get(site + path)
                status, there, _ = pages[path]
                assert status == 200, link
                if anchor:
                    assert anchor in ids(there), link
    assert len(pages) > 80


def test_every_link_inside_an_exported_file_leads_to_a_place_in_it(store):
    for run in store.runs():
        text = export(store, run)
        places = ids(text)
        links = set(re.findall(r'href="#([^"]+)"', text))
        assert links <= places, (run, sorted(links - places)[:5])
        assert not re.findall(
            r'(?:href|src)="(?!#|data:,")', re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
        )


def test_the_numbers_of_the_report_page_are_those_of_the_report_file(store, site):
    for run in (r for r in store.runs() if r != "hostile"):
        _, text, _ = get(f"{site}/runs/{run}/report")
        written = build.render(store, run, None).replace("\\", "")
        for number in re.findall(r'class="number"[^>]*>([^<]+)</a>', text):
            assert html.unescape(number) in written


def test_hostile_text_is_escaped_on_every_page(store, site):
    for path in ("/", "/runs/hostile/report", "/runs/hostile/timeline", "/runs/hostile/experiments/E1", "/runs/hostile/export.html",
                 "/compare?a=hostile&b=hostile", "/compare?a=hostile/E1&b=hostile/E1", "/?q=%3Cscript%3E%27%22"):  # fmt: skip
        status, text, _ = get(site + path)
        assert status == 200
        body = re.sub(r"<script>\n?//.*?</script>", "", text, flags=re.DOTALL)  # our own, inlined in the export
        assert "<script>window" not in body
        assert "<img" not in body
        assert "<b class" not in body
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert text.count("</script>") == text.count("<script")


def test_hostile_text_is_inert_in_the_report_file(store):
    text = build.render(store, "hostile", None)
    outside = re.sub(r"(`+)(?:.|\n)*?\1", "", text)  # inline code and fences show their text as it is
    assert "<script>" not in outside
    assert "<img" not in outside
    assert not re.search(r"(?<!\\)\]\(javascript", outside)
    assert not re.search(r"(?<!\\)\]\(http", outside)
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_requests_for_another_host_or_another_method_are_refused(site, store):
    status, _, headers = get(site + "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert get(site + "/", Host="evil.example")[0] == 400
    request = urllib.request.Request(site + "/", method="POST", data=b"x")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 405


@pytest.mark.parametrize(
    "path",
    ["/runs/none/report", "/runs/none", "/runs/hostile/nothing", "/runs/hostile/experiments/E99", "/runs/hostile/experiments/x%00",
     "/static/../app.py", "/static/none.js", "/compare?a=none&b=none", "/compare?a=hostile/E1&b=hostile", "/nothing",
     "/runs/hostile/experiments?sort=1;drop", "/runs/hostile/experiments/E1.5", "/runs/none/state.json", "/runs/none/export.html"],
)  # fmt: skip
def test_what_is_not_there_is_said_so_in_a_page(site, path):
    status, text, _ = get(site + path)
    assert status in (404, 200 if path == "/runs/none" else 404)
    assert "Not found" in text


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page=99999999999999999999", "page=x", "page=7", "down=9", "tool=none", "q=%25_%27"]
)
def test_odd_queries_are_answered(site, query):
    for path in ("/runs/hostile/experiments", "/runs/hostile/timeline", "/runs/hostile/experiments/E1", "/"):
        assert get(f"{site}{path}?{query}")[0] == 200


def test_odd_handles_and_endless_words_in_texts_and_queries_break_no_page(store, site):
    words = f"see E{'9' * 40} and {{{{E{'9' * 5000}.accuracy}}}} " + "{{" * 500 + " " * 20_000
    store.put_run(Run(name="odd", goal=words, subject="demo", planner="p", settings={"seed": 0}))
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0}
    store.put_event("odd", "turn", {"calls": [], "text": words, "usage": usage, "minutes": 0})
    store.put_entry("odd", 1, Note(text=words))
    store.put_entry("odd", 1, Hypothesis(handle="H1", statement=words))
    for tab in ("report", "hypotheses", "timeline", "experiments?q=" + "+a" * 1500):
        assert get(f"{site}/runs/odd/{tab}")[0] == 200
    assert get(f"{site}/?q=" + "+a" * 1500)[0] == 200
    assert export(store, "odd")


def test_experiments_that_differ_in_one_argument_are_laid_side_by_side(store, site):
    run = next(r for r in store.runs() if r.endswith("find-where-addition-happens"))
    ablated = {e.handle: e.experiment.args for e in store.experiments(run) if e.experiment.tool == "ablate"}
    b, zeroed = next((h, x) for h, x in ablated.items() if x["intervention"] == "zero")
    a = next(h for h, x in ablated.items() if x == {**zeroed, "intervention": "resample(donor)"})
    _, text, _ = get(f"{site}/compare?a={run}/{a}&b={run}/{b}")
    assert "intervention" in text
    both = int(re.search(r"Measurements in both: (\d+)", text)[1])
    assert both == len(store.measurements(store.experiment(run, a).result_id))
    assert ">apart<" in text  # resampling and zeroing cost different things
    assert ">apart<" not in get(f"{site}/compare?a={run}/{b}&b={run}/{b}")[1]


def test_a_search_finds_what_contains_every_word_and_percent_signs_mean_themselves(site, store):
    addition = next(r for r in store.runs() if r.endswith("find-where-addition-happens"))
    _, text, _ = get(f"{site}/runs/{addition}/experiments?q=resample+mlp")
    ablated = [e.handle for e in store.experiments(addition) if e.experiment.tool == "ablate"]
    assert any(f">{h}<" in text for h in ablated)
    assert ">E2<" not in text
    assert "0 experiments" in get(f"{site}/runs/{addition}/experiments?q=%25%25")[1]
    assert addition in get(f"{site}/?q=addition+systematic")[1]
    assert "No run fits" in get(f"{site}/?q=%25%25zz")[1]


def test_a_large_experiment_is_shown_a_page_at_a_time_and_a_number_on_a_later_page_is_found(store, site):
    store.put_run(Run(name="large", goal="many", subject="demo", planner="scripted", settings={"seed": 0}))
    many = tuple(
        Measurement(name="a", value=i, unit="u", n=1, component=f"decoder.{i // 50}.attn.z[{i % 50}]")
        for i in range(450)
    )
    asked = Experiment(tool="loss", args={"n": 450}, subject="s", seed=0, dtype="float32", code="c")
    result = store.put_result(asked, Result(status="ok", text="many", measurements=many))
    store.link_experiment("large", asked.id, result, cached=False, seq=1)
    store.put_entry("large", 1, Note(text="It is {{E1.a[block=8, unit_index=49]}}."))
    _, noted, _ = get(f"{site}/runs/large/report")
    assert re.findall(r'class="number" href="([^"]+)"', noted) == ["/runs/large/experiments/E1?page=3#E1-m450"]
    _, first, _ = get(f"{site}/runs/large/experiments/E1")
    assert "page 1 of 3" in first
    assert "E1-m200" in ids(first)
    assert "E1-m201" not in ids(first)
    assert "E1-m450" in ids(get(f"{site}/runs/large/experiments/E1?page=3")[1])


def test_export_and_wrong_arguments_on_the_command_line(store, tmp_path, capsys):
    file = tmp_path / "deep" / "x.html"
    assert main(["hostile", "--db", str(store.path), "--export", str(file)]) == 0
    assert file.read_text().startswith("<!doctype html>")
    assert list(file.parent.iterdir()) == [file]
    assert main(["hostile", "--db", str(store.path), "--export", "x.html", "--out", str(tmp_path / "t")]) == 0
    assert (tmp_path / "t" / "hostile" / "x.html").is_file()
    capsys.readouterr()
    for argv in (["none", "--db", str(store.path)], ["--db", str(tmp_path / "none.db")], ["--port", "70000", "--db", str(store.path)],
                 ["hostile", "--db", str(store.path), "--export", "/proc/x.html"], ["--db", str(store.path), "--export", "."],
                 ["--db", str(store.path), "--export", str(tmp_path)], ["--db", str(store.path), "--export", ""]):  # fmt: skip
        assert main(argv) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.parent.glob("*.part"))


def test_ctrl_c_ends_the_server_quietly(store):
    argv = [sys.executable, "-m", "agent.review", "hostile", "--db", str(store.path)]
    server = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
    )
    url = server.stdout.readline().split(" at ")[1].split("  ")[0]
    assert get(url)[0] == 200
    server.send_signal(signal.SIGINT)
    _, problems = server.communicate(timeout=30)
    assert (server.returncode, problems) == (0, "")


def test_looking_leaves_a_database_that_was_packed_for_reading_as_it_was(store, tmp_path):
    packed = tmp_path / "p.db"
    shutil.copy(CURATED, packed)
    Store(packed)  # brings it up to date, once
    before = packed.read_bytes()
    opened = Store(packed)
    export(opened, opened.runs()[0])
    assert packed.read_bytes() == before


def test_help_answers_without_loading_torch():
    code = "import sys\nfrom agent.review.__main__ import main\ntry: main(['--help'])\nexcept SystemExit: print('torch' in sys.modules, 'starlette' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    )
    assert done.stdout.strip().endswith("False False")


# -- plots --------------------------------------------------------------------------------------------------------------


def made(*measurements, arrays=()):
    return Result(status="ok", text="", measurements=measurements, arrays=arrays)


def m(name="accuracy", value=0.5, unit="share of examples", **where):
    return Measurement(name=name, value=value, unit=unit, n=7, **where)


def test_what_varies_decides_how_a_quantity_is_drawn():
    heads = made(*(m(component=f"decoder.{i}.attn.z[{j}]@answer") for i in range(3) for j in range(2)))
    (heat,) = plots("ablate", heads)
    assert (heat.kind, heat.row_name, heat.column_name) == ("heat", "block", "head")
    assert (heat.rows, heat.columns) == (("0", "1", "2"), ("0", "1"))
    (line,) = plots(
        "lens", made(*(m(component=c) for c in ("decoder.embed", "decoder.0.resid_post", "decoder.1.resid_post")))
    )
    assert (line.kind, line.columns) == ("line", ("0", "1", "2"))
    (bars,) = plots("ablate", made(m(program="intact"), *(m(component=f"decoder.{i}.mlp.out@-1") for i in range(3))))
    assert (bars.kind, bars.columns, bars.reference is not None) == (
        "dots",
        ("0.mlp.out", "1.mlp.out", "2.mlp.out"),
        True,
    )
    both = made(*(m(component=f"decoder.{i}.{part}.out") for i in range(2) for part in ("attn", "mlp")))
    assert plots("ablate", both)[0].columns == ("0.attn.out", "0.mlp.out", "1.attn.out", "1.mlp.out")
    grown = ["decoder.0.attn.z[0]@-1", "decoder.0.attn.z[0]@-1 + decoder.1.mlp.out@-1", "decoder.1.mlp.out@-1"]
    sets = made(*(m(component=c) for c in grown))
    assert plots("minimal_set", sets)[0].columns == ("0.attn.z[0]", "0.attn.z[0] + 1.mlp.out", "1.mlp.out")
    paths = made(*(m(component=f"decoder.{i}.attn.z[{j}] -> decoder.logits") for i in range(2) for j in range(2)))
    assert (plots("path_patch", paths)[0].row_name, plots("path_patch", paths)[0].column_name) == ("block", "head")
    (doses,) = plots(
        "steer",
        made(*(m(component="decoder.1.resid_post", intervention=f"add(dir:x~ab12, {d})", dose=d) for d in (2, 10, 1))),
    )
    assert (doses.kind, doses.columns) == ("line", ("1", "2", "10"))
    assert plots("loss", made(m(task="addition"))) == []


def test_every_measurement_is_in_one_place_of_its_plots_with_its_number():
    result = made(
        *(
            m(component=f"decoder.{i}.resid_pre@{p}", task=t)
            for i in range(2)
            for p in (-2, -1)
            for t in ("a", "b", "c")
        )
    )
    found = [p for plot in plots("patch", result) for line in plot.points for p in line]
    assert sorted(p.number for p in found) == list(range(1, 13))
    assert all(result.measurements[p.number - 1] == p.measurement for p in found)


def test_tokens_are_written_into_cells_and_positions_carry_the_prompts_tokens():
    labels = Axis(name="position", labels=("-2 \n", "-1 b"))
    array = Array(
        name="top_token", dtype="int64", shape=(1, 2), data=b"\0" * 16, axes=(Axis(name="depth", labels=("0",)), labels)
    )
    result = made(*(m("top1", 0.1 * i, "probability", component=f"decoder.{i // 2}.resid_pre@{i % 2 - 2}", token=t)
                    for i, t in enumerate(["x", "\n", "y", "x"])), arrays=(array,))  # fmt: skip
    (grid,) = main_plots("lens", plots("lens", result))
    assert grid.columns == ("-2 \n", "-1 b")
    assert [[p.text for p in line] for line in grid.points] == [["x", "\n"], ["y", "x"]]
    drawn = figure_of("lens", [grid]).svg
    assert all(f">{label}<" in drawn for label in ("-2 ↵", "-1 b", "↵"))


def test_colours_are_even_about_zero_where_effects_go_both_ways():
    (plot,) = plots(
        "ablate",
        made(*(m("nll.delta", v, "nats", component=f"decoder.{i}.mlp.out") for i, v in enumerate((-3.0, 1.0, 0.0)))),
    )
    assert plot.limits == (-3.0, 3.0)
    (share,) = plots("ablate", made(*(m(value=v, component=f"decoder.{i}.mlp.out") for i, v in enumerate((0.2, 0.3, 0.1)))))
    assert share.limits == (0.0, 1.0)


def test_spaces_at_the_ends_of_a_token_can_be_seen():
    seen = {t: shown(t) for t in (" is", "is", "is ", " ", "  ", "", "\n", "a b")}
    assert seen == {" is": "␣is", "is": "is", "is ": "is␣", " ": "␣", "  ": "␣␣", "": "∅", "\n": "↵", "a b": "a b"}


def test_an_evil_name_reaches_the_browser_as_text():
    result = made(*(m(value=i, task=EVIL + str(i)) for i in range(3)))
    sent = figure_of("ablate", plots("ablate", result)).svg
    assert "\x1b" not in sent
    assert "<script" not in sent


# -- findings -----------------------------------------------------------------------------------------------------------


def row_of(text, handle):
    return re.search(rf'<tr id="{handle}">.*?</tr>', text, re.DOTALL)[0]


def test_a_finding_stands_in_its_row_with_fate_reason_and_numbers_that_lead_to_what_settled_it(site):
    _, text, _ = get(f"{site}/runs/typical/report")
    assert "confirmed</span>" in row_of(text, "F2")
    assert 'href="/runs/typical/experiments/E4#E4-m6"' in row_of(text, "F2")
    assert "46% [38%, 54%]" in row_of(text, "F2")
    assert "interval too wide" in row_of(text, "F8")
    assert "there are too few examples" in row_of(text, "F9")
    verdict = re.search(r'class="verdict".*?</div>', text, re.DOTALL)[0]
    assert "Found in part." in verdict
    assert 'href="/runs/typical/report#F3"' in verdict
    assert "interpretation, not tested:</em> It seems to add" in verdict
    assert "unanswered</strong>: tried: " in text


def test_findings_stand_beside_their_hypothesis_and_with_the_experiments_they_rest_on(site):
    _, text, _ = get(f"{site}/runs/typical/hypotheses")
    assert set(re.findall(r"report#(F\d)", text)) == {"F2", "F6"}
    _, settled, _ = get(f"{site}/runs/typical/experiments/E4")
    assert re.search(r'It settled <a href="/runs/typical/report#F2">F2</a> <span class="tag good">confirmed', settled)
    assert "Predicted from it" in get(f"{site}/runs/typical/experiments/E3")[1]


def test_the_list_of_runs_says_what_follows_from_findings_not_what_a_run_says_of_itself(site, store):
    Investigation(store, "boasting", goal="a boast").end("found", "All of it is clear.")
    assert "finished</span> <strong>Nothing was tried.</strong>" in get(f"{site}/?q=boasting")[1]
    assert "finished</span> <strong>Found in part.</strong>" in get(f"{site}/?q=typical")[1]
