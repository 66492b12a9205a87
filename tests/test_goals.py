"""The goals of the built-in models, asked of the systematic planner: each ends in confirmed findings that are true of how the
model was made.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.planners.systematic import pictures
from agent.run import main
from experiments_db.findings import Finding
from experiments_db.store import Store
from tools.methods.features import random_twin
from tools.subjects import built_in, load_subject

SPEECH = "how many encoder and decoder blocks does the speech model need, and what does it do when they are missing?"


def asked(folder: Path, goal: str, *more: str) -> tuple[dict[str, Finding], str]:
    """The standing findings by statement, as one line each, and the report's text."""
    db, out = folder / "e.db", folder / "out"
    code = main(["--goal", goal, "--db", str(db), "--out", str(out), "--null-twins", "0", "--quiet", *more])
    assert code == 0
    store = Store(db)
    (run,) = store.runs()
    found = {}
    for f in store.findings(run):
        if f.stands:
            s = f.statement
            what = str(s.set) if s.set is not None else s.program
            found[" ".join(filter(None, (s.kind, what, s.among)))] = f
    return found, next(out.glob("*/report.md")).read_text()


def test_how_many_blocks_the_speech_model_needs(tmp_path: Path) -> None:
    found, report = asked(tmp_path, SPEECH)
    assert "capability" in found
    encoder = [k for k in found if k.startswith("breaks encoder: skip")]
    decoder = [k for k in found if k.startswith("breaks decoder: skip")]
    assert encoder
    assert decoder
    assert decoder[0] == "breaks decoder: skip 3"  # the last of four alone is missed already
    assert "How many of its blocks does the model need" in report
    assert "words repeated" in report  # what it does when they are missing stands in the notes
    assert "entropy of attention where words are repeated against where none is, at its largest: decoder.0.attn" in report
    rates = r"layer\\_program: accuracy \(share of examples\), cer \(errors per character of the right answer\), wer"
    assert len(set(re.findall(rf"!\[(E\d+) {rates}", report))) == 2  # against the number of blocks left out, of each stack
    assert {n for n in ("lens", "attention", "layer_program") if list(tmp_path.glob(f"out/*/figures/E*-{n}.svg"))} == {
        "lens", "attention", "layer_program"
    }
    drawn = [p.read_text() for p in tmp_path.glob("out/*/figures/E*-layer_program.svg")]
    assert all("last blocks left out" in d for d in drawn)
    assert "![example](figures/example.png)" in report
    assert "[listen to the example](figures/example.wav)" in report
    assert list(tmp_path.glob("out/*/figures/example.wav"))


def test_where_the_masked_model_reads_agreement(tmp_path: Path) -> None:
    found, report = asked(tmp_path, "where does the masked model read agreement?")
    looks = [k for k in found if k.startswith("attends") and k.endswith("@answer<-controller")]
    assert looks  # heads look from the gap at the word that it agrees with, not at the nearer noun
    assert not [k for k in found if k.startswith("attends") and "<-attractor" in k]
    blocks = {k.split(".")[1] for k in looks}
    assert any(k.startswith(("necessary", "jointly_necessary")) and f"encoder.{b}.attn" in k for b in blocks for k in found)
    assert "where the mask stands" in report


def test_whether_the_masked_model_knows_trees_and_in_which_block(tmp_path: Path) -> None:
    found, report = asked(tmp_path, "does the masked model know the trees of its sentences, and in which block?")
    assert set(found) == {"encodes_tree encoder.0.resid_post"}
    assert "**Found.**" in report
    assert "but not beyond every control, at encoder" in report


def test_which_patches_decide_the_shape(tmp_path: Path) -> None:
    found, report = asked(tmp_path, "which patches decide the shape?")
    assert any(k.startswith("carries") and k.endswith("@object") for k in found)
    assert not any(k.startswith("carries") and k.endswith("@decoy") for k in found)
    assert any(k.startswith("attends") and k.endswith("<-object") for k in found)
    assert "![example](figures/example.png) ![twin](figures/twin.png)" in report


def test_a_model_that_was_taught_with_a_decoy_reads_the_decoy_and_not_the_shape(tmp_path: Path) -> None:
    found, report = asked(tmp_path, "which patches decide the shape?", "--subject", "shapes-decoy")
    assert "**Not found as asked, met halfway.**" in report
    assert "met halfway, of what asks for less (shape:decoys=right,twin=decoy), by" in report
    assert any(k.startswith("attends") and k.endswith("<-decoy") for k in found)
    assert not any(k.startswith(("carries", "attends")) and k.endswith("object") for k in found)


