"""SEED: EEG of 15 people who watched 15 film clips in three sessions, raw or as the laboratory's features."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.registry import sources
from fusionkit.data.folders import SubjectFile, find_below, find_folders, has_folder, subject_files, the_folder
from fusionkit.data.matlab import read_array
from fusionkit.data.sources.seed_family import (
    CHANNELS,
    FRONT_BACK,
    LEFT_RIGHT,
    SAMPLE_RATE,
    VOLT,
    MatlabCell,
    SeedFamily,
    Sessions,
    Step,
    Subjects,
    Trial,
    Window,
    matlab_cells,
)

LABELS = (1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0, -1, 0, 1, -1)
"""What the 15 trials of every session show, as published (bcmi.sjtu.edu.cn/~seed/seed.html)."""
EMOTIONS = {-1: "negative", 0: "neutral", 1: "positive"}
_DIFFERENCES = tuple(f"{left}-{right}" for left, right in LEFT_RIGHT)
_RATIOS = tuple(f"{left}/{right}" for left, right in LEFT_RIGHT)
ROWS = {
    "de": CHANNELS,
    "psd": CHANNELS,
    "dasm": _DIFFERENCES,
    "rasm": _RATIOS,
    "asm": _DIFFERENCES + _RATIOS,
    "dcau": tuple(f"{front}-{back}" for front, back in FRONT_BACK),
}
"""What the rows of each feature are called: electrodes, differences of two, ratios of two."""
RAW = "Preprocessed_EEG"
RELEASES = {"ExtractedFeatures": "1s", "ExtractedFeatures_1s": "1s", "ExtractedFeatures_4s": "4s"}
HOP = {"1s": 1.0, "4s": 4.0}


@sources.register("seed")
class Seed(SeedFamily):
    """Read SEED, old download or new: ``Preprocessed_EEG`` or ``ExtractedFeatures`` (``_1s``, ``_4s``).

    The column ``eeg`` is, raw, 62 electrodes in volts at 200 Hz; or a ready-made feature in five bands, for which the
    sensor says ``features: {kind: ready}``. Labels are ``emotion`` (negative, neutral, positive) and ``label`` (-1,
    0, 1), from the folder's ``label.mat``. A session is the rank of a file's date within its subject. Variables are
    found by name and number, never by position. Every trial is one stored recording.

    Args:
        path: the folder of the files, or any above it.
        features: ``raw`` samples, ``de`` (differential entropy), ``psd`` (band power), ``dasm`` and ``rasm`` (left
            minus right, left by right), ``asm`` (both) or ``dcau`` (front minus back).
        smoothing: of the features: ``movingAve`` or ``LDS``. Both look ahead within a trial.
        release: which features: of windows of 1 s or 4 s. Needed where the folder has both.
        window, step: seconds of a record and from record to record.
        sessions, subjects: which ones.

    Raises:
        ConfigError: an option does not go with ``features``.
        DataError: a folder or file is missing or damaged; the message names it and the rule.

    Reference:
        Zheng and Lu, IEEE TAMD 2015; Duan, Zhu, Lu, IEEE EMBS NER 2013.

    Example:
        ``data: {kind: seed, path: SEED, features: de, smoothing: LDS, release: 1s}``
    """

    emotions = EMOTIONS

    def __init__(
        self,
        *,
        path: Annotated[Path, Field(description="the folder of the files, or any above it")],
        features: Annotated[
            Literal["raw", "de", "psd", "dasm", "rasm", "asm", "dcau"], Field(description="what the eeg column holds")
        ] = "raw",
        smoothing: Annotated[
            Literal["movingAve", "LDS"] | None, Field(description="of the features; default: LDS")
        ] = None,
        release: Annotated[
            Literal["1s", "4s"] | None, Field(description="windows of the features; default: the only one there")
        ] = None,
        window: Window = None,
        step: Step = None,
        sessions: Sessions = None,
        subjects: Subjects = None,
    ) -> None:
        super().__init__(path, window, step, sessions, subjects)
        for name, value in (("smoothing", smoothing), ("release", release)):
            if features == "raw" and value is not None:
                raise ConfigError(f"{name} is for ready-made features, but features is raw ({name} is {value})")
        self.features, self.smoothing, self.release = features, smoothing or "LDS", release

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether SEED's folders are in reach."""
        return has_folder(path, [RAW, *RELEASES])

    @classmethod
    def readings(cls, path: Path) -> list[dict[str, Any]]:
        """Raw samples, and the differential entropy of each release."""
        found = [name for name in (RAW, *RELEASES) if has_folder(path, [name])]
        releases = dict.fromkeys(RELEASES[name] for name in found if name != RAW)
        raw: list[dict[str, Any]] = [{"path": path}] if RAW in found else []
        return [*raw, *({"path": path, "features": "de", "release": release} for release in releases)]

    @cached_property
    def folder(self) -> Path:
        """Where the files lie.

        Raises:
            DataError: no such folder, or one for each release and none is asked for.
        """
        if self.features == "raw":
            return the_folder(self.path, RAW)
        wanted = [name for name, release in RELEASES.items() if self.release in (None, release)]
        found = find_folders(self.path, wanted)
        if not found:
            raise DataError(
                f"{self.path}: there must be a folder {' or '.join(wanted)} here or below, but there is none"
            )
        if len({RELEASES[name] for name in found}) > 1:
            raise DataError(f"{self.path}: there are features of 1 s and of 4 s; set release to 1s or 4s")
        return next(iter(found.values()))

    def _hop(self) -> float | None:
        return None if self.features == "raw" else HOP[self._release()]

    def _release(self) -> str:
        return next(release for name, release in RELEASES.items() if name.lower() == self.folder.name.lower())

    def _found(self) -> Iterator[Trial]:
        labels = self._labels()
        files = subject_files(self.folder, r"(.+)_(\d{8})\.mat", "1_20131027.mat", ignored=["label.mat"])
        dates: dict[str, list[str]] = {}
        for file in files:
            dates.setdefault(file.subject, []).append(file.rest)
        counts = {subject: len(mine) for subject, mine in dates.items()}
        fewer = [subject for subject, count in counts.items() if count < max(counts.values())]
        if fewer:
            self.remarks.append(
                f"{self.folder}: subjects {', '.join(fewer)} have fewer files than others; the dates that are there number "
                "their sessions from 1"
            )
        for file in files:
            session = str(dates[file.subject].index(file.rest) + 1)
            for number, cell in self._cells(file).items():
                yield Trial(file.subject, session, number, labels[number - 1], {"eeg": cell})

    def _cells(self, file: SubjectFile) -> Mapping[int, MatlabCell]:
        """The trials of one file by number, in order."""
        if self.features == "raw":
            pattern = r"\w+_eeg_?(\d+)"
            return matlab_cells(file.path, pattern, CHANNELS, SAMPLE_RATE, len(LABELS), bands=False, factor=VOLT)
        pattern = rf"{self.features}_{self.smoothing}(\d+)"
        rate = 1 / HOP[self._release()]
        return matlab_cells(file.path, pattern, ROWS[self.features], rate, len(LABELS), bands=True)

    def _labels(self) -> tuple[int, ...]:
        """The folder's labels; the published ones where it has none."""
        path = find_below(self.folder, "label.mat")
        if path is None:
            self.remarks.append(f"{self.folder}: there is no label.mat; the published labels are taken")
            return LABELS
        values = read_array(path, "label").reshape(-1).tolist()
        if len(values) != len(LABELS) or not set(values) <= set(EMOTIONS):
            raise DataError(f"{path}: label must be {len(LABELS)} numbers of {sorted(EMOTIONS)}, but is {values}")
        labels = tuple(int(value) for value in values)
        odd = [str(n) for n, (one, two) in enumerate(zip(labels, LABELS, strict=True), start=1) if one != two]
        if odd:
            self.remarks.append(
                f"{path}: the labels of trials {', '.join(odd)} are not the published ones; the file's are taken"
            )
        return labels
