"""Samples written as a table: CSV, TSV and NumPy files."""

import csv
import warnings
from pathlib import Path

import numpy as np

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array

SUFFIXES = frozenset({".csv", ".tsv", ".npy"})
MAGIC = b"\x93NUMPY"


def read_table(path: Path) -> tuple[Array, tuple[str, ...]]:
    """Read ``(time, channel)`` float32 and the names in the first row, if it holds names.

    An array of one axis is one row. Pickled arrays are refused.

    Raises:
        DataError: the file is missing, empty or damaged, or a cell is no number; the message names it.
    """
    if not path.is_file():
        raise DataError(f"{path}: there must be a file here, but there is none")
    values, names = _read_npy(path) if path.suffix.lower() == ".npy" else _read_text(path)
    if values.size == 0:
        raise DataError(f"{path}: a table must hold samples, but it is empty")
    if values.ndim > 2:
        raise DataError(f"{path}: a table must be (time, channel), but its shape is {values.shape}")
    return np.atleast_2d(values), names


def _read_npy(path: Path) -> tuple[Array, tuple[str, ...]]:
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:  # NumPy would take it for a pickle, and tell how to trust it
                raise ValueError("it does not begin as one")
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: must be a NumPy array of numbers, but {' '.join(str(error).split())}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise DataError(f"{path}: must be an array of real numbers, but holds {getattr(values, 'dtype', 'several')}")
    return values.astype(np.float32), ()


def _read_text(path: Path) -> tuple[Array, tuple[str, ...]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next(csv.reader(file, delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: must be a table in UTF-8, but {error}") from error
    if not first:
        raise DataError(f"{path}: a table must hold samples, but it is empty")
    named = not all(_is_number(cell) for cell in first)
    names = tuple(cell.strip() for cell in first) if named else ()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a table without rows, which our caller refuses
            lines = (line for number, line in enumerate(file) if line.strip() and not (named and number == 0))
            values = np.loadtxt(lines, delimiter=delimiter, ndmin=2, dtype=np.float64, comments=None, quotechar='"')
            if values.size and values.shape[1] != len(first):
                raise ValueError(f"a row must have {len(first)} cells, but got {values.shape[1]}")
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(_culprit(path, delimiter, len(first), names) or f"{path}: {error}") from error
    return values.astype(np.float32), names


def _culprit(path: Path, delimiter: str, width: int, names: tuple[str, ...]) -> str | None:
    """Find the first cell that is no number, or the first row of another width, and say where it is."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for row, cells in enumerate(csv.reader(file, delimiter=delimiter), start=1):
            if not cells or (names and row == 1):
                continue
            if len(cells) != width:
                return f"{path} row {row}: a row must have {width} cells, but got {len(cells)}"
            for column, cell in enumerate(cells):
                if not _is_number(cell):
                    name = names[column] if names else str(column + 1)
                    return f"{path} row {row}, column {name}: a sample must be a number, but got {cell!r}"
    return None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
