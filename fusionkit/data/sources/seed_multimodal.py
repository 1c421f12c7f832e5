"""SEED as released for fusion: features of EEG and eye movement of 12 people, trials joined end to end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array
from fusionkit.core.registry import sources
from fusionkit.data.archive import read_member, read_pickled
from fusionkit.data.folders import find_below, find_folders, has_folder, subject_files
from fusionkit.data.sources.seed_family import (
    BANDS,
    CHANNELS,
    EYE,
    SeedFamily,
    Sessions,
    Step,
    Subjects,
    Trial,
    TrialCell,
    Window,
)
from fusionkit.data.unpickle import unpickle_file

SECONDS = (235, 233, 206, 238, 185, 195, 237, 216, 265, 237, 235, 233, 235, 238, 206)
"""How long the 15 film clips are."""
LABELS = (2, 1, 0, 0, 1, 2, 0, 1, 2, 2, 1, 0, 1, 2, 0)
EMOTIONS = {0: "negative", 1: "neutral", 2: "positive"}
PARTS = {"train": range(9), "test": range(9, 15)}
"""Which trials, from 0, the two arrays of a file hold."""
FOLDERS = {"1s": "eeg_used_1s", "4s": "eeg_used_4s"}
HOP = {"1s": 1, "4s": 4}
EYE_FOLDERS = ("04-Eye-tracking-feature", "eye_tracking_feature")


@dataclass(frozen=True, kw_only=True)
class JoinedCell(TrialCell):
    """Windows ``first`` to ``last`` (not included) of one part of a file."""

    part: str
    first: int
    last: int
    eye: bool

    def values(self) -> Array:
        """``(channel, band, time)``, or ``(channel, time)`` of eye movement."""
        if self.eye:
            return read_eye(self.path)[self.part][self.first : self.last].T
        return read_part(self.path, self.part)[self.first : self.last].transpose(1, 2, 0)


@sources.register("seed_multimodal")
class SeedMultimodal(SeedFamily):
    """Read ``02-EEG-DE-feature/eeg_used_{1s,4s}/<subject>_<session>.npz`` and the eye movement beside it.

    The column ``eeg`` is the differential entropy of 62 electrodes in five bands, for which the sensor says
    ``features: {kind: ready}``; the column ``eye``, for a ``signal`` sensor, 33 numbers every 4 s, which go with
    the features of 4 s alone. Labels are ``emotion`` and ``label`` (0 negative, 1 neutral, 2 positive), from the files.

    The files join the first nine trials and the last six, and say nowhere where one ends. That is rebuilt here, a
    trial being as many whole windows as its film clip has. Where a file has another number of windows, the runs of
    its labels must be those of the published order, and a run of two trials with one label (the third and the fourth)
    is parted as their clips are long. A note says which of the two was done; where that border lies is a
    reconstruction in both (another public table puts it one window earlier).

    Args:
        path: the folder of the data, or any above it.
        release: features of windows of 1 s or 4 s; needed where the folder has both.
        window, step: seconds of a record and from record to record.
        sessions, subjects: which ones.

    Raises:
        DataError: a folder or file is missing or damaged, or its labels are not those of the published order; the
            message names it and the rule.

    Reference:
        Lu, Zheng, Li, Lu, IJCAI 2015; Zheng et al., IEEE Trans. Cybernetics 2019.

    Example:
        ``data: {kind: seed_multimodal, path: SEED_Multimodal/Chinese, release: 4s}``
    """

    emotions = EMOTIONS
    smoothed = "the release does not say whether the laboratory smoothed these features, as it does others,"

    def __init__(
        self,
        *,
        path: Annotated[Path, Field(description="the folder of the data, or any above it")],
        release: Annotated[
            Literal["1s", "4s"] | None, Field(description="windows of the features; default: the only one there")
        ] = None,
        window: Window = None,
        step: Step = None,
        sessions: Sessions = None,
        subjects: Subjects = None,
    ) -> None:
        super().__init__(path, window, step, sessions, subjects)
        self.release = release

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether its folders are in reach."""
        return has_folder(path, ["02-EEG-DE-feature", *FOLDERS.values()])

    @classmethod
    def readings(cls, path: Path) -> list[dict[str, Any]]:
        """Each release."""
        found = find_folders(path, FOLDERS.values(), depth=4)
        return [{"path": path, "release": release} for release, name in FOLDERS.items() if name in found]

    @cached_property
    def folder(self) -> Path:
        """Where the features of EEG lie.

        Raises:
            DataError: no such folder, or one for each release and none is asked for.
        """
        wanted = [name for release, name in FOLDERS.items() if self.release in (None, release)]
        found = find_folders(self.path, wanted, depth=4)
        if not found:
            raise DataError(
                f"{self.path}: there must be a folder {' or '.join(wanted)} here or below, but there is none"
            )
        if len(found) > 1:
            raise DataError(f"{self.path}: there are features of 1 s and of 4 s; set release to 1s or 4s")
        return next(iter(found.values()))

    def _seconds(self) -> int:
        return next(HOP[release] for release, name in FOLDERS.items() if name == self.folder.name.lower())

    def _hop(self) -> float | None:
        return float(self._seconds())

    def _found(self) -> Iterator[Trial]:
        files = subject_files(self.folder, r"(.+)_(\d+)\.npz", "1_1.npz")
        rebuilt: set[str] = set()
        for file in files:
            eye_path = find_below(self.folder.parent.parent, *EYE_FOLDERS, file.path.stem)
            eye = read_eye(eye_path) if self._seconds() == 4 and eye_path is not None else None
            for part, trials in PARTS.items():
                count = len(read_part(file.path, part))
                labels = read_labels(file.path, part, count)
                seconds = [SECONDS[trial] for trial in trials]
                borders, exact = find_borders(labels, seconds, [LABELS[trial] for trial in trials], self._seconds())
                if borders is None:
                    runs = [int(label) for label, _ in groupby(labels)]
                    raise DataError(f"{file.path}: {part}_label must have the published order, but has the runs {runs}")
                if eye is not None and len(eye[part]) != count:
                    raise DataError(
                        f"{eye_path}: {part}_data_eye must have the {count} windows of {file.path.name}, but has "
                        f"{len(eye[part])}"
                    )
                rebuilt.add("the lengths of the film clips" if exact else "the runs of their labels")
                for trial, first, last in zip(trials, borders, borders[1:], strict=False):
                    cells = {"eeg": self._cell(file.path, CHANNELS, part, first, last)}
                    if eye is not None and eye_path is not None:
                        cells["eye"] = self._cell(eye_path, EYE, part, first, last)
                    yield Trial(file.subject, file.rest, trial + 1, labels[first], cells)
        self.remarks.append(
            f"seed_multimodal: the files do not say where trials end; that was rebuilt from {' and '.join(sorted(rebuilt))}"
        )

    def _cell(self, path: Path, channels: tuple[str, ...], part: str, first: int, last: int) -> TrialCell:
        name = f"{path.parent.name}/{path.name}:{part} {first} to {last}"
        hop = self._seconds()
        return JoinedCell(
            key=name,
            where=name,
            name=name,
            path=path,
            rate=1 / hop,
            channels=channels,
            seconds=float((last - first) * hop),
            part=part,
            first=first,
            last=last,
            eye=channels == EYE,
        )


