"""Which records train, which validate, which test: by whole groups, the same for the same seed, saved and hashed."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from pydantic import ValidationError

from fusionkit.core.errors import DataError, did_you_mean
from fusionkit.data.protocols import session_folds
from fusionkit.data.records import ROLES, Records
from fusionkit.data.split_options import CALIBRATION, PARTS, PER, SplitOptions

__all__ = ["PARTS", "Fold", "Split", "SplitOptions", "make_split"]

Rows = Int[np.ndarray, "_"]
SMALLER = ("subject", "session", "trial", "recording")
"""What the only training group of a fold is divided by: the first of which it holds two or more."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows of a study, ascending; no row is in two parts, and some may be in none.

    ``unlabelled`` are rows of a second source (see `fusionkit.data.unlabelled`) that may be seen in training beside ``train``;
    they are no part of the split, nor of its digest.
    """

    train: Rows
    validation: Rows
    test: Rows
    calibration: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    unlabelled: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def parts(self) -> dict[str, Rows]:
        """The three parts by name, and what is put aside for calibration where there is any."""
        found = {part: getattr(self, part) for part in PARTS}
        return found | ({CALIBRATION: self.calibration} if len(self.calibration) else {})

    def sets(self) -> dict[str, Rows]:
        """The three parts, and the unlabelled rows where there are some, as tables tell them."""
        return self.parts() | ({"unlabelled": self.unlabelled} if len(self.unlabelled) else {})

    @property
    def held_out(self) -> Rows:
        """All rows that nothing which trains may look at."""
        return np.concatenate([self.validation, self.test, self.calibration])

    @property
    def seen(self) -> Rows:
        """All rows that learning without labels may look at."""
        return np.concatenate([self.train, self.unlabelled])


@dataclass(frozen=True, eq=False)
class Split:
    """Folds of one study.

    Attributes:
        options: how they were made, with the seed.
        folds: the folds.
        ids: names of the records that are divided, in the order of the study's rows.
        digest: hash of which records are in which part of which fold, whatever their order in the study.
        unlabelled: names of the records of a second source, whose rows follow; no part of the digest.
        transductive: why they may be of validation and test groups, too.
    """

    options: SplitOptions
    folds: tuple[Fold, ...]
    ids: tuple[str, ...]
    digest: str
    unlabelled: tuple[str, ...] = ()
    transductive: str | None = None

    @classmethod
    def of(cls, options: SplitOptions, folds: Sequence[Fold], records: Records) -> "Split":
        """Check the folds and hash them.

        Raises:
            DataError: a part is empty, a record is in two parts, or it tests two folds, so that pooled scores would count
                it twice.
        """
        tested = np.full(len(records), -1)
        for number, fold in enumerate(folds):
            _check(fold, number, records)
            again = fold.test[tested[fold.test] >= 0]
            if again.size:
                raise DataError(
                    f"a record may test one fold, but {records.id[again[0]]!r} tests folds {tested[again[0]]} and {number}"
                )
            tested[fold.test] = number
        return cls(options, tuple(folds), records.id, _hash(_named(folds, records.id)))

    def notes(self, records: Records) -> list[str]:
        """What is not as the options say, a line: folds whose validation is cut from within the only training group."""
        group, names = records.group(self.options.by), records.group_names(self.options.by)
        divided = {
            number: names[both[0]]
            for number, fold in enumerate(self.folds)
            if (both := np.intersect1d(group[fold.train], group[fold.validation])).size
        }
        if not divided:
            return []
        example = f"{next(iter(divided.values()))!r} in fold {next(iter(divided))}"
        note = (
            f"validation is cut from within the only training group by {self.options.by} ({example}; {len(divided)} of "
            f"{len(self.folds)} folds), so that its scores are those of a group that the model knows"
        )
        return [note]

    def save(self, path: Path) -> None:
        """Write as JSON, by record id, under a temporary name first."""
        content = {
            "format": "fusionkit-split",
            "version": 1,
            "options": self.options.model_dump(exclude_none=True),
            "records": _hash(sorted(self.ids)),
            "digest": self.digest,
            "folds": _named(self.folds, self.ids),
        }
        if self.unlabelled:  # told for whoever reads it; `load` does not need it
            names = self.ids + self.unlabelled
            content["unlabelled"] = [sorted(names[row] for row in fold.unlabelled) for fold in self.folds]
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path, records: Records) -> "Split":
        """Read what `save` wrote, for a study with the same record ids in any order, unlabelled ones aside.

        Raises:
            DataError: the file is missing, no split or changed, or was made for other records.
        """
        records = records.divided
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != "fusionkit-split" or content["version"] != 1:
                raise ValueError("it is of another format or version")
            options = SplitOptions(**content["options"])
            named = [
                {part: [str(name) for name in fold[part]] for part in (*PARTS, *({CALIBRATION} & fold.keys()))}
                for fold in content["folds"]
            ]
            made_for, digest = content["records"], content["digest"]
        except OSError as error:
            raise DataError(f"{path}: a split must be a file to read, but {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            reason = "its options are not valid" if isinstance(error, ValidationError) else str(error)
            raise DataError(
                f"{path}: a split must be a file that fusionkit wrote, but this is none: {reason}"
            ) from None
        if made_for != _hash(sorted(records.id)):
            strange = {name for fold in named for names in fold.values() for name in names} - set(records.id)
            example = f"; it names {min(strange)!r}, which is not in the study" if strange else ""
            raise DataError(f"{path}: a split fits the record ids it was made for, but the study has others{example}")
        if digest != _hash(named):
            raise DataError(f"{path}: a split must match its digest, but its folds were changed")
        row = {name: index for index, name in enumerate(records.id)}
        parts = [{part: _rows(row[name] for name in names) for part, names in fold.items()} for fold in named]
        return cls.of(options, [Fold(**fold) for fold in parts], records)


def make_split(options: SplitOptions, records: Records, seed: int = 0) -> Split:
    """Split the records of a study; the same options, names and seed give the same split anywhere.

    Args:
        options: how.
        records: the study's table; the order of its rows matters to ``within_subject`` alone.
        seed: for the shuffling, where the options have none.

    Raises:
        DataError: there are too few groups, a named one does not exist, or a part would be empty.
        UnknownNameError: there is no such column.
    """
    records = records.divided
    options = options.model_copy(update={"seed": seed if options.seed is None else options.seed})
    groups = _Groups(options, records)
    if options.kind == "within_subject":
        folds = [_within_subject(groups)]
    elif options.kind == "column":
        folds = [_by_column(groups)]
    elif options.kind == "fixed":
        folds = [_fixed(groups)]
    elif options.kind in PER:
        made = enumerate(session_folds(options, records, groups.of_row))
        folds = [groups.fold(number, test, train) for number, (train, test) in made]
    else:
        folds = [groups.fold(number, test) for number, test in enumerate(_test_groups(groups))]
    if options.calibration is not None:
        folds = [groups.put_aside(number, fold) for number, fold in enumerate(folds)]
    return Split.of(options, folds, records)


class _Groups:
    """The groups that a split keeps whole, numbered in the order of their names."""

    def __init__(self, options: SplitOptions, records: Records) -> None:
        self.options, self.records = options, records
        self.of_row = records.group(options.by)
        self.names = records.group_names(options.by)
        if len(self.names) < 2:
            raise DataError(
                f"a split by {options.by} needs two groups or more, but the study has {len(self.names)}: "
                f"{', '.join(map(repr, self.names))}"
            )

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, groups: Rows) -> Rows:
        return np.flatnonzero(np.isin(self.of_row, groups))

    def fold(self, number: int, test: Rows, train: Rows | None = None) -> Fold:
        """Test on these groups; cut validation from the training groups (default: all others)."""
        if train is None:
            train = np.setdiff1d(np.arange(len(self)), test)
        return Fold(*self.cut_validation(number, train), self.rows(test))

    def cut_validation(self, number: int, train: Rows) -> tuple[Rows, Rows]:
        """Rows that train and rows that validate, whole groups of ``train`` each; a group that is alone is divided."""
        of_row, units = self.of_row, train
        if len(train) == 1:
            of_row = self._divide(int(train[0]))
            units = np.unique(of_row[of_row >= 0])
        if len(units) < 2:
            alone = f", which holds no smaller ones ({', '.join(SMALLER)})" if len(train) else ""
            raise DataError(
                f"training and validation need a group each, but fold {number} leaves {len(train)} of {len(self)} "
                f"groups by {self.options.by} for both{alone}"
            )
        assert isinstance(self.options.validation, float)
        count = _share(self.options.validation, len(units), spare=1)
        drawn = self.generator(1, number).permutation(len(units))[:count]
        kept = np.flatnonzero(np.isin(of_row, np.delete(units, drawn)))
        return kept, np.flatnonzero(np.isin(of_row, units[drawn]))

    def put_aside(self, number: int, fold: Fold) -> Fold:
        """Keep some training groups for calibration."""
        train = np.unique(self.of_row[fold.train])
        if len(train) < 2:
            raise DataError(
                f"training and calibration need a group each, but fold {number} leaves {len(train)} by "
                f"{self.options.by} for both"
            )
        assert self.options.calibration is not None
        count = _share(self.options.calibration, len(train), spare=1)
        drawn = self.generator(2, number).permutation(train)[:count]
        aside = np.isin(self.of_row[fold.train], drawn)
        return replace(fold, train=fold.train[~aside], calibration=fold.train[aside])

    def _divide(self, group: int) -> Rows:
        """Number per record of the group's largest smaller units, of which none parts a trial or a recording; else -1."""
        mine = np.flatnonzero(self.of_row == group)
        found = np.full(len(self.records), -1)
        for level in SMALLER:
            units = self.records.group(level)[mine]
            if len(np.unique(units)) > 1 and not any(self._parts(units, mine, whole) for whole in SMALLER[2:]):
                found[mine] = units
                break
        return found

    def _parts(self, units: Rows, rows: Rows, whole: str) -> bool:
        """Whether a trial or a recording that has a name lies in two units."""
        names: tuple[str, ...] = getattr(self.records, whole)
        named = np.array([bool(names[row]) for row in rows])
        pairs = np.stack([self.records.group(whole)[rows], units])[:, named]
        return len(np.unique(pairs, axis=1).T) > len(np.unique(pairs[0]))

    def generator(self, *path: int) -> np.random.Generator:
        assert self.options.seed is not None
        return np.random.default_rng([self.options.seed, *path])


