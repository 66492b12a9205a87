"""The picture of the confirmed findings: what stands in it follows from them, and nothing in it is cut or overlaps."""

from xml.etree import ElementTree

import pytest
from browser import chromium
from findings_made import Investigation, typical

from agent.loop.record import Reading
from agent.report.build import render, write_report
from agent.report.circuit import caption_of, circuits
from agent.report.circuit_figure import circuit_svg
from agent.report.conclusion import conclude
from agent.report.worked import worked
from experiments_db.records import Measurement
from experiments_db.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "e.db")


def drawn(store, name):
    return next(iter(panels(store, name)), None)


def panels(store, name):
    record = Reading(store, name)
    return circuits(conclude(record).findings, lambda task: worked(record, task))


EXAMPLE = {
    "task": "addition", "chosen": "an explore example that the model answers right", "tokens": ["7", "+", "<b>&", "\n", "5", "="],
    "answer": " 12", "said": "12", "twin": ["7", "+", "<b>&", "\n", "3", "="], "twin_answer": " 10", "twin_said": "11",
    "anchors": {"operand1": [0], "operator": [1], "operand2": [4], "equals": [5]},
}  # fmt: skip


def wide(store):
    i = Investigation(store, "wide")
    i.confirmed(
        "necessary", "decoder.0.attn.z[0,3]@operand1.last + decoder.1.mlp.out@answer + decoder.1.attn.z[1]@answer"
    )
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


def test_each_part_has_what_is_lost_without_it_and_not_without_another(store):
    i = Investigation(store, "two")
    f = i.predicted("necessary", "decoder.0.attn.z[0,3]@answer", interventions=("zero",))
    where = {"task": "addition", "split": "confirm", "n": 128, "groups": 81, "intervention": "zero", "unit": "share of examples"}
    each = {"decoder.0.attn.z[0]@answer": 0.69, "decoder.0.attn.z[3]@answer": 0.95}
    made = [Measurement(name="effect", value=v, low=v - 0.05, high=v + 0.04, component=c, **where) for c, v in each.items()]
    made += [Measurement(name="p", value=1e-6, component=c, **{**where, "unit": "p value"}) for c in each]
    i._keep(f, i.experiment(tuple(made), split="confirm"), tuple(made), 1)
    i.end()
    said = {str(n.place): " ".join(n.lines) for n in drawn(store, "two").nodes}
    assert "69%" in said["decoder.0.attn.z[0]@answer"]
    assert "95%" in said["decoder.0.attn.z[3]@answer"]


def test_a_needed_head_is_not_grey_because_a_set_with_it_was_spared(store):
    i = Investigation(store, "both")
    i.confirmed("necessary", "decoder.0.attn.z[1]@answer")
    i.settled(i.predicted("not_needed", "decoder.0.attn.z[1]@answer"), 0.01, control=None)
    i.end()
    assert [(n.role, n.lines[0]) for n in drawn(store, "both").nodes] == [("needed", "head 1")]


def test_cross_attention_is_drawn_by_its_name_in_the_stack_that_looks_and_what_is_read_beside_it(store):
    i = Investigation(store, "two stacks")
    i.confirmed("necessary", "decoder.1.cross.z[2]@answer + decoder.0.attn.z[1]@answer + encoder.1.mlp.out@verb")
    i.end()
    nodes = {str(n.place): n for n in drawn(store, "two stacks").nodes}
    assert set(nodes) == {"decoder.1.cross.z[2]@answer", "decoder.0.attn.z[1]@answer", "encoder.1.mlp.out@verb"}
    look, own, read = (nodes[p] for p in ("decoder.1.cross.z[2]@answer", "decoder.0.attn.z[1]@answer", "encoder.1.mlp.out@verb"))
    assert look.role == own.role == read.role == "needed"
    assert "cross-attention" in " ".join(look.lines)
    assert "cross" not in " ".join(own.lines)
    assert read.y > own.y > look.y
    assert [name for name, _ in drawn(store, "two stacks").rows] == ["encoder block 1", "decoder block 0", "decoder block 1"]


