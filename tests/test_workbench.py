"""The workbench: who is let in, what a look shows, forms, records of what a person does."""

import base64
import html
import json
import re
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from starlette.testclient import TestClient

from agent.loop.session import InputError
from agent.loop.task_check import check
from agent.replay import main as replay
from agent.report.build import render
from agent.review.workbench.app import bench_app
from agent.review.workbench.bench import Bench
from agent.review.workbench.forms import arguments, fields_of
from agent.review.workbench.guard import MOST_BYTES, Keys
from agent.workbench import main, parser, run_options
from experiments_db.places import Component
from experiments_db.store import Store
from tools.methods.effects import Condition, score_under
from tools.methods.features import two_classes
from tools.methods.measuring import load_examples
from tools.methods.one_example import OPERATIONS
from tools.methods.tool import ToolInputError, discover

HOST = "http://127.0.0.1:8643"
GOAL = "which block of the demo carries the operands of addition?"


def options(folder, *more):
    return run_options(parser().parse_args(["--db", str(folder / "e.db"), "--out", str(folder / "out"), "--null-twins", "0", *more]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workbench")


@pytest.fixture(scope="module")
def bench(folder):
    made = Bench(options(folder, "--goal", GOAL))
    yield made
    made.end()


@pytest.fixture(scope="module")
def keys():
    return Keys(8643)


@pytest.fixture(scope="module")
def stranger(bench, keys):
    """A client without the token."""
    return lambda **how: TestClient(bench_app(bench, keys), base_url=HOST, raise_server_exceptions=False, **how)


@pytest.fixture(scope="module")
def person(stranger, keys):
    """A client that has opened the printed address."""
    client = stranger(headers={"origin": HOST, "x-csrf-token": keys.csrf})
    entered = client.get(keys.url)
    assert "/workbench" in entered.text
    said = entered.headers["set-cookie"].lower()
    assert "httponly" in said and "samesite=strict" in said
    return client


def done(bench, name, args):
    """A call's answer, waited for."""
    number = bench._calls
    bench.call(name, args)
    while bench._calls == number:
        time.sleep(0.01)
    return bench.state()["last"]


# -- who is let in -------------------------------------------------------------------------------------------------------

PAGES = ["/workbench", "/workbench/state.json", "/workbench/record.html", "/workbench/forms/loss", "/workbench/examples.json?task=addition",
         "/workbench/checked.html?task=addition",
         "/workbench/static/workbench.js", "/", "/compare", "/static/review.css"]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_shown_without_the_token_and_everything_with_it(path, stranger, person):
    for client in (stranger(), stranger(cookies={"locus-workbench-8643": "guessed"})):
        assert client.get(path).status_code == 403
        assert client.get(path, params={"token": "guessed"}).status_code == 403
    answer = person.get(path)
    assert answer.status_code == 200
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_a_name_that_somebody_made_point_here_is_refused(person, keys):
    for host in ("evil.example:8643", "127.0.0.1:9999", "127.0.0.1"):
        assert person.get("/workbench", headers={"host": host}).status_code == 421
        assert person.get(f"/workbench?token={keys.token}", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"origin": "https://evil.example"}, "own pages"), ({"origin": "null"}, "own pages"), ({"origin": ""}, "own pages"),
        ({"x-csrf-token": "guessed"}, "load it again"), ({"x-csrf-token": ""}, "load it again"),
    ],
)  # fmt: skip
def test_a_change_is_taken_from_the_workbenchs_own_pages_alone(headers, why, person, bench):
    before = bench.store.last_seq(bench.run_name)
    for path in ("look", "begin", "call", "cancel"):
        answer = person.post(f"/workbench/{path}", json={"tool": "note", "args": {"text": "x"}}, headers=headers)
        assert answer.status_code == 403 and why in answer.json()["error"]
    assert bench.store.last_seq(bench.run_name) == before


def test_no_get_changes_anything(person, bench):
    before = (bench.store.last_seq(bench.run_name), bench.state()["run"]["status"])
    for path in PAGES:
        person.get(path)
    for path in ("look", "begin", "call", "cancel"):
        assert person.get(f"/workbench/{path}", params={"tool": "note", "args": "{}"}).status_code in (404, 405)
    assert (bench.store.last_seq(bench.run_name), bench.state()["run"]["status"]) == before


