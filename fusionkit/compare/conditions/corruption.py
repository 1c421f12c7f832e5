"""What a trained model answers when sensors fail at test: noise, lost channels, bursts of missing data, wrong clocks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fusionkit.augment.series import across, real_samples
from fusionkit.augment.white_noise import add_noise, per_row, real_values
from fusionkit.compare.conditions.asked_again import Answers, AskedAgain, load_answers, save_answers
from fusionkit.core.errors import ConfigError, located
from fusionkit.core.levels import Batch, Features, Window, valid
from fusionkit.core.modality import Array
from fusionkit.data.loading import Loader, LoaderInput
from fusionkit.data.study import StoredSensor, Study
from fusionkit.training.order import derive_seed

FAULTS = "faults.safetensors"
CHUNK = 64
"""Records at a time."""
BLOCKS = 20
"""Stretches that a window is cut into, each of which is there or missing."""
BURST = 3.0
"""Mean number of stretches that are missing in a row, at least."""

MOST: dict[str, float] = {"noise": 1e6, "channels": 1.0, "bursts": 1.0, "offset": 1e6, "drift": 1e6}
"""What every level of a kind lies below."""
NOTHING = "none"
"""Level in words that leaves a kind out."""

Kind = Literal["noise", "channels", "bursts", "offset", "drift"]
EVERY = ""
"""Name in place of a sensor's, where a fault strikes all of them."""


@dataclass(frozen=True)
class Faults:
    """How strong each kind of fault is, from weak to strong; none leaves a kind out.

    Attributes:
        noise: deviation of white noise on one sensor, in deviations of each of its channels over the test records.
        channels: share of the channels of one sensor that are lost in a record, drawn anew for each.
        bursts: share of the data of all sensors that is missing, in bursts, of each sensor by itself.
        offset: seconds that one sensor is late.
        drift: seconds that one sensor loses in a minute, from the start of each recording on.
        seed: of all that is drawn.
    """

    noise: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    channels: tuple[float, ...] = (0.25, 0.5, 0.75)
    bursts: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    offset: tuple[float, ...] = (0.1, 0.3, 1.0)
    drift: tuple[float, ...] = (0.01, 0.03, 0.1)
    seed: int = 0

    def __post_init__(self) -> None:
        for kind in get_args(Kind):
            levels = self.levels(kind)
            if list(levels) != sorted(set(levels)) or not all(0 < level < MOST[kind] for level in levels):
                raise ConfigError(f"levels of {kind} must ascend between 0 and {MOST[kind]:g}, but got {list(levels)}")

    def levels(self, kind: Kind) -> tuple[float, ...]:
        """From weak to strong."""
        return tuple(getattr(self, kind))


def parse_faults(texts: Sequence[str]) -> Faults:
    """Read ``noise=0.1,1,3``, ``bursts=none`` and ``seed=1``; kinds that are not named keep their levels.

    Raises:
        ConfigError: there is no such kind, it is named twice, or its levels are none.
    """
    given: dict[str, Any] = {}
    known = [*get_args(Kind), "seed"]
    with located("--faults"):
        for text in texts:
            kind, equals, rest = (part.strip() for part in text.partition("="))
            if not equals or kind not in known:
                raise ConfigError(f"must be KIND=LEVEL,LEVEL with a kind of {known}, but got {text!r}")
            if kind in given:
                raise ConfigError(f"must name every kind once, but {kind} is there twice")
            try:
                if kind == "seed":
                    given[kind] = int(rest)
                else:
                    given[kind] = () if rest == NOTHING else tuple(float(level) for level in rest.split(","))
            except ValueError:
                wanted = "a whole number" if kind == "seed" else f"numbers or {NOTHING}"
                raise ConfigError(f"{kind} must be {wanted}, but got {rest!r}") from None
        return Faults(**given)


@dataclass(frozen=True)
class Condition:
    """One fault at one level.

    Attributes:
        kind: of the fault.
        sensor: that it strikes; `EVERY` strikes all.
        level: how strong it is.
    """

    kind: Kind
    sensor: str
    level: float


