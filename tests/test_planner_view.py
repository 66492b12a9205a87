"""What a planner reads of its experiments: intervals and controls, pages, and tables that hide nothing; and where it can look."""

import pytest

from agent.loop.record import PAGE, RunRecord
from agent.planners.base import Answer, Exchange, ToolCall, Turn, View
from agent.planners.chat import messages
from experiments_db.records import Control, Experiment, Measurement, Result, Run
from experiments_db.store import Store
from tools.methods.offline import Nothing, OfflineTasks
from tools.methods.tool import Context, ToolInputError, discover
from tools.subjects import load_subject


def measured(block, value, **more):
    control = Control(kind="a random vector", value=0.9, low=0.8, high=0.95, n=64)
    place = f"decoder.{block}.mlp.out@answer"
    return Measurement(
        name="accuracy", unit="share of examples", value=value, low=value / 2, high=min(1.0, 2 * value), n=64, task="t", component=place,
        control=control, **more,
    )  # fmt: skip


ROWS = [measured(b, 0.22 if b == 7 else 0.9) for b in range(130)]


@pytest.fixture
def record(tmp_path):
    store = Store(tmp_path / "e.db")
    store.put_run(Run(name="r", goal="g", subject="s", planner="p"))
    asked = Experiment(tool="ablate", args={"task": "t"}, subject="s", tasks={}, seed=0, dtype="float32", code="c")
    done = Result(status="ok", text="a table", measurements=tuple(ROWS), wall_seconds=0.1, peak_memory_bytes=1, provenance=None)
    store.link_experiment("r", asked.id, store.put_result(asked, done), cached=False, seq=1)
    return RunRecord(store, "r")


def test_recall_shows_every_measurement_once_a_page_at_a_time_with_interval_and_control(record):
    pages = [record.recall("E1", page) for page in (1, 2)]
    assert all(sum(m.key in p for p in pages) == 1 for m in ROWS)
    assert [p.count(", control 0.9)") for p in pages] == [PAGE, 130 - PAGE]
    assert "0.22 [0.11, 0.44] (n=64, control 0.9)" in pages[0]
    assert "page 2 of 2, 130 measurements" in pages[1]
    assert "a table" not in pages[1]
    with pytest.raises(ValueError, match="E1 has 2 pages of measurements, 130 in all"):
        record.recall("E1", 3)
    with pytest.raises(ValueError, match="there are E1"):
        record.recall("E9")


def test_a_mean_over_places_does_not_hide_the_place_that_breaks(record):
    (row,) = record.select({}, ["task"], "mean", None, False, 9, True)
    assert row["value"] > 0.89
    assert (row["least"], row["largest"], row["control"]) == (0.22, 0.9, pytest.approx(0.9))
    assert record.select({}, ["block"], "mean", "least", False, 1, True)[0]["block"] == 7


def test_the_strongest_effects_stand_below_a_table_with_interval_and_control():
    done = Exchange(Turn((ToolCall("c", "ablate", "{}"),), ""), (Answer("c", "E1: a table", "ok", "E1", tuple(ROWS)),))
    (shown,) = [m["content"] for m in messages(View("g", "s", [], [done])) if m["role"] == "tool"]
    assert shown.startswith("E1: a table\nstrongest, with 95% interval and control:")
    assert "accuracy 0.22 [0.11, 0.44] (control 0.9, a random vector) at decoder.7.mlp.out@answer" in shown
    plain = Exchange(Turn((ToolCall("c", "note", "{}"),), ""), (Answer("c", "N1"),))
    assert [m["content"] for m in messages(View("g", "s", [], [plain])) if m["role"] == "tool"] == ["N1"]


# -- anywhere, together, by class --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def use():
    demo = load_subject("demo", device="cpu")

    def call(tool, **arguments):
        t = discover()[tool]
        return t.run(t.parse(arguments), Context(demo, OfflineTasks([]), Nothing()))

    return call


def test_heads_are_patched_together_at_an_operand_among_one_class(use):
    made = use("patch", task="addition:shots=0", components=["decoder.0.attn.z[0,3]@operand1"], mode="together", among="carry=1", examples=8)
    effects = [m for m in made.measurements if m.name == "recovered"]
    assert [str(m.component) for m in effects] == ["decoder.0.attn.z[0,3]@operand1"]
    assert effects[0].among == "carry=1"
    assert effects[0].control is not None


def test_several_heads_look_from_any_position_among_one_class(use):
    made = use(
        "attention", task="addition:shots=0", components=["decoder.0.attn.pattern[0,3]"], at="operand2", keys=["operand1"],
        among="carry=0", examples=8,
    )  # fmt: skip
    seen = [m for m in made.measurements if m.component and "@operand2" in m.component]
    assert {m.place.units for m in seen} == {(0,), (3,)}
    assert {m.among for m in seen} == {"carry=0"}


@pytest.mark.parametrize(
    ("tool", "arguments", "way_out"),
    [
        ("patch", {"task": "copying", "components": ["resid_pre@operand1"]}, "item"),
        ("path_patch", {"task": "addition", "sender": "decoder.0.mlp.out@answer", "receiver": "decoder.1.attn.q", "metric": "gap"}, "Arguments are"),
    ],
)
def test_a_rejection_says_the_way_out(tool, arguments, way_out, use):
    with pytest.raises(ToolInputError, match=way_out):
        use(tool, **arguments)
