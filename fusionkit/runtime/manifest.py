"""What a manifest says: every key there is, checked. ``docs/bundle.md`` says it in words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fusionkit.runtime import checks
from fusionkit.runtime.errors import BundleError

FORMAT = "fusionkit-bundle"
VERSION = 2
OPSETS = (18, 26)
DTYPES = ("float32", "int64")
LAYOUTS = {"time": 1, "token": 1, "channel, time": 2, "channel, band, time": 3, "3, height, width": 3}
OUTCOMES = ("probabilities", "value")
MOST_NUMBERS = 2**27
"""Numbers of one window, at most: half a gigabyte."""

_RATE = checks.number(0, 1e9, above=True)
_SECONDS = checks.number(0, 1e9, above=True)
_SPAN = checks.several(checks.number(-1e12), least=2, most=2)


@dataclass(frozen=True)
class WindowClock:
    """When decisions are made.

    Attributes:
        seconds: of the longest window of any sensor with time; None where no sensor has time.
        step: seconds from one decision to the next; likewise.
    """

    seconds: Annotated[float | None, checks.maybe(_SECONDS)]
    step: Annotated[float | None, checks.maybe(_SECONDS)]


@dataclass(frozen=True)
class SensorWindow:
    """Windows that a sensor was trained on.

    Attributes:
        samples: of the longest; of a text, the most tokens.
        seconds: they last; None without a rate.
    """

    samples: Annotated[int, checks.whole(1, MOST_NUMBERS)]
    seconds: Annotated[float | None, checks.maybe(_SECONDS)]


@dataclass(frozen=True)
class Source:
    """What a stream must deliver, before `Sensor.chain`.

    Attributes:
        sample_rate: hertz; None for what has no time.
        channels: names in their order; none for a single signal.
        unit: of the samples.
    """

    sample_rate: Annotated[float | None, checks.maybe(_RATE)]
    channels: Annotated[tuple[str, ...], checks.several(checks.text)]
    unit: Annotated[str, checks.text]


@dataclass(frozen=True)
class Align:
    """How windows are aligned before they are given (see `fusionkit.runtime.alignment`).

    Attributes:
        kind: ``euclidean``.
        over: whose windows are aligned together, ``subject`` (default) or ``recording``.
        seconds: of the calibration segment; None: over all records, which no stream can do.
        recording: pattern of the name of the recording that holds the segment.
        samples: of the windows that the segment is cut into.
        scale: spread of an aligned channel.
    """

    kind: Annotated[str, checks.one_of("euclidean")]
    over: Annotated[str | None, checks.maybe(checks.one_of("subject", "recording"))]
    seconds: Annotated[float | None, checks.maybe(_SECONDS)]
    recording: Annotated[str | None, checks.maybe(checks.text)]
    samples: Annotated[int, checks.whole(1, MOST_NUMBERS)]
    scale: Annotated[float, checks.number(0, above=True)]


@dataclass(frozen=True)
class Normalise:
    """Where the statistics of a sensor's features come from, as the recipe says.

    Attributes:
        kind: ``none`` and ``training``: the graph needs nothing; ``subject``, ``recording``, ``calibration``: shift
            and scale are inputs of the graph.
        seconds: ``calibration``: length of the segment.
        recording: ``calibration``: pattern of its recording's name.
        over: ``calibration``: who has a segment, ``subject`` (default) or ``recording``.
        update: ``calibration``: whether statistics go on with every window.
    """

    kind: Annotated[str, checks.one_of("none", "training", "recording", "subject", "calibration")]
    seconds: Annotated[float | None, checks.maybe(_SECONDS)] = None
    recording: Annotated[str | None, checks.maybe(checks.text)] = None
    over: Annotated[str | None, checks.maybe(checks.one_of("subject", "recording"))] = None
    update: Annotated[bool | None, checks.maybe(checks.truth)] = None


@dataclass(frozen=True)
class StoredSensor:
    """What the study knew of the sensor: for reading other data with the bundle's recipe, which the runtime does not.

    Attributes:
        sample_rate: hertz, or None.
        channels: their names.
        unit: of the samples.
        item: shape of one sample.
        dtype: of the stored samples.
        longest: stored samples (text: bytes) of the longest window.
    """

    sample_rate: Annotated[float | None, checks.maybe(_RATE)]
    channels: Annotated[tuple[str, ...], checks.several(checks.text)]
    unit: Annotated[str, checks.text]
    item: Annotated[tuple[int, ...], checks.several(checks.whole(1, MOST_NUMBERS), most=8)]
    dtype: Annotated[str, checks.dtype]
    longest: Annotated[int, checks.whole(1)]


@dataclass(frozen=True)
class Sensor:
    """One sensor: what windows the graph takes of it, and what makes them.

    Attributes:
        kind: of the sensor, as in the recipe.
        layout: names of a window's axes.
        shape: of a window; None where it may vary.
        dtype: of a window, ``float32`` or ``int64`` (token ids).
        longest: stored samples (text: bytes) of the longest window it was trained on.
        sample_rate: of windows, hertz; None for what has no time.
        channels: of windows, in order.
        unit: of the samples, ``V`` for volts.
        align: what is done to windows before they are given, or None.
        normalise: where statistics come from.
        statistics: channels and subchannels of ``shift`` and ``scale``, or None where the graph takes none.
        chain: causal steps from a stream to windows (see `fusionkit.runtime.filters.Chain`); None where a stream
            cannot have what the recordings had.
        stored: what the study knew of it.
        window: how long its windows were in training.
        stream: what a stream must deliver; None where it cannot stream.
        limits: least and greatest number of a window (ids of a vocabulary, pixels); None where there is no bound.
        lacks: whether a channel may be NaN, which says that it was not measured.
    """

    kind: Annotated[str, checks.name]
    layout: Annotated[str, checks.one_of(*LAYOUTS)]
    shape: Annotated[
        tuple[int | None, ...], checks.several(checks.maybe(checks.whole(1, MOST_NUMBERS)), least=1, most=3)
    ]
    dtype: Annotated[str, checks.one_of(*DTYPES)]
    longest: Annotated[int, checks.whole(1)]
    sample_rate: Annotated[float | None, checks.maybe(_RATE)]
    channels: Annotated[tuple[str, ...], checks.several(checks.text)]
    unit: Annotated[str, checks.text]
    align: Annotated[Align | None, checks.maybe(checks.of(Align))]
    normalise: Annotated[Normalise, checks.of(Normalise)]
    statistics: Annotated[tuple[int, int] | None, checks.maybe(checks.several(checks.whole(1, 2**24), least=2, most=2))]
    chain: Annotated[tuple[Mapping[str, Any], ...] | None, checks.maybe(checks.several(checks.plain, most=100))]
    stored: Annotated[StoredSensor, checks.of(StoredSensor)]
    window: Annotated[SensorWindow | None, checks.maybe(checks.of(SensorWindow))] = None
    stream: Annotated[Source | None, checks.maybe(checks.of(Source))] = None
    limits: Annotated[tuple[float, float] | None, checks.maybe(_SPAN)] = None
    lacks: Annotated[bool, checks.truth] = False


@dataclass(frozen=True)
class Task:
    """One question that the graph answers.

    Attributes:
        kind: of the task, as in the recipe.
        classes: in the order of the answer's columns; none for a value.
        outcome: ``probabilities`` or ``value``.
        state: what the task took from training data: for scoring other data, which the runtime does not.
        temperature: divides logarithms of probabilities; None where the run had no calibration groups.
        conformal: largest strangeness, 1 less the (calibrated) probability, of a class in a set, by coverage ("0.9");
            None where calibration records were too few, and every set has all classes.
    """

    kind: Annotated[str, checks.name]
    classes: Annotated[tuple[str, ...], checks.several(checks.text)]
    outcome: Annotated[str, checks.one_of(*OUTCOMES)]
    state: Annotated[Mapping[str, Any], checks.plain]
    temperature: Annotated[float | None, checks.maybe(checks.number(0, 1e6, above=True))] = None
    conformal: Annotated[
        Mapping[str, float | None], checks.by(checks.name, checks.maybe(checks.number(0, 1)), most=100)
    ] = field(default_factory=dict)


@dataclass(frozen=True)
class StepSensor:
    """What a step takes of one sensor.

    Attributes:
        samples: of a step, new ones alone; None of a sensor without time, whose vector ``held/<sensor>.onnx`` makes of a
            window and whoever runs the graph holds.
        shape: of what the graph takes, without batch: a window of so many samples, or the vector.
    """

    samples: Annotated[int | None, checks.maybe(checks.whole(1, MOST_NUMBERS))]
    shape: Annotated[tuple[int, ...], checks.several(checks.whole(1, MOST_NUMBERS), least=1, most=3)]


@dataclass(frozen=True)
class StepState:
    """A tensor that a step gives to the next one.

    Attributes:
        input: name that the graph takes it by.
        output: name that the graph gives it by.
        shape: None where the batch lies.
        dtype: ``float32``, ``int64`` or ``bool``.
        initial: what it is before the first step: ``zeros``, which of ``bool`` is false.
    """

    input: Annotated[str, checks.name]
    output: Annotated[str, checks.name]
    shape: Annotated[tuple[int | None, ...], checks.several(checks.maybe(checks.whole(1, MOST_NUMBERS)), most=8)]
    dtype: Annotated[str, checks.one_of("float32", "int64", "bool")]
    initial: Annotated[str, checks.one_of("zeros")]


@dataclass(frozen=True)
class StepGraph:
    """How ``step.onnx`` goes on step by step; its outputs are the tasks and the new state.

    Attributes:
        seconds: of a step.
        steps: how many are remembered, itself among them.
        sensors: by name, as all sensors.
        inputs: names of all inputs but the state: per sensor what ``shape`` says, ``<sensor>_present`` and, of one with
            statistics and time, ``<sensor>_shift`` and ``<sensor>_scale``.
        state: what goes from step to step.
        largest: difference from torch where the bundle was made.
        cases: how many answers were compared.
        step_ms: median milliseconds of a step on one thread, where the bundle was made.
        window_ms: of a whole window, likewise.
    """

    seconds: Annotated[float, _SECONDS]
    steps: Annotated[int, checks.whole(1, 10**6)]
    sensors: Annotated[Mapping[str, StepSensor], checks.by(checks.name, checks.of(StepSensor), least=1, most=1000)]
    inputs: Annotated[tuple[str, ...], checks.several(checks.name, least=1)]
    state: Annotated[tuple[StepState, ...], checks.several(checks.of(StepState), least=1, most=10_000)]
    largest: Annotated[float | None, checks.maybe(checks.number(0))] = None
    cases: Annotated[int | None, checks.maybe(checks.whole(0))] = None
    step_ms: Annotated[float | None, checks.maybe(checks.number(0))] = None
    window_ms: Annotated[float | None, checks.maybe(checks.number(0))] = None


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one window's prediction on one thread, where the bundle was made.

    Attributes:
        p50: half of predictions take no longer.
        p99: 99 in 100 take no longer.
    """

    p50: Annotated[float, checks.number(0)]
    p99: Annotated[float, checks.number(0)]


