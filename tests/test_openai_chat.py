"""The OpenAI planner against a real server on loopback that misbehaves on schedule."""

import json
import time
from dataclasses import replace

import pytest
import scripts
from jsonschema import Draft202012Validator
from loopback import Loopback, completion

from agent import run
from agent.loop.offering import offered
from agent.planners.base import Answer, Exchange, PlannerError, ToolCall, ToolInfo, Turn, View
from agent.planners.compact import first_words
from agent.planners.openai_chat import OpenAIChat
from experiments_db.store import Store
from tools.methods.tool import discover
from tools.subjects import load_subject

KEY = "sk-very-secret-0123456789"
GOOD = completion(("list_tasks", {}))
INFOS = [ToolInfo(t.name, t.description, t.schema()) for t in discover().values()]


def view(exchanges=()):
    return View(goal="find it", subject="demo", tools=INFOS, exchanges=list(exchanges), budget="1 of 9 experiments")


def planner(server, **options):
    return OpenAIChat(
        "test-model",
        base_url=server.url,
        api_key=KEY,
        **{"timeout": 5.0, "wait_seconds": 0.05, "attempts": 4, **options},
    )


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {"Retry-After": "0.01"}, {"error": {"message": "slow down"}}),
        (500, {}, {"error": {"message": "oops"}}),
        (503, {}, "no JSON at all"),
        "cut",
        {**completion(), "choices": []},
    ],
    ids=["429", "500", "503", "cut", "no choices"],
)
async def test_passing_trouble_is_retried(trouble):
    with Loopback(trouble, GOOD) as server:
        turn = await planner(server).propose(view())
    assert [c.name for c in turn.calls] == ["list_tasks"]
    assert len(server.requests) == 2


async def test_retry_after_is_honoured_up_to_the_longest_wait():
    with Loopback((429, {"Retry-After": "0.4"}, {"error": {"message": "slow"}}), GOOD) as server:
        began = time.monotonic()
        await planner(server, wait_seconds=0.5).propose(view())
    assert time.monotonic() - began >= 0.4  # a lower bound on the pause that was asked for


async def test_a_server_that_hangs_is_given_up_and_asked_again():
    with Loopback(("hang", 1.5), GOOD) as server:
        turn = await planner(server, timeout=0.3).propose(view())
    assert turn.calls


async def test_trouble_without_end_is_one_clear_error():
    with (
        Loopback((500, {}, {"error": {"message": "oops"}})) as server,
        pytest.raises(PlannerError, match="answered 500"),
    ):
        await planner(server, attempts=3).propose(view())
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_permanent_error_is_not_retried_and_does_not_show_the_key(status):
    with (
        Loopback((status, {}, {"error": {"message": f"bad key {KEY}"}})) as server,
        pytest.raises(PlannerError) as error,
    ):
        await planner(server).propose(view())
    assert len(server.requests) == 1
    assert KEY not in str(error.value)
    assert "\n" not in str(error.value)


async def test_what_the_model_wrote_arrives_as_it_is_and_goes_back_as_sound_json():
    with Loopback(completion(("loss", '{"tasks": ["addi'), ("no_such", {"a": 1}), text="thinking"), GOOD) as server:
        chat = planner(server)
        turn = await chat.propose(view())
        assert [c.arguments for c in turn.calls] == ['{"tasks": ["addi', '{"a": 1}']
        assert turn.text == "thinking"
        answers = tuple(Answer(c.id, "rejected: ...", "rejected") for c in turn.calls)
        await chat.propose(view([Exchange(turn, answers)]))
    sent = server.requests[1]["messages"]
    calls = [c for m in sent for c in m.get("tool_calls", [])]
    assert all(isinstance(json.loads(c["function"]["arguments"]), dict) for c in calls)
    assert sorted(m["tool_call_id"] for m in sent if m["role"] == "tool") == sorted(c["id"] for c in calls)


async def test_call_ids_are_made_unique():
    with Loopback(completion(("list_tasks", {}), ("list_tasks", {}), ("list_tasks", {}), ids=["a", "a", ""])) as server:
        turn = await planner(server).propose(view())
    assert len({c.id for c in turn.calls}) == 3


async def test_a_call_cut_off_by_length_is_asked_for_again_with_more_room_and_both_are_charged():
    with Loopback(completion(("loss", '{"tas'), finish="length"), GOOD) as server:
        turn = await planner(server).propose(view())
    assert [c.name for c in turn.calls] == ["list_tasks"]
    first, second = (r["max_completion_tokens"] for r in server.requests)
    assert second > first
    assert (turn.usage.prompt_tokens, turn.usage.completion_tokens) == (200, 20)


