"""NT-Xent: two looks at a record are nearer to each other than to any look at another record."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.processes import gathered
from fusionkit.core.registry import objectives
from fusionkit.pretraining.metric import products
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.projection import Projection


def nt_xent(
    first: Float[Tensor, "batch out"],
    second: Float[Tensor, "batch out"],
    here: Bool[Tensor, " batch"],
    temperature: float,
) -> Float[Tensor, ""]:
    r"""Mean over 2N looks of :math:`-\log \frac{e^{z_i \cdot z_j / \tau}}{\sum_{k \neq i} e^{z_i \cdot z_k / \tau}}`.

    Two records whose pairs are equal and orthogonal to the other give log(1 + 2 exp(-2)) = 0.2395 at temperature 0.5;
    where all four looks are one, log 3. Fewer than two records give 0.

    Args:
        first: unit vectors of one look.
        second: of the other, in the same order.
        here: records that count.
        temperature: divides the cosines.
    """
    joined, real = torch.cat([first, second]), torch.cat([here, here])
    count = len(first)
    cosine = products(joined, joined) / temperature
    itself = torch.eye(2 * count, dtype=torch.bool, device=cosine.device)
    cosine = cosine.masked_fill(itself | ~real[None], torch.finfo(cosine.dtype).min)
    partner = torch.arange(2 * count, device=cosine.device).roll(count)
    loss = -cosine.log_softmax(1).gather(1, partner[:, None])[:, 0]
    counts = real & (here.sum() > 1)
    return torch.where(counts, loss, torch.zeros_like(loss)).sum() / counts.sum().clamp_min(1)


@objectives.register("nt_xent")
class NTXent(PretrainingObjective):
    """SimCLR: two augmented looks at every sensor's window, `nt_xent` between their projections, mean over sensors.

    Where several processes train, the looks of all are compared.

    Args:
        given: what the builder knows.

    Reference:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020, algorithm 1.
    """

    early: ClassVar[bool] = True
    compares_looks: ClassVar[bool] = True

    def __init__(
        self,
        given: Given,
        *,
        temperature: Annotated[float, Field(gt=0, description="divides the cosines")] = 0.5,
        hidden: Annotated[int, Field(ge=0, description="width of the projection's layer; 0 leaves it out")] = 128,
        out: Annotated[int, Field(ge=2, description="numbers that are compared")] = 64,
    ) -> None:
        super().__init__(given)
        self.temperature = temperature
        self.projections = nn.ModuleDict({name: Projection(given.dim, hidden, out) for name in given.sensors})

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        del generator
        losses = []
        for name, project in self.projections.items():
            mine = [project(looks.view(number).readout(name)).float() for number in (0, 1)]
            first, second, here = gathered(*mine, looks.present(name))
            losses.append(nt_xent(first, second, here, self.temperature))
        return torch.stack(losses).mean()
