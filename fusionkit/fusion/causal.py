"""What carries a branch through time and never looks ahead: attention, or an LSTM; each with a step for streams."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.fusion.branches import BranchLinear, masked_softmax


def rotate(x: Float[Tensor, "*rows step width"], start: int | Tensor = 0) -> Float[Tensor, "*rows step width"]:
    r"""Turn each pair of numbers by an angle that grows with the step (rotary position).

    Entries k and k + width/2 of step t turn by :math:`t \cdot 10000^{-2k / width}`, so that products of two
    steps depend on their distance only. At step 0 nothing turns. The first step is number ``start``.

    Reference:
        Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", Neurocomputing 568, 2024.
    """
    half = x.shape[-1] // 2
    angle = _angles(x.shape[-2], half, x, start)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def sinusoid(steps: int, dim: int, like: Tensor, start: int | Tensor = 0) -> Float[Tensor, "{steps} {dim}"]:
    """Sines, then cosines, of the steps at falling frequencies: step 0 is zeros, then ones.

    The first step is number ``start``.

    Reference:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017.
    """
    angle = _angles(steps, (dim + 1) // 2, like, start)
    return torch.cat([angle.sin(), angle.cos()], -1)[:, :dim].to(like.dtype)


def _angles(steps: int, half: int, like: Tensor, start: int | Tensor) -> Float[Tensor, "{steps} {half}"]:
    position = torch.arange(steps, device=like.device, dtype=torch.float32) + start
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
        both, value = self._project(x)
        both = self._turned(both, 0)
        query, key = both[:, :, : self.heads], both[:, :, self.heads :]
        steps = torch.arange(x.shape[2], device=x.device)
        past = steps[:, None] >= steps
        return self._gather(query, key, value, mask[:, :, None] & past)

    def step(
        self,
        x: Float[Tensor, "branch batch 1 dim"],
        past: tuple[Tensor, Tensor],
        mask: Bool[Tensor, "branch batch memory"],
    ) -> tuple[Float[Tensor, "branch batch 1 dim"], tuple[Tensor, Tensor]]:
        """What one more step gathers from the last ``memory`` steps, itself among them, and the memory with it.

        The oldest step makes room. Steps are turned when they are looked at, by their place in the memory, so that
        no angle grows with the length of a stream.

        Args:
            x: the step alone.
            past: keys, not turned, and values (branch, batch, group, memory, width); the newest lies last.
            mask: which places of the memory are real, this step's own, the last, included.
        """
        both, new_value = self._project(x)
        query, new = both[:, :, : self.heads], (both[:, :, self.heads :], new_value)
        key, value = (torch.cat([old[..., 1:, :], one], -2) for one, old in zip(new, past, strict=True))
        turned = self._turned(query, mask.shape[2] - 1), self._turned(key, 0)
        return self._gather(*turned, value, mask[:, :, None]), (key, value)

    def _project(
        self, x: Float[Tensor, "branch batch step dim"]
    ) -> tuple[Float[Tensor, "branch batch part step width"], Float[Tensor, "branch batch group step width"]]:
        """Queries by head and behind them keys by group, none of them turned; and values by group."""
        split = self.qkv(x).reshape(*x.shape[:3], -1, self.width).transpose(2, 3)
        both, value = split.split((self.heads + self.groups, self.groups), 2)
        return both, value

    def _turned(
        self, x: Float[Tensor, "branch batch head step width"], start: int
    ) -> Float[Tensor, "branch batch head step width"]:
        """Queries or keys by their position; the first step is number ``start``."""
        return rotate(x, start) if self.rotary else x

    def _gather(
        self,
        query: Float[Tensor, "branch batch head query width"],
        key: Float[Tensor, "branch batch group step width"],
        value: Float[Tensor, "branch batch group step width"],
        seen: Bool[Tensor, "branch batch query step"],
    ) -> Float[Tensor, "branch batch query dim"]:
        """Attend; queries of a group lie in one row after the keys, where a softmax over few keys is fast."""
        branches, batch, _, steps, width = query.shape
        grouped = query.reshape(branches * batch * self.groups, -1, width)
        scores = torch.bmm(key.flatten(0, 2), grouped.transpose(1, 2)) * width**-0.5
        split = scores.reshape(branches, batch, self.groups, key.shape[3], -1, steps)
        weights = masked_softmax(split, seen.transpose(2, 3)[:, :, None, :, None], axis=3).reshape(scores.shape)
        mixed = torch.bmm(weights.transpose(1, 2), value.flatten(0, 2)).reshape(query.shape)
        gathered: Tensor = self.out(mixed.transpose(2, 3).flatten(3))
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
            hidden, cell = self._advance(driven[:, :, step], hidden, cell, mask[:, :, step, None])
            states.append(hidden)
        return torch.stack(states, 2)

    def step(
        self,
        x: Float[Tensor, "branch batch 1 dim"],
        past: tuple[Tensor, Tensor],
        real: Bool[Tensor, "branch batch"],
    ) -> tuple[Float[Tensor, "branch batch 1 dim"], tuple[Tensor, Tensor]]:
        """The hidden state after one more step, and what the next one needs.

        Args:
            x: the step alone.
            past: hidden state and cell (branch, batch, dim); zeros before the first step.
            real: whether the step is.
        """
        hidden, cell = self._advance(self.input(x)[:, :, 0], *past, real[..., None])
        return hidden[:, :, None], (hidden, cell)

    def _advance(
        self,
        driven: Float[Tensor, "branch batch gates"],
        hidden: Float[Tensor, "branch batch dim"],
        cell: Float[Tensor, "branch batch dim"],
        real: Bool[Tensor, "branch batch 1"],
    ) -> tuple[Float[Tensor, "branch batch dim"], Float[Tensor, "branch batch dim"]]:
        enter, keep, new, leave = (driven + torch.bmm(hidden, self.recurrent)).chunk(4, -1)
        updated = keep.sigmoid() * cell + enter.sigmoid() * new.tanh()
        hidden = torch.where(real, leave.sigmoid() * updated.tanh(), hidden)
        return hidden, torch.where(real, updated, cell)
