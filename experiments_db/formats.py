"""The two forms of an exported run: a file of JSON lines, and a folder with one Parquet file per table."""

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

FORMAT = "locus-run"
FORMATS = ("jsonl", "parquet")

Header = Mapping[str, Any]
Content = Iterable[tuple[str, Mapping[str, str], Iterable[Sequence[Any]]]]  # table, declared type by column, rows
Found = Iterator[tuple[str, Any, dict[str, Any]]]  # where in the file, table, value by column


class ExchangeError(ValueError):
    """A run cannot be written to a file or read from one; one line says why."""


def write(form: str, path: Path, header: Header, content: Content) -> None:
    """Write a run's rows; ValueError or TypeError for a value that has no place in the form."""
    (_write_jsonl if form == "jsonl" else _write_parquet)(path, header, content)


def read(path: Path) -> tuple[Header, Found]:
    """The header and the rows of what `write` made, as they stand there. ExchangeError says where reading fails."""
    return _read_parquet(path) if path.is_dir() else _read_jsonl(path)


def remove(path: Path) -> None:
    """Delete an export. A folder goes only if it holds Parquet files and nothing else."""
    if path.is_dir() and not path.is_symlink():
        for file in path.glob("*.parquet"):
            file.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def check_replaceable(path: Path, form: str) -> None:
    """ExchangeError unless a path holds an earlier export in the same form, or nothing."""
    if not os.path.lexists(path):
        return
    try:
        sound = path.is_dir() == (form == "parquet") and read(path)[0].get("format") == FORMAT
        sound = sound and (not path.is_dir() or all(p.suffix == ".parquet" for p in path.iterdir()))
    except (ExchangeError, OSError):
        sound = False
    if not sound:
        raise ExchangeError(f"{path} is no earlier export in this form, so it is not replaced: name another")


def _write_jsonl(path: Path, header: Header, content: Content) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(_line(header))
        for table, kinds, rows in content:
            blobs = [i for i, kind in enumerate(kinds.values()) if kind == "BLOB"]
            for row in rows:
                values = list(row)
                for i in blobs:
                    values[i] = base64.b64encode(values[i]).decode()
                file.write(_line({"table": table, **dict(zip(kinds, values, strict=True))}))


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def _read_jsonl(path: Path) -> tuple[Header, Found]:
    lines = _json_lines(path)
    _, header = next(lines, ("", {}))
    return header, ((where, row.pop("table", None), row) for where, row in lines)


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name} line {number}"
            try:
                value = json.loads(line.decode("utf-8"), parse_constant=_refuse)
            except (ValueError, RecursionError) as error:
                raise ExchangeError(f"{where} is no JSON: {error}") from None
            if not isinstance(value, dict):
                raise ExchangeError(f"{where} is no JSON object")
            yield where, value


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ExchangeError("Parquet files need pyarrow: pip install 'locus-agent[parquet]'") from None
    return pa, pq


def _write_parquet(path: Path, header: Header, content: Content) -> None:
    _arrow()
    path.mkdir()
    for table, kinds, rows in content:
        write_table(path / f"{table}.parquet", header, kinds, rows)


def write_table(path: Path, header: Header, kinds: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
    """Write the rows of one table as a Parquet file; ValueError or TypeError for a value that has no place in it."""
    pa, pq = _arrow()
    types = {"TEXT": pa.large_string(), "INTEGER": pa.int64(), "REAL": pa.float64(), "BLOB": pa.large_binary()}
    fields = [pa.field(c, types[kind]) for c, kind in kinds.items()]
    schema = pa.schema(fields, metadata={FORMAT: _line(header)})
    left = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while some := list(islice(left, _rows_at_once(kinds))):
            columns = zip(*some, strict=True)
            arrays = [pa.array(list(c), f.type) for c, f in zip(columns, fields, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def read_parquet_row(path: Path, wanted: Sequence[str]) -> tuple[Header, list[dict[str, Any]]]:
    """The header of one file of an export, and its first two rows; ExchangeError where it has not the wanted columns."""
    pa, pq = _arrow()
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, wanted, file.schema_arrow.names)
            header = json.loads((file.schema_arrow.metadata or {}).get(FORMAT.encode(), b"{}"), parse_constant=_refuse)
            found = next(file.iter_batches(2, columns=list(wanted)), None)
            return header if isinstance(header, dict) else {}, [] if found is None else found.to_pylist()
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        if isinstance(error, ExchangeError):
            raise
        raise ExchangeError(f"{path} cannot be read: {error}") from None


def check_columns(path: Path, wanted: Sequence[str]) -> None:
    """ExchangeError unless a Parquet file has these columns."""
    pa, pq = _arrow()
    try:
        _check_columns(path, wanted, pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise ExchangeError(f"{path} cannot be read: {error}") from None


def _check_columns(path: Path, wanted: Sequence[str], names: Sequence[str]) -> None:
    if absent := [c for c in wanted if c not in names]:
        raise ExchangeError(f"{path} has no column {', '.join(absent)}: import the run and export it again")


def _rows_at_once(kinds: Mapping[str, str]) -> int:
    return 8 if "BLOB" in kinds.values() else 10_000  # an array may be large


def _read_parquet(path: Path) -> tuple[Header, Found]:
    pa, pq = _arrow()
    files = sorted(path.glob("*.parquet"))
    headers: set[str] = set()
    for file in files:
        try:
            headers.add((pq.read_schema(file).metadata or {}).get(FORMAT.encode(), b"{}").decode())
        except (pa.ArrowException, OSError, ValueError) as error:
            raise ExchangeError(f"{file.name} cannot be read: {error}") from None
    if len(headers) > 1:
        raise ExchangeError(f"the files in {path} are of different exports")
    try:
        header = json.loads(headers.pop() if headers else "{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"{path} has no header: {error}") from None
    return header if isinstance(header, dict) else {}, _parquet_rows(files)


def _parquet_rows(files: Sequence[Path]) -> Found:
    pa, pq = _arrow()
    for file in files:
        number = 0
        try:
            with pq.ParquetFile(file) as parquet:
                kinds = {f.name: "BLOB" if pa.types.is_large_binary(f.type) else "" for f in parquet.schema_arrow}
                for batch in parquet.iter_batches(_rows_at_once(kinds)):
                    for row in batch.to_pylist():
                        number += 1
                        yield f"{file.name} row {number}", file.stem, row
        except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
            raise ExchangeError(f"{file.name} cannot be read: {error}") from None
