"""Self-attention between the steps of one sensor."""

from typing import Annotated, Literal

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.levels import Features, FeatureShape, Tokens, scrub
from fusionkit.core.registry import encoders

from .attention import MultiHeadAttention
from .encoder import FeatureEncoder
from .position import sinusoidal
from .shie import Inner, SubchannelEmbedding


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward layer, each behind a layer norm and beside a shortcut.

    Args:
        dim: width of a token.
        heads: attention heads; must divide ``dim``.
        ratio: width of the feed-forward layer over ``dim``.
        dropout: share dropped of attention weights, of the feed-forward layer and of both outputs.

    Reference:
        Pre-norm form: Xiong et al., ICML 2020.
    """

    def __init__(self, dim: int, heads: int, *, ratio: float = 2.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, heads, dropout=dropout)
        self.feed_norm = nn.LayerNorm(dim)
        self.feed_in = nn.Linear(dim, round(ratio * dim))
        self.feed_out = nn.Linear(round(ratio * dim), dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Float[Tensor, "batch token dim"], mask: Bool[Tensor, "batch token"] | None, causal: bool = False
    ) -> Float[Tensor, "batch token dim"]:
        """Mix one batch; what comes out where ``mask`` is False means nothing."""
        normed = self.attention_norm(tokens)
        tokens = tokens + self.dropout(self.attention(normed, normed, normed, mask, causal))
        hidden = self.dropout(F.gelu(self.feed_in(self.feed_norm(tokens))))
        out: Tensor = tokens + self.dropout(self.feed_out(hidden))
        return out


@encoders.register("transformer")
class TransformerEncoder(FeatureEncoder):
    """One token per step, each having looked at all real steps of its record.

    Steps are embedded by themselves (`shie` or a linear map), get the code of their place and pass through
    pre-norm blocks. Cost is quadratic in the number of steps.

    Args:
        shape: what is known of the features.
        dim: width of a token.
        embedding: ``shie`` for channels with subchannels, ``linear`` for flat features.
        inner: width of the subchannel embedding of ``shie``.
        layers: blocks.
        heads: attention heads; must divide ``dim``.
        ratio: width of the feed-forward layers over ``dim``.
        causal: a step sees itself and the steps before it, no later one.
        dropout: share dropped in training.

    Raises:
        ConfigError: ``heads`` does not divide ``dim``.

    Reference:
        Vaswani et al., NeurIPS 2017.
    """

    def __init__(
        self,
        shape: FeatureShape,
        dim: int,
        *,
        embedding: Annotated[Literal["shie", "linear"], Field(description="how a step becomes a vector")] = "shie",
        inner: Inner = 8,
        layers: Annotated[int, Field(ge=1, description="blocks")] = 2,
        heads: Annotated[int, Field(ge=1, description="attention heads, a divisor of dim")] = 4,
        ratio: Annotated[float, Field(gt=0, description="width of the feed-forward layers over dim")] = 2.0,
        causal: Annotated[bool, Field(description="no step sees a later one")] = False,
        dropout: Annotated[float, Field(ge=0, lt=1, description="share dropped in training")] = 0.1,
    ) -> None:
        super().__init__(shape, dim)
        self.embed = (
            SubchannelEmbedding(shape.channel, shape.subchannel, dim, inner=inner)
            if embedding == "shie"
            else nn.Sequential(nn.Flatten(2), nn.Linear(shape.width, dim))
        )
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads, ratio=ratio, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.causal = causal

    def forward(self, features: Features) -> Tokens:
        """Encode one batch."""
        clean = scrub(features)
        tokens = self.embed(clean.values)
        tokens = self.dropout(tokens + sinusoidal(tokens))
        for block in self.blocks:
            tokens = block(tokens, clean.mask, self.causal)
        return scrub(Tokens(self.norm(tokens), clean.mask, clean.present, clean.time))
