"""Figures are found from coordinates alone: whatever mixture of places a tool measures, each point is drawn where it belongs."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from agent.report.plots import plots
from experiments_db.records import Control, Measurement, Result

PLACES = [
    f"decoder.{b}.{p}@{a}"
    for b, p, a in itertools.product((0, 1), ("attn.z[0]", "attn.z[3]", "attn.out", "mlp.out", "resid_pre"), ("answer", "operand1"))
]


def result(places: list[str], end: str) -> Result:
    control = Control(kind="a random vector", value=0.1, n=64)
    rows = [
        Measurement(name="recovered", unit="of the gap", value=i / 10, n=64, component=p + end, control=control)
        for i, p in enumerate(places)
    ]
    return Result(status="ok", text="", measurements=tuple(rows))


@given(st.lists(st.sampled_from(PLACES), min_size=1, max_size=12, unique=True), st.sampled_from(["", " -> decoder.logits@answer"]))
def test_any_mixture_of_places_is_drawn_with_every_point_once_or_not_at_all(places, end):
    for plot in plots("path_patch", result(places, end)):
        drawn = [p.number for line in plot.points for p in line if p is not None]
        assert len(drawn) == len(set(drawn)) <= len(places)
        assert all(len(line) == len(plot.columns) for line in plot.points)


def test_heads_beside_the_mlp_of_their_block_are_rows_by_their_names():
    (plot,) = plots("path_patch", result(["decoder.0.attn.z[0]@answer", "decoder.0.attn.z[3]@answer", "decoder.0.mlp.out@answer"], " -> decoder.logits@answer"))
    assert plot.kind == "dots"
    assert len(plot.columns) == 3
    assert [p.measurement.value for p in plot.points[0]] == [0.0, 0.1, 0.2]
