"""The model of a recipe: built parts, run in the order of the typed graph."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.augment.augmentation import Augmentation, WindowAugmentation
from fusionkit.augment.sensor_corruption import SensorCorruption
from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.core.levels import Batch, Decision, Features, Fused, Tokens, Window, pool, scrub_window
from fusionkit.core.modality import FrontEnd
from fusionkit.encoders.encoder import Encoder
from fusionkit.encoders.standardise import Standardise
from fusionkit.fusion.gradient_blending import GradientBlending
from fusionkit.fusion.graph import Graph, Node
from fusionkit.fusion.modality_dropout import drop_modalities
from fusionkit.fusion.operation import EarlyFusion, Fittable, IntermediateFusion, LateFusion, TrainingBatch

Level = TypeVar("Level", Window, Features)


class Output(NamedTuple):
    """What a model answers.

    ``decisions[task]`` is in the form of its task (see `fusionkit.heads.task.Task`); ``branches[branch][task]``
    are the decisions that a late node merged, and ``seen[branch]`` whether the branch had any sensor;
    ``auxiliary`` is what fusion operations add to the loss themselves. ``alone`` are decisions of what an
    intermediate operation lets learn by itself, by ``node.stream`` (``seen`` has those names too): never an answer.
    ``readouts`` are the vectors that heads and branches read.
    """

    decisions: dict[str, Tensor]
    branches: dict[str, dict[str, Tensor]]
    seen: dict[str, Tensor]
    auxiliary: Float[Tensor, ""]
    alone: Mapping[str, dict[str, Tensor]] = MappingProxyType({})
    readouts: Mapping[str, Tensor] = MappingProxyType({})


class _Tasks(nn.ModuleDict):
    """Modules by task, which may be called as torch calls a method: ``type``."""

    def __setitem__(self, key: str, module: nn.Module) -> None:
        self._modules[key] = module


class FusionModel(nn.Module):
    """Sensors to decisions. Takes built parts; `fusionkit.recipe.build` makes them.

    Args:
        graph: the checked graph.
        front_ends: one for every sensor whose features are used.
        encoders: by sensor (where its tokens are used) and by early node.
        operations: early and intermediate ones by node.
        merges: the late node's operation for every task that reads it; empty without a late node.
        branch_heads: by the late node's branch; each gives decisions by task, which the late node merges.
        heads: by the node that other tasks read.
        stream_heads: by an intermediate node, then by the stream that it lets learn by itself; a node that is not
            named has its streams read by its own heads.
        augmentations: by sensor, in order; used in training, when a generator is given.
        modality_dropout: probability with which a sensor vanishes from a training sample.
        corruption: covers a sensor of a training sample with noise, after augmentations; None covers none.
        value_tasks: tasks whose decisions are values, not log-probabilities (a late node merges them otherwise).
        standardise: sensors whose features get zero mean and unit spread by training statistics.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        front_ends: Mapping[str, FrontEnd],
        encoders: Mapping[str, Encoder],
        operations: Mapping[str, EarlyFusion | IntermediateFusion],
        merges: Mapping[str, LateFusion],
        branch_heads: Mapping[str, nn.Module],
        heads: Mapping[str, nn.Module],
        stream_heads: Mapping[str, Mapping[str, nn.Module]] | None = None,
        augmentations: Mapping[str, Iterable[Augmentation]] | None = None,
        modality_dropout: float = 0.0,
        corruption: SensorCorruption | None = None,
        value_tasks: Iterable[str] = (),
        standardise: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.graph = graph
        self.front_ends = nn.ModuleDict(dict(front_ends))
        self.standardise = nn.ModuleDict(
            {n: Standardise(part.shape) for n, part in front_ends.items() if n in standardise and not part.shape.trains}
        )
        self.encoders = nn.ModuleDict(dict(encoders))
        self.operations = nn.ModuleDict(dict(operations))
        self.merges = _Tasks(dict(merges))
        self.branch_heads = nn.ModuleDict(dict(branch_heads))
        self.heads = nn.ModuleDict(dict(heads))
        self.stream_heads = nn.ModuleDict({k: nn.ModuleDict(dict(v)) for k, v in (stream_heads or {}).items()})
        self.augmentations = nn.ModuleDict({k: nn.ModuleList(v) for k, v in (augmentations or {}).items()})
        self.modality_dropout = modality_dropout
        self.corruption = corruption
        self.value_tasks = frozenset(value_tasks)
        self._clocks: dict[tuple[str, int, torch.device], Tensor | None] = {}

    def forward(self, inputs: Mapping[str, Window | Features], generator: torch.Generator | None = None) -> Output:
        """Answer every task for one batch.

        Args:
            inputs: a window, or features computed before, of every sensor of the graph.
            generator: draws augmentations, modality dropout and corruption; None means none of them.
        """
        missing = [name for name in self.graph.modalities if name not in inputs]
        if missing:
            raise ShapeError(f"every sensor must be given (absent ones with present=False), but {missing} are not")
        levels: dict[str, Window | Features] = {name: inputs[name] for name in self.graph.modalities}
        if generator is not None and self.modality_dropout > 0:
            kept = drop_modalities({k: v.present for k, v in levels.items()}, self.modality_dropout, generator)
            levels = {name: level._replace(present=kept[name]) for name, level in levels.items()}
        levels = {name: self._window(name, level, generator) for name, level in levels.items()}
        if generator is not None and self.corruption is not None:
            levels = dict(self.corruption(levels, generator))
        return self.answer(Pass(self, levels, generator))

    def answer(self, passing: "Pass") -> Output:
        """Answer every task for a batch on its way, from whatever of it is computed already."""
        decisions: dict[str, Tensor] = {}
        branches: dict[str, dict[str, Tensor]] = {}
        for node in self.graph.nodes:
            if node.level != "late":
                passing.stream(node.name)
            elif self.merges:
                branches = {name: passing.decide(name) for name in node.inputs}
                seen = torch.stack([passing.stream(name).present for name in node.inputs])
                for task, merge in cast(Mapping[str, LateFusion], self.merges).items():
                    stacked = torch.stack([branches[name][task] for name in node.inputs])
                    rule = merge.merge_values if task in self.value_tasks else merge.merge_log_probabilities
                    decisions[task] = rule(stacked, seen)
        for name, heads in self.heads.items():
            decisions.update(heads(passing.readout(name)))
        auxiliary = next(iter(passing.levels.values())).values.new_zeros((), dtype=torch.float32)
        for added in passing.auxiliary:
            auxiliary = auxiliary + added
        seen_by = {name: passing.stream(name).present for name in branches} | passing.seen
        return Output(decisions, branches, seen_by, auxiliary, passing.alone, passing.readouts)

    @torch.no_grad()
    def fit(self, batches: Callable[[], Iterable[Batch]], generator: torch.Generator) -> None:
        """Fit what is fitted before gradient training, with training records only.

        Scalers come first, then the nodes in the order of the graph, each with what it takes from encoders and
        earlier nodes as they are at that time, without augmentation or dropout.
        """
        training = self.training
        self.eval()
        self.fit_standardise(batches)
        for node in self.graph.nodes:
            operation = self.operations[node.name] if node.name in self.operations else None  # noqa: SIM401 - has no get
            if isinstance(operation, Fittable):
                operation.fit(partial(self._training_batches, node, None, batches), generator)
            if node.level == "late":
                for task, merge in self.merges.items():
                    if isinstance(merge, Fittable) and not cast(LateFusion, merge).held_out:
                        merge.fit(partial(self._training_batches, node, task, batches), generator)
        self.zero_grad()  # what trained inside leaves none for the first step
        self.train(training)

    @torch.no_grad()
    def fit_standardise(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit the scalers alone, with training records."""
        for name in self.standardise:
            passing = (self._raw_features(name, batch.inputs[name]) for batch in batches())
            cast(Standardise, self.standardise[name]).fit(passing)

    def look(self, inputs: Mapping[str, Window | Features], generator: torch.Generator | None = None) -> "Pass":
        """Features, streams and readouts of one batch, computed when they are asked for; no sensor is dropped.

        Args:
            inputs: a window, or features computed before, of every sensor of the graph.
            generator: draws augmentations; None means none of them.
        """
        return Pass(self, {n: self._window(n, inputs[n], generator) for n in self.graph.modalities}, generator)

    def _training_batches(
        self, node: Node, task: str | None, batches: Callable[[], Iterable[Batch]]
    ) -> Iterator[TrainingBatch]:
        """What a node takes from training records: features, tokens, or the branches' decisions about one task."""
        for batch in batches():
            levels = {name: self._window(name, batch.inputs[name], None) for name in self.graph.modalities}
            passing = Pass(self, levels, None)
            taken: dict[str, Features | Tokens | Decision] = {}
            for name in node.inputs:
                if node.level == "early":
                    taken[name] = passing.feature(name)
                elif task is None:
                    taken[name] = passing.stream(name)
                else:
                    taken[name] = Decision(passing.decide(name)[task], passing.stream(name).present)
            targets = {
                name: target[:, None] if name in self.value_tasks and target.ndim == 1 else target
                for name, target in batch.targets.items()
                if task in (None, name)
            }
            yield TrainingBatch(taken, targets)

    @property
    def stream_weights(self) -> dict[str, float]:
        """Weight of the loss of every stream that learns by itself, by ``node.stream``."""
        return {
            f"{node}.{name}": weight
            for node, operation in self.operations.items()
            if isinstance(operation, IntermediateFusion)
            for name, weight in operation.streams.items()
        }

    @property
    def blended(self) -> tuple[str, GradientBlending] | None:
        """The node that blends its losses, by name, and its operation.

        Raises:
            ConfigError: there are two.
        """
        found = [(name, part) for name, part in self.operations.items() if isinstance(part, GradientBlending)]
        if len(found) > 1:
            raise ConfigError(f"fusion: one node may blend its losses, but {[name for name, _ in found]} do")
        return found[0] if found else None

    def front_end(self, name: str) -> FrontEnd:
        """A sensor's front end."""
        return cast(FrontEnd, self.front_ends[name])

    def _augmented(self, name: str, level: Level, generator: torch.Generator | None, at: str) -> Level:
        if generator is not None and name in self.augmentations:
            for augmentation in cast(Iterable[Augmentation], self.augmentations[name]):
                if augmentation.level != at:
                    continue
                if isinstance(augmentation, WindowAugmentation) and isinstance(level, Window):
                    misfit = augmentation.misfit(level)
                    if misfit is not None:
                        raise ShapeError(f"augment.{name}: {augmentation.kind} {misfit}")
                level = augmentation(level, generator)
        return level

    def _readout(self, name: str, tokens: Tokens) -> Tensor:
        operation = self.operations[name] if name in self.operations else None  # noqa: SIM401 - has no get
        vector = operation.readout(tokens) if isinstance(operation, IntermediateFusion) else None
        return pool(tokens) if vector is None else vector

    def _heads_alone(self, node: str, stream: str) -> nn.Module:
        if node in self.stream_heads:
            return cast(nn.ModuleDict, self.stream_heads[node])[stream]
        return self.heads[node] if node in self.heads else self.branch_heads[node]

    def _window(self, name: str, level: Window | Features, generator: torch.Generator | None) -> Window | Features:
        if isinstance(level, Features):
            return level
        return self._augmented(name, scrub_window(level), generator, "window")

    def _raw_features(self, name: str, level: Window | Features) -> Features:
        if isinstance(level, Features):
            return level
        level = scrub_window(level)
        front_end = self.front_end(name)
        if torch.is_autocast_enabled(level.values.device.type):  # logarithms of microvolts want float32
            with torch.autocast(level.values.device.type, enabled=False):
                values, mask = front_end(level.values, level.length)
        else:
            values, mask = front_end(level.values, level.length)
        if level.shift is not None and level.scale is not None:
            values = (values - level.shift[:, None]) / level.scale[:, None]
        time = self._clock(name, values.shape[1], values.device)
        if time is not None:
            time = time[None].expand(values.shape[0], -1)
        return Features(values, mask, level.present, time)

    def _clock(self, name: str, steps: int, device: torch.device) -> Tensor | None:
        """Times of a front end's steps, brought to the device once: a training step copies nothing from the host."""
        if torch.compiler.is_exporting():
            time = self.front_end(name).times(steps)
            return None if time is None else time.to(device)
        key = (name, steps, device)
        if key not in self._clocks:
            time = self.front_end(name).times(steps)
            self._clocks[key] = None if time is None else time.to(device)
        return self._clocks[key]

    def _features(self, name: str, level: Window | Features, generator: torch.Generator | None) -> Features:
        features = self._raw_features(name, level)
        if name in self.standardise:
            features = self.standardise[name](features)
        values = features.values  # a channel that was not measured is its mean
        features = features._replace(values=torch.where(values.isnan(), torch.zeros_like(values), values))
        return self._augmented(name, features, generator, "features")


class Pass:
    """One batch on its way through a model: features and streams, each computed when it is first asked for.

    Args:
        model: the model.
        levels: scrubbed windows, or features computed before, by sensor.
        generator: draws the augmentations of features; None means none.
    """

    def __init__(
        self, model: FusionModel, levels: Mapping[str, Window | Features], generator: torch.Generator | None
    ) -> None:
        self.model, self.levels, self.generator = model, levels, generator
        self.nodes = {node.name: node for node in model.graph.nodes}
        self.features: dict[str, Features] = {}
        self.streams: dict[str, Tokens] = {}
        self.auxiliary: list[Tensor] = []
        self.alone: dict[str, dict[str, Tensor]] = {}
        self.seen: dict[str, Tensor] = {}
        self.readouts: dict[str, Tensor] = {}

    def feature(self, name: str) -> Features:
        """A sensor's features."""
        if name not in self.features:
            self.features[name] = self.model._features(name, self.levels[name], self.generator)
        return self.features[name]

    def stream(self, name: str) -> Tokens:
        """The tokens of a sensor or of a node that is not late."""
        if name not in self.streams:
            self.streams[name] = self._fuse(self.nodes[name]) if name in self.nodes else self._encode(name)
        return self.streams[name]

    def decide(self, branch: str) -> dict[str, Tensor]:
        """A late node's branch: its decisions by task."""
        decisions: dict[str, Tensor] = self.model.branch_heads[branch](self.readout(branch))
        return decisions

    def readout(self, name: str) -> Tensor:
        """The vector that heads read of a stream."""
        if name not in self.readouts:
            self.readouts[name] = self.model._readout(name, self.stream(name))
        return self.readouts[name]

    def _encode(self, name: str) -> Tokens:
        encoder = cast(Encoder, self.model.encoders[name])
        if encoder.level == "features":
            return cast(Tokens, encoder(self.feature(name)))
        return cast(Tokens, encoder(self.levels[name]))

    def _fuse(self, node: Node) -> Tokens:
        operation = self.model.operations[node.name]
        if node.level == "early":
            joint = operation({name: self.feature(name) for name in node.inputs})
            return cast(Tokens, self.model.encoders[node.name](joint))
        fused = operation({name: self.stream(name) for name in node.inputs})
        if isinstance(fused, Fused):
            self.auxiliary.append(fused.auxiliary)
            for name, tokens in fused.streams.items() if not torch.compiler.is_exporting() else ():
                heads = self.model._heads_alone(node.name, name)
                self.alone[f"{node.name}.{name}"] = heads(pool(tokens))
                self.seen[f"{node.name}.{name}"] = tokens.present
            return fused.tokens
        return cast(Tokens, fused)
