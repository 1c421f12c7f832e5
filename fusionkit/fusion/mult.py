"""MulT: every sensor looks at the low-level tokens of every other one, then at itself."""

from collections.abc import Mapping, Sequence
from itertools import permutations, product
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Tokens, scrub
from fusionkit.core.registry import fusion
from fusionkit.fusion.branches import (
    BranchBlock,
    BranchNorm,
    BranchShares,
    Group,
    group_streams,
    last_real,
    normal,
    some_branches,
)
from fusionkit.fusion.operation import IntermediateFusion


def positions(steps: int, dim: int, like: Tensor) -> Float[Tensor, "{steps} {dim}"]:
    r"""Sines, then cosines, of :math:`t\, 10000^{-k / (\lfloor d/2 \rfloor - 1)}`; a last zero where ``dim`` is odd.

    Steps count from 1, since the code keeps 0 for padding. For 4 numbers, step 1 is sin 1, sin 0.0001, cos 1, cos 0.0001.
    """
    half = dim // 2
    frequency = 10000 ** (-torch.arange(half, device=like.device, dtype=torch.float32) / max(half - 1, 1))
    angle = torch.arange(1, steps + 1, device=like.device, dtype=torch.float32)[:, None] * frequency
    return F.pad(torch.cat([angle.sin(), angle.cos()], -1), (0, dim - 2 * half)).to(like.dtype)


