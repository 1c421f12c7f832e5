"""SwitchOut: some tokens become any others."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from fusionkit.augment.augmentation import WindowAugmentation, choose, uniform
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.modality import Modality
from fusionkit.core.registry import augment

from .reader import Text
from .vocabulary import DROPPED, PADDING


def corruptions(
    draw: Float[Tensor, " batch"], length: Int[Tensor, " batch"], temperature: float
) -> Int[Tensor, " batch"]:
    r"""How many of a sentence's :math:`n` tokens are switched: :math:`\hat n` of :math:`0..n` with
    :math:`p(\hat n) \propto e^{-\hat n / \tau}`, by inversion of its distribution function.

    Of four tokens at temperature 1 none with probability 0.6364, one 0.2341, two 0.0861, three 0.0317, all 0.0117.

    Args:
        draw: uniform in [0, 1).
        length: tokens of each sentence.
        temperature: :math:`\tau`; the larger, the more are switched.
    """
    whole = -torch.expm1(-(length + 1).double() / temperature)
    count = torch.floor(-temperature * torch.log1p(-draw.double() * whole)).long()
    return count.clamp_min(0).minimum(length)


@augment.register("switch_out")
class SwitchOut(WindowAugmentation):
    """Replace a random number of tokens, at random places, by tokens drawn evenly from the whole vocabulary.

    The number is drawn for each sentence as `corruptions` says; sentences keep their length.

    Args:
        temperature: the larger, the more tokens are switched: about 0.58 of a long sentence at 1, 9.5 at 10.
        probability: of changing a sentence at all.

    Raises:
        ConfigError: (`meet`) the sensor is no text.

    Reference:
        Wang et al., SwitchOut: an Efficient Data Augmentation Algorithm for Neural Machine Translation, EMNLP 2018.
    """

    axes: ClassVar[int] = 1
    ids: ClassVar[bool] = True

    def __init__(
        self,
        *,
        temperature: Annotated[float, Field(gt=0, description="the larger, the more tokens are switched")] = 1.0,
        probability: Annotated[float, Field(ge=0, le=1, description="of changing a sentence")] = 1.0,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.probability = probability
        self._vocabulary: int | None = None

    def meet(self, modality: Modality) -> None:
        if not isinstance(modality, Text):
            raise ConfigError(f"{self.kind} must be of a text sensor, but got {modality.kind}")
        self._vocabulary = modality.tokenizer.get_vocab_size()

    @property
    def vocabulary(self) -> int:
        """How many ids there are.

        Raises:
            ConfigError: it has met no sensor yet.
        """
        if self._vocabulary is None:
            raise ConfigError(f"{self.kind} must meet its sensor first, for its vocabulary")
        return self._vocabulary

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Change one batch of ids."""
        ids = stream.values
        first = max(PADDING, DROPPED) + 1
        real = (torch.arange(ids.shape[1], device=ids.device) < stream.length[:, None]) & (ids != PADDING)
        chosen = choose(len(ids), self.probability, ids, generator)
        count = corruptions(uniform((len(ids),), ids, generator), real.sum(1), self.temperature)
        draw = uniform((2, *ids.shape), ids, generator)
        rank = torch.where(real, draw[0], 2).argsort(1).argsort(1)  # of each place among the real ones
        other = first + torch.floor(draw[1] * (self.vocabulary - first)).to(ids.dtype)
        switched = (rank < count[:, None]) & chosen[:, None]
        return stream._replace(values=torch.where(switched, other, ids))
