"""What a finding is settled on was never settled on before: whatever the class, the number or the task asked for."""

import hypothesis.strategies as st
from hypothesis import given, settings

from agent.loop.unseen import stretch
from tools.tasks import Example, Task, get_task


def listed(groups: int) -> Task:
    """A task of some problems, every third of them of class `c`."""

    def draw(split, rng):
        rows = list(range(groups))
        rng.shuffle(rows)
        for i in rows:
            yield Example.of_text(f"{i}", "a", group=f"{split}{i}", labels={"class": "c" if i % 3 == 0 else "d"})

    return Task("listed", "Numbers.", draw)


def groups_of(task: Task, n: int, start: int) -> set[str]:
    return {e.group for e in task.examples("confirm", n, draw=start)}


@settings(deadline=None, max_examples=60)
@given(rounds=st.lists(st.tuples(st.integers(2, 12), st.sampled_from(["", "class=c", "class=d"])), max_size=6))
def test_rounds_of_any_size_and_class_share_no_problem_until_there_are_no_others(rounds):
    task, used = listed(90), set()
    for n, among in rounds:
        chosen = task.among(among)
        place = stretch([chosen], n, used)
        mine = groups_of(chosen, n, place.start)
        assert place.reused == bool(mine & used)
        free = [e.group not in used for e in chosen.examples("confirm", 90)]
        longest = max(map(len, "".join("x" if f else " " for f in free * 2).split()), default=0)
        assert not place.reused or longest < n
        used |= mine


def test_two_tasks_that_are_compared_are_both_new():
    task = listed(60)
    used = groups_of(task, 12, 0)
    place = stretch([task.among("class=c"), task.among("class=d")], 6, used)
    assert not place.reused
    for among in ("class=c", "class=d"):
        assert not groups_of(task.among(among), 6, place.start) & used


def test_where_all_is_used_it_says_so_and_takes_what_was_used_least():
    task = listed(20)
    used = groups_of(task, 15, 0)
    place = stretch([task], 10, used)
    assert place.reused
    assert len(groups_of(task, 10, place.start) & used) == 5


def test_a_shorter_sample_of_a_real_task_does_not_lie_within_a_longer_one():
    task = get_task("addition")
    used = groups_of(task, 64, 0)
    assert not groups_of(task, 32, stretch([task], 32, used).start) & used
    assert stretch([task], 64, set()).start == 0
