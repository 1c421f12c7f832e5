"""Layers that every branch has its own weights of, computed for all branches as one batched product.

States are ``(branch, batch, step, dim)``; a parameter's first axis is the branch.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Tokens

FEW, NARROW = 64 * 64, 16
"""Up to so many pairs of a query and a key, of heads so wide, plain products are faster on a CPU than torch's attention."""

WIDE, MANY = 16, 256
"""What numbers of columns the CPU's matrix products like, and from how many rows on it matters."""

UNEQUAL = 2
"""Times that a stream may be as long as another, to be padded with it: beyond that both are computed by themselves."""


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
        return product(x.flatten(1, 2), self.weight, self.bias).reshape(*x.shape[:3], -1)


def product(
    x: Float[Tensor, "branch row width"],
    weight: Float[Tensor, "branch width out"],
    bias: Float[Tensor, "branch out"] | None,
) -> Float[Tensor, "branch row out"]:
    """Each branch's rows through its linear layer.

    On a CPU many rows go to the next multiple of 16 and back: 120 to 30 numbers take 0.37 ms there, 120 to 32 take 0.22.
    """
    out = weight.shape[2]
    spare = -out % WIDE
    if x.device.type == "cpu" and not torch.compiler.is_exporting() and spare and out > WIDE and x.shape[1] > MANY:
        weight = F.pad(weight, (0, spare))
        bias = None if bias is None else F.pad(bias, (0, spare))
    rows = torch.bmm(x, weight) if bias is None else torch.baddbmm(bias[:, None], x, weight)
    return rows[..., :out]


class BranchNorm(nn.Module):
    """One layer norm a branch."""

    def __init__(self, branches: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(branches, dim))
        self.bias = nn.Parameter(torch.zeros(branches, dim))

    def forward(self, x: Float[Tensor, "branch batch step dim"]) -> Float[Tensor, "branch batch step dim"]:
        """Bring every state to mean 0 and variance 1, then scale and shift."""
        return self.scale(normal(x))

    def scale(self, x: Float[Tensor, "branch batch step dim"]) -> Float[Tensor, "branch batch step dim"]:
        """Scale and shift what is `normal` already."""
        return torch.addcmul(self.bias[:, None, None], x, self.weight[:, None, None])