def test_an_arrow_of_cross_attention_leads_to_its_own_head_from_what_it_reads(store):
    i = Investigation(store, "looks across")
    i.confirmed("attends", "decoder.1.cross.pattern[2]@answer<-encoder:verb", 0.6, interventions=())
    i.confirmed("necessary", "decoder.1.attn.z[2]@answer")
    i.end()
    found = drawn(store, "looks across")
    heads = {n.place.part: n for n in found.nodes}
    assert set(heads) == {"cross.z", "attn.z"}
    (arrow,) = (e for e in found.edges if e.looks)
    assert (heads["cross.z"].x, heads["cross.z"].y) in vars(arrow).values()
    assert heads["cross.z"].x != heads["attn.z"].x
    assert "verb" in [c.anchor for c in found.columns]


def test_blocks_go_upward_and_the_answer_is_the_last_column(store):
    wide(store)
    found = drawn(store, "wide")
    at = {str(n.place): (n.x, n.y) for n in found.nodes}
    assert (
        at["decoder.0.attn.z[3]@operand1.last"][1] > at["decoder.1.resid_pre@-2"][1] > at["decoder.1.mlp.out@answer"][1]
    )
    assert found.columns[-1].name == "answer"
    assert [c.x for c in found.columns] == sorted(c.x for c in found.columns)


def test_what_carries_points_to_the_answer_and_a_path_along_its_nodes_with_the_effect(store):
    wide(store)
    found = drawn(store, "wide")
    at = {str(n.place): (n.x, n.y) for n in found.nodes}
    edges = {(e.start, e.end): e.text for e in found.edges}
    assert edges[at["decoder.0.attn.z[3]@operand1.last"], at["decoder.1.mlp.out@answer"]] == "60% [52%, 68%]"
    assert [t for (s, _), t in edges.items() if s == at["decoder.1.resid_pre@-2"]] == ["40% [32%, 48%]"]


def looking(store):
    i = Investigation(store, "looking")
    store.put_event("looking", "example", EXAMPLE)
    i.confirmed("necessary", "decoder.0.attn.z[0]@answer")
    i.confirmed("attends", "decoder.0.attn.pattern[0]@answer<-operand1", 0.5, interventions=())
    i.confirmed("attends", "decoder.3.attn.pattern[2]@answer<-operand2", 0.7, interventions=())
    i.confirmed("readable", "decoder.4.resid_post@answer", 0.2, interventions=())
    spared = [f"decoder.{b}.attn.out@answer" for b in (1, 2, 5)]
    i.settled(i.predicted("not_needed", " + ".join(spared)), 0.01, control=None)
    return i.end()


def test_an_arrow_leads_from_the_token_that_a_head_looks_at_to_the_head(store):
    found = drawn(store, looking(store))
    assert [(c.name, c.token) for c in found.columns] == [
        ("first operand", "7"),
        ("second operand", "5"),
        ("answer", "="),
    ]
    x = {c.name: c.x for c in found.columns}
    nodes = {str(n.place): (n.x, n.y) for n in found.nodes}
    looks = {(e.start[0], e.end): e.text for e in found.edges if e.looks}
    assert looks == {
        (x["first operand"], nodes["decoder.0.attn.z[0]@answer"]): "50% [42%, 58%]",
        (x["second operand"], nodes["decoder.3.attn.z[2]@answer"]): "70% [62%, 78%]",
    }
    assert found.answer == "12"


def test_neighbouring_blocks_in_which_the_same_was_spared_are_one_row(store):
    found = drawn(store, looking(store))
    assert [name for name, _ in found.rows] == ["block 0", "blocks 1 to 2", "block 3", "", "block 5"]


def test_a_path_inside_a_block_leads_upward_from_its_heads_to_its_mlp(store):
    i = Investigation(store, "inside")
    i.confirmed("necessary", "decoder.0.attn.z[0]@answer + decoder.0.attn.z[3]@answer + decoder.0.mlp.out@answer")
    for head in (0, 3):
        i.confirmed("sends", path=f"decoder.0.attn.z[{head}]@answer -> decoder.0.mlp.out@answer", interventions=())
    i.end()
    found = drawn(store, "inside")
    for e in found.edges:
        assert e.start[1] - e.end[1] > 44
    assert len({e.start for e in found.edges}) == 2


