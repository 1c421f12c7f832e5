"""SEED-V: the laboratory's features of EEG and eye movement of 16 people, 15 film clips a session, five emotions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from fusionkit.core.errors import DataError, located
from fusionkit.core.recording import Array
from fusionkit.core.registry import sources
from fusionkit.data.archive import read_pickled
from fusionkit.data.folders import SubjectFile, find_below, has_folder, subject_files, the_folder
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

LABELS = (
    (4, 1, 3, 2, 0, 4, 1, 3, 2, 0, 4, 1, 3, 2, 0),
    (2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0),
    (2, 1, 3, 0, 4, 4, 0, 3, 2, 1, 3, 4, 1, 2, 0),
)
"""What the trials of each session show, as published (bcmi.sjtu.edu.cn/~seed/seed-v.html)."""
EMOTIONS = {0: "disgust", 1: "fear", 2: "sad", 3: "neutral", 4: "happy"}
TRIALS = len(LABELS[0])
EEG_FOLDER, EYE_FOLDER = "EEG_DE_features", "Eye_movement_features"
HOP = 4.0
COLUMNS = len(CHANNELS) * len(BANDS)
SURE = 4.0
"""How many times more the band means must vary by one layout than by the other to tell which it is."""
Layout = Literal["channel_major", "band_major"]


@dataclass(frozen=True, kw_only=True)
class SeedVCell(TrialCell):
    """One trial of a pickled dictionary in an archive; ``layout`` is None for eye movement."""

    trial: int
    layout: Layout | None

    def values(self) -> Array:
        """``(channel, band, time)``, or ``(channel, time)`` of eye movement."""
        rows = read_trials(self.path, len(self.channels) * (len(BANDS) if self.layout else 1))[self.trial]
        return rows.T if self.layout is None else unfold(rows, self.layout).transpose(1, 2, 0)


@sources.register("seed_v")
class SeedV(SeedFamily):
    """Read SEED-V's features: ``EEG_DE_features/<subject>_123.npz`` and ``Eye_movement_features`` beside it.

    The column ``eeg`` is the differential entropy of 62 electrodes in five bands every 4 s, for which the sensor says
    ``features: {kind: ready}``; the column ``eye``, for a ``signal`` sensor, 33 numbers every 4 s. Labels are
    ``emotion`` and ``label`` (0 disgust, 1 fear, 2 sad, 3 neutral, 4 happy), from the files. The raw recordings
    (``EEG_raw/*.cnt``) are not read here; `manifest` reads such files. A cell reads one subject's file, about 5 MB.

    The files hold 310 columns and do not say whether electrodes or bands come first, and public readers differ.
    Differential entropy falls from delta to gamma, so that by the right layout the five band means vary widely and
    by the wrong one hardly: `guess_layout` compares the two, and a note says what it found.

    Args:
        path: the folder of the data, or any above it.
        layout: of the 310 columns: ``channel_major`` (the five bands of FP1, then of FPZ), ``band_major`` (delta of
            every electrode, then theta), or ``auto``: by the data, and `channel_major` where they do not tell.
        window, step: seconds of a record and from record to record.
        sessions, subjects: which ones.

    Raises:
        DataError: a folder or file is missing or damaged; the message names it and the rule.

    Reference:
        Liu et al., IEEE Trans. Cognitive and Developmental Systems 2022.

    Example:
        ``data: {kind: seed_v, path: SEED-V}``
    """

    emotions = EMOTIONS
    smoothed = "the release does not say whether the laboratory smoothed these features, as it does others,"

    def __init__(
        self,
        *,
        path: Annotated[Path, Field(description="the folder of the data, or any above it")],
        layout: Annotated[
            Literal["auto", "channel_major", "band_major"], Field(description="order of the 310 columns")
        ] = "auto",
        window: Window = None,
        step: Step = None,
        sessions: Sessions = None,
        subjects: Subjects = None,
    ) -> None:
        super().__init__(path, window, step, sessions, subjects)
        self.layout = layout

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether SEED-V's folders are in reach."""
        return has_folder(path, [EEG_FOLDER])

    @cached_property
    def folder(self) -> Path:
        """Where the features of EEG lie.

        Raises:
            DataError: there is no such folder; raw recordings are named where they are what is there.
        """
        if has_folder(self.path, ["EEG_raw"]) and not has_folder(self.path, [EEG_FOLDER]):
            raise DataError(
                f"{self.path}: there must be a folder {EEG_FOLDER}; the raw recordings in EEG_raw are not read"
            )
        return the_folder(self.path, EEG_FOLDER)

    def _hop(self) -> float | None:
        return HOP

    def _found(self) -> Iterator[Trial]:
        files = subject_files(self.folder, r"(.+)_(123)\.npz", "1_123.npz")
        shapes: dict[str, list[int]] = {}
        total, windows = np.zeros(COLUMNS), np.zeros(COLUMNS)
        for file in files:
            rows = read_trials(file.path, COLUMNS)
            shapes[file.subject] = [len(rows[trial]) for trial in range(len(rows))]
            for part in rows.values():
                measured = np.isfinite(part)
                total += part.sum(0, where=measured)
                windows += measured.sum(0)
        layout = self._choose(total / np.maximum(windows, 1))
        for file in files:
            yield from self._trials(file, shapes[file.subject], layout)

    def _trials(self, file: SubjectFile, counts: list[int], layout: Layout) -> Iterator[Trial]:
        labels = self._labels(file, counts)
        path = find_below(self.folder.parent, EYE_FOLDER, file.path.name)
        eye = {} if path is None else read_trials(path, len(EYE))
        for trial, count in enumerate(counts):
            session, number = divmod(trial, TRIALS)
            cells = {"eeg": self._cell(file.path, trial, count, CHANNELS, layout)}
            if path is not None:
                cells["eye"] = self._cell(path, trial, len(eye[trial]), EYE, None)
            yield Trial(file.subject, str(session + 1), number + 1, labels[trial], cells)

    def _cell(self, path: Path, trial: int, count: int, channels: tuple[str, ...], layout: Layout | None) -> TrialCell:
        name = f"{path.parent.name}/{path.name}:{trial}"
        return SeedVCell(
            key=f"{name} {layout}",
            where=name,
            name=name,
            path=path,
            rate=1 / HOP,
            channels=channels,
            seconds=count * HOP,
            trial=trial,
            layout=layout,
        )

    def _labels(self, file: SubjectFile, counts: list[int]) -> list[int]:
        """One label a trial, from the file."""
        content, labels = read_pickled(file.path, "label"), []
        for trial, count in enumerate(counts):
            with located(f"{file.path}: label of trial {trial}"):
                values = np.asarray(content.get(trial)) if isinstance(content, dict) else np.zeros(0)
                if values.shape != (count,) or len(set(values.tolist())) != 1 or values[0] not in EMOTIONS:
                    raise DataError(f"must be one of {list(EMOTIONS)}, {count} times")
                labels.append(int(values[0]))
        odd = [trial for trial, label in enumerate(labels) if label != LABELS[trial // TRIALS][trial % TRIALS]]
        if odd:
            self.remarks.append(
                f"{file.path}: the labels of trials {', '.join(map(str, odd))} (of 0 to 44) are not the published ones; "
                "the file's are taken"
            )
        return labels

    def _choose(self, means: Array) -> Layout:
        """The layout that is asked for or found, with a note where the two are at odds or nothing is found."""
        guess = guess_layout(means)
        if self.layout == "auto":
            found = (
                f"found to be {guess} by their band means"
                if guess
                else "taken to be channel_major: the data do not tell"
            )
            self.remarks.append(f"seed_v: the {COLUMNS} columns are {found}; set layout to decide")
            return guess or "channel_major"
        if guess not in (None, self.layout):
            self.remarks.append(f"seed_v: layout is {self.layout}, but the band means say {guess}")
        return self.layout


def unfold(rows: Array, layout: Layout) -> Array:
    """``(window, 310)`` to ``(window, channel, band)``: column 1 is theta of FP1, or delta of FPZ if band-major."""
    if layout == "channel_major":
        return rows.reshape(len(rows), len(CHANNELS), len(BANDS))
    return rows.reshape(len(rows), len(BANDS), len(CHANNELS)).transpose(0, 2, 1)


def guess_layout(means: Array) -> Layout | None:
    """Which layout the means of the 310 columns have, or None where the data do not tell.

    By the right one the means of the five bands vary widely and fall from delta to gamma; by the wrong one each of
    the five groups holds all bands, and their means are nearly equal. It must vary `SURE` times more.
    """
    layouts: tuple[Layout, Layout] = ("channel_major", "band_major")
    bands = {layout: unfold(means[None], layout)[0].mean(0) for layout in layouts}
    variance = {layout: float(values.var()) for layout, values in bands.items()}
    best = max(layouts, key=lambda layout: variance[layout])
    other = min(variance.values())
    return best if variance[best] > SURE * other and bands[best][0] > bands[best][-1] else None


def read_trials(path: Path, columns: int) -> Mapping[int, Array]:
    """The 45 trials of one subject, each ``(window, columns)``.

    Raises:
        DataError: the archive or its pickle is damaged, or trials are missing or of another shape.
    """
    content: Any = read_pickled(path, "data")
    if not isinstance(content, dict) or set(content) != set(range(len(LABELS) * TRIALS)):
        got = f"{len(content)} keys" if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{path}: data must be a dictionary of trials 0 to {len(LABELS) * TRIALS - 1}, but is {got}")
    for trial, rows in content.items():
        if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind not in "iuf":
            raise DataError(f"{path}: trial {trial} must be an array of numbers with two axes, but is not")
        if rows.shape[1] != columns or not len(rows):
            raise DataError(f"{path}: trial {trial} must be (windows, {columns}), but is {rows.shape}")
    return content
