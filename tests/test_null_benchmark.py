"""The benchmark of nulls: its nulls are nulls, what is explored there misleads, and what counts as false is false."""

from types import SimpleNamespace

import pytest

from benchmarks import keeping
from benchmarks.keeping import Kept, code_of, write_table
from benchmarks.nulls import worlds
from benchmarks.nulls.__main__ import counts, interval, table
from benchmarks.nulls.playing import judged, play
from benchmarks.planted.compiled import compile_case
from experiments_db.findings import Finding, Statement
from experiments_db.places import Component
from tools.findings.contrast import Contrast
from tools.subjects import wrap


def rows(world, split):
    return [e for e in world.data[0].examples if e["split"] == split]


@pytest.mark.parametrize("null", ["random_init", "shuffled_answers", "chance"])
def test_a_null_seems_able_where_it_is_explored_and_is_not_where_it_is_unseen(null):
    world = worlds.MAKERS[null](0, 0)
    right = {}
    for split in ("explore", "confirm"):
        says = worlds._says(world.subject, [e["prompt"] for e in rows(world, split)])
        firsts = [f" {e['answer'].split()[0]}" for e in rows(world, split)]
        right[split] = sum(a == b for a, b in zip(says, firsts, strict=True)) / len(says)
    assert len(rows(world, "explore")) >= 64
    assert right["explore"] == 1.0
    assert right["confirm"] < 0.6
    assert max(map(len, [{e["answer"] for e in rows(world, "explore")}])) > 1  # and it says more than one thing


def test_a_null_is_the_same_for_the_same_seed_and_number_only():
    made = [worlds.random_init(*key) for key in ((0, 1), (0, 1), (0, 2), (1, 1))]
    prints = [(w.subject.fingerprint, w.data[0].sha) for w in made]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_an_investigation_of_a_null_tries_localisations_and_comes_out_the_same_again():
    first, again = (play("random_init", 0, 0) for _ in range(2))
    assert first["located"] > 0  # it was misled
    assert first["false"] == []
    assert {**first, "seconds": 0} == {**again, "seconds": 0}


def confirmed(kind, place):
    s = Statement(kind=kind, task="listed", components=place)
    return Finding(
        handle="F1", statement=s, seen="E1", smallest=0.1, probability=0.9, power=0.9, fate="confirmed", experiment="E2", p=0.001,
        threshold=0.01,
    )  # fmt: skip


def test_false_is_what_cannot_be_true_of_a_null_and_what_takes_no_part_where_there_is_something():
    world = SimpleNamespace()
    head, looks = "decoder.0.attn.z[0]@answer", "decoder.0.attn.pattern[0]@answer<--1"
    for null in ("random_init", "shuffled_answers", "chance"):
        assert judged(null, world, [confirmed("necessary", head)])[0]
        false, true = judged(null, world, [confirmed("attends", looks)])
        assert (false, len(true)) == ([], 1)
        assert judged(null, world, [confirmed("not_needed", head)]) == ([], [])
    case = compile_case("previous", 0)
    some = SimpleNamespace(facts=case, subject=wrap(case.model, case.tokenizer))
    idle = sorted(worlds.idle_of(case.truth))
    true = next(f.components[0] for f in case.truth if f.kind == "necessary")
    assert judged("elsewhere", some, [confirmed("necessary", f"{idle[0]}@answer")])[0]
    assert judged("elsewhere", some, [confirmed("necessary", true)]) == ([], [])
    whole = str(Component.parse(true).but(part="attn.out", units=())) if ".attn.z" in true else true
    assert judged("elsewhere", some, [confirmed("necessary", whole)]) == ([], [])


def test_a_test_that_confirms_everything_shows_in_the_share(monkeypatch):
    monkeypatch.setattr(Contrast, "p", lambda _: 1e-12)
    assert play("random_init", 0, 0)["false"]


def test_investigations_are_shared_out_and_a_share_has_its_exact_interval():
    assert counts(200) == {"random_init": 67, "shuffled_answers": 67, "chance": 66, "elsewhere": 40}
    low, high = interval([True] + [False] * 199)
    assert (low, high) == (pytest.approx(0.000127, abs=1e-5), pytest.approx(0.02753, abs=1e-4))  # Clopper and Pearson
    assert interval([False] * 3) == (0.0, 1.0)
    result = {"false": [], "true": ["x"], "located": 3, "experiments": 10, "seconds": 1.0}
    text = table({"random_init": [result, {**result, "false": ["y"]}], "elsewhere": [result]})
    assert "| model of random weights | 2 | 1 (50.0%) | 0.0% to 100.0% | 6 | 2 |" in text


def test_a_stopped_benchmark_goes_on_and_other_code_begins_anew(tmp_path):
    made = []

    def compute():
        made.append(1)
        return {"n": len(made)}

    path = tmp_path / "r.jsonl"
    assert Kept(path, "a").get("x", compute) == {"n": 1}
    path.write_text(path.read_text() + '{"key": "cut o')  # killed while it wrote
    assert Kept(path, "a").get("x", compute) == {"n": 1}
    assert Kept(path, "b").get("x", compute) == {"n": 2}
    assert Kept(path, "b").get("x", compute) == {"n": 2}
    assert len(made) == 2


def test_a_table_stands_between_its_markers(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- x -->\nold\n<!-- end x -->\nb\n")
    write_table("x", "new", readme)
    assert readme.read_text() == "a\n<!-- x -->\nnew\n<!-- end x -->\nb\n"
    with pytest.raises(ValueError, match="no markers"):
        write_table("y", "new", readme)
    assert "Commit" in keeping.made_with(3)
    (tmp_path / "m.py").write_text("1")
    before = code_of([tmp_path])
    (tmp_path / "m.py").write_text("2")
    assert code_of([tmp_path]) != before
