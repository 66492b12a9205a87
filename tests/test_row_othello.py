"""What the Othello subject holds of the board: read linearly as mine and theirs, less well as black and white, and used."""

import numpy as np
import pytest

from agent.report.boards import boards
from agent.report.figures import figure_of
from experiments_db.findings import Statement
from tools.findings.examining import examine
from tools.methods.features import random_twin
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import load_subject

ALPHA = 0.05
PLACE, N = "decoder.2.resid_post@-1", 800  # one sample for all, drawn once


@pytest.fixture(scope="module")
def subject():
    return load_subject("othello", device="cpu")


def context(subject, split="explore"):
    return Context(subject, OfflineTasks([]), Nothing(), split=split)


def use(subject, tool, **arguments):
    t = discover()[tool]
    return t.run(t.parse(arguments), context(subject))


def values(outcome, name):
    return {m.component: m.value for m in outcome.measurements if m.name == name}


@pytest.fixture(scope="module")
def probed(subject):
    given = {"task": "othello", "components": [PLACE], "examples": N, "model": "ridge"}
    return {family: use(subject, "probe", label=family, **given) for family in ("side.*", "colour.*")}


def test_the_board_is_read_better_than_from_random_weights_and_better_as_mine_and_theirs(probed):
    error = {f: 1 - max(values(o, "accuracy").values()) for f, o in probed.items()}
    blind = 1 - max(values(probed["side.*"], "accuracy.random_init").values())
    assert error["side.*"] <= 0.7 * blind
    assert error["side.*"] < error["colour.*"]


def test_the_controls_of_the_probe_read_no_more_than_the_most_frequent_values(probed):
    often = values(probed["side.*"], "majority")[None]
    assert max(values(probed["side.*"], "accuracy.shuffled").values()) <= often + 0.02
    for m in probed["side.*"].measurements:
        assert m.name != "accuracy" or m.control.difference_low > 0


@pytest.fixture(scope="module")
def rewritten(subject):
    given = {"task": "othello", "label": "side.*", "components": [PLACE], "examples": N}
    return {how: use(subject, "rewrite", how=how, **given) for how in ("add", "optimise")}


@pytest.mark.parametrize("how", ["add", "optimise"])
def test_a_square_that_is_read_as_the_other_sides_makes_the_moves_legal_that_would_be(rewritten, how):
    (delta,) = [m for m in rewritten[how].measurements if m.name == "set_errors.delta"]
    assert delta.high < 0 and delta.control.difference_high < 0
    (others,) = [m for m in rewritten[how].measurements if m.name == "set_errors.beyond_others"]
    assert others.high < 0


def test_on_random_weights_the_same_calls_report_nothing(subject):
    blind = random_twin(subject, 5)
    read = use(blind, "probe", task="othello", label="side.*", components=[PLACE], examples=N, model="ridge")
    assert max(values(read, "accuracy.beyond_random_init").values()) < 0.1
    changed = use(blind, "rewrite", task="othello", label="side.*", components=[PLACE], examples=N)
    (delta,) = [m for m in changed.measurements if m.name == "set_errors.delta"]
    assert delta.high > 0 or delta.control.difference_high > 0


def contrasts(subject, kind, label, component=PLACE):
    s = Statement(kind=kind, task="othello", components=component, label=label, examples=128)
    found = examine(s, context(subject, "confirm"))
    return max(m.value for m in found.measurements if m.name == "p")


def test_findings_that_the_board_is_decodable_and_used_hold_on_unseen_games_and_not_on_random_weights(subject):
    for kind, label in (("decodable", "side.*"), ("used", "side.*"), ("reads_better", "side.*, colour.*")):
        assert contrasts(subject, kind, label) <= ALPHA
        assert contrasts(random_twin(subject, 6), kind, label) > ALPHA
    assert contrasts(subject, "reads_better", "colour.*, side.*") > ALPHA
    assert contrasts(subject, "used", "colour.*") > ALPHA  # what colour a square has is not what the moves go by


def test_an_example_is_drawn_as_boards_and_its_answer_mapped_to_the_squares_that_it_hangs_on(rewritten, subject):
    plain = boards("rewrite", {"": rewritten["add"]})
    assert [b.title for b in plain] == ["true", "read", "supposed", "read after the change", "before", "after"]
    assert all(len(b.rows) == len(b.columns) == 6 for b in plain)
    mapped = use(
        subject, "rewrite", task="othello", label="side.*", components=[PLACE], saliency=["mine", "theirs"], examples=N
    )  # fmt: skip
    falls = [m.value for m in mapped.measurements if m.name == "saliency"]
    assert max(falls) > 5 * np.median(np.abs(falls)) and max(falls) > 0.3  # a move hangs on few squares
    assert "<svg" in figure_of("rewrite", [*plain, *boards("rewrite", {"": mapped})]).svg


@pytest.mark.parametrize(
    ("tool", "given", "says"),
    [
        ("probe", {"label": "squares.*"}, "no family of labels is called 'squares.*'; there are side.*, colour.*"),
        ("probe", {"label": "side.*", "model": "centroid"}, "use linear, ridge"),
        ("rewrite", {"label": "side.*", "components": ["decoder.2.mlp.out@-1"]}, "in the residual stream"),
        ("rewrite", {"label": "to_move"}, "supposes"),
        ("rewrite", {"label": "side.*", "model": "mlp"}, "use optimise"),
        ("rewrite", {"label": "side.*", "saliency": ["mine"]}, "name two values"),
    ],
)
def test_a_call_that_cannot_be_meant_says_what_would_be_valid(subject, tool, given, says):
    with pytest.raises(ToolInputError, match=says.replace("*", r"\*")):
        use(subject, tool, task="othello", **{"components": [PLACE], "examples": N, **given})