def test_a_huge_body_is_refused_whether_its_length_is_said_or_not(person):
    text = json.dumps({"tool": "note", "args": {"text": "x" * MOST_BYTES}})
    assert person.post("/workbench/call", content=text).status_code == 413
    pieces = (text[i : i + 4096].encode() for i in range(0, len(text), 4096))
    assert person.post("/workbench/call", content=pieces).status_code == 413


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"tool": "ablat", "filled": {}}, "there is no tool 'ablat'"), ({"tool": "loss", "filled": {}}, "tasks: missing"),
        ({"tool": "loss", "filled": {"tasks": "addition", "examples": "many"}}, "got 'many'"),
        ({"tool": "lens", "filled": {"prompt": "3", "at": "somewhere"}}, "-1"),
        ({"tool": "loss", "filled": {"tasks": "addition", "nonsense": "1"}}, "unknown argument"),
        ({"tool": "structural_probe", "filled": {}}, "trees"), ({"tool": "loss", "args": [1]}, "no JSON object"),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_is_answered_with_what_would_be_valid_and_nothing_is_stored(body, why, person, bench):
    before = bench.store.last_seq(bench.run_name)
    answer = person.post("/workbench/call", json=body)
    assert answer.status_code == 422
    assert why in answer.json()["error"]
    assert bench.store.last_seq(bench.run_name) == before


def test_one_thing_is_computed_at_a_time(person, bench):
    bench._take("lens")
    try:
        for path in ("look", "call"):
            answer = person.post(f"/workbench/{path}", json={"task": "addition", "tool": "loss", "args": {"tasks": ["addition"]}} if path == "call" else {"task": "addition"})
            assert answer.status_code == 409
            assert "lens is running" in answer.json()["error"]
    finally:
        bench._give()


def test_a_page_holds_no_markup_of_a_task_or_a_question(person):
    text = person.get("/workbench").text
    assert "<script>" not in text and " style=" not in text and " onclick=" not in text


# -- a task, before a run ------------------------------------------------------------------------------------------------


def rows_of(page):
    """What a checked task's page says, by what it is about, as a reader has it."""
    found = re.findall(r'<tr data-about="(\w+)"><th scope="row">.*?</th><td>(.*?)</td></tr>', page.text, re.DOTALL)
    return {about: " ".join(html.unescape(re.sub(r"<[^>]*>", "", cell)).split()) for about, cell in found}


def test_a_task_is_checked_with_what_the_doctor_says_of_it(person, bench):
    shown = rows_of(person.get("/workbench/checked.html?task=agreement"))
    said = list(check(bench.context(), "agreement"))
    assert list(shown) == list(dict.fromkeys(f.about for f in said))
    for f in said:
        if f.about not in ("time", "forecast"):  # measured each time
            assert " ".join(f"{f.says} {f.mend}".split()).strip() in shown[f.about].replace("→ ", "")
    assert "chance 0.5" in shown["task"] and shown["problems"] == "80 to explore; 63 to confirm"
    assert "'The' 'dog' 'to' 'the' 'cars' -> ' is'" in shown["example"] and "attractor: 'cars' at -1" in shown["example"]
    assert re.search(r"conflict \(False: \d+, True: \d+\)", shown["classes"])
    assert [tool for tool in ("(loss)", "(ablate)", "(patch)") if f"{tool}, on 72 examples: about" in shown["forecast"]] == ["(loss)", "(ablate)", "(patch)"]


