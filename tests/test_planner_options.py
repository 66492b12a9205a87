"""How a planner is asked: flags, environment, prices; and what an earlier run hands on."""

import json

import pytest
import scripts
from loopback import Loopback, completion

from agent import run
from agent.planners import PlannerChoiceError, PlannerOptions, make_planner, read_prices
from agent.planners.openai_chat import OpenAIChat
from experiments_db.store import Store

KEY = "sk-very-secret-0123456789"
DONE = completion(("finish", {"answer": "unclear", "conclusion": "Enough."}))


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Runs agent.run against a loopback server; returns (exit status, requests)."""

    def go(*argv, answers=(DONE,), environ=()):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        for name, value in environ:
            monkeypatch.setenv(name, value)
        with Loopback(*answers) as server:
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            places = ["--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--device", "cpu", "--quiet"]
            return run.main(["--goal", "look", "--planner", "openai:test-model", *places, *argv]), server.requests

    return go


def test_temperature_and_effort_come_from_flags_or_from_the_environment(ask):
    _, plain = ask()
    assert "temperature" not in plain[0]
    assert "reasoning_effort" not in plain[0]
    _, flags = ask("--temperature", "0.25", "--reasoning-effort", "low")
    assert (flags[0]["temperature"], flags[0]["reasoning_effort"]) == (0.25, "low")
    _, environ = ask(environ=[("OPENAI_TEMPERATURE", "0.5"), ("OPENAI_REASONING_EFFORT", "high")])
    assert (environ[0]["temperature"], environ[0]["reasoning_effort"]) == (0.5, "high")
    _, both = ask("--temperature", "0")
    assert both[0]["temperature"] == 0


def test_the_timeout_is_the_one_that_was_given():
    made = make_planner("openai:m", environ={"OPENAI_API_KEY": KEY, "OPENAI_TIMEOUT": "7"})
    assert isinstance(made, OpenAIChat)
    assert made.timeout == 7
    given = make_planner("openai:m", environ={"OPENAI_API_KEY": KEY}, options=PlannerOptions(timeout=3.0))
    assert isinstance(given, OpenAIChat)
    assert given.timeout == 3
    with pytest.raises(PlannerChoiceError, match="OPENAI_TIMEOUT='soon' is no number"):
        make_planner("openai:m", environ={"OPENAI_API_KEY": KEY, "OPENAI_TIMEOUT": "soon"})


def test_a_users_prices_make_a_cost_budget_possible_and_it_holds(ask, tmp_path, capsys):
    status, requests = ask("--max-cost", "1")
    assert status == 2
    assert requests == []
    assert "needs the price of openai:test-model" in capsys.readouterr().err
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"models": {"test-model": {"prompt": 1000.0, "completion": 10000.0}}}))
    # A turn is 100 prompt and 10 completion tokens: 0.2 dollars. The third turn passes 0.5.
    turn = completion(("list_tasks", {}))
    status, requests = ask("--max-cost", "0.5", "--prices", str(prices), answers=[turn])
    assert status == 0
    assert len(requests) == 3
    store = Store(tmp_path / "e.db")
    assert "0.5 dollars" in store.run(store.runs()[-1]).reason


@pytest.mark.parametrize(
    "text", ["nonsense", "{}", '{"models": {"m": {"prompt": 1}}}', '{"models": {"m": {"prompt": -1, "completion": 2}}}']
)
def test_a_price_table_that_is_none_is_refused_with_an_example(text, tmp_path):
    file = tmp_path / "p.json"
    file.write_text(text)
    with pytest.raises(PlannerChoiceError, match="dollars per million tokens"):
        read_prices(file)
    with pytest.raises(PlannerChoiceError, match="cannot be read"):
        read_prices(tmp_path / "nowhere.json")


def test_the_next_run_is_shown_what_an_earlier_one_found_with_its_numbers(ask, tmp_path):
    script = scripts.write(tmp_path / "s.jsonl")
    places = ["--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--device", "cpu", "--quiet"]
    assert run.main(["--goal", "can it add?", "--planner", f"scripted:{script}", *places]) == 0
    _, requests = ask("--continue-from", "latest")
    shown = [m["content"] for m in requests[0]["messages"][1:] if "earlier run" in str(m["content"])]
    assert len(shown) == 1
    assert "Question: can it add?" in shown[0]
    assert "The model does addition: 100%" in shown[0]
    assert "{{" not in shown[0]
    assert requests[0]["messages"][0]["role"] == "system"  # the prefix stays
    _, without = ask()
    assert not any("earlier run" in str(m["content"]) for m in without[0]["messages"][1:])


def test_only_a_run_on_the_same_model_can_be_continued_from(ask, tmp_path, capsys):
    from benchmarks.planted.train import FOLDER

    script = scripts.write(tmp_path / "s.jsonl")
    places = ["--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--device", "cpu", "--quiet"]
    assert run.main(["--goal", "can it add?", "--planner", f"scripted:{script}", *places]) == 0
    capsys.readouterr()
    assert ask("--continue-from", "latest", "--subject", str(FOLDER / "copy-a4"))[0] == 2
    assert "another model" in capsys.readouterr().err
    assert ask("--continue-from", "nothing-of-that-name")[0] == 2
    assert len(Store(tmp_path / "e.db").runs()) == 1
