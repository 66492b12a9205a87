"""Layer programs: the sugar, the sweeps, and errors that say what would be valid."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.engine import programs
from tools.engine.programs import LayerProgram, ProgramError

DEPTHS = st.integers(1, 24)


@st.composite
def stack_and_blocks(draw: st.DrawFn) -> tuple[int, set[int]]:
    """A depth and a nonempty set of its blocks."""
    n = draw(DEPTHS)
    return n, draw(st.sets(st.integers(0, n - 1), min_size=1))


@given(stack_and_blocks())
def test_skip_and_keep_part_the_stack_between_them(case: tuple[int, set[int]]) -> None:
    n, blocks = case
    skipped, kept = programs.skip(blocks, n).blocks, programs.keep(blocks, n).blocks
    assert set(kept) == blocks
    assert list(kept) == sorted(kept)
    assert list(skipped) == sorted(skipped)
    assert sorted(kept + skipped) == list(range(n))


@given(stack_and_blocks(), st.integers(2, 4))
def test_repeat_runs_each_chosen_block_so_many_times_in_a_row(case: tuple[int, set[int]], times: int) -> None:
    n, blocks = case
    program = programs.repeat(blocks, n, times).blocks
    assert list(program) == sorted(program)
    assert [program.count(b) for b in range(n)] == [times if b in blocks else 1 for b in range(n)]


@given(stack_and_blocks())
def test_reverse_turns_the_span_of_the_blocks_and_twice_is_nothing(case: tuple[int, set[int]]) -> None:
    n, blocks = case
    program = programs.reverse(blocks, n).blocks
    low, high = min(blocks), max(blocks)
    assert [program[b] for b in program] == list(range(n))
    assert all(program[b] == (low + high - b if low <= b <= high else b) for b in range(n))


@given(DEPTHS)
def test_reverse_without_blocks_turns_the_whole_stack(n: int) -> None:
    assert programs.reverse([], n).blocks == tuple(reversed(range(n)))


@given(st.integers(2, 24), st.data())
def test_swap_exchanges_two_blocks_in_either_order(n: int, data: st.DataObject) -> None:
    a, b = data.draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=2, unique=True))
    program = programs.swap([a, b], n).blocks
    assert program == programs.swap([b, a], n).blocks
    assert [i for i in range(n) if program[i] != i] == sorted((a, b))
    assert (program[a], program[b]) == (b, a)


@given(DEPTHS.flatmap(lambda n: st.permutations(range(n))))
def test_permute_and_custom_run_exactly_what_they_are_given(order: list[int]) -> None:
    assert programs.permute(order, len(order)).blocks == tuple(order)
    assert programs.custom([*order, order[0]], len(order)).blocks == (*order, order[0])
    assert programs.permute(order, len(order)).is_identity == (order == sorted(order))


@given(DEPTHS)
def test_only_every_block_once_in_order_is_the_identity(n: int) -> None:
    assert programs.identity(n).is_identity
    assert not programs.skip([n - 1], n).is_identity
    assert not programs.repeat([0], n).is_identity
    assert programs.custom([], n).blocks == ()


SIZES: dict[str, Callable[[int], int]] = {
    "drop_last": lambda n: n,
    "drop_first": lambda n: n,
    "skip_each": lambda n: n,
    "skip_ranges": lambda n: n * (n + 1) // 2,
    "repeat_each": lambda n: n,
    "swap_adjacent": lambda n: n - 1,
}


def test_every_sweep_has_its_size_stated_here() -> None:
    assert SIZES.keys() == programs.SWEEPS.keys()


@given(DEPTHS, st.sampled_from(sorted(SIZES)))
def test_a_sweep_has_the_size_of_its_formula_and_names_every_variant_differently(n: int, name: str) -> None:
    sweep = programs.SWEEPS[name](n)
    assert len(sweep) == SIZES[name](n)
    assert len({p.label for p in sweep}) == len(sweep)
    assert len({p.blocks for p in sweep}) == len(sweep)
    assert all(p.n_blocks == n and not p.is_identity for p in sweep)


def test_small_sweeps_are_what_they_are_called() -> None:
    def blocks(name: str) -> list[tuple[int, ...]]:
        return [p.blocks for p in programs.SWEEPS[name](3)]

    assert blocks("drop_last") == [(0, 1), (0,), ()]
    assert blocks("drop_first") == [(1, 2), (2,), ()]
    assert blocks("skip_each") == [(1, 2), (0, 2), (0, 1)]
    assert blocks("skip_ranges") == [(1, 2), (2,), (), (0, 2), (0,), (0, 1)]
    assert blocks("repeat_each") == [(0, 0, 1, 2), (0, 1, 1, 2), (0, 1, 2, 2)]
    assert blocks("swap_adjacent") == [(1, 0, 2), (0, 2, 1)]


def test_labels_name_runs_of_blocks_as_ranges() -> None:
    assert programs.skip([5, 1, 2, 3], 8).label == "skip 1-3,5"
    assert programs.repeat([4], 8, 3).label == "repeat 4 x3"
    assert programs.keep([0, 7], 8).label == "keep 0,7"


@pytest.mark.parametrize("operation", sorted(programs.OPERATIONS))
@pytest.mark.parametrize("bad", [-1, 6])
def test_a_block_that_does_not_exist_is_refused_with_the_range_that_does(operation: str, bad: int) -> None:
    with pytest.raises(ProgramError, match="0 to 5") as caught:
        programs.OPERATIONS[operation]([0, bad], 6)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("operation", ["skip", "keep", "repeat"])
def test_operations_on_no_block_say_what_they_need(operation: str) -> None:
    with pytest.raises(ProgramError, match=f"{operation} needs at least one block index from 0 to 5"):
        programs.OPERATIONS[operation]([], 6)


@pytest.mark.parametrize("pair", [[1], [1, 1], [1, 2, 3]])
def test_swap_wants_two_different_blocks(pair: list[int]) -> None:
    with pytest.raises(ProgramError, match="exactly two different blocks"):
        programs.swap(pair, 6)


def test_permute_wants_every_block_and_repeat_wants_to_repeat() -> None:
    with pytest.raises(ProgramError, match="0 to 2 exactly once"):
        programs.permute([0, 1], 3)
    with pytest.raises(ProgramError, match="times >= 2, not 1"):
        programs.repeat([0], 3, times=1)


def test_a_program_cannot_name_a_block_that_its_stack_lacks() -> None:
    with pytest.raises(ProgramError, match="block index 3 is out of range: this stack has 3 blocks, 0 to 2"):
        LayerProgram((0, 3), 3, "")
