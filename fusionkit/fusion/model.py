"""The model of a recipe: built parts, run in the order of the typed graph."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.augment.augmentation import Augmentation, WindowAugmentation
from fusionkit.core.errors import ShapeError
from fusionkit.core.levels import Batch, Features, Fused, Tokens, Window, pool, scrub_window
from fusionkit.core.modality import FrontEnd
from fusionkit.encoders.encoder import Encoder
from fusionkit.encoders.standardise import Standardise
from fusionkit.fusion.graph import Graph
from fusionkit.fusion.modality_dropout import drop_modalities
from fusionkit.fusion.operation import EarlyFusion, Fittable, IntermediateFusion, LateFusion

Level = TypeVar("Level", Window, Features)


class Output(NamedTuple):
    """What a model answers.

    ``decisions[task]`` is in the form of its task (see `fusionkit.heads.task.Task`); ``branches[branch][task]``
    are the decisions that a late node merged, and ``seen[branch]`` whether the branch had any sensor;
    ``auxiliary`` is what fusion operations add to the loss themselves.
    """

    decisions: dict[str, Tensor]
    branches: dict[str, dict[str, Tensor]]
    seen: dict[str, Tensor]
    auxiliary: Float[Tensor, ""]


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
        augmentations: by sensor, in order; used in training, when a generator is given.
        modality_dropout: probability with which a sensor vanishes from a training sample.
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
        augmentations: Mapping[str, Iterable[Augmentation]] | None = None,
        modality_dropout: float = 0.0,
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
        self.augmentations = nn.ModuleDict({k: nn.ModuleList(v) for k, v in (augmentations or {}).items()})
        self.modality_dropout = modality_dropout
        self.value_tasks = frozenset(value_tasks)
        self._clocks: dict[tuple[str, int, torch.device], Tensor | None] = {}

    def forward(self, inputs: Mapping[str, Window | Features], generator: torch.Generator | None = None) -> Output:
        """Answer every task for one batch.

        Args:
            inputs: a window, or features computed before, of every sensor of the graph.
            generator: draws augmentations and modality dropout; None means neither.
        """
        missing = [name for name in self.graph.modalities if name not in inputs]
        if missing:
            raise ShapeError(f"every sensor must be given (absent ones with present=False), but {missing} are not")
        levels: dict[str, Window | Features] = {name: inputs[name] for name in self.graph.modalities}
        if generator is not None and self.modality_dropout > 0:
            kept = drop_modalities({k: v.present for k, v in levels.items()}, self.modality_dropout, generator)
            levels = {name: level._replace(present=kept[name]) for name, level in levels.items()}
        levels = {name: self._window(name, level, generator) for name, level in levels.items()}
        features: dict[str, Features] = {}
        streams: dict[str, Tokens] = {}
        auxiliary = next(iter(levels.values())).values.new_zeros((), dtype=torch.float32)

        def feature(name: str) -> Features:
            if name not in features:
                features[name] = self._features(name, levels[name], generator)
            return features[name]

        def stream(name: str) -> Tokens:
            if name not in streams:
                encoder = cast(Encoder, self.encoders[name])
                streams[name] = encoder(levels[name] if encoder.level == "window" else feature(name))
            return streams[name]

        decisions: dict[str, Tensor] = {}
        branches: dict[str, dict[str, Tensor]] = {}
        for node in self.graph.nodes:
            if node.level == "early":
                joint = self.operations[node.name]({name: feature(name) for name in node.inputs})
                streams[node.name] = self.encoders[node.name](joint)
            elif node.level == "intermediate":
                fused = self.operations[node.name]({name: stream(name) for name in node.inputs})
                if isinstance(fused, Fused):
                    auxiliary = auxiliary + fused.auxiliary
                    fused = fused.tokens
                streams[node.name] = fused
            elif self.merges:
                branches = {name: self.branch_heads[name](self._readout(name, stream(name))) for name in node.inputs}
                seen = torch.stack([streams[name].present for name in node.inputs])
                for task, merge in cast(Mapping[str, LateFusion], self.merges).items():
                    stacked = torch.stack([branches[name][task] for name in node.inputs])
                    rule = merge.merge_values if task in self.value_tasks else merge.merge_log_probabilities
                    decisions[task] = rule(stacked, seen)
        for name, heads in self.heads.items():
            decisions.update(heads(self._readout(name, stream(name))))
        return Output(decisions, branches, {name: streams[name].present for name in branches}, auxiliary)

    @torch.no_grad()
    def fit(self, batches: Callable[[], Iterable[Batch]], generator: torch.Generator) -> None:
        """Fit what is fitted before gradient training (scalers, PCA), with training records only."""
        for name in self.standardise:
            passing = (self._raw_features(name, batch.inputs[name]) for batch in batches())
            cast(Standardise, self.standardise[name]).fit(passing)
        for node in self.graph.nodes:
            operation = self.operations[node.name] if node.name in self.operations else None  # noqa: SIM401 - has no get
            if node.level == "early" and isinstance(operation, Fittable):
                operation.fit(partial(self._feature_batches, node.inputs, batches), generator)

    def _feature_batches(
        self, names: tuple[str, ...], batches: Callable[[], Iterable[Batch]]
    ) -> Iterator[dict[str, Features]]:
        for batch in batches():
            yield {name: self._features(name, batch.inputs[name], None) for name in names}

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