def conditions(asked: AskedAgain, faults: Faults) -> list[Condition]:
    """All that a model's sensors can suffer.

    Noise is for sensors of numbers, lost channels for those with several channels in time, a late clock for those with
    a sampling rate whose windows are cut when they are asked for, one that drifts where not every record begins its
    recording; bursts strike any.
    """
    found = []
    for name in asked.sensors:
        window = _windows(asked, name).batch(asked.rows[:1]).inputs[name]
        sensor = asked.material.study.sensor(name)
        timed = isinstance(window, Window) and _timed(sensor) and _numbers(window)
        can: dict[Kind, bool] = {
            "noise": _numbers(window),
            "channels": _numbers(window)
            and (isinstance(window, Features) or window.values.ndim == 3)
            and _wide(window),
            "offset": timed,
            "drift": timed and bool(_since(sensor)[asked.rows].any()),
        }
        found += [Condition(kind, name, level) for kind, able in can.items() if able for level in faults.levels(kind)]
    return found + [Condition("bursts", EVERY, level) for level in faults.bursts]


@torch.no_grad()
def answer_faults(asked: AskedAgain, faults: Faults) -> Answers:
    """Answer the test records under every fault.

    A sensor that is struck comes as windows, so that its features are made of what it then measures; the others come
    as they did in training. Features that are smoothed across records are struck themselves: noise on each feature,
    lost channels not measured (NaN), missing steps masked. One seed gives one corruption, whoever is asked: a record
    draws by its own name, so that it has the same noise under all strategies and training seeds, also those that answer
    fewer records, and stronger noise is the same, larger.
    """
    every = conditions(asked, faults)
    model = asked.trained.model.eval()
    loaders = {name: _windows(asked, name) for name in asked.sensors}
    deviation = {name: _deviation(loaders[name], name, asked.tested) for name in asked.sensors if _has(every, name)}
    shifted = {one: _late(asked, one) for one in every if one.kind in ("offset", "drift")}
    gaps = {
        (one.level, name): _gaps(asked, name, one.level, faults.seed)
        for one in every
        if one.kind == "bursts"
        for name in asked.sensors
    }
    said: dict[Condition, list[dict[str, Array]]] = {one: [] for one in every}
    done = 0
    for rows in np.array_split(asked.rows, max(1, -(-len(asked.rows) // CHUNK))):
        clean = asked.loader.batch(rows)
        windows = {name: loader.batch(rows).inputs[name] for name, loader in loaders.items()}
        here = slice(done, done + len(rows))
        done += len(rows)
        for one in every:
            inputs = dict(clean.inputs)
            own = [_generator(faults, one, asked.material.study.records.id[row]) for row in rows]
            if one.kind == "noise":
                limits = asked.trained.modalities[one.sensor].limits
                spread = one.level * deviation[one.sensor]
                inputs[one.sensor] = _noisy(windows[one.sensor], spread, own, limits)
            elif one.kind == "channels":
                inputs[one.sensor] = _fewer_channels(windows[one.sensor], one.level, own)
            elif one.kind == "bursts":
                for name in asked.sensors:
                    inputs[name] = _with_gaps(windows[name], gaps[one.level, name][here].to(asked.loader.device))
            else:
                late, rest = shifted[one]
                window = late.batch(rows).inputs[one.sensor]
                assert isinstance(window, Window)
                inputs[one.sensor] = _delayed(window, torch.from_numpy(rest[rows]).float().to(window.values.device))
            decisions = model(Batch(inputs, {}, clean.index).inputs).decisions
            said[one].append(asked.predictions({task: x.cpu().double().numpy() for task, x in decisions.items()}))
    predictions = {task: np.zeros((0, *prior.shape)) for task, prior in asked.prior().items()}  # no fault strikes it
    if every:
        predictions = {
            task: np.stack([np.concatenate([part[task] for part in said[one]]) for one in every])
            for task in asked.trained.tasks
        }
    return Answers(asked.rows, [asdict(one) for one in every], predictions)


def keep_faults(asked: AskedAgain, folder: Path, faults: Faults) -> None:
    """Answer and keep it in the cell's folder, if it is not there."""
    if read_faults(folder, faults) is None:
        save_answers(folder / FAULTS, answer_faults(asked, faults), _plain(faults))


def read_faults(folder: Path, faults: Faults) -> Answers | None:
    """What a cell answered under these faults; None where it was not asked."""
    return load_answers(folder / FAULTS, _plain(faults))


def bursts(rows: int, blocks: int, share: float, generator: np.random.Generator) -> Bool[np.ndarray, "row block"]:
    r"""What is missing: a chain of two states along each row.

    A block that is missing is followed by one that is there with probability :math:`1 / m`, one that is there by a
    missing one with :math:`\tfrac{p}{(1 - p) m}`, so that in the long run, and at each block, a share p is missing, in
    bursts of :math:`m = \max(3, p / (1 - p))` blocks in the mean. With p = 0.5, m = 3: the state changes in every third
    block.

    Reference:
        Gilbert, Capacity of a Burst-Noise Channel, Bell System Technical Journal 1960.
    """
    mean = max(BURST, share / (1 - share))
    draw = generator.random((rows, blocks))
    missing = np.zeros((rows, blocks), dtype=bool)
    state = draw[:, 0] < share if blocks else np.zeros(rows, dtype=bool)
    for block in range(blocks):
        if block:
            state = np.where(state, draw[:, block] >= 1 / mean, draw[:, block] < share / (1 - share) / mean)
        missing[:, block] = state
    return missing


def late_by(sensor: StoredSensor, kind: Kind, level: float) -> Int[np.ndarray, " record"]:
    """Stored samples that each record's window is late: of 100 Hz, 10 for an offset of 0.1 s.

    With a drift, those that the clock has lost since the recording began: at 0.1 s a minute, 20 at 2 minutes.
    """
    rate = sensor.stored.sample_rate
    assert rate is not None
    if kind == "offset":
        return np.where(sensor.present, round(level * rate), 0).astype(np.int64)
    return np.rint(_since(sensor) * level / 60).astype(np.int64)


def _since(sensor: StoredSensor) -> Int[np.ndarray, " record"]:
    """Stored samples from the start of its recording to each record's window; 0 where the sensor is absent."""
    start = np.asarray(sensor.recording_offset)[np.asarray(sensor.recording)]
    return np.where(sensor.present, np.asarray(sensor.offset) - start, 0)


def _plain(faults: Faults) -> dict[str, object]:
    return {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(faults).items()}


def _generator(faults: Faults, one: Condition, record: str) -> torch.Generator:
    """Of what a record draws: the same at every level."""
    return torch.Generator().manual_seed(derive_seed("fault", faults.seed, one.kind, one.sensor, record))


def _windows(asked: AskedAgain, name: str) -> Loader:
    given = asked.material.windows(name, asked.trained.modalities[name])
    return Loader(asked.material.study, {name: given}, {}, asked.material.device, False)


def _has(every: Sequence[Condition], name: str) -> bool:
    return any(one.kind == "noise" and one.sensor == name for one in every)


def _numbers(level: Window | Features) -> bool:
    return level.values.is_floating_point()


def _wide(level: Window | Features) -> bool:
    return level.values.shape[2 if isinstance(level, Features) else 1] > 1


def _timed(sensor: StoredSensor) -> bool:
    return sensor.stored.sample_rate is not None


def _deviation(loader: Loader, name: str, rows: Array) -> Tensor:
    """Of every channel (of features: of every feature) over all that is real; of sound, of the whole."""
    sums: list[Tensor] = []
    centre: Tensor | None = None
    for chunk in np.array_split(rows, max(1, -(-len(rows) // CHUNK))):
        level = loader.batch(chunk).inputs[name]
        values, real = level.values.double(), _real(level) & level.values.isfinite()
        axes = [0, 1] if isinstance(level, Features) else [a for a in range(values.ndim) if a != 1 or values.ndim == 2]
        values = torch.where(real, values, torch.zeros_like(values))
        some = real.sum(axes, keepdim=True)
        if centre is None:  # near the mean, so that the squares stay accurate
            centre = values.sum(axes, keepdim=True) / some.clamp_min(1)
        away = torch.where(real, values - centre, torch.zeros_like(values))
        parts = [some, away.sum(axes, keepdim=True), away.square().sum(axes, keepdim=True)]
        sums = [before + more for before, more in zip(sums, parts, strict=True)] if sums else parts
    count, total, square = sums
    mean = total / count.clamp_min(1)
    return (square / count.clamp_min(1) - mean.square()).clamp_min(0).sqrt().float()


def _real(level: Window | Features) -> Tensor:
    if isinstance(level, Features):
        return valid(level)[..., None, None].expand(level.values.shape)
    return real_values(level).expand(level.values.shape)


def _noisy(
    level: Window | Features,
    spread: Tensor,
    generators: Sequence[torch.Generator],
    limits: tuple[float, float] | None,
) -> Window | Features:
    """With a generator a record, which draws for what is real of it, however long the others are."""
    values = level.values.clone()
    for row, generator in enumerate(generators):
        if isinstance(level, Features):
            length = int(level.mask[row].nonzero().max()) + 1 if level.mask[row].any() else 0
            noise = torch.randn(values[row : row + 1, :length].shape, generator=generator).to(values)
            values[row, :length] += (spread * noise)[0]
        else:
            length = int(level.length[row]) if values.ndim <= 3 else values.shape[-1]
            one = slice(row, row + 1)
            short = Window(level.values[one, ..., :length], level.length[one], level.present[one])
            values[row, ..., :length] = add_noise(short, spread, generator, limits).values[0]
    return level._replace(values=values)


def _fewer_channels(level: Window | Features, share: float, generators: Sequence[torch.Generator]) -> Window | Features:
    """A lost channel of a window is 0, as an electrode that came off is stored; that of features is not measured."""
    axis = 2 if isinstance(level, Features) else 1
    shape = [1] * level.values.ndim
    shape[0], shape[axis] = level.values.shape[0], level.values.shape[axis]
    drawn = torch.stack([torch.rand(shape[axis], generator=generator) for generator in generators])
    lost = drawn.view(shape).to(level.values.device) < share
    nothing = level.values.new_full((), float("nan") if isinstance(level, Features) else 0.0)
    return level._replace(values=torch.where(lost, nothing, level.values))


def _gaps(asked: AskedAgain, name: str, share: float, seed: int) -> Bool[Tensor, "record block"]:
    """Which stretches of each test record are missing; of what has no time, whole records, in bursts of records."""
    generator = np.random.default_rng(derive_seed("fault", seed, "bursts", name))
    if _timed(asked.material.study.sensor(name)):
        drawn = bursts(len(asked.tested), BLOCKS, share, generator)
    else:
        drawn = bursts(1, len(asked.tested), share, generator).T
    return torch.from_numpy(drawn[np.searchsorted(asked.tested, asked.rows)])


def _with_gaps(level: Window | Features, missing: Bool[Tensor, "batch block"]) -> Window | Features:
    """Silence in the gaps of a window, masked steps in those of features; a sensor without anything left is absent."""
    level = level._replace(present=level.present & ~missing.all(1))
    if missing.shape[1] == 1:
        return level
    if isinstance(level, Features):
        length = level.mask.sum(1)
        return level._replace(mask=level.mask & ~_spread(missing, length, level.mask.shape[1]))
    hidden = across(_spread(missing, level.length, level.values.shape[-1]) & real_samples(level), level.values)
    return level._replace(values=torch.where(hidden, torch.zeros_like(level.values), level.values))


def _spread(
    missing: Bool[Tensor, "batch block"], length: Int[Tensor, " batch"], width: int
) -> Bool[Tensor, "batch time"]:
    """Blocks of equal length over the real samples of each row."""
    step = torch.arange(width, device=missing.device)[None]
    block = (step * missing.shape[1] // length.clamp_min(1)[:, None]).clamp_max(missing.shape[1] - 1)
    return missing.gather(1, block)


def _late(asked: AskedAgain, one: Condition) -> tuple[Loader, Float[np.ndarray, " record"]]:
    """Windows read earlier in their recordings, as far as those reach; and the rest, as a share of each window."""
    name = one.sensor
    study, modality = asked.material.study, asked.trained.modalities[name]
    sensor = study.sensor(name)
    wanted = late_by(sensor, one.kind, one.level)
    got = np.minimum(wanted, _since(sensor))
    moved = replace(sensor, offset=np.asarray(sensor.offset) - got)
    rest = (wanted - got) / np.maximum(np.asarray(sensor.count), 1)
    given: LoaderInput = asked.material.windows(name, modality)
    sensors: Mapping[str, StoredSensor] = {**study.sensors, name: moved}
    other: Study = replace(study, sensors=dict(sensors))
    return Loader(other, {name: given}, {}, asked.material.device, False), rest


def _delayed(window: Window, rest: Float[Tensor, " batch"]) -> Window:
    """Samples moved later by a share of the window; what comes before the recording began is 0."""
    lag = (rest * window.length).round().long()
    step = torch.arange(window.values.shape[-1], device=window.values.device)[None] - lag[:, None]
    source = across(step.clamp_min(0), window.values).expand(window.values.shape)
    moved = window.values.gather(-1, source)
    kept = across((step >= 0) & real_samples(window), window.values) & per_row(lag > 0, window.values)
    still = per_row(lag <= 0, window.values)
    return window._replace(values=torch.where(still, window.values, torch.where(kept, moved, torch.zeros_like(moved))))
