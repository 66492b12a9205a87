"""The store keeps exactly what it was given, all or nothing, and notices when somebody changes it."""

import math
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from experiments_db import __main__ as command
from experiments_db.findings import Claim, Finding, Statement
from experiments_db.records import (
    Array,
    Axis,
    Control,
    Experiment,
    Hypothesis,
    Measurement,
    Note,
    Provenance,
    Result,
    Run,
    TaskData,
)
from experiments_db.store import Store, StoreError

numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
controls = st.builds(
    Control,
    kind=words,
    value=numbers,
    low=st.none() | numbers,
    high=numbers,
    n=st.integers(0, 2**40),
    difference=st.none() | numbers,
)
singles = st.builds(
    lambda block, part, head, anchor: f"decoder.{block}.{part}{head}{anchor}",
    st.integers(0, 200), st.sampled_from(["attn.z", "attn.q"]), st.sampled_from(["", "[0]", "[1,2]"]), st.sampled_from(["", "@answer", "@-2"]),
)  # fmt: skip
places = singles | st.tuples(singles, singles).map(" + ".join) | singles.map(lambda c: c + " -> decoder.logits")
measurements = st.builds(
    Measurement,
    name=words,
    value=numbers,
    unit=words,
    n=st.integers(0, 2**40),
    low=st.none() | numbers,
    control=st.none() | controls,
    task=st.none() | words,
    component=st.none() | places,
    intervention=st.sampled_from([None, "zero", "resample(donor)", "add(dir:x~ab12, 4)"]),
    dose=st.none() | numbers,
    label=st.none() | words,
)
arrays = st.builds(
    lambda name, data: Array(
        name=name, dtype="float64", shape=(len(data) // 8,), data=data, axes=(Axis(name="i", labels=()),)
    ),
    words,
    st.binary(max_size=64).map(lambda b: b[: len(b) // 8 * 8]),
)
results = st.builds(
    Result,
    status=st.sampled_from(["ok", "refused", "failed"]),
    text=words,
    measurements=st.lists(measurements, max_size=4, unique_by=lambda m: m.key).map(tuple),
    arrays=st.lists(arrays, max_size=2).map(tuple),
    wall_seconds=numbers,
    peak_memory_bytes=st.integers(0, 2**50),
    provenance=st.none()
    | st.builds(Provenance, device=words, threads=st.integers(1, 64), platform=words, versions=st.just({})),
)


def experiment(**changes):
    return Experiment(
        **{"tool": "loss", "args": {"a": 1}, "subject": "f", "seed": 0, "dtype": "float32", "code": "c", **changes}
    )


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "e.db")
    made.put_run(Run(name="r1", goal="g", subject="demo", planner="p"))
    return made


def put(store, name="accuracy", value=0.5, status="ok", **where):
    result = Result(
        status=status,
        text="t",
        measurements=(Measurement(name=name, value=value, unit="u", n=3, **where),),
        arrays=(Array(name="a", dtype="float64", shape=(1,), data=b"12345678"),),
    )
    asked = experiment(args={"a": value})
    with store.transaction():
        number = store.put_result(asked, result)
        handle = store.link_experiment("r1", asked.id, number, cached=False, seq=store.put_event("r1", "turn", {}))
    return asked, number, handle


@settings(max_examples=60)
@given(result=results)
def test_a_result_comes_back_as_it_was_put(result, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("s") / "e.db")
    number = store.put_result(experiment(), result)
    assert store.result(number) == result
    assert store.verify() == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_measurement_that_is_no_number_is_refused(bad):
    with pytest.raises(ValidationError):
        Measurement(name="x", value=bad, unit="u", n=1)


def test_negative_zero_is_zero_because_the_database_knows_no_other():
    assert math.copysign(1, Measurement(name="x", value=-0.0, unit="u", n=1).value) == 1


def test_two_measurements_of_one_key_are_refused():
    twice = Measurement(name="x", value=1, unit="u", n=1, task="t")
    with pytest.raises(ValidationError, match="distinct"):
        Result(status="ok", text="", measurements=(twice, twice.model_copy(update={"value": 2.0})))


@pytest.mark.parametrize(
    "change",
    [
        {"tool": "lens"},
        {"args": {"a": 2}},
        {"subject": "g"},
        {"tasks": {"t": "h"}},
        {"seed": 1},
        {"dtype": "x"},
        {"code": "d"},
    ],
)
def test_whatever_determines_the_answer_changes_the_id(change):
    assert experiment(**change).id != experiment().id
    assert experiment().id == experiment(args=dict(reversed(list({"a": 1}.items())))).id


def test_an_exception_leaves_nothing_of_a_transaction_and_an_inner_one_only_of_the_inner(store):
    with pytest.raises(RuntimeError), store.transaction():
        store.put_entry("r1", 1, Note(text="outer"))
        raise RuntimeError
    assert store.notes("r1") == []
    with store.transaction():
        store.put_entry("r1", 1, Note(text="kept"))
        with pytest.raises(RuntimeError), store.transaction():
            store.put_entry("r1", 1, Note(text="inner"))
            raise RuntimeError
    assert [n.text for n in store.notes("r1")] == ["kept"]


def test_a_process_that_dies_in_a_transaction_leaves_a_sound_store_without_it(store):
    code = (
        "import os, sys\nfrom experiments_db.store import Store\nfrom experiments_db.records import Note\n"
        f"s = Store({str(store.path)!r})\nwith s.transaction():\n s.put_entry('r1', 1, Note(text='half'))\n os._exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
    again = Store(store.path)
    assert again.notes("r1") == []
    assert again.verify() == []


def test_a_failed_result_is_never_used_again_and_an_ok_one_is(store):
    asked, _, _ = put(store, status="failed")
    assert store.cached(asked.id) is None
    _, number, _ = put(store)
    assert store.cached(asked.id)[0] == number


def test_handles_count_without_gaps(store):
    assert [put(store, value=v)[2] for v in (1.0, 2.0, 3.0)] == ["E1", "E2", "E3"]
    assert [store.put_entry("r1", 1, Note(text=t)) for t in "ab"] == ["N1", "N2"]
    claim = Claim(finding="F1", interpretation="t")
    assert store.put_entry("r1", 1, claim) == "C1"
    assert store.claims("r1") == [claim]


def test_the_latest_revision_counts_and_the_earlier_ones_are_kept(store):
    for status in ("open", "supported"):
        store.put_entry("r1", 1, Hypothesis(handle="H1", statement="s", status=status))
    said = Statement(kind="necessary", task="t", components="decoder.0.mlp.out@answer", interventions=("zero",))
    f = Finding(handle="F1", statement=said, seen="E1", smallest=0.1, probability=0.9, power=0.8)
    done = f.model_copy(update={"experiment": "E2", "round": 1, "fate": "confirmed", "p": 1e-4})
    for revision in (f, done):
        store.put_entry("r1", 1, revision)
    assert [h.status for h in store.hypotheses("r1")] == ["supported"]
    assert store.findings("r1") == [done]
    assert store.rows("SELECT count(*) AS n FROM hypotheses")[0]["n"] == 2


def test_a_task_is_kept_with_its_examples(store):
    data = TaskData(name="t", description="d", examples=({"prompt": "p", "answer": "a"},), origin="file")
    store.put_entry("r1", 1, data)
    assert store.task_data("r1") == [data]


def test_a_run_is_found_by_prefix_and_latest_and_never_guessed(store):
    store.put_run(Run(name="r2-x", goal="g", subject="d", planner="p"))
    assert store.resolve_run("latest") == "r2-x"
    assert store.resolve_run("r2") == "r2-x"
    for word in ("r", "zzz"):
        with pytest.raises(StoreError, match="r1, r2-x"):
            store.resolve_run(word)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["t1", "t2"]), st.floats(-5, 5)), min_size=1, max_size=12
    ),
    bound=st.floats(-5, 5),
)
def test_a_selection_is_what_plain_python_selects(rows, bound, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("q") / "e.db")
    store.put_run(Run(name="r1", goal="g", subject="d", planner="p"))
    made = tuple(
        Measurement(name=n, value=v, unit="u", n=1, task=t, component=f"decoder.{i}.block")
        for i, (n, t, v) in enumerate(rows)
    )
    number = store.put_result(experiment(), Result(status="ok", text="", measurements=made))
    store.link_experiment("r1", experiment().id, number, cached=False, seq=1)
    wanted = [(n, t, v) for n, t, v in rows if v >= bound and n == "a"]
    found = store.select({"value": {">=": bound}, "name": {"=": "a"}}, run="r1")
    assert [(r["name"], r["task"], r["value"]) for r in found] == wanted
    for aggregate, f in (("mean", lambda x: sum(x) / len(x)), ("min", min), ("max", max), ("count", len)):
        grouped = store.select({}, ["task"], aggregate)
        for r in grouped:
            assert r["value"] == pytest.approx(f([v for _, t, v in rows if t == r["task"]]))


