"""Nothing of the same signal on two sides of a split, unless the recipe says why."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.data.split_options import CALIBRATION, PARTS
from fusionkit.data.splits import Fold, Split
from fusionkit.data.study import StoredSensor, Study

Sides = Int[np.ndarray, " record"]
SIDES = (*PARTS, CALIBRATION)


@dataclass(frozen=True)
class _Finding:
    rule: str
    where: str
    first: int
    second: int
    what: str
    note: bool = False  # worth saying, but no leak


def check_straddling(
    split: Split, study: Study, allow_leakage: str | None = None, smoothed: Mapping[str, Sides] | None = None
) -> list[str]:
    """Refuse a split that puts one signal on two sides.

    Refused are windows that share stored samples, records of one trial, records of one recording (except in a
    split by trial, where trials of one recording may part), and one signal stored under two names. Where a record
    has no recording name, a sensor with time takes its stored recording for that. So are records whose features are
    smoothed as one sequence: they are near-copies. Texts and single vectors that
    are merely equal are no leak, and only mentioned. Costs a sort of the intervals per sensor, and per fold a pass.

    Args:
        split: the folds.
        study: what they were made for; its unlabelled records train, unless the split is transductive.
        allow_leakage: why it is all right this time; then findings come back as warnings.
        smoothed: by sensor whose features are smoothed across records, the number of each record's sequence; -1 for
            none.

    Returns:
        One warning per rule and sensor, with the first pair of records it concerns.

    Raises:
        ConfigError: ``allow_leakage`` is an empty reason.
        DataError: a rule is broken; the message names two records, their sides and the rule.
    """
    if allow_leakage is not None and not allow_leakage.strip():
        raise ConfigError(f"allow_leakage must give a reason, but got {allow_leakage!r}")
    found: dict[tuple[str, str], tuple[str, int]] = {}
    checks = [_Intervals(name, sensor) for name, sensor in study.sensors.items()]
    for number, fold in enumerate(split.folds):
        sides = _sides(fold, len(study.records))
        if split.transductive is None:
            sides[fold.unlabelled] = 1  # they train
        together = _smoothed(smoothed or {}, sides)
        for finding in itertools.chain(_findings(study, split, checks, sides), together):
            pair = " and ".join(
                f"{study.records.id[r]!r} ({SIDES[sides[r] - 1]})" for r in (finding.first, finding.second)
            )
            message = f"{finding.rule}, but records {pair} of fold {number} {finding.what}"
            if finding.note:
                message = f"{finding.what}: records {pair} of fold {number}, for one"
            elif allow_leakage is None:
                way = "split by a larger group, or give data.allow_leakage a reason"
                if max(finding.first, finding.second) >= len(split.ids):
                    way = "take it out of data.unlabelled, or give data.unlabelled.transductive a reason"
                raise DataError(f"{message}; {way}")
            first, folds = found.get((finding.rule, finding.where), (message, 0))
            found[finding.rule, finding.where] = (first, folds + 1)
    total, reason = len(split.folds), "" if allow_leakage is None else f"; allowed: {allow_leakage.strip()}"
    return [f"{message} (in {folds} of {total} folds){reason}" for message, folds in found.values()]


def _sides(fold: Fold, count: int) -> Sides:
    """0 for records left out, then 1 to 4 for the sides."""
    sides = np.zeros(count, dtype=np.int64)
    for side, rows in enumerate(fold.parts().values(), start=1):
        sides[rows] = side
    return sides


def _findings(study: Study, split: Split, checks: "list[_Intervals]", sides: Sides) -> Iterator[_Finding]:
    records = study.records
    for intervals in checks:
        yield from intervals.shared(sides)
    named = {
        "trial": np.array([bool(name) for name in records.trial]),
        "recording": np.array([bool(name) for name in records.recording]),
    }
    for level in ("trial", "recording"):
        if level == "recording" and split.options.by == "trial":
            continue
        group = np.where(named[level], records.group(level), -1)
        if (pair := _straddling(group, sides)) is not None:
            name = getattr(records, level)[pair[0]]
            yield _Finding(f"a {level} may not straddle a split", "", *pair, f"are both of {level} {name!r}")
    for intervals in checks:
        if split.options.by != "trial":
            yield from intervals.parted(np.where(named["recording"], 0, sides))
        yield from intervals.copied(sides)


def _smoothed(smoothed: Mapping[str, Sides], sides: Sides) -> Iterator[_Finding]:
    for name, group in smoothed.items():
        if (pair := _straddling(group, sides)) is not None:
            rule = "records whose features are smoothed as one sequence may not straddle a split"
            yield _Finding(rule, name, *pair, f"are smoothed together ({name})")


def _straddling(group: Sides, sides: Sides) -> tuple[int, int] | None:
    """Two rows of one group (-1 is none) on different sides."""
    rows = np.flatnonzero((group >= 0) & (sides > 0))
    _, first, inverse = np.unique(group[rows], return_index=True, return_inverse=True)
    leader = rows[first[inverse]]
    apart = np.flatnonzero(sides[leader] != sides[rows])
    return (int(leader[apart[0]]), int(rows[apart[0]])) if apart.size else None


class _Intervals:
    """Where the windows of one sensor lie among its stored samples."""

    def __init__(self, name: str, sensor: StoredSensor) -> None:
        self.name, self.sensor = name, sensor
        here = np.flatnonzero(sensor.present & (sensor.count > 0))
        self.rows = here[np.argsort(sensor.offset[here], kind="stable")]
        self.start = np.asarray(sensor.offset)[self.rows]
        self.stop = self.start + np.asarray(sensor.count)[self.rows]
        _, twin = np.unique(np.array(sensor.recording_digest, dtype=str), return_inverse=True)
        self.twin = twin if len(twin) else np.zeros(0, dtype=np.int64)  # recordings with equal samples
        self.timed = sensor.stored.sample_rate is not None

    def shared(self, sides: Sides) -> Iterator[_Finding]:
        """Windows on different sides that overlap."""
        side = sides[self.rows]
        for other in range(1, len(SIDES) + 1):
            stop = np.where(side == other, self.stop, -1)
            reach = np.concatenate([[-1], np.maximum.accumulate(stop)[:-1]]) if len(stop) else stop
            hits = np.flatnonzero((side > 0) & (side != other) & (self.start < reach))
            if hits.size:
                second = hits[0]
                first = int(np.argmax(stop[:second]))
                row = int(self.rows[first])
                recording = int(self.sensor.recording[row])
                begin = int(self.start[second]) - int(self.sensor.recording_offset[recording])
                end = begin + int(min(self.stop[first], self.stop[second]) - self.start[second])
                yield _Finding(
                    "windows that share samples may not straddle a split",
                    self.name,
                    row,
                    int(self.rows[second]),
                    f"share samples {begin} to {end} of {self.sensor.recording_name[recording]!r} ({self.name})",
                )
                return

    def parted(self, sides: Sides) -> Iterator[_Finding]:
        """Windows of one stored recording on different sides."""
        if self.timed and (pair := _straddling(np.asarray(self.sensor.recording), sides)) is not None:
            name = self.sensor.recording_name[int(self.sensor.recording[pair[0]])]
            yield _Finding(
                "a recording may not straddle a split", self.name, *pair, f"are both cut from {name!r} ({self.name})"
            )

    def copied(self, sides: Sides) -> Iterator[_Finding]:
        """Windows of two stored recordings with equal samples, on different sides."""
        recording = np.asarray(self.sensor.recording)[self.rows]
        twin, side = self.twin[recording], sides[self.rows]
        many = np.bincount(self.twin, minlength=1)[twin] > 1
        used = np.flatnonzero(many & (side > 0))
        order = used[np.lexsort((recording[used], side[used], twin[used]))]
        # the first and last recording of each twin and side tell whether another side has a different one
        for block in np.split(order, np.flatnonzero(np.diff(twin[order])) + 1) if order.size else []:
            ends = [(block[side[block] == s][0], block[side[block] == s][-1]) for s in np.unique(side[block])]
            for index, mine in enumerate(ends):
                for theirs in ends[index + 1 :]:
                    pairs = [(a, b) for a in mine for b in theirs if recording[a] != recording[b]]
                    if pairs:
                        yield self._copy(*(int(self.rows[i]) for i in pairs[0]))
                        return

    def _copy(self, first: int, second: int) -> _Finding:
        names = [self.sensor.recording_name[int(self.sensor.recording[row])] for row in (first, second)]
        stored = self.sensor.stored
        if not self.timed and len(stored.item) < 2:  # a sentence, a vector: equal by chance
            return _Finding(
                "equal values", self.name, first, second, f"{self.name} has equal values on two sides", True
            )
        return _Finding(
            "one signal under two names may not straddle a split",
            self.name,
            first,
            second,
            f"have the same samples in {names[0]!r} and {names[1]!r} ({self.name})",
        )
