"""Noise that knows nothing of its labels, in the structure of SEED: what any honest evaluation finds nothing in."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Recording
from fusionkit.core.registry import sources
from fusionkit.data.sources.seed import EMOTIONS, LABELS
from fusionkit.data.sources.seed_family import BANDS, CHANNELS, SAMPLE_RATE
from fusionkit.data.sources.source import Cell, Row, SensorColumn, Source, hashed
from fusionkit.data.sources.trial import Cutting, Stretch, rows_of_trial

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality

SENSORS = ("eeg", "features", "vectors")
VERSION = 1  # goes up with any change to the made numbers
LEVEL = 1e-5  # volts
SECONDS = (235, 233, 206, 238, 185, 195, 237, 216, 265, 237, 235, 233, 235, 238, 206)
"""Duration of each of the 15 trials of a session of SEED."""


@dataclass(frozen=True, kw_only=True)
class NoiseCell(Cell):
    """A second of one trial, which is made as a whole when it is loaded."""

    column: str
    seeds: tuple[int, ...]
    seconds: int
    drift: bool

    def _load(self, modality: "Modality") -> Recording:
        generator = np.random.default_rng(np.random.SeedSequence(self.seeds[0], spawn_key=self.seeds[1:]))
        if self.column == "eeg":
            values = LEVEL * generator.standard_normal((len(CHANNELS), round(SAMPLE_RATE * self.seconds)))
            return modality.from_array(values.astype(np.float32), SAMPLE_RATE, CHANNELS)
        values = generator.standard_normal((len(CHANNELS), len(BANDS), self.seconds))
        if self.drift:
            values += generator.standard_normal((*values.shape[:2], 1))
        values, names = values.astype(np.float32), CHANNELS
        if self.column == "vectors":
            names = tuple(f"{channel} {band}" for channel in CHANNELS for band in BANDS)
            values = values.reshape(len(names), self.seconds)
        return modality.from_array(values, 1.0, names)


@sources.register("noise")
class Noise(Source):
    """Make records that say nothing of their labels, with the subjects, sessions, trials and labels of SEED.

    A record is a second of a trial. Columns ``eeg`` (62 electrodes, white noise of 10 microvolts at 200 Hz),
    ``features`` (62 x 5 independent standard normal numbers a second, for a sensor that takes ready-made features) and
    ``vectors`` (the same as 310 channels, for a `signal` sensor); labels ``emotion`` and ``label``, as in SEED. Whatever is trained and evaluated right scores at chance, so that a score above it measures the leak of an
    evaluation, and no skill. With ``drift`` the seconds of a trial share an offset, as smoothing makes them do: a split
    that puts one trial on two sides then scores near 1.

    Raises:
        DataError: a sensor is asked of a column that holds no signal.

    Example:
        ``data: {kind: noise, subjects: 6, scale: 0.02, split: {kind: seed_9_6}}``
    """

    def __init__(
        self,
        *,
        subjects: Annotated[int, Field(ge=1, le=1000, description="how many people")] = 15,
        sessions: Annotated[int, Field(ge=1, le=100, description="sessions of each, 15 trials a session")] = 3,
        scale: Annotated[float, Field(gt=0, le=1, description="share of SEED's trial durations (185 to 265 s)")] = 0.05,
        drift: Annotated[Literal["none", "trial"], Field(description="an offset that all of a trial shares")] = "none",
        seed: Annotated[int, Field(ge=0, description="another seed, other noise")] = 0,
    ) -> None:
        self.subjects, self.sessions, self.drift, self.seed = subjects, sessions, drift, seed
        self.durations = tuple(max(2, round(scale * seconds)) for seconds in SECONDS)
        self._options = [subjects, sessions, scale, drift, seed]

    def columns(self) -> list[str]:
        """Names of rows, sensors and labels."""
        return [*self._records[0][0].labels, *SENSORS]

    def rows(self) -> list[Row]:
        """Every second, trial by trial."""
        return [row for row, _ in self._records]

    def cell(self, row: int, sensor: SensorColumn) -> Cell:
        """One second of a trial; the trial is made when the cell is loaded."""
        where = f"{self.where(row)}, column {sensor.column}"
        if sensor.column not in SENSORS:
            raise DataError(f"{where}: a sensor must be one of {list(SENSORS)}, but {sensor.column!r} is none")
        record, stretch = self._records[row]
        place = int(record.subject), int(record.session), int(record.trial)
        trial = "_".join(map(str, place))
        return NoiseCell(
            key=f"{sensor.column} {trial}",
            where=where,
            name=trial,
            start=stretch.start,
            stop=stretch.stop,
            column=sensor.column,
            seeds=(self.seed, *place, int(sensor.column == "eeg")),
            seconds=self.durations[place[-1] - 1],
            drift=self.drift == "trial",
        )

    def fingerprint(self) -> str:
        """Hash of the options."""
        return hashed(self.kind, VERSION, self._options)

    @cached_property
    def _records(self) -> list[tuple[Row, Stretch]]:
        records: list[tuple[Row, Stretch]] = []
        for subject in range(1, self.subjects + 1):
            for session in range(1, self.sessions + 1):
                for trial, (label, seconds) in enumerate(zip(LABELS, self.durations, strict=True), start=1):
                    stretches = Cutting.of(1.0, None).stretches(seconds)
                    labels = {"emotion": EMOTIONS[label], "label": str(label)}
                    rows = rows_of_trial(str(subject), str(session), str(trial), stretches, labels, whole=False)
                    records += zip(rows, stretches, strict=True)
        return records
