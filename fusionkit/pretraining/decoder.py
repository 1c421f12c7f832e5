"""What stands at each place of a stream, read out of tokens of it by attention."""

from math import isqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.levels import Tokens, scrub
from fusionkit.encoders.attention import MultiHeadAttention
from fusionkit.encoders.position import sinusoidal


class ReadingBlock(nn.Module):
    """Places look at tokens, then a feed-forward layer, each behind a layer norm and beside a shortcut.

    Args:
        dim: width of places and tokens.
        heads: attention heads; must divide ``dim``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.place_norm, self.token_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, heads)
        self.feed_norm = nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(
        self, places: Float[Tensor, "batch place dim"], codes: Float[Tensor, "token dim"], tokens: Tokens
    ) -> Float[Tensor, "batch place dim"]:
        """Read one batch; ``codes`` say where the tokens stand."""
        values = self.token_norm(tokens.values)
        places = places + self.attention(self.place_norm(places), values + codes, values, tokens.mask)
        read: Tensor = places + self.feed(self.feed_norm(places))
        return read


class PlaceDecoder(nn.Module):
    """A vector for every place of a stream, from the tokens of what an encoder was shown of it.

    A place is a learned vector and the code of where it is, and looks at the tokens, not at other places: the decoder
    of CrossMAE, in which hidden places do not speak with each other. So tokens may be fewer than places (convolutions),
    or one more (a class token), and every encoder has the same decoder. A place sees nothing where nothing is real.

    Args:
        dim: width of tokens and of what comes out.
        layers: blocks.
        heads: attention heads; must divide ``dim``.

    Raises:
        ConfigError: ``heads`` does not divide ``dim``.

    Reference:
        Fu et al., "Rethinking Patch Dependence for Masked Autoencoders", arXiv 2401.14391, 2024.
    """

    def __init__(self, dim: int, layers: int, heads: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(dim) * 0.02)
        self.blocks = nn.ModuleList(ReadingBlock(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, tokens: Tokens, grid: tuple[int, int], where: Float[Tensor, "token dim"] | None = None
    ) -> Float[Tensor, "batch place dim"]:
        """Read one batch.

        Args:
            tokens: of what the encoder was shown.
            grid: rows and columns of the places; one row for what is no picture.
            where: codes of the tokens; None takes them to cover the grid evenly (see `token_codes`).
        """
        clean = scrub(tokens)
        codes = place_codes(grid, clean.values)
        where = token_codes(codes, grid, clean.values.shape[1]) if where is None else where
        places = (self.place + codes).expand(len(clean.present), -1, -1)
        for block in self.blocks:
            places = block(places, where, clean)
        normed: Tensor = self.norm(places)
        return normed


def place_codes(grid: tuple[int, int], like: Float[Tensor, "batch token dim"]) -> Float[Tensor, "place dim"]:
    """Sines of the column, and beside them of the row where there is more than one, row by row.

    Half of the numbers belong to the row then: a width of 8 has 4 and 4.
    """
    rows, columns = grid
    if rows == 1:
        return sinusoidal(like.new_zeros(1, columns, like.shape[2]))
    half = like.shape[2] // 2
    row = sinusoidal(like.new_zeros(1, rows, half))
    column = sinusoidal(like.new_zeros(1, columns, like.shape[2] - half))
    return torch.cat([row.repeat_interleave(columns, 0), column.repeat(rows, 1)], 1)


def token_codes(codes: Float[Tensor, "place dim"], grid: tuple[int, int], tokens: int) -> Float[Tensor, "token dim"]:
    """Codes of ``tokens`` that cover a grid of places evenly: each has the mean of the codes of the places under it.

    As many tokens as places have the places' own codes. Tokens of a picture are taken for a grid of the same
    proportions, row by row, behind a class token (zeros) where they are one more than such a grid; where neither fits,
    they are taken for a line.
    """
    plane = codes.T.reshape(-1, *grid)
    for first in (0, 1):
        rows = isqrt(round((tokens - first) * grid[0] / grid[1])) if grid[0] > 1 else 1
        if rows and tokens > first and (tokens - first) % rows == 0 and (grid[0] > 1 or not first):
            smaller = F.adaptive_avg_pool2d(plane[None], (rows, (tokens - first) // rows))[0]
            return F.pad(smaller.flatten(1).T, (0, 0, first, 0))
    return F.adaptive_avg_pool1d(codes.T[None], tokens)[0].T
