"""Several models of one shape trained together: a step of all of them is one step of stacked weights."""

import copy
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from fusionkit.core.levels import Batch, Features, Window
from fusionkit.losses.balancing.fixed import Fixed
from fusionkit.training.engine import Engine
from fusionkit.training.interruption import Interrupted, StopRequest
from fusionkit.training.objective import TaskObjective
from fusionkit.training.order import derive_seed
from fusionkit.training.plan import JointPlan
from fusionkit.training.schedule import learning_rate_factor
from fusionkit.training.update import JointUpdate

TOLERANCE = 1e-4
"""Largest difference of gradients, in units of a parameter's largest one, at which batched training may begin."""
LEAST_GAIN = 1.2
"""How many times faster batched gradients must be for batched training to begin."""
ROUNDS = 3
"""How often both are timed; the fastest counts."""
Shape = tuple[torch.Size, float]


class Misfit(Exception):
    """These models cannot be trained together; the message says why."""


def train_together(engines: Sequence[Engine], *, stop: StopRequest | None = None) -> float:
    """Train engines to the end as `Engine.run` would each, a step of all at once; how many times faster gradients were.

    Weights, order, dropout and schedule are those of separate training; rounding differs, so that weights are equal to
    about 1e-6 after ten steps. Every engine validates, logs and keeps checkpoints as ever, though none within an epoch:
    an engine that was left goes on alone or together. Before any weight moves, the gradients of the first step are
    compared with those that every model finds by itself.

    Args:
        engines: alike in all but weights, records and seed, see `misfit`; none has begun.
        stop: a request to leave; what is trained is kept up to the last whole epoch.

    Raises:
        Misfit: they cannot be trained together; no step was made.
        DataError: a loss is not finite.
        Interrupted: a stop was asked for.
    """
    found = misfit(engines)
    if found is not None:
        raise Misfit(found)
    gain = _compare_gradients(engines)
    try:
        _train(engines, stop)
    finally:
        for engine in engines:
            engine.close()
    return gain


def _train(engines: Sequence[Engine], stop: StopRequest | None) -> None:
    """To the end; see `train_together`."""
    middle = [engine.take_up() for engine in engines]
    if any(middle) or len({engine.epoch for engine in engines if not engine.over}) > 1:
        raise Misfit("their checkpoints lie at different steps")
    running: list[Engine] = []
    saved = time.monotonic()
    while living := [engine for engine in engines if not engine.over]:
        if living != running:
            running, ensemble = living, Ensemble(living)
        ensemble.train_epoch()
        if stop or time.monotonic() - saved > engines[0].settings.checkpoint_seconds:
            for engine in running:
                engine.save()
            saved = time.monotonic()
        if stop:
            raise Interrupted(stop.signal)
    for engine in engines:
        engine.finish()


def misfit(engines: Sequence[Engine]) -> str | None:
    """Why engines cannot be trained together, as far as their settings say; None where they can."""
    for engine in engines:
        if engine.device.type != "cpu" or engine.world > 1 or engine.settings.precision is not None:
            return "only single processes on a CPU, at full precision, train together"
        if type(engine.update) is not JointUpdate or type(engine.plan) is not JointPlan or engine.before_epoch:
            return "every step must have the gradient of one loss, and every epoch all records once"
        objective = engine.objective
        if not isinstance(objective, TaskObjective) or type(objective.balance) is not Fixed:
            return "the weights of tasks must be fixed"
        if objective.adversary is not None or len(objective.consistency) or objective.held is not None:
            return "an adversary, consistency and parts that were trained before go on alone"
        model = objective.model
        changed = any(len(own) for own in model.augmentations.values())  # type: ignore[arg-type]
        if objective.mixup or model.modality_dropout or model.corruption is not None or changed:
            return "mixup, augmentation, dropout of sensors and corruption draw random numbers for each model"
        if model.blended is not None or any(getattr(merge, "own_loss", False) for merge in model.merges.values()):
            return "blended losses and a late node with a loss of its own go on alone"
    if len({(engine.settings, len(engine.rows), engine.steps) for engine in engines}) > 1:
        return "they differ in settings of training or in number of records"
    shapes = {tuple((name, value.shape) for name, value in engine.objective.state_dict().items()) for engine in engines}
    return "their weights differ in shape" if len(shapes) > 1 else None


