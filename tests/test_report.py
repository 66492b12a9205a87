"""What a run's report says follows from what was settled, whatever its planner wrote."""

import html
import re

import pytest
from browser import CURATED
from findings_made import BOTH, Investigation, typical
from hostile import EVIL
from starlette.testclient import TestClient

from agent.loop.notebook import earlier_text, notebook_text
from agent.loop.record import Reading
from agent.report import build
from agent.report import tested as reading
from agent.report.__main__ import main
from agent.report.build import render, write_report
from agent.report.conclusion import conclude
from agent.report.limits import limits
from agent.report.opening import stays_open, sure
from agent.report.summary import headline, side_by_side, summary
from agent.report.tested import statement_words
from agent.review.app import make_app
from experiments_db.findings import Claim, Question, Statement
from experiments_db.records import Hypothesis, Measurement, Note, Run, TaskData
from experiments_db.store import Store
from tools.findings.integrity_report import Check, IntegrityReport
from tools.tasks import families, label_families, to_records

MLP0, MLP4 = "decoder.0.mlp.out@answer", "decoder.4.mlp.out@answer"
BOAST = "We proved that MLP seven hundred computes everything"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "e.db")


def of(store, name):
    return Reading(store, name)


def files(folder):
    return {str(f.relative_to(folder)): f.read_bytes() if f.is_file() else None for f in folder.rglob("*")}


@pytest.mark.parametrize("where", ["tried_section", "own_code_section", "_replay"])
def test_a_report_that_fails_midway_leaves_what_was_there(store, where, tmp_path, monkeypatch):
    typical(store)
    (name,) = store.runs()

    def fails(*_):
        drawn.append((tmp_path / "t" / "figures.part").is_dir())
        raise OSError("no room")

    drawn = []
    for _ in range(2):
        before = files(tmp_path / "t")
        with monkeypatch.context() as patch:
            patch.setattr(build, where, fails)
            with pytest.raises(OSError, match="no room"):
                write_report(store, name, tmp_path / "t")
        assert files(tmp_path / "t") == before
        write_report(store, name, tmp_path / "t")
        assert {"report.md", "figures"} < set(files(tmp_path / "t"))
        (tmp_path / "t" / "report.md").write_text("an older one")
    assert drawn == [True, True]


def first_screen(text):
    return text.partition("## Findings")[0]


@pytest.mark.parametrize("answer", ["found", "not_found", "cannot", "unclear"])
def test_a_run_without_an_experiment_tried_nothing_whatever_it_says(store, answer):
    Investigation(store, "empty").end(answer, BOAST)
    assert conclude(of(store, "empty")).verdict == "Nothing was tried"
    assert "Found" not in first_screen(render(store, "empty", None))


def test_found_without_a_confirmed_finding_is_not_found(store):
    i = Investigation(store, "bold")
    i.settled(i.predicted("necessary", MLP0), 0.1, p=0.4)
    i.experiment((), tool="note")
    i.end("found", BOAST)
    c = conclude(of(store, "bold"))
    assert (c.verdict, c.headline) == ("Nothing confirmed", ())
    assert "**Nothing confirmed.**" in render(store, "bold", None)


def test_cannot_needs_a_finding_that_the_model_cannot(store):
    i = Investigation(store, "claims-cannot")
    i.confirmed("capability")
    i.end("cannot")
    assert "cannot" not in conclude(of(store, "claims-cannot")).verdict
    j = Investigation(store, "cannot")
    j.settled(j.predicted("cannot"), 0.0, control=None)
    j.end("cannot")
    assert conclude(of(store, "cannot")).verdict == "The model cannot do it"


