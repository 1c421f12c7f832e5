"""Records of a second source, which have no labels: which of them a fold may see beside its training records."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from fusionkit.data.records import ROLES, Records
from fusionkit.data.split_options import SplitOptions
from fusionkit.data.splits import Fold, Split
from fusionkit.data.study import Study

PREFIX = "unlabelled/"
"""Begins ids and subjects of such records, so that neither is taken for one of the first source."""

Rows = Int[np.ndarray, "_"]


def with_unlabelled(split: Split, records: Records, transductive: str | None = None) -> Split:
    """A split with the unlabelled rows that each fold may see; digest and parts stay as they are.

    Args:
        split: of the records that are divided.
        records: those, and the unlabelled ones after them.
        transductive: why all may be seen in every fold.
    """
    names = records.id[len(split.ids) :]
    rows, belonging = np.arange(len(split.ids), len(records)), Belonging(split.options, records)

    def add(fold: Fold) -> Fold:
        held = fold.held_out
        kept = rows if transductive is not None else rows[~belonging(fold.train, held)]
        return replace(fold, unlabelled=kept)

    return replace(split, folds=tuple(map(add, split.folds)), unlabelled=names, transductive=transductive)


class Belonging:
    """Tells unlabelled records that belong to what is held out, by the names that both sources know.

    These are records of a group (of what the split goes by), a trial, a recording, or an id that is held out; records of a
    subject that is held out and does not train; records of which it is not known which group they are of, where their
    subject is held out or groups know no subjects; and records that the split's column puts into validation or test. A
    session that one source does not name may be any: trial t1 of s1 is then that of every session. So may a group that is
    held out without a name be, but one that trains. Where s1 and s2 are tested, all records of s1 and s2 belong there.

    Args:
        options: what the split goes by.
        records: the table, unlabelled records last.
    """

    def __init__(self, options: SplitOptions, records: Records) -> None:
        self.first = len(records) - records.unlabelled
        levels = [options.by, "record", "trial", *(["recording"] if options.by != "trial" else [])]
        names = {level: _names(records, level) for level in levels}  # trials of one recording may part
        self.numbers = {level: _numbers(names[level]) for level in levels}
        self.loose = [_numbers([(name[0], name[-1]) for name in names[level]]) for level in levels[2:]]
        self.sessionless = np.array([not session for session in records.session], dtype=bool)
        self.by = self.numbers[options.by]
        self.around = _numbers([(*name[:-1], "any") for name in names[options.by]])
        self.subject = _numbers(_names(records, "subject"))
        self.nameless = np.array([not name[-1] for name in names[options.by]])[self.first :]
        self.apart = options.by not in ROLES  # groups know no subjects
        self.parted = np.zeros(records.unlabelled, dtype=bool)
        if options.column is not None:
            parts = {*options.listed("validation"), *options.listed("test")}
            column = getattr(records, options.column) if options.column in ROLES else records.labels[options.column]
            self.parted[:] = [str(name or "").removeprefix(PREFIX) in parts for name in column[self.first :]]

    def __call__(self, train: Rows, held: Rows) -> Bool[np.ndarray, " unlabelled"]:
        """Which belong to rows of which nothing may be seen, beside rows that train."""
        subject = self.subject[self.first :]
        asked = np.isin(subject, self.subject[held])
        out: Bool[np.ndarray, " unlabelled"] = self.parted | (asked & ~np.isin(subject, self.subject[train]))
        out |= self.nameless & (asked | self.apart)
        for number in self.numbers.values():
            out |= self._of(number, held)
        for number in self.loose:
            out |= self._of(number, held) & self.sessionless[self.first :]
            out |= self._of(number, held[self.sessionless[held]])
        out |= self._of(self.around, held[self.by[held] < 0]) & ~self._of(self.by, train)
        return out

    def _of(self, number: Rows, rows: Rows) -> Bool[np.ndarray, " unlabelled"]:
        """Which have the number of one of some rows, and one at all."""
        mine = number[self.first :]
        found: Bool[np.ndarray, " unlabelled"] = (mine >= 0) & np.isin(mine, number[rows])
        return found


def apart_from(rows: Rows, options: SplitOptions, records: Records, train: Rows, held: Rows) -> Rows:
    """Those of some unlabelled rows that belong to nothing held out; see `Belonging`."""
    if not len(rows):
        return rows
    kept: Rows = rows[~Belonging(options, records)(train, held)[rows - (len(records) - records.unlabelled)]]
    return kept


def unlabelled_notes(split: Split, study: Study, title: str) -> list[str]:
    """What a report must say of the records that a second source adds, a line each.

    Args:
        split: with the rows that each fold may see.
        study: the study.
        title: what the second source is called.
    """
    total, records = len(split.unlabelled), study.records
    if not total:
        return []
    notes = []
    if split.transductive is None:
        left = [f"{total - len(fold.unlabelled)} in fold {n}" for n, fold in enumerate(split.folds)]
        what = f"a fold leaves those out whose {split.options.by} it validates or tests: {', '.join(left)}"
        notes.append(f"data.unlabelled: {title} adds {total} records without labels to training; {what}")
    else:
        shared, belonging = [], Belonging(split.options, records)
        for number, fold in enumerate(split.folds):
            held = fold.held_out
            shared.append(f"{int(belonging(fold.train, held).sum())} in fold {number}")
        what = f"of which some are of validation or test groups ({', '.join(shared)})"
        notes.append(
            f"transductive: data.unlabelled: {title} adds {total} records without labels to training, {what}: {split.transductive}"
        )
    first = len(records) - total
    for name, sensor in study.sensors.items():
        longest = [int(part.max(initial=0)) for part in (sensor.count[:first], sensor.count[first:])]
        if sensor.stored.sample_rate is not None and 0 < longest[0] < longest[1]:
            seconds = [count / sensor.stored.sample_rate for count in longest]
            notes.append(
                f"data.unlabelled: windows of {name} are up to {seconds[1]:g} s long there, and {seconds[0]:g} s else, so that "
                f"all are filled up to {seconds[1]:g} s; columns of starts and stops cut them"
            )
    return notes


def _names(records: Records, by: str) -> list[tuple[str, ...]]:
    """As `Records.names`, with unlabelled records under the names that their source gave them."""
    names = records.names(by)
    first = len(names) - records.unlabelled
    return [*names[:first], *((name[0].removeprefix(PREFIX), *name[1:]) for name in names[first:])]


def _numbers(names: list[tuple[str, ...]]) -> Rows:
    """A number for every name, equal for equal ones; -1 where its last part is unknown."""
    number: dict[tuple[str, ...], int] = {}
    return np.array([number.setdefault(name, len(number)) if name[-1] else -1 for name in names], dtype=np.int64)
