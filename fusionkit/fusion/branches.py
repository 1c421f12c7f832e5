"""Layers that every branch has its own weights of, computed for all branches as one batched product.

States are ``(branch, batch, step, dim)``; a parameter's first axis is the branch.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError


class BranchLinear(nn.Module):
    """One linear layer a branch. Weights start Xavier-uniform, biases at zero.

    Args:
        branches: how many branches.
        width: numbers in.
        out: numbers out.
        bias: whether something is added.
    """

    def __init__(self, branches: int, width: int, out: int, bias: bool = True) -> None:
        super().__init__()
        bound = (6 / (width + out)) ** 0.5
        self.weight = nn.Parameter(torch.empty(branches, width, out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(branches, out)) if bias else None

    def forward(self, x: Float[Tensor, "branch batch step width"]) -> Float[Tensor, "branch batch step out"]:
        """Apply each branch's layer to its own rows."""
        rows = x.flatten(1, 2)
        if self.bias is None:
            rows = torch.bmm(rows, self.weight)
        else:
            rows = torch.baddbmm(self.bias[:, None], rows, self.weight)
        return rows.reshape(*x.shape[:3], -1)


class BranchNorm(nn.Module):
    """One layer norm a branch."""

    def __init__(self, branches: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(branches, dim))
        self.bias = nn.Parameter(torch.zeros(branches, dim))

    def forward(self, x: Float[Tensor, "branch batch step dim"]) -> Float[Tensor, "branch batch step dim"]:
        """Bring every state to mean 0 and variance 1, then scale and shift."""
        return F.layer_norm(x, x.shape[-1:]) * self.weight[:, None, None] + self.bias[:, None, None]


def masked_softmax(scores: Float[Tensor, "*rows key"], mask: Bool[Tensor, "... key"]) -> Float[Tensor, "*rows key"]:
    """Softmax over the keys that ``mask`` shows; all zeros where it shows none."""
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
    return weights.masked_fill(~mask, 0.0)


def rotate(x: Float[Tensor, "*rows step width"]) -> Float[Tensor, "*rows step width"]:
    r"""Turn each pair of numbers by an angle that grows with the step (rotary position).

    Entries k and k + width/2 of step t turn by :math:`t \cdot 10000^{-2k / width}`, so that products of two
    steps depend on their distance only. At step 0 nothing turns.

    Reference:
        Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", Neurocomputing 568, 2024.
    """
    half = x.shape[-1] // 2
    angle = _angles(x.shape[-2], half, x)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def sinusoid(steps: int, dim: int, like: Tensor) -> Float[Tensor, "{steps} {dim}"]:
    """Sines, then cosines, of the steps at falling frequencies: step 0 is zeros, then ones.

    Reference:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017.
    """
    angle = _angles(steps, (dim + 1) // 2, like)
    return torch.cat([angle.sin(), angle.cos()], -1)[:, :dim].to(like.dtype)


def _angles(steps: int, half: int, like: Tensor) -> Float[Tensor, "{steps} {half}"]:
    position = torch.arange(steps, device=like.device, dtype=torch.float32)
    frequency = 10000 ** (-torch.arange(half, device=like.device, dtype=torch.float32) / half)
    return position[:, None] * frequency


class CausalAttention(nn.Module):
    """Causal grouped-query self-attention through time, in every branch by itself.

    ``heads`` queries share ``groups`` keys and values: ``groups == heads`` is multi-head attention, 1 is
    multi-query attention. A step attends to itself and to earlier steps that are real; where there is none the
    answer is zero. No layer of it adds a bias.

    Args:
        branches: how many branches.
        dim: width of a state.
        heads: query heads; must divide ``dim``.
        groups: key and value heads; must divide ``heads``.
        rotary: whether queries and keys are turned by their step.

    Raises:
        ConfigError: a number does not divide what it must.

    Reference:
        Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints",
        EMNLP 2023.
    """

    def __init__(self, branches: int, dim: int, heads: int, groups: int, rotary: bool) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(f"heads must divide dim, but {heads} does not divide {dim}")
        if heads % groups:
            raise ConfigError(f"kv_groups must divide heads, but {groups} does not divide {heads}")
        if rotary and dim // heads % 2:
            raise ConfigError(f"rotary positions need an even width of a head, but {dim} / {heads} is odd")
        self.heads, self.groups, self.rotary = heads, groups, rotary
        self.width = dim // heads
        self.qkv = BranchLinear(branches, dim, (heads + 2 * groups) * self.width, bias=False)
        self.out = BranchLinear(branches, dim, dim, bias=False)

    def forward(
        self, x: Float[Tensor, "branch batch step dim"], mask: Bool[Tensor, "branch batch step"]
    ) -> Float[Tensor, "branch batch step dim"]:
        """What each step gathers from the past of its own branch."""
        split = self.qkv(x).reshape(*x.shape[:3], -1, self.width).transpose(2, 3)  # branch batch head step width
        query, key, value = split.split((self.heads, self.groups, self.groups), 2)
        if self.rotary:
            query, key = rotate(query), rotate(key)
        query = query.reshape(*x.shape[:2], self.groups, -1, x.shape[2], self.width)
        scores = query @ key[:, :, :, None].transpose(-1, -2) * self.width**-0.5
        steps = torch.arange(x.shape[2], device=x.device)
        past = steps[:, None] >= steps
        weights = masked_softmax(scores, (mask[:, :, None] & past)[:, :, None, None])
        mixed = (weights @ value[:, :, :, None]).flatten(2, 3).transpose(2, 3).flatten(3)
        gathered: Tensor = self.out(mixed)
        return gathered


class BranchLSTM(nn.Module):
    """One LSTM a branch, one layer deep. At a step that is not real the state stays as it is.

    Gates lie in the order input, forget, cell, output; the forget gate's bias starts at 1.

    Reference:
        Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997.
    """

    def __init__(self, branches: int, dim: int) -> None:
        super().__init__()
        self.input = BranchLinear(branches, dim, 4 * dim)
        self.recurrent = nn.Parameter(torch.empty(branches, dim, 4 * dim).uniform_(-(dim**-0.5), dim**-0.5))
        assert self.input.bias is not None
        with torch.no_grad():
            self.input.bias[:, dim : 2 * dim] = 1.0

    def forward(
        self, x: Float[Tensor, "branch batch step dim"], mask: Bool[Tensor, "branch batch step"]
    ) -> Float[Tensor, "branch batch step dim"]:
        """The hidden state after every step."""
        driven = self.input(x)
        hidden = cell = torch.zeros_like(x[:, :, 0])
        states = []
        for step in range(x.shape[2]):
            gates = driven[:, :, step] + torch.bmm(hidden, self.recurrent)
            enter, keep, new, leave = gates.chunk(4, -1)
            updated = keep.sigmoid() * cell + enter.sigmoid() * new.tanh()
            real = mask[:, :, step, None]
            cell = torch.where(real, updated, cell)
            hidden = torch.where(real, leave.sigmoid() * updated.tanh(), hidden)
            states.append(hidden)
        return torch.stack(states, 2)
