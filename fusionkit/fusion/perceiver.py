"""Perceiver: one encoder for every sensor, one crossing for every pair of them."""

from collections.abc import Mapping
from itertools import permutations
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Tokens, scrub
from fusionkit.core.registry import fusion
from fusionkit.fusion.branches import BranchAttention, BranchShares, stack_streams
from fusionkit.fusion.operation import IntermediateFusion
from fusionkit.fusion.position import FOURIER, fourier, place

CODE = 10  # numbers that tell a sensor from the others


class PerceiverBlock(nn.Module):
    r"""Latents look at a source, pass through a feed-forward layer, then look at each other.

    .. math:: x \leftarrow x + \mathrm{CA}(\mathrm{LN}(x), \mathrm{LN}(s)), \quad x \leftarrow x + \mathrm{FF}(x),
              \quad x \leftarrow x + \mathrm{SA}(\mathrm{LN}(x))

    Args:
        dim: width of a latent.
        source: width of what is looked at.
        heads: of the self-attention; must divide ``dim``. The cross attention has one.
        dropout: on attention weights, in the feed-forward layer and on what is added.
    """

    def __init__(self, dim: int, source: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.cross_norm, self.source_norm = nn.LayerNorm(dim), nn.LayerNorm(source)
        self.cross = BranchAttention(1, dim, 1, source=source, dropout=dropout)
        self.feed = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * dim, dim)
        )
        self.self_norm = nn.LayerNorm(dim)
        self.attention = BranchAttention(1, dim, heads, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        latents: Float[Tensor, "branch batch latent dim"],
        source: Float[Tensor, "branch batch token width"],
        mask: Bool[Tensor, "branch batch token"],
    ) -> Float[Tensor, "branch batch latent dim"]:
        """New latents; every branch passes through the same weights."""
        x, rows = latents.flatten(0, 1)[None], source.flatten(0, 1)[None]
        x = x + self.dropout(self.cross(self.cross_norm(x), self.source_norm(rows), mask.flatten(0, 1)[None]))
        x = x + self.dropout(self.feed(x))
        normed = self.self_norm(x)
        everything = torch.ones(x.shape[:3], dtype=torch.bool, device=x.device)
        x = x + self.dropout(self.attention(normed, normed, everything))
        out: Tensor = x.reshape(latents.shape)
        return out


@fusion.register("perceiver")
class Perceiver(IntermediateFusion):
    r"""HighMMT: the same latents and the same encoder for every sensor, the same crossing for every ordered pair.

    A token is its numbers (with zeros up to the widest sensor), `fourier` of its time and ten learned numbers of its
    sensor. :math:`Z_m` are ``latents`` learned vectors after ``layers`` passes through one `PerceiverBlock` over the
    tokens of sensor m; for every pair i, j of different sensors a second block, shared by all, lets :math:`Z_i` look at
    :math:`Z_j`, and the last latent is kept. Those of all pairs side by side, M (M - 1) ``dim`` numbers (128 for two
    sensors of 64, 384 for three), pass through a layer norm and a linear layer. All weights but the ten numbers and the
    last layer are shared, so sensors of different kinds must get along. The cost grows with the number of pairs, the
    square of the number of sensors, by definition.

    Of ours: the paper's answer is a vector; here each sensor i has one token, from the pairs that it looks out from,
    and the mean over the tokens is that vector (`BranchShares`). A sensor that is absent has no token, counts as zeros
    before the layer norm, and is not looked at. Tokens of an encoder take the place of raw numbers. Feed-forward
    layers are GELU of four times the width.

    Args:
        inputs: width of each token stream.
        dim: width of a latent, and of the tokens that come out.
        duration: length of the window in seconds; None where no stream has time.

    Raises:
        ConfigError: there are fewer than two inputs, or ``heads`` does not divide ``dim``.

    Reference:
        Liang et al., "High-Modality Multimodal Transformer", TMLR 2022.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        latents: Annotated[int, Field(ge=1, description="learned vectors that look at a sensor")] = 20,
        layers: Annotated[int, Field(ge=1, description="passes through the encoder, whose weights are tied")] = 1,
        heads: Annotated[int, Field(ge=1, description="heads between latents, a divisor of dim")] = 4,
        dropout: Annotated[
            float, Field(ge=0, lt=1, description="on attention weights, feed-forward layers and what is added")
        ] = 0.0,
    ) -> None:
        super().__init__(inputs, dim, duration)
        count, self.width = len(self.inputs), max(self.inputs.values())
        if count < 2:
            raise ConfigError(f"perceiver needs at least two inputs, but got {count}")
        self.layers = layers
        self.pairs = list(permutations(range(count), 2))  # who looks, at whom; those of one looker are neighbours
        self.latents = nn.Parameter(torch.randn(latents, dim))
        self.sensor = nn.Parameter(torch.randn(count, CODE))
        self.encoder = PerceiverBlock(dim, self.width + FOURIER + CODE, heads=heads, dropout=dropout)
        self.crossing = PerceiverBlock(dim, dim, heads=heads, dropout=dropout)
        self.norm = nn.LayerNorm(len(self.pairs) * dim)
        self.out = BranchShares(count, (count - 1) * dim, dim)

    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens:
        """Join one batch: one token a sensor."""
        clean = [scrub(inputs[name]) for name in self.inputs]
        source, mask = stack_streams(self._coded(i, tokens) for i, tokens in enumerate(clean))
        latents = self.latents.expand(*mask.shape[:2], -1, -1)
        for _ in range(self.layers):
            latents = self.encoder(latents, source, mask)
        some = mask.any(2)
        lookers = torch.stack([latents[i] for i, _ in self.pairs])
        others = torch.stack([latents[j] for _, j in self.pairs])
        seen = torch.stack([some[j] for _, j in self.pairs])[..., None].expand(others.shape[:3])
        last = self.crossing(lookers, others, seen)[:, :, -1]
        beside = last.unflatten(0, (len(clean), -1)).transpose(1, 2).flatten(2)  # branch batch width
        beside = torch.where(some[..., None], beside, torch.zeros_like(beside))
        normed = self.norm(beside.transpose(0, 1).flatten(1)).unflatten(1, (len(clean), -1))
        present = torch.stack([tokens.present for tokens in clean]).any(0)
        return scrub(Tokens(self.out(normed.transpose(0, 1)), some.transpose(0, 1), present))

    def _coded(self, i: int, tokens: Tokens) -> Tokens:
        """Numbers, time and sensor of every token side by side."""
        numbers = F.pad(tokens.values, (0, self.width - tokens.values.shape[2]))
        time = fourier(place(tokens, self.duration)).to(numbers.dtype)
        sensor = self.sensor[i].expand(*time.shape[:2], -1)
        return tokens._replace(values=torch.cat([numbers, time, sensor], 2))
