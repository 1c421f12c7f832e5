"""A made study of four sensors whose right fusion is known."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array, Recording
from fusionkit.core.registry import sources
from fusionkit.data.sources.source import Cell, Row, SensorColumn, Source, TextCell, hashed
from fusionkit.data.synthetic import SENSORS, Law, Truth, make_audio, make_eeg, make_image, make_text
from fusionkit.data.synthetic import audio as sound
from fusionkit.data.synthetic import eeg as scalp

if TYPE_CHECKING:
    from fusionkit.core.modality import Modality

NAMES = ("id", "subject", "session", "trial")
LABELS = ("target", "intensity", "alert")
VERSION = 1  # goes up with any change to the made numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class MadeCell(Cell):
    """A signal that is made when it is loaded."""

    make: Callable[[], Array]
    sample_rate: float | None = None
    channels: tuple[str, ...] = ()

    def _load(self, modality: "Modality") -> Recording:
        return modality.from_array(self.make(), self.sample_rate, self.channels)


@dataclass(frozen=True)
class Person:
    """What all records of a subject share: gain of its EEG, pitch of its voice, light of its room, habit of its speech."""

    gain: float
    voice: float
    brightness: float
    habit: int


@sources.register("synthetic")
class Synthetic(Source):
    """Make EEG, sound, pictures and sentences that share a label in a known way.

    Columns ``eeg`` (19 electrodes of the 10-20 system, volts, 128 Hz), ``audio`` (16 kHz), ``image`` (32 x 32) and ``text``;
    tasks ``target`` (a class), ``intensity`` (a number, the score behind the class in standard deviations) and
    ``alert`` (yes where that score is above 0.5; labelled in six records of ten). Every record is made from ``seed`` and its
    place alone, so a longer study begins with the shorter one's records. See `fusionkit.data.synthetic.law` for the
    formulas and the best possible accuracy (``Law.best_accuracy``) of any choice of sensors. By default four
    noisy witnesses see one cause: no sensor alone can exceed 0.75, the four together 0.85.

    Raises:
        DataError: a sensor is asked of a column that holds no signal.

    Example:
        ``data: {kind: synthetic, subjects: 12, records: 50, redundant: 1, unique: 0.5, synergy: 0}``
    """

    def __init__(
        self,
        *,
        subjects: Annotated[int, Field(ge=1, le=10_000, description="how many people")] = 12,
        records: Annotated[int, Field(ge=1, le=10_000, description="records of each")] = 50,
        classes: Annotated[int, Field(ge=2, le=10, description="classes of target, equally frequent")] = 2,
        seconds: Annotated[float, Field(ge=0.5, le=60, description="duration of EEG and sound")] = 1.0,
        redundant: Annotated[float, Field(ge=0, le=100, description="weight of the cause every sensor sees")] = 1.0,
        unique: Annotated[float, Field(ge=0, le=100, description="weight of the causes one sensor sees each")] = 0.0,
        synergy: Annotated[
            float, Field(ge=0, le=100, description="weight of the XOR of a bit in EEG and one in sound")
        ] = 0.0,
        noise: Annotated[float, Field(ge=0, le=100, description="deviation of each sensor's own error")] = 1.0,
        missing: Annotated[float, Field(ge=0, lt=1, description="share of records that lack each sensor")] = 0.1,
        seed: Annotated[int, Field(ge=0, description="another seed, another study")] = 0,
    ) -> None:
        self.subjects, self.records, self.duration, self.missing, self.seed = subjects, records, seconds, missing, seed
        self.law = Law(classes, redundant=redundant, unique=unique, synergy=synergy, noise=noise)
        self._options = [subjects, records, classes, seconds, redundant, unique, synergy, noise, missing, seed]

    def columns(self) -> list[str]:
        """Names of rows, sensors and tasks."""
        return [*NAMES, *SENSORS, *LABELS]

    def rows(self) -> list[Row]:
        """Every record, subject by subject."""
        return [self._row(row) for row in range(self.subjects * self.records)]

    def truth(self, row: int) -> Truth:
        """What is behind a record: its score and class, and what each sensor sees."""
        return self.law.draw(self._generator(row, "truth"))

    def present(self, row: int, sensor: str) -> bool:
        """Whether a record has a sensor; every record has at least one."""
        chances = self._generator(row, "missing").random(len(SENSORS))
        here = (chances >= self.missing) | (chances == chances.max())
        return bool(here[SENSORS.index(sensor)])

    def cell(self, row: int, sensor: SensorColumn) -> Cell | None:
        """One sensor of one record; signals are made when the cell is loaded."""
        column = sensor.column
        where = f"{self.where(row)}, column {column}"
        if column not in SENSORS:
            raise DataError(f"{where}: a sensor must be one of {list(SENSORS)}, but {column!r} is a label")
        if not self.present(row, column):
            return None
        name = self._names(row)["id"]
        key = f"{column} {name}"
        if column == "text":
            return TextCell(key=key, where=where, name=name, text=self._sentence(row))
        made: dict[str, tuple[Callable[[], Array], float | None, tuple[str, ...]]] = {
            "eeg": (lambda: self._eeg(row), scalp.SAMPLE_RATE, scalp.CHANNELS),
            "audio": (lambda: self._audio(row), sound.SAMPLE_RATE, ()),
            "image": (lambda: self._image(row), None, ()),
        }
        make, sample_rate, channels = made[column]
        return MadeCell(key=key, where=where, name=name, make=make, sample_rate=sample_rate, channels=channels)

    def fingerprint(self) -> str:
        """Hash of the options."""
        return hashed(self.kind, VERSION, self._options)

    def _names(self, row: int) -> dict[str, str]:
        subject, record = divmod(row, self.records)
        session = 1 + (2 * record >= self.records)
        names = {"subject": f"s{subject + 1:02d}", "session": str(session), "trial": f"{record + 1:02d}"}
        return {"id": f"{names['subject']}_{names['trial']}", **names}

    def _row(self, row: int) -> Row:
        names, truth = self._names(row), self.truth(row)
        labelled = self._generator(row, "labels").random() < 0.6
        labels: dict[str, str | None] = {
            **names,
            "text": self._sentence(row) if self.present(row, "text") else None,
            "target": f"level_{truth.target}",
            "intensity": f"{truth.score:.4f}",
            "alert": ("no", "yes")[truth.score > 0.5] if labelled else None,
        }
        return Row(**names, recording=names["id"], labels=labels)

    def _generator(self, row: int, what: str) -> np.random.Generator:
        """Random numbers of a record's part, the same whatever else is made."""
        part = ("truth", "missing", "labels", *SENSORS).index(what)
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(1, *divmod(row, self.records), part)))

    @cached_property
    def _people(self) -> list[Person]:
        people = []
        for subject in range(self.subjects):
            generator = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(0, subject)))
            gain, voice, light = generator.standard_normal(3) * [0.2, 0.1, 0.05]
            people.append(Person(float(np.exp(gain)), float(voice), float(1 + light), int(generator.integers(5))))
        return people

    def _eeg(self, row: int) -> Array:
        person, cues = self._people[row // self.records], self.truth(row).cues["eeg"]
        return make_eeg(cues, person.gain, self.duration, self._generator(row, "eeg"))

    def _audio(self, row: int) -> Array:
        person, cues = self._people[row // self.records], self.truth(row).cues["audio"]
        return make_audio(cues, person.voice, self.duration, self._generator(row, "audio"))

    def _image(self, row: int) -> Array:
        person, cues = self._people[row // self.records], self.truth(row).cues["image"]
        return make_image(cues, person.brightness, self._generator(row, "image"))

    def _sentence(self, row: int) -> str:
        person, cues = self._people[row // self.records], self.truth(row).cues["text"]
        return make_text(cues, person.habit, self._generator(row, "text"))
