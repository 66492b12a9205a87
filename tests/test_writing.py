"""References, goals, hostile text, prompts and planners: the small pieces that stand between words and records."""

import json
import re

import pytest
import scripts

from agent import run
from agent.loop import prompts
from agent.loop.budget import Limits, Spent
from agent.loop.goal import GoalError, model_named_in, understand
from agent.loop.record import RunRecord
from agent.planners import PlannerChoiceError, make_planner
from agent.report.numbers import measurement_text, reference_text
from agent.report.references import UnresolvedReference, resolve, substitute
from agent.report.text import code, inert, markdown
from experiments_db.records import Control, Experiment, Measurement, Result, Run, parse_metric
from experiments_db.store import Store
from tools.findings.wording import could_mean

CONTROL = Control(kind="random", value=0.9, low=0.8, high=1.0, n=10)
ROWS = [
    Measurement(
        name="accuracy", value=0.5, unit="share of examples", n=10, low=0.2, high=0.8, task="addition", program="skip 2"
    ),
    Measurement(name="accuracy", value=0.7, unit="share of examples", n=10, task="addition", program="intact"),
    Measurement(
        name="nll",
        value=1.25,
        unit="nats per answer",
        n=10,
        task="addition",
        component="decoder.3.mlp.out@answer",
        control=CONTROL,
    ),
]


def of(handle):
    if handle != "E3":
        raise ValueError("no such experiment")
    return ROWS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("E3.accuracy[task=addition, program=skip 2]", 0.5),
        ("E3.accuracy[program=skip 2]", 0.5),
        ("E3.accuracy[skip 2]", 0.5),
        ("E3.accuracy[intact, addition]", 0.7),
        ("E3.nll", 1.25),
        ("E3.nll[block=3]", 1.25),
        ("E3.nll[decoder.3.mlp.out@answer]", 1.25),
        ("E3.nll[component = decoder . 3 . mlp.out @ answer, addition]", 1.25),
    ],
)
def test_a_reference_means_the_one_measurement_that_fits(text, value):
    assert resolve(text, of).measurement.value == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("E3.accuracy", "could be accuracy"),
        ("E3.accuracy[skip 9]", "fits nothing"),
        ("E3.loss", "has no 'loss'; it has accuracy, nll"),
        ("accuracy", "is no reference"),
        ("E3", "is no reference"),
    ],
)
def test_a_reference_that_means_nothing_or_several_is_answered_with_what_it_could_be(text, says):
    with pytest.raises(UnresolvedReference, match=says):
        resolve(text, of)


def test_parts_of_a_measurement_can_be_referred_to():
    texts = [reference_text(resolve(f"E3.nll{p}", of)) for p in ("", ".n", ".control")]
    assert texts[0].startswith("1.25 nats per answer")
    assert texts[1] == "10"
    assert texts[2].startswith("0.9")
    assert reference_text(resolve("E3.accuracy.low[skip 2]", of)) == "20%"
    assert measurement_text(ROWS[0]) == "50% [20%, 80%; n=10]"


def test_a_number_typed_by_hand_is_answered_with_the_measurements_it_could_mean(tmp_path):
    store = Store(tmp_path / "e.db")
    for name in ("other", "r"):
        store.put_run(Run(name=name, goal="g", subject="s", planner="p"))
    measured = (
        Measurement(name="accuracy", value=0.974, unit="share of examples", n=8, task="addition", program="skip 2"),
        Measurement(name="nll.delta", value=-0.312, unit="nats", n=8, task="addition"),
        Measurement(name="rank", value=3.0, unit="rank", n=8),
    )
    asked = Experiment(tool="loss", args={}, subject="s", seed=0, dtype="float32", code="c")
    result = store.put_result(asked, Result(status="ok", text="", measurements=measured))
    store.link_experiment("r", asked.id, result, cached=False, seq=1)
    record = RunRecord(store, "r")
    for typed, m in (("97%", 0), ("0.97", 0), ("97.4 %", 0), ("0.31", 1), ("3.0", 2)):
        (reference,) = could_mean(record, typed)
        assert resolve(reference[2:-2], record.measurements_of).measurement == measured[m]
    assert (
        could_mean(record, "97.5%") == could_mean(record, "0.5") == could_mean(RunRecord(store, "other"), "97%") == []
    )


