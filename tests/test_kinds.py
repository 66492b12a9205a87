"""Kinds of findings on models whose mechanism is known: what is true is confirmed on unseen examples, and what differs from it
in one field is not; nothing is confirmed of a model in which nothing was learnt.
"""

import contextlib

import benches
import numpy as np
import pytest

from tools.engine.version import ENGINE, ONCE
from tools.findings.contrast import Contrast, Quantity, p_absent
from tools.findings.kind import kinds
from tools.methods.scoring import score
from tools.methods.tool import ToolInputError

ALPHA = benches.ALPHA


# (program, kind, what is true, what differs from it in one field and is not). A word in braces is where a step lies, with
# the part of a head that it names: {copy.z} is decoder.2.attn.z[1]. {zero.z} is a head that does nothing, {zero.mlp} such
# an MLP; {last} the last block, {block copy} the block of a step.
CASES = [
    ("previous", "capability", {}, []),
    ("unable", "cannot", {}, []),
    (
        "previous", "necessary", {"components": "{copy.z}@answer"},
        [{"components": "{copy.z}@item"}, {"components": "{zero.z}@answer"}, {"components": "{copy.z}@answer + {zero.z}@answer"}],
    ),
    ("previous", "not_needed", {"components": "{zero.z}@answer + {copy.z}@item"}, [{"components": "{copy.z}@answer"}]),
    (
        "constant", "necessary", {"components": "{always.mlp}@answer", "interventions": ("zero",)},
        [{"interventions": ("resample(donor)",)}, {"interventions": ("zero", "resample(donor)")}],
    ),
    (
        "routes", "necessary", {"components": "{near.z}@answer", "among": "class=near"},
        [{"among": "class=far"}, {"components": "{far.z}@answer"}],
    ),
    (
        "backup", "jointly_necessary", {"components": "{copy.z}@answer + {again.z}@answer", "interventions": ("zero",)},
        [{"components": "{copy.z}@answer + {zero.z}@answer"}, {"components": "{copy.z}@answer + {again.z}@item"}],
    ),
    (
        "backup", "not_needed", {"components": "{copy.z}@answer", "interventions": ("zero",)},
        [{"components": "{copy.z}@answer + {again.z}@answer"}],
    ),
    (
        "induction", "sufficient",
        {
            "components": "{prev.z}@value + {match.z}@answer",
            "universe": "{prev.z}@value + {match.z}@answer + {match.z}@key + {zero.z}@answer + {zero.z}@value",
        },
        [{"components": "{prev.z}@value + {zero.z}@answer"}, {"components": "{match.z}@answer"}],
    ),
    (
        "previous", "carries", {"components": "decoder.{block copy}.resid_pre@item"},
        [{"components": "decoder.{block copy}.resid_pre@answer"}, {"components": "{copy.z}@item"}],
    ),
    (
        "held", "suppresses", {"components": "{hold.z}@answer", "objective": "margin"},
        [{"components": "{copy.z}@answer"}, {"components": "{hold.z}@item"}],
    ),
    ("previous", "breaks", {"program": "skip {block copy}"}, [{"program": "skip {other copy}"}]),
    (
        "previous", "carries_nothing", {"components": "{copy.z}@item"},
        [{"components": "decoder.{block copy}.resid_pre@item"}],
    ),
    ("previous", "tolerates", {"program": "skip {other copy}"}, [{"program": "skip {block copy}"}, {"program": "keep {other copy}"}]),
    (
        "previous", "sends", {"path": "{copy.z}@answer -> decoder.logits@answer"},
        [{"path": "{zero.z}@answer -> decoder.logits@answer"}, {"path": "{copy.z}@item -> decoder.logits@answer"}],
    ),
    (
        "induction", "sends",
        {"path": "{prev.z}@value -> {match.k}@value", "interventions": ("resample(donor)", "zero")},
        [
            {"path": "{prev.z}@value -> {match.v}@value"}, {"path": "{prev.z}@answer -> {match.k}@answer"},
            {"interventions": ("resample(twin)",)},
        ],
    ),
    (
        "relay", "sends", {"path": "{fetch.z}@marker -> {hand.v}@marker -> decoder.logits@answer"},
        [
            {"path": "{fetch.z}@marker -> {hand.k}@marker -> decoder.logits@answer"},
            {"path": "{fetch.z}@marker -> decoder.logits@answer"},
        ],
    ),
    (
        "induction", "attends", {"components": "{match.pattern}@answer<-value"},
        [{"components": "{match.pattern}@answer<-key"}, {"components": "{prev.pattern}@answer<-value"}],
    ),
    ("majority", "attends", {"components": "{count.pattern}@answer<-items"}, [{"components": "{zero.pattern}@answer<-items"}]),
    ("induction", "matches", {"components": "{match.pattern}", "label": "after same token"}, [{"label": "same token"}, {"label": "previous"}, {"components": "{prev.pattern}"}]),
    ("induction", "matches", {"components": "{prev.pattern}", "label": "previous"}, [{"label": "after same token"}, {"components": "{match.pattern}"}]),
    (
        "previous", "readable", {"components": "decoder.{block copy}.resid_post@answer"},
        [{"components": "decoder.{block copy}.resid_pre@answer"}, {"components": "decoder.{last}.resid_post@answer"}],
    ),
    (
        "previous", "decodable", {"components": "{copy.z}@answer", "label": "answer"},
        [{"components": "{zero.z}@answer"}, {"components": "{copy.z}@item"}, {"label": "length"}],
    ),
    ("shadow", "decodable", {"components": "{copy.z}@answer", "label": "answer"}, [{"components": "{zero.z}@answer"}]),
    (
        "previous", "steers", {"components": "{copy.z}@answer", "label": "answer", "interventions": ("add(label, 2)",)},
        [{"interventions": ("add(label, -2)",)}, {"components": "{zero.z}@answer"}, {"components": "{copy.z}@item"}],
    ),
    (
        "routes", "differs", {"components": "{near.z}@answer", "among": "class=near", "other_among": "class=far"},
        [{"among": "class=far", "other_among": "class=near"}, {"components": "{zero.z}@answer"}],
    ),
    (
        "induction", "moves", {"components": "{match.pattern}@answer<-value"},
        [
            {"components": "{match.pattern}@answer<-key"}, {"components": "{prev.pattern}@answer<-value"},
            {"components": "{match.pattern}@answer<-value + {zero.pattern}@answer<-value"},
        ],
    ),
    (
        "modular", "computes", {"components": "{join.mlp}@answer", "label": "operand1, operand2"},
        [{"components": "{zero.mlp}@answer"}, {"components": "{left.z}@answer"}, {"components": "{join.mlp}@operand1"}],
    ),
    (
        "previous", "similar", {"components": "{copy.z}@answer", "other_task": "t:swapped"},
        [{"components": "{zero.z}@answer"}, {"components": "decoder.0.resid_pre@answer"}],
    ),
    (
        "constant", "disagree", {"components": "{always.mlp}@answer", "label": "zero"},
        [{"label": "resample(donor)"}, {"components": "{map.mlp}@answer"}, {"components": "{zero.z}@answer"}],
    ),
]  # fmt: skip