def test_names_in_a_query_are_checked_and_values_are_only_values(store):
    put(store, task="x")
    for bad in ({"nope": {"=": 1}}, {"name": {"LIKE": "x"}}, {"name; DROP TABLE runs": {"=": 1}}):
        with pytest.raises(StoreError, match="use|columns are"):
            store.select(bad)
    with pytest.raises(StoreError, match="columns are"):
        store.select({}, order_by="value; DROP TABLE runs")
    assert store.select({"task": {"=": "x' OR 1=1 --"}}) == []
    assert store.runs() == ["r1"]


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("UPDATE measurements SET value = 0.6", "result 1"),
        ("UPDATE results SET text = 'other'", "result 1"),
        ("UPDATE measurements SET task = 'other'", "key"),
        ("UPDATE arrays SET data = x'00'", "bytes"),
        ("UPDATE experiments SET args = '{\"a\":7}'", "does not fit its id"),
        ("UPDATE run_experiments SET result = 77", "missing"),
        ("UPDATE run_experiments SET number = 3", "gaps"),
    ],
)
def test_a_change_behind_its_back_is_noticed(store, sql, says, capsys):
    put(store)
    assert store.verify() == []
    with sqlite3.connect(store.path) as db:
        db.execute(sql)
    assert any(says in p for p in store.verify())
    assert command.main(["verify", str(store.path)]) == 1


