"""Figures are found from coordinates alone: whatever mixture of places a tool measures, each point is drawn where it belongs."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.report.figures import beside, draw, figures_of
from agent.report.plots import plots
from experiments_db.records import Control, Experiment, Measurement, Result

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


# -- the drawing ----------------------------------------------------------------------------------------------------------

LONG = "a_part_with_a_very_long_name_that_somebody_gave_it"


def ablated(how: str, n: int = 3, **more) -> tuple[Experiment, Result]:
    control = Control(kind="random vector of the same norm at the same site", value=0.9, low=0.8, high=0.95, n=64)
    where = {"unit": "share of examples", "n": 64, "task": "addition", "split": "explore"}
    rows = [Measurement(name="accuracy", value=1.0, program="intact", **where)]
    rows += [
        Measurement(name="accuracy", value=0.2 * i, low=max(0.0, 0.2 * i - 0.1), high=0.2 * i + 0.1, control=control, intervention=how,
                    component=f"decoder.{i}.mlp.out@answer", **where)
        for i in range(n)
    ]  # fmt: skip
    args = {"task": "addition", "components": ["mlp.out@answer"], "intervention": how, **more}
    asked = Experiment(tool="ablate", args=args, subject="s", tasks={"addition explore": "t"}, seed=0, dtype="float32", code="c")
    return asked, Result(status="ok", text="", measurements=tuple(rows))


def test_both_kinds_of_ablation_are_drawn_as_one_figure_that_says_all_about_itself():
    asked, results = {}, {}
    for handle, how in (("E7", "resample(donor)"), ("E8", "zero")):
        asked[handle], results[handle] = ablated(how)
    (plot,) = figures_of(asked, results, chance=0.05)
    assert (plot.kind, plot.rows, len(plot.columns), plot.chance) == ("dots", ("resample(donor)", "zero"), 3, 0.05)
    assert {p.handle for line in plot.points for p in line} == {"E7", "E8"}
    figure = draw(asked, [plot], lambda p: f"#{p.handle}-m{p.number}")
    texts = re.findall(r">([^<>]+)<", figure.svg)
    said = " ".join(texts)
    for word in ("E7, E8 ablate", "accuracy", "addition", "resample(donor) and zero", "explore", "n=64", "95% intervals", "chance", "intact"):
        assert word in said
    assert {"0.mlp.out", "1.mlp.out", "2.mlp.out", "0%", "100%"} <= set(texts)
    leads = re.findall(r'data-href="([^"]*)"', figure.svg)
    assert sorted(leads) == [f"#{h}-m{i}" for h in ("E7", "E8") for i in (2, 3, 4)]
    assert "accuracy 20% (95% interval 10% to 30%, n=64)" in figure.svg


def test_experiments_that_differ_in_anything_else_are_drawn_by_themselves():
    class Row:
        def __init__(self, handle, x):
            self.handle, self.experiment = handle, x

    rows = [Row("E1", ablated("zero")[0]), Row("E2", ablated("zero", depth=2)[0]), Row("E3", ablated("mean", depth=2)[0])]
    assert list(beside(rows).values()) == [("E1",), ("E2", "E3")]


@pytest.mark.parametrize(("points", "drawn"), [(1, 0), (2, 0), (3, 1)])
def test_there_is_no_figure_of_a_single_number_or_two(points, drawn):
    assert len([p for p in plots("ablate", ablated("zero", points)[1]) if p.name == "accuracy"]) == drawn


def test_the_page_has_the_very_drawing_of_the_report_in_colours_of_its_theme():
    asked, found = ablated("zero")
    (plot,) = plots("ablate", found)
    plain, themed = (draw({"E1": asked}, [plot], themed=t).svg for t in (False, True))
    assert "var(--ink, #1d1d1b)" in themed
    assert re.sub(r"var\(--[a-z0-9]+, ([^)]*)\)", r"\1", themed).replace("#ffffff", "white") == plain.replace("#ffffff", "white")
    assert re.search(r"style=|<script|onclick", themed) is None