def _test_groups(groups: _Groups) -> list[Rows]:
    """The test groups of each fold where they are drawn."""
    options = groups.options
    if options.kind in ("leave_one_out", "leave_one_subject_out"):
        return [np.array([group]) for group in range(len(groups))]
    shuffled = groups.generator(0).permutation(len(groups))
    if options.kind == "holdout":
        assert isinstance(options.test, float)
        return [shuffled[: _share(options.test, len(groups), spare=1)]]
    assert options.folds is not None
    if options.folds > len(groups):
        raise DataError(
            f"folds must not outnumber the groups, but there are {options.folds} folds and {len(groups)} groups "
            f"by {options.by}"
        )
    return np.array_split(shuffled, options.folds)


def _fixed(groups: _Groups) -> Fold:
    options = groups.options
    number = {name: index for index, name in enumerate(groups.names)}
    named = {}
    for part in PARTS:
        for name in (names := options.listed(part)):
            if name not in number:
                raise DataError(
                    f"{part} must list groups by {options.by} of the study, but {name!r} is none of its "
                    f"{len(number)}{did_you_mean(name, number)}"
                )
        named[part] = np.array([number[name] for name in names], dtype=np.int64)
    train = named["train"]
    if options.train is None:
        train = np.setdiff1d(np.arange(len(groups)), [*named["validation"], *named["test"]])
    if not isinstance(options.validation, list):
        return groups.fold(0, named["test"], train)
    return Fold(*(groups.rows(part) for part in (train, named["validation"], named["test"])))


