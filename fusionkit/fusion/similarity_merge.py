"""Similarity merge: train each sensor by itself, then share layers where activations agree."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.levels import Tokens
from fusionkit.core.registry import fusion
from fusionkit.fusion.alone import train_alone
from fusionkit.fusion.branches import BranchLinear
from fusionkit.fusion.cka import debiased_cka
from fusionkit.fusion.operation import IntermediateFusion, TrainingBatch
from fusionkit.fusion.vectors import SensorScale, one_token, pool_streams, pool_training


@fusion.register("similarity_merge")
class SimilarityMerge(IntermediateFusion):
    r"""Train a network a sensor, then merge networks at the shallowest layer where their activations agree.

    Each stream is pooled, standardised by training records and brought to ``dim``; then
    :math:`h_m \leftarrow \mathrm{relu}(W_m h_m + b_m)`, ``layers`` times. Before gradient training every sensor's
    layers learn the tasks by themselves with linear heads. On a fifth of the training records, held out from that,
    the activations of every two sensors at every layer are compared by debiased linear CKA. From the shallowest
    layer with a CKA of at least ``threshold`` on, two sensors share one network: the later one's activations are
    rotated, scaled and shifted onto the earlier one's (Procrustes), averaged over those that are present, and go
    on through the earlier one's layers. Agreement is passed on: what agrees with one of a group joins it. Networks
    that never meet stay apart up to the end, where all are put side by side and projected to ``dim``: a linear head
    then adds what each says, late fusion within the node. Afterwards everything trains together.

    The idea, train each modality fully and merge where activations are similar, stands in lecture notes under names
    that we could not trace to a paper; the criterion, its threshold, the way of merging and all numbers are our
    reconstruction. Encoders of sensors are as they start while this is fitted.

    Attributes:
        similarity: the CKA of every two sensors at every layer, ``(layer, sensor, sensor)``.
        leader: whose network each sensor goes through after each layer, ``(layer, sensor)``.

    Args:
        inputs: width of each token stream.
        dim: width of the token that comes out, and of every layer.
        duration: not used; vectors have no time.

    Reference:
        Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019, for the similarity.
    """

    similarity: Float[Tensor, "layer sensor sensor"]
    leader: Tensor
    rotation: Float[Tensor, "layer sensor dim dim"]
    shift: Float[Tensor, "layer sensor dim"]

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        layers: Annotated[int, Field(ge=1, description="layers of each sensor's network")] = 2,
        threshold: Annotated[float, Field(gt=0, le=1, description="least CKA of activations that merge")] = 0.5,
        epochs: Annotated[int, Field(ge=1, description="passes over the training records, each sensor by itself")] = 50,
        lr: Annotated[float, Field(gt=0, description="learning rate at the start of these; it falls to zero")] = 3e-3,
    ) -> None:
        super().__init__(inputs, dim, duration)
        self.threshold, self.epochs, self.lr = threshold, epochs, lr
        sensors = len(self.inputs)
        self.scale = SensorScale(self.inputs.values())
        self.enter = nn.ModuleList(nn.Linear(width, dim) for width in self.inputs.values())
        self.layers = nn.ModuleList(BranchLinear(sensors, dim, dim) for _ in range(layers))
        self.join = nn.Linear(sensors * dim, dim)
        self.register_buffer("similarity", torch.zeros(layers, sensors, sensors))
        self.register_buffer("leader", torch.arange(sensors).repeat(layers, 1))
        self.register_buffer("rotation", torch.eye(dim).repeat(layers, sensors, 1, 1))
        self.register_buffer("shift", torch.zeros(layers, sensors, dim))

    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens:
        """Join one batch into one token."""
        vectors = pool_streams(inputs, self.inputs)
        states, here = self._enter(self.scale(vectors), vectors.here), vectors.here.T
        for number in range(len(self.layers)):
            states, here = self._merge(number, self._step(number, states, here), here)
        leads = (self.leader[-1] == torch.arange(len(self.inputs), device=here.device))[:, None, None]
        side_by_side = torch.where(leads, states, torch.zeros_like(states)).transpose(0, 1).flatten(1)
        return one_token(self.join(side_by_side), inputs, vectors.here.any(1))

    def fit(self, training_batches: Callable[[], Iterable[TrainingBatch]], generator: torch.Generator) -> None:
        """Train every sensor by itself, compare activations, decide where which networks merge.

        Raises:
            DataError: no training record is labelled.
        """
        vectors = pool_training(training_batches, self.inputs)
        self.scale.fit(vectors)
        blocks, here = self.scale(vectors), vectors.here
        order = torch.randperm(len(here), generator=generator).to(here.device)
        held, trained = torch.split(order, [len(order) // 5, len(order) - len(order) // 5])

        def states(rows: Tensor, depth: int = len(self.layers)) -> Tensor:
            there = here[rows]
            state = self._enter([block[rows] for block in blocks], there)
            for layer in list(self.layers)[:depth]:
                state = self._keep(layer(state[:, None]).squeeze(1).relu(), there.T)
            return state

        parameters = [*self.enter.parameters(), *self.layers.parameters()]
        train_alone(
            states, parameters, here, vectors.targets, rows=trained, epochs=self.epochs, lr=self.lr, generator=generator
        )
        held = held[:2000]  # the kernels are square in the records
        self.similarity.copy_(
            torch.stack([_similarities(states(held, depth + 1), here[held]) for depth in range(len(self.layers))])
        )
        self.leader.copy_(leaders(self.similarity, self.threshold))
        self._align(self._enter([block[trained] for block in blocks], here[trained]), here[trained].T)

    def _enter(self, blocks: list[Tensor], here: Bool[Tensor, "batch sensor"]) -> Float[Tensor, "sensor batch dim"]:
        return self._keep(torch.stack([enter(block) for enter, block in zip(self.enter, blocks, strict=True)]), here.T)

    def _keep(
        self, states: Float[Tensor, "sensor batch dim"], here: Bool[Tensor, "sensor batch"]
    ) -> Float[Tensor, "sensor batch dim"]:
        return torch.where(here[..., None], states, torch.zeros_like(states))

    def _step(
        self, number: int, states: Float[Tensor, "sensor batch dim"], here: Bool[Tensor, "sensor batch"]
    ) -> Float[Tensor, "sensor batch dim"]:
        """One layer: merged sensors go through their leader's weights."""
        layer = self.layers[number]
        assert isinstance(layer, BranchLinear) and layer.bias is not None
        if number == 0:
            return self._keep(torch.baddbmm(layer.bias[:, None], states, layer.weight).relu(), here)
        led = self.leader[number - 1]
        return self._keep(torch.baddbmm(layer.bias[led][:, None], states, layer.weight[led]).relu(), here)

    def _merge(
        self, number: int, states: Float[Tensor, "sensor batch dim"], here: Bool[Tensor, "sensor batch"]
    ) -> tuple[Float[Tensor, "sensor batch dim"], Bool[Tensor, "sensor batch"]]:
        """Averages of groups after a layer, over the members that are there, and where any is."""
        leader = self.leader[number]
        together = (leader[:, None] == leader).to(states.dtype)
        turned = self._keep(torch.baddbmm(self.shift[number][:, None], states, self.rotation[number]), here)
        count = together @ here.to(states.dtype)
        mean = (together @ turned.flatten(1)).reshape(states.shape) / count.clamp_min(1)[..., None]
        return mean, count > 0

    def _align(self, states: Float[Tensor, "sensor record dim"], here: Bool[Tensor, "sensor record"]) -> None:
        """Learn, layer by layer, how each sensor that joins a group is turned onto the group's leader."""
        for number in range(len(self.layers)):
            self.rotation[number] = torch.eye(self.dim, device=states.device)
            self.shift[number] = 0
            states = self._step(number, states, here)
            for sensor, leader in enumerate(self.leader[number].tolist()):
                if sensor != leader:
                    both = here[sensor] & here[leader]
                    rotation, shift = procrustes(states[sensor][both], states[leader][both])
                    self.rotation[number, sensor], self.shift[number, sensor] = rotation, shift
            states, here = self._merge(number, states, here)