def test_nothing_that_a_planner_writes_is_in_the_headline(store):
    i = Investigation(store, "loud")
    store.put_entry("loud", 1, Hypothesis(handle="H1", statement=BOAST))
    f = i.confirmed("necessary", MLP0, hypothesis="H1")
    store.put_entry("loud", 2, Claim(finding=f.handle, question="Q2", interpretation=BOAST + " by itself"))
    store.put_entry("loud", 2, Note(text=BOAST))
    i.end("found", BOAST)
    c = conclude(of(store, "loud"))
    said = " ".join(s.text for s in c.headline) + c.verdict + sure(c.sureness) + stays_open(c)
    assert "hundred" not in said
    assert "hundred" not in headline(of(store, "loud"))
    text = render(store, "loud", None)
    for place in (m.start() for m in re.finditer("hundred", text)):
        before = text[:place]
        label = max(before.rfind(word) for word in ("not tested", "Notes", "in the planner's words"))
        assert label > before.rfind("**Found"), "a planner's words stand unmarked"


def test_a_question_is_answered_by_findings_of_its_kind_and_else_says_what_was_tried(store):
    typical(store)
    c = conclude(of(store, "typical"))
    assert [(a.question.handle, a.by) for a in c.questions] == [("Q1", ("F1",)), ("Q2", ("F2", "F3", "F4")), ("Q3", ())]
    assert "F9" in c.questions[2].why
    assert "void, there are too few examples" in c.questions[2].why
    assert "F2" not in c.questions[2].why
    assert c.verdict == "Found in part"
    assert "Q3 (compare) Is subtraction done elsewhere?: **unanswered**: tried: F9" in render(store, "typical", None)


def test_a_question_that_nothing_was_tried_for_says_so(store):
    i = Investigation(store, "lazy")
    i.confirmed("capability")
    i.end()
    assert (
        "nothing that could answer it about addition was put to the test"
        in conclude(of(store, "lazy")).questions[1].why
    )


def test_found_means_that_every_question_has_an_answer(store):
    i = Investigation(
        store, "all", questions=(Question(handle="Q1", asks="where", text="Where?", tasks=("addition",)),)
    )
    f = i.confirmed("necessary", MLP0)
    i.end()
    assert conclude(of(store, "all")).verdict == "Found"
    store.put_entry("all", 9, f.model_copy(update={"retracted": "A mistake in the twins."}))
    c = conclude(of(store, "all"))
    assert (c.verdict, c.headline, c.questions[0].by) == ("Nothing confirmed", (), ())
    assert "confirmed, taken back" in c.questions[0].why


def test_what_is_necessary_is_one_sentence_by_itself_and_together_with_its_smallest_effect(store):
    typical(store)
    text = headline(of(store, "typical"))
    assert (
        "Necessary for addition are, at the answer, the MLP of block 0 and heads 0 and 3 of block 0 (together): without any one of "
        "these, resampled or zeroed, accuracy falls by at least 33% [25%, 41%; n=128]."
    ) in text
    assert text.index("The model does addition") < text.index("Necessary") < text.index("Not needed")
    assert "accuracy changes by at most 1.0%" in text


def test_findings_under_other_interventions_or_of_other_tasks_are_not_merged(store):
    i = Investigation(store, "apart")
    i.confirmed("necessary", MLP0)
    i.confirmed("necessary", MLP4, interventions=("zero",))
    i.confirmed("necessary", "decoder.1.mlp.out@answer", task="subtraction")
    i.end()
    needed = [s.findings for s in conclude(of(store, "apart")).headline]
    assert needed == [("F1",), ("F2",), ("F3",)]
    assert "is, at the answer, the MLP of block 4: without it, zeroed, accuracy" in headline(of(store, "apart"))


def test_the_effect_of_what_is_not_needed_is_the_largest_and_of_what_is_needed_the_smallest(store):
    i = Investigation(store, "bounds")
    i.settled(i.predicted("not_needed", MLP4), {"resample(donor)": 0.01, "zero": -0.04}, control=None)
    i.settled(i.predicted("necessary", MLP0), {"resample(donor)": 0.7, "zero": 0.4})
    i.end()
    said = {s.findings[0]: s.text for s in conclude(of(store, "bounds")).headline}
    assert "intervention=zero" in said["F1"]
    assert "intervention=zero" in said["F2"]