@pytest.mark.parametrize(
    ("name", "role", "other", "images"), [("shapes", "object", "decoy", pictures.IMAGES), ("shapes-decoy", "decoy", "object", 8)]
)
def test_what_in_the_image_decides_the_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, role: str, other: str, images: int
) -> None:
    """images: of how many the attributions are drawn, from which the roles are taken that are then examined and confirmed."""
    monkeypatch.setattr(pictures, "IMAGES", images)
    found, report = asked(tmp_path, "what in the image decides the shape?", "--subject", name)
    assert "**Found.**" in report
    assert {k for k in found if k.startswith(("capability", "cannot"))} == (
        {"capability"} if name == "shapes" else {"capability decoy=none", "capability decoy=right", "cannot decoy=wrong"}
    )
    store = Store(tmp_path / "e.db")
    said = {(f.statement.label, f.statement.among) for f in store.findings(store.runs()[0]) if f.stands and f.statement.label}
    assert {(role, "decoy=right"), (role, "decoy=wrong")} <= said
    assert (other, "decoy=wrong") not in said
    assert list(tmp_path.glob("out/*/figures/E*-images.png"))
    assert list(tmp_path.glob("out/*/figures/E*-attribute_regions.svg"))


def test_what_the_heads_of_the_demo_match(tmp_path: Path) -> None:
    found, report = asked(tmp_path, "what do the heads of the demo match?")
    assert all(k.startswith(("aligns", "matches")) for k in found)
    store = Store(tmp_path / "e.db")
    aligned = {(str(f.statement.set), f.statement.label) for f in store.findings(store.runs()[0]) if f.stands}
    assert ("decoder.0.attn.pattern[3]", "token") in aligned
    assert "lie near each other" in report
    assert list(tmp_path.glob("out/*/figures/E*-images.png"))


def of_kinds(folder: Path) -> dict[str, set[str]]:
    """The labels of the standing findings of each kind."""
    store, found = Store(folder / "e.db"), dict[str, set[str]]()
    for f in store.findings(store.runs()[0]):
        if f.stands:
            found.setdefault(f.statement.kind, set()).add(f.statement.label)
    return found


def test_whether_the_candid_model_knows_more_than_it_says(tmp_path: Path) -> None:
    found, report = asked(tmp_path, "does the candid model know more than it says, and where?")
    assert of_kinds(tmp_path) == {"capability": {""}, "decodable": {"truth"}, "elicits": {""}}
    assert any(k.startswith("decodable decoder.") and "attn.z[" in k for k in found)
    assert "can be made to tell more of what it holds" in report.split("## ")[0]
    assert list(tmp_path.glob("out/*/figures/E*-inference_time_intervention.svg"))


def test_what_the_host_model_believes_about_its_user(tmp_path: Path) -> None:
    asked(tmp_path, "what does the host model believe about its user?")
    of_user = {"user age", "user expertise", "user level"}
    assert of_kinds(tmp_path) == {"capability": {""}, "decodable": of_user, "steers": of_user}


def test_what_the_othello_model_knows_about_the_board(tmp_path: Path) -> None:
    _, report = asked(tmp_path, "what does the Othello model know about the board?")
    kinds = of_kinds(tmp_path)
    assert kinds["decodable"] == kinds["used"] == {"side.*"}  # mine and theirs, not black and white
    assert kinds["reads_better"] == {"side.*, colour.*"}
    assert "**Found.**" in report
    assert list(tmp_path.glob("out/*/figures/E*-probe.svg"))
    assert list(tmp_path.glob("out/*/figures/E*-rewrite.svg"))


@pytest.mark.parametrize(("name", "carries"), [("translator", False), ("translator-front", True)])
def test_which_encoder_blocks_carry_the_language(tmp_path: Path, name: str, carries: Any) -> None:
    found, _ = asked(tmp_path, f"which encoder blocks of the {name} carry the language?")
    encoder = [k for k in found if k.startswith("carries encoder.")]
    nothing = [k for k in found if k.startswith("carries_nothing encoder.")]
    assert (bool(encoder), bool(nothing)) == (carries, not carries)


LACKING = [
    ("candid", "does the candid model know more than it says, and where?", "**The model cannot do it.**"),
    ("othello", "what does the Othello model know about the board?", "**The model cannot do it.**"),
    ("shapes", "what in the image decides the shape?", "**The model cannot do it.**"),
    ("host", "what does the host model believe about its user?", "**Not found.**"),
    ("demo", "what do the heads of the demo match?", "**Not found.**"),
    ("demo", "does unit 37 of block 2 mean one thing?", "**Not found.**"),
]


@pytest.mark.parametrize(("name", "goal", "verdict"), LACKING)
def test_asked_of_random_weights_it_says_that_the_model_cannot_or_that_nothing_was_found(tmp_path, name, goal, verdict):
    folder = tmp_path / name
    folder.mkdir()
    for file in Path(built_in()[name]).glob("*.json"):
        shutil.copy(file, folder)
    random_twin(load_subject(name, device="cpu"), 5).model.save_pretrained(folder)
    found, report = asked(tmp_path, goal, "--subject", str(folder))
    assert verdict in report
    assert {k.split()[0] for k in found} <= {"cannot"}
