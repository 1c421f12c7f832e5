"""A perceptron on every step by itself."""

from typing import Annotated

from pydantic import Field
from torch import nn
from torch.nn import functional as F

from fusionkit.core.levels import Features, FeatureShape, Tokens, scrub
from fusionkit.core.registry import encoders

from .encoder import FeatureEncoder


@encoders.register("mlp")
class MLPEncoder(FeatureEncoder):
    """One token per step: a hidden layer beside a linear shortcut, then a layer norm.

    ``norm(W_2 gelu(W_1 x) + W_s x)`` with x all numbers of a step. Little to overfit: the default for band features
    of EEG.

    Args:
        shape: what is known of the features.
        dim: width of a token.
        hidden: width of the hidden layer.
        dropout: share of the hidden layer, and of its output, dropped in training.
    """

    stepwise = True

    def __init__(
        self,
        shape: FeatureShape,
        dim: int,
        *,
        hidden: Annotated[int, Field(ge=1, description="width of the hidden layer")] = 128,
        dropout: Annotated[float, Field(ge=0, lt=1, description="share dropped in training")] = 0.1,
    ) -> None:
        super().__init__(shape, dim)
        self.hidden = nn.Linear(shape.width, hidden)
        self.out = nn.Linear(hidden, dim)
        self.shortcut = nn.Linear(shape.width, dim, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Features) -> Tokens:
        """Encode one batch."""
        clean = scrub(features)
        flat = clean.values.flatten(2)
        hidden = self.dropout(F.gelu(self.hidden(flat)))
        return scrub(
            Tokens(
                self.norm(self.shortcut(flat) + self.dropout(self.out(hidden))), clean.mask, clean.present, clean.time
            )
        )
