"""SQL over many databases and exported runs together, read only: `python -m experiments_db query`.

DuckDB reads Parquet, so a run of a SQLite database is first written to a temporary folder in the form of an export, and of
it only the tables that the query needs. The SQL is one SELECT; it reaches the files of the named sources and no others.
"""

import json
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments_db import query_views
from experiments_db.exchange import check_header
from experiments_db.formats import check_columns, read_parquet_row, write_table
from experiments_db.run_tables import Table, rows, tables
from experiments_db.store import Store

MEMORY_LIMIT = "2GB"  # what DuckDB may hold; beyond it sorts and joins use the temporary folder
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "query_table"})
_GLOB = frozenset("*?[")
_TYPES = {"TEXT": "VARCHAR", "INTEGER": "BIGINT", "REAL": "DOUBLE", "BLOB": "BLOB"}


class QueryError(ValueError):
    """A source or a query that cannot be used; one line says why and what would be."""


@dataclass(frozen=True)
class Part:
    """One run of one source. `file` makes sure that its rows of a table are in a Parquet file, and returns that."""

    source: str
    run: str
    row: Mapping[str, Any]
    file: Callable[[str], Path | None]


@dataclass(frozen=True)
class Answer:
    """The columns of an answer, its rows, read as they are asked for, and what the reader has to know beside it."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]
    notes: tuple[str, ...]


@contextmanager
def answered(sql: str, sources: Sequence[Path], memory_limit: str = MEMORY_LIMIT) -> Generator[Answer]:
    """The answer to one SELECT over the tables and views of all sources.

    sources: databases, folders that hold one exported run as Parquet, and folders of such folders. A run that is in several
    counts once. QueryError, StoreError or ExchangeError in one line.
    """
    duckdb = _duckdb()
    with tempfile.TemporaryDirectory(prefix="locus-") as folder, _Opened(Path(folder)) as opened:
        schema = {t.name: t for t in tables(opened.store(Path(folder) / "empty.db", create=True))}
        parts, notes = _once(part for source in sources for part in _parts(source, schema, opened))
        try:
            needed = _needed(sql, schema)
            db = _connected({**_limits(memory_limit), "temp_directory": str(Path(folder) / "spilled")})
            files = {name: {str(f): p for p in parts if (f := p.file(name))} for name in needed}
            _define(db, schema, files)
            cursor = db.execute(sql)
            columns = tuple(str(d[0]) for d in cursor.description or ())
            yield Answer(columns, _fetched(cursor), tuple(notes))
        except duckdb.Error as error:
            raise QueryError(_told(str(error))) from None


def _duckdb() -> Any:
    try:
        import duckdb
        import pyarrow as _  # noqa: F401 (the databases pass through it)
    except ImportError:
        raise QueryError("queries need DuckDB and pyarrow: pip install 'locus-agent[query]'") from None
    return duckdb


def _limits(memory_limit: str) -> dict[str, str]:
    return {
        "memory_limit": memory_limit, "autoinstall_known_extensions": "false", "autoload_known_extensions": "false",
        "allow_community_extensions": "false", "python_enable_replacements": "false",
    }  # fmt: skip


def _connected(config: Mapping[str, str]) -> Any:
    db = _duckdb().connect(":memory:", config=dict(config))
    db.execute("SET enable_progress_bar = false")  # it would be drawn into the answer
    return db


def _fetched(cursor: Any) -> Iterator[tuple[Any, ...]]:
    while some := cursor.fetchmany(1000):
        yield from some


def _told(error: str) -> str:
    """DuckDB's message in one line, without the query that it quotes below."""
    return " ".join(error.split("\n\nLINE ")[0].split())


# -- which runs -------------------------------------------------------------------------------------------------------


