"""What every fusion operation costs, beside a plain concat and linear layer over the same streams."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Decision, Features, FeatureShape, Fused, Tokens, pool
from fusionkit.fusion.operation import Fittable, FusionOperation, LateFusion, TrainingBatch
from fusionkit.fusion.pooled import ConcatLinear

WIDTH, STEPS, CLASSES, SECONDS = 64, 8, 4, 8.0
SENSORS, BATCHES = (2, 3, 4), (1, 64)
NAMES = ("first", "second", "third", "fourth")
SPENT = 0.3  # seconds after which a number has enough runs
FEWEST = 5
OPTIONS: dict[tuple[str, int], dict[str, Any]] = {("tensor", 3): {"width": 35}, ("tensor", 4): {"width": 13}}
"""Options by operation and sensors; of wider sensors `tensor` refuses the products."""

Streams = Mapping[str, Features | Tokens | Decision]
Clock = Callable[[], float]


@dataclass(frozen=True)
class FusionTime:
    """One operation with so many sensors at one batch size; times are medians in milliseconds.

    Attributes:
        operation: its kind.
        sensors: how many streams it joins.
        batch: records.
        parameters: that train.
        forward_ms: in evaluation, without gradients.
        step_ms: forward, backward to parameters and streams, and a step of AdamW.
        forward_ratio: over that of the plain layer, timed in turn.
        step_ratio: likewise.
        runs: how often each was timed: fewer where it is slow.
    """

    operation: str
    sensors: int
    batch: int
    parameters: int
    forward_ms: float
    step_ms: float
    forward_ratio: float
    step_ratio: float
    runs: int


@dataclass(frozen=True)
class Target:
    """A limit that a named operation must keep."""

    name: str
    limit_ms: float
    found_ms: float

    @property
    def kept(self) -> bool:
        """Whether it is."""
        return self.found_ms <= self.limit_ms


def bench_fusion(kinds: Sequence[str] | None = None, runs: int = 40) -> Iterator[tuple[str, list[FusionTime], str]]:
    """Time operations (all that are registered) by processor time on one thread.

    Streams have 8 steps of 64 numbers, decisions 4 classes.

    Args:
        kinds: which operations.
        runs: how often each number is taken.

    Yields:
        The kind, its times by sensors and batch, and why some number of sensors was refused (empty if none was).
    """
    for kind in registry.fusion.kinds() if kinds is None else kinds:
        found, refused = [], []
        for sensors in SENSORS:
            try:
                operation = _build(kind, sensors)
            except ConfigError as error:
                refused.append(f"{sensors} sensors: {error}")
                continue
            for batch in BATCHES:
                found.append(_time(kind, operation, sensors, batch, runs))
        yield kind, found, "; ".join(refused)


def check_targets(runs: int = 40) -> list[Target]:
    """The limits of three operations at batch 64: by processor time on one thread, by the clock on two.

    What the clock says holds for a machine that has both processors to spare.
    """
    mult = registry.fusion.build("mult", {"layers": 3, "heads": 5}, dict.fromkeys(NAMES[:2], 30), 30, SECONDS)
    rcft = registry.fusion.build("rcft", {"layers": 3, "heads": 4}, dict.fromkeys(NAMES, WIDTH), WIDTH, SECONDS)
    calls = [
        _forward(mult, _streams("intermediate", 2, 64, width=30, steps=20)),
        _forward(_build("low_rank", 2), _streams("intermediate", 2, 64, steps=1)),
    ]
    mult_ms, low_rank_ms = (_measure([call], runs, None)[0][0] for call in calls)
    step = _step(rcft, _streams("intermediate", 4, 64))
    rcft_ms = _measure([step], runs, None, threads=2, clock=time.perf_counter)[0][0]
    return [
        Target("mult, 2 sensors, 20 steps of 30, 3 layers: forward", 25.0, mult_ms),
        Target("low_rank, 2 sensors, a vector of 64: forward", 0.25, low_rank_ms),
        Target("rcft, 4 sensors, 8 steps of 64, 3 layers, 4 heads: training step on 2 threads", 60.0, rcft_ms),
    ]


def _build(kind: str, sensors: int) -> FusionOperation:
    """An operation over so many equal sensors, fitted where it must be."""
    cls, options = registry.fusion.get(kind), OPTIONS.get((kind, sensors), {})
    names = NAMES[:sensors]
    if cls.level == "early":
        given: tuple[Any, ...] = (dict.fromkeys(names, FeatureShape(WIDTH, 1)), SECONDS)
    else:
        given = (names,) if cls.level == "late" else (dict.fromkeys(names, WIDTH), WIDTH, SECONDS)
    torch.manual_seed(0)
    operation: FusionOperation = registry.fusion.build(kind, options, *given)
    if isinstance(operation, LateFusion):
        operation.bind(torch.full((CLASSES,), 1 / CLASSES))
    if isinstance(operation, Fittable):
        targets = {"task": torch.arange(64).float() % CLASSES}
        batches = [TrainingBatch(_streams(cls.level, sensors, 64, seed=seed), targets) for seed in (1, 2)]
        with torch.no_grad():
            operation.fit(lambda: iter(batches), torch.Generator().manual_seed(0))
    return operation


def _streams(
    level: str, sensors: int, batch: int, *, width: int = WIDTH, steps: int = STEPS, seed: int = 0
) -> dict[str, Features | Tokens | Decision]:
    """Made streams without a gap; gradients reach them, as encoders would want."""
    generator = torch.Generator().manual_seed(seed)
    mask, present = torch.ones(batch, steps, dtype=torch.bool), torch.ones(batch, dtype=torch.bool)
    clock = ((torch.arange(steps) + 0.5) * SECONDS / steps).expand(batch, -1).clone()
    made: dict[str, Features | Tokens | Decision] = {}
    for name in NAMES[:sensors]:
        if level == "late":
            scores = torch.randn(batch, CLASSES, generator=generator).log_softmax(-1)
            made[name] = Decision(scores.requires_grad_(), present)
            continue
        values = torch.randn(batch, steps, width, generator=generator)
        if level == "early":
            made[name] = Features(values[..., None].requires_grad_(), mask, present, clock)
        else:
            made[name] = Tokens(values.requires_grad_(), mask, present, clock)
    return made


def _plain(operation: FusionOperation, streams: Streams) -> tuple[ConcatLinear, dict[str, Tokens]]:
    """Concat and linear over the same numbers, a stream of features or a decision taken as tokens."""
    width = CLASSES if isinstance(operation, LateFusion) else WIDTH
    taken = {}
    for name, stream in streams.items():
        values = stream.values.detach().reshape(len(stream.present), -1, width).requires_grad_()
        mask = torch.ones(values.shape[:2], dtype=torch.bool) if isinstance(stream, Decision) else stream.mask
        taken[name] = Tokens(values, mask, stream.present)
    return ConcatLinear(dict.fromkeys(streams, width), width, SECONDS), taken


def _answer(operation: nn.Module, streams: Streams) -> Any:
    """Run an operation of any level."""
    if not isinstance(operation, LateFusion):
        return operation(streams)
    decisions = torch.stack([stream.values for stream in streams.values()])
    present = torch.stack([stream.present for stream in streams.values()])
    if operation.own_loss and operation.training:
        return operation.loss(decisions, present, torch.arange(decisions.shape[1]).float() % CLASSES)[0]
    return operation.merge_log_probabilities(decisions, present)


def _loss(answer: Any) -> Tensor:
    """A number that depends on all of an answer."""
    if isinstance(answer, Fused):
        alone = [pool(stream).square().mean() for stream in answer.streams.values()]
        return torch.stack([answer.tokens.values.square().mean(), answer.auxiliary, *alone]).sum()
    values: Tensor = answer if isinstance(answer, Tensor) else answer.values
    return values.square().mean()


def _forward(operation: nn.Module, streams: Streams) -> Callable[[], None]:
    operation.eval()

    def run() -> None:
        with torch.inference_mode():
            _answer(operation, streams)

    return run


def _step(operation: nn.Module, streams: Streams) -> Callable[[], None]:
    parameters = [parameter for parameter in operation.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, fused=True) if parameters else None
    operation.train()

    def run() -> None:
        for stream in streams.values():
            stream.values.grad = None
        _loss(_answer(operation, streams)).backward()  # type: ignore[no-untyped-call]
        if optimiser is not None:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return run


def _time(kind: str, operation: FusionOperation, sensors: int, batch: int, runs: int) -> FusionTime:
    streams = _streams(operation.level, sensors, batch)
    plain, taken = _plain(operation, streams)
    (forward, plain_forward), count = _measure([_forward(operation, streams), _forward(plain, taken)], runs, SPENT)
    (step, plain_step), fewer = _measure([_step(operation, streams), _step(plain, taken)], runs, SPENT)
    parameters = sum(parameter.numel() for parameter in operation.parameters() if parameter.requires_grad)
    return FusionTime(
        kind,
        sensors,
        batch,
        parameters,
        forward,
        step,
        forward / plain_forward,
        step / plain_step,
        min(count, fewer),
    )


def _measure(
    calls: Sequence[Callable[[], None]],
    runs: int,
    seconds: float | None,
    *,
    threads: int = 1,
    clock: Clock = time.process_time,
) -> tuple[list[float], int]:
    """Medians in milliseconds of calls that are timed in turn, and of how many runs.

    Args:
        calls: what to time.
        runs: how often.
        seconds: after which fewer runs are enough; None takes all.
        threads: of torch.
        clock: what counts.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for call in (*calls, *calls):  # warm up
            call()
        times: list[list[float]] = [[] for _ in calls]
        began = time.perf_counter()
        for number in range(runs):
            if seconds is not None and number >= FEWEST and time.perf_counter() - began > seconds:
                break
            for call, found in zip(calls, times, strict=True):
                start = clock()
                call()
                found.append(1e3 * (clock() - start))
        return [median(found) for found in times], len(times[0])
    finally:
        torch.set_num_threads(before)