async def test_a_call_cut_off_twice_is_dropped():
    with Loopback(completion(("list_tasks", {}), ("loss", '{"tas'), finish="length")) as server:
        turn = await planner(server).propose(view())
    assert [c.name for c in turn.calls] == ["list_tasks"]


async def test_a_refusal_and_a_content_filter_end_the_planner():
    for body, says in ((completion(refusal="I will not"), "refused"), (completion(finish="content_filter"), "filter")):
        with Loopback(body) as server, pytest.raises(PlannerError, match=says):
            await planner(server).propose(view())


async def test_prose_without_a_call_is_a_turn_that_is_reminded_of_the_tools():
    with Loopback(completion(text="I think so."), GOOD) as server:
        chat = planner(server)
        turn = await chat.propose(view())
        assert turn.calls == ()
        assert turn.usage.prompt_tokens == 100
        await chat.propose(view([Exchange(turn, ())]))
    assert any("Nothing was run" in str(m["content"]) for m in server.requests[1]["messages"])


async def test_the_view_stays_small_and_its_beginning_stays_the_same():
    def exchanges(n):
        answer = "E1: accuracy " + "x" * 300
        return [
            Exchange(Turn((ToolCall(f"c{i}", "loss", '{"tasks": ["addition"]}'),), "why"), (Answer(f"c{i}", answer),))
            for i in range(n)
        ]

    with Loopback(GOOD) as server:
        for n in (20, 500):
            await planner(server).propose(view(exchanges(n)))
    small, large = (len(json.dumps(r["messages"])) for r in server.requests)
    assert large <= 1.5 * small
    assert server.requests[0]["messages"][:2] == server.requests[1]["messages"][:2]


async def test_five_hundred_experiments_later_a_turn_costs_little_more(tmp_path):
    from agent.loop.history import history
    from agent.loop.notebook import notebook_text
    from agent.loop.record import RunRecord
    from experiments_db.records import Experiment, Hypothesis, Measurement, Note, Result, Run

    store = Store(tmp_path / "e.db")
    store.put_run(Run(name="long", goal="g", subject="s", planner="p"))
    record = RunRecord(store, "long")
    sizes = {}
    with Loopback(GOOD) as server:
        for i in range(500):
            with store.transaction():
                seq = store.last_seq("long") + 1
                experiment = Experiment(tool="loss", args={"n": i}, subject="s", seed=0, dtype="float32", code="c")
                m = Measurement(name="accuracy", unit="share of examples", value=i / 500, n=9)
                number = store.put_result(
                    experiment, Result(status="ok", text=f"accuracy of {i}: " + "x" * 300, measurements=(m,))
                )
                handle = store.link_experiment("long", experiment.id, number, cached=False, seq=seq, why="because")
                turn = {
                    "calls": [{"id": f"c{i}", "name": "loss", "arguments": "{}"}],
                    "text": "why",
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.0},
                    "minutes": 0.0,
                }
                store.put_event("long", "turn", turn)
                store.put_event(
                    "long",
                    "answer",
                    {"call_id": f"c{i}", "text": f"{handle}: accuracy " + "x" * 300, "status": "ok", "handle": handle},
                )
                if i % 10 == 0:
                    store.put_entry("long", seq, Note(text=f"Note {i} " + "y" * 100))
                    store.put_entry(
                        "long", seq, Hypothesis(handle=f"H{i // 10 + 1}", statement=f"Statement {i} " + "z" * 80)
                    )
            if i in (19, 499):
                exchanges, _ = history(record)
                whole = View(
                    goal="g", subject="s", tools=INFOS, exchanges=exchanges, notebook=notebook_text(record), budget=""
                )
                await planner(server).propose(whole)
                sizes[i] = len(json.dumps(server.requests[-1]))  # what a turn costs: tools and messages
    assert sizes[499] <= 1.5 * sizes[19]
    assert "E500" in json.dumps(server.requests[-1]["messages"])


async def test_tools_are_offered_in_few_words():
    with Loopback(GOOD) as server:
        await planner(server).propose(view())
        offered = {t["function"]["name"]: t["function"] for t in server.requests[0]["tools"]}
    assert set(offered) == set(discover())
    for name, tool in discover().items():
        schema = offered[name]["parameters"]
        assert set(schema["properties"]) == set(tool.schema()["properties"])
        assert set(schema["required"]) <= set(tool.example) <= set(schema["properties"])
        assert list(Draft202012Validator(schema).iter_errors(tool.example)) == []


