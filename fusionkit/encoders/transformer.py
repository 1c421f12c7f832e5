"""Self-attention between the steps of one sensor, or between the channels of each step."""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.levels import Features, FeatureShape, Tokens, scrub
from fusionkit.core.registry import encoders

from .attention import MultiHeadAttention
from .encoder import FeatureEncoder
from .position import sinusoidal, spatial
from .shie import ChannelLinear, Inner, SubchannelEmbedding


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


class ChannelEmbedding(nn.Module):
    """Each channel of a step as a token: its subchannels, all channels alike, and a code of which channel it is.

    Codes are learned. They start from the channels' places where these are known (`spatial`), else at random.

    Args:
        shape: what is known of the features.
        dim: width of a token.
        inner: width of the layer between subchannels and token, GELU on both sides of it; None: one linear map.
    """

    def __init__(self, shape: FeatureShape, dim: int, inner: int | None) -> None:
        super().__init__()
        first = ChannelLinear(1, shape.subchannel, 2 * inner) if inner else nn.Linear(shape.subchannel, dim)
        second = (nn.GELU(), ChannelLinear(1, 2 * inner, inner), nn.Linear(inner, dim)) if inner else ()
        self.embed = nn.Sequential(first, *second)
        codes = torch.randn(shape.channel, dim) / 2**0.5 if shape.places is None else spatial(shape.places, dim)
        self.codes = nn.Parameter(codes)

    def forward(
        self, values: Float[Tensor, "batch time channel subchannel"]
    ) -> Float[Tensor, "batch time channel dim"]:
        """Embed every channel of every step."""
        tokens: Tensor = self.embed(values) + self.codes
        return tokens


@encoders.register("transformer")
class TransformerEncoder(FeatureEncoder):
    """One token per step, from attention between the steps of a record, or between the channels of each step.

    Over time, steps are embedded by themselves, get the code of their place in the sequence and pass through pre-norm
    blocks, in which each looks at all real steps of its record. Cost is quadratic in the number of steps.

    Over channels (electrodes), each channel of a step is a token, with a code that is learned and starts from the
    channel's place where that is known; the channels of one step look at each other, and their mean is the token of
    the step, so that the number of steps and their times stay for a fusion that needs them. Steps do not see each
    other. Cost is quadratic in the number of channels, for each step: for features, not for raw samples.

    Args:
        shape: what is known of the features.
        dim: width of a token.
        over: what attends: ``time`` or ``channels``.
        embedding: how a step, or over channels a channel, becomes a vector: ``shie`` (its subchannels through a small
            network first) or ``linear``.
        inner: width of the subchannel embedding of ``shie``.
        layers: blocks.
        heads: attention heads; must divide ``dim``.
        ratio: width of the feed-forward layers over ``dim``.
        causal: a step sees itself and the steps before it, no later one; over channels that is so anyway.
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
        over: Annotated[Literal["time", "channels"], Field(description="what attends to each other")] = "time",
        embedding: Annotated[Literal["shie", "linear"], Field(description="how a step becomes a vector")] = "shie",
        inner: Inner = 8,
        layers: Annotated[int, Field(ge=1, description="blocks")] = 2,
        heads: Annotated[int, Field(ge=1, description="attention heads, a divisor of dim")] = 4,
        ratio: Annotated[float, Field(gt=0, description="width of the feed-forward layers over dim")] = 2.0,
        causal: Annotated[bool, Field(description="no step sees a later one")] = False,
        dropout: Annotated[float, Field(ge=0, lt=1, description="share dropped in training")] = 0.1,
    ) -> None:
        super().__init__(shape, dim)
        self.over = over
        self.stepwise = over == "channels"
        self.embed: nn.Module
        if over == "channels":
            self.embed = ChannelEmbedding(shape, dim, inner if embedding == "shie" else None)
        elif embedding == "shie":
            self.embed = SubchannelEmbedding(shape.channel, shape.subchannel, dim, inner=inner)
        else:
            self.embed = nn.Sequential(nn.Flatten(2), nn.Linear(shape.width, dim))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads, ratio=ratio, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.causal = causal

    def forward(self, features: Features) -> Tokens:
        """Encode one batch."""
        clean = scrub(features)
        tokens = self.embed(clean.values)
        tokens = self._over_channels(tokens) if self.over == "channels" else self._over_time(tokens, clean.mask)
        return scrub(Tokens(tokens, clean.mask, clean.present, clean.time))

    def _over_time(
        self, tokens: Float[Tensor, "batch time dim"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time dim"]:
        tokens = self.dropout(tokens + sinusoidal(tokens))
        for block in self.blocks:
            tokens = block(tokens, mask, self.causal)
        normed: Tensor = self.norm(tokens)
        return normed

    def _over_channels(self, tokens: Float[Tensor, "batch time channel dim"]) -> Float[Tensor, "batch time dim"]:
        batch, time, channel, dim = tokens.shape
        mixed = self.dropout(tokens).reshape(batch * time, channel, dim)
        for block in self.blocks:
            mixed = block(mixed, None)
        normed: Tensor = self.norm(mixed).mean(1)
        return normed.reshape(batch, time, dim)
