"""Smoothing of features in time: moving average and linear dynamic system, within a record or across records."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Array, FrontEnd
from fusionkit.data.features import CachedFeatures, keep
from fusionkit.data.segments import time_order
from fusionkit.data.study import Study

Over = Annotated[
    Literal["record", "trial", "recording"],
    Field(
        description="what is smoothed as one sequence; across records it is done before training, and no bundle made"
    ),
]
Causal = Annotated[bool, Field(description="use the past alone; else the future too, which no stream has")]


class NoSmoothing(BaseModel):
    """Features stay as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["none"] = "none"


class MovingAverage(BaseModel):
    """The mean of the last ``steps`` steps, or where it is not causal of those around; fewer where a sequence begins or ends.

    Steps 1, 2, 6 under ``steps: 2`` become 1, 1.5, 4.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["moving_average"] = "moving_average"
    steps: Annotated[int, Field(ge=2, description="how many steps are averaged")] = 5
    over: Over = "record"
    causal: Causal = True

    @model_validator(mode="after")
    def _has_a_middle(self) -> "MovingAverage":
        if not self.causal and self.steps % 2 == 0:
            raise PydanticCustomError("smooth", "an average around a step needs an odd number of steps")
        return self


class LinearDynamicSystem(BaseModel):
    r"""What is left when features are taken for noisy observations of a state that drifts, each by itself.

    .. math:: z_t = z_{t-1} + w_t, \quad y_t = z_t + v_t, \quad w \sim N(0, Q), \quad v \sim N(0, R)

    Causal: a Kalman filter, started at the first step. Not causal: the filter started at the mean of the sequence,
    and the Rauch-Tung-Striebel smoother back over it. With the defaults each step counts
    :math:`K = 0.00995` in the steady state: a time constant of 100 steps.

    Reference:
        Shi, Lu, Off-Line and On-Line Vigilance Estimation Based on Linear Dynamical System and Manifold Learning,
        IEEE EMBC 2010, who learn the parameters; the defaults are those of reimplementations.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["lds"] = "lds"
    over: Over = "record"
    causal: Causal = True
    process_variance: Annotated[float, Field(gt=0, allow_inf_nan=False, description="Q, of the drift in a step")] = 1e-4
    noise_variance: Annotated[float, Field(gt=0, allow_inf_nan=False, description="R, of the noise of a step")] = 1.0
    start_variance: Annotated[float, Field(ge=0, allow_inf_nan=False, description="V, of the state at first")] = 0.01


SmoothOptions = Annotated[NoSmoothing | MovingAverage | LinearDynamicSystem, Field(discriminator="kind")]
Smoothing = MovingAverage | LinearDynamicSystem


def crosses_records(options: SmoothOptions) -> bool:
    """Whether a record's features depend on more than a front end could know: other records, or its own future."""
    return not isinstance(options, NoSmoothing) and (options.over != "record" or not options.causal)


def smooth_sequence(
    options: Smoothing, values: Float[np.ndarray, "time channel subchannel"]
) -> Float[np.ndarray, "time channel subchannel"]:
    """Smooth one sequence, in float64. A step that was not measured (NaN) stays so, and nothing counts it."""
    values = np.asarray(values, np.float64)
    if isinstance(options, MovingAverage):
        return _average(options, values)
    return _filter(options, values)


def _average(options: MovingAverage, values: Array) -> Array:
    real = ~np.isnan(values)
    time = np.arange(len(values))
    after = 0 if options.causal else options.steps // 2
    first = np.maximum(time + after + 1 - options.steps, 0)
    stop = np.minimum(time + after + 1, len(values))
    made = np.full_like(values, np.nan)
    for step in range(len(values)):  # plain sums: running ones would carry rounding from loud steps to quiet ones
        here = real[first[step] : stop[step]]
        total = np.where(here, values[first[step] : stop[step]], 0).sum(0)
        made[step] = np.where(real[step], total / np.maximum(here.sum(0), 1), np.nan)
    return made