@pytest.mark.parametrize(("kind", "shown"), [("not_needed", -0.06), ("necessary", 0.02)])
def test_of_several_effects_of_one_intervention_the_one_nearest_to_overturning_the_finding_is_shown(store, kind, shown):
    i = Investigation(store, "several")
    f = i.predicted(kind, f"{MLP0} + {MLP4}", interventions=("zero",))
    where = {"name": "effect", "unit": "share of examples", "n": 64, "intervention": "zero"}
    measured = tuple(Measurement(value=v, component=c, **where) for v, c in ((0.02, MLP0), (-0.06, MLP4)))
    done = f.model_copy(update={"experiment": i.experiment(measured), "fate": "confirmed", "round": 1})
    assert [m.value for m in reading.tested(of(store, "several"), done).effects] == [shown]


def test_findings_that_contradict_each_other_are_named(store):
    i = Investigation(store, "torn")
    i.confirmed("necessary", MLP0)
    i.settled(i.predicted("not_needed", f"{MLP0} + {MLP4}"), 0.01, control=None)
    i.end()
    text = render(store, "torn", None)
    assert "with contradictions" in conclude(of(store, "torn")).verdict
    assert (
        "[F1](#f1), [F2](#f2) contradict each other:** decoder.0.mlp.out@answer is necessary by itself, and not needed"
        in text
    )
    assert "F1 and F2 contradict each other" in headline(of(store, "torn"))


def test_a_finding_that_was_taken_back_is_struck_with_its_reason_and_counts_in_the_score(store):
    i = Investigation(store, "back")
    f = i.confirmed("necessary", MLP0, probability=0.8)
    i.settled(i.predicted("necessary", MLP4, probability=0.4), "no examples")
    store.put_entry("back", 3, f.model_copy(update={"retracted": "The twins were wrong."}))
    i.end("unclear")
    text = render(store, "back", None)
    assert "~~necessary: the MLP of block 0 at the answer" in text
    assert "taken back: The twins were wrong." in text
    s = conclude(of(store, "back")).sureness
    assert (s.scored, s.retracted, s.standing, s.settled) == (1, 1, 0, 2)
    assert s.brier == pytest.approx(0.04)
    assert "void ones left out" in sure(s)


def test_the_score_counts_every_fate_but_void_and_only_confirmed_as_come_true(store):
    typical(store)
    s = conclude(of(store, "typical")).sureness
    assert s.fates == {"confirmed": 5, "contradicted": 1, "absent": 1, "inconclusive": 1, "void": 1}
    assert s.brier == pytest.approx((5 * 0.1**2 + 3 * 0.9**2) / 8)
    assert (s.rounds, s.spent) == (2, pytest.approx(0.05 * (0.5 + 0.25)))


def test_why_a_finding_is_inconclusive_or_void_stands_in_its_row(store):
    typical(store)
    rows = {m[1]: m[0] for m in re.finditer(r'^\| <a id="(f\d+)".*$', render(store, "typical", None), re.MULTILINE)}
    assert len(rows) == 9
    assert "inconclusive: interval too wide" in rows["f8"]
    assert "void: there are too few examples" in rows["f9"]
    assert "46% \\[38%, 54%\\]" in rows["f2"]
    assert "n=128, 81 groups" in rows["f2"]
    assert "had to reach 0.025" in rows["f2"]


def test_there_are_at_most_900_words_in_view_before_the_evidence(store):
    name, i = "long", Investigation(store, "long")
    for number in range(40):
        f = i.confirmed("necessary" if number % 2 else "sufficient", f"decoder.{number}.mlp.out@answer", universe="")
        store.put_entry(name, 2, Claim(finding=f.handle, interpretation="It may well add. " * 30))
        store.put_entry(name, 2, Note(text="What a remark. " * 60))
        store.put_entry(name, 2, Hypothesis(handle=f"H{number + 1}", statement="It adds. " * 40))
    i.end("found", "So it adds. " * 150)
    assert len(in_view(store, name)) <= 900
    assert "40 findings were put to unseen examples" in " ".join(in_view(store, name))


