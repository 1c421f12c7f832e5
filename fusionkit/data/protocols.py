"""Protocols that go by sessions and trials: which groups train and which test in every fold."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from fusionkit.core.errors import DataError
from fusionkit.data.records import Records
from fusionkit.data.split_options import SplitOptions

Groups = Int[np.ndarray, " group"]

TRIALS = 15
TESTED = {"seed_9_6": (range(10, 16),), "seed_v_3_fold": (range(1, 6), range(6, 11), range(11, 16))}
"""Numbers of the trials that each fold of a model tests on; the others of the 15 train."""


@dataclass(frozen=True)
class _Session:
    subject: str
    name: str
    groups: tuple[int, ...]


def session_folds(
    options: SplitOptions, records: Records, group: Int[np.ndarray, " record"]
) -> list[tuple[Groups, Groups]]:
    """Training and test groups of every fold of a `cross_session`, `seed_9_6` or `seed_v_3_fold` split.

    Two subjects with three sessions each have six folds by `cross_session` and `seed_9_6`, and six by
    `seed_v_3_fold`. Folds follow the natural order of subjects, sessions and trials.

    Args:
        options: the kind, and what gets a model of its own.
        records: the study's table.
        group: the group of each record, which lies within a session.

    Raises:
        DataError: a subject has one session, a group lies in two, or trials are not numbered 1 to 15.
    """
    subjects = _sessions(options, records, group)
    if options.kind == "cross_session":
        return _cross_session(options, subjects)
    number = _trial_numbers(options, records, group)
    for sessions in subjects:
        for session in sessions:
            _check_trials(options, session, [number[one] for one in session.groups])
    models = {
        "session": [[session] for sessions in subjects for session in sessions],
        "subject": subjects,
        "all": [[session for sessions in subjects for session in sessions]],
    }
    assert options.per is not None
    folds = []
    for sessions in models[options.per]:
        mine = np.array([one for session in sessions for one in session.groups], dtype=np.int64)
        for tested in TESTED[options.kind]:
            test = np.array([number[one] in tested for one in mine.tolist()])
            folds.append((mine[~test], mine[test]))
    return folds


def natural_order(name: str) -> tuple[tuple[str | int, ...], str]:
    """A key to sort names by that takes digits for numbers: ``s2`` comes before ``s10``."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts)), name


def _sessions(options: SplitOptions, records: Records, group: Groups) -> list[list[_Session]]:
    """Sessions of every subject, both in natural order."""
    members: dict[str, dict[str, dict[int, None]]] = {}
    home: dict[int, tuple[str, str]] = {}
    for one, subject, name in zip(group.tolist(), records.subject, records.session, strict=True):
        if home.setdefault(one, (subject, name)) != (subject, name):
            raise DataError(
                f"a {options.kind} split needs groups within one session, but a group by {options.by} lies in session "
                f"{home[one][1]!r} of {home[one][0]!r} and in session {name!r} of {subject!r}"
            )
        members.setdefault(subject, {}).setdefault(name, {})[one] = None
    return [
        [
            _Session(subject, name, tuple(sorted(members[subject][name])))
            for name in sorted(members[subject], key=natural_order)
        ]
        for subject in sorted(members, key=natural_order)
    ]


def _cross_session(options: SplitOptions, subjects: Sequence[Sequence[_Session]]) -> list[tuple[Groups, Groups]]:
    for sessions in subjects:
        if len(sessions) < 2:
            raise DataError(
                f"a cross_session split needs two sessions or more of every subject, but subject "
                f"{sessions[0].subject!r} has one: {sessions[0].name!r}"
            )
    if options.per == "subject":
        return [_parted(sessions, rank) for sessions in subjects for rank in range(len(sessions))]
    folds = []
    for rank in range(max(map(len, subjects))):
        parts = [_parted(sessions, rank) for sessions in subjects]
        train, test = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        folds.append((train, test))
    return folds


def _parted(sessions: Sequence[_Session], tested: int) -> tuple[Groups, Groups]:
    """Groups of all sessions but one, and of that one; where there is no such session, nothing is tested."""
    train = [one for rank, session in enumerate(sessions) if rank != tested for one in session.groups]
    test = [one for session in sessions[tested : tested + 1] for one in session.groups]
    return np.array(train, dtype=np.int64), np.array(test, dtype=np.int64)


def _trial_numbers(options: SplitOptions, records: Records, group: Groups) -> dict[int, int]:
    number = {}
    for row, (one, name) in enumerate(zip(group.tolist(), records.trial, strict=True)):
        if not re.fullmatch(r"[0-9]+", name):
            raise DataError(
                f"row {row + 1}: a {options.kind} split needs trials named by their number, but that of record "
                f"{records.id[row]!r} is {name!r}"
            )
        number[one] = int(name)
    return number


def _check_trials(options: SplitOptions, session: _Session, numbers: Sequence[int]) -> None:
    """Refuse a session that has not each of the 15 trials once."""
    expected = range(1, TRIALS + 1)
    problems = {
        "lacks": [one for one in expected if one not in numbers],
        "has also": sorted({one for one in numbers if one not in expected}),
        "has two names for": sorted({one for one in numbers if numbers.count(one) > 1}),
    }
    for what, found in problems.items():
        if found:
            raise DataError(
                f"a {options.kind} split needs trials 1 to {TRIALS} of every session, but session {session.name!r} of "
                f"subject {session.subject!r} {what} {', '.join(map(str, found))}"
            )
