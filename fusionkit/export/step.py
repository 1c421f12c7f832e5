"""The graph of one step: new samples and what earlier steps left in, probabilities and what the next step needs out."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fusionkit.core.levels import Batch, Features, Tokens, Window, pool, scrub_window
from fusionkit.core.modality import Array
from fusionkit.encoders.encoder import Encoder, PastEncoder
from fusionkit.export.bundle import Draft, sensor_inputs
from fusionkit.export.graph import (
    BATCH,
    ExportError,
    SensorInput,
    answer,
    free_axes,
    to_onnx,
)
from fusionkit.export.parity import far, some, subsets
from fusionkit.export.stepwise import Plan, TimedSensor, plan_steps
from fusionkit.fusion.model import FusionModel, Pass
from fusionkit.fusion.rcft import Cache
from fusionkit.heads.task import Task
from fusionkit.runtime import Bundle, StepSession
from fusionkit.runtime.manifest import read_manifest
from fusionkit.training.trained import Trained

BEYOND = 3
"""Windows that a stream is followed for at export, sensors vanishing and returning."""
REPEATS, WARM = 205, 5


@dataclass(frozen=True)
class StepReport:
    """What was found when a step graph was made.

    Attributes:
        seconds: of a step.
        steps: of a window.
        samples: of a step, by sensor with time.
        largest: difference from torch, relative to 1 or the answer, whichever is larger.
        cases: how many answers were compared.
        step_ms: median of a step on one thread.
        window_ms: of a whole window, likewise.
    """

    seconds: float
    steps: int
    samples: Mapping[str, int]
    largest: float
    cases: int
    step_ms: float
    window_ms: float

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def say(self) -> str:
        """A line for people."""
        each = ", ".join(f"{count} samples of {name}" for name, count in self.samples.items())
        return (
            f"step graph: {self.seconds:g} s a step ({each}), {self.steps} remembered; a step takes {self.step_ms:.2f} ms, "
            f"a whole window {self.window_ms:.2f} ms (medians, one thread); differs from torch by at most "
            f"{self.largest:.1e} in {self.cases} cases"
        )


class StepModel(nn.Module):
    """A trained model that takes one step of every sensor and its own state, as plain tensors.

    What comes out after k steps from an empty state is what the whole-window model answers to a window whose first
    k steps are real (`read_at`), as long as there are no more than the recipe's ``steps``. Beyond, the state slides,
    see `RCFT.step`: it remembers ``steps`` steps, and answers as without any sensor once all of these are empty. A
    sensor may vanish and return: what it brought is remembered for as long, but no feature spans the gap.

    Whether a channel was measured is judged by the samples of a step (and its tail), not by those of a window: a
    channel that is dead in some steps of a window alone is its mean in those alone, where a whole window would take it
    for dead (one NaN) or for alive (zeros for a while) throughout.

    Sensors without time bring the vector that `HeldSensor` makes of them.

    Args:
        model: in evaluation.
        plan: what qualifies.
        tasks: their order is that of the outputs.
    """

    def __init__(self, model: FusionModel, plan: Plan, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.model = model
        self.plan = plan
        self.tasks = dict(tasks)
        self.fields = self._fields()

    def _fields(self) -> list[str]:
        """What of a cache a step needs: no input of a graph may be there for nothing."""
        counted = any(sensor.tail and self._past(name) is not None for name, sensor in self.plan.timed.items())
        unused = {"begun"} if not self.plan.fusion.recurrent else set()
        unused |= set() if counted else {"number"}
        return [name for name in Cache._fields if name not in unused]

    @property
    def inputs(self) -> list[str]:
        """Names of all inputs but the state, in order."""
        names = []
        for name in self.plan.fusion.inputs:
            names += [name, f"{name}_present"]
            timed = self.plan.timed.get(name)
            if timed is not None and timed.window.statistics:
                names += [f"{name}_shift", f"{name}_scale"]
        return names

    def empty_state(self, batch: int) -> dict[str, Tensor]:
        """The state before the first step, by name; its order is that of the inputs."""
        state: dict[str, Tensor] = {}
        for name, sensor in self.plan.timed.items():
            past = self._past(name)
            if sensor.tail:
                state[f"{name}.tail"] = torch.zeros(batch, *sensor.item, sensor.tail, dtype=sensor.window.dtype)
                state[f"{name}.run"] = torch.zeros(batch, dtype=torch.int64)
            if past is not None:
                state[f"{name}.past"] = past.empty_state(batch)
        cache = self.plan.fusion.empty_cache(batch)._asdict()
        state |= {field: cache[field] for field in self.fields}
        return {**state, "readout": torch.zeros(batch, self.plan.fusion.dim)}

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        """Answers of every task, then the new state."""
        names = [*self.inputs, *self.empty_state(1)]
        given = dict(zip(names, flat, strict=True))
        streams: dict[str, Tokens] = {}
        after: dict[str, Tensor] = {}
        for name in self.plan.fusion.inputs:
            if name in self.plan.timed:
                streams[name], left = self._timed(name, self.plan.timed[name], given)
                after |= left
            else:
                present = given[f"{name}_present"]
                streams[name] = Tokens(given[name][:, None], present[:, None], present)
        tokens, cache = self.plan.fusion.step(streams, self._cache(given))
        after |= {field: value for field, value in cache._asdict().items() if field in self.fields}
        after["readout"] = readout = self._readout(tokens, cache, given["readout"])
        return (*self.answers(readout), *(after[name] for name in names if name not in self.inputs))

    def answers(self, readout: Tensor) -> tuple[Tensor, ...]:
        """Of every task, of what its head reads."""
        decisions = self.model.heads[self.plan.node](readout)
        return tuple(answer(task, decisions[name]) for name, task in self.tasks.items())

    def _cache(self, given: Mapping[str, Tensor]) -> Cache:
        real = given["real"]
        rest = {"number": torch.zeros((), dtype=torch.int64), "begun": real.any(-1)}
        return Cache(**{**rest, **{field: given[field] for field in self.fields}})

    def _readout(self, tokens: Tokens, cache: Cache, held: Tensor) -> Tensor:
        """The last real step of those that are remembered."""
        readout = torch.where(tokens.mask, tokens.values[:, 0], held)
        remembered = cache.real.any(2).any(0)
        return torch.where(remembered[:, None], readout, torch.zeros_like(readout))

    def _timed(self, name: str, sensor: TimedSensor, given: Mapping[str, Tensor]) -> tuple[Tokens, dict[str, Tensor]]:
        """Tokens of a step, and what the sensor leaves for the next one."""
        values, present = given[name], given[f"{name}_present"]
        if sensor.tail:
            values = torch.cat([given[f"{name}.tail"], values], -1)
        length = torch.full_like(present, values.shape[-1], dtype=torch.int64)
        statistics_ = given.get(f"{name}_shift"), given.get(f"{name}_scale")
        window = scrub_window(Window(values, length, present, *statistics_))
        features = Pass(self.model, {name: window}, None).feature(name)
        mask = features.mask[:, : sensor.features]
        after: dict[str, Tensor] = {}
        begins = torch.arange(sensor.features, device=values.device) * sensor.hop - sensor.tail
        if sensor.tail:
            run = given[f"{name}.run"]
            mask = mask & (begins >= -run[:, None])
            after[f"{name}.tail"] = window.values[..., -sensor.tail :]
            run = (run + sensor.samples).clamp_max(sensor.tail)
            after[f"{name}.run"] = torch.where(present, run, torch.zeros_like(run))
        features = Features(features.values[:, : sensor.features], mask, present)
        past = self._past(name)
        if past is None:
            return cast(Tokens, self.model.encoders[name](features)), after
        entered = torch.ones_like(begins, dtype=torch.bool)
        if sensor.tail:
            entered = given["number"] * sensor.samples + begins >= 0
        tokens, after[f"{name}.past"] = past.step(features, given[f"{name}.past"], entered)
        return tokens, after

    def _past(self, name: str) -> PastEncoder | None:
        encoder = self.model.encoders[name]
        return encoder if isinstance(encoder, PastEncoder) else None


class HeldSensor(nn.Module):
    """One vector of a sensor without time, the mean of its tokens: made once, held for all steps to come.

    Args:
        model: in evaluation.
        name: of the sensor.
        sensor: what the graph of whole windows takes of it.
    """

    def __init__(self, model: FusionModel, name: str, sensor: SensorInput) -> None:
        super().__init__()
        self.model = model
        self.name = name
        self.sensor = sensor

    @property
    def inputs(self) -> list[str]:
        """Names in order; no present: who has nothing asks nothing."""
        length = [f"{self.name}_length"] if self.sensor.timed else []
        return [self.name, *length, *([f"{self.name}_shift", f"{self.name}_scale"] if self.sensor.statistics else [])]

    def forward(self, *flat: Tensor) -> tuple[Tensor, Tensor]:
        """The vector, and whether there is anything in it."""
        given = dict(zip(self.inputs, flat, strict=True))
        values = given[self.name]
        present = torch.ones_like(values.flatten(1)[:, 0], dtype=torch.bool)
        length = given.get(f"{self.name}_length")
        if length is None:
            length = torch.full_like(present, values.shape[-1], dtype=torch.int64)
        window = Window(values, length, present, given.get(f"{self.name}_shift"), given.get(f"{self.name}_scale"))
        encoder = cast(Encoder, self.model.encoders[self.name])
        level = window if encoder.level == "window" else Pass(self.model, {self.name: window}, None).feature(self.name)
        tokens = cast(Tokens, encoder(level))
        return pool(tokens), tokens.mask.any(1)


def add_step_graph(draft: Draft, trained: Trained, windows: Mapping[str, Window]) -> StepReport:
    """Put ``step.onnx`` and what it needs into a bundle that is not written yet.

    Args:
        draft: the bundle with its graph of whole windows.
        trained: the model.
        windows: some records' windows, whose spread the made-up ones have that both are compared on.

    Raises:
        ExportError: the model does not go step by step, or its steps answer otherwise than torch's whole windows.
    """
    sensors = sensor_inputs(trained, Batch(dict(windows)))
    plan = plan_steps(trained, sensors)
    model, opset = trained.model.cpu().eval(), int(draft.manifest["opset"])
    stepped = StepModel(model, plan, trained.tasks).eval()
    made = made_windows(plan, windows)
    held = {name: HeldSensor(model, name, sensor).eval() for name, sensor in plan.held.items()}
    state = stepped.empty_state(2)
    example = [*_first_step(stepped, held, made, 2), *state.values()]
    draft.files["step.onnx"] = to_onnx(
        stepped,
        example,
        inputs=[*stepped.inputs, *(f"state.{name}" for name in state)],
        outputs=[*stepped.tasks, *(f"next.{name}" for name in state)],
        shapes={"flat": (*({0: BATCH} for _ in stepped.inputs), *_state_axes(stepped).values())},
        opset=opset,
    )
    for name, module in held.items():
        parts = [part[:2] for part in _held_inputs(module, made[name])]
        axes = [free_axes(module.sensor), *({0: BATCH} for _ in module.inputs[1:])]
        draft.files[f"held/{name}.onnx"] = to_onnx(
            module,
            [part.clone() for part in parts],
            inputs=module.inputs,
            outputs=["vector", "real"],
            shapes={"flat": tuple(axes)},
            opset=opset,
        )
    draft.manifest["step_graph"] = described = _describe(stepped)
    session = StepSession(Bundle(draft.path, read_manifest(draft.manifest), draft.files))
    largest, cases = compare_steps(stepped, session, made, trained.recipe.export.tolerance)
    step_ms, window_ms = _measure(draft, session, made)
    described |= {"largest": largest, "cases": cases, "step_ms": step_ms, "window_ms": window_ms}
    samples = {name: sensor.samples for name, sensor in plan.timed.items()}
    return StepReport(plan.seconds, plan.fusion.steps, samples, largest, cases, step_ms, window_ms)


@torch.no_grad()
def read_at(stepped: StepModel, windows: Mapping[str, Window], steps: int) -> tuple[Tensor, ...]:
    """What the whole-window model answers when heads read the last real one of its first ``steps`` bins.

    Where sensors with time have no more than these, that is its answer; but one without time is real in every bin, so
    that the model would read its last.
    """
    tokens = stepped.model.look(windows).stream(stepped.plan.node)
    sofar = torch.arange(tokens.mask.shape[1]) < steps
    readout = stepped.plan.fusion.readout(tokens._replace(mask=tokens.mask & sofar))
    return stepped.answers(readout)


def made_windows(plan: Plan, windows: Mapping[str, Window]) -> dict[str, Window]:
    """Noise of each channel's own mean and spread, of every sensor with time; of the others the windows themselves.

    All sensors are there in all rows; nobody's signals are in them, and no channel dies within a window.
    """
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, window in windows.items():
        sensor = plan.timed.get(name)
        if sensor is not None:
            real = torch.nan_to_num(window.values.double())
            noise = torch.randn(
                *window.values.shape[:-1], sensor.samples * plan.fusion.steps, generator=generator, dtype=torch.float64
            )
            mean, spread = real.mean(-1, keepdim=True), real.std(-1, keepdim=True)
            values = (mean + spread * noise).to(window.values.dtype)
            window = window._replace(values=values, length=torch.full_like(window.length, values.shape[-1]))
        statistics_ = (plan.timed[name].window if sensor is not None else plan.held[name]).statistics
        if statistics_ is not None and window.shift is None:
            shape = (len(window.present), *statistics_)
            window = window._replace(shift=torch.zeros(shape), scale=torch.ones(shape))
        made[name] = window._replace(present=torch.ones_like(window.present))
    return made


def compare_steps(
    stepped: StepModel, session: StepSession, windows: Mapping[str, Window], tolerance: float
) -> tuple[float, int]:
    """The largest difference between a bundle's steps and torch, and in how many answers it was looked for.

    For batch 1 and N and every non-empty subset of sensors, each step's answer against that of the whole-window model
    to a window of which so many steps are real (`read_at`); then, beyond the window, against `StepModel` while
    sensors vanish and return.

    Raises:
        ExportError: they differ by more than ``tolerance``.
    """
    largest, cases = 0.0, 0
    names, plan = list(windows), stepped.plan

    def check(got: Mapping[str, Array], wanted: tuple[Tensor, ...], what: Callable[[], str]) -> None:
        nonlocal largest, cases
        for task, tensor in zip(stepped.tasks, wanted, strict=True):
            difference = far(got[task], tensor.numpy())
            if not difference <= tolerance:
                rule = f"{task}: a step must answer as torch does to {tolerance:g}"
                raise ExportError(f"{rule}, but differs by {difference:.3g} ({what()})")
            largest, cases = max(largest, difference), cases + 1

    for batch in dict.fromkeys((1, len(windows[names[0]].present))):
        for subset in subsets(names):
            state = session.start(batch)
            for number in range(plan.fusion.steps):
                got, state = push(session, plan, windows, number, batch, dict.fromkeys(subset, True), state)
                given = {n: _begun(windows[n], plan, n, number + 1, batch, n in subset) for n in names}
                wanted = read_at(stepped, given, number + 1)
                about = f"step {number + 1}, batch {batch}, sensors {', '.join(subset)}"
                check(got, wanted, lambda about=about: about)  # type: ignore[misc]
        draw = np.random.default_rng(0)
        state, own = session.start(batch), stepped.empty_state(batch)
        for number in range(BEYOND * plan.fusion.steps):
            there = {n: bool(draw.random() < 0.6) for n in names}
            got, state = push(session, plan, windows, number % plan.fusion.steps, batch, there, state)
            wanted, own = step_torch(stepped, windows, number % plan.fusion.steps, batch, there, own)
            check(got, wanted, lambda number=number, batch=batch: f"step {number + 1} of a stream, batch {batch}")  # type: ignore[misc]
    return largest, cases


def push(
    session: StepSession,
    plan: Plan,
    windows: Mapping[str, Window],
    number: int,
    batch: int,
    there: Mapping[str, bool],
    state: Mapping[str, Array],
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Give a session one step of windows; sensors that are not there are told so."""
    given: dict[str, Any] = {}
    for name, window in windows.items():
        values = _cut(window, plan, name, number, batch).numpy() if there.get(name, False) else None
        given[name] = values
    return session.push(
        given,
        state,
        lengths={n: windows[n].length[:batch].numpy() for n in plan.held if there.get(n, False)},
        statistics={
            n: (w.shift[:batch].numpy(), w.scale[:batch].numpy())
            for n, w in windows.items()
            if w.shift is not None and w.scale is not None
        },
    )