def filled(case, fields):
    """The fields with the places of the case's steps in them."""
    blocks = case.plan.blocks
    idle = {"z": next(p for p, k in case.plan.idle.items() if k == "zero" and p[1] is not None)}
    words = {"last": str(blocks - 1)}
    for name, (block, head) in {**case.plan.places, "zero": idle["z"]}.items():
        words[f"block {name}"] = str(block)
        words[f"other {name}"] = str(
            next(b for b in range(blocks) if b not in {p[0] for p in case.plan.places.values()})
        )
        for part in ("z", "q", "k", "v", "pattern"):
            words[f"{name}.{part}"] = f"decoder.{block}.attn.{part}[{head}]"
        words[f"{name}.mlp"] = f"decoder.{block}.mlp.out"

    def put(text):
        for word, place in words.items():
            text = text.replace("{" + word + "}", place)
        assert "{" not in text, text
        return text

    return {k: put(v) if isinstance(v, str) else v for k, v in fields.items()}


@pytest.fixture(scope="module")
def p_of():
    def measured(program, kind, fields, seed=0):
        case, subject, task = benches.compiled(program, seed)
        return benches.p_of(subject, task, kind, benches.swapped(task), **filled(case, fields))

    return measured


def named(case):
    return f"{case[0]}-{case[1]}"


