"""Token ids as embeddings that train with the model."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fusionkit.core.levels import FeatureShape
from fusionkit.core.modality import FrontEnd

from .vocabulary import PADDING


class WordEmbedding(FrontEnd):
    """Look up one vector a token: tokens as time (without a clock), the embedding as channels, one subchannel.

    Padding is masked and zero. Vectors start with entries of variance ``1 / width``, so their length is about 1.

    Args:
        vocabulary: how many ids there are.
        width: numbers of an embedding.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PADDING)
        with torch.no_grad():
            self.embedding.weight.mul_(width**-0.5)
        self.shape = FeatureShape(channel=width, subchannel=1, timed=False, trains=True)

    def forward(
        self, values: Int[Tensor, "batch token"], length: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch token width 1"], Bool[Tensor, "batch token"]]:
        """Embed one batch; what lies behind ``length`` is not looked at."""
        inside = torch.arange(values.shape[1], device=values.device) < length[:, None]
        known = torch.where(inside, values, torch.full_like(values, PADDING)).clamp(0, self.vocabulary - 1)
        return self.embedding(known)[..., None], inside & (known != PADDING)

    def times(self, steps: int) -> None:
        """Tokens of a sentence have no time."""
        del steps
