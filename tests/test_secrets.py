"""No key is written anywhere: canaries that a run is given are searched for in every file that it leaves, and in what it prints."""

import asyncio
import base64
import json

import pytest
import scripts
from loopback import Loopback, completion

from agent import run
from agent.planners.base import View
from agent.planners.openai_chat import OpenAIChat
from experiments_db import __main__ as exchange
from experiments_db.store import Store

CANARIES = {
    name: f"canary-{i}-{'x7Kq' * 5}"
    for i, name in enumerate(
        ("OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "OPENAI_ORG_ID")
    )
}
KEY = CANARIES["OPENAI_API_KEY"]


@pytest.fixture
def planted(monkeypatch):
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)


def leaks(folder, printed):
    """Where a canary stands, plain or in base64."""
    found = []
    for name, value in CANARIES.items():
        wanted = (value.encode(), base64.b64encode(value.encode())[:-4])
        found += [f"{name} in {f.name}" for f in folder.rglob("*") if f.is_file() and any(w in f.read_bytes() for w in wanted)]
        found += [f"{name} in what is printed"] if value in printed else []
    return found


def test_the_search_finds_what_is_there(tmp_path):
    (tmp_path / "a").write_bytes(b"\x00" + KEY.encode())
    assert leaks(tmp_path, "") == ["OPENAI_API_KEY in a"]
    assert leaks(tmp_path / "none", KEY) == ["OPENAI_API_KEY in what is printed"]


ECHOES = {
    "a text": completion(("loss", {"tasks": ["addition"], "examples": 16}), text=f"My key is {KEY}."),
    "arguments": completion(("note", {"text": f"The key {KEY}."}), ("loss", {"tasks": [KEY], "examples": 16})),
    "a tool's name and id": completion((KEY, {}), ids=[KEY]),
    "a refusal": completion(refusal=f"not with {KEY}"),
    "an error": (400, {}, {"error": {"message": f"bad key {KEY}"}}),
    "a server's fault": (401, {}, {"error": {"message": f"Bearer {KEY}"}}),
}


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize("where", ECHOES)
def test_a_key_that_a_server_gives_back_is_not_kept(where, tmp_path, monkeypatch, capfd):
    end = completion(("finish", {"answer": "unclear", "words": "Enough."}))
    with Loopback(ECHOES[where], end) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        places = ["--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--device", "cpu", "--null-twins", "0"]
        run.main(["--goal", "look", "--planner", "openai:test-model", *places])
        assert KEY in json.dumps(server.headers)  # it was used
    (name,) = Store(tmp_path / "e.db").runs()
    assert exchange.main(["export", name, "--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "r.jsonl")]) == 0
    said = capfd.readouterr()
    assert (tmp_path / "t" / name / "report.md").is_file()
    assert leaks(tmp_path, said.out + said.err) == []


@pytest.mark.parametrize("key", ["x", "none", "EMPTY", "addition"])
def test_a_word_that_a_server_of_ones_own_takes_for_a_key_changes_nothing_that_a_planner_says(key, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with Loopback(completion(("examine", {"kind": "capability", "task": "addition", "examples": 16}), text="EMPTY, none.")) as server:
        turn = asyncio.run(OpenAIChat("test-model", base_url=server.url, api_key=key).propose(View("look", "demo", (), ())))
    assert [(c.name, json.loads(c.arguments)["task"]) for c in turn.calls] == [("examine", "addition")]
    assert turn.text == "EMPTY, none."


@pytest.mark.usefixtures("planted")
def test_a_password_in_an_address_is_not_kept(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://user:{CANARIES['HF_TOKEN']}@127.0.0.1:9/v1")
    monkeypatch.setattr("agent.planners.openai_chat.OpenAIChat._wait", lambda *_: 0.0)
    places = ["--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--device", "cpu", "--null-twins", "0"]
    run.main(["--goal", "look", "--planner", "openai:test-model", *places])
    said = capfd.readouterr()
    assert "cannot be reached" in said.out + said.err + (tmp_path / "t" / Store(tmp_path / "e.db").runs()[0] / "report.md").read_text()
    assert leaks(tmp_path, said.out + said.err) == []


@pytest.mark.usefixtures("planted")
def test_a_run_without_a_server_keeps_nothing_of_the_environment(tmp_path, capfd):
    script = scripts.write(tmp_path / "s.jsonl")
    places = ["--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "t"), "--device", "cpu", "--null-twins", "0"]
    assert run.main(["--goal", "can it add?", "--planner", f"scripted:{script}", *places]) == 0
    said = capfd.readouterr()
    assert leaks(tmp_path, said.out + said.err) == []
