"""Correlated first: sensors that say the same meet in the first layer, the others later, cross weights last of all."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.levels import Tokens
from fusionkit.core.processes import summed
from fusionkit.core.registry import fusion
from fusionkit.fusion.alone import train_alone
from fusionkit.fusion.branches import BranchLinear
from fusionkit.fusion.operation import IntermediateFusion, TrainingBatch
from fusionkit.fusion.vectors import SensorScale, one_token, pool_streams, pool_training


@fusion.register("correlated_first")
class CorrelatedFirst(IntermediateFusion):
    r"""Fuse gradually: the most correlated sensors at the shallowest layer, block-diagonal weights to begin with.

    Each stream is pooled, standardised by training records and brought to ``dim``. Then, for every sensor k in each
    of M - 1 layers,

    .. math:: h_k \leftarrow \mathrm{relu}\Big( W_{kk} h_k + \gamma \sum_{n \in S_l(k)} W_{nk} h_n + b_k \Big)

    where :math:`S_l(k)` are the sensors that k has met by layer l: the correlation of two sensors is the mean of
    their top canonical correlations over training records, an average-linkage tree on one minus it gives the order,
    and the l-th pair of groups that the tree joins meets at layer l. Before gradient training the diagonal blocks
    learn the tasks sensor by sensor, with linear heads, and the cross blocks are zero. In training :math:`\gamma`
    stays 0 for ``hold`` passes over the training records, then rises to 1 over ``ramp`` passes (counted in samples
    seen by all processes, in a buffer). At the end all are put side by side and projected to ``dim``. An absent sensor is zero at
    every layer. The cost grows with the square of the number of sensors, since every two have weights of their own.

    The shared layer is the paper's; the correlation, the tree, the schedule, relu and all numbers are our
    reconstruction, as is that encoders of sensors are as they start while this is fitted. Dropping whole sensors
    (ModDrop) is the recipe's ``train.modality_dropout``.

    Attributes:
        correlation: of every two sensors.
        met: which sensors have met at which layer, ``(layer, sensor, sensor)``.

    Args:
        inputs: width of each token stream.
        dim: width of the token that comes out, and of every layer.
        duration: not used; vectors have no time.

    Reference:
        Neverova, Wolf, Taylor and Nebout, "ModDrop: Adaptive Multi-Modal Gesture Recognition", TPAMI 38(8), 2016.
    """

    exempt: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("gradient_reaches_parameters", "optimiser_moves_parameters"),
        "cross weights are released after `hold` passes over the training records",
    )
    correlation: Float[Tensor, "sensor sensor"]
    met: Bool[Tensor, "layer sensor sensor"]
    seen: Tensor
    records: Tensor

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        components: Annotated[
            int, Field(ge=1, description="principal directions of each sensor whose correlations are taken")
        ] = 4,
        hold: Annotated[float, Field(ge=0, description="passes over the training records without cross weights")] = 3.0,
        ramp: Annotated[float, Field(ge=0, description="passes over which they are then released")] = 3.0,
        epochs: Annotated[int, Field(ge=0, description="passes over the training records, each sensor by itself")] = 50,
        lr: Annotated[float, Field(gt=0, description="learning rate at the start of these; it falls to zero")] = 3e-3,
    ) -> None:
        super().__init__(inputs, dim, duration)
        self.components, self.hold, self.ramp, self.epochs, self.lr = components, hold, ramp, epochs, lr
        sensors = len(self.inputs)
        depth = max(1, sensors - 1)
        self.scale = SensorScale(self.inputs.values())
        self.enter = nn.ModuleList(nn.Linear(width, dim) for width in self.inputs.values())
        self.own = nn.ModuleList(BranchLinear(sensors, dim, dim) for _ in range(depth))
        self.cross = nn.Parameter(torch.zeros(depth, sensors, sensors, dim, dim)) if sensors > 1 else None
        self.join = nn.Linear(sensors * dim, dim)
        self.register_buffer("correlation", torch.eye(sensors))
        self.register_buffer("met", torch.eye(sensors, dtype=torch.bool).repeat(depth, 1, 1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("records", torch.ones((), dtype=torch.long))

    @property
    def release(self) -> Float[Tensor, ""]:
        r""":math:`\gamma` by the samples seen in training: with ``hold`` 3 and ``ramp`` 2, 0.5 after four passes."""
        passes = self.seen / self.records
        return ((passes - self.hold) / max(self.ramp, 1e-6)).clamp(0, 1)

    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens:
        """Join one batch into one token."""
        vectors = pool_streams(inputs, self.inputs)
        states = self._run(self.scale(vectors), vectors.here, self.release)
        if self.training:
            self.seen += summed(torch.full_like(self.seen, len(vectors.here)))
        return one_token(self.join(states.transpose(0, 1).flatten(1)), inputs, vectors.here.any(1))

    def fit(self, training_batches: Callable[[], Iterable[TrainingBatch]], generator: torch.Generator) -> None:
        """Measure correlations, grow the tree, train the diagonal blocks.

        Raises:
            DataError: no training record is labelled.
        """
        vectors = pool_training(training_batches, self.inputs)
        self.scale.fit(vectors)
        self.seen.zero_()
        self.records.fill_(len(vectors.here))
        blocks, here = self.scale(vectors), vectors.here
        for first in range(len(blocks)):
            for second in range(first):
                both = here[:, first] & here[:, second]
                found = canonical_correlation(blocks[first][both], blocks[second][both], self.components)
                self.correlation[first, second] = self.correlation[second, first] = found
        self.met.copy_(meetings(self.correlation))
        if self.epochs:
            train_alone(
                lambda rows: self._run([block[rows] for block in blocks], here[rows], None),
                [*self.enter.parameters(), *self.own.parameters()],
                here,
                vectors.targets,
                rows=torch.arange(len(here), device=here.device),
                epochs=self.epochs,
                lr=self.lr,
                generator=generator,
            )

    def _run(
        self, blocks: list[Tensor], here: Bool[Tensor, "batch sensor"], release: Float[Tensor, ""] | None
    ) -> Float[Tensor, "sensor batch dim"]:
        """All layers; without ``release`` every sensor stays by itself."""
        real = here.T[..., None]
        states = torch.stack([enter(block) for enter, block in zip(self.enter, blocks, strict=True)])
        states = torch.where(real, states, torch.zeros_like(states))
        others = ~torch.eye(len(blocks), dtype=torch.bool, device=here.device)
        for number, own in enumerate(self.own):
            driven = own(states[:, None]).squeeze(1)
            if release is not None and self.cross is not None:
                allowed = (self.met[number] & others).to(states.dtype)[..., None, None]
                crossed = torch.einsum("nbi,nkij->kbj", states, self.cross[number] * allowed)
                driven = driven + release.to(states.dtype) * crossed
            states = torch.where(real, driven.relu(), torch.zeros_like(driven))
        return states


def canonical_correlation(
    first: Float[Tensor, "row width"], second: Float[Tensor, "row other"], components: int
) -> float:
    """Mean of the canonical correlations between the leading principal directions of two sets of rows.

    Of a matrix and itself, or its rotation, it is 1; independent rows have about ``sqrt(components / rows)``. It is
    0 with fewer than three rows, or where something does not vary.
    """
    if len(first) < 3:
        return 0.0
    bases = []
    for x in (first, second):
        x = x.detach().cpu().double()
        left, size, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        bases.append(left[:, : int((size > 1e-9 * size[0].clamp_min(1e-12)).sum())][:, :components])
    found = torch.linalg.svdvals(bases[0].T @ bases[1])
    return float(found.clamp(max=1).mean()) if len(found) else 0.0


def meetings(correlation: Float[Tensor, "sensor sensor"]) -> Bool[Tensor, "layer sensor sensor"]:
    """Which sensors have met at each layer: the l-th merge of an average-linkage tree happens at layer l."""
    from scipy.cluster.hierarchy import linkage  # a fifth of a second to import

    sensors = len(correlation)
    met = torch.eye(sensors, dtype=torch.bool)
    if sensors == 1:
        return met[None]
    far = (1 - correlation.cpu().double()).clamp_min(0)
    groups = {place: [place] for place in range(sensors)}
    layers = []
    pairs = torch.triu_indices(sensors, sensors, 1)
    for step, (first, second, *_) in enumerate(linkage(far[pairs[0], pairs[1]].numpy(), "average")):
        joined = groups.pop(int(first)) + groups.pop(int(second))
        groups[sensors + step] = joined
        met = met.clone()
        for one in joined:
            met[one, joined] = True
        layers.append(met)
    return torch.stack(layers)
