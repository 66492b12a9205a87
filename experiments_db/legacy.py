"""What version 0.1 wrote about where a number was taken, in the language of places.

It had columns for site, layer, head and position, and as many grammars for a site as tools. What cannot be said as a
place is kept as text in `variant`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from experiments_db._sqlite import sqlite_utils
from experiments_db.places import Component, ComponentSet, Path, PlaceError, join_coordinates
from experiments_db.records import Result
from experiments_db.rows import (
    MEASUREMENT_COLUMNS,
    MEASUREMENT_FIELDS,
    measurement_from,
    measurement_of,
    measurement_row,
    result_sha,
)

_PARTS = {"attn": "attn.out", "mlp": "mlp.out", "q": "attn.q", "k": "attn.k", "v": "attn.v"}
_READ_AS_LAST = ("lens", "tuned_lens", "trajectory_anomaly")  # their layers counted the blocks passed
_TAKEN_OUT = ("ablate", "minimal_set")
_FROM_TWIN = ("patch", "path_patch")
OLD = ("site", "layer", "head", "position")
_COORDINATES = ("task", "split", "program", *OLD, "token", "variant")


def coordinates_of(tool: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The coordinates that say the same: every one of those that the old columns had a part in."""
    new: dict[str, Any] = {k: row[k] for k in ("program", "token", "variant")}
    new |= {"component": None, "intervention": None, "label": None, "dose": None}
    try:
        new["component"] = _place(tool, row)
    except (PlaceError, ValueError):
        kept = [f"{c} {row[c]}" for c in OLD if row[c] is not None]
        new["variant"] = ", ".join([*([new["variant"]] if new["variant"] else []), *kept])
    match tool:
        case _ if tool in _TAKEN_OUT and new["variant"] in ("zero", "mean", "resample"):
            new |= {"intervention": new["variant"], "variant": None}
        case _ if tool in _FROM_TWIN and new["component"] is not None:
            new["intervention"] = "resample(twin)"
        case "probe":
            new |= {"label": row["token"], "token": None}
        case "steer" if dose := re.fullmatch(r"dose ([-+.e0-9]+)", row["program"] or ""):
            new |= {"dose": float(dose[1]), "program": None}
        case "describe_subject":
            new["variant"] = row["site"]
        case _:
            pass
    return new


def _place(tool: str, row: Mapping[str, Any]) -> str | None:
    site, layer, position = row["site"], row["layer"], row["position"]
    anchor: str = {"last": "-1", "all": "", None: ""}.get(position, str(position))
    if tool == "describe_subject" or (site is None and layer is None):
        return None
    if site is None:
        if tool == "causal_basis":
            return str(Component(stack="decoder", block=layer, part="resid_pre", anchor="-1"))
        if tool not in _READ_AS_LAST:
            raise ValueError(f"layer {layer} of {tool}")
        part, block = ("embed", None) if layer == 0 else ("resid_post", layer - 1)
        return str(Component(stack="decoder", block=block, part=part, anchor=anchor))
    if tool == "attention":
        head = _components(site, "")[0]
        anchor, key = ("-1", str(position)) if position else ("", "")
        return str(
            Component(stack=head.stack, block=head.block, part="attn.pattern", units=head.units, anchor=anchor, key=key)
        )
    if " -> " in site:
        sender, receiver = site.split(" -> ")
        return str(Path(nodes=(*_components(sender, anchor), *_components(receiver, ""))))
    whole, _, without = site.partition(" without ")
    gone = set(_components(without, anchor)) if without else set[Component]()
    return str(ComponentSet(members=tuple(c for c in _components(whole, anchor) if c not in gone)))


def _components(text: str, anchor: str) -> list[Component]:
    """`3.mlp`, `1+2.mlp`, `2.head.0+3.head.1`, `3.head.q.2`, `decoder.5.resid_post`, `embedding` or `logits`."""
    if text in ("embedding", "logits"):
        return [Component(stack="decoder", part={"embedding": "embed"}.get(text, text), anchor=anchor)]
    if found := re.fullmatch(r"([0-9]+(?:\+[0-9]+)+)\.([a-z]+)", text):
        return [_component(f"{block}.{found[2]}", anchor) for block in found[1].split("+")]
    return [_component(one, anchor) for one in text.split("+")]


def _component(text: str, anchor: str) -> Component:
    found = re.fullmatch(r"(?:([a-z_]+)\.)?([0-9]+)\.([a-z_.]+?)(?:\.([0-9]+))?", text)
    if not found:
        raise ValueError(f"{text!r} was no site")
    stack, block, name, unit = found.groups()
    name = "attn.z" if name == "head" else name.replace("head.", "attn.")
    units = () if unit is None else (int(unit),)
    part = _PARTS.get(name, name)
    return Component(stack=stack or "decoder", block=int(block), part=part, units=units, anchor=anchor)


