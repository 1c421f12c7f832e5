"""Columns of a table, and what their names and values say before anyone has looked at a file."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

_ROLE_WORDS = {
    "id": ("id", "record", "sample", "record_id", "sample_id", "uid", "key"),
    "subject": ("subject", "participant", "patient", "person", "subject_id", "participant_id", "patient_id", "sub"),
    "session": ("session", "visit", "session_id", "ses"),
    "trial": ("trial", "trial_id", "trial_number"),
    "recording": ("recording", "recording_id", "rec"),
}


@dataclass(frozen=True)
class Column:
    """One column of the table: every cell as text."""

    name: str
    cells: tuple[str | None, ...]

    @cached_property
    def given(self) -> list[str]:
        """Cells that are not empty."""
        return [cell for cell in self.cells if cell is not None]

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each value occurs."""
        return Counter(self.given)

    @cached_property
    def numbers(self) -> list[float] | None:
        """The values as numbers, or None where one is none."""
        try:
            found = [float(cell) for cell in self.given]
        except ValueError:
            return None
        return found if all(value - value == 0 for value in found) else None


def guess_roles(columns: Iterable[Column]) -> dict[str, str]:
    """Which columns name the record, its subject, session, trial and recording, by their names and values."""
    roles: dict[str, str] = {}
    by_name = {re.sub(r"[^a-z0-9]+", "_", column.name.lower()).strip("_"): column for column in columns}
    for role, words in _ROLE_WORDS.items():
        for word in words:
            column = by_name.get(word)
            if column is None or column.name in roles.values() or len(column.given) < len(column.cells):
                continue
            unique = len(column.counts) == len(column.cells)
            if (role == "id") == unique or role in ("session", "trial", "recording"):
                roles[role] = column.name
                break
    return roles


def safe_name(column: str, used: set[str]) -> str:
    """A name that a sensor or a task may have, made of a column's name, not among ``used`` (to which it is added)."""
    from torch import nn

    name = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_") or "column"
    name = name if name[0].isalpha() else f"column_{name}"
    while name in used or hasattr(nn.ModuleDict, name) or name == "fused":
        name += "_"
    used.add(name)
    return name


def tokens(name: str) -> set[str]:
    """The words of a column's name: ``SpeakerId`` has speaker and id."""
    return set(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))


def brief(names: Sequence[str]) -> str:
    """Names in a line, the middle left out where there are many."""
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} ... {names[-1]}"