@fusion.register("mult")
class MulT(IntermediateFusion):
    r"""Multimodal Transformer: a cross-modal stack from every sensor to every other one, M (M - 1) of them.

    Sensor m is projected to ``dim`` and becomes :math:`X_m = \mathrm{Drop}(\sqrt{d}\, x_m + p)`. The stack from source
    b to target a starts from :math:`Z^0 = X_a` and takes keys and values from :math:`X_b` at every layer:

    .. math:: \hat Z &= Z^{i-1} + \mathrm{Drop}(\mathrm{MHA}(\mathrm{LN}(Z^{i-1}), \mathrm{LN}(X_b), \mathrm{LN}(X_b))) \\
              Z^i &= \hat Z + \mathrm{Drop}(W_2\, \mathrm{Drop}(\mathrm{relu}(W_1 \mathrm{LN}'(\hat Z))))

    and ends in a layer norm. The stacks of a target, side by side, pass through self-attention (as many layers, at
    least three, and a layer norm), whose last real step is kept; with s those of all targets, the answer is
    :math:`W_o (s + W_b\, \mathrm{Drop}(\mathrm{relu}(W_a s)))`. Streams may differ in length. All stacks of streams of
    about one length (`group_lengths`) are computed as one; their number grows with the square of the number of
    sensors, by definition.

    Of ours: the paper's answer is a vector; here each target has one token, and the mean over the tokens is that
    vector (`BranchShares`). A sensor that is absent is no key, counts as zeros in s and has no token. Positions
    depend on the step, not on what is in it (in the authors' code a first feature of exactly 0 counts as padding);
    they are added before the cross-modal stacks only. There is no causal mask. The defaults are ours as well, but
    for the dropout of the embedding.

    Args:
        inputs: width of each token stream.
        dim: width of a stack, and of the tokens that come out.
        duration: not used.

    Raises:
        ConfigError: there are fewer than two inputs, or ``heads`` does not divide ``dim``.

    Reference:
        Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", ACL 2019.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        layers: Annotated[int, Field(ge=1, description="of each cross-modal stack; of self-attention at least 3")] = 3,
        heads: Annotated[int, Field(ge=1, description="attention heads, a divisor of dim")] = 4,
        dropout: Annotated[
            float, Field(ge=0, lt=1, description="on attention weights, feed-forward layers and what is added")
        ] = 0.1,
        embed_dropout: Annotated[float, Field(ge=0, lt=1, description="on the embedded tokens")] = 0.25,
    ) -> None:
        super().__init__(inputs, dim, duration)
        count = len(self.inputs)
        if count < 2:
            raise ConfigError(f"mult needs at least two inputs, but got {count}")
        self.pairs = list(permutations(range(count), 2))  # target, source; those of one target are neighbours
        self.project = nn.ModuleList(
            nn.Identity() if width == dim else nn.Linear(width, dim, bias=False) for width in self.inputs.values()
        )
        self.embed_dropout, self.dropout = nn.Dropout(embed_dropout), nn.Dropout(dropout)
        wide = (count - 1) * dim

        def blocks(branches: int, width: int, depth: int) -> nn.ModuleList:
            return nn.ModuleList(
                BranchBlock(branches, width, heads, dropout=dropout, activation=torch.relu_) for _ in range(depth)
            )

        self.cross = blocks(len(self.pairs), dim, layers)
        self.cross_norm = BranchNorm(len(self.pairs), dim)
        self.memory = blocks(count, wide, max(layers, 3))
        self.memory_norm = BranchNorm(count, wide)
        self.hidden = nn.Linear(count * wide, count * wide)
        self.residual = nn.Linear(count * wide, count * wide)
        self.out = BranchShares(count, wide, dim)

    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens:
        """Join one batch: one token a sensor."""
        clean = [scrub(inputs[name]) for name in self.inputs]
        embedded = [
            tokens._replace(values=self._embed(project(tokens.values)))
            for project, tokens in zip(self.project, clean, strict=True)
        ]
        groups = group_streams(embedded)
        beside = self._cross(groups)
        last: dict[int, Tensor] = {}
        for group in groups:
            memory = torch.stack([torch.cat([beside[n] for n in self._stacks(one)], -1) for one in group.streams])
            last |= dict(zip(group.streams, self._remember(group, memory), strict=True))
        joined = torch.cat([last[stream] for stream in range(len(clean))], 1)
        joined = joined + self.residual(self.dropout(F.relu(self.hidden(joined))))
        tokens = self.out(joined.unflatten(1, (len(clean), -1)).transpose(0, 1))
        real = torch.stack([tokens.mask.any(1) for tokens in clean], 1)
        present = torch.stack([tokens.present for tokens in clean]).any(0)
        return scrub(Tokens(tokens, real, present))

    def _stacks(self, target: int) -> list[int]:
        """Numbers of a target's stacks."""
        return [n for n, pair in enumerate(self.pairs) if pair[0] == target]

    def _cross(self, groups: Sequence[Group]) -> dict[int, Float[Tensor, "batch step dim"]]:
        """What each stack makes, by its number."""
        made: dict[int, Tensor] = {}
        plain = [normal(group.values) for group in groups]
        for target, (source, looked) in product(groups, list(zip(groups, plain, strict=True))):
            chosen = [n for n, (a, b) in enumerate(self.pairs) if a in target.streams and b in source.streams]
            if not chosen:  # a stream by itself
                continue
            to, of = (
                [group.streams.index(self.pairs[n][side]) for n in chosen] for side, group in ((0, target), (1, source))
            )
            states = torch.stack([target.values[row] for row in to])
            shown, heard = torch.stack([looked[row] for row in of]), torch.stack([source.mask[row] for row in of])
            for block in self.cross:
                states = some_branches(block, chosen, states, heard, shown)
            made |= dict(zip(chosen, some_branches(self.cross_norm, chosen, states), strict=True))
        return made

    def _remember(
        self, group: Group, memory: Float[Tensor, "stream batch step wide"]
    ) -> Float[Tensor, "stream batch wide"]:
        """The last real step behind self-attention; zeros where a sensor is absent."""
        own, mask = group.streams, group.mask
        for block in self.memory[:-1]:
            memory = some_branches(block, own, memory, mask)
        last = last_real(memory, mask)[:, :, None]  # nothing reads the others, so the last block makes no more
        last = some_branches(self.memory[-1], own, last, mask, normal(memory))
        last = some_branches(self.memory_norm, own, last)[:, :, 0]
        return torch.where(mask.any(2)[..., None], last, torch.zeros_like(last))

    def _embed(self, values: Float[Tensor, "batch token dim"]) -> Float[Tensor, "batch token dim"]:
        placed: Tensor = self.embed_dropout(values * self.dim**0.5 + positions(values.shape[1], self.dim, values))
        return placed