def _filter(options: LinearDynamicSystem, values: Array) -> Array:
    real = ~np.isnan(values)
    if options.causal:  # the first step that each feature has
        state = np.take_along_axis(np.where(real, values, 0), real.argmax(0)[None], 0)[0]
    else:
        state = np.where(real, values, 0).sum(0) / np.maximum(real.sum(0), 1)
    variance = np.full(values.shape[1:], options.start_variance)
    states, variances = np.empty_like(values), np.empty_like(values)
    for step, (value, here) in enumerate(zip(values, real, strict=True)):
        predicted = variance + options.process_variance
        gain = np.where(here, predicted / (predicted + options.noise_variance), 0)
        state = np.where(here, state + gain * (value - state), state)
        variance = (1 - gain) * predicted
        states[step], variances[step] = state, variance
    if not options.causal:
        for step in range(len(values) - 2, -1, -1):
            share = variances[step] / (variances[step] + options.process_variance)
            states[step] += share * (states[step + 1] - states[step])
    return np.where(real, states, np.nan)


class SmoothedFrontEnd(FrontEnd):
    """A front end whose steps are smoothed within the window, causally: one lower-triangular matrix, in the exported graph too.

    A channel is measured in a whole window or not at all, so NaN goes through. Costs a product of steps by steps.

    Args:
        inner: makes the features.
        options: causal, over records.
    """

    def __init__(self, inner: FrontEnd, options: Smoothing) -> None:
        super().__init__()
        self.inner = inner
        self.options = options
        self.shape = inner.shape

    @property
    def lacks(self) -> bool:  # type: ignore[override]
        """As the front end inside."""
        return self.inner.lacks

    def forward(
        self, values: Shaped[Tensor, "batch *rest"], length: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time channel subchannel"], Bool[Tensor, "batch time"]]:
        """Features, then every real step a weighted mean of those up to it."""
        features, mask = self.inner(values, length)
        features = torch.where(mask[:, :, None, None], features, torch.zeros_like(features))
        weights = step_weights(self.options, features.shape[1], features.device).to(features.dtype)
        return (weights @ features.flatten(2)).reshape(features.shape), mask

    def times(self, steps: int) -> Float[Tensor, " time"] | None:
        """As the front end inside."""
        return self.inner.times(steps)


def step_weights(options: Smoothing, steps: int, device: torch.device | None = None) -> Float[Tensor, "time time"]:
    r"""How much each step (column) counts in each smoothed one (row); rows sum to 1, what is above the diagonal is 0.

    The gains of the Kalman filter follow a Moebius map :math:`K' = (K + q) / (K + q + 1)`, :math:`q = Q / R`, with
    the fixed points :math:`k_\pm = (-q \pm \sqrt{q^2 + 4 q}) / 2`; hence :math:`(K_t - k_+) / (K_t - k_-)` falls by
    the factor :math:`(1 - k_+)^2` in every step: with that ratio :math:`a_t`, what is left of step s at step t is
    :math:`(1 - k_+)^{t-s} (1 - a_s) / (1 - a_t)` of its gain. No sum or product runs over steps.
    """
    time = torch.arange(steps, device=device)
    lag = time[:, None] - time
    if isinstance(options, MovingAverage):
        inside = ((lag >= 0) & (lag < options.steps)).float()
        return inside / inside.sum(1, keepdim=True)
    ratio = options.process_variance / options.noise_variance
    root = math.sqrt(ratio) * math.sqrt(ratio + 4)
    upper, lower = 2 * ratio / (ratio + root), -0.5 * (ratio + root)  # no difference of two near numbers
    first = (options.start_variance + options.process_variance) / options.noise_variance
    first = first / (first + 1)
    decay = -math.log1p(upper + ratio)  # log of 1 - K in the steady state
    apart = (first - upper) / (first - lower)
    whole = (upper - lower) / (first - lower) - apart * torch.expm1(2 * decay * time)  # 1 - a, of every step
    gain = (upper - lower * apart * torch.exp(2 * decay * time)) / whole
    weight = torch.where(time > 0, gain, torch.ones_like(gain))  # the filter starts at the first step
    past = torch.exp(decay * lag.clamp_min(0)) * whole / whole[:, None]
    return torch.where(lag >= 0, past * weight, torch.zeros_like(past))


def smoothing_groups(options: Smoothing, study: Study, sensor_name: str) -> Int[np.ndarray, " record"]:
    """Number of the sequence that each record is part of; -1 where it lacks the sensor.

    Raises:
        DataError: a record has no trial where smoothing is over trials.
    """
    sensor, records = study.sensor(sensor_name), study.records
    groups = np.arange(len(records))
    if options.over == "trial":
        nameless = [row for row in np.flatnonzero(sensor.present).tolist() if not records.trial[row]]
        if nameless:
            raise DataError(
                f"records must have a trial to be smoothed over trials, but record {records.id[nameless[0]]!r} has none"
            )
        groups = records.group("trial")
    elif options.over == "recording":
        groups = np.asarray(sensor.recording)
    made: Array = np.where(sensor.present, groups, -1)
    return made


def smooth_features(
    options: Smoothing, cached: CachedFeatures, study: Study, sensor_name: str, cache: Path
) -> CachedFeatures:
    """Smooth the features of a study across its records, from the cache or computed into it; one sequence in memory.

    A sequence is all real steps of its records in the order of time. A pause between two records counts for nothing.

    Args:
        options: how.
        cached: the features.
        study: the study.
        sensor_name: which sensor.
        cache: the folder for the files.

    Raises:
        DataError: features have no time, steps of two records of a sequence overlap, or there is nothing to smooth.
    """
    if cached.times is None:
        raise DataError(f"features must have times to be smoothed, but those of {sensor_name} have none")
    groups = smoothing_groups(options, study, sensor_name)
    rows = time_order(study.sensor(sensor_name))
    rows = rows[cached.steps[rows] > 0]
    _check_order(cached, study, sensor_name, groups, rows)
    name = hashlib.sha256(f"{cached.name} {options.model_dump_json()}".encode()).hexdigest()
    times = cached.times

    def fill(path: Path) -> tuple[Array, Array]:
        made = np.lib.format.open_memmap(path, "w+", np.float32, cached.values.shape)  # a new file: zeros
        order = rows[np.argsort(groups[rows], kind="stable")]
        for sequence in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else []:
            steps = cached.steps[sequence]
            whole = np.concatenate([cached.values[row, :count] for row, count in zip(sequence, steps, strict=True)])
            parts = np.split(smooth_sequence(options, whole), np.cumsum(steps)[:-1])
            for row, part in zip(sequence, parts, strict=True):
                made[row, : len(part)] = part
        made.flush()
        return cached.steps, times

    return keep(cache, name, sensor_name, len(study.records), fill)


def _check_order(
    cached: CachedFeatures, study: Study, sensor_name: str, groups: Int[np.ndarray, " record"], rows: Array
) -> None:
    """Steps of a sequence must follow each other, and be more than one somewhere."""
    sensor, times = study.sensor(sensor_name), cached.times
    rate = sensor.stored.sample_rate
    assert times is not None
    assert rate is not None
    order = rows[np.argsort(groups[rows], kind="stable")]
    first, second = order[:-1], order[1:]
    same = (groups[first] == groups[second]) & (sensor.recording[first] == sensor.recording[second])
    ends = sensor.offset[first] / rate + times[cached.steps[first] - 1]
    begins = sensor.offset[second] / rate + times[0]
    back = np.flatnonzero(same & (begins <= ends + 1e-6))
    if back.size:
        names = [study.records.id[int(pair[back[0]])] for pair in (first, second)]
        raise DataError(
            f"steps of records that are smoothed as one sequence must follow each other, but record {names[1]!r} begins "
            f"before {names[0]!r} ends; give records that do not overlap, or one step each"
        )
    if len(order) and np.bincount(groups[order], weights=cached.steps[order]).max() < 2:
        raise DataError(f"there must be two steps or more to be smoothed, but every sequence of {sensor_name} has one")


def smoother(options: SmoothOptions) -> Callable[[Array], Array] | None:
    """What smooths one sequence where features are smoothed across records, else None."""
    if isinstance(options, NoSmoothing) or not crosses_records(options):
        return None
    return lambda values: smooth_sequence(options, values)
