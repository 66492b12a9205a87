"""The built-in subjects are listed with how each is made, and together they are small."""

import re
from pathlib import Path

import pytest
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

import tools.subjects.__main__ as listing
from tools.subjects import built_in, load_subject

ROOT = Path(__file__).parent.parent
LIMIT = 30e6  # bytes of the whole package


def test_every_built_in_subject_is_listed_with_its_true_number_of_parameters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = listing.shipped()
    assert {name: s.folder for name, s in known.items()} == built_in()
    assert listing.main([]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == len(known)
    for (name, s), line in zip(known.items(), lines, strict=True):
        model = load_subject(name).model
        computed = (m.weight.numel() for m in model.modules() if isinstance(m, MarianSinusoidalPositionalEmbedding))
        assert s.parameters == model.num_parameters() - sum(computed)
        assert line.split()[0] == name
        assert f"{s.parameters:,}" in line
        assert s.command[0] in line
        assert type(model).__name__ in listing.READS


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--build", "translater", "--out", "x"], "did you mean translator"),
        (["--build", "nothing-like-it", "--out", "x"], "or all"),
        (["--build", "shapes,translater", "--out", "x"], "did you mean translator"),
        (["--build", "", "--out", "x"], "there is no model ''"),
        (["--build", "shapes"], "--out FOLDER"),
    ],
)
def test_a_bad_request_is_refused_in_one_line(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main(argv) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert says in printed.err


def test_all_are_built_by_as_many_calls_as_there_are_scripts_to_run() -> None:
    out = Path("made")
    commands = {name: listing.build_command(s, out) for name, s in listing.shipped().items()}
    assert (
        commands["shapes"] == commands["shapes-decoy"] == ("-m", "tools.subjects.shapes.train", "--out", "made/shapes")
    )
    assert commands["translator-front"][-1] == "--front"
    assert len(set(commands.values())) == len(commands) - 1
    for _, module, *options in commands.values():
        script = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
        shared = re.findall(r"^from tools\.subjects\.(_\w+) import", script, re.MULTILINE)
        known = script + "".join((ROOT / "tools" / "subjects" / f"{s}.py").read_text() for s in shared)
        assert all(f'"{o}"' in known for o in options if o.startswith("--"))


def test_the_script_of_a_subject_is_run_and_its_failure_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "file").write_text("")
    known = listing.shipped()["shapes"]
    broken = listing.Shipped(**{**vars(known), "command": ("tools.subjects.shapes.train", "--steps", "none")})
    monkeypatch.setattr(listing, "shipped", lambda: {"shapes": broken})
    assert listing.main(["--build", "all", "--out", str(tmp_path)]) == 1
    printed = capfd.readouterr()
    assert "invalid int value" in printed.err  # the script's own words
    assert "ended with status 2" in printed.err


@pytest.mark.long
def test_named_models_are_built_by_one_command_into_folders_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of one script, which makes two models: what is written is what is listed, but for what training takes."""
    monkeypatch.chdir(ROOT)
    assert listing.main(["--build", "shapes,shapes-decoy", "--out", str(tmp_path), "--steps", "2"]) == 0
    for name, s in listing.shipped().items():
        if name.startswith("shapes"):
            made = load_subject(str(tmp_path / s.folder.relative_to(listing.HOME)))
            own = load_subject(name)
            assert made.fingerprint != own.fingerprint
            assert made.parts["config"] == own.parts["config"]
            shapes = {k: v.shape for k, v in own.model.state_dict().items()}
            assert {k: v.shape for k, v in made.model.state_dict().items()} == shapes


def test_the_package_is_small() -> None:
    kept = [
        p
        for folder in ("agent", "experiments_db", "prompts", "tools")
        for p in (ROOT / folder).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    ]
    assert sum(p.stat().st_size for p in kept) < LIMIT
    assert all(p.stat().st_size < 3e6 for p in kept)