def test_only_references_are_replaced():
    assert substitute("a {{x}} {b} {{ y }}", str.upper) == "a X {b} Y"


def test_a_metric_describes_measurements_by_what_it_names():
    assert ROWS[0].fits("accuracy[program=skip 2]")
    assert not ROWS[1].fits("accuracy[program=skip 2]")
    assert parse_metric(ROWS[0].key) == ("accuracy", {"task": "addition", "program": "skip 2"})
    for bad in ("", "accuracy[", "accuracy[colour=red]", "accuracy[skip 2]"):
        with pytest.raises(ValueError, match="metric|coordinates"):
            parse_metric(bad)


@pytest.mark.parametrize(
    ("goal", "model"),
    [
        ("find where addition happens in gpt2", "gpt2"),
        ("find where addition happens in GPT-2", "gpt2"),
        ("where are facts kept in EleutherAI/pythia-70m?", "EleutherAI/pythia-70m"),
        ("how does pythia-160m close brackets", "pythia-160m"),
        ("find addition in ./models/mine", "./models/mine"),
        ("find addition in /srv/models/mine", "/srv/models/mine"),
        ("where does addition happen in the model demo?", "demo"),
        ("find where addition happens", None),
        ("find where agreement happens in the last layers", None),
        ("find the heads of key/value recall", None),
        ("find addition in me/addition", "me/addition"),
        ("how does key/value lookup happen in gpt2", "gpt2"),
    ],
)
def test_the_model_is_the_one_the_goal_names(goal, model):
    assert model_named_in(goal) == model


@pytest.mark.parametrize(
    ("goal", "tasks"),
    [
        ("find where addition happens", ("addition",)),
        ("find where 2-digit addition happens", ("addition:digits=2x2",)),
        ("where is subject-verb agreement decided", ("agreement",)),
        ("find the capital facts", ("facts",)),
        ("compare addition and subtraction", ("addition", "subtraction")),
        ("find the heads of key/value recall", ("key_value",)),
        ("where are words copied verbatim? find the copying heads", ("copying",)),
        ("where is key_value lookup done", ("key_value",)),
        ("what makes it add?", ("addition",)),
        ("which factors matter for brackets", ("brackets",)),
    ],
)
def test_the_tasks_are_those_whose_words_the_goal_uses(goal, tasks):
    assert understand(goal).tasks == tasks


def test_a_goal_about_nothing_known_is_answered_with_what_is_known():
    with pytest.raises(GoalError, match="indirect object.*--task"):
        understand("make me a sandwich")
    assert understand("make me a sandwich", ("mine",)).tasks == ("mine",)


def test_words_in_the_name_of_a_users_task_ask_nothing():
    assert understand("find where my_lookup happens", ("my_lookup",)).tasks == ("my_lookup",)
    assert understand("find where compiled induction.v2 happens", ("compiled_induction.v2",)).tasks == ("compiled_induction.v2",)
    assert understand("compare my_addition with addition", ("my_addition",)).tasks == ("my_addition", "addition")
    assert understand("where is addition done?", ("sum",)).tasks == ("sum", "addition")


HOSTILE = "<script>alert(1)</script> \x1b[31mred\x1b[0m [click](javascript:1) | `x` **b** \u202e {{E9.x}} $a$ \n# head"


