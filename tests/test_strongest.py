"""What is kept of an experiment in a line: the strongest effects, wherever they stand in the table."""

import random

from agent.loop.strongest import beside, in_a_line, strongest
from agent.planners.base import Answer, Exchange, ToolCall, Turn, View
from agent.planners.chat import FULL_TURNS, messages, told
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
    spared = [measured(f"decoder.{b}.mlp.out@answer", 0.5, 0.9, low=0.4, high=0.6) for b in range(9)]
    line = in_a_line([measured("decoder.0.mlp.out@answer", 0.02, 0.61, low=0.0, high=0.07), *spared])
    assert line.startswith("accuracy 0.02 [0, 0.07] (control 0.61, a random vector) at decoder.0.mlp.out@answer, t")
    assert line.endswith("(7 more measurements)")


def test_what_cannot_be_told_from_its_control_or_did_nothing_itself_is_not_called_strong():
    intact = measured(None, 0.98, program="intact")
    did = measured("decoder.0.mlp.out@answer", 0.1, 0.8, low=0.05, high=0.2)
    harmed_control_alone = measured("decoder.1.mlp.out@answer", 0.97, 0.2, low=0.93, high=1.0)
    within = measured("decoder.2.mlp.out@answer", 0.5, 0.58, low=0.4, high=0.6)
    paired = did.model_copy(update={"component": "decoder.3.mlp.out@answer", "value": 0.3, "control": did.control.model_copy(
        update={"difference": -0.5, "difference_low": -0.9, "difference_high": 0.1})})  # fmt: skip
    tiny = [measured(f"decoder.4.attn.pattern[{h}]@answer<--1", 0.02 + h / 1000, 0.001, low=0.015, high=0.03) for h in range(3)]
    assert strongest([intact, did, harmed_control_alone, within, paired], 9) == [did]
    for rows in ([intact, harmed_control_alone], [intact, within], [intact, paired], tiny):
        assert strongest(rows, 9) == []
        assert in_a_line(rows).startswith("nothing stood out; farthest: accuracy ")
        assert beside(rows).startswith("nothing stood out; farthest, with 95% interval and control:\n  accuracy ")
    assert beside([intact, did]).startswith("strongest, with 95% interval and control:")


def test_what_a_sweep_decided_to_do_nothing_is_not_called_strong():
    intact, spared = measured(None, 1.0, program="intact"), measured("decoder.0.mlp.out@answer", 0.93, low=0.86, high=0.97)
    flipped = measured("decoder.1.resid_pre@answer", 0.06, name="flipped", low=0.01, high=0.09)
    for rows, said in (([intact, spared], "accuracy 0.93"), ([flipped], "flipped 0.06")):
        assert strongest(rows, 9) == rows[-1:]
        decided = rows[-1].model_copy(update={"name": "decided", "value": 0.0, "low": None, "high": None})
        assert strongest([*rows, decided], 9) == []
        assert in_a_line([*rows, decided]).startswith(f"nothing stood out; farthest: {said}")
        elsewhere = decided.model_copy(update={"component": "decoder.5.mlp.out@answer"})
        assert strongest([*rows, elsewhere], 9) == rows[-1:]


def test_what_is_cut_or_left_out_comes_with_the_call_that_shows_it():
    rows = [measured(f"decoder.{b}.mlp.out@answer", 0.1, 0.9, low=0.05, high=0.2) for b in range(300)]
    for text, hint in (("x" * 9000, "characters more): recall E7 shows it whole"), ("short", "")):
        shown = told(Answer("c", text, "ok", "E7", tuple(rows)))
        assert (": recall E7 shows it whole" in shown) == bool(hint)
        assert hint in shown
        assert "and 292 more measurements: recall E7 (then page=2 to page=3), or query" in shown


def test_a_long_history_still_says_where_the_strongest_effect_was():
    table = [measured(f"decoder.{b}.mlp.out@answer", 0.05 if b == 37 else 0.9, 0.9) for b in range(60)]
    old = Exchange(Turn((ToolCall("c", "ablate", "{}"),), ""), (Answer("c", "x" * 5000, "ok", "E3", tuple(table)),))
    new = Exchange(Turn((ToolCall("d", "note", "{}"),), ""), (Answer("d", "N1"),))
    sent = messages(View("g", "s", [], [old, *[new] * FULL_TURNS]))
    assert "- ablate: E3 accuracy 0.05 (control 0.9, a random vector) at decoder.37.mlp.out@answer" in sent[2]["content"]
