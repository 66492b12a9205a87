"""The doctor says what works, what does not, and how to mend it."""

import json
import re

import pytest
from loopback import Loopback, completion

from agent import doctor
from agent.loop.task_check import task

KEY = "sk-very-secret-0123456789"
GOOD = [
    completion(("add", {"a": 2, "b": 3})),
    completion(("look", {"layers": [0, 3], "tasks": ["addition", "it's"]})),
    completion(text="It is 17 degrees."),
    completion(text="Kingfisher."),
]


@pytest.fixture
def examine(tmp_path, capsys, monkeypatch):
    def run(*argv, server=None):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        if server is not None:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        status = doctor.main([*argv, "--device", "cpu", "--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t")])
        text = capsys.readouterr().out
        assert KEY not in text
        assert list(tmp_path.iterdir()) == []
        return status, text

    return run


def test_without_an_endpoint_everything_is_checked_here(examine):
    status, text = examine("--planner", "systematic")
    assert status == 0
    for about in ("python", "torch", "device", "database", "transcripts", "hub cache", "subject", "planner"):
        assert f"  {about}: " in text
    assert "everything that is needed works" in text


def test_a_good_endpoint_passes_all_four_probes(examine):
    with Loopback(*GOOD) as server:
        status, text = examine("--planner", "openai:test-model", server=server)
    assert status == 0
    assert [w for w in ("forced call", "nested arguments", "tool result", "long prompt") if f"ok       {w}: works" in text] == [
        "forced call", "nested arguments", "tool result", "long prompt",
    ]  # fmt: skip
    sent = server.requests
    assert sent[0]["tools"][0]["function"]["strict"] is True
    assert sent[2]["messages"][-1]["role"] == "tool"
    assert len(sent[3]["messages"][0]["content"]) > 20000
    assert "the price of test-model is not known" in text


@pytest.mark.parametrize(
    ("number", "answer", "says"),
    [
        (0, completion(text="I would add them: 5"), "in words instead of calling"),
        (0, completion(("subtract", {"a": 2, "b": 3})), "it called 'subtract'"),
        (0, completion(("add", {"a": "2", "b": 3})), "not a = 2 and b = 3"),
        (1, completion(("look", '{"layers": "[0, 3]"')), "not JSON"),
        (1, completion(("look", {"layers": "[0, 3]", "tasks": []})), "came as"),
        (2, completion(text="I cannot know the weather."), "did not use the tool's result"),
        (3, completion(text="There is no secret word."), "lost the beginning"),
        (3, (400, {}, {"error": {"message": f"too long for {KEY}"}}), "too long"),
    ],
)  # fmt: skip
def test_each_thing_an_endpoint_gets_wrong_is_said_with_a_way_out(number, answer, says, examine):
    script = [*GOOD[:number], answer, *GOOD[number + 1 :]]
    with Loopback(*script) as server:
        status, text = examine("--planner", "openai:test-model", server=server)
    assert status == 1
    assert says in text
    assert text.count("FAILED") == 1
    assert "->" in text.split("FAILED")[1]


@pytest.mark.parametrize(("status", "says"), [(401, "does not accept the key"), (404, "has no model")])
def test_a_wrong_key_or_model_is_said_once(status, says, examine):
    with Loopback((status, {}, {"error": {"message": KEY}})) as server:
        code, text = examine("--planner", "openai:test-model", server=server)
    assert code == 1
    assert says in text
    assert len(server.requests) == 1


def test_what_cannot_be_had_is_said(examine):
    status, text = examine("--planner", "oracle", "--subject", "./nowhere")
    assert status == 1
    assert "2 things will not work" in text
    assert "--subject demo works everywhere" in text
    assert json.dumps(text).count("FAILED") == 2


def test_a_tampered_database_is_noticed(tmp_path, capsys):
    import scripts

    from agent import run
    from experiments_db.store import Store

    db = tmp_path / "e.db"
    script = scripts.write(tmp_path / "s.jsonl")
    assert (
        run.main(
            [
                "--goal",
                "g",
                "--planner",
                f"scripted:{script}",
                "--db",
                str(db),
                "--out",
                str(tmp_path / "t"),
                "--device",
                "cpu",
                "--quiet",
            ]
        )
        == 0
    )
    assert [f.state for f in doctor.disk(db, tmp_path)][-1] == "ok"
    store = Store(db)
    store.db.execute("UPDATE measurements SET value = value + 1 WHERE id = (SELECT min(id) FROM measurements)")
    store.db.conn.commit()
    assert [f.state for f in doctor.disk(db, tmp_path)][-1] == "failed"


def test_a_task_is_told_as_the_subject_reads_it_before_a_run(tmp_path):
    rows = [{"prompt": f"{a} + {b} =", "answer": f" {a + b}", "twin": f"{a} + {b + 1} =", "foil": f" {a + b + 1}"} for a in range(3, 9) for b in range(3, 8)]
    rows[0]["twin"] = "3 + 3 + 1 ="
    said = told(tmp_path, rows)
    assert {f.state for f in said} == {"ok", "warning"}
    words = {f.about: f.says for f in said}
    assert any("inputs of 4 tokens, chance 0." in f.says for f in said)
    assert any(re.fullmatch(r"'\d' '\+' '\d' '=' -> ' \d+'", f.says) for f in said)
    assert re.match(r"1 of \d+ are of another length than their example: '3 \+ 3 =' and '3 \+ 3 \+ 1 ='", words["twins"])
    assert re.search(r"ms an example: about \d+ min for 60 experiments", words["time"])
    assert "weights 5 MB" in words["memory"]
    sides = re.fullmatch(r"(\d+) to explore; (\d+) to confirm", words["problems"])
    assert sum(map(int, sides.groups())) == len(rows)
    assert re.fullmatch(r"each of the \d+ words of \d+ examples is one token", words["words"])
    del rows[0]
    assert "are as long as their example" in {f.about: f.says for f in told(tmp_path, rows)}["twins"]


def test_a_task_with_words_the_model_does_not_know_fails_with_those_words(tmp_path):
    (failed,) = told(tmp_path, [{"prompt": f"\u2603 {i} =", "answer": f" {i}"} for i in range(30)])
    assert failed.state == "failed"
    assert "\u2603" in failed.says
    (missing,) = task("nothing_such", "demo", "cpu")
    assert missing.state == "failed"
    assert "there is no task 'nothing_such'; tasks are" in missing.says


def told(folder, rows):
    """What is said of a file with these examples."""
    file = folder / "mine.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return list(task(str(file), "demo", "cpu"))