def take_over(db: sqlite_utils.Database) -> None:
    """Write the measurements of a database that has both kinds of columns in the new ones.

    The hashes of their results are made anew, and what was written about them refers to them by their new names.
    """
    tools = dict(db.execute("SELECT r.id, x.tool FROM results r JOIN experiments x ON x.id = r.experiment").fetchall())
    renamed: dict[int, list[_Renamed]] = {}
    for number, tool in tools.items():
        cursor = db.execute("SELECT * FROM measurements WHERE result = ? ORDER BY id", [number])
        names = [d[0] for d in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        seen: set[str] = set()
        for row in rows:
            m = measurement_of({**row, "groups": row["n"], **coordinates_of(tool, row)})
            if m.key in seen:  # told apart by nothing that can be said as a place
                m = m.model_copy(update={"variant": f"{m.variant or ''} ({row['key']})".strip()})
            seen.add(m.key)
            where = {c: str(row[c]) for c in _COORDINATES if row[c] is not None}
            renamed.setdefault(number, []).append(_Renamed(m.name, where, row["key"], m.key))
            values = dict(zip(MEASUREMENT_COLUMNS, measurement_row(number, m), strict=True))
            marks = ", ".join(f"{c} = ?" for c in values)
            db.execute(f"UPDATE measurements SET {marks} WHERE id = ?", [*values.values(), row["id"]])
        db.execute("UPDATE results SET sha = ? WHERE id = ?", [_sha(db, number), number])
    _rewrite_texts(db, renamed)


def _sha(db: sqlite_utils.Database, number: int) -> str:
    status, text = db.execute("SELECT status, text FROM results WHERE id = ?", [number]).fetchone()
    found = db.execute(f"SELECT {MEASUREMENT_FIELDS} FROM measurements WHERE result = ? ORDER BY id", [number])
    said = Result(status=status, text=text, measurements=tuple(map(measurement_from, found.fetchall())))
    named = db.execute("SELECT name, array FROM result_arrays WHERE result = ? ORDER BY position", [number])
    return result_sha(said, named.fetchall())


@dataclass(frozen=True)
class _Renamed:
    """A measurement as it was referred to, and as it is now."""

    name: str
    where: dict[str, str]
    old: str
    new: str


_REFERENCE = re.compile(
    r"\{\{(E[0-9]+)\.([\w.]+?)(\.control|\.n|\.low|\.high)?\s*(?:\[((?:(?!\}\}).)*)\])?\}\}", re.DOTALL
)
_TEXTS = {"notes": ("text",), "claims": ("text",), "hypotheses": ("statement",)}


def _rewrite_texts(db: sqlite_utils.Database, renamed: Mapping[int, list[_Renamed]]) -> None:
    """References and metrics in what was written about measurements; one that meant nothing stays as it was."""
    asked = db.execute("SELECT run, 'E' || number, result FROM run_experiments").fetchall()
    of = {(run, handle): renamed.get(result, []) for run, handle, result in asked}

    def replaced(run: str, found: re.Match[str]) -> str:
        handle, name, part, where = found.groups()
        new = _found(of.get((run, handle), []), name, where or "")
        return found[0] if new is None else f"{{{{{handle}.{name}{part or ''}{new.removeprefix(name)}}}}}"

    for table, columns in _TEXTS.items():
        for column in columns:
            rows = db.execute(f"SELECT rowid, run, {column} FROM {table} WHERE {column} LIKE '%{{{{%'").fetchall()
            for rowid, run, text in rows:
                new = _REFERENCE.sub(partial(replaced, run), text)
                db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", [new, rowid])
    for rowid, run, metric, handle in db.execute("SELECT rowid, run, metric, experiment FROM predictions").fetchall():
        name, _, where = metric.removesuffix("]").partition("[")
        new = _found(of.get((run, handle), []), name, where) or _without_place(name, where)
        db.execute("UPDATE predictions SET metric = ? WHERE rowid = ?", [new, rowid])


def _found(candidates: list[_Renamed], name: str, where: str) -> str | None:
    """The new key of the one measurement that old words meant."""
    mine = [c for c in candidates if c.name == name]
    exact = [c for c in mine if c.old == f"{name}[{where}]"]
    wanted = [w.strip() for w in where.split(",") if w.strip()]
    fitting = exact or [c for c in mine if all(_fits(c.where, w) for w in wanted)]
    return fitting[0].new if len(fitting) == 1 else None


def _fits(where: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return where[name.strip()] == value.strip() if equals and name.strip() in where else wanted in where.values()


def _without_place(name: str, where: str) -> str:
    """A metric about nothing that was measured: what it says besides a place."""
    kept = {
        k: v for k, _, v in (w.partition("=") for w in where.split(", ")) if v and k in ("task", "split", "program")
    }
    return f"{name}[{join_coordinates(kept)}]" if kept else name
