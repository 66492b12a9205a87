"""Does every record fit its hash, does every reference lead somewhere, can everything be read?"""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from experiments_db.findings import Claim, Conclusion, Finding, Question
from experiments_db.places import plain_message
from experiments_db.records import Array, Axis, Hypothesis, tagged_hash
from experiments_db.rows import experiment_of, is_sound, lists_of, result_sha

if TYPE_CHECKING:
    from experiments_db.store import Store

_UNREADABLE = (ValueError, TypeError, RecursionError)  # what a text that was tampered with can make a parser say
_ITEM_BYTES = {"float32": 4, "float64": 8, "int64": 8, "int32": 4, "bool": 1}
_MAX_AXES = 64  # what NumPy can hold
_ASSERTED = {
    "Finding": (Finding, "F"),
    "Claim": (Claim, "C"),
    "Question": (Question, "Q"),
    "Conclusion": (Conclusion, ""),
}


def problems(store: "Store") -> list[str]:
    """Everything that is wrong with a store's content, one line each."""
    return list(_problems(store))


def _problems(store: "Store") -> Iterator[str]:
    damage = [str(r["integrity_check"]) for r in store.rows("PRAGMA integrity_check(20)")]
    if damage != ["ok"]:
        yield from (f"the file is damaged: {' '.join(line.split())}" for line in damage)
        return  # what can still be read of it says nothing
    for r in _each(store, "SELECT * FROM experiments"):
        if not _holds(lambda r=r: experiment_of(r).id == r["id"]):
            yield f"experiment {r['id']!s:.12}: its content does not fit its id"
    for r in _each(store, "SELECT * FROM arrays"):
        if not _holds(lambda r=r: _array_is_sound(r)):
            yield f"array {r['sha']!s:.12}: its bytes do not fit its hash and shape"
    for r in _each(store, "SELECT id, sha FROM results"):
        if not _holds(lambda r=r: _sha_of_result(store, r["id"]) == r["sha"]):
            yield f"result {r['id']}: its content does not fit its hash"
    for r in _each(store, "SELECT id, key, * FROM measurements"):
        if not _holds(lambda r=r: is_sound(r)):
            yield f"measurement {r['id']}: its key does not fit its columns"
    for r in _each(store, "SELECT sha, name, examples FROM task_data"):
        if not _holds(lambda r=r: tagged_hash("task", json.loads(r["examples"])) == r["sha"]):
            yield f"task_data {r['name']}: its examples do not fit their hash"
    for r in store.rows("PRAGMA foreign_key_check"):
        yield f"{r['table']} row {r['rowid']}: refers to a missing {r['parent']}"
    answers = "SELECT r.run, r.number FROM run_experiments r JOIN results s ON s.id = r.result"
    for r in store.rows(f"{answers} WHERE s.experiment != r.experiment"):
        yield f"run_experiments of {r['run']}: the result of E{r['number']} belongs to another experiment"
    for table, number in (("run_experiments", "number"), ("notes", "number"), ("events", "seq")):
        sql = f"SELECT run, min({number}) AS first, max({number}) AS last, count(*) AS n FROM {table} GROUP BY run"
        for r in store.rows(sql):
            if (r["first"], r["last"]) != (1, r["n"]):
                yield f"{table} of {r['run']}: numbers have gaps"
    yield from _unreadable(store)


def _each(store: "Store", sql: str) -> Iterator[dict[str, Any]]:
    """Like `Store.rows`, one row at a time: arrays and measurements may be more than memory holds."""
    cursor = store.db.execute(sql)
    names = [d[0] for d in cursor.description]
    for row in cursor:
        yield dict(zip(names, row, strict=True))


def _holds(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except _UNREADABLE:
        return False


def _array_is_sound(r: dict[str, Any]) -> bool:
    a = Array(name="", dtype=r["dtype"], shape=tuple(json.loads(r["shape"])), data=r["data"])
    fits = len(a.shape) <= _MAX_AXES and min(a.shape, default=0) >= 0
    return a.sha == r["sha"] and fits and math.prod(a.shape) * _ITEM_BYTES[a.dtype] == len(a.data)


def _sha_of_result(store: "Store", number: int) -> str:
    named = store.rows("SELECT name, array FROM result_arrays WHERE result = ? ORDER BY position", number)
    return result_sha(store.result(number, arrays=False), [(a["name"], a["array"]) for a in named])


def _unreadable(store: "Store") -> Iterator[str]:
    """What carries no hash has to be what the program itself could have written."""
    for r in _each(store, "SELECT result, position, axes FROM result_arrays"):
        if not _holds(lambda r=r: all(Axis.model_validate(x) for x in json.loads(r["axes"]))):
            yield f"result_arrays of result {r['result']}: the axes of array {r['position']} cannot be read"
    for r in _each(store, "SELECT * FROM hypotheses"):  # the store reads the latest ones only
        if not _holds(lambda r=r: bool(_revision(r))):
            yield f"hypotheses of {r['run']}: revision {r['revision']} of {r['handle']} cannot be read"
    for r in _each(store, "SELECT * FROM assertions"):
        if not _holds(lambda r=r: _is_assertion(r)):
            yield f"assertions of {r['run']}: revision {r['revision']} of {r['handle']} cannot be read"
    for what, group in (("revisions of {handle}", "run, handle"), ("{kind}s", "run, kind")):
        number = "revision" if "revision" in what else "CAST(substr(handle, 2) AS INTEGER)"
        sql = f"SELECT run, kind, handle, min({number}) AS first, max({number}) AS last, count(DISTINCT {number}) AS n"
        for r in store.rows(f"{sql} FROM assertions GROUP BY {group}"):
            if (r["first"], r["last"]) != (1, r["n"]) and (r["kind"] != "Conclusion" or "revision" in what):
                yield f"assertions of {r['run']}: {what.format(**r)} have gaps"
    readers = (store.run, store.events, store.experiments, store.notes, store.task_data)
    for name in store.runs():
        for read in readers:
            try:
                read(name)
            except _UNREADABLE as error:
                yield f"{read.__name__} of {name} cannot be read: {_first(error)}"


def _is_assertion(r: dict[str, Any]) -> bool:
    """Whether a row is a record of its kind under a handle of its kind."""
    if r["kind"] not in _ASSERTED:
        return False
    record, letter = _ASSERTED[r["kind"]]
    made = record.model_validate_json(r["body"])
    fits = re.fullmatch(f"{letter}[1-9][0-9]{{0,8}}" if letter else "conclusion", r["handle"]) is not None
    return fits and getattr(made, "handle", r["handle"]) == r["handle"]


def _revision(r: dict[str, Any]) -> Hypothesis:
    told = lists_of(r, "evidence_for", "evidence_against")
    return Hypothesis.model_validate({k: v for k, v in told.items() if k in Hypothesis.model_fields})


def _first(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {plain_message(first['msg'])}"
    return str(error)
