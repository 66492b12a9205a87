"""The list of mends belongs to the code: each fix stands where it is said to, and its test exists."""

import itertools
import re

import pytest

from benchmarks.mends.__main__ import MENDS, ROOT
from benchmarks.mends.mend import Edit, SnippetError, Tree, check, mend, without
from benchmarks.mends.runner import Ran


@pytest.mark.parametrize("one", MENDS, ids=[m.line for m in MENDS])
def test_a_fix_stands_in_the_code_once_and_its_test_exists(one):
    check(ROOT, one)
    file, _, name = one.test.partition("::")
    assert re.search(rf"^(async )?def {re.escape(name.partition('[')[0])}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_every_line_is_there_once():
    assert len({m.line for m in MENDS}) == len(MENDS) > 60


@pytest.mark.parametrize(
    ("fix", "reverted", "says"),
    [
        ("d = 1", "d = 2", "found 0 times"),
        ("= 1", "= 2", "found 2 times"),
        ("a = 1", "a = 1", "nothing is reverted"),
        ("a = 1", "a =", "no Python"),
    ],
)
def test_a_fix_that_is_not_found_once_or_leaves_no_python_is_an_error(fix, reverted, says):
    with pytest.raises(SnippetError, match=says):
        without("a = 1\nb = 1\n", Edit("x.py", fix, reverted))


def test_a_tree_is_as_it_was_after_a_fix_was_taken_back_and_python_reads_it_anew_each_time(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("a = 1\nb = 1\n")
    tree, times = Tree(tmp_path), [path.stat().st_mtime]
    one = mend("it is one", "test_x.py::test_x", ("x.py", "a = 1", "a = 2"), ("x.py", "b = 1", "b = 3"))
    for _ in range(2):
        with tree.reverted(one):
            assert path.read_text() == "a = 2\nb = 3\n"
            times.append(path.stat().st_mtime)
        assert path.read_text() == "a = 1\nb = 1\n"
        times.append(path.stat().st_mtime)
    assert all(later - earlier > 1 for earlier, later in itertools.pairwise(times))


def test_a_test_is_red_only_where_it_ran_and_failed():
    ran = Ran(
        outcomes={"t.py::a[1]": "passed", "t.py::a[2]": "failed", "t.py::b": "passed"},
        why={"t.py::a[2]": "assert 1 == 2"},
    )
    assert [ran.of(t) for t in ("t.py::a", "t.py::a[1]", "t.py::b", "t.py::c")] == ["red", "green", "green", "broken"]
    ran.why["t.py::a[2]"] = "NameError: name 'x' is not defined"
    assert ran.of("t.py::a") == "broken"
    assert (
        Ran(outcomes={"t.py::b": "failed"}, why={"t.py::b": "no"}, broken=["t.py cannot be read"]).of("t.py::b")
        == "broken"
    )
