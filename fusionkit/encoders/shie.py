"""SHIE: the subchannels of each channel first, then the channels, then one vector per step."""

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.levels import Features, FeatureShape, Tokens, scrub
from fusionkit.core.registry import encoders

from .encoder import FeatureEncoder

Inner = Annotated[int, Field(ge=1, description="width of the subchannel embedding")]
Share = Annotated[bool, Field(description="one subchannel network for all channels, not one for each")]
Residual = Annotated[bool, Field(description="add a linear map straight from the input")]


class SubchannelEmbedding(nn.Module):
    r"""Subchannel Hierarchical Input Embedding of the steps of one sensor.

    .. math::
        Y_{t,f} = \mathrm{FFN}_{sub}(X_{t,f}), \quad Z_{t,:,s} = \mathrm{FFN}_{ch}(Y_{t,:,s}), \quad
        E_t = W \mathrm{vec}(Z_t) + b + W_{res} \mathrm{vec}(X_t)

    with every FFN linear, GELU, linear, its hidden layer twice as wide as its output. A step sees no other step,
    and a channel's subchannels meet before they meet another channel. An input of zeros gives ``b`` = 0 at first.

    The form of the FFN, its sharing over channels, Xavier weights and missing values as one subchannel more are a
    reconstruction: the figure of the paper leaves them open.

    Args:
        channel: channels of a step.
        subchannel: subchannels of a channel.
        dim: width of the vector of a step.
        inner: width of the subchannel embedding.
        share_subchannel: one subchannel FFN for all channels; else one for each.
        residual: add the linear map straight from the input.
        masked: channels may be missing: their values become 0, and being there is a subchannel more.

    Reference:
        Wang, Wu, Zhang, Larson, "Causal Representation Learning on Degraded Multi-Sensor Streams", 2025.
    """

    def __init__(
        self,
        channel: int,
        subchannel: int,
        dim: int,
        *,
        inner: int = 8,
        share_subchannel: bool = True,
        residual: bool = True,
        masked: bool = False,
    ) -> None:
        super().__init__()
        self.masked = masked
        width = subchannel + 1 if masked else subchannel
        copies = 1 if share_subchannel else channel
        self.subchannel_in = ChannelLinear(copies, width, 2 * inner)
        self.subchannel_out = ChannelLinear(copies, 2 * inner, inner)
        self.channel_in = nn.Linear(channel, 2 * dim)
        self.channel_out = nn.Linear(2 * dim, dim)
        self.project = nn.Linear(dim * inner, dim)
        self.straight = nn.Linear(channel * width, dim, bias=False) if residual else None
        for module in (self.channel_in, self.channel_out, self.project):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        if self.straight is not None:
            nn.init.xavier_uniform_(self.straight.weight)

    def forward(
        self,
        values: Float[Tensor, "batch time channel subchannel"],
        known: Bool[Tensor, "batch time channel"] | None = None,
    ) -> Float[Tensor, "batch time dim"]:
        """Embed every step; ``known`` says which channels are there (only with ``masked``; None: all)."""
        values = self._marked(values, known)
        latent = self.channel_out(F.gelu(self.channel_in(self._subchannels(values).transpose(2, 3))))
        out: Tensor = self.project(latent.transpose(2, 3).flatten(2))
        return out if self.straight is None else out + self.straight(values.flatten(2))

    def subchannels(
        self,
        values: Float[Tensor, "batch time channel subchannel"],
        known: Bool[Tensor, "batch time channel"] | None = None,
    ) -> Float[Tensor, "batch time channel inner"]:
        """The first stage alone, Y: each channel by itself."""
        return self._subchannels(self._marked(values, known))

    def _subchannels(self, values: Tensor) -> Tensor:
        out: Tensor = self.subchannel_out(F.gelu(self.subchannel_in(values)))
        return out

    def _marked(self, values: Tensor, known: Tensor | None) -> Tensor:
        if not self.masked:
            return values
        there = torch.ones_like(values[..., 0], dtype=torch.bool) if known is None else known
        values = torch.where(there[..., None], values, torch.zeros_like(values))
        return torch.cat([values, there[..., None].to(values.dtype)], -1)


class ChannelLinear(nn.Module):
    """A linear map of the last axis, one for all channels or one for each.

    Args:
        copies: 1, or the number of channels.
        width: width in.
        out: width out.
    """

    def __init__(self, copies: int, width: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(copies, width, out))
        self.bias = nn.Parameter(torch.zeros(copies, out))
        for copy in self.weight:
            nn.init.xavier_uniform_(copy)

    def forward(self, values: Float[Tensor, "batch time channel width"]) -> Float[Tensor, "batch time channel out"]:
        """Map every channel of every step."""
        if len(self.weight) == 1:
            return values @ self.weight[0] + self.bias
        return torch.einsum("btcw,cwo->btco", values, self.weight) + self.bias


@encoders.register("shie")
class SHIEEncoder(FeatureEncoder):
    """One token per step by the subchannel embedding alone; steps do not see each other.

    For time series whose channels have several features (statistics, bands), before a fusion that has its own
    path through time (`rcft`).

    Args:
        shape: what is known of the features.
        dim: width of a token.
        inner: width of the subchannel embedding.
        share_subchannel: one subchannel network for all channels; else one for each.
        residual: add the linear map straight from the input.
        dropout: share of each token's numbers dropped in training.
    """

    stepwise = True

    def __init__(
        self,
        shape: FeatureShape,
        dim: int,
        *,
        inner: Inner = 8,
        share_subchannel: Share = True,
        residual: Residual = True,
        dropout: Annotated[float, Field(ge=0, lt=1, description="share dropped in training")] = 0.1,
    ) -> None:
        super().__init__(shape, dim)
        self.embed = SubchannelEmbedding(
            shape.channel, shape.subchannel, dim, inner=inner, share_subchannel=share_subchannel, residual=residual
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features) -> Tokens:
        """Embed one batch."""
        clean = scrub(features)
        return scrub(Tokens(self.dropout(self.embed(clean.values)), clean.mask, clean.present, clean.time))
