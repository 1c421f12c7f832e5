"""When a token happened in its window, as sines: for operations that put tokens of several clocks together."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.core.errors import ShapeError
from fusionkit.core.levels import Tokens, valid

BANDS = 6


def place(tokens: Tokens, duration: float | None) -> Float[Tensor, "batch token"]:
    """Where each token lies in its window, from -1 to 1; 0 where nothing is real.

    A token with a time lies where its time says. One without lies by its rank among the row's real tokens, the
    first at -1 and the last at 1, so that padding moves nothing. At 0, 1 and 3 s of four: -1, -0.5 and 0.5.

    Raises:
        ShapeError: the stream has times but the window has no duration.
    """
    real = valid(tokens)
    if tokens.time is None:
        rank = real.to(torch.float32).cumsum(1) - 1
        where = 2 * rank / (real.sum(1, keepdim=True) - 1).clamp_min(1) - 1
    elif duration is None:
        raise ShapeError("streams with time need the duration of the longest window, but it is None")
    else:
        where = tokens.time.to(torch.float32) * (2 / duration) - 1
    return torch.where(real, where, torch.zeros_like(where))


def fourier(where: Float[Tensor, "batch token"]) -> Float[Tensor, "batch token code"]:
    r"""Sines, then cosines, of :math:`\pi 2^k x` for k of 0 to 5, and x itself: 13 numbers.

    At 0: six zeros, six ones, zero.

    Reference:
        Jaegle et al., "Perceiver", ICML 2021; the number of bands and their octaves are ours.
    """
    rate = torch.pi * 2.0 ** torch.arange(BANDS, device=where.device, dtype=torch.float32)
    angle = where[..., None] * rate
    return torch.cat([angle.sin(), angle.cos(), where[..., None]], -1)


FOURIER = 2 * BANDS + 1  # numbers of a code


class TimeCode(nn.Module):
    """A linear map of `fourier`, to be added to tokens of width ``dim``."""

    def __init__(self, dim: int, duration: float | None) -> None:
        super().__init__()
        self.duration = duration
        self.linear = nn.Linear(FOURIER, dim, bias=False)

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch token dim"]:
        """Codes of one stream, in the type of its values."""
        code: Tensor = self.linear(fourier(place(tokens, self.duration)).to(tokens.values.dtype))
        return code
