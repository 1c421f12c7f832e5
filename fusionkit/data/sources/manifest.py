"""A table with a row per record: names, labels, and per sensor the path of a file or the value itself."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field

from fusionkit.core.errors import DataError
from fusionkit.core.registry import sources
from fusionkit.data.sources.source import Cell, FileCell, Role, Row, SensorColumn, Source, TextCell, gather_rows, hashed
from fusionkit.data.table import Table, read_table


@sources.register("manifest")
class Manifest(Source):
    """Read a table of files: CSV, JSONL or Parquet by its suffix.

    Every row is a record. A sensor's column holds a path relative to the table's folder (never followed outside of
    it, not by ``..`` and not by links), or, for text, the sentence itself; an empty cell is a missing sensor. Columns
    ``<column>_start`` and ``<column>_stop`` give seconds where a record is a stretch of a longer recording. Every
    other column may be a label.

    Args:
        path: the table.
        columns: which columns are ``id``, ``subject``, ``session``, ``trial`` and ``recording``; by default those of
            that very name. Without an id rows are numbered; without a subject every record is its own.

    Raises:
        DataError: the table breaks a rule; the message names file, row and column.

    Example:
        ``data: {kind: manifest, path: lab/manifest.csv, columns: {subject: participant}}``
    """

    def __init__(
        self,
        *,
        path: Annotated[Path, Field(description="the table: .csv, .tsv, .jsonl or .parquet")],
        columns: Annotated[
            dict[Role, str] | None, Field(description="which columns are id, subject, session, trial, recording")
        ] = None,
    ) -> None:
        self.path = Path(path)
        self.roles: Mapping[Role, str] = dict(columns or {})
        self._paths: dict[str, Path] = {}

    @cached_property
    def table(self) -> Table:
        """The table as it stands."""
        return read_table(self.path)

    @cached_property
    def _rows(self) -> list[Row]:
        return gather_rows(self.table.rows, self.table.columns, self.roles, self.path.name)

    @cached_property
    def _folder(self) -> Path:
        return self.path.parent.resolve()

    def columns(self) -> list[str]:
        """Names of the table's columns."""
        return list(self.table.columns)

    def rows(self) -> list[Row]:
        """Every record in the order of the table."""
        return self._rows

    @property
    def title(self) -> str:
        """Name of the file."""
        return self.path.name

    def cell(self, row: int, sensor: SensorColumn) -> Cell | None:
        """The file, or the text, of one sensor of one record; None where the cell is empty."""
        record = self._rows[row]
        if sensor.column not in record.labels:
            self.check_columns({f"{sensor.name}.column": sensor.column})
        text = record.labels[sensor.column]
        if text is None:
            return None
        start, stop = self.seconds(record, sensor)
        where = f"{self.where(row)}, column {sensor.column}"
        if sensor.modality.in_cells:
            return TextCell(key=f"row {row + 1}", where=where, name=f"row {row + 1}", start=start, stop=stop, text=text)
        path = self._file(text)
        name = path.relative_to(self._folder).as_posix()
        return FileCell(key=name, where=where, name=name, start=start, stop=stop, path=path)

    def fingerprint(self) -> str:
        """Hash of the table's bytes, its place and the options."""
        self.table  # noqa: B018 - says what is wrong with the file
        content = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return hashed(self.kind, str(self.path.resolve()), content, self.roles)

    def _file(self, text: str) -> Path:
        """The real file behind a cell, looked up once."""
        if text not in self._paths:
            self._paths[text] = self._found(text)
        return self._paths[text]

    def _found(self, text: str) -> Path:
        try:
            path = (self._folder / text).resolve()
            inside = not Path(text).is_absolute() and path.is_relative_to(self._folder)
            folder, file = inside and path.is_dir(), inside and path.is_file()
        except (OSError, RuntimeError) as error:  # a name too long, a loop of links
            reason = error.strerror if isinstance(error, OSError) else error
            raise DataError(f"must be the path of a file, but got {text[:80]!r} ({reason})") from None
        if not inside:
            raise DataError(f"a path must stay inside the table's folder, but got {text!r}")
        if not file:
            raise DataError(f"must be a file, but {text!r} is a folder" if folder else f"no such file: {text!r}")
        return path