@torch.no_grad()
def step_torch(
    stepped: StepModel,
    windows: Mapping[str, Window],
    number: int,
    batch: int,
    there: Mapping[str, bool],
    state: Mapping[str, Tensor],
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """The same step by torch."""
    held = {n: HeldSensor(stepped.model, n, sensor).eval() for n, sensor in stepped.plan.held.items()}
    parts = _step_inputs(stepped, held, windows, number, batch, there)
    out = stepped(*parts, *state.values())
    return out[: len(stepped.tasks)], dict(zip(state, out[len(stepped.tasks) :], strict=True))


def _step_inputs(
    stepped: StepModel,
    held: Mapping[str, HeldSensor],
    windows: Mapping[str, Window],
    number: int,
    batch: int,
    there: Mapping[str, bool],
) -> list[Tensor]:
    parts: list[Tensor] = []
    for name in stepped.plan.fusion.inputs:
        window = windows[name]
        present = torch.full((batch,), there.get(name, False))
        timed = stepped.plan.timed.get(name)
        if timed is None:
            vector, real = held[name](*(part[:batch] for part in _held_inputs(held[name], window)))
            parts += [vector, present & real]
            continue
        parts += [_cut(window, stepped.plan, name, number, batch), present]
        if timed.window.statistics:
            assert window.shift is not None and window.scale is not None
            parts += [window.shift[:batch], window.scale[:batch]]
    return parts


@torch.no_grad()
def _first_step(
    stepped: StepModel, held: Mapping[str, HeldSensor], windows: Mapping[str, Window], batch: int
) -> list[Tensor]:
    there = dict.fromkeys(windows, True)
    return [part.clone() for part in _step_inputs(stepped, held, windows, 0, batch, there)]


def _held_inputs(module: HeldSensor, window: Window) -> list[Tensor]:
    parts = [window.values, *([window.length] if module.sensor.timed else [])]
    if module.sensor.statistics:
        assert window.shift is not None and window.scale is not None
        parts += [window.shift, window.scale]
    return parts


def _cut(window: Window, plan: Plan, name: str, number: int, batch: int) -> Tensor:
    """What a step brings of a window: some samples, or all of what has no time."""
    sensor = plan.timed.get(name)
    if sensor is None:
        return window.values[:batch]
    return window.values[:batch, ..., number * sensor.samples : (number + 1) * sensor.samples]


def _begun(window: Window, plan: Plan, name: str, steps: int, batch: int, here: bool) -> Window:
    """A window of which the first steps are real."""
    cut = some(window, slice(batch), here=True)
    sensor = plan.timed.get(name)
    if sensor is not None:
        cut = cut._replace(length=torch.full_like(cut.length, steps * sensor.samples))
    return cut._replace(present=torch.full_like(cut.present, here))


def _state_axes(stepped: StepModel) -> dict[str, dict[int, Any]]:
    """Where the batch lies in every part of the state."""
    two, three = stepped.empty_state(2), stepped.empty_state(3)
    return {
        name: {axis: BATCH for axis in range(part.ndim) if part.shape[axis] != three[name].shape[axis]}
        for name, part in two.items()
    }


def _describe(stepped: StepModel) -> dict[str, Any]:
    """What the manifest says of the graph."""
    plan, axes = stepped.plan, _state_axes(stepped)
    sensors: dict[str, Any] = {}
    for name in plan.fusion.inputs:
        timed = plan.timed.get(name)
        shape = (plan.fusion.dim,) if timed is None else timed.shape
        sensors[name] = {"samples": None if timed is None else timed.samples, "shape": list(shape)}
    state = [
        {
            "input": f"state.{name}",
            "output": f"next.{name}",
            "shape": [None if axis in axes[name] else size for axis, size in enumerate(part.shape)],
            "dtype": str(part.dtype).removeprefix("torch."),
            "initial": "zeros",
        }
        for name, part in stepped.empty_state(2).items()
    ]
    steps = plan.fusion.steps
    return {"seconds": plan.seconds, "steps": steps, "sensors": sensors, "inputs": stepped.inputs, "state": state}


def _measure(draft: Draft, session: StepSession, windows: Mapping[str, Window]) -> tuple[float, float]:
    """Median milliseconds of a step and of a whole window, of sensors with time alone: the others are held."""
    graph = session.graph
    steps = {n: windows[n].values[:1, ..., : s.samples].numpy() for n, s in graph.sensors.items() if s.samples}
    whole = {name: windows[name].values[:1].numpy() for name in steps}
    statistics_ = {
        n: (w.shift[:1].numpy(), w.scale[:1].numpy())
        for n, w in windows.items()
        if n in steps and w.shift is not None and w.scale is not None
    }
    state, predict = session.start(), draft.session().predict
    return (
        _median(lambda: session.push(steps, state, statistics=statistics_)),
        _median(lambda: predict(whole, statistics=statistics_)),
    )


def _median(call: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[WARM:])
