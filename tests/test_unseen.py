"""What a finding is settled on was never settled on before: whatever the class, the number or the task asked for."""

import json

import hypothesis.strategies as st
from hypothesis import given, settings
from scripts import call, write

from agent.loop.unseen import stretch, unquoted
from agent.run import main
from experiments_db.store import Store
from tools.tasks import Example, Task, from_records, get_task, read_jsonl


def listed(groups: int) -> Task:
    """A task of some problems, every third of them of class `c`."""

    def draw(split, rng):
        rows = list(range(groups))
        rng.shuffle(rows)
        for i in rows:
            yield Example.of_text(f"{i}", "a", group=f"{split}{i}", labels={"class": "c" if i % 3 == 0 else "d"})

    return Task("listed", "Numbers.", draw)


def groups_of(task: Task, n: int, start: int) -> set[str]:
    return {e.group for e in task.examples("confirm", n, draw=start)}


@settings(deadline=None, max_examples=60)
@given(rounds=st.lists(st.tuples(st.integers(2, 12), st.sampled_from(["", "class=c", "class=d"])), max_size=6))
def test_rounds_of_any_size_and_class_share_no_problem_until_there_are_no_others(rounds):
    task, used = listed(90), set()
    for n, among in rounds:
        chosen = task.among(among)
        place = stretch([chosen], n, used)
        mine = groups_of(chosen, n, place.start)
        assert place.reused == bool(mine & used)
        free = [e.group not in used for e in chosen.examples("confirm", 90)]
        longest = max(map(len, "".join("x" if f else " " for f in free * 2).split()), default=0)
        assert not place.reused or longest < n
        used |= mine


def test_two_tasks_that_are_compared_are_both_new():
    task = listed(60)
    used = groups_of(task, 12, 0)
    place = stretch([task.among("class=c"), task.among("class=d")], 6, used)
    assert not place.reused
    for among in ("class=c", "class=d"):
        assert not groups_of(task.among(among), 6, place.start) & used


def test_where_all_is_used_it_says_so_and_takes_what_was_used_least():
    task = listed(20)
    used = groups_of(task, 15, 0)
    place = stretch([task], 10, used)
    assert place.reused
    assert len(groups_of(task, 10, place.start) & used) == 5


def test_a_shorter_sample_of_a_real_task_does_not_lie_within_a_longer_one():
    task = get_task("addition")
    used = groups_of(task, 64, 0)
    assert not groups_of(task, 32, stretch([task], 32, used).start) & used
    assert stretch([task], 64, set()).start == 0


def test_what_is_said_of_unseen_examples_does_not_quote_them():
    sealed, seen = (listed(60).examples(split, 5) for split in ("confirm", "explore"))
    quoted = [repr(e.shown) for e in sealed], [repr(f"the {e.shown} of") for e in sealed], [repr(e.shown) for e in seen]
    said = "; ".join(["'class' is \"it's\", there's 7", *quoted[0], *quoted[1], *quoted[2], "the answer 'a' has no tokens"])
    told = unquoted(said, lambda: [listed(60)], 5, set())
    assert told.count("(unseen)") == 11
    assert told.startswith("'class' is \"it's\", there's 7; (unseen); ")
    assert not [q for q in (*quoted[0], *quoted[1]) if q in told]
    assert all(q in told for q in quoted[2] if q not in quoted[0])


def test_a_refusal_to_confirm_tells_nothing_of_what_it_could_not_be_confirmed_on(tmp_path):
    """The examples to explore have a sixth position from the end, those to confirm have not."""
    sums = [{"prompt": f"{shot}{a} + {b} =", "answer": str(a + b)} for a in range(4, 40) for b in range(1, 30) for shot in ("", "3 + 7 = 10\n")]
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in sums))
    whole = from_records("sums", "", read_jsonl(file))
    side = {e.shown: s for s in ("explore", "confirm") for e in whole.examples(s, 2000)}
    keep = [r for r in sums if ("3 + 7" in r["prompt"]) == (side.get(r["prompt"]) == "explore")]
    file.write_text("".join(json.dumps(r) + "\n" for r in keep))
    asked = {"kind": "necessary", "task": "sums", "components": ["decoder.0.mlp.out@-6"], "interventions": ["zero"], "examples": 16}
    turns = [
        {"text": "can it", "calls": [call("loss", tasks=["sums"], examples=16)]},
        {"text": "look", "calls": [call("examine", **asked)]},
        {"text": "predict", "calls": [call("predict", experiment="E2", probability=0.8)]},
        {"text": "confirm", "calls": [call("confirm")]},
        {"text": "end", "calls": [call("finish", answer="unclear", words="It could not be tested.")]},
    ]
    argv = ["--goal", "where are sums?", "--task", file, "--planner", f"scripted:{write(tmp_path / 's.jsonl', turns)}"]
    argv += ["--db", tmp_path / "e.db", "--out", tmp_path / "t", "--null-twins", "0", "--device", "cpu", "--quiet"]
    assert main(list(map(str, argv))) == 0
    store = Store(tmp_path / "e.db")
    (run,) = store.runs()
    answers = [e.payload for e in store.events(run) if e.kind == "answer"]
    assert [a["status"] for a in answers] == ["ok"] * 5, answers[1]["text"]
    assert "(unseen) has" in answers[3]["text"], answers[3]["text"]
    hidden = [p for p, s in side.items() if s == "confirm"]
    everything = json.dumps([e.payload for e in store.events(run)]) + (tmp_path / "t" / run / "report.md").read_text()
    assert not [p for p in hidden if repr(p) in everything]