def test_a_hostile_token_is_text_in_the_picture(store):
    name = looking(store)
    store.put_event(name, "example", {**EXAMPLE, "task": "x"})
    hostile = Investigation(store, "hostile")
    store.put_event("hostile", "example", {**EXAMPLE, "anchors": {"operand1": [2]}})
    hostile.confirmed("carries", "decoder.0.resid_pre@operand1", interventions=())
    hostile.end()
    root = ElementTree.fromstring(circuit_svg([drawn(store, "hostile")]))
    assert "<b>&" in [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("make", [typical, wide, looking])
def test_no_text_is_cut_and_no_node_overlaps_another(store, make):
    found = drawn(store, make(store))
    with chromium() as browser:
        page = browser.new_page()
        page.set_content(circuit_svg([found]))
        boxes = page.evaluate("""() => [...document.querySelectorAll('text')].map((t) => {
            const b = t.getBBox(), group = t.closest('g.node'), r = group ? group.querySelector('rect').getBBox() : null;
            return [t.textContent, b.x, b.y, b.x + b.width, b.y + b.height, r ? r.width - b.width : 0]; })""")
    assert len(boxes) > len(found.nodes)
    for text, left, top, right, bottom, room in boxes:
        assert left >= 0 and top >= 0 and right <= found.width and bottom <= found.height and room >= 0, text
    for n in found.nodes:
        for o in found.nodes:
            assert o is n or abs(o.y - n.y) > 44 or abs(o.x - n.x) >= (o.width + n.width) / 2


def test_a_run_without_findings_about_places_has_no_picture(store):
    i = Investigation(store, "none")
    i.confirmed("capability")
    i.settled(i.predicted("not_needed", "decoder.2.mlp.out@answer"), 0.01, control=None)
    i.end()
    assert drawn(store, "none") is None
    assert "circuit.svg" not in render(store, "none", None)


def test_the_picture_is_the_same_each_time_and_stands_in_the_report(store, tmp_path):
    typical(store)
    text = write_report(store, "typical", tmp_path / "a").read_text()
    write_report(store, "typical", tmp_path / "b")
    assert "![circuit](figures/circuit.svg)" in text
    one, other = ((tmp_path / folder / "figures" / "circuit.svg").read_bytes() for folder in "ab")
    assert one == other


def test_the_report_begins_with_an_example_in_the_models_tokens_each_with_its_role(store):
    text = render(store, looking(store), None)
    assert "the model says “12”, right is “12”; its twin: with “3” for “5” the model says “11”, right is “10”" in text
    assert "| `7` | `+` | `<b>& ↵` | `5` | `=` |" in text
    assert "| the first operand | the operator |  | the second operand | the equals sign, answers here |" in text


@pytest.mark.parametrize(
    "broken", [{}, {"task": "addition"}, {**EXAMPLE, "anchors": {"operand1": ["x"]}}, {**EXAMPLE, "tokens": 3}]
)
def test_a_worked_example_that_cannot_be_read_is_left_out(store, broken):
    i = Investigation(store, "broken")
    store.put_event("broken", "example", {"task": "addition", **broken})
    i.confirmed("necessary", "decoder.0.attn.z[0]@answer")
    assert "One example" not in render(store, i.end(), None)


def test_each_task_that_a_goal_asks_about_has_a_panel_of_its_own(store):
    i = Investigation(store, "several")
    i.confirmed("necessary", "decoder.0.mlp.out@answer", task="subtraction")
    i.confirmed("necessary", "decoder.0.mlp.out@answer")
    i.confirmed("carries", "decoder.1.resid_pre@answer", 0.8, interventions=())
    i.settled(i.predicted("not_needed", "decoder.1.mlp.out@answer", task="copying"), 0.01, control=None)
    i.end()
    found = panels(store, "several")
    assert [c.task for c in found] == ["addition", "subtraction"]
    assert "in addition and subtraction, one panel each" in caption_of(found)
    root = ElementTree.fromstring(circuit_svg(found))
    assert float(root.get("height")) > sum(c.height for c in found)
    said = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [t for t in said if t in ("addition", "subtraction")] == ["addition", "subtraction"]
    moved = [g.get("transform") for g in root.iter("{http://www.w3.org/2000/svg}g") if g.get("transform")]
    assert len(set(moved)) == 2
    assert "addition and subtraction, one panel each" in render(store, "several", None)
