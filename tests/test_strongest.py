"""What is kept of an experiment in a line: the strongest effects, wherever they stand in the table."""

import random

from agent.loop.strongest import in_a_line, strongest
from agent.planners.base import Answer, Exchange, ToolCall, Turn, View
from agent.planners.chat import FULL_TURNS, messages
from experiments_db.records import Control, Measurement


def measured(component, value, control=None, name="accuracy", **more):
    beside = Control(kind="a random vector", value=control, n=64) if control is not None else None
    return Measurement(name=name, unit="share of examples", value=value, n=64, task="t", component=component, control=beside, **more)


def test_the_effects_farthest_from_their_controls_come_first_however_the_table_is_sorted():
    rows = [measured(f"decoder.{b}.mlp.out@answer", v, 0.9) for b, v in enumerate((0.9, 0.1, 0.85, 0.5))]
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        assert [m.value for m in strongest(rows, 2)] == [0.1, 0.5]


def test_without_controls_the_intact_model_is_what_effects_are_measured_from():
    rows = [measured(None, 0.98, program="intact"), measured(None, 0.97, program="skip 2"), measured(None, 0.2, program="skip 0")]
    assert strongest(rows, 1)[0].program == "skip 0"


def test_the_line_names_place_interval_and_control_and_counts_what_is_left_out():
    line = in_a_line([measured("decoder.0.mlp.out@answer", 0.02, 0.61, low=0.0, high=0.07), *[measured("decoder.1.mlp.out@answer", 0.9, 0.9)] * 9])
    assert line.startswith("accuracy 0.02 [0, 0.07] (control 0.61, a random vector) at decoder.0.mlp.out@answer, t")
    assert line.endswith("(7 more measurements)")


def test_a_long_history_still_says_where_the_strongest_effect_was():
    table = [measured(f"decoder.{b}.mlp.out@answer", 0.05 if b == 37 else 0.9, 0.9) for b in range(60)]
    old = Exchange(Turn((ToolCall("c", "ablate", "{}"),), ""), (Answer("c", "x" * 5000, "ok", "E3", tuple(table)),))
    new = Exchange(Turn((ToolCall("d", "note", "{}"),), ""), (Answer("d", "N1"),))
    sent = messages(View("g", "s", [], [old, *[new] * FULL_TURNS]))
    assert "- ablate: E3 accuracy 0.05 (control 0.9, a random vector) at decoder.37.mlp.out@answer" in sent[2]["content"]
