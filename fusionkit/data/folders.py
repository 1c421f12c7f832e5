"""Folders of data sets: found by name below the one that is given, and files by subject in them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusionkit.core.errors import DataError
from fusionkit.data.protocols import natural_order


@dataclass(frozen=True)
class SubjectFile:
    """One file of one subject, and the text that follows its name (a date, a number)."""

    subject: str
    rest: str
    path: Path


def subject_files(folder: Path, pattern: str, example: str, *, ignored: Sequence[str] = ()) -> list[SubjectFile]:
    """Files ``<subject>_<rest><suffix>`` of a folder, by subject in natural order and then by what follows.

    Upper and lower case are one, since copies by way of other systems change them; hidden files are passed over.

    Args:
        folder: where they lie.
        pattern: of the whole name, with the groups of subject and rest; other files of that suffix are refused.
        example: a name as it must be, whose suffix tells which files count.
        ignored: names that may lie there, too, in lower case.

    Raises:
        DataError: there is none, a name breaks the rule, or two are one but for their case.
    """
    suffix, found, seen = Path(example).suffix, [], dict[str, Path]()
    for path in _entries(folder):
        name = path.name.lower()
        if name.startswith(".") or name in ignored or Path(name).suffix != suffix or not path.is_file():
            continue
        match = re.fullmatch(pattern, path.name, re.IGNORECASE)
        if match is None:
            raise DataError(f"{path}: the name of a subject's file must look like {example}, but is {path.name}")
        if name in seen:
            raise DataError(f"{path}: a subject's file must be there once, but {seen[name].name} is, too")
        seen[name] = path
        found.append(SubjectFile(match[1], match[2], path))
    if not found:
        raise DataError(f"{folder}: there must be files like {example}, but there are none")
    return sorted(found, key=lambda file: (natural_order(file.subject), natural_order(file.rest)))


def find_folders(path: Path, names: Iterable[str], depth: int = 3) -> dict[str, Path]:
    """The folders called ``names``: the path itself, or the nearest below it, at most ``depth`` folders down.

    Upper and lower case are one. Hidden folders, those that cannot be read and ``__MACOSX`` are passed over.

    Raises:
        DataError: there is no such folder as ``path``, or a name stands for two folders of one depth.
    """
    if not path.is_dir():
        raise DataError(f"{path}: {'must be a folder, but is a file' if path.exists() else 'no such folder'}")
    wanted, level = set(names), [path.resolve()]
    found: dict[str, Path] = {}
    for _ in range(depth + 1):
        for name in wanted - set(found):
            here = [folder for folder in level if folder.name.lower() == name.lower()]
            if len(here) > 1:
                raise DataError(f"{path}: there must be one folder {name}, but there are {here[0]} and {here[1]}")
            if here:
                found[name] = here[0]
        level = [
            entry
            for folder in level
            for entry in _entries(folder)
            if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
        ]
    return found


def the_folder(path: Path, name: str) -> Path:
    """The folder called ``name``, as `find_folders` finds it.

    Raises:
        DataError: there is none, or there are two.
    """
    found = find_folders(path, [name])
    if not found:
        raise DataError(f"{path}: there must be a folder {name} here or below, but there is none")
    return found[name]


def find_below(folder: Path, *names: str) -> Path | None:
    """What is called so in a folder, name below name, in upper or lower case; None where there is no such thing."""
    found: Path | None = folder
    for name in names:
        if found is not None and not (found / name).exists():
            found = next((entry for entry in _entries(found) if entry.name.lower() == name.lower()), None)
        elif found is not None:
            found = found / name
    return found


def has_folder(path: Path, names: Iterable[str]) -> bool:
    """Whether a path is a folder with one of the names in reach; never an error."""
    try:
        return path.is_dir() and bool(find_folders(path, names))
    except (OSError, DataError):
        return False


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
