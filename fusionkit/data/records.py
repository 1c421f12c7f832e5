"""The table of a study: who, when, and what is known of every record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from fusionkit.core.errors import UnknownNameError

ROLES = ("id", "subject", "session", "trial", "recording")


@dataclass(frozen=True)
class Records:
    """One entry per record in every tuple; an empty name is an unknown one.

    Attributes:
        id: unique name.
        subject: whose record it is; never empty.
        session: name within the subject.
        trial: name within the session.
        recording: name of the stretch of signal the record was cut from, within the session.
        labels: columns kept from the table, as text; None where missing.
        unlabelled: how many of the last records come from a second source and have no labels; no split divides them.
    """

    id: tuple[str, ...]
    subject: tuple[str, ...]
    session: tuple[str, ...]
    trial: tuple[str, ...]
    recording: tuple[str, ...]
    labels: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    unlabelled: int = 0

    def __len__(self) -> int:
        return len(self.id)

    @property
    def divided(self) -> "Records":
        """The records that a split divides: all but the unlabelled ones, which come last."""
        if not self.unlabelled:
            return self
        first = slice(len(self) - self.unlabelled)
        roles = {role: getattr(self, role)[first] for role in ROLES}
        return replace(
            self, **roles, labels={name: column[first] for name, column in self.labels.items()}, unlabelled=0
        )

    def known(self, column: str) -> tuple[str | None, ...]:
        """Labels of a kept column as tasks learn them: none of unlabelled records, also where a split goes by the column."""
        first = len(self) - self.unlabelled
        return (*self.labels[column][:first], *[None] * self.unlabelled)

    def names(self, by: str) -> list[tuple[str, ...]]:
        """What tells the groups of ``by`` apart, per record: session nests in subject, trial and recording in session.

        Args:
            by: ``subject``, ``session``, ``trial``, ``recording``, ``record``, or the name of a kept column.

        Raises:
            UnknownNameError: there is no such grouping.
        """
        if by == "record":
            return [(name,) for name in self.id]
        if by == "subject":
            return [(name,) for name in self.subject]
        if by == "session":
            return list(zip(self.subject, self.session, strict=True))
        if by == "trial":
            return list(zip(self.subject, self.session, self.trial, strict=True))
        if by == "recording":
            return list(zip(self.subject, self.session, self.recording, strict=True))
        if by in self.labels:
            return [(name or "",) for name in self.labels[by]]
        raise UnknownNameError("group", by, ["record", "subject", "session", "trial", "recording", *self.labels])

    def group(self, by: str) -> Int[np.ndarray, " record"]:
        """Group number per record, dense from 0 in the order of `group_names` (sorted by name).

        Subjects ``b, a, b`` give ``1, 0, 1``. Records without a known session are one session of their subject, and
        likewise below: what is unknown is kept together.
        """
        names = self.names(by)
        number = {name: index for index, name in enumerate(sorted(set(names)))}
        return np.array([number[name] for name in names], dtype=np.int64)

    def group_names(self, by: str) -> tuple[str, ...]:
        """Name of each group of `group`, its parts joined by ``/``."""
        return tuple("/".join(part for part in name if part) for name in sorted(set(self.names(by))))

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], labels: Sequence[str] = ()) -> "Records":
        """Gather rows: mappings with the five roles by name (only ``id`` is needed) and ``labels`` columns."""
        role = {name: tuple(str(row.get(name, "")) for row in rows) for name in ROLES}
        role["subject"] = tuple(subject or name for subject, name in zip(role["subject"], role["id"], strict=True))
        return cls(**role, labels={name: tuple(row.get(name) for row in rows) for name in labels}, unlabelled=0)
