"""Context inpainting: a hole in a record, painted from what lies around it."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.augment.augmentation import uniform
from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import objectives
from fusionkit.heads.adversary import reverse
from fusionkit.pretraining.decoder import PlaceDecoder
from fusionkit.pretraining.masked_autoencoder import Heads, Layers, Side
from fusionkit.pretraining.metric import mean_where
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.places import find_places, hidden_error


def draw_hole(
    real: Bool[Tensor, "batch step"], grid: tuple[int, int], share: float, generator: torch.Generator
) -> Bool[Tensor, "batch step"]:
    """One hole a record: a rectangle of patches with the picture's proportions, or steps in a row.

    Of 6 x 6 patches a share of 0.25 is 3 x 3, of 8 steps 2 in a row; a hole is one place at least, and lies wholly in
    what is real. A record of one step has none.
    """
    rows, columns = grid
    draw = uniform((2, len(real)), real, generator)
    if rows > 1:
        tall, wide = (max(1, round(share**0.5 * side)) for side in grid)
        top, left = (draw[0] * (rows - tall + 1)).floor(), (draw[1] * (columns - wide + 1)).floor()
        row, column = (torch.arange(side, device=real.device) for side in grid)
        down = (row >= top[:, None]) & (row < top[:, None] + tall)
        across = (column >= left[:, None]) & (column < left[:, None] + wide)
        hole: Tensor = (down[:, :, None] & across[:, None]).flatten(1) & real
        return hole
    order, count = real.cumsum(1), real.sum(1, keepdim=True)  # steps are counted by those that are real
    length = torch.minimum(torch.round(share * count).clamp_min(1), count - 1)
    start = (draw[1][:, None] * (count - length + 1)).floor()
    return (order > start) & (order <= start + length) & real


def real_or_painted(
    real: Float[Tensor, "batch step"], painted: Float[Tensor, "batch step"], hole: Bool[Tensor, "batch step"]
) -> Float[Tensor, ""]:
    r"""Mean over the holes' places of :math:`-\log D(x) - \log(1 - D(\hat x))`: log 4 = 1.3863 where D says 1/2 of all.

    Args:
        real: logits of D for what stood there.
        painted: for what was painted.
        hole: places that count.
    """
    return mean_where(F.softplus(-real.float()) + F.softplus(painted.float()), hole)


CRITIC_PACE = 0.1
"""Learning rate of D over that of encoder and decoder, as in the paper."""


@objectives.register("context_inpainting")
class ContextInpainting(PretrainingObjective):
    r"""Cut a hole (a rectangle of an image, a stretch of a signal over all its channels) and paint it from the rest.

    .. math:: L = \lambda_{rec} \lVert \hat x - x \rVert^2 + \max_D \lambda_{adv}
                  [\log D(x) + \log(1 - D(\hat x))], \quad \lambda_{rec} = 1 - \lambda_{adv}

    the squared error a mean over the hole alone. What is seen, and in which units it is painted, is as in
    `masked_autoencoder`; the decoder too (the paper: convolutions behind a channel-wise layer). D, here two layers on
    every place of the hole by itself, learns beside through a reversed gradient, so that the objective's value is
    :math:`\lambda_{rec}` times the error and the loss of D (`real_or_painted`), whose gradient is what encoder and
    decoder get, times :math:`-\lambda_{adv}` (the paper's equation; its code has :math:`-\log D(\hat x)` for the painter).
    D learns at a tenth of the others' rate, as in the paper: after 94 steps on digits it gave 0.56 to what stood there and
    0.53 to what was painted, where at the same rate it gave 0.69 and 0.46. Of text nothing is learned.

    Args:
        given: what the builder knows.
        hole: share of a record.
        adversarial: :math:`\lambda_{adv}`; 0 leaves D out.
        side: of a patch, or of a step, where an encoder takes windows; None is 4 pixels (16 from 128 on), or a 32nd
            of a signal.
        layers: blocks of the decoder.
        heads: its attention heads; must divide ``dim``.

    Raises:
        ConfigError: no sensor of the stage can have a hole.

    Reference:
        Pathak et al., "Context Encoders: Feature Learning by Inpainting", CVPR 2016.
    """

    adversarial: Float[Tensor, ""]

    learns_from: ClassVar[frozenset[str]] = frozenset({"image", "signal"})

    def __init__(
        self,
        given: Given,
        *,
        hole: Annotated[float, Field(gt=0, lt=1, description="share of a record that is cut out")] = 0.25,
        adversarial: Annotated[float, Field(ge=0, lt=1, description="weight of the adversarial loss")] = 0.001,
        side: Side = None,
        layers: Layers = 2,
        heads: Heads = 4,
    ) -> None:
        super().__init__(given)
        self.hole = hole
        found = find_places(given, "context_inpainting", side)
        self.places = {name: it for name, it in found.items() if it.steps != 1}
        if not self.places:
            raise ConfigError(f"context_inpainting must have several steps, but those of {list(found)} are one")
        self.decoders = nn.ModuleDict({name: PlaceDecoder(given.dim, layers, heads) for name in self.places})
        widths = {name: it.channel * it.width for name, it in self.places.items()}
        self.outs = nn.ModuleDict({name: nn.Linear(given.dim, width) for name, width in widths.items()})
        if not adversarial:
            widths = {}
        self.critics = nn.ModuleDict({name: _critic(width, given.dim) for name, width in widths.items()})
        self.register_buffer("adversarial", torch.tensor(adversarial), persistent=False)

    def scales(self) -> dict[int, float]:
        """Critics learn slower than those whom they judge."""
        return {id(parameter): CRITIC_PACE for parameter in self.critics.parameters()}

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        losses = []
        for name, places in self.places.items():
            level = looks.level(name)
            target = places.target(level)
            grid = places.grid(target.values.shape[1])
            hole = draw_hole(target.mask, grid, self.hole, generator)
            every = hole[:, :, None].expand(-1, -1, places.channel)
            painted = self.outs[name](self.decoders[name](looks.encode(name, places.show(level, every)), grid))
            error = hidden_error(painted.unflatten(2, target.values.shape[2:]), target.values, every)
            losses.append((1 - self.adversarial) * error)
            if name in self.critics:
                critic = self.critics[name]
                real = critic(target.values.flatten(2).to(painted.dtype))[..., 0]
                losses[-1] = losses[-1] + real_or_painted(
                    real, critic(reverse(painted, self.adversarial))[..., 0], hole
                )
        return torch.stack(losses).mean()


def _critic(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))
