"""A database of version 0.1 is read: what it measured lies at the same places, and what was written still refers to it."""

import pytest
import sqlite_utils

from agent.loop.record import RunRecord
from agent.report.build import render
from agent.report.references import resolve
from experiments_db.legacy import coordinates_of
from experiments_db.schema import migrations
from experiments_db.store import Store

NOTHING = dict.fromkeys(("program", "token", "variant", "site", "layer", "head", "position"))


@pytest.mark.parametrize(
    ("tool", "row", "new"),
    [
        ("ablate", {"site": "1.mlp", "layer": 1, "position": "last", "variant": "zero"},
         {"component": "decoder.1.mlp.out@-1", "intervention": "zero", "variant": None}),
        ("ablate", {"site": "2.head.3", "layer": 2, "head": 3, "position": "all", "variant": "mean"}, {"component": "decoder.2.attn.z[3]"}),
        ("ablate", {"site": "1+2.block", "position": "last"}, {"component": "decoder.1.block@-1 + decoder.2.block@-1"}),
        ("minimal_set", {"site": "1.head.0+2.head.1+1.head.2 without 2.head.1", "position": "last"}, {"component": "decoder.1.attn.z[0,2]@-1"}),
        ("patch", {"site": "3.resid_pre", "layer": 3, "position": "-4", "variant": "noise"},
         {"component": "decoder.3.resid_pre@-4", "intervention": "resample(twin)", "variant": "noise"}),
        ("patch", {"site": "0.head.pattern.2", "layer": 0, "head": 2, "position": "all"}, {"component": "decoder.0.attn.pattern[2]"}),
        ("path_patch", {"site": "0.head.3 -> 5.q.1", "position": "last"}, {"component": "decoder.0.attn.z[3]@-1 -> decoder.5.attn.q[1]"}),
        ("path_patch", {"site": "2.mlp.out -> logits", "position": "all"}, {"component": "decoder.2.mlp.out -> decoder.logits"}),
        ("lens", {"layer": 0, "position": "-2", "token": "x", "variant": "norm"}, {"component": "decoder.embed@-2", "token": "x"}),
        ("lens", {"layer": 4}, {"component": "decoder.3.resid_post"}),
        ("attention", {"site": "1.head.2", "layer": 1, "head": 2, "position": "-3"}, {"component": "decoder.1.attn.pattern[2]@-1<--3"}),
        ("attribute", {"site": "embedding", "position": "last"}, {"component": "decoder.embed@-1"}),
        ("probe", {"site": "encoder.5.resid_post", "layer": 5, "position": "last", "token": "x1 % 2"},
         {"component": "encoder.5.resid_post@-1", "label": "x1 % 2", "token": None}),
        ("steer", {"site": "decoder.2.mlp.out", "layer": 2, "position": "all", "program": "dose 1.5"},
         {"component": "decoder.2.mlp.out", "dose": 1.5, "program": None}),
        ("layer_program", {"program": "skip 2"}, {"component": None, "program": "skip 2"}),
        ("other", {"site": "no place at all", "layer": 7, "variant": "v"}, {"component": None, "variant": "v, site no place at all, layer 7"}),
    ],
)  # fmt: skip
def test_old_columns_become_places(tool, row, new):
    found = coordinates_of(tool, {**NOTHING, **row})
    assert {k: found[k] for k in new} == new


