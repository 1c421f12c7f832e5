"""What objectives share that compare embeddings of records which are alike, or are not."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fusionkit.core.processes import gathered, summed, world_size
from fusionkit.pretraining.identity import identity
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.projection import Projection


class Embedded(NamedTuple):
    """Unit vectors of two augmented looks at every record, the second look's after the first's.

    ``identity`` is equal where records are alike; ``here`` says which count.
    """

    values: Float[Tensor, "look out"]
    identity: Int[Tensor, " look"]
    here: Bool[Tensor, " look"]

    @property
    def alike(self) -> Bool[Tensor, "look look"]:
        """Pairs that should be near, an embedding and itself left out."""
        itself = torch.eye(len(self.here), dtype=torch.bool, device=self.here.device)
        return (self.identity[:, None] == self.identity[None]) & self.both & ~itself

    @property
    def unlike(self) -> Bool[Tensor, "look look"]:
        """Pairs that should be far."""
        return (self.identity[:, None] != self.identity[None]) & self.both

    @property
    def both(self) -> Bool[Tensor, "look look"]:
        """Pairs of which both count."""
        return self.here[:, None] & self.here[None]


def products(left: Float[Tensor, "left out"], right: Float[Tensor, "right out"]) -> Float[Tensor, "left right"]:
    """Inner products in single precision, in a forward pass of half precision, too.

    A product of unit vectors in bfloat16 may be off by 0.004, which is 0.06 of a logit at a temperature of 0.07.
    """
    with torch.autocast(left.device.type, enabled=False):
        found: Tensor = left.float() @ right.float().T
    return found


def distances(left: Float[Tensor, "left out"], right: Float[Tensor, "right out"]) -> Float[Tensor, "left right"]:
    """Euclidean distances, exact near 0, where the gradient is 0. Between (0, 0) and (3, 4) it is 5."""
    return torch.cdist(left.float(), right.float(), compute_mode="donot_use_mm_for_euclid_dist")


def mean_where(values: Float[Tensor, "*some"], counts: Bool[Tensor, "*some"]) -> Float[Tensor, ""]:
    """Mean of the values that count; 0 where none does.

    Where several processes train, what counts is counted in all of them, so that the mean of their losses is that mean.
    """
    total = torch.where(counts, values, torch.zeros_like(values)).sum()
    return total * world_size() / summed(counts.sum()).clamp_min(1)


class MetricObjective(PretrainingObjective):
    """Two looks at every sensor, a projection each, and `compare` between the embeddings; mean over sensors.

    Where several processes train, the embeddings of all are compared.

    Args:
        given: what the builder knows.
        task: whose classes say which records are alike; None where a record is alike to itself alone.
        hidden: width of the projection's layer; 0 leaves it out.
        out: numbers that are compared.
    """

    early: ClassVar[bool] = True
    compares_looks: ClassVar[bool] = True

    def __init__(self, given: Given, task: str | None, hidden: int, out: int) -> None:
        super().__init__(given)
        self.task = task
        self.projections = nn.ModuleDict({name: Projection(given.dim, hidden, out) for name in given.sensors})

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        who, losses = identity(looks.batch, self.task), []
        for name, project in self.projections.items():
            mine = [project(looks.view(number).readout(name)).float() for number in (0, 1)]
            first, second, everybody, here = gathered(*mine, who, looks.present(name))
            embedded = Embedded(torch.cat([first, second]), everybody.repeat(2), here.repeat(2))
            losses.append(self.compare(name, embedded, generator))
        return torch.stack(losses).mean()

    @abstractmethod
    def compare(self, sensor: str, embedded: Embedded, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one sensor."""
