"""Which examples nobody has seen: where in a task's order of confirm examples a finding is settled.

What is sealed is opened once. Every finding that was ever settled on a subject, in any run of the database, used some groups
up; the next one is measured on a stretch of the order that holds none of them, whatever its task, its class of examples, and
their number.
"""

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from experiments_db.findings import Statement
from experiments_db.store import Store
from tools.findings.sealing import EXAMINE
from tools.methods.tool import TaskBook, ToolInputError
from tools.tasks import Task, TaskError

QUOTED = re.compile(r"""(?<!\w)'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\"""")  # as repr writes a text


@dataclass(frozen=True)
class Stretch:
    """Where a sample begins. reused: it holds groups that were used before, for want of others."""

    start: int
    reused: bool


def stretch(tasks: Sequence[Task], n: int, used: Set[str]) -> Stretch:
    """The first place in the order of confirm groups from which no sample of n holds a group that was used, else the one
    that holds fewest.
    """
    if not used:
        return Stretch(0, reused=False)
    looked = 2 * n
    while True:
        orders = [[e.group in used for e in t.sample("confirm", looked).examples] for t in tasks]
        whole = [len(o) < looked for o in orders]
        found = [(_used(orders, whole, start, n), start) for start in range(max(map(len, orders)))]
        fewest, start = min(((u, s) for u, s in found if u is not None), default=(1, 0))
        if fewest == 0 or all(whole):
            return Stretch(start, reused=fewest > 0)
        looked *= 2


def unquoted(said: str, tasks: Callable[[], Sequence[Task]], n: int, used: Set[str]) -> str:
    """What is said of n unseen examples of tasks, without anything of these that it quotes: what is sealed is not told."""
    try:
        found = tasks()
        start = stretch(found, n, used).start
        sealed = [e for t in found for e in t.sample("confirm", n, draw=start).examples]
    except (ToolInputError, TaskError):  # nothing can be drawn that could be quoted
        return said
    whole = {t for e in sealed for t in (e.shown, e.twin) if t and t.strip()}
    parts = {v.strip() for e in sealed for v in (*e.rights, *e.candidates, e.foil or "")} - {""}

    def told(m: re.Match[str]) -> str:
        try:
            inside = str(ast.literal_eval(m[0]))
        except (SyntaxError, ValueError):  # quoted by somebody else
            inside = m[0]
        return "(unseen)" if inside.strip() in parts or any(t in inside for t in whole) else m[0]

    return QUOTED.sub(told, said)


def _used(orders: Sequence[Sequence[bool]], whole: Sequence[bool], start: int, n: int) -> int | None:
    """How many used groups the samples hold that begin there; None where an order that goes on has not been read so far.

    Past the end of a whole order a sample goes on from its beginning.
    """
    if any(start + n > len(o) for o, w in zip(orders, whole, strict=True) if not w):
        return None
    return sum(o[(start + i) % len(o)] for o in orders for i in range(min(n, len(o))))


def tasks_of(book: TaskBook, statement: Statement | Mapping[str, Any]) -> list[Task]:
    """The tasks whose examples a statement is measured on, as their classes. ToolInputError where there is none."""
    s = statement.as_json() if isinstance(statement, Statement) else statement
    pairs = [(s["task"], s.get("among"))]
    if s.get("other_task") or s.get("other_among"):
        pairs.append((s.get("other_task") or s["task"], s.get("other_among")))
    try:
        return [book.get(t).among(among or "") for t, among in pairs]
    except TaskError as error:
        raise ToolInputError(str(error)) from None


def used_groups(store: Store, subject: str, book: Callable[[str], TaskBook]) -> set[str]:
    """Groups that findings about a subject have been settled on, in any run; book: the tasks of a run by its name."""
    rows = store.rows(
        "SELECT min(r.run) AS run, x.args, x.seed FROM run_experiments r JOIN experiments x ON x.id = r.experiment "
        "WHERE x.tool = ? AND x.subject = ? AND json_extract(x.args, '$.split') = 'confirm' GROUP BY x.id",
        EXAMINE,
        subject,
    )
    found: set[str] = set()
    for row in rows:
        args: dict[str, Any] = json.loads(row["args"])
        try:
            for task in tasks_of(book(row["run"]), args):
                found |= {e.group for e in task.examples("confirm", args["examples"], row["seed"], args.get("draw", 0))}
        except (ToolInputError, TaskError):  # a task of an older version: nothing can be drawn from it now either
            continue
    return found