@pytest.fixture
def old(tmp_path):
    """A database as version 0.1 left it, with one run."""
    db = sqlite_utils.Database(tmp_path / "old.db")
    migrations.apply(db, stop_before="m004_places")
    db["runs"].insert(
        {
            "name": "r",
            "goal": "g",
            "subject": "s",
            "planner": "p",
            "settings": "{}",
            "status": "finished",
            "reason": "",
            "created": "1",
        }
    )
    db["experiments"].insert(
        {
            "id": "x",
            "tool": "ablate",
            "args": "{}",
            "subject": "s",
            "tasks": "{}",
            "seed": 0,
            "dtype": "d",
            "code": "c",
            "created": "",
        }
    )
    db["results"].insert(
        {
            "id": 1,
            "experiment": "x",
            "status": "ok",
            "text": "t",
            "wall_seconds": 0.0,
            "peak_memory_bytes": 0,
            "sha": "",
            "created": "",
        }
    )
    db["run_experiments"].insert(
        {"run": "r", "number": 1, "experiment": "x", "result": 1, "cached": 0, "seq": 1, "why": ""}
    )
    for i in range(3):
        where = {"task": "t", "site": f"{i}.mlp", "layer": i, "position": "last", "variant": "zero"}
        key = f"accuracy[{', '.join(f'{k}={v}' for k, v in where.items())}]"
        db["measurements"].insert(
            {"result": 1, "name": "accuracy", "value": i / 10, "unit": "u", "n": 8, "key": key, **where}
        )
    db["measurements"].insert(
        {
            "result": 1,
            "name": "accuracy",
            "value": 0.9,
            "unit": "u",
            "n": 8,
            "site": "1.mlp",
            "key": "accuracy[site=1.mlp]",
        }
    )
    db["notes"].insert({"run": "r", "number": 1, "text": "So {{E1.accuracy.n[site=2.mlp, layer=2]}}, {{E1.accuracy[0.mlp]}}; {{E9.x[q]}}.",
                        "experiments": "[]", "seq": 1})  # fmt: skip
    metrics = {"P1": ("accuracy[task=t, site=2.mlp, layer=2]", "E1"), "P2": ("accuracy[task=t, site=9.mlp]", None)}
    for handle, (metric, settled) in metrics.items():
        db["predictions"].insert({"run": "r", "handle": handle, "revision": 1, "hypothesis": "H1", "metric": metric, "comparison": ">",
                                  "threshold": 0.1, "probability": 0.5, "experiment": settled, "observed": None, "outcome": None, "seq": 1})  # fmt: skip
    db.close()
    return tmp_path / "old.db"


def test_an_old_database_is_sound_after_it_was_opened_and_its_texts_refer_to_the_same_numbers(old):
    store = Store(old)
    said = [p for p in store.verify() if not p.startswith("experiment ")]  # the id above is no hash
    assert [p for p in said if "events" not in p] == []
    record = RunRecord(store, "r")
    text = record.notes()[0].text
    references = [part.partition("}}")[0] for part in text.split("{{")[1:]]
    assert [resolve(r, record.measurements_of).measurement.value for r in references[:2]] == [0.2, 0.0]
    assert (references[0].startswith("E1.accuracy.n["), references[2]) == (True, "E9.x[q]")
    settled, still = (r["metric"] for r in store.rows("SELECT metric FROM predictions_of_0_1 ORDER BY handle"))
    assert [m.value for m in record.measurements_of("E1") if m.fits(settled)] == [0.2]
    assert still == "accuracy[task=t]"
    assert [m.place.anchor for m in record.measurements_of("E1")] == ["-1", "-1", "-1", ""]
    assert [r["block"] for r in store.select({"part": {"=": "mlp.out"}, "block": {">": 0}}, ["block"])] == [1, 2]


def test_what_version_0_1_claimed_stands_among_the_notes_and_makes_no_headline(old):
    db = sqlite_utils.Database(old)
    db["claims"].insert({"run": "r", "number": 1, "kind": "localisation", "text": "MLP 2 adds: {{E1.accuracy[2.mlp]}}.",
                         "sites": "[]", "experiments": '["E1"]', "confidence": 0.9, "seq": 1})  # fmt: skip
    db["runs"].update("r", {"status": "finished", "reason": "found"})
    db.close()
    store = Store(old)
    assert store.notes("r")[1].text.startswith("Claimed under version 0.1 (localisation): MLP 2 adds: {{E1.accuracy[")
    assert store.claims("r") == []
    text = render(store, "r", None)
    assert "**Nothing confirmed.**" in text
    assert "Recorded by version 0.1" in text.partition("## ")[0]
    assert "MLP 2 adds: [0.2 u [n=8]](#e1)." in text.replace("\\", "")