def _by_column(groups: _Groups) -> Fold:
    options, records = groups.options, groups.records
    assert options.column is not None
    column = options.column
    if column in ROLES:
        part_of: Sequence[str | None] = getattr(records, column)
    else:
        records.names(column)  # refuses an unknown one
        part_of = records.labels[column]
    rows = {part: _rows(r for r, name in enumerate(part_of) if name in options.listed(part)) for part in PARTS}
    for part in PARTS:
        for name in options.listed(part):
            if name not in part_of:
                known = sorted({value for value in part_of if value})
                raise DataError(
                    f"{part} must list values of column {column!r}, but {name!r} does not occur in it"
                    f"{did_you_mean(name, known)}; it has {known[:10]}"
                )
    if options.train is None:
        nameless = [row for row, name in enumerate(part_of) if not name]
        if nameless:
            raise DataError(
                f"column {column!r} must say the part of every record unless train is listed, but it is empty for "
                f"record {records.id[nameless[0]]!r}"
            )
        rows["train"] = np.setdiff1d(np.arange(len(records)), [*rows["validation"], *rows["test"]])
    for part, other in (("train", "test"), ("validation", "test"), ("train", "validation")):
        both = np.intersect1d(groups.of_row[rows[part]], groups.of_row[rows[other]])
        if both.size:
            raise DataError(
                f"a split by {options.by} keeps its groups whole, but column {column!r} puts "
                f"{groups.names[both[0]]!r} into {part} and {other}; name a smaller group under 'by'"
            )
    if isinstance(options.validation, list):
        return Fold(**rows)
    kept, validation = groups.cut_validation(0, np.unique(groups.of_row[rows["train"]]))
    kept, validation = (np.intersect1d(part, rows["train"]) for part in (kept, validation))
    return Fold(kept, validation, rows["test"])


