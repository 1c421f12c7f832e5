"""InfoNCE across sensors: what two sensors say of one moment is nearer than what they say of any other."""

import math
from itertools import combinations
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.core.processes import gathered
from fusionkit.core.registry import objectives
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.metric import products
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.projection import Projection


def info_nce(
    left: Float[Tensor, "batch out"],
    right: Float[Tensor, "batch out"],
    here: Bool[Tensor, " batch"],
    scale: Float[Tensor, ""] | float,
) -> Float[Tensor, ""]:
    r"""Half the cross-entropy of rows plus half that of columns of :math:`s\, l_i \cdot r_j`, whose diagonal is right.

    Two records whose pairs are equal and orthogonal to the other give log(1 + 1/e) = 0.3133 at scale 1; where all
    vectors are one, log of the number of records. Fewer than two records give 0. Log of that number less the loss is
    at most the information that the two share, in nats.

    Args:
        left: unit vectors of one sensor.
        right: of the other, in the same order.
        here: records that have both.
        scale: multiplies the cosines.
    """
    cosine = products(left, right) * scale
    cosine = cosine.masked_fill(~(here[:, None] & here[None]), torch.finfo(cosine.dtype).min)
    same = torch.arange(len(cosine), device=cosine.device)
    loss = F.cross_entropy(cosine, same, reduction="none") + F.cross_entropy(cosine.T, same, reduction="none")
    counts = here & (here.sum() > 1)
    return torch.where(counts, loss / 2, torch.zeros_like(loss)).sum() / counts.sum().clamp_min(1)


@objectives.register("info_nce")
class InfoNCE(PretrainingObjective):
    r"""CLIP for any number of sensors: `info_nce` between augmented looks at two sensors, mean over pairs of sensors.

    The scale :math:`s = 1 / \tau` is learned and stays at or below ``max_scale``. It begins at 2, not at CLIP's 14: small
    encoders begin with embeddings that are nearly one, and on 3000 pairs of digits the loss stayed at the log of the
    batch for 70 steps and more at 14, for 35 at 2. Where several processes train, the records of all are compared.

    Args:
        given: what the builder knows.

    Raises:
        ConfigError: there are fewer than two sensors, or the anchor is none of them.

    Reference:
        van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018; across sensors: Radford
        et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021; to an anchor:
        Girdhar et al., "ImageBind", CVPR 2023.
    """

    early: ClassVar[bool] = True

    def __init__(
        self,
        given: Given,
        *,
        temperature: Annotated[float, Field(gt=0, description="divides the cosines at first")] = 0.5,
        learn_scale: Annotated[bool, Field(description="whether the temperature trains")] = True,
        max_scale: Annotated[float, Field(gt=0, description="of one over the temperature")] = 100.0,
        anchor: Annotated[
            str | None, Field(description="the sensor that all others are compared with; by default every pair is")
        ] = None,
        hidden: Annotated[int, Field(ge=0, description="width of the projection's layer; 0 leaves it out")] = 128,
        out: Annotated[int, Field(ge=2, description="numbers that are compared")] = 64,
    ) -> None:
        super().__init__(given)
        if len(given.sensors) < 2:
            raise ConfigError(f"info_nce compares sensors, so there must be two or more, but got {list(given.sensors)}")
        if anchor is not None and anchor not in given.sensors:
            raise UnknownNameError("sensor of this stage", anchor, list(given.sensors))
        if temperature * max_scale < 1:
            raise ConfigError(
                f"max_scale must be at least one over the temperature, but {max_scale:g} is below {1 / temperature:g}"
            )
        pairs = combinations(given.sensors, 2)
        self.pairs = [pair for pair in pairs if anchor is None or anchor in pair]
        self.max_scale = max_scale
        self.projections = nn.ModuleDict({name: Projection(given.dim, hidden, out) for name in given.sensors})
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)), requires_grad=learn_scale)

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        del generator
        mine = [project(looks.view(0).readout(name)).float() for name, project in self.projections.items()]
        every = gathered(*mine, *(looks.present(name) for name in self.projections))
        embeddings = dict(zip(self.projections, every, strict=False))
        present = dict(zip(self.projections, every[len(mine) :], strict=True))
        losses = []
        for left, right in self.pairs:
            both = present[left] & present[right]
            losses.append(info_nce(embeddings[left], embeddings[right], both, self.log_scale.exp()))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def settle(self, model: FusionModel) -> None:
        """Keep the scale within its bound."""
        del model
        self.log_scale.clamp_(max=math.log(self.max_scale))