@pytest.mark.parametrize(("program", "kind", "true", "false"), CASES, ids=[named(c) for c in CASES])
def test_what_is_true_is_confirmed_and_what_differs_in_one_field_is_not(p_of, program, kind, true, false):
    assert p_of(program, kind, true) <= ALPHA
    for change in false:
        assert p_of(program, kind, {**true, **change}) > ALPHA, change


def test_a_head_that_looks_there_but_is_not_used_moves_nothing(p_of):
    there = {"components": "{copy.pattern}@answer<-item"}
    assert p_of("shadow", "attends", there) <= ALPHA
    assert p_of("shadow", "moves", there) > ALPHA


EVERYWHERE = {"cannot"}  # true of what has learnt nothing


@pytest.mark.parametrize(
    ("program", "kind", "true"),
    [c[:3] for c in CASES if c[1] not in EVERYWHERE],
    ids=[named(c) for c in CASES if c[1] not in EVERYWHERE],
)
def test_nothing_is_confirmed_of_a_model_that_has_learnt_nothing(program, kind, true):
    case, subject, task = benches.compiled(program)
    # differs is refused where the second class is not done at all
    with contextlib.suppress(ToolInputError):
        empty = benches.untrained(subject, 1)
        assert benches.p_of(empty, task, kind, benches.swapped(task), **filled(case, true)) > ALPHA


@pytest.mark.parametrize(("engine", "read"), [(ENGINE, [1, 4]), (ONCE - 1, [5])])
def test_the_intact_model_of_a_finding_is_scored_once_with_the_same_result(monkeypatch, engine, read):
    case, subject, task = benches.compiled("previous")
    asked: list[int] = []

    def counted(*args, **options):
        scores, cost = score(*args, **options)
        asked.append(len(scores))
        return scores, cost

    monkeypatch.setattr("tools.methods.effects.score", counted)
    fields = filled(case, {"components": "{copy.z}@answer"})
    now = benches.p_of(subject, task, "necessary", **fields)
    monkeypatch.setattr(subject, "engine", engine)
    asked.clear()
    assert benches.p_of(subject, task, "necessary", **fields) == pytest.approx(now)
    assert asked == read  # intact, and two removals with two controls


def test_an_untrained_model_cannot():
    _, subject, task = benches.compiled("previous")
    assert benches.p_of(benches.untrained(subject), task, "cannot") <= ALPHA


def test_every_kind_is_tried_here():
    # These need trees, a sandbox, counterfactuals, images, questions with statements: see test_row_trees.py, test_own.py,
    # test_row_othello.py, test_row_regions.py, test_row_truth.py, test_row_maps.py,
    # test_row_illusion.py.
    elsewhere = {"encodes_tree", "own", "used", "reads_better", "decides", "elicits", "aligns", "mixed", "one_concept",
        "quiet"}
    assert {c[1] for c in CASES} == set(kinds()) - elsewhere


def test_what_must_stay_small_is_never_called_absent_because_it_is():
    groups = tuple(map(str, range(12)))
    small = Contrast("effect", "stay", 0.05, (Quantity("accuracy", "share", np.zeros(12), (-1.0, 1.0)),), groups)
    assert small.p() > 0.05  # twelve examples cannot show that nothing changes by a twentieth
    assert p_absent([small]) == 1.0
