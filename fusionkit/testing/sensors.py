"""The case of a sensor's front end, and the checks that only sensors have."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fusionkit.core.errors import ConfigError, DataError, FusionkitError
from fusionkit.core.levels import Window
from fusionkit.core.modality import FrontEnd, Modality
from fusionkit.core.recording import Array, Recording, Stored
from fusionkit.core.registry import check_options
from fusionkit.testing.case import ROWS, Answer, Case
from fusionkit.testing.result import CheckFailed, NotApplicable, require
from fusionkit.testing.streams import Streams, everywhere, is_image

WORDS = ("calm", "loud", "the", "signal", "rises", "and", "falls", "again")
ELECTRODES = ("Fz", "Cz", "Pz", "Oz")


def picture(generator: np.random.Generator, share: float) -> tuple[Array, float | None, tuple[str, ...]]:
    """A small image."""
    return generator.integers(256, size=(3, 32, 32), dtype=np.uint8), None, ()


def series(generator: np.random.Generator, share: float) -> tuple[Array, float | None, tuple[str, ...]]:
    """Microvolts on four electrodes."""
    values = 1e-5 * generator.standard_normal((4, round(1024 * share)))
    return values.astype(np.float32), 256.0, ELECTRODES


def sound(generator: np.random.Generator, share: float) -> tuple[Array, float | None, tuple[str, ...]]:
    """Half a second of noise."""
    return 0.1 * generator.standard_normal(round(8000 * share)).astype(np.float32), 16000.0, ()


def banded(generator: np.random.Generator, share: float) -> tuple[Array, float | None, tuple[str, ...]]:
    """Features of five bands on four electrodes, one a second."""
    return generator.standard_normal((4, 5, round(16 * share))).astype(np.float32), 1.0, ELECTRODES


class Sensor:
    """A modality with options, and recordings of it from made arrays or sentences."""

    label = ""

    def __init__(self, cls: type[Modality], options: Mapping[str, Any]) -> None:
        self.cls, self.options = cls, check_options(cls, options, getattr(cls, "kind", cls.__name__))
        self.exempt: Mapping[str, str] = getattr(cls, "exempt", {})
        self._make = self._find()

    def build(self) -> Modality:
        """A modality that has seen nothing yet."""
        return self.cls(**self.options)

    def recording(self, modality: Modality, seed: int, share: float = 1.0) -> Recording:
        """A made recording; ``share`` of the longest in duration."""
        generator = np.random.default_rng(seed)
        if self._make is None:
            return modality.from_cell(" ".join(generator.choice(WORDS, size=round(12 * share))))
        values, sample_rate, channels = self._make(generator, share)
        return modality.from_array(values, sample_rate, channels)

    def window(self, modality: Modality, stored: Stored, recording: Recording) -> Array:
        """All of a recording as one window, after what must see it whole."""
        whole = modality.whole(stored)
        return modality.window(recording.values if whole is None else whole(recording.values))

    def _find(self) -> Callable[..., tuple[Array, float | None, tuple[str, ...]]] | None:
        modality = self.build()
        if modality.in_cells:
            return None
        refusals = []
        for make in (picture, series, sound, banded):
            try:
                modality.from_array(*make(np.random.default_rng(0), 1.0))
            except FusionkitError as error:
                refusals.append(str(error))
            else:
                return make
        raise ConfigError(f"{self.cls.__name__} must take one of the made signals, but refuses all: {refusals}")

    def ready(self, count: int = ROWS, seed: int = 0) -> tuple[Modality, list[Recording], Stored]:
        """A modality fitted where it must be, recordings of different lengths, and what a study would say of them."""
        modality = self.build()
        shares = [1 - row % 3 / 8 for row in range(count)]
        recordings = [self.recording(modality, seed * 100 + row, share) for row, share in enumerate(shares)]
        first = recordings[0]
        stored = Stored(
            first.sample_rate, first.channels, first.unit, first.values.shape[1:], str(first.values.dtype),
            max(len(recording.values) for recording in recordings),
        )  # fmt: skip
        if modality.fitted:
            every = [self.recording(modality, row).values for row in range(50)]
            modality.fit(every, np.random.default_rng(0))
        return modality, recordings, stored


class FrontEndCase(Case):
    """A sensor's front end over windows."""

    hides = False
    half = False
    growth = 300

    def __init__(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self.label = "front end"
        self.exempt = sensor.exempt
        self.modality, self.recordings, self.stored = sensor.ready()
        self.lengths = not is_image(torch.from_numpy(self._window(self.recordings[0]))[None])
        if self._window(self.recordings[0]).dtype.kind == "i":
            self.growth = 5

    def _window(self, recording: Recording) -> Array:
        return self.sensor.window(self.modality, self.stored, recording)

    def make(self) -> nn.Module:
        return self.modality.front_end(self.stored)

    def inputs(self, rows: int = ROWS, steps: int = 6, seed: int = 0, unequal: bool = False) -> Streams:
        shares = [1 - row % 3 / 8 for row in range(rows)]
        recordings = [self.sensor.recording(self.modality, seed * 100 + row, s) for row, s in enumerate(shares)]
        windows = [self._window(recording) for recording in recordings]
        longest = max(window.shape[-1] for window in windows)
        padded = [np.pad(w, [(0, 0)] * (w.ndim - 1) + [(0, longest - w.shape[-1])]) for w in windows]
        length = torch.tensor([window.shape[-1] for window in windows])
        return {"window": Window(torch.from_numpy(np.stack(padded)), length, everywhere(rows))}

    def answer(self, module: nn.Module, inputs: Streams) -> Answer:
        window = inputs["window"]
        assert isinstance(window, Window)
        values, mask = module(window.values, window.length)
        return Answer({"values": values}, {"values": mask})

    def contract(self, module: nn.Module, inputs: Streams, answer: Answer) -> None:
        assert isinstance(module, FrontEnd)
        shape, values, mask = module.shape, answer.rows["values"], answer.masks["values"]
        rows = len(inputs["window"].values)
        require(
            values.ndim == 4 and len(values) == rows,
            f"features must be ({rows}, time, channel, subchannel), but are {[*values.shape]}",
        )
        wanted = (shape.channel, shape.subchannel)
        require(
            tuple(values.shape[2:]) == wanted, f"shape says {wanted}, but the features are {tuple(values.shape[2:])}"
        )
        require(
            shape.steps in (None, values.shape[1]), f"shape says {shape.steps} steps, but there are {values.shape[1]}"
        )
        require(mask.dtype == torch.bool and mask.shape == values.shape[:2], f"mask must be bool {[*values.shape[:2]]}")
        require(bool(mask.any(1).all()), "every made window must hold a whole step, but some hold none")
        times = module.times(values.shape[1])
        require((times is not None) == shape.timed, f"shape says timed={shape.timed}, but times are {times}")
        trains = any(parameter.requires_grad for parameter in module.parameters())
        require(
            trains == shape.trains, f"shape says trains={shape.trains}, but it has {'' if trains else 'no '}parameters"
        )
        if times is not None and self.stored.seconds is not None:
            require(len(times) == values.shape[1], f"there must be {values.shape[1]} times, but there are {len(times)}")
            require(bool((times.diff() > 0).all()) and float(times[0]) >= 0, "times must rise from 0 on, but do not")


def recording_contract(sensor: Sensor, modality: Modality) -> None:
    """A recording is time or item first, of a plain number type, and the same again."""
    first, again = sensor.recording(modality, 0), sensor.recording(modality, 0)
    require(np.array_equal(first.values, again.values), "the same array must give the same recording, but does not")
    require(first.values.dtype.kind in "fiu", f"a recording must hold numbers, but holds {first.values.dtype}")
    other = sensor.recording(modality, 1, 0.5)
    require(first.values.shape[1:] == other.values.shape[1:], "recordings must share their item's shape, but do not")
    require(first.channels == other.channels and first.unit == other.unit, "recordings must share channels and unit")


def window_contract(sensor: Sensor, modality: Modality) -> None:
    """A window can be made of any stored slice, and does not change what is stored."""
    modality, recordings, stored = sensor.ready()
    for recording in recordings:
        before = recording.values.copy()
        window = sensor.window(modality, stored, recording)
        require(
            np.array_equal(before, recording.values), "a window must leave the stored values alone, but changes them"
        )
        require(
            window.dtype.kind == "f" or window.dtype == np.int64,
            f"a window must be float or int64, but is {window.dtype}",
        )
    try:
        shape = modality.window_shape(stored)
    except DataError:
        return
    found = sensor.window(modality, stored, recordings[0]).shape
    require(tuple(shape) == found, f"window_shape says {tuple(shape)}, but the longest window is {found}")


def fitted_round_trip(sensor: Sensor, modality: Modality) -> None:
    """What was fitted comes back from its files, and fitting is the same from the same generator."""
    if not modality.fitted:
        raise NotApplicable("it fits nothing")
    fitted, recordings, stored = sensor.ready()
    modality.restore(fitted.files())
    again, _, _ = sensor.ready()
    require(dict(again.files()) == dict(fitted.files()), "fitted twice from one seed, its files must agree, but differ")
    for recording in recordings:
        wanted = fitted.window(recording.values)
        require(np.array_equal(modality.window(recording.values), wanted), "restored, it must make the same windows")
    shapes = modality.front_end(stored).shape, fitted.front_end(stored).shape
    require(shapes[0] == shapes[1], f"restored, its features must be {shapes[1]}, but are {shapes[0]}")


def refuses_bad_files(sensor: Sensor, modality: Modality) -> None:
    """A missing, an empty and a foreign file are each refused by a DataError that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in sorted(modality.suffixes):
            for what, content in (("missing", None), ("empty", b""), ("foreign", b"\x80\x81\xc3")):
                path = Path(folder) / f"{what}{suffix}"
                if content is not None:
                    path.write_bytes(content)
                try:
                    modality.read(path)
                except DataError as error:
                    require(path.name in str(error), f"the error must name {path.name}, but says {error}")
                except Exception as error:  # noqa: BLE001 - any other is the very failure looked for
                    raise CheckFailed(
                        f"{path.name} must raise a DataError, but raises {type(error).__name__}"
                    ) from None
                else:
                    raise CheckFailed(f"{path.name} must raise a DataError, but is read")


CHECKS: dict[Callable[[Sensor, Modality], None], tuple[str, ...]] = {
    recording_contract: (),
    window_contract: ("recording_contract",),
    fitted_round_trip: ("window_contract",),
    refuses_bad_files: (),
}