@pytest.fixture(scope="module")
def demo_tools():
    """What a run on the demo model offers."""
    subject = load_subject("demo")
    return [offered(t, subject) for t in discover().values() if t.fits(subject.capabilities)]


async def test_what_is_sent_first_is_short_and_the_tools_are_the_same_on_every_turn(demo_tools):
    with Loopback(GOOD, GOOD) as server:
        first = await planner(server).propose(replace(view(), tools=demo_tools))
        again = view([Exchange(first, (Answer(first.calls[0].id, "there"),))])
        await planner(server).propose(replace(again, tools=demo_tools))
        one, two = server.requests
    assert len(json.dumps(one["tools"], separators=(",", ":"))) / 4 < 4000  # at four characters a token
    assert len(json.dumps(one, separators=(",", ":"))) / 4 < 6000
    assert json.dumps(one["tools"]) == json.dumps(two["tools"])
    assert two["messages"][:2] == one["messages"][:2]


def test_first_words_end_at_a_sentence_a_clause_or_a_word():
    assert first_words("Look at it. Then more.", 40) == "Look at it."
    assert first_words("each: one at a time; together: all at once", 30) == "each: one at a time"
    assert first_words("one two three four five six", 15) == "one two three"


@pytest.fixture
def investigate(tmp_path, monkeypatch):
    """Runs agent.run with a scripted server as the model; returns (exit status, store, text of the report)."""

    def go(server, *more):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        argv = [
            "--goal",
            "can it add",
            "--subject",
            "demo",
            "--planner",
            "openai:test-model",
            "--device",
            "cpu",
            "--quiet",
        ]
        status = run.main([*argv, "--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), *more])
        if not (tmp_path / "e.db").exists():
            return status, None, ""
        store = Store(tmp_path / "e.db")
        return status, store, (tmp_path / "t" / store.runs()[0] / "report.md").read_text()

    return go


def answers_of(turns):
    return [completion(*[(c["name"], c["arguments"]) for c in t["calls"]], text=t["text"]) for t in turns]


def test_an_openai_planner_completes_a_run_and_every_call_is_answered_once(investigate, tmp_path):
    with Loopback(*answers_of(scripts.TURNS)) as server:
        status, store, report = investigate(server)
    assert status == 0
    run_name = store.runs()[0]
    assert store.run(run_name).status == "finished"
    assert [e.experiment.tool for e in store.experiments(run_name)] == [
        "describe_subject",
        "loss",
        "layer_program",
        "examine",
        "examine",
    ]
    assert [f.fate for f in store.findings(run_name)] == ["confirmed"]
    assert "The model does addition: [100%" in report.replace("\\", "")
    turns = [e.payload for e in store.events(run_name) if e.kind == "turn"]
    answered = [e.payload["call_id"] for e in store.events(run_name) if e.kind == "answer"]
    assert len(answered) == sum(len(t["calls"]) for t in turns)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()


def test_the_same_investigation_through_two_planners_leaves_the_same_experiments(investigate, tmp_path):
    with Loopback(*answers_of(scripts.TURNS)) as server:
        _, store, _ = investigate(server)
    script = scripts.write(tmp_path / "s.jsonl")
    argv = [
        "--goal",
        "can it add",
        "--planner",
        f"scripted:{script}",
        "--db",
        str(tmp_path / "f.db"),
        "--device",
        "cpu",
    ]
    assert run.main([*argv, "--out", str(tmp_path / "t"), "--quiet"]) == 0
    other = Store(tmp_path / "f.db")
    first, second = ([e.experiment.id for e in s.experiments(s.runs()[0])] for s in (store, other))
    assert first == second


def test_budgets_and_useless_turns_end_a_run_with_a_report(investigate):
    with Loopback(completion(text="Let me think.")) as server:
        status, store, report = investigate(server)
    assert status == 0
    assert "brought no result" in report
    assert len(server.requests) == 5


def test_a_token_budget_is_exceeded_by_one_call_at_most(investigate):
    with Loopback(*answers_of([scripts.TURNS[0]])) as server:
        status, store, report = investigate(server, "--max-tokens", "150")
    assert status == 0
    assert "budget of 150 tokens" in report
    assert len(server.requests) == 2


def test_a_cost_budget_needs_a_known_price(investigate, capsys):
    with Loopback(GOOD) as server:
        status, store, _ = investigate(server, "--max-cost", "1")
    assert (status, store) == (2, None)
    assert "prices.json" in capsys.readouterr().err