@dataclass(frozen=True)
class HeldOut:
    """Which records of its own data a model never saw: the test part of a fold, as the recipe divides them.

    Attributes:
        fold: number of the fold.
        split: digest of the whole division, so that records are known again and none need be named.
    """

    fold: Annotated[int, checks.whole(0)]
    split: Annotated[str, checks.digest]


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself.

    Attributes:
        format: ``fusionkit-bundle``.
        version: of the format.
        name: of the recipe.
        sensors: by name, in the order of the graph's inputs.
        tasks: by name, in the order of the graph's outputs.
        inputs: names of the graph's inputs.
        opset: version of the ONNX operators.
        versions: of the packages that made it, by name.
        sha256: of every other file, by name.
        window: when decisions are made.
        quantised: what was made of the weights and what it cost; None where they are float32.
        step_graph: what ``step.onnx`` takes and gives, which goes on step by step; None where there is none.
        macs: multiplications with additions of one window.
        parameters: trained numbers of the model.
        latency_ms: as measured where the bundle was made.
        adapted: what it was fitted to a wearer with, whose ``wearer.npz`` it then has; None where to nobody.
        trained_on: digest of the signals that it was made from, by sensor, lest they be scored as if they were new.
        held_out: which of those may be scored nevertheless; None where nobody knows.
    """

    format: Annotated[str, checks.one_of(FORMAT)]
    version: Annotated[int, checks.one_of(VERSION)]
    name: Annotated[str, checks.name]
    sensors: Annotated[Mapping[str, Sensor], checks.by(checks.name, checks.of(Sensor), least=1, most=1000)]
    tasks: Annotated[Mapping[str, Task], checks.by(checks.name, checks.of(Task), least=1, most=1000)]
    inputs: Annotated[tuple[str, ...], checks.several(checks.name, least=1)]
    opset: Annotated[int, checks.whole(*OPSETS)]
    versions: Annotated[Mapping[str, str], checks.by(checks.name, checks.name, most=100)]
    sha256: Annotated[Mapping[str, str], checks.by(checks.name, checks.digest)] = field(default_factory=dict)
    window: Annotated[WindowClock, checks.of(WindowClock)] = field(default_factory=lambda: WindowClock(None, None))
    quantised: Annotated[Mapping[str, Any] | None, checks.maybe(checks.plain)] = None
    step_graph: Annotated[StepGraph | None, checks.maybe(checks.of(StepGraph))] = None
    macs: Annotated[int | None, checks.maybe(checks.whole(0))] = None
    parameters: Annotated[int | None, checks.maybe(checks.whole(0))] = None
    latency_ms: Annotated[Latency | None, checks.maybe(checks.of(Latency))] = None
    adapted: Annotated[Mapping[str, Any] | None, checks.maybe(checks.plain)] = None
    trained_on: Annotated[Mapping[str, str], checks.by(checks.name, checks.digest)] = field(default_factory=dict)
    held_out: Annotated[HeldOut | None, checks.maybe(checks.of(HeldOut))] = None


def read_manifest(described: Any) -> Manifest:
    """Check what was read of a ``manifest.json``, key by key.

    Raises:
        BundleError: it is of another format or version, or a key is missing, unknown, or breaks its rule.
    """
    if not isinstance(described, Mapping) or described.get("format") != FORMAT:
        raise BundleError(f"manifest.json must be of {FORMAT}, but is of something else")
    if described.get("version") != VERSION or isinstance(described.get("version"), bool):
        raise checks.refuse("version", f"{VERSION}, which this fusionkit reads", described.get("version"))
    manifest: Manifest = checks.of(Manifest)("it", described)
    for name, sensor in manifest.sensors.items():
        _check_sensor(f"sensors.{name}", sensor)
    for name, task in manifest.tasks.items():
        _check_task(f"tasks.{name}", task)
    if manifest.step_graph is not None:
        _check_step_graph(manifest.step_graph, manifest.sensors)
    allowed = [key for name, sensor in manifest.sensors.items() for key in input_names(name, sensor)]
    needed = [key for name, sensor in manifest.sensors.items() for key in input_names(name, sensor, timed=False)]
    given = set(manifest.inputs)
    if len(set(allowed)) < len(allowed) or len(given) < len(manifest.inputs):
        raise BundleError("manifest.json: inputs must differ by name, but two are alike")
    wrong = sorted(given - set(allowed)) or [key for key in needed if key not in given]
    if wrong:
        raise BundleError(f"manifest.json: inputs must be those of its sensors, but {wrong[0]!r} is not among both")
    return manifest


def input_names(name: str, sensor: Sensor, *, timed: bool = True) -> list[str]:
    """Inputs of the graph that one sensor has; those without time have no ``_length``."""
    length = [f"{name}_length"] if timed else []
    statistics = [f"{name}_shift", f"{name}_scale"] if sensor.statistics else []
    return [name, f"{name}_present", *length, *statistics]


def _check_sensor(where: str, sensor: Sensor) -> None:
    if len(sensor.shape) != LAYOUTS[sensor.layout]:
        raise checks.refuse(f"{where}.shape", f"as many numbers as {sensor.layout!r} has axes", len(sensor.shape))
    samples = sensor.window.samples if sensor.window is not None else sensor.longest
    if math.prod(size or samples for size in sensor.shape) > MOST_NUMBERS:
        raise checks.refuse(f"{where}.shape", f"of at most {MOST_NUMBERS} numbers", str(list(sensor.shape)))
    if (sensor.dtype == "int64") != (sensor.layout == "token"):
        raise checks.refuse(f"{where}.dtype", "int64 for tokens and float32 for all else", sensor.dtype)
    if sensor.layout.startswith("channel") and sensor.channels and len(sensor.channels) != sensor.shape[0]:
        raise checks.refuse(f"{where}.channels", f"{sensor.shape[0]} names", len(sensor.channels))
    if sensor.limits is not None and sensor.limits[0] >= sensor.limits[1]:
        raise checks.refuse(f"{where}.limits", "the least number, then the greatest", sensor.limits[0])


def _check_step_graph(graph: StepGraph, sensors: Mapping[str, Sensor]) -> None:
    if set(graph.sensors) != set(sensors):
        raise checks.refuse("step_graph.sensors", f"those of the bundle, {sorted(sensors)}", str(sorted(graph.sensors)))
    needed = []
    for name, sensor in graph.sensors.items():
        timed = sensor.samples is not None
        told = sensors[name]
        if timed and (*told.shape[:-1], sensor.samples) != sensor.shape:
            raise checks.refuse(
                f"step_graph.sensors.{name}.shape", "that of a window of so many samples", str(sensor.shape)
            )
        needed += [key for key in input_names(name, told, timed=False) if timed or key in (name, f"{name}_present")]
    if sorted(needed) != sorted(graph.inputs):
        raise checks.refuse("step_graph.inputs", "those of its sensors", str(list(graph.inputs)))
    names = [name for state in graph.state for name in (state.input, state.output)]
    if len({*names, *graph.inputs}) < len(names) + len(graph.inputs):
        raise BundleError("manifest.json: step_graph must have names that differ, but two are alike")
    if not any(None in state.shape for state in graph.state):
        raise checks.refuse(
            "step_graph.state", "tensors of which one has the batch", [state.input for state in graph.state]
        )
    for state in graph.state:
        if math.prod(size or 1 for size in state.shape) > MOST_NUMBERS:
            raise checks.refuse(
                f"step_graph.state of {state.input}", f"of at most {MOST_NUMBERS} numbers", str(state.shape)
            )


def _check_task(where: str, task: Task) -> None:
    if bool(task.classes) != (task.outcome == "probabilities"):
        raise checks.refuse(f"{where}.classes", "names for probabilities and none for a value", len(task.classes))
    if task.outcome == "value" and (task.temperature is not None or task.conformal):
        raise BundleError(f"manifest.json: {where} must be of classes to have a temperature, but is a value")
    for coverage in task.conformal:
        try:
            right = 0 < float(coverage) < 1
        except ValueError:
            right = False
        if not right:
            raise checks.refuse(f"a key of {where}.conformal", "a number between 0 and 1", coverage)
