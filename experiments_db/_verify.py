"""Does every record fit its hash, does every reference lead somewhere?"""

import json
from typing import TYPE_CHECKING

from experiments_db._rows import experiment_of, measurement_of, result_sha
from experiments_db.records import Array

if TYPE_CHECKING:
    from experiments_db.store import Store


def problems(store: "Store") -> list[str]:
    """Everything that is wrong with a store's content, one line each."""
    found: list[str] = []
    rows = store.rows("SELECT * FROM experiments")
    wrong = [r["id"] for r in rows if experiment_of(r).id != r["id"]]
    found += [f"experiment {x[:12]}: its content does not fit its id" for x in wrong]
    for r in store.rows("SELECT * FROM arrays"):
        try:
            sound = (
                Array(name="", dtype=r["dtype"], shape=tuple(json.loads(r["shape"])), data=r["data"]).sha == r["sha"]
            )
        except ValueError:
            sound = False
        if not sound:
            found.append(f"array {r['sha'][:12]}: its bytes do not fit its hash")
    for r in store.rows("SELECT id, sha FROM results"):
        try:
            result = store.result(r["id"], arrays=False)
            named = store.rows("SELECT name, array FROM result_arrays WHERE result = ? ORDER BY position", r["id"])
            sound = result_sha(result, [(a["name"], a["array"]) for a in named]) == r["sha"]
        except ValueError:
            sound = False
        if not sound:
            found.append(f"result {r['id']}: its content does not fit its hash")
    keys = store.rows("SELECT id, key, * FROM measurements")
    found += [
        f"measurement {r['id']}: its key does not fit its columns" for r in keys if measurement_of(r).key != r["key"]
    ]
    found += [
        f"{r['table']} row {r['rowid']}: refers to a missing {r['parent']}"
        for r in store.rows("PRAGMA foreign_key_check")
    ]
    for table in ("run_experiments", "notes", "claims"):
        rows = store.rows(f"SELECT run, max(number) AS last, count(*) AS n FROM {table} GROUP BY run")
        found += [f"{table} of {r['run']}: numbers have gaps" for r in rows if r["last"] != r["n"]]
    return found
