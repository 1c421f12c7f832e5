"""Tables as people keep them: CSV, JSONL or Parquet by suffix, every cell as text, empty cells as None."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionkit.core.errors import DataError, located

Cells = dict[str, str | None]


@dataclass(frozen=True)
class Table:
    """A table in memory; every row has every column. Rows are numbered from 1 in errors, the header not counted."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Cells, ...]


def read_table(path: Path | str) -> Table:
    """Read a table.

    Raises:
        DataError: the file is missing, a folder, of another kind, not UTF-8, ragged or empty; file and row are named.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: a table must be a file, but this is a folder")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: a table must end in one of {sorted(READERS)}, but got {path.suffix!r}")
    with located(str(path)):
        try:
            columns, rows = reader(path)
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}") from None
        if not rows:
            raise DataError("a table must have rows below its columns, but it is empty")
        return Table(path, tuple(columns), tuple(rows))


def _read_csv(path: Path) -> tuple[list[str], list[Cells]]:
    text = _decoded(path)
    header = text.split("\n", 1)[0]
    delimiter = "," if "," in header else next((mark for mark in ";\t" if mark in header), ",")
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Cells] = []
    columns: list[str] | None = None
    for cells in _parsed(lines):
        if not cells:
            continue  # an empty line
        if columns is None:
            columns = _named(cells)
            continue
        if len(cells) != len(columns):
            raise DataError(
                f"row {len(rows) + 1} (line {lines.line_num}): must have {len(columns)} cells as the header has, "
                f"but has {len(cells)}"
            )
        rows.append({name: _text(cell, len(rows) + 1, name) for name, cell in zip(columns, cells, strict=True)})
    return columns or [], rows


def _parsed(lines: Any) -> Iterator[list[str]]:
    try:
        yield from lines
    except csv.Error as error:
        raise DataError(f"line {lines.line_num}: must be CSV, but {error}") from None


def _read_jsonl(path: Path) -> tuple[list[str], list[Cells]]:
    found: list[dict[str, Any]] = []
    for number, line in enumerate(_decoded(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_int=str, parse_float=str, parse_constant=lambda _: None)
        except (ValueError, RecursionError) as error:
            raise DataError(f"row {len(found) + 1} (line {number}): must be JSON, but {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"row {len(found) + 1} (line {number}): must be a JSON object, but got {line[:40]!r}")
        found.append(row)
    columns = _named(list(dict.fromkeys(name for row in found for name in row))) if found else []
    rows = [{name: _text(row.get(name), number, name) for name in columns} for number, row in enumerate(found, start=1)]
    return columns, rows


def _read_parquet(path: Path) -> tuple[list[str], list[Cells]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
        columns = _named(table.column_names)
        for index, kind in enumerate(table.schema.types):
            if pyarrow.types.is_float16(kind) or pyarrow.types.is_float32(kind):  # 0.1, not 0.10000000149
                shortest = [None if math.isnan(x) else str(x) for x in table.column(index).to_numpy()]
                table = table.set_column(index, columns[index], pyarrow.array(shortest, pyarrow.string()))
        found = [column.to_pylist() for column in table.columns]
    except pyarrow.ArrowException as error:
        raise DataError(f"must be Parquet, but {str(error).splitlines()[0]}") from None
    rows: list[Cells] = [
        {name: _text(cell, number, name) for name, cell in zip(columns, cells, strict=True)}
        for number, cells in enumerate(zip(*found, strict=True), start=1)
    ]
    return columns, rows


READERS: dict[str, Callable[[Path], tuple[list[str], list[Cells]]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".parquet": _read_parquet,
    ".pq": _read_parquet,
}


def as_text(value: object) -> str | None:
    """One cell as text: numbers in their shortest form, NaN and blanks as None.

    ``27.50`` read as a number gives ``"27.5"``; True gives ``"true"``.

    Raises:
        DataError: the value is no single one, or text that files cannot hold.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict | tuple | bytes):
        raise DataError(f"a cell must hold one value, but got {str(value)[:40]}")
    text = str(value)
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise DataError(f"a cell must be text without NUL and lone surrogates, but got {text[:40]!r}")
    return text if text.strip() else None


def _text(value: object, row: int, column: str) -> str | None:
    with located(f"row {row}, column {column}"):
        return as_text(value)


def _named(columns: list[str]) -> list[str]:
    seen: set[str] = set()
    for position, name in enumerate(columns, start=1):
        if not name.strip():
            raise DataError(f"every column must have a name, but column {position} has none")
        if name in seen:
            raise DataError(f"every column must have a name of its own, but there are two named {name!r}")
        seen.add(name)
    return columns


def _decoded(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"line {line}: must be UTF-8 text, but byte {error.start} is 0x{raw[error.start]:02x}"
        ) from None