def _within_subject(groups: _Groups) -> Fold:
    options, records = groups.options, groups.records
    assert isinstance(options.train, float) and isinstance(options.validation, float)
    order: dict[str, dict[int, None]] = {}  # each subject's groups by appearance
    owner: dict[int, str] = {}
    for group, subject in zip(groups.of_row.tolist(), records.subject, strict=True):
        if owner.setdefault(group, subject) != subject:
            raise DataError(
                f"a within_subject split needs groups within one subject, but {options.by} {groups.names[group]!r} "
                f"belongs to {owner[group]!r} and {subject!r}"
            )
        order.setdefault(subject, {})[group] = None
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for subject, seen in order.items():
        mine = list(seen)
        if len(mine) < 3:
            raise DataError(
                f"a within_subject split needs three groups of every subject, but subject {subject!r} has "
                f"{len(mine)} by {options.by}"
            )
        first = max(2, _share(options.train, len(mine), spare=1))
        last = _share(options.validation, first, spare=1)
        parts["train"] += mine[: first - last]
        parts["validation"] += mine[first - last : first]
        parts["test"] += mine[first:]
    return Fold(**{part: groups.rows(np.array(chosen)) for part, chosen in parts.items()})


def _share(fraction: float, total: int, spare: int) -> int:
    """A fraction of ``total``, rounded, at least 1 and leaving at least ``spare``: 0.25 of 6 is 2, of 1 with 0 spare 1."""
    return min(max(1, int(fraction * total + 0.5)), total - spare)


def _rows(numbers: Any) -> Rows:
    return np.array(sorted(numbers), dtype=np.int64)


def _named(folds: Sequence[Fold], ids: Sequence[str]) -> list[dict[str, list[str]]]:
    return [{part: sorted(ids[row] for row in rows) for part, rows in fold.parts().items()} for fold in folds]


def _hash(content: object) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check(fold: Fold, number: int, records: Records) -> None:
    parts = fold.parts()
    for part, rows in parts.items():
        if not len(rows):
            raise DataError(f"train, validation and test must each hold a record, but {part} of fold {number} is empty")
    side: dict[int, str] = {}
    for part, rows in parts.items():
        for row in rows.tolist():
            if row in side:
                raise DataError(
                    f"a record may be in one part, but {records.id[row]!r} is in {side[row]} and {part} of fold {number}"
                )
            side[row] = part
