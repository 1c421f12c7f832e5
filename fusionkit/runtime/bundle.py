"""Open a bundle: one zip file with the graph, a manifest and what the sensors learned. Nothing in it is executed."""

import hashlib
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Manifest, read_manifest

LIMIT_BYTES = 2 * 1024**3
_NAME = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds: its manifest, and every other file as bytes by name."""

    path: Path
    manifest: Manifest
    files: dict[str, bytes]


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle whole and check names, sizes and hashes before anything is used.

    Raises:
        BundleError: no zip file, foreign names or sizes, a hash that differs, another format or version.
    """
    path = Path(path)
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise BundleError(f"{path}: a bundle must be a file that can be read, but {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error
        raise BundleError(f"{path}: a bundle must be a zip file, but {error}") from None
    with archive:
        files: dict[str, bytes] = {}
        total = 0
        for entry in archive.infolist():
            name = entry.filename
            if not _NAME.fullmatch(name) or ".." in name.split("/"):
                raise BundleError(f"{path}: names in a bundle must be plain, but got {name!r}")
            if name in files:
                raise BundleError(f"{path}: names in a bundle must differ, but {name!r} occurs twice")
            if entry.compress_type not in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
            ):  # zipfile unpacks others unbounded
                raise BundleError(f"{path}: {name!r} must be stored or deflated, but is compressed otherwise")
            total += entry.file_size
            if total > LIMIT_BYTES:
                raise BundleError(
                    f"{path}: a bundle must unpack to at most {LIMIT_BYTES} bytes, but {name!r} exceeds it"
                )
            try:
                with archive.open(entry) as file:
                    content = file.read(entry.file_size + 1)
            except Exception as error:  # noqa: BLE001 - zlib.error, BadZipFile, OSError, EOFError: no common root
                raise BundleError(f"{path}: {name!r} must be readable, but {error}") from None
            if len(content) != entry.file_size:
                raise BundleError(f"{path}: {name!r} must have {entry.file_size} bytes, but has others")
            files[name] = content
    manifest = _manifest(path, files.pop("manifest.json", None))
    unlisted = sorted(set(manifest.sha256) ^ set(files))
    if unlisted:
        raise BundleError(f"{path}: the manifest must list every file, but {unlisted[0][:60]!r} is not in both")
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != manifest.sha256[name]:
            raise BundleError(f"{path}: {name!r} must have the hash of the manifest, but differs")
    return Bundle(path, manifest, files)


def _manifest(path: Path, content: bytes | None) -> Manifest:
    if content is None:
        raise BundleError(f"{path}: a bundle must have a manifest.json, but has none")
    try:
        described = json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: manifest.json must be JSON, but {str(error)[:100]}") from None
    try:
        return read_manifest(described)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found
