"""From tokens to the one vector that heads read."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.core.levels import Tokens, pool, scrub

ReadoutKind = Literal["mean", "attention"]


class MeanReadout(nn.Module):
    """Mean over real tokens; zeros where there are none."""

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch dim"]:
        """Read one batch."""
        return pool(tokens)


class AttentionReadout(nn.Module):
    r"""Weighted mean over real tokens, with weights that a learned query gives them.

    .. math:: a_i = \mathrm{softmax}_i(q^T x_i / \sqrt{d}), \qquad r = \sum_i a_i x_i

    The query starts at 0, which is the plain mean: two tokens 1 and 3 give 2. Rows without real tokens give zeros.
    Use it where few tokens of many tell the answer; it costs ``dim`` parameters.

    Args:
        dim: width of a token.

    Reference:
        Attention with a learned context vector: Yang et al., Hierarchical Attention Networks, NAACL 2016
        (without their hidden layer).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch dim"]:
        """Read one batch."""
        clean = scrub(tokens)
        score = (clean.values @ self.query) * self.query.shape[0] ** -0.5
        score = score.to(torch.promote_types(score.dtype, torch.float32))
        lowest = torch.finfo(score.dtype).min  # not -inf: a row of those alone would be NaN; so it is a mean of zeros
        weight = torch.where(clean.mask, score, torch.full_like(score, lowest)).softmax(1)
        return (clean.values * weight.to(clean.values.dtype)[..., None]).sum(1)


def make_readout(kind: ReadoutKind, dim: int) -> nn.Module:
    """The readout of that name for tokens of width ``dim``."""
    return AttentionReadout(dim) if kind == "attention" else MeanReadout()