def in_view(store, name) -> list[str]:
    """The words of a report before its evidence, without what is folded."""
    seen = re.sub(r"<details>.*?</details>", "", render(store, name, None).partition("## Evidence")[0], flags=re.DOTALL)
    return re.findall(r"[^|\s]+", seen)


def test_curated_reports_are_as_short_and_say_what_a_planner_thought_once():
    store = Store(CURATED)
    for name in store.runs():
        assert 100 < len(in_view(store, name)) <= 900, name
        said = re.findall(r"^\*(.+)\*$", render(store, name, None).partition("## Evidence")[2], re.MULTILINE)
        assert len(said) == len(set(said))
        figures = re.findall(r"\(figures/(\S+)\.svg\)", render(store, name, None))
        assert len(figures) <= 14
        assert len(figures) == len(set(figures))


def test_limits_are_about_this_run(store):
    i = Investigation(store, "limited")
    i.settled(i.predicted("necessary", MLP0, interventions=("zero",)), 0.6, reused=True)
    i.confirmed("necessary", MLP4, objective="margin")
    i.settled(i.predicted("necessary", "decoder.1.mlp.out@answer"), "the twin is missing")
    i.end()
    said = "\n".join(limits(of(store, "limited"), store.run("limited")))
    assert "Tested under zero ablation alone: F1;" in said
    assert "F2 margin" in said
    assert "examples of F1 had stood in an earlier round" in said
    assert "F3 (the twin is missing)" in said
    assert "81 independent problems" in said
    j = Investigation(store, "plain")
    j.confirmed("necessary", MLP0)
    j.end()
    other = "\n".join(limits(of(store, "plain"), store.run("plain")))
    assert "ablation alone" not in other
    assert "otherwise than" not in other
    assert "earlier round" not in other


def test_limits_name_what_was_tried_under_another_ablation_and_on_other_corpora(store):
    i = Investigation(store, "picked")
    both = i.predicted("jointly_necessary", MLP0 + " + " + MLP4)
    i.settled(both, {"resample(donor)": 0.6, "zero": 0.02}, p=0.4)
    i.confirmed("jointly_necessary", MLP0 + " + " + MLP4, interventions=("resample(donor)",))
    named = [c.replace("decoder.", "*.") for c in (MLP0, MLP4)]
    zero = [Measurement(name="p", unit="p value", value=0.9, component=MLP0, intervention="zero", n=64)]
    i.experiment(tuple(zero), kind="jointly_necessary", task="addition", among="", components=named)
    i.confirmed("one_concept", "decoder.2.mlp.act[37]", 0.5, task="copying", other_task="brackets", interventions=())
    i.experiment((), tool="cross_dataset", tasks=["copying", "addition"], components=["*.2.mlp.act[37]"])
    i.end()
    said = "\n".join(limits(of(store, "picked"), store.run("picked")))
    assert "What F2 says was also predicted under resample and zero together (F1), and was not confirmed." in said
    assert "Under zero ablation F2 was examined too (E5), and did not show." in said
    assert "holds on copying and brackets alone; it was looked at on addition too, and nothing of that is confirmed" in said


def test_what_a_planner_makes_of_a_finding_that_it_took_back_is_not_printed(store):
    i = Investigation(store, "back")
    f = i.confirmed("necessary", MLP0)
    store.put_entry("back", 2, Claim(finding=f.handle, interpretation="It adds, they say."))
    i.end()
    assert "It adds, they say." in render(store, "back", None)
    j = Investigation(store, "taken")
    f = j.confirmed("necessary", MLP0)
    store.put_entry("taken", 2, Claim(finding=f.handle, interpretation="It adds, they say."))
    store.put_entry("taken", 3, f.model_copy(update={"retracted": "I erred"}))
    j.end()
    assert "It adds, they say." not in render(store, "taken", None)