def test_a_file_that_the_workbench_was_started_with_is_checked_with_what_is_wrong_in_it(folder, keys):
    rows = [{"prompt": f"{a} + {b} =", "answer": f" {a + b}", "twin": f"{a} + {b + 1} =", "foil": f" {a + b + 1}", "group": f"{a}", "split": "explore" if a < 6 else "confirm"} for a in range(3, 9) for b in range(3, 8)]  # fmt: skip
    for r in rows[:5]:
        r["twin"] = "3 + 3 + 1 ="
    (folder / "mine.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "snow.jsonl").write_text("".join(json.dumps({"prompt": f"\u2603 {i} =", "answer": f" {i}"}) + "\n" for i in range(30)))
    started = options(folder, "--task", str(folder / "mine.jsonl"), "--task", str(folder / "snow.jsonl"))
    client = TestClient(bench_app(Bench(started), keys), base_url=HOST)
    page = client.get(keys.url) and client.get("/workbench")
    assert "<option>mine</option>" in page.text.partition('id="check-task"')[2]
    mine, snow = (rows_of(client.get(f"/workbench/checked.html?task={name}")) for name in ("mine", "snow"))
    assert mine["problems"] == "3 to explore in 15 examples, 5 of each; 3 to confirm in 15 examples, 5 of each"
    assert mine["twins"].startswith("warning 1 of 3") and "'3 + 3 + 1 ='" in mine["twins"] and "these are left out" in mine["twins"]
    assert list(snow) == ["task"] and snow["task"].startswith("failed") and "\u2603" in snow["task"]


# -- forms ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", discover())
def test_a_filled_in_form_asks_for_what_it_was_filled_with(name):
    tool = discover()[name]
    fields = fields_of(tool, tool.example)
    assert tool.parse(arguments(tool, {f.name: f.value for f in fields})) == tool.parse(tool.example)
    assert {f.name for f in fields if f.required} == {n for n, f in tool.args.model_fields.items() if f.is_required()}
    if name != "show_examples" and not any(f.required for f in fields):
        assert tool.parse(arguments(tool, {f.name: f.value for f in fields_of(tool)})) == tool.args()


def test_lines_keep_their_blanks_and_line_breaks_inside_them():
    tool = discover()["lens"]
    assert arguments(tool, {"prompt": "3 + 7 = 10", "watch": " is\r\n\\n\r\n\r\na\\\\b"}) == {"prompt": "3 + 7 = 10", "watch": [" is", "\n", "a\\b"]}


# -- what a look shows ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(bench):
    """The plain transformers model on the first example of addition: logits and hidden states, with hooks where asked."""
    demo, sample = bench.subject, load_examples(bench.context(), "addition", 64)[1]
    ids = torch.tensor([demo.tokens(sample[0].prompt)])

    def run(*hooks):
        handles = [module.register_forward_hook(hook) for module, hook in hooks]
        try:
            with torch.inference_mode():
                return demo.model(ids, output_hidden_states=True)
        finally:
            for handle in handles:
                handle.remove()

    target = demo.tokens(sample[0].answer, special=False)[0]
    return SimpleNamespace(run=run, ids=ids, target=target, h=demo.model.transformer.h, demo=demo, sample=sample)


def right(side):
    return side["answers"][0]["right"]


def test_the_answer_and_the_lens_are_what_plain_transformers_give(bench, plain):
    seen = bench.look({"task": "addition"})
    (side,) = seen["sides"]
    out = plain.run()
    p = out.logits[0, -1].softmax(-1)
    assert right(side)["p"] == pytest.approx(float(p[plain.target]), abs=1e-5)
    assert [a["p"] for a in side["answers"][0]["top"]] == pytest.approx(p.topk(5).values.tolist(), abs=1e-5)
    states = [*out.hidden_states[:-1]]
    for depth, h in enumerate(states):
        with torch.inference_mode():
            read = plain.demo.model.lm_head(plain.demo.model.transformer.ln_f(h))[0].softmax(-1)
        assert side["chance"][depth] == pytest.approx(read.max(-1).values.tolist(), abs=1e-4)
        assert side["top"][depth] == [plain.demo.token_label(t) for t in read.argmax(-1).tolist()]
    assert side["steps"] == ["embed", *(f"block {b}" for b in range(6))]
    assert seen["stacks"]["decoder"]["roles"][-1] == "the equals sign"


def test_the_heads_look_where_queries_and_keys_say(bench, plain):
    seen = bench.look({"task": "addition"})
    a, n = seen["attention"], plain.ids.shape[1]
    found = torch.frombuffer(bytearray(base64.b64decode(seen["sides"][0]["patterns"])), dtype=torch.uint8).view(a["blocks"], a["heads"], n, n)
    block, h = plain.h[2], plain.run().hidden_states[2]
    with torch.inference_mode():
        q, k, _ = block.attn.c_attn(block.ln_1(h)).split(128, -1)
    q, k = (t.view(n, 4, 32).transpose(0, 1) for t in (q[0], k[0]))
    scores = (q @ k.transpose(1, 2) / 32**0.5).masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
    assert (found[2] / 255 - scores.softmax(-1)).abs().max() < 0.5 / 255 + 1e-4


def test_a_part_that_is_switched_off_is_off_as_a_plain_hook_does_it(bench, plain):
    def zero(_m, _a, out):
        return torch.cat([out[:, :-1], torch.zeros_like(out[:, -1:])], 1)

    intact, changed = bench.look({"task": "addition", "zero": ["decoder.0.mlp.out@answer"]})["sides"]
    logits = plain.run((plain.h[0].mlp, zero)).logits[0, -1]
    assert right(changed)["p"] == pytest.approx(float(logits.softmax(-1)[plain.target]), abs=1e-5)
    assert right(changed)["rank"] == int((logits > logits[plain.target]).sum()) + 1 > right(intact)["rank"]


def test_a_layer_program_is_a_model_in_which_the_block_does_nothing(bench, plain):
    _, changed = bench.look({"task": "addition", "programs": ["skip 0"]})["sides"]
    logits = plain.run((plain.h[0], lambda _m, args, _out: args[0])).logits[0, -1]
    assert right(changed)["p"] == pytest.approx(float(logits.softmax(-1)[plain.target]), abs=1e-5)
    assert changed["ran"] == [False, True, True, True, True, True]
    assert changed["steps"] == ["embed", *(f"block {b}" for b in range(1, 6))]


@pytest.mark.parametrize("how", ["mean", "resample", "patch"])
def test_what_takes_a_parts_place_is_what_the_tools_put_there(how, bench, plain):
    _, changed = bench.look({"task": "addition", how: ["decoder.0.mlp.out@answer"]})["sides"]
    ctx = bench.context()
    task, examples = load_examples(ctx, "addition", 64)
    _, scores = score_under(ctx, task, examples, [Condition.of(Component.parse("decoder.0.mlp.out@answer"), OPERATIONS[how])])
    assert changed["values"]["nll"] == pytest.approx(scores.nll[0], abs=1e-4)


def test_steering_adds_the_difference_of_means_and_no_strength_changes_nothing(bench, plain):
    given = {"task": "addition", "steer_label": "carry", "steer_value": "1", "steer_at": "decoder.2.resid_post"}
    seen = bench.look({**given, "dose": 4})
    x, has = two_classes(plain.demo, plain.sample[1:], Component.parse("decoder.2.resid_post"), "carry", "1", 2048)
    push = 4 * torch.tensor(x[has].mean(0) - x[~has].mean(0))
    assert push.norm() > 0
    logits = plain.run((plain.h[2], lambda _m, _a, out: out + push if isinstance(out, torch.Tensor) else (out[0] + push, *out[1:]))).logits[0, -1]
    assert right(seen["sides"][1])["p"] == pytest.approx(float(logits.softmax(-1)[plain.target]), abs=1e-4)
    assert len(bench.look({**given, "dose": 0})["sides"]) == 1


def test_a_twin_that_is_the_same_text_patches_nothing_and_another_one_carries_its_answer_over(bench):
    typed = {"task": "addition", "text": "3 + 4 =", "patch": ["decoder.0.mlp.out@-1"]}
    same = bench.look({**typed, "twin": "3 + 4 ="})["sides"]
    assert right(same[0])["p"] == pytest.approx(right(same[1])["p"], abs=1e-5)
    other = bench.look({**typed, "twin": "3 + 5 ="})
    assert other["example"]["right"].strip() == "7" and not other["example"]["asked"]
    assert [s["answers"][0]["top"][0]["label"].strip() for s in other["sides"]] == ["7", "8"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "name a task"), ({"task": "nothing"}, "no task"), ({"task": "addition", "zero": ["decoder.9.mlp.out"]}, "9"),
        ({"text": "3 + 4 =", "patch": ["decoder.0.mlp.out"]}, "no twin"), ({"text": "3 + 4 =", "mean": ["decoder.0.mlp.out"]}, "examples"),
        ({"text": "3 + 4 =", "twin": "3 + 4 + 5 ="}, "as many"), ({"task": "addition", "programs": ["jump 3"]}, "skip"),
        ({"task": "addition", "programs": ["skip 1", "skip 2"]}, "one for each"), ({"task": "addition", "attention": "encoder.attn"}, "decoder.attn"),
        ({"task": "addition", "steer_at": "decoder.2.resid_post", "steer_label": "colour", "dose": 1}, "carry"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_refused_with_the_reason(given, why, person):
    answer = person.post("/workbench/look", json=given)
    assert answer.status_code == 422 and why in answer.json()["error"]


# -- what is kept --------------------------------------------------------------------------------------------------------


def test_looking_keeps_nothing_and_what_is_kept_is_what_was_seen(bench):
    given = {"task": "addition", "zero": ["decoder.0.mlp.out@answer"]}
    before = bench.store.last_seq(bench.run_name)
    seen = bench.look(given)
    assert bench.store.last_seq(bench.run_name) == before
    last = done(bench, "illustrate", given)
    assert last["text"].startswith(f"{last['handle']}: illustration of one example, evidence for nothing")
    found = {(m.name, m.variant): m.value for m in bench.store.measurements(bench.store.experiment(bench.run_name, last["handle"]).result_id)}
    for side, variant in zip(seen["sides"], ("as it is", "changed"), strict=True):
        assert found["probability", variant] == pytest.approx(right(side)["p"], abs=1e-5)
        assert found["rank", variant] == right(side)["rank"]
    assert bench.run.planner == "person"


def test_an_illustration_is_evidence_for_nothing(bench):
    shown = done(bench, "illustrate", {"task": "addition"})["handle"]
    refused = done(bench, "hypothesis", {"statement": "Block 0 adds.", "status": "supported", "evidence_for": [shown]})
    assert refused["status"] == "rejected" and "evidence for nothing" in refused["text"]
    assert done(bench, "predict", {"experiment": shown})["status"] == "rejected"


def test_what_runs_can_be_cancelled_and_leaves_nothing(bench):
    before = len(bench.store.experiments(bench.run_name))
    bench.call("layer_program", {"tasks": ["addition"], "sweep": "skip_ranges", "examples": 64})
    bench.cancel()
    while bench.state()["busy"]:
        time.sleep(0.01)
    last = bench.state()["last"]
    assert (last["status"], last["text"]) == ("rejected", "cancelled: nothing of it was kept")
    assert len(bench.store.experiments(bench.run_name)) == before
    assert done(bench, "note", {"text": "Cancelled, and on we go."})["status"] == "ok"


def test_a_stopped_workbench_goes_on_with_its_run_and_the_report_and_the_replay_hold(bench, folder, capsys):
    name = bench.run_name
    done(bench, "note", {"text": "I close the lid here."})
    bench.end()
    assert bench.run.status == "stopped"
    again = Bench(options(folder, "--resume", "latest"))
    try:
        assert again.run_name == name and again.run.status == "running"
        last = done(again, "loss", {"tasks": ["addition"], "examples": 16})
        assert last["status"] == "ok"
        assert done(again, "finish", {"answer": "unclear", "words": "I only looked."})["status"] == "ok"
        assert again.state()["run"]["ended"]
        with pytest.raises(ToolInputError, match="no run is under way"):
            again.call("note", {"text": "too late"})
        with pytest.raises(InputError, match="what you want to find out"):
            again.begin(" ")
        second = again.begin("can the demo copy?")
        assert second != name and again.state()["run"]["goal"] == "can the demo copy?"
    finally:
        again.end()
    store = Store(folder / "e.db", create=False)
    report = render(store, name, None)
    shown = ", ".join(e.handle for e in store.experiments(name) if e.experiment.tool == "illustrate")
    assert f"Illustrations of one example each, looked at by hand, and evidence for nothing: {shown}." in report
    assert replay([name, "--db", str(folder / "e.db")]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--port", "70000"], "1 to 65535"), (["--subject", "./nowhere"], "nowhere"), (["--task", "none.jsonl"], "no such file"),
        (["--resume", "latest"], "no experiments database"), (["--goal", " "], "say what to find out"),
    ],
)  # fmt: skip
def test_what_cannot_be_begun_is_said_in_one_line(more, why, tmp_path, capsys):
    assert main(["--db", str(tmp_path / "e.db"), "--out", str(tmp_path / "out"), *more]) == 2
    said = capsys.readouterr().err
    assert why in said and said.startswith("agent.workbench: ") and said.count("\n") == 1


def test_threads_end_with_the_workbench(bench):
    bench.end()
    assert not [t for t in threading.enumerate() if t.name == "investigation" and t.is_alive() and t is bench.hand.thread]