def normal(x: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Every state with mean 0 and variance 1: 1 and 3 become -1 and 1."""
    return F.layer_norm(x, x.shape[-1:])


class BranchShares(nn.Module):
    r"""One linear layer over the branches side by side, given as one token a branch.

    Token m is :math:`M W_m x_m + b`, so that the mean over tokens is :math:`\sum_m W_m x_m + b`; over fewer tokens
    it leaves the others out and is scaled up for them. Weights start Xavier-uniform, the bias at zero.

    Args:
        branches: how many branches.
        width: numbers in, of one branch.
        out: width of a token.
    """

    def __init__(self, branches: int, width: int, out: int) -> None:
        super().__init__()
        bound = (6 / (branches * width + out)) ** 0.5
        self.weight = nn.Parameter(torch.empty(branches, width, out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Float[Tensor, "branch batch width"]) -> Float[Tensor, "batch branch out"]:
        """Each branch's token."""
        return (torch.bmm(x, self.weight) * x.shape[0] + self.bias).transpose(0, 1)


def stack_streams(
    streams: Iterable[Tokens],
) -> tuple[Float[Tensor, "branch batch token dim"], Bool[Tensor, "branch batch token"]]:
    """Put scrubbed streams of one width beside one another, shorter ones with zeros (masked) at the end."""
    streams = list(streams)
    longest = reduce(torch.sym_max, [tokens.values.shape[1] for tokens in streams])
    values = [F.pad(tokens.values, (0, 0, 0, longest - tokens.values.shape[1])) for tokens in streams]
    masks = [F.pad(tokens.mask, (0, longest - tokens.mask.shape[1])) for tokens in streams]
    return torch.stack(values), torch.stack(masks)


class Group(NamedTuple):
    """Streams of about one length, by their numbers, with zeros (masked) at the end of the shorter ones."""

    streams: list[int]
    values: Float[Tensor, "stream batch step dim"]
    mask: Bool[Tensor, "stream batch step"]


def group_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Streams by number, so that in a group none is over `UNEQUAL` times as long as another: 1, 64, 1, 50 give 0, 2 and 1, 3.

    An export has one group, since its lengths may vary.
    """
    if torch.compiler.is_exporting():
        return [list(range(len(lengths)))]
    groups: list[list[int]] = []
    for stream in sorted(range(len(lengths)), key=lambda stream: lengths[stream]):
        if not groups or lengths[stream] > UNEQUAL * lengths[groups[-1][0]]:
            groups.append([])
        groups[-1].append(stream)
    return [sorted(group) for group in groups]


def group_streams(streams: Sequence[Tokens]) -> list[Group]:
    """Scrubbed streams of one width, those of about one length beside one another (`group_lengths`)."""
    groups = group_lengths([tokens.mask.shape[1] for tokens in streams])
    return [Group(group, *stack_streams(streams[stream] for stream in group)) for group in groups]


def in_one_row(streams: Iterable[Tokens]) -> Tokens:
    """All tokens of scrubbed streams one after the other; their times too where every stream has them."""
    streams = list(streams)
    times = [tokens.time for tokens in streams if tokens.time is not None]
    return Tokens(
        torch.cat([tokens.values for tokens in streams], 1),
        torch.cat([tokens.mask for tokens in streams], 1),
        torch.stack([tokens.present for tokens in streams]).any(0),
        torch.cat(times, 1) if len(times) == len(streams) else None,
    )


def last_real(values: Float[Tensor, "*rows step dim"], mask: Bool[Tensor, "*rows step"]) -> Float[Tensor, "*rows dim"]:
    """The last step that is real; zeros where there is none. Of 1, 2, 3 with mask (True, True, False), 2."""
    place = torch.arange(1, mask.shape[-1] + 1, device=mask.device)
    last = torch.where(mask, place, torch.zeros_like(place)).amax(-1, keepdim=True)
    chosen = (mask & (place == last)).to(values.dtype)
    return (chosen[..., None, :] @ values).squeeze(-2)


def masked_softmax(
    scores: Float[Tensor, "*shape"], mask: Bool[Tensor, "..."], axis: int = -1
) -> Float[Tensor, "*shape"]:
    """Softmax over the keys that ``mask`` shows; all zeros where it shows none. Keys lie along ``axis``."""
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(axis)
    return weights.masked_fill(~mask, 0.0)


class BranchAttention(nn.Module):
    """Multi-head attention from queries to whatever is real in a source, in every branch by itself.

    A query of a branch that has nothing real to look at gives zeros, the output's bias included. Keys have no bias:
    the softmax would cancel it.

    Args:
        branches: how many branches.
        dim: width of queries and answers.
        heads: attention heads; must divide ``dim``.
        source: width of what is looked at; None: ``dim``.
        dropout: share of attention weights dropped in training.

    Raises:
        ConfigError: ``heads`` does not divide ``dim``.

    Reference:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017.
    """

    def __init__(self, branches: int, dim: int, heads: int, *, source: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(f"heads must divide dim, but {heads} does not divide {dim}")
        self.heads, self.dropout = heads, dropout
        self.query = BranchLinear(branches, dim, dim)
        self.key = BranchLinear(branches, source or dim, dim, bias=False)
        self.value = BranchLinear(branches, source or dim, dim)
        self.out = BranchLinear(branches, dim, dim)

    def forward(
        self,
        query: Float[Tensor, "branch batch query dim"],
        source: Float[Tensor, "branch batch key width"],
        mask: Bool[Tensor, "branch batch key"],
    ) -> Float[Tensor, "branch batch query dim"]:
        """What each query gathers from the keys that ``mask`` shows."""
        queries, keys, values = self._project(query, source)
        seen = mask.any(-1)[..., None]
        # where nothing may be seen, all is allowed for once, lest softmax divide by zero
        allowed = (mask | ~seen).flatten(0, 1)
        mixed = (self._mix_few if self._few(queries, keys) else self._mix)(queries, keys, values, allowed)
        gathered: Tensor = self.out(mixed.reshape(query.shape))
        return torch.where(seen[..., None], gathered, torch.zeros_like(gathered))

    def _project(
        self, query: Float[Tensor, "branch batch query dim"], source: Float[Tensor, "branch batch key width"]
    ) -> tuple[Float[Tensor, "row head _ part"], ...]:
        """Queries, keys and values by head; what is made of the same comes out of one product."""
        groups = [(query, [self.query, self.key, self.value])]
        if source is not query:
            groups = [(query, [self.query]), (source, [self.key, self.value])]
        made: list[Tensor] = []
        for x, layers in groups:
            weight = torch.cat([layer.weight for layer in layers], 2)
            nothing = torch.zeros_like(layers[0].weight[:, 0])
            bias = torch.cat([nothing if layer.bias is None else layer.bias for layer in layers], 1)
            rows = product(x.flatten(1, 2), weight, bias)
            made += rows.reshape(x.shape[0] * x.shape[1], x.shape[2], len(layers), self.heads, -1).unbind(2)
        return tuple(part.transpose(1, 2) for part in made)

    @staticmethod
    def _few(query: Tensor, key: Tensor) -> bool:
        if torch.compiler.is_exporting() or query.device.type != "cpu":
            return False
        return query.shape[2] * key.shape[2] <= FEW and query.shape[3] <= NARROW

    def _mix(
        self,
        query: Float[Tensor, "row head query width"],
        key: Float[Tensor, "row head key width"],
        value: Float[Tensor, "row head key width"],
        allowed: Bool[Tensor, "row key"],
    ) -> Float[Tensor, "row query head width"]:
        """The values, mixed by what their keys are to each query."""
        mask = allowed[:, None, None].expand(-1, -1, query.shape[2], -1)
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout).transpose(1, 2)

    def _mix_few(
        self,
        query: Float[Tensor, "row head query width"],
        key: Float[Tensor, "row head key width"],
        value: Float[Tensor, "row head key width"],
        allowed: Bool[Tensor, "row key"],
    ) -> Float[Tensor, "row query head width"]:
        """As `_mix`, twice as fast on a CPU: queries lie in a row after the keys, and products have long rows."""
        rows, heads, queries, width = query.shape
        hidden = torch.zeros_like(allowed, dtype=query.dtype).masked_fill(~allowed, torch.finfo(query.dtype).min / 2)
        scores = torch.bmm(key.flatten(0, 1), query.transpose(2, 3).flatten(0, 1) * width**-0.5)
        weights = scores.reshape(rows, heads, *scores.shape[1:]).add_(hidden[:, None, :, None]).softmax(2)
        weights = F.dropout(weights, self.dropout, self.training)
        mixed = torch.bmm(value.transpose(2, 3).flatten(0, 1), weights.flatten(0, 1))
        return mixed.reshape(rows, heads, width, queries).permute(0, 3, 1, 2)


class BranchBlock(nn.Module):
    r"""Attention and a feed-forward layer of four times the width, each behind a layer norm and beside a shortcut.

    .. math:: y &= x + \mathrm{Drop}(\mathrm{MHA}(\mathrm{LN}(x), \mathrm{LN}(s), \mathrm{LN}(s))) \\
              z &= y + \mathrm{Drop}(W_2\, \mathrm{Drop}(\phi(W_1 \mathrm{LN}'(y))))

    The source s passes through the very layer norm of the queries; without one, s is x. Several blocks of one source
    make it `normal` once.

    Args:
        branches: how many branches.
        dim: width of a state.
        heads: attention heads; must divide ``dim``.
        dropout: share dropped in training, wherever the equations say so, and of attention weights.
        activation: :math:`\phi`.

    Reference:
        Pre-norm form: Xiong et al., ICML 2020.
    """

    def __init__(
        self, branches: int, dim: int, heads: int, *, dropout: float, activation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.activation = activation
        self.attention_norm = BranchNorm(branches, dim)
        self.attention = BranchAttention(branches, dim, heads, dropout=dropout)
        self.feed_norm = BranchNorm(branches, dim)
        self.feed_in = BranchLinear(branches, dim, 4 * dim)
        self.feed_out = BranchLinear(branches, 4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "branch batch step dim"],
        mask: Bool[Tensor, "branch batch key"],
        source: Float[Tensor, "branch batch key dim"] | None = None,
    ) -> Float[Tensor, "branch batch step dim"]:
        """New states; ``mask`` says what of the source, which is `normal`, is real."""
        normed = self.attention_norm(x)
        looked = normed if source is None else self.attention_norm.scale(source)
        x = x + self.dropout(self.attention(normed, looked, mask))
        hidden = self.dropout(self.activation(self.feed_in(self.feed_norm(x))))
        out: Tensor = x + self.dropout(self.feed_out(hidden))
        return out


def some_branches(module: nn.Module, branches: Sequence[int], *given: Tensor) -> Tensor:
    """What some of a module's branches make of as many inputs, as if it had no others.

    Args:
        module: the first axis of all its parameters is the branch.
        branches: which, in the order of the inputs.
        given: what it takes.
    """
    parameters = dict(module.named_parameters())
    if list(branches) == list(range(len(next(iter(parameters.values()))))):
        made: Tensor = module(*given)
        return made
    apart = {name: whole.unbind() for name, whole in parameters.items()}
    chosen = {name: torch.stack([parts[branch] for branch in branches]) for name, parts in apart.items()}
    made = functional_call(module, chosen, given)
    return made