class Ensemble:
    """Engines between two epochs, whose weights and moments become views of stacked ones.

    Args:
        engines: alike, with epochs left.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.engines = engines
        self.stack = _Stack([cast(TaskObjective, engine.objective) for engine in engines], bind=True)
        self.generators = [torch.Generator() for _ in engines]
        self.settings, self.steps = engines[0].settings, engines[0].steps
        self.optimiser = self._optimiser()

    def train_epoch(self) -> None:
        """One epoch of every model, and what follows an epoch."""
        began, epoch = time.monotonic(), self.engines[0].epoch
        plans = []
        for engine, generator in zip(self.engines, self.generators, strict=True):
            engine.open_epoch()
            plans.append(engine.plan_epoch())
            generator.manual_seed(derive_seed("epoch", engine.seed, epoch, engine.rank))
        losses = []
        for step in range(self.steps):
            batches = [engine.load(plan[step].rows) for engine, plan in zip(self.engines, plans, strict=True)]
            place, total = epoch * self.steps + step, self.steps * self.settings.epochs
            factor = learning_rate_factor(place, total, self.settings.warmup)
            losses.append(self._step(batches, factor * self.settings.lr))
        seconds = (time.monotonic() - began) / len(self.engines)
        for engine, own in zip(self.engines, torch.stack(losses, 1), strict=True):
            engine.trained(own.unbind(), seconds)
        for engine in self.engines:
            engine.close_epoch(save=False)

    def _step(self, batches: Sequence[Batch], lr: float) -> Float[Tensor, " model"]:
        """One step of every model; the losses before it."""
        losses = self.stack.losses(batches, draw_noise(self.stack.dropouts(batches[0]), self.generators))
        losses.sum().backward()  # type: ignore[no-untyped-call]  # no model reaches another's weights
        moved = [value.grad for value in self.stack.weights.values() if value.grad is not None]
        if self.settings.clip is not None:
            clip_each(moved, self.settings.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return losses.detach()

    def _optimiser(self) -> torch.optim.AdamW:
        """One optimiser of stacked weights; the engines' own hold views of its moments, for their checkpoints."""
        own = [engine.update.optimisers["optimiser"] for engine in self.engines]
        named = [dict(engine.objective.named_parameters()) for engine in self.engines]
        place = {id(parameter): name for name, parameter in named[0].items()}
        groups = [
            {
                "params": [self.stack.weights[place[id(parameter)]] for parameter in group["params"]],
                "weight_decay": group["weight_decay"],
            }
            for group in own[0].param_groups
        ]
        optimiser = torch.optim.AdamW(groups, fused=True)
        for name, weight in self.stack.weights.items():
            if not weight.requires_grad:
                continue
            before = [one.state.get(parameters[name], {}) for one, parameters in zip(own, named, strict=True)]
            state = {"step": before[0]["step"].clone() if before[0] else torch.zeros(())}
            for moment in ("exp_avg", "exp_avg_sq"):
                rows = [
                    one[moment] if one else torch.zeros_like(parameters[name])
                    for one, parameters in zip(before, named, strict=True)
                ]
                state[moment] = torch.stack(rows)
            optimiser.state[weight] = state
            for number, (one, parameters) in enumerate(zip(own, named, strict=True)):
                one.state[parameters[name]] = {
                    "step": state["step"],
                    "exp_avg": state["exp_avg"][number],
                    "exp_avg_sq": state["exp_avg_sq"][number],
                }
        return optimiser


