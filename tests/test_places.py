"""The one grammar for places: one text for each object, a natural order, and mistakes that say what would be valid."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from experiments_db import places
from experiments_db.places import (
    OPERATIONS,
    PARTS,
    BlockLayout,
    Component,
    ComponentSet,
    Intervention,
    Layout,
    Path,
    PlaceError,
    Selector,
    StackLayout,
    display,
    expand_anchors,
    join_coordinates,
    parse_anchor,
    split_coordinates,
    usual_name,
)

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True).filter(lambda n: n not in ("each", "all"))
INDICES = st.integers(0, 30) | st.integers(0, 10**9 - 1)
UNITS = st.lists(INDICES, max_size=4).map(tuple)
WORDS = st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True)
FEATURES = st.builds("dir:{}~{}".format, WORDS, st.text("0123456789abcdef", min_size=4, max_size=64)) | st.builds(
    "sae:{}/{}".format, st.lists(WORDS, min_size=1, max_size=3).map("/".join), INDICES
)
ANCHORS = st.builds("{}{}".format, NAMES, st.sampled_from(["", ".first", ".last", ".all"])) | st.integers(-40, 40).map(
    str
)
EVERY = settings(deadline=None)


@st.composite
def component_strategy(draw: st.DrawFn) -> Component:
    """Any component there can be."""
    part = PARTS[draw(st.sampled_from(list(PARTS)))]
    stack = draw(st.sampled_from(["decoder", "encoder"]) | NAMES)
    feature = draw(st.just("") | FEATURES) if part.unit and not part.is_pattern else ""
    has_units = part.unit and (not feature or part.unit == "head")
    is_cross = part.name.startswith("cross")
    key = draw(st.just("") | ANCHORS) if part.is_pattern else ""
    return Component(
        stack=stack,
        block=draw(INDICES) if part.in_block else None,
        part=part.name,
        units=draw(UNITS) if has_units else (),
        feature=feature,
        passes=draw(st.none() | st.integers(1, 5)) if part.in_block else None,
        anchor=draw(st.just("") | ANCHORS),
        key=key,
        key_stack=draw(NAMES.filter(lambda n: n != stack)) if key and is_cross else "",
    )


COMPONENTS = component_strategy()
SETS = st.lists(COMPONENTS, min_size=1, max_size=5).map(lambda cs: ComponentSet.of(*cs))
FROZEN = st.sampled_from(["attn.out", "mlp.out", "every other head", "decoder.3.attn.z[0,2]@answer"])
PATHS = st.builds(
    lambda nodes, frozen: Path(nodes=tuple(nodes), frozen=tuple(frozen)),
    st.lists(COMPONENTS, min_size=2, max_size=4, unique=True),
    st.lists(FROZEN, max_size=3),
)
ANY_TEXT = st.text(max_size=12) | st.sampled_from(
    [
        "donor",
        "twin",
        "addition:digits=1x1,shots=2",
        "4",
        "nan",
        "dir:x",
        "a, b",
        '"',
        "(",
        "a]",
        "wikitext[:100]",
        "[a, b]",
    ]
)
DOSES = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def intervention_strategy(draw: st.DrawFn) -> Intervention:
    """Any intervention there can be."""
    op = draw(st.sampled_from(list(OPERATIONS)))
    full = ANY_TEXT.filter(lambda text: text.strip() != "")
    doses = st.floats(0, 1) if op == "resample" else DOSES  # how much of the new activation is put in is a share
    values = {"source": full, "dose": doses, "direction": FEATURES, "program": full}
    return Intervention(op=op, **{name: draw(values[name]) for name in draw(st.sampled_from(OPERATIONS[op]))})


INTERVENTIONS = intervention_strategy()
PLACES = COMPONENTS | SETS | PATHS | INTERVENTIONS


@EVERY
@given(PLACES)
def test_the_text_of_a_place_is_read_back_as_that_place(place) -> None:
    assert type(place).parse(str(place)) == place
    assert str(type(place).parse(str(place))) == str(place)


@EVERY
@given(PLACES)
def test_the_json_of_a_place_is_read_back_as_that_place(place) -> None:
    assert type(place).model_validate_json(place.model_dump_json()) == place
    assert type(place)(**json.loads(place.model_dump_json())) == place


@EVERY
@given(COMPONENTS, st.data())
def test_blanks_around_punctuation_change_nothing(c: Component, data: st.DataObject) -> None:
    marks = [i for i, ch in enumerate(str(c)) if ch in ".[]#@," or str(c)[i : i + 2] == "<-"]
    text = str(c)
    for i in sorted(data.draw(st.sets(st.sampled_from(marks))), reverse=True):
        text = text[:i] + "  " + text[i:]
    assert Component.parse(f" {text}\n") == c


@EVERY
@given(COMPONENTS, st.data())
def test_changing_any_one_field_changes_the_text(c: Component, data: st.DataObject) -> None:
    other = data.draw(COMPONENTS)
    name = data.draw(st.sampled_from(list(Component.model_fields)))
    try:
        changed = c.but(**{name: getattr(other, name)})
    except PlaceError:
        assume(False)  # the field belongs to another kind of part
        raise
    assert (str(changed) == str(c)) == (changed == c) == (getattr(changed, name) == getattr(c, name))
    assert (changed < c) + (c < changed) == (changed != c)


@EVERY
@given(PLACES, PLACES)
def test_different_objects_have_different_texts(a, b) -> None:
    if type(a) is type(b):
        assert (str(a) == str(b)) == (a == b)
        assert a != b or hash(a) == hash(b)


@EVERY
@given(st.lists(COMPONENTS, min_size=3, max_size=3) | st.lists(INTERVENTIONS, min_size=3, max_size=3))
def test_the_order_is_total(three) -> None:
    a, b, c = three
    assert (a < b) + (a == b) + (b < a) == 1
    assert not (a <= b <= c) or a <= c


def test_blocks_units_and_anchors_are_ordered_by_number() -> None:
    texts = [
        "decoder.embed", "decoder.9.attn.z[2]", "decoder.9.attn.z[10]", "decoder.9.mlp.out@2", "decoder.9.mlp.out@10",
        "decoder.9.mlp.out@word9", "decoder.9.mlp.out@word10", "decoder.9.mlp.out@-10", "decoder.9.mlp.out@-2",
        "decoder.10.attn.q[0]", "decoder.final", "decoder.logits", "encoder.0.block",
    ]  # fmt: skip
    assert [str(c) for c in sorted(map(Component.parse, reversed(texts)))] == texts


def test_the_documented_texts_are_canonical() -> None:
    for text in (
        "decoder.3.attn.z[2]@answer", "decoder.3.mlp.out@answer", "decoder.embed@operand1.first", "decoder.logits",
        "decoder.3.attn.pattern[2]@answer<-operand1", "decoder.2.cross.pattern[0]@answer<-encoder:word3",
        "decoder.3.mlp.act[17,42]#2@-2", "decoder.4.resid_post[dir:truth~ab12cd]@answer", "decoder.3.block",
    ):  # fmt: skip
        assert str(Component.parse(text)) == text
    for text in ("zero", "resample(donor)", "add(dir:NAME~abcd, 4)", "program(skip 2)", "scale(-0.5)", "set(twin)"):
        assert str(Intervention.parse(text)) == text


def test_what_means_the_same_has_the_same_text() -> None:
    for loose, text in {
        "decoder.3.attn.z[5,2,5]": "decoder.3.attn.z[2,5]",
        "decoder.3.mlp.out@operand1.all": "decoder.3.mlp.out@operand1",
        "decoder.03.mlp.out@-02": "decoder.3.mlp.out@-2",
    }.items():
        assert str(Component.parse(loose)) == text
    assert str(Intervention.parse(" add( dir:a~abcd,4.0 )")) == "add(dir:a~abcd, 4)"
    assert Intervention(op="scale", dose=-0.0) == Intervention(op="scale", dose=0.0)
    assert str(Intervention(op="scale", dose=-0.0)) == "scale(0)"


@EVERY
@given(st.lists(COMPONENTS, min_size=1, max_size=5), st.randoms())
def test_a_set_does_not_depend_on_how_it_is_put_together(components: list[Component], random) -> None:
    whole = ComponentSet.of(*components)
    shuffled = [*components, components[0]]
    random.shuffle(shuffled)
    assert ComponentSet.of(*shuffled) == whole
    if all(c.units for c in components):
        assert ComponentSet.of(*(single for c in shuffled for single in c.singles())) == whole
        assert {s for c in components for s in c.singles()} == set(whole.singles())
    assert list(whole) == sorted(whole.members)
    assert len(whole) == len({c.but(units=()) for c in components})


def test_units_of_one_part_are_one_member_and_the_whole_part_takes_them_in() -> None:
    merged = ComponentSet.parse("decoder.1.attn.z[2] + decoder.0.attn.z[2]+decoder.0.attn.z[0]")
    assert str(merged) == "decoder.0.attn.z[0,2] + decoder.1.attn.z[2]"
    assert str(ComponentSet.parse("decoder.0.attn.z[1] + decoder.0.attn.z")) == "decoder.0.attn.z"
    assert str(ComponentSet.parse("decoder.0.attn.z + decoder.0.attn.z[1]")) == "decoder.0.attn.z"
    with pytest.raises(PlaceError, match="one component is needed"):
        _ = merged.one
    assert str(ComponentSet.parse("decoder.3.block").one) == "decoder.3.block"


MISTAKES = {
    "decoder.3.attn.foo": "parts are conv, embed, resid_pre",
    "decoder.mlp.out": "lies in a block",
    "decoder.3.embed": "lies in no block",
    "decoder.3.attn.z[": "is no component",
    "decoder.3.attn.z[]": "is no index",
    "decoder.3.attn.z[-1]": "is no index",
    "decoder.3.attn.z[0-3]": "arguments of tools only",
    "decoder.3.attn.z[*]": "arguments of tools only",
    "decoder.*.attn.z": "is no component",
    "decoder.1-2.attn.z": "is no index",
    "decoder.3.block[2]": "has no units",
    "decoder.3.block[dir:a~abcd]": "has no units",
    "decoder.3.attn.pattern[dir:a~abcd]": "lies in the whole of a part",
    "decoder.3.resid_pre[3,dir:a~abcd]": "lies in the whole of a part",
    "decoder.3.resid_pre[dir:a]": "dir:NAME~sha",
    "decoder.3.resid_pre[sae:a]": "sae:NAME/17",
    "decoder.3.resid_pre[sae:a/017]": "sae:NAME/17",
    "decoder.3.mlp.out@each": "arguments of tools only",
    "decoder.3.mlp.out@answer.middle": "is no anchor",
    "decoder.3.mlp.out#0": "greater than or equal to 1",
    "decoder.logits#2": "runs once",
    "decoder.3.mlp.out@answer<-operand1": "has no keys",
    "decoder.3.attn.pattern@answer<-encoder:word3": "its own stack",
    "decoder.3.cross.pattern@answer<-word3": "another stack",
    "decoder.3.cross.pattern@answer<-decoder:word3": "another stack",
    "decoder.99999999999.mlp.out": "is no index",
    "deco der.3.mlp.out": "is no component",
    "1.0": "is no component",
    "1.head.0": "is no component",
    "": "is no component",
    "décodeur.3.mlp.out": "is no component",
    "decoder.３.mlp.out": "is no component",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_text_that_is_no_component_is_refused_with_what_would_be_valid(text: str) -> None:
    with pytest.raises(PlaceError, match=MISTAKES[text]):
        Component.parse(text)


@pytest.mark.parametrize("source", ["4", "nan", "-1e3", "dir:a~abcd", "sae:a/1", "a, b", '"', "a]"])
def test_a_source_that_looks_like_something_else_is_quoted(source: str) -> None:
    done = Intervention(op="set", source=source)
    assert str(done) == f"set({json.dumps(source)})"
    assert Intervention.parse(str(done)) == done != Intervention(op="set", dose=4)


@pytest.mark.parametrize("dose", [math.nan, math.inf, -math.inf, 1e30, -1000000.1])
def test_a_dose_that_is_not_finite_or_too_large_is_a_place_error(dose: float) -> None:
    with pytest.raises(PlaceError, match="out of range"):
        Intervention(op="scale", dose=dose)
    with pytest.raises(PlaceError, match="out of range"):
        Intervention.parse(f"scale({dose})")


@pytest.mark.parametrize(
    "text", ["", "delete", "zero(donor)", "scale", "add(4)", "add(dir:a~abcd)", "project_out", "program", "set(3, 4)", "set(twin",
             "resample(donor, 4)", 'set("a)', "scale(4, 4)", "add(dir:a~abcd, donor, 4)", "program( )"]
)  # fmt: skip
def test_an_operation_takes_what_it_needs_and_nothing_else(text: str) -> None:
    with pytest.raises(PlaceError):
        Intervention.parse(text)


@pytest.mark.parametrize(
    "text",
    ["decoder.logits", "decoder.0.mlp.out -> decoder.0.mlp.out", "decoder.0.mlp.out ->", "decoder.0.mlp.out -> decoder.logits (frozen:)",
     "decoder.0.mlp.out -> decoder.logits (held: mlp)", "decoder.0.mlp.out -> decoder.logits (frozen: a[)"],
)  # fmt: skip
def test_a_path_needs_two_different_nodes_and_says_what_it_froze(text: str) -> None:
    with pytest.raises(PlaceError):
        Path.parse(text)


def test_the_last_node_of_a_path_receives() -> None:
    path = Path.parse("decoder.0.attn.z[1]@operand1->decoder.2.attn.q[0]@answer ( frozen: mlp.out,attn.out, mlp.out )")
    assert str(path) == "decoder.0.attn.z[1]@operand1 -> decoder.2.attn.q[0]@answer (frozen: attn.out, mlp.out)"
    assert path.receiver == Component.parse("decoder.2.attn.q[0]@answer")


def test_anchors_name_a_role_with_a_policy_or_a_position() -> None:
    assert parse_anchor("answer") == parse_anchor("answer.all") == ("answer", "all", None)
    assert parse_anchor("operand1.last") == ("operand1", "last", None)
    assert parse_anchor("-2") == ("", "all", -2)
    for text in ("each", "all", "", "answer.each", "1.5", "a b"):
        with pytest.raises(PlaceError, match="write answer"):
            parse_anchor(text)


def test_places_are_frozen_and_know_no_other_fields() -> None:
    c = Component.parse("decoder.3.mlp.out")
    with pytest.raises(ValidationError, match="frozen"):
        c.block = 4  # type: ignore[misc]
    with pytest.raises(PlaceError, match="head"):
        Component(stack="decoder", block=3, part="mlp.out", head=2)  # type: ignore[call-arg]


class Kept(BaseModel):
    """A record that holds a component."""

    component: Component


def test_a_record_takes_a_component_as_text_or_as_fields() -> None:
    c = Component.parse("decoder.3.attn.z[2]@answer")
    assert Kept(component=str(c)).component == Kept(component=dict(c)).component == c  # type: ignore[arg-type]
    assert Kept.model_validate_json(Kept(component=c).model_dump_json()).component == c


PARTS_OF_A_BLOCK = ("resid_pre", "attn.q", "attn.z", "attn.out", "mlp.act", "mlp.out", "block")
LAYOUT = Layout(
    stacks=(
        StackLayout(
            name="decoder",
            blocks=tuple(
                BlockLayout(parts=(*PARTS_OF_A_BLOCK, *(("cross.pattern",) if i else ())), heads=4, neurons=8)
                for i in range(3)
            ),
            width=16,
            parts=("embed", "logits"),
            logits=5,
            attends_to="encoder",
        ),
        StackLayout(name="encoder", blocks=(BlockLayout(parts=PARTS_OF_A_BLOCK, heads=2),), width=16, parts=("embed",)),
    ),
    anchors=("answer", "operand1", "operand2.last"),
)


def resolved(text: str) -> list[str]:
    """The texts of what a selector names in LAYOUT."""
    return [str(c) for c in Selector.parse(text).resolve(LAYOUT)]


def test_a_star_is_every_block_and_unit_by_itself() -> None:
    heads = [f"decoder.{b}.attn.z[{h}]@answer" for b in range(3) for h in range(4)]
    assert resolved("decoder.*.attn.z[*]@answer") == heads
    assert resolved("head@answer") == [*heads, "encoder.0.attn.z[0]@answer", "encoder.0.attn.z[1]@answer"]
    assert resolved("block") == [*(f"decoder.{b}.block" for b in range(3)), "encoder.0.block"]
    assert resolved("head[1]") == [*(f"decoder.{b}.attn.z[1]" for b in range(3)), "encoder.0.attn.z[1]"]
    assert resolved("logits") == ["decoder.logits"]


def test_ranges_and_lists_name_each_of_their_indices() -> None:
    assert resolved("decoder.1-2.mlp.out") == ["decoder.1.mlp.out", "decoder.2.mlp.out"]
    assert resolved("decoder.2, 0.mlp.out") == ["decoder.0.mlp.out", "decoder.2.mlp.out"]
    assert resolved("decoder.0.attn.z[0,2-3]") == [f"decoder.0.attn.z[{h}]" for h in (0, 2, 3)]
    assert str(Selector.parse("decoder.2,0-1.mlp.out + decoder.logits")) == "decoder.0-2.mlp.out + decoder.logits"
    assert Selector.parse("attn + mlp") == Selector.parse(" mlp+attn") == Selector(text="mlp.out + *.*.attn.out")


def test_a_star_passes_over_what_lacks_the_part_and_a_number_does_not() -> None:
    assert resolved("decoder.*.cross.pattern[0]") == ["decoder.1.cross.pattern[0]", "decoder.2.cross.pattern[0]"]
    with pytest.raises(PlaceError, match=r"cross.pattern is no part .* resid_pre"):
        resolved("decoder.0.cross.pattern[0]")
    with pytest.raises(PlaceError, match="selects nothing"):
        resolved("resid_mid")


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "decoder.3.mlp.out": "block 3 is out of range: decoder has blocks 0 to 2",
        "decoder.0-999999999.mlp.out": "blocks 0 to 2",
        "decoder.0.attn.z[4]": "heads 0 to 3",
        "encoder.0.mlp.act[*]": "no neurons that can be named",
        "decoder.0.mlp.act[8]": "neurons 0 to 7",
        "decoder.0.resid_pre[16]": "channels 0 to 15",
        "decoder.logits[5]": "logits 0 to 4",
        "vision.0.mlp.out": "this model has decoder, encoder",
        "decoder.0.mlp.out@operand3": "there are answer, operand1, operand2.last",
        "decoder.0.mlp.out@operand2.first": "there are answer, operand1, operand2.last",
        "decoder.1.cross.pattern@answer<-vision:operand1": "attends to encoder",
        "decoder.5-2.mlp.out": "is no range",
        "decoder.0.mlp": "parts are",
        "decoder.block": "lies in a block",
        "*.block": "lies in a block",
        "decoder.0.block[*]": "has no units",
        "0.mlp.out": "selects nothing",
        "everything": "selects nothing",
        "": "selects nothing",
        "decoder.1.cross.pattern@answer<-each": "is no anchor",
    }.items(),
)
def test_a_selector_out_of_range_names_the_range(text: str, message: str) -> None:
    with pytest.raises(PlaceError, match=message):
        resolved(text)


def test_a_component_is_checked_against_what_a_model_has() -> None:
    for text in (
        "decoder.2.attn.z[3]@operand1.first",
        "decoder.0.mlp.act[7]@-9",
        "decoder.0.mlp.out@operand2.last",
        "decoder.1.cross.pattern[0]@0<-encoder:answer",
    ):
        assert LAYOUT.check(Component.parse(text)) == Component.parse(text)
        assert LAYOUT.check(Component.parse(text).at("")).anchor == ""
    for text in ("decoder.2.attn.z[0,4]", "decoder.3.block", "decoder.0.resid_mid", "decoder.final", "decoder.conv"):
        with pytest.raises(PlaceError, match="out of range|no part"):
            LAYOUT.check(Component.parse(text))


@EVERY
@given(COMPONENTS)
def test_a_component_selects_its_own_units(c: Component) -> None:
    assert Selector.parse(str(Selector.parse(str(c)))) == Selector.parse(str(c))
    assume(c.key_stack != "decoder")
    c = c.but(block=None if c.block is None else c.block % 3, units=tuple(u % 4 for u in c.units), stack="decoder")
    in_block = (c.part,) if PARTS[c.part].in_block else ()
    off_block = () if in_block else (c.part,)
    blocks = (BlockLayout(parts=in_block, heads=4, neurons=4),) * 3
    stack = StackLayout(
        name="decoder", blocks=blocks, width=4, parts=off_block, logits=4, conv=4, attends_to=c.key_stack
    )
    assert Selector.parse(str(c)).resolve(Layout(stacks=(stack,))) == list(c.singles())


def test_each_is_expanded_before_anything_is_recorded() -> None:
    selector = Selector.parse("decoder.1-2.mlp.out@each + decoder.0.block@answer + decoder.0.mlp.out@all")
    found = selector.resolve(LAYOUT)
    assert selector.has_each
    assert [str(c) for c in expand_anchors(found, ["answer", "-2"])] == [
        "decoder.0.mlp.out", "decoder.0.block@answer", "decoder.1.mlp.out@answer", "decoder.1.mlp.out@-2",
        "decoder.2.mlp.out@answer", "decoder.2.mlp.out@-2",
    ]  # fmt: skip
    (pending,) = [c for c in found if str(c) == "decoder.1.mlp.out@each"]
    with pytest.raises(ValidationError, match="arguments of tools only"):
        Kept(component=pending)
    for made in (lambda: ComponentSet.of(pending), lambda: Path(nodes=(pending, Component.parse("decoder.logits")))):
        with pytest.raises(PlaceError, match="arguments of tools only"):
            made()
    with pytest.raises(PlaceError, match="at least one anchor"):
        expand_anchors(found, [])


def test_a_layout_holds_only_parts_that_exist() -> None:
    with pytest.raises(PlaceError, match="attn.foo"):
        BlockLayout(parts=("attn.foo",))
    with pytest.raises(PlaceError, match="embed"):
        BlockLayout(parts=("embed",))
    with pytest.raises(PlaceError, match="mlp.out"):
        StackLayout(name="decoder", blocks=(), width=4, parts=("mlp.out",))
    with pytest.raises(PlaceError, match="is no anchor"):
        Layout(stacks=(), anchors=("each",))


KEYS = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)


@EVERY
@given(st.dictionaries(KEYS, ANY_TEXT | PLACES.map(str), max_size=4))
def test_coordinates_are_read_back_in_their_order(coordinates: dict[str, str]) -> None:
    text = join_coordinates(coordinates)
    assert split_coordinates(text) == coordinates
    assert list(split_coordinates(text)) == list(coordinates)


@EVERY
@given(COMPONENTS | SETS | PATHS)
def test_places_stand_in_coordinates_without_quotes(place) -> None:
    assert join_coordinates({"component": str(place)}) == f"component={place}"


def test_a_task_with_commas_and_equals_signs_needs_no_quotes() -> None:
    text = "component=decoder.3.attn.z[2]@answer, task=addition:digits=1x1,shots=2, done=add(dir:a~abcd, 4)"
    assert split_coordinates(text) == {
        "component": "decoder.3.attn.z[2]@answer",
        "task": "addition:digits=1x1,shots=2",
        "done": "add(dir:a~abcd, 4)",
    }
    assert join_coordinates(split_coordinates(text)) == text
    assert join_coordinates({"a": "x, y", "b": "(", "c": ""}) == 'a="x, y", b="(", c=""'
    assert split_coordinates("") == {}


@pytest.mark.parametrize("text", ["a", "a=1, a=2", "a=", "=1", "a=(", "a=1,  ", 'a="x', "a b=1", "a=)"])
def test_what_is_no_list_of_coordinates_is_refused(text: str) -> None:
    with pytest.raises(PlaceError):
        split_coordinates(text)


SAID = {
    "decoder.3.attn.z[2]": "head 2 of block 3",
    "decoder.0.mlp.out": "the MLP of block 0",
    "decoder.0.attn.z[0] + decoder.0.attn.z[3]": "heads 0 and 3 of block 0",
    "decoder.0.attn.z": "all heads of block 0",
    " + ".join(f"decoder.{b}.mlp.out" for b in range(1, 6)): "the MLPs of blocks 1, 2, 3, 4 and 5",
    " + ".join(f"decoder.{b}.mlp.out" for b in range(1, 9)): "the MLPs of blocks 1 to 8",
    "decoder.1.attn.out@answer": "the attention of block 1 at the answer",
    "decoder.1.mlp.out@operand1.first": "the MLP of block 1 at the first token of the first operand",
    "decoder.3.block@-1 + decoder.4.block@-1": "blocks 3 and 4 at the last token of the prompt",
    "encoder.1.resid_post@-2": "the residual stream after encoder block 1 two tokens before the answer",
    "decoder.3.attn.z[2]@answer + decoder.4.mlp.out@answer": "head 2 of block 3 and the MLP of block 4 at the answer",
    "decoder.3.attn.z[2]@0 + decoder.4.mlp.out@answer": "head 2 of block 3 at position 0 and the MLP of block 4 at the answer",
    "decoder.3.attn.pattern[2]@answer<-operand1": "the pattern of head 2 of block 3 from the answer to the first operand",
    "decoder.2.cross.pattern[0]@answer<-encoder:word3":
        "the pattern of cross-attention head 0 of block 2 from the answer to word3 in the encoder",
    "decoder.3.mlp.act[17,42]#2": "neurons 17 and 42 of block 3 on pass 2",
    "decoder.4.resid_post[dir:truth~ab12cd]": "the direction truth in the residual stream after block 4",
    "decoder.4.resid_post[3]": "channel 3 of the residual stream after block 4",
    "decoder.embed@operand1": "the embedding at the first operand",
    "encoder.embed": "the embedding of the encoder",
    "decoder.logits": "the logits",
}  # fmt: skip


@pytest.mark.parametrize("text", SAID)
def test_sets_are_said_in_plain_words(text: str) -> None:
    assert display(ComponentSet.parse(text), {"operand1": "the first operand"}) == SAID[text]


@EVERY
@given(PLACES)
def test_every_place_can_be_said(place) -> None:
    said = display(place)
    assert isinstance(place, Intervention) or (said == said.strip() and "  " not in said)
    if isinstance(place, Component):
        assert display(ComponentSet.of(place)) == said
        assert all(str(u) in said for u in place.units[:1])


def test_a_counted_position_is_called_by_its_role_where_that_is_known():
    place = Component.parse("decoder.0.mlp.out@-2")
    assert display(place).endswith("MLP of block 0 two tokens before the answer")
    assert display(place, {"-2": "the second operand"}).endswith("at the second operand")


def test_interventions_and_paths_are_said_in_plain_words() -> None:
    assert display(Intervention.parse("resample(donor)")) == "replaced by its value in another example"
    assert display(Intervention.parse("resample(twin, 0.5)")) == "moved 0.5 of the way to its value in its twin"
    assert display(Intervention.parse("add(dir:truth~abcd, 4)")) == "with 4 times the direction truth added"
    path = Path.parse("decoder.0.mlp.out -> decoder.1.attn.q[1] -> decoder.logits (frozen: attn.out, mlp.out)")
    assert display(path) == (
        "the path from the MLP of block 0 to the queries of head 1 of block 1 to the logits, "
        "with attn.out and mlp.out held frozen"
    )


def test_only_a_single_head_has_a_usual_name() -> None:
    assert usual_name(Component.parse("decoder.1.attn.z[0]@answer")) == "1.0"
    for text in (
        "decoder.1.attn.z",
        "decoder.1.attn.z[0,2]",
        "decoder.1.mlp.act[0]",
        "decoder.1.attn.q[0]",
        "decoder.logits",
    ):
        assert usual_name(Component.parse(text)) is None


def test_every_site_kind_of_the_engine_is_a_part_of_a_block() -> None:
    from tools.engine.sites import HEADED, KINDS, Site

    for kind in KINDS:
        c = Component.parse(str(Site("decoder", 3, kind)))
        assert (c.stack, c.block, c.part) == ("decoder", 3, kind)
        assert (PARTS[kind].unit == "head") == (kind in HEADED)


def test_places_are_importable_without_torch_and_without_the_records() -> None:
    code = (
        "import sys, experiments_db.places; print([m for m in sys.modules if m in ('torch', 'experiments_db.records')])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_every_public_name_is_there() -> None:
    assert all(hasattr(places, name) for name in places.__all__)