def test_hostile_text_is_inert_in_terminal_and_markdown():
    assert "\x1b" not in inert(HOSTILE)
    assert "\u202e" not in inert(HOSTILE)
    shown = markdown(HOSTILE)
    assert "<script>" not in shown
    assert r"\[click\](javascript" in shown  # escaped brackets make no link
    assert "\n" not in shown
    assert code("a`b|c\n") == "``a`b¦c↵``"
    assert code("\n").strip("`")


def test_hostile_text_from_a_planner_and_a_task_is_inert_in_the_report(tmp_path):
    file = tmp_path / "odd.jsonl"
    readable = HOSTILE.replace("\x1b", "").replace("\u202e", "")  # the demo has no token for these two
    rows = [{"prompt": f"{readable} {i}", "answer": " 7", "foil": " <b>"} for i in range(40)]
    file.write_text("\n".join(json.dumps(r) for r in rows))
    turns = [
        {"text": HOSTILE, "calls": [scripts.call("loss", tasks=["odd"], examples=8)]},
        {"text": HOSTILE, "calls": [scripts.call("generate", prompts=[HOSTILE], max_new_tokens=3)]},
        {"text": HOSTILE, "calls": [scripts.call("note", text=HOSTILE.replace("{{E9.x}}", ""))]},
        {"text": HOSTILE, "calls": [scripts.call("loss", tasks=[HOSTILE])]},
        {"text": "", "calls": [scripts.call("finish", answer="unclear", words="<img src=x> done")]},
    ]
    argv = [
        "--goal",
        HOSTILE,
        "--subject",
        "demo",
        "--task",
        str(file),
        "--planner",
        f"scripted:{scripts.write(tmp_path / 's', turns)}",
    ]
    assert (
        run.main([*argv, "--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--quiet", "--device", "cpu"])
        == 0
    )
    name = Store(tmp_path / "e.db").runs()[0]
    text = (tmp_path / "t" / name / "report.md").read_text()
    assert "\x1b" not in text
    fenced = text.split("```")[1::2]
    outside = re.sub(
        r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", "".join(text.split("```")[::2])
    )  # code spans show text as it is
    assert "<script>" not in outside
    assert "<img" not in outside
    assert any("loss" in part or "odd" in part for part in fenced)


def test_a_template_gets_exactly_the_values_it_names():
    assert "find it" in prompts.render("goal", goal="find it", questions="none", subject="demo", tasks="none", examples="")
    with pytest.raises(prompts.PromptError, match="places"):
        prompts.render("goal", goal="find it")
    with pytest.raises(prompts.PromptError, match="places"):
        prompts.render("system", goal="x")
    with pytest.raises(prompts.PromptError, match="no prompt"):
        prompts.render("nothing")
    assert len(prompts.version()) == 16


def test_the_planner_is_the_one_that_was_asked_for_or_can_be_had(tmp_path):
    assert make_planner(None, environ={}).name == "systematic"
    assert make_planner(None, environ={"OPENAI_API_KEY": "k", "OPENAI_MODEL": "m"}).name == "openai:m"
    assert make_planner("openai:x", environ={"OPENAI_BASE_URL": "http://127.0.0.1:1"}).name == "openai:x"
    for spec in ("oracle", "openai", "systematic:x", "scripted", f"scripted:{tmp_path}/none"):
        with pytest.raises(PlannerChoiceError):
            make_planner(spec, environ={})
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"calls": [{"name": "loss", "arguments": {}}]}\n{"text": 1}\n')
    with pytest.raises(PlannerChoiceError, match="line 2"):
        make_planner(f"scripted:{bad}", environ={})


def test_a_budget_is_over_when_it_is_used_up_and_not_before():
    limits = Limits(experiments=3, tokens=100, cost=1.0)
    assert Spent(experiments=2, tokens=99, cost=0.99).over(limits) is None
    assert "3 experiments" in Spent(experiments=3).over(limits)
    assert "100 tokens" in Spent(tokens=100).over(limits)
    assert "1 dollars" in Spent(cost=1.5).over(limits)
    assert Spent(experiments=10**9).over(Limits()) is None