def leaders(similarity: Float[Tensor, "layer sensor sensor"], threshold: float) -> Tensor:
    """The first sensor of each sensor's group after every layer; groups only grow from layer to layer."""
    led = torch.arange(similarity.shape[1])
    rows = []
    for layer in similarity:
        for first, second in (layer >= threshold).cpu().triu(1).nonzero().tolist():
            low, high = sorted((int(led[first]), int(led[second])))
            led = torch.where(led == high, low, led)
        rows.append(led)
    return torch.stack(rows)


def procrustes(
    source: Float[Tensor, "row dim"], target: Float[Tensor, "row dim"]
) -> tuple[Float[Tensor, "dim dim"], Float[Tensor, " dim"]]:
    r"""The rotation, scale and shift that bring one set of rows nearest to another: ``source @ turn + shift``.

    With centred :math:`A, B` and the singular value decomposition :math:`A^T B = U S V^T`, the turn is
    :math:`U V^T \, \mathrm{tr}(S) / \|A\|^2`. Points on a circle and twice as far, a quarter turn on: that turn, times 2.
    """
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, v = torch.linalg.svd(a.T @ b)
    turn = u @ v * (s.sum() / a.square().sum().clamp_min(1e-12))
    return turn, target.mean(0) - source.mean(0) @ turn


def _similarities(
    states: Float[Tensor, "sensor record dim"], here: Bool[Tensor, "record sensor"]
) -> Float[Tensor, "sensor sensor"]:
    """Debiased CKA of every two sensors over the records that have both."""
    sensors = len(states)
    made = torch.eye(sensors, device=states.device)
    for first in range(sensors):
        for second in range(first + 1, sensors):
            both = here[:, first] & here[:, second]
            made[first, second] = made[second, first] = debiased_cka(states[first][both], states[second][both])
    return made
