"""SEED-IV: EEG and eye movement of 15 people, 24 film clips a session, four emotions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.registry import sources
from fusionkit.data.folders import SubjectFile, find_below, has_folder, subject_files, the_folder
from fusionkit.data.sources.seed_family import (
    CHANNELS,
    SAMPLE_RATE,
    VOLT,
    MatlabCell,
    SeedFamily,
    Sessions,
    Step,
    Subjects,
    Trial,
    TrialCell,
    Window,
    matlab_cells,
)

LABELS = {
    "1": (1, 2, 3, 0, 2, 0, 0, 1, 0, 1, 2, 1, 1, 1, 2, 3, 2, 2, 3, 3, 0, 3, 0, 3),
    "2": (2, 1, 3, 0, 0, 2, 0, 2, 3, 3, 2, 3, 2, 0, 1, 1, 2, 1, 0, 3, 0, 1, 3, 1),
    "3": (1, 2, 2, 1, 3, 3, 3, 1, 1, 2, 1, 0, 2, 3, 3, 0, 2, 3, 0, 0, 2, 0, 1, 0),
}
"""What the trials of each session show, as published with the data (ReadMe.txt, bcmi.sjtu.edu.cn/~seed/seed-iv.html)."""
EMOTIONS = {0: "neutral", 1: "sad", 2: "fear", 3: "happy"}
RAW, SMOOTH, EYE_SMOOTH = "eeg_raw_data", "eeg_feature_smooth", "eye_feature_smooth"
HOP = 4.0
EYE_ROWS = tuple(map(str, range(1, 32)))
"""The 31 eye movement features, numbered: their order is not published."""


@sources.register("seed_iv")
class SeedIV(SeedFamily):
    """Read SEED-IV: ``eeg_raw_data`` or ``eeg_feature_smooth``, and ``eye_feature_smooth`` beside it.

    The column ``eeg`` is, raw, 62 electrodes in volts at 200 Hz; or a ready-made feature of 4-s windows in five
    bands, for which the sensor says ``features: {kind: ready}``. The column ``eye``, for a ``signal`` sensor, is 31
    numbers every 4 s; a subject may lack it. Labels are ``emotion`` and ``label`` (0 neutral, 1 sad, 2 fear, 3
    happy), which come from no file but from the published table. A session is its folder, 1 to 3.

    Args:
        path: the folder of the data, or any above it.
        features: ``raw`` samples, ``de`` (differential entropy) or ``psd`` (band power).
        smoothing: of the features: ``movingAve`` or ``LDS``. Both look ahead within a trial.
        window, step: seconds of a record and from record to record.
        sessions, subjects: which ones.

    Raises:
        ConfigError: an option does not go with ``features``.
        DataError: a folder or file is missing or damaged; the message names it and the rule.

    Reference:
        Zheng et al., IEEE Trans. Cybernetics 2019.

    Example:
        ``data: {kind: seed_iv, path: SEED_IV, features: de, smoothing: LDS}``
    """

    emotions = EMOTIONS

    def __init__(
        self,
        *,
        path: Annotated[Path, Field(description="the folder of the data, or any above it")],
        features: Annotated[Literal["raw", "de", "psd"], Field(description="what the eeg column holds")] = "raw",
        smoothing: Annotated[
            Literal["movingAve", "LDS"] | None, Field(description="of the features; default: LDS")
        ] = None,
        window: Window = None,
        step: Step = None,
        sessions: Sessions = None,
        subjects: Subjects = None,
    ) -> None:
        super().__init__(path, window, step, sessions, subjects)
        if features == "raw" and smoothing is not None:
            raise ConfigError(f"smoothing is for ready-made features, but features is raw (smoothing is {smoothing})")
        self.features, self.smoothing = features, smoothing or "LDS"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether SEED-IV's folders are in reach."""
        return has_folder(path, [RAW, SMOOTH])

    @classmethod
    def readings(cls, path: Path) -> list[dict[str, Any]]:
        """Raw samples, and differential entropy."""
        forms: dict[str, dict[str, Any]] = {RAW: {"path": path}, SMOOTH: {"path": path, "features": "de"}}
        return [options for name, options in forms.items() if has_folder(path, [name])]

    def _hop(self) -> float | None:
        return None if self.features == "raw" else HOP

    def _found(self) -> Iterator[Trial]:
        folder = the_folder(self.path, RAW if self.features == "raw" else SMOOTH)
        sessions = [name for name in LABELS if (folder / name).is_dir()]
        if not sessions:
            raise DataError(f"{folder}: there must be folders 1, 2 and 3, one a session, but there is none")
        files = [
            (session, file)
            for session in sessions
            for file in subject_files(folder / session, r"(.+)_(\d{8})\.mat", "1_20160518.mat")
        ]
        order = list(dict.fromkeys(file.subject for _, file in files))
        for session, file in sorted(files, key=lambda item: order.index(item[1].subject)):
            eeg, eye = self._eeg(file), self._eye(folder.parent, session, file)
            for number, label in enumerate(LABELS[session], start=1):
                cells: dict[str, TrialCell] = {"eeg": eeg[number]}
                if eye is not None:
                    cells["eye"] = eye[number]
                yield Trial(file.subject, session, number, label, cells)

    def _eeg(self, file: SubjectFile) -> dict[int, MatlabCell]:
        if self.features == "raw":
            return matlab_cells(file.path, r"\w+_eeg_?(\d+)", CHANNELS, SAMPLE_RATE, 24, bands=False, factor=VOLT)
        return matlab_cells(file.path, rf"{self.features}_{self.smoothing}(\d+)", CHANNELS, 1 / HOP, 24, bands=True)

    def _eye(self, parent: Path, session: str, file: SubjectFile) -> dict[int, MatlabCell] | None:
        path = find_below(parent, EYE_SMOOTH, session, file.path.name)
        return None if path is None else matlab_cells(path, r"eye_(\d+)", EYE_ROWS, 1 / HOP, 24, bands=False)