def find_borders(
    labels: Sequence[int], seconds: Sequence[int], order: Sequence[int], hop: int
) -> tuple[list[int] | None, bool]:
    """Where trials begin in their joined windows (and where the last one ends), and whether by their lengths alone.

    Clips of 8 and 12 s in windows of 4 s have borders at 0, 2 and 5. With other counts, runs of equal labels are the
    trials, and a run of neighbours with one label is parted by their lengths.

    Args:
        labels: one a window.
        seconds: length of each trial's clip.
        order: the label of each trial.
        hop: seconds of a window.

    Returns:
        The borders, or None where the labels are not those of the order.
    """
    counts = [length // hop for length in seconds]
    if [label for label, count in zip(order, counts, strict=True) for _ in range(count)] == list(labels):
        return [0, *np.cumsum(counts).tolist()], True
    runs = [(label, len(list(run))) for label, run in groupby(labels)]
    shared = [
        (label, [seconds[trial] for trial in run]) for label, run in groupby(range(len(order)), key=lambda i: order[i])
    ]
    if [label for label, _ in runs] != [label for label, _ in shared]:
        return None, False
    borders = [0]
    for (_, length), (_, clips) in zip(runs, shared, strict=True):
        inner = np.round(np.cumsum(clips) / sum(clips) * length).astype(int).tolist()
        borders += [borders[-1] + border for border in inner]
    return (borders, False) if all(a < b for a, b in pairwise(borders)) else (None, False)


def read_part(path: Path, part: str) -> Array:
    """One part's features, ``(window, channel, band)``.

    Raises:
        DataError: the archive or its pickle is damaged, or a band is missing or of another shape.
    """
    content: Any = read_pickled(path, f"{part}_data")
    if not isinstance(content, dict) or set(content) != set(BANDS):
        got = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: {part}_data must be a dictionary of the bands {list(BANDS)}, but is {got}")
    bands = [np.asarray(content[band]) for band in BANDS]
    shapes = {band.shape for band in bands}
    if len(shapes) > 1 or bands[0].ndim != 2 or bands[0].shape[1] != len(CHANNELS) or bands[0].dtype.kind not in "iuf":
        raise DataError(
            f"{path}: {part}_data must be (windows, {len(CHANNELS)}) in every band, but is {sorted(shapes)}"
        )
    return np.stack(bands, axis=-1)


def read_labels(path: Path, part: str, count: int) -> list[int]:
    """One label a window.

    Raises:
        DataError: there are more or fewer than windows, or others than 0, 1 and 2.
    """
    labels = read_member(path, f"{part}_label").reshape(-1)
    if labels.shape != (count,) or labels.dtype.kind not in "iuf" or not set(labels.tolist()) <= set(EMOTIONS):
        raise DataError(f"{path}: {part}_label must be {count} numbers of {list(EMOTIONS)}, but is not")
    return [int(label) for label in labels]


def read_eye(path: Path) -> dict[str, Array]:
    """Eye movement by part, each ``(window, 33)``.

    Raises:
        DataError: the pickle is damaged, or a part is missing or of another shape.
    """
    content: Any = unpickle_file(path)
    parts = {}
    for part in PARTS:
        rows = content.get(f"{part}_data_eye") if isinstance(content, dict) else None
        if (
            not isinstance(rows, np.ndarray)
            or rows.ndim != 2
            or rows.shape[1] != len(EYE)
            or rows.dtype.kind not in "iuf"
        ):
            got = rows.shape if isinstance(rows, np.ndarray) else type(rows).__name__
            raise DataError(f"{path}: {part}_data_eye must be (windows, {len(EYE)}), but is {got}")
        parts[part] = rows
    return parts
