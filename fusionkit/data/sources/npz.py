"""A NumPy archive: one array per column, its first axis the records."""

import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from fusionkit.core.errors import DataError, did_you_mean, located
from fusionkit.core.recording import Array
from fusionkit.core.registry import sources
from fusionkit.data.sources.source import (
    ArrayCell,
    Cell,
    Role,
    Row,
    SensorColumn,
    Source,
    TextCell,
    gather_rows,
    hashed,
)
from fusionkit.data.table import as_text

READABLE = "biufUS"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@sources.register("npz")
class Npz(Source):
    """Read arrays of one ``.npz`` file: row ``i`` of every array is record ``i``.

    An array of one axis is a label column (and a sensor's, where sentences or numbers are the signal); one of more
    axes is a sensor's column, each row in the layout of a window. Where ``<column>_present`` is there and 0, the
    record lacks the sensor. Nothing is unpickled: arrays of objects are refused.

    Args:
        path: the archive.
        parts: endings of arrays that are the parts of one column: ``[train, test]`` joins ``y_train`` and ``y_test``
            into ``y``, and says in the column ``part`` which one a record came from.
        columns: which columns are ``id``, ``subject``, ``session``, ``trial`` and ``recording``.
        rates: sampling rate of each column that has one, in hertz, or the name of an array that holds it.

    Raises:
        DataError: the archive is damaged or its arrays do not fit together; the message names file and array.

    Example:
        ``data: {kind: npz, path: avmnist.npz, parts: [train, test], rates: {audio: fs}, columns: {subject: speaker}}``
    """

    def __init__(
        self,
        *,
        path: Annotated[Path, Field(description="the .npz file")],
        parts: Annotated[list[str] | None, Field(description="endings of arrays that are joined, in order")] = None,
        columns: Annotated[
            dict[Role, str] | None, Field(description="which columns are id, subject, session, trial, recording")
        ] = None,
        rates: Annotated[
            dict[str, float | str] | None, Field(description="hertz of a column, or the array that holds it")
        ] = None,
    ) -> None:
        self.path = Path(path)
        self.parts = list(parts or [])
        self.roles: Mapping[Role, str] = dict(columns or {})
        self.rates = dict(rates or {})
        self._loaded: dict[str, Array] = {}
        self._hertz: dict[str, float | None] = {}

    @cached_property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and type of every array of the file, from their headers alone."""
        if not self.path.is_file():
            raise DataError(
                f"{self.path}: {'must be a file, but is a folder' if self.path.is_dir() else 'no such file'}"
            )
        try:
            return read_headers(self.path)
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataError(f"{self.path}: must be a NumPy archive, but {error}") from None

    @cached_property
    def _members(self) -> dict[str, list[str]]:
        """Columns and the arrays they are made of."""
        if not self.parts:
            members = {name: [name] for name in self.shapes if self._readable(name)}
        else:
            ending = f"_{self.parts[0]}"
            stems = [name.removesuffix(ending) for name in self.shapes if name.endswith(ending)]
            members = {stem: [f"{stem}_{part}" for part in self.parts] for stem in stems}
            members = {stem: names for stem, names in members.items() if all(map(self._readable, names))}
        lengths = {column: tuple(self.shapes[name][0][0] for name in names) for column, names in members.items()}
        if not lengths:
            which = f" named <column>_{self.parts[0]} and so on" if self.parts else ""
            raise DataError(f"{self.path}: must hold arrays of records{which}, but has {sorted(self.shapes)}")
        common = Counter(lengths.values()).most_common(1)[0][0]
        return {column: names for column, names in members.items() if lengths[column] == common}

    @cached_property
    def _rows(self) -> list[Row]:
        self.check_columns({f"rates.{column}": column for column in self.rates})
        for column in self.rates:
            self._rate(column)
        texts: dict[str, list[str | None]] = {}
        for column, names in self._members.items():
            if len(self.shapes[names[0]][0]) == 1:
                with located(f"{self.path}: array {column}"):
                    texts[column] = [as_text(value) for value in _plain(self.array(column))]
        if self.parts:
            counts = [self.shapes[name][0][0] for name in next(iter(self._members.values()))]
            texts["part"] = [part for part, count in zip(self.parts, counts, strict=True) for _ in range(count)]
        table = [{column: cells[row] for column, cells in texts.items()} for row in range(self._count)]
        if not table:
            raise DataError(f"{self.path}: must hold records, but its arrays are empty")
        return gather_rows(table, list(texts), self.roles, self.path.name)

    @property
    def _count(self) -> int:
        return sum(self.shapes[name][0][0] for name in next(iter(self._members.values())))

    def _readable(self, name: str) -> bool:
        shape, dtype = self.shapes.get(name, ((), np.dtype("O")))
        return bool(shape) and dtype.kind in READABLE

    def columns(self) -> list[str]:
        """Every column, and ``part`` where there are parts."""
        return [*self._members, *(["part"] if self.parts else [])]

    def rows(self) -> list[Row]:
        """Every record, part by part."""
        return self._rows

    @property
    def title(self) -> str:
        """Name of the file."""
        return self.path.name

    def array(self, column: str) -> Array:
        """One column's array, its parts joined; kept once it was loaded.

        Raises:
            DataError: there is no such column, it holds objects, or its parts do not fit together.
        """
        if column not in self._loaded:
            if column not in self._members:
                raise DataError(self._refusal(column))
            arrays = [self._read(name) for name in self._members[column]]
            shapes = {array.shape[1:] for array in arrays}
            if len(shapes) > 1:
                raise DataError(
                    f"{self.path}: parts of {column} must have one shape per record, but got {sorted(shapes)}"
                )
            self._loaded[column] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return self._loaded[column]

    def cell(self, row: int, sensor: SensorColumn) -> Cell | None:
        """Row ``row`` of the sensor's array; None where it is a sentence and empty."""
        values = self.array(sensor.column)
        start, stop = self.seconds(self._rows[row], sensor)
        key = f"row {row + 1}"
        where = f"{self.where(row)}, column {sensor.column}"
        if self._rows[row].labels.get(f"{sensor.column}_present") in ("0", "0.0", "false"):
            return None
        if values.dtype.kind in "US":
            if values.ndim > 1:
                raise DataError(f"text must be one sentence per record, but the array has the shape {values.shape}")
            text = self._rows[row].labels[sensor.column]
            if text is None:
                return None
            return TextCell(key=key, where=where, name=key, start=start, stop=stop, text=text)
        if sensor.column not in self._hertz:
            self._hertz[sensor.column] = self._rate(sensor.column)
        rate = self._hertz[sensor.column]
        value = np.atleast_1d(values[row])
        return ArrayCell(key=key, where=where, name=key, start=start, stop=stop, values=value, sample_rate=rate)

    def fingerprint(self) -> str:
        """Hash of the file's place, size, checksums and the options."""
        with zipfile.ZipFile(self.path) as archive:
            members = [(member.filename, member.CRC, member.file_size) for member in archive.infolist()]
        return hashed(self.kind, str(self.path.resolve()), members, self.parts, self.roles, self.rates)

    def _rate(self, column: str) -> float | None:
        rate = self.rates.get(column)
        if isinstance(rate, str):
            array = self._read(rate) if rate in self.shapes else None
            if array is None or array.size != 1 or array.dtype.kind not in "fiu":
                near = did_you_mean(rate, self.shapes)
                raise DataError(
                    f"{self.path}: rates.{column}: must be hertz or the name of one number, but got {rate!r}{near}"
                )
            rate = float(array.reshape(-1)[0])
        if rate is not None and not 0 < rate < np.inf:
            raise DataError(f"{self.path}: rates.{column}: must be above 0, but got {rate:g}")
        return rate

    def _read(self, name: str) -> Array:
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                array: Array = archive[name]
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataError(f"{self.path}: array {name}: cannot be read: {error}") from None
        return array

    def check_columns(self, asked: Mapping[str, str | None]) -> None:
        """Refuse what is no column, saying for every array why it is none."""
        known = self.columns()
        lines = [
            f"{use}: {self._refusal(name)}" for use, name in asked.items() if name is not None and name not in known
        ]
        if lines:
            raise DataError("\n".join(lines))

    def _refusal(self, column: str) -> str:
        """Why something that is asked for is no column."""
        names = [f"{column}_{part}" for part in self.parts] or [column]
        there = [name for name in names if name in self.shapes]
        for name in there:
            shape, dtype = self.shapes[name]
            if dtype.hasobject:
                return f"{self.path}: array {name} holds objects, which are never unpickled; save it as numbers or text"
            if not self._readable(name):
                return f"{self.path}: array {name} must hold a number or a text per record, but is {dtype} of shape {shape}"
        if not there:
            known = self.columns()
            return f"{self.path}: no column named {column!r}{did_you_mean(column, known)}; known: {sorted(known)}"
        if len(there) < len(names):
            return f"{self.path}: column {column} must be in every part, but there is only {', '.join(there)}"
        lengths = " + ".join(str(self.shapes[name][0][0]) for name in names)
        return f"{self.path}: array {column} must have {self._count} rows as most others have, but has {lengths}"


def read_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of every array of a NumPy archive; no array is read."""
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith(".npy"):
                continue
            with archive.open(name) as member:
                version = np.lib.format.read_magic(member)
                if version not in HEADERS:
                    raise ValueError(f"array {name} is written in version {version} of the format")
                shape, _, dtype = HEADERS[version](member)
            headers[name.removesuffix(".npy")] = (shape, dtype)
    return headers


def _plain(array: Array) -> list[Any]:
    """Values in their shortest form: the float32 0.1 is ``0.1``."""
    if array.dtype.kind == "f":
        return [None if np.isnan(value) else str(value) for value in array]
    if array.dtype.kind == "S":
        return [value.decode(errors="replace") for value in array.tolist()]
    return list(array.tolist())
