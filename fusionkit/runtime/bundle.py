"""Open a bundle: one zip file with the graph, a manifest and what the sensors learned. Nothing in it is executed."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionkit.runtime.archive import LIMIT_BYTES, unpack
from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.manifest import Manifest, read_manifest

LIMIT_MANIFEST = 16 * 1024**2


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds: its manifest, and every other file as bytes by name."""

    path: Path
    manifest: Manifest
    files: dict[str, bytes]


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle whole and check names, sizes, hashes and the manifest before anything is used.

    Raises:
        BundleError: no zip file, foreign names or sizes, a hash that differs, another format or version, a manifest
            that breaks a rule.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BundleError(f"{path}: a bundle must be a file that can be read, but {error.strerror or error}") from None
    if not path.is_file() or size > LIMIT_BYTES:
        raise BundleError(f"{path}: a bundle must be a file of at most {LIMIT_BYTES} bytes, but is none")
    files = unpack(path, f"{path}: a bundle", size)
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
    if len(content) > LIMIT_MANIFEST:
        raise BundleError(f"{path}: manifest.json must have at most {LIMIT_MANIFEST} bytes, but has {len(content)}")
    try:
        described = json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: manifest.json must be JSON, but {' '.join(str(error).split())[:100]}") from None
    try:
        return read_manifest(described)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in an object")
    return found
