"""The picture of the confirmed findings: what stands in it follows from them, and nothing in it is cut or overlaps."""

import pytest
from findings_made import Investigation, typical

from agent.loop.record import Reading
from agent.report.build import render, write_report
from agent.report.circuit import circuit
from agent.report.circuit_figure import figure_of
from agent.report.conclusion import conclude
from agent.report.figures import pyplot
from experiments_db.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "e.db")


def drawn(store, name):
    return circuit(conclude(Reading(store, name)).findings)


def wide(store):
    i = Investigation(store, "wide")
    i.confirmed("necessary", "decoder.0.attn.z[0,3]@operand1.last + decoder.1.mlp.out@answer + decoder.1.attn.z[1]@answer")
    i.confirmed("carries", "decoder.1.resid_pre@operand1.last", 0.8, interventions=())
    i.confirmed("carries", "decoder.1.resid_pre@-2", 0.4, interventions=())
    i.confirmed("sends", path="decoder.0.attn.z[3]@operand1.last -> decoder.1.mlp.out@answer", interventions=())
    spared = [f"decoder.{b}.attn.z[{h}]@a_very_long_name_of_a_role.first" for b in range(6) for h in range(8)]
    i.settled(i.predicted("not_needed", " + ".join([*spared, "decoder.2.mlp.out@answer"])), 0.01, control=None)
    return i.end()


def test_only_standing_findings_are_drawn_each_place_in_its_strongest_role(store):
    typical(store)
    roles = {str(n.place): n.role for n in drawn(store, "typical").nodes}
    assert roles == {
        "decoder.0.mlp.out@answer": "needed", "decoder.0.attn.z[0,3]@answer": "needed", "decoder.1.resid_pre@answer": "carries",
        "decoder.4.mlp.out@answer": "spared",
    }  # fmt: skip


def test_a_needed_head_is_not_grey_because_a_set_with_it_was_spared(store):
    i = Investigation(store, "both")
    i.confirmed("necessary", "decoder.0.attn.z[1]@answer")
    i.settled(i.predicted("not_needed", "decoder.0.attn.z[1]@answer"), 0.01, control=None)
    i.end()
    assert [(n.role, n.lines[0]) for n in drawn(store, "both").nodes] == [("needed", "head 1")]


def test_blocks_go_upward_and_the_answer_is_the_last_column(store):
    wide(store)
    found = drawn(store, "wide")
    at = {str(n.place): (n.x, n.y) for n in found.nodes}
    assert at["decoder.0.attn.z[3]@operand1.last"][1] < at["decoder.1.resid_pre@-2"][1] < at["decoder.1.mlp.out@answer"][1]
    assert [name for name, _ in found.columns][-1] == "answer"
    assert [x for _, x in found.columns] == sorted(x for _, x in found.columns)


def test_what_carries_points_to_the_answer_and_a_path_along_its_nodes_with_the_effect(store):
    wide(store)
    found = drawn(store, "wide")
    at = {str(n.place): (n.x, n.y) for n in found.nodes}
    edges = {(e.start, e.end): e.text for e in found.edges}
    assert edges[at["decoder.0.attn.z[3]@operand1.last"], at["decoder.1.mlp.out@answer"]] == "60% [52%, 68%]"
    assert [t for (s, _), t in edges.items() if s == at["decoder.1.resid_pre@-2"]] == ["40% [32%, 48%]"]


@pytest.mark.parametrize("make", [typical, wide])
def test_no_text_is_cut_and_no_node_overlaps_another(store, make):
    found = drawn(store, make(store))
    figure = figure_of(found)
    renderer = figure.canvas.get_renderer()
    for text in figure.axes[0].texts:
        box = text.get_window_extent(renderer)
        if text.get_text():
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text.get_text()
    for n in found.nodes:
        inside = next(t for t in figure.axes[0].texts if t.get_text() and t.get_position() == (n.x, n.y)).get_window_extent(renderer)
        assert inside.width <= n.width * figure.dpi
        for o in found.nodes:
            assert o is n or abs(o.y - n.y) > 0.4 or abs(o.x - n.x) >= (o.width + n.width) / 2
    pyplot().close(figure)


def test_a_run_without_findings_about_places_has_no_picture(store):
    i = Investigation(store, "none")
    i.confirmed("capability")
    i.settled(i.predicted("not_needed", "decoder.2.mlp.out@answer"), 0.01, control=None)
    i.end()
    assert drawn(store, "none") is None
    assert "circuit.png" not in render(store, "none", None)


def test_the_picture_is_the_same_each_time_and_stands_in_the_report(store, tmp_path):
    typical(store)
    text = write_report(store, "typical", tmp_path / "a").read_text()
    write_report(store, "typical", tmp_path / "b")
    assert "![circuit](figures/circuit.png)" in text
    for name in ("circuit.png", "circuit.svg"):
        assert (tmp_path / "a" / "figures" / name).read_bytes() == (tmp_path / "b" / "figures" / name).read_bytes()