class _Opened:
    """Databases that are closed in the end, and the folder for what is written of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stores = folder, list[Store]()

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *_: object) -> None:
        for store in self.stores:
            store.db.close()

    def store(self, path: Path, *, create: bool = False) -> Store:
        self.stores.append(Store(path, create=create, read_only=not create))
        return self.stores[-1]


def _parts(source: Path, schema: Mapping[str, Table], opened: _Opened) -> Iterator[Part]:
    if source.is_file():
        yield from _of_database(source, opened)
        return
    if not source.exists():
        raise QueryError(
            f"there is no {source}: a source is a database, a folder of Parquet files, or a folder of those"
        )
    folders = [source] if any(source.glob("*.parquet")) else sorted({f.parent for f in source.glob("*/*.parquet")})
    if not folders:
        raise QueryError(f"{source} holds no exported run: experiments_db export RUN --format parquet writes one")
    for folder in folders:
        yield _of_export(source, folder, schema)


def _of_database(source: Path, opened: _Opened) -> Iterator[Part]:
    store = opened.store(source)
    store.db.execute("BEGIN")  # one state of it for all tables, whatever a run writes meanwhile
    every = {t.name: t for t in tables(store)}
    number = len(opened.stores)
    made: dict[tuple[str, str], Path] = {}

    def file(run: str, name: str) -> Path | None:
        path = opened.folder / f"{number}-{len(made)}-{name}.parquet"
        if (run, name) not in made:
            write_table(path, {}, every[name].kinds, rows(store, every[name], run))
            made[run, name] = path
        return made[run, name]

    for row in store.rows("SELECT * FROM runs ORDER BY created, rowid"):
        yield Part(str(source), row["name"], row, lambda name, run=row["name"]: file(run, name))


def _of_export(source: Path, folder: Path, schema: Mapping[str, Table]) -> Part:
    if set(str(folder)) & _GLOB:
        raise QueryError(f"{folder} cannot be queried: its name has one of the characters * ? [")
    header, found = read_parquet_row(folder / "runs.parquet", list(schema["runs"].columns))
    run, counts = check_header(folder, header, schema)
    if len(found) != 1:
        raise QueryError(f"{folder} is not whole: it should have one row in runs.parquet")

    def file(name: str) -> Path | None:
        path = folder / f"{name}.parquet"
        if not path.is_file():
            if counts.get(name):
                raise QueryError(f"{folder} is not whole: {path.name} is missing")
            return None
        check_columns(path, list(schema[name].columns))
        return path

    return Part(str(source), run, found[0], file)


def _once(parts: Iterable[Part]) -> tuple[list[Part], list[str]]:
    """Each run once, from the source named first; QueryError where two different runs have one name."""
    kept: dict[str, Part] = {}
    left_out: dict[tuple[str, str], int] = {}
    for part in parts:
        first = kept.setdefault(part.run, part)
        if first is part:
            continue
        if any(first.row[c] != part.row[c] for c in ("goal", "subject", "planner", "settings", "created")):
            raise QueryError(
                f"{first.source} and {part.source} have different runs {part.run}: query them one at a time"
            )
        pair = (part.source, first.source)
        left_out[pair] = left_out.get(pair, 0) + 1
    return list(kept.values()), [
        f"{n} run{'s' * (n > 1)} of {later} left out: the same in {first}" for (later, first), n in left_out.items()
    ]


# -- what the query is, and what it may touch -------------------------------------------------------------------------


def _needed(sql: str, schema: Mapping[str, Table]) -> list[str]:
    """The tables that a query reads, through views too. QueryError unless it is one SELECT that calls nothing unknown."""
    with _connected(_limits(MEMORY_LIMIT)) as db:
        _define(db, schema, {})
        said = json.loads(db.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()[0])
        if said["error"]:
            if said["error_type"] == "not implemented":
                raise QueryError("a query is one SELECT; nothing is written, attached, set or loaded")
            raise QueryError(f"this is no SQL: {said['error_message']}")
        if len(said["statements"]) != 1:
            raise QueryError(f"a query is one SELECT, not {len(said['statements'])} statements")
        if unknown := sorted(set(_table_functions(said)) - TABLE_FUNCTIONS):
            known = ", ".join(sorted(TABLE_FUNCTIONS))
            raise QueryError(f"{unknown[0]} is not for queries: what stands in FROM is a table, a view, or {known}")
        found = {str(name).rsplit(".", 1)[-1].strip('"') for name in db.get_table_names(sql)}
    return [name for name in schema if name in found]


def _table_functions(node: Any) -> Iterator[str]:
    match node:
        case {"type": "TABLE_FUNCTION", "function": {"function_name": str(name)}}:
            yield name.lower()
        case _:
            pass
    values: Iterable[Any] = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for value in values:
        yield from _table_functions(value)


def _define(db: Any, schema: Mapping[str, Table], files: Mapping[str, Mapping[str, Part]]) -> None:
    """Make tables and views, and shut the door: from here on these files are all that SQL can open."""
    for name, table in schema.items():
        kinds = {c: _TYPES[k] for c, k in table.kinds.items() if c != "run"}
        shown = ", ".join(f't."{c}"::{k} AS "{c}"' for c, k in kinds.items())
        beside = "p.source" if name == "runs" else "p.source, p.run"  # a run's own row has it as its name
        found = files.get(name, {})
        if not found:
            declared = ", ".join(f'"{c}" {k}' for c, k in kinds.items())
            db.execute(f'CREATE TABLE "{name}" (source VARCHAR{", run VARCHAR" * (name != "runs")}, {declared})')
            continue
        db.execute(f'CREATE TABLE "parts_{name}" (file VARCHAR, source VARCHAR, run VARCHAR)')
        db.executemany(f'INSERT INTO "parts_{name}" VALUES (?, ?, ?)', [(f, p.source, p.run) for f, p in found.items()])
        listed = ", ".join("'" + f.replace("'", "''") + "'" for f in found)
        db.execute(
            f'CREATE VIEW "{name}" AS SELECT {beside}, {shown} '
            f'FROM read_parquet([{listed}], filename = true) t JOIN "parts_{name}" p ON p.file = t.filename'
        )
    for statement in query_views.VIEWS:
        db.execute(statement)
    allowed = [f for of in files.values() for f in of]
    db.execute("SET allowed_paths = ?", [allowed]) if allowed else None
    db.execute("SET enable_external_access = false")
    db.execute("SET lock_configuration = true")