def test_the_report_is_derived_again_equal_and_a_changed_file_is_told_apart(store, tmp_path, capsys):
    typical(store)
    written = write_report(store, "typical", tmp_path / "t" / "typical")
    argv = ["typical", "--db", str(store.path), "--out", str(tmp_path / "t"), "--check"]
    assert main(argv) == 0
    written.write_text(written.read_text().replace("33%", "43%"))
    assert main(argv) == 1
    assert "differs" in capsys.readouterr().out


def test_every_link_in_the_report_leads_to_an_anchor_in_it_and_each_anchor_is_there_once(store):
    typical(store)
    text = render(store, "typical", None)
    places = re.findall(r'<a id="([^"]+)">', text)
    assert len(places) == len(set(places))
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(places)


def test_a_class_of_examples_is_said_in_words_once(store):
    i = Investigation(store, "classes")
    for task, among in (("copying", "index<1"), ("mine", "words<1"), ("addition", "last word=?,words>=7"), ("copying", "index<1")):
        i.confirmed("necessary", MLP0, task=task, among=among)
    records = to_records([{"prompt": f"p {n}", "answer": " a", "labels": {"words": n}, "split": s} for n, s in enumerate(["explore", "confirm"] * 2)], "mine")
    store.put_entry("classes", 1, TaskData(name="mine", origin="file", description="", examples=tuple(records)))
    i.end()
    said = (
        "Classes of the examples: index<1 on copying: the place in the list, from 0 on, of the letter that is asked for is below 1; "
        "words<1 on mine: the label “words” is below 1; last word=?,words>=7 on addition: the last word is ?, and the number of words is at least 7."
    )  # fmt: skip
    text = render(store, "classes", None)
    assert text.replace("\\", "").replace("&lt;", "<").replace("&gt;", ">").count(said) == 1
    assert text.count("Classes of the examples") == 1
    shown = TestClient(make_app(store), base_url="http://127.0.0.1").get("/runs/classes/report").text
    assert html.unescape(shown).count(said) == 1
    j = Investigation(store, "whole")
    j.confirmed("necessary", MLP0)
    j.end()
    assert "Classes of" not in render(store, "whole", None)


@pytest.mark.parametrize("name", families())
def test_words_of_labels_are_about_labels_that_the_tasks_examples_have(name):
    family = families()[name]
    there = label_families(dict.fromkeys(n for e in family.task({}).examples("explore", 24) for n in e.values))
    assert set(family.labels) <= set(there)


def test_hostile_texts_in_findings_questions_and_reasons_are_inert(store):
    i = Investigation(
        store, "evil", goal=EVIL, questions=(Question(handle="Q1", asks="open", text=EVIL, tasks=(EVIL,)),)
    )
    f = i.confirmed("necessary", MLP0, task=EVIL)
    store.put_entry("evil", 2, f.model_copy(update={"sentence": EVIL, "retracted": EVIL, "reason": EVIL}))
    i.settled(i.predicted("differs", "decoder.1.mlp.out@answer", label=EVIL, among=EVIL), EVIL)
    g = i.confirmed("sufficient", "decoder.2.mlp.out@answer")
    store.put_entry("evil", 2, g.model_copy(update={"sentence": EVIL}))
    store.put_entry("evil", 2, Claim(finding=f.handle, interpretation=EVIL))
    i.end("found", EVIL)
    text = render(store, "evil", None)
    outside = re.sub(r"(`+)(?:.|\n)*?\1", "", text)
    assert "<script" not in outside
    assert "<img" not in outside
    assert not re.search(r"(?<!\\)\]\((?!#[a-z0-9]+\)|figures/)", outside)
    for shown in (text, headline(of(store, "evil")), side_by_side(*[summary(of(store, "evil"))] * 2)):
        assert "\x1b" not in shown
        assert "\u202e" not in shown


