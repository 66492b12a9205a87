"""The tools that read and write the researcher's own records, used within a run."""

import pytest
import scripts

from agent import run
from agent.loop.notebook import notebook_text
from agent.loop.record import RunRecord
from experiments_db.store import Store

PAIRS = [(a, b) for a in range(2, 9) for b in range(2, 9)]
TURNS = [
    {
        "text": "",
        "calls": [scripts.call("layer_program", tasks=["addition", "agreement"], sweep="skip_each", examples=16)],
    },
    {
        "text": "",
        "calls": [
            scripts.call("query", where=["name=accuracy", "task=addition", "value<0.5"], order_by="value"),
            scripts.call("query", where=["name=accuracy"], group_by=["task"], aggregate="min"),
            scripts.call("query", where=["name=nothing"]),
            scripts.call("query", where=["colour=red"]),
            scripts.call("recall", handle="E1"),
            scripts.call("recall", handle="E9"),
        ],
    },
    {
        "text": "",
        "calls": [
            scripts.call(
                "make_task",
                name="larger",
                description="Add.",
                prompts=[f"{a} + {b} =" for a, b in PAIRS],
                answers=[f" {a + b}" for a, b in PAIRS],
            ),
            scripts.call("loss", tasks=["larger"], examples=16),
            scripts.call("loss", tasks=["addition"], split="confirm", examples=16),
            scripts.call("note", text="It is 100% right."),
            scripts.call("claim", finding="F1", interpretation="Here."),
            scripts.call("predict", experiment="E1"),
            scripts.call("note", text="See {{E1.speed}}."),
            scripts.call("note", text="Kept."),
        ],
    },
    {"text": "", "calls": [scripts.call("finish", answer="unclear", words="Done.")]},
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """(the run's record, texts and statuses of all answers in order)."""
    folder = tmp_path_factory.mktemp("notebook")
    script = scripts.write(folder / "s.jsonl", TURNS)
    assert run.main(["--goal", "try the notebook", "--planner", f"scripted:{script}", "--quiet", *scripts.places(folder)]) == 0
    store = Store(folder / "e.db")
    name = store.runs()[0]
    given = [e.payload for e in store.events(name) if e.kind == "answer"]
    return RunRecord(store, name), [p["text"] for p in given], [p["status"] for p in given]


def test_a_query_filters_sorts_and_groups_what_was_measured(answers):
    _, texts, statuses = answers
    rows = texts[1].splitlines()
    assert rows[0].startswith("experiment | tool | name | value")
    assert any("skip 0" in r for r in rows[1:])
    assert not any("intact" in r for r in rows[1:])
    assert [r.split(" | ")[0] for r in texts[2].splitlines()] == ["task", "addition", "agreement"]
    assert texts[3] == "no measurement fits"
    assert statuses[4] == "rejected"
    assert "columns are" in texts[4]


def test_recall_shows_every_key_of_an_experiment_and_names_handles_that_exist(answers):
    record, texts, statuses = answers
    assert all(m.key in texts[5] for m in record.measurements_of("E1"))
    assert statuses[6] == "rejected"
    assert "there are E1" in texts[6]


def test_a_task_made_in_a_run_can_be_used_at_once_and_is_kept(answers):
    record, texts, _ = answers
    assert "task larger" in texts[7]
    assert "larger: accuracy" in texts[8]
    assert [t.name for t in record.store.task_data(record.run)] == ["larger"]


def test_what_discipline_forbids_is_refused_with_the_way_to_do_it(answers):
    record, texts, statuses = answers
    assert statuses[9:14] == ["rejected"] * 5
    for text, says in zip(
        texts[9:14],
        ("split: unknown argument", "typed by hand", "there is no 'F1'", "E1 is layer_program", "has no 'speed'"),
        strict=True,
    ):
        assert says in text
    assert "it could be {{E" in texts[10]
    assert ".accuracy[task=" in texts[10]
    assert [e.experiment.args.get("split", "explore") for e in record.experiments()] == ["explore", "explore"]


def test_the_notebook_has_a_line_for_everything_on_record(answers):
    record, _, _ = answers
    text = notebook_text(record)
    assert "E1 layer_program" in text
    assert "N1 Kept." in text
    assert "Q1 (open) try the notebook: no answer yet" in text