class _Stack:
    """Weights, buffers and what tasks learned, of several objectives, and the losses of all in one pass.

    Args:
        objectives: alike.
        bind: whether the objectives' own weights and buffers become views of the stacked ones.
    """

    def __init__(self, objectives: Sequence[TaskObjective], *, bind: bool) -> None:
        self.first = objectives[0]
        weights = [dict(objective.named_parameters()) for objective in objectives]
        buffers = [dict(objective.named_buffers()) for objective in objectives]
        self.weights = {
            name: torch.stack([own[name].detach() for own in weights]).requires_grad_(value.requires_grad)
            for name, value in weights[0].items()
        }
        self.buffers = {name: torch.stack([own[name] for own in buffers]) for name in buffers[0]}
        if bind:
            for number, (parameters, constants) in enumerate(zip(weights, buffers, strict=True)):
                for name, parameter in parameters.items():
                    parameter.data = self.weights[name].detach()[number]
                for name, constant in constants.items():
                    constant.data = self.buffers[name][number]
        self.learned = {name: _learned([own.tasks[name] for own in objectives]) for name in self.first.tasks}
        self._dropouts: dict[tuple[torch.Size, ...], list[Shape]] = {}

    def losses(self, batches: Sequence[Batch], noise: Sequence[Float[Tensor, "model ..."]]) -> Float[Tensor, " model"]:
        """The loss of every model for its batch."""
        inputs = {name: _stacked([batch.inputs[name] for batch in batches]) for name in batches[0].inputs}
        targets = {name: torch.stack([one.targets[name] for one in batches]) for name in batches[0].targets}
        found: Tensor = vmap(self._loss)(self.weights, self.buffers, self.learned, inputs, targets, list(noise))
        return found

    def dropouts(self, batch: Batch) -> list[Shape]:
        """Shape and rate of every dropout that a batch passes, in their order."""
        key = tuple(part.shape for level in batch.inputs.values() for part in level if part is not None)
        if key not in self._dropouts:
            buffers = {name: value.clone() for name, value in self.first.named_buffers()}
            parameters: dict[str, Tensor] = dict(self.first.named_parameters())
            with torch.no_grad(), torch.random.fork_rng(devices=[]), _NotedDropout() as noted:
                functional_call(self.first, (parameters, buffers), (batch, torch.Generator()))
            self._dropouts[key] = noted.found
        return self._dropouts[key]

    def _loss(
        self,
        weights: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        learned: Mapping[str, Mapping[str, Tensor]],
        inputs: dict[str, Window | Features],
        targets: dict[str, Tensor],
        noise: Sequence[Tensor],
    ) -> Float[Tensor, ""]:
        with _taught(self.first, learned), _GivenDropout(noise):
            loss: Tensor = functional_call(
                self.first, (dict(weights), dict(buffers)), (Batch(inputs, targets), torch.Generator())
            )
        return loss


def _learned(tasks: Sequence[Any]) -> dict[str, Tensor]:
    """Numbers that a task took from the training records of each model and that differ between models."""
    found = {}
    for name, value in vars(tasks[0]).items():
        values = [getattr(task, name) for task in tasks]
        if isinstance(value, Tensor) and not all(torch.equal(value, other) for other in values):
            found[name] = torch.stack(values)
        elif isinstance(value, float) and len(set(values)) > 1:
            found[name] = torch.tensor(values, dtype=torch.float32)
    return found


@contextmanager
def _taught(objective: TaskObjective, learned: Mapping[str, Mapping[str, Tensor]]) -> Iterator[None]:
    """The objective's tasks with other numbers, for a while."""
    before = objective.tasks
    objective.tasks = {name: copy.copy(task) for name, task in before.items()}
    for name, values in learned.items():
        vars(objective.tasks[name]).update(values)
    try:
        yield
    finally:
        objective.tasks = before


def _stacked(levels: Sequence[Window | Features]) -> Window | Features:
    """The same sensor's input of every model, as one with an axis more."""
    parts: list[Any] = [None if own[0] is None else torch.stack(own) for own in zip(*levels, strict=True)]
    return type(levels[0])(*parts)


def draw_noise(shapes: Sequence[Shape], generators: Sequence[torch.Generator]) -> list[Float[Tensor, "model ..."]]:
    """What dropout multiplies by, for every model from its own generator, bit for bit as torch draws it on a CPU."""
    noise = [torch.empty(len(generators), *shape) for shape, _ in shapes]
    for number, generator in enumerate(generators):
        for values, (_, rate) in zip(noise, shapes, strict=True):
            values[number].bernoulli_(1 - rate, generator=generator)
    return [values.div_(1 - rate) for values, (_, rate) in zip(noise, shapes, strict=True)]