def test_a_finding_of_an_experiment_that_is_not_there_is_shown_without_numbers(store):
    i = Investigation(store, "torn-out")
    f = i.confirmed("necessary", MLP0)
    store.put_entry("torn-out", 2, f.model_copy(update={"experiment": "E99", "sentence": ""}))
    i.end()
    text = render(store, "torn-out", None)
    assert "Necessary for addition is, at the answer, the MLP of block 0, resampled or zeroed." in text


def test_a_run_that_is_under_way_or_was_stopped_has_no_conclusion_but_shows_what_stands(store):
    i = Investigation(store, "live")
    assert conclude(of(store, "live")).verdict == "Under way"
    i.confirmed("necessary", MLP0)
    f = i.predicted("necessary", MLP4)
    store.update_run("live", "stopped", "the budget is spent")
    c = conclude(of(store, "live"))
    assert (c.verdict, c.headline[0].findings) == ("No conclusion", ("F1",))
    assert f"{f.handle} was predicted and never settled" in stays_open(c)


def test_the_notebook_has_open_findings_first_and_says_what_the_next_round_may_spend(store):
    i = Investigation(store, "book")
    i.confirmed("necessary", MLP0)
    i.predicted("necessary", MLP4, probability=0.7)
    text = notebook_text(of(store, "book"))
    assert text.index("F2 [open") < text.index("F1 [confirmed]")
    assert "probability 0.70" in text
    assert "may spend 0.013" in text
    assert "Q2 (where) Where is addition done?: answered by F1" in text
    assert "Q3 (compare) Is subtraction done elsewhere?: no answer yet" in text


def test_a_later_run_is_told_findings_with_their_fates_and_no_handles(store):
    typical(store)
    text = earlier_text(of(store, "typical"))
    assert "[absent] necessary: the MLP of block 3" in text
    assert "{{" not in text
    assert "46%" in text


def test_two_runs_lie_side_by_side_with_what_stays_open(store):
    typical(store, "a")
    Investigation(store, "b").end("not_found")
    text = side_by_side(summary(of(store, "a")), summary(of(store, "b")))
    assert "Found in part." in text
    assert "Nothing was tried." in text
    assert "No answer to Q3" in text


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (Statement(kind="capability", task="addition", among="carry=1"), "does the task; addition (carry=1)"),
        (Statement(kind="necessary", task="a", components=MLP0, interventions=BOTH, objective="nll"),
         "necessary: the MLP of block 0 at the answer; a; resample(donor), zero; by nll"),
        (Statement(kind="sends", task="a", path="decoder.0.attn.z[1] -> decoder.1.mlp.out"),
         "sends: the path from head 1 of block 0 to the MLP of block 1; a"),
        (Statement(kind="tolerates", task="a", program="skip 2"), "tolerates: program skip 2; a"),
    ],
)  # fmt: skip
def test_a_statement_in_words_says_all_that_it_holds(statement, words):
    assert statement_words(statement) == words


def test_what_the_gate_found_stands_in_the_report_and_a_broken_record_of_it_does_not(store):
    checks = (
        Check("identity", "decoder", "", "holds", 12, 1e-7, 1e-5),
        Check("edit", "decoder", "attn.z", "fails", 8, 0.5, 1e-5, "block 1"),
    )
    for name, kept in (
        ("gated", IntegrityReport(checks, {"decoder": (0, 1)}, 1.5).as_json()),
        ("broken", {"checks": EVIL}),
    ):
        store.put_run(Run(name=name, goal="g", subject="demo", planner="p", settings={"integrity": kept}))
    text = render(store, "gated", None)
    assert "refused for this model: decoder.attn.z" in text
    assert "| 8 | 5.0e-01 | fails: decoder.attn.z |" in text
    assert "## Integrity" not in render(store, "broken", None)