def test_the_verify_command_says_what_it_checked(store, capsys, tmp_path):
    put(store)
    assert command.main(["verify", str(store.path)]) == 0
    assert "1 experiments" in capsys.readouterr().out
    assert command.main(["verify", str(tmp_path / "none.db")]) == 2


def test_what_cannot_be_opened_is_said_in_one_line(store, tmp_path):
    (tmp_path / "text.db").write_text("this is no database, but long enough to look like a file with a header " * 3)
    for path, create in (
        (tmp_path / "text.db", True),
        (tmp_path / "none.db", False),
        (tmp_path / "text.db" / "e.db", True),
    ):
        with pytest.raises(StoreError) as error:
            Store(path, create=create)
        assert "\n" not in str(error.value)
    with sqlite3.connect(store.path) as db:
        db.execute("INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('locus', 'm999', 'now')")
    with pytest.raises(StoreError, match="newer"):
        Store(store.path)


def test_another_connection_reads_while_a_transaction_is_open(store):
    put(store)
    reader = Store(store.path, create=False)
    with store.transaction():
        store.put_entry("r1", 1, Note(text="not yet"))
        assert reader.notes("r1") == []
        assert len(reader.experiments("r1")) == 1
    assert len(reader.notes("r1")) == 1


def test_a_writer_that_reads_first_keeps_the_other_waiting_and_neither_fails(tmp_path):
    one, other = Store(tmp_path / "e.db"), Store(tmp_path / "e.db")
    one.put_run(Run(name="r", goal="g", subject="s", planner="p"))
    with ThreadPoolExecutor(1) as pool:
        with one.transaction():
            assert one.last_seq("r") == 0
            second = pool.submit(other.put_event, "r", "turn", {})
            wait([second], timeout=0.5)  # time for the other to come in between, if it could
            assert one.put_event("r", "turn", {}) == 1
        assert second.result() == 2


def test_several_processes_may_make_the_same_file_at_once(tmp_path):
    code = f"from experiments_db.store import Store; Store({str(tmp_path / 'e.db')!r}).runs()"
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent.parent) for _ in range(4)]
    assert [p.wait(60) for p in started] == [0] * 4
    assert Store(tmp_path / "e.db").verify() == []


@pytest.mark.parametrize(
    "handle", ["E" + "9" * 30, "E" + "9" * 5000, "E0", "E01", "e1", "E", "", "E-1", "E1 ", "H1", "E\u0661"]
)
def test_a_handle_that_names_nothing_says_what_there_is(tmp_path, handle):
    store = Store(tmp_path / "e.db")
    store.put_run(Run(name="r", goal="g", subject="s", planner="p"))
    with pytest.raises(StoreError, match="has no experiment"):
        store.experiment("r", handle)