def clip_each(gradients: Sequence[Float[Tensor, "model ..."]], largest: float) -> None:
    """Scale every model's gradient down to a norm, as `torch.nn.utils.clip_grad_norm_` does for one.

    With largest 1, a model whose gradient is (3, 4) gets (0.6, 0.8), and its neighbour with (0.3, 0.4) keeps it.
    """
    norm = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *(1,) * (gradient.ndim - 1)))


class _Dropout(TorchFunctionMode, ABC):
    """Stands between a model and dropout."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout:
            return self.dropout(*args, **kwargs)
        return func(*args, **kwargs)

    def dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """What `torch.nn.functional.dropout` gives."""
        return self.drop(input, p) if training and p > 0 else input

    @abstractmethod
    def drop(self, values: Tensor, rate: float) -> Tensor:
        """Drop some values."""


class _NotedDropout(_Dropout):
    """Notes shape and rate, and drops nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Shape] = []

    def drop(self, values: Tensor, rate: float) -> Tensor:
        """Drop nothing."""
        self.found.append((values.shape, rate))
        return values


class _GivenDropout(_Dropout):
    """Multiplies by noise that was drawn before."""

    def __init__(self, noise: Sequence[Tensor]) -> None:
        super().__init__()
        self.noise = iter(noise)

    def drop(self, values: Tensor, rate: float) -> Tensor:
        """Drop what the noise says."""
        return values * next(self.noise)


def _compare_gradients(engines: Sequence[Engine]) -> float:
    """How many times faster the gradients of all models are found together than one after another.

    Raises:
        Misfit: they are no faster, come out otherwise, or `torch.func` has no way to do what the models do.
    """
    objectives = [cast(TaskObjective, engine.objective).train() for engine in engines]
    batches = [engine.load(engine.plan(0)[0].rows) for engine in engines]
    generators = [torch.Generator().manual_seed(number) for number in range(len(engines))]
    noise = draw_noise(_Stack(objectives, bind=False).dropouts(batches[0]), generators)
    seconds: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(ROUNDS):
        began = time.perf_counter()
        alone = [
            _gradients(objective, batch, [values[number] for values in noise])
            for number, (objective, batch) in enumerate(zip(objectives, batches, strict=True))
        ]
        seconds["alone"].append(time.perf_counter() - began)
        stack = _Stack(objectives, bind=False)  # now tasks have made what they keep of their records
        began = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "There is a performance drop")  # one model after another, within torch
                stack.losses(batches, noise).sum().backward()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, TypeError, IndexError, StopIteration, UserWarning) as error:
            raise Misfit(f"torch.func cannot run them: {(str(error) or repr(error)).splitlines()[0][:120]}") from None
        seconds["together"].append(time.perf_counter() - began)
    for number, (gradients, buffers) in enumerate(alone):
        for name, own in gradients.items():
            found = stack.weights[name].grad
            if not _near(own, None if found is None else found[number]):
                raise Misfit(f"the gradient of {name} comes out otherwise together than alone")
        for name, kept in buffers.items():
            if not torch.allclose(kept, stack.buffers[name][number], TOLERANCE, 1e-6, equal_nan=True):
                raise Misfit(f"{name} comes out otherwise together than alone")
    gain = min(seconds["alone"]) / min(seconds["together"])
    if gain < LEAST_GAIN:
        raise Misfit(f"together they would be {gain:.1f} times as fast, less than {LEAST_GAIN:g}")
    return gain


def _gradients(
    objective: TaskObjective, batch: Batch, noise: Sequence[Tensor]
) -> tuple[dict[str, Tensor | None], dict[str, Tensor]]:
    """Of every weight that trains, for one model by itself, and its buffers after the step; its own stay."""
    buffers = {name: value.clone() for name, value in objective.named_buffers()}
    weights: dict[str, Tensor] = dict(objective.named_parameters())
    live = {name: value for name, value in weights.items() if value.requires_grad}
    with _GivenDropout(noise):
        loss = functional_call(objective, (weights, buffers), (batch, torch.Generator()))
    found = torch.autograd.grad(loss, list(live.values()), allow_unused=True)
    return dict(zip(live, found, strict=True)), buffers


def _near(own: Tensor | None, other: Tensor | None) -> bool:
    if own is None or other is None:
        return own is other
    return float((own - other).abs().max()) <= TOLERANCE * float(own.abs().max()) + 1e-7
