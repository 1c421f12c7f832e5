"""Multi-head attention under masks, for encoders and fusion operations alike."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError


class MultiHeadAttention(nn.Module):
    r"""Let every query look at the keys that are real.

    For each head :math:`\mathrm{softmax}(q k^T / \sqrt{d_h})\, v` with :math:`d_h` = ``dim / heads``, then one
    linear map over the joined heads. A query that may look at no key gives exactly zeros (the output's bias
    included), and the values of masked keys, NaN too, reach neither the output nor a gradient. With two keys of
    equal score the answer is the mean of their values.

    With ``kv_groups`` below ``heads``, that many key and value heads are shared by the query heads (grouped
    queries); 1 is multi-query attention. Works under `torch.export`, with dynamic batch and lengths.

    Args:
        dim: width of query, key, value and output.
        heads: query heads; must divide ``dim``.
        dropout: share of attention weights dropped in training.
        kv_groups: key and value heads; must divide ``heads``. None: as many as ``heads``.

    Raises:
        ConfigError: ``heads`` does not divide ``dim``, or ``kv_groups`` does not divide ``heads``.

    Reference:
        Vaswani et al., NeurIPS 2017; Ainslie et al., EMNLP 2023 (grouped queries).
    """

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0, kv_groups: int | None = None) -> None:
        super().__init__()
        groups = heads if kv_groups is None else kv_groups
        if heads < 1 or dim % heads:
            raise ConfigError(f"heads must divide dim, but {heads} does not divide {dim}")
        if groups < 1 or heads % groups:
            raise ConfigError(f"kv_groups must divide heads, but {groups} does not divide {heads}")
        self.heads = heads
        self.groups = groups
        self.width = dim // heads
        self.dropout = dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, groups * self.width, bias=False)  # softmax would cancel it
        self.value = nn.Linear(dim, groups * self.width)
        self.out = nn.Linear(dim, dim)
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        key: Float[Tensor, "batch key dim"],
        value: Float[Tensor, "batch key dim"],
        key_mask: Bool[Tensor, "batch key"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "batch query dim"]:
        """Attend; with ``causal``, query number i sees only keys number 0 to i."""
        if key_mask is not None:
            key = torch.where(key_mask[..., None], key, torch.zeros_like(key))
            value = torch.where(key_mask[..., None], value, torch.zeros_like(value))
        allowed = _allowed(query, key, key_mask, causal)
        seen = None if allowed is None else allowed.any(-1, keepdim=True)
        mixed = F.scaled_dot_product_attention(
            self._split(self.query(query), self.heads),
            self._split(self.key(key), self.groups),
            self._split(self.value(value), self.groups),
            # where nothing may be seen, all is allowed for once, lest softmax divide by zero
            attn_mask=None if allowed is None or seen is None else (allowed | ~seen)[:, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        joined: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return joined if seen is None else torch.where(seen, joined, torch.zeros_like(joined))

    def _split(self, x: Float[Tensor, "batch token width"], heads: int) -> Float[Tensor, "batch head token part"]:
        """Cut into heads; a shared head is repeated beside itself until there are ``self.heads``."""
        x = x.reshape(x.shape[0], x.shape[1], heads, self.width).transpose(1, 2)
        if heads == self.heads:
            return x
        return x[:, :, None].expand(-1, -1, self.heads // heads, -1, -1).flatten(1, 2)


def _allowed(
    query: Float[Tensor, "batch query dim"],
    key: Float[Tensor, "batch key dim"],
    key_mask: Bool[Tensor, "batch key"] | None,
    causal: bool,
) -> Bool[Tensor, "batch query key"] | None:
    """Which query may see which key, in full shape: a broadcast mask trips some runtimes."""
    if key_mask is None and not causal:
        return None
    batch, queries, keys = query.shape[0], query.shape[1], key.shape[1]
    allowed = torch.ones(batch, queries, keys, dtype=torch.bool, device=query.device)
    if key_mask is not None:
        allowed = allowed & key_mask[:, None, :]
    if causal:
        step = torch.arange(queries, device=query.device)[:, None]
        allowed = allowed & (torch.arange(keys, device=query.device) <= step)
    return allowed
