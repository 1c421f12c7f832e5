"""Unpack a zip file that nobody trusts: into memory, never to a folder, within limits that are known before."""

import re
import zipfile
from pathlib import Path
from typing import BinaryIO

from fusionkit.runtime.errors import BundleError

LIMIT_BYTES = 2 * 1024**3
LIMIT_FILES = 10_000
LIMIT_RATIO = 100
"""What a file may be larger than its packed bytes, beyond a megabyte that it may always be: weights pack next to not."""
FREE_BYTES = 2**20
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}(/[A-Za-z0-9_.-]{1,200}){0,9}")


def unpack(source: Path | BinaryIO, where: str, size: int) -> dict[str, bytes]:
    """Every file of an archive by name.

    Args:
        source: the archive.
        where: for messages.
        size: of the archive in bytes.

    Raises:
        BundleError: no zip file; a name that is no plain path below it, or is there twice; a compression that unpacks
            without bound, more bytes than the limits, others than it says; or files that share packed bytes.
    """
    try:
        archive = zipfile.ZipFile(source)
    except OSError as error:
        raise BundleError(f"{where} must be a file that can be read, but {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error
        raise BundleError(f"{where} must be a zip file, but {_line(error)}") from None
    with archive:
        entries = archive.infolist()
        _check(entries, where, size)
        return {entry.filename: _read(archive, entry, where) for entry in entries}


def _check(entries: list[zipfile.ZipInfo], where: str, size: int) -> None:
    """What the directory says, before anything is unpacked."""
    if len(entries) > LIMIT_FILES:
        raise BundleError(f"{where} must hold at most {LIMIT_FILES} files, but holds {len(entries)}")
    names: set[str] = set()
    for entry in entries:
        name = entry.filename
        if not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")):
            raise BundleError(f"{where}: names of files must be plain, but got {name[:60]!r}")
        if name.casefold() in names:
            raise BundleError(f"{where}: names of files must differ, but {name[:60]!r} occurs twice")
        names.add(name.casefold())
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others unbounded
            raise BundleError(f"{where}: {name!r} must be stored or deflated, but is compressed otherwise")
        if entry.file_size > LIMIT_RATIO * entry.compress_size + FREE_BYTES:
            raise BundleError(
                f"{where}: {name!r} must unpack to at most {LIMIT_RATIO} times its size, but says {entry.file_size} bytes"
            )
    if sum(entry.file_size for entry in entries) > LIMIT_BYTES:
        raise BundleError(f"{where} must unpack to at most {LIMIT_BYTES} bytes, but exceeds them")
    if sum(entry.compress_size for entry in entries) > size:
        raise BundleError(f"{where}: files must have packed bytes of their own, but some are shared")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> bytes:
    try:
        with archive.open(entry) as file:
            content = file.read(entry.file_size + 1)
    except Exception as error:  # noqa: BLE001 - zlib.error, BadZipFile, OSError, EOFError: no common root
        raise BundleError(f"{where}: {entry.filename!r} must be readable, but {_line(error)}") from None
    if len(content) != entry.file_size:
        raise BundleError(f"{where}: {entry.filename!r} must have {entry.file_size} bytes, but has others")
    return content


def _line(error: Exception) -> str:
    """A message of a library, in one line that is not long."""
    return " ".join(str(error).split())[:100] or type(error).__name__
