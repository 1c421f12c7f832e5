"""A session that keeps the windows it is asked about, for streams of made-up sensors."""

from types import SimpleNamespace

import numpy as np
import pytest

from fusionkit.runtime.filters import Chain
from fusionkit.runtime.manifest import Normalise, Sensor, SensorWindow, Source, StoredSensor, Task, WindowClock


def sensor(rate, samples, channels=2, *, chain=(), layout="channel, time", lacks=True, shape=None, align=None, **more):
    """What a manifest says of a made-up sensor; ``rate`` is that of its windows."""
    names = () if layout == "time" else tuple(str(n) for n in range(channels))
    if shape is None:
        shape = (None,) if layout in ("time", "token") else (channels, None)
    ratio = float(Chain(list(chain)).ratio)
    return Sensor(
        kind="made_up", layout=layout, shape=shape, dtype="int64" if layout == "token" else "float32", longest=samples,
        sample_rate=rate, channels=names, unit="V", align=align, normalise=Normalise("none"), statistics=None,
        chain=tuple(chain), stored=StoredSensor(rate, names, "V", (channels,), "<f4", samples),
        window=SensorWindow(samples, None if rate is None else samples / rate),
        stream=Source(None if rate is None else rate / ratio, names, "V"), lacks=lacks, **more,
    )  # fmt: skip


class Echo:
    """Answers with two probabilities that depend on all it was given, and keeps that."""

    def __init__(self, sensors, step=None, kind="classification", classes=("calm", "tense")):
        self.sensors = sensors
        self.tasks = {"state": Task(kind, classes, "probabilities", {})}
        seconds = max((one.window.seconds for one in sensors.values() if one.window.seconds), default=None)
        self.manifest = SimpleNamespace(window=WindowClock(seconds, step), sensors=sensors, tasks=self.tasks)
        self.files = {}
        self.seen = []
        self.says = None

    def chain(self, name, *, bank=True):
        steps = self.sensors[name].chain
        return Chain([step for step in steps if bank or step["step"] != "bank"])

    def wearer(self):
        return None

    def predict(self, windows, **options):
        self.seen.append(
            {name: np.array(value) if not isinstance(value, str) else value for name, value in windows.items()}
        )
        yes = 0.25 if self.says is None else self.says.pop(0)
        return {"state": np.array([[1 - yes, yes]])}


@pytest.fixture
def echo():
    """Make one, of sensors by name."""
    return lambda step=None, **sensors: Echo(sensors, step)


@pytest.fixture
def made():
    """Describe a made-up sensor."""
    return sensor
