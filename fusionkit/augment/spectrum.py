"""Fourier transforms of windows whose rows are of different lengths, in one batch and without a look at the lengths."""

import math

import torch
from jaxtyping import Complex, Float, Int
from scipy.fft import next_fast_len
from torch import Tensor

from .series import across

Rows = Int[Tensor, " batch"]


def spectrum(values: Float[Tensor, "batch *item time"], length: Rows) -> Complex[Tensor, "batch *item bin"]:
    r"""The DFT of every row's first ``length`` samples; samples behind them must be 0.

    Bin ``k`` of a row of ``n`` samples is that of its own ``rfft``, at ``k / n`` of the sampling rate; there are
    ``time // 2 + 1`` bins, and those above ``n // 2`` are 0.
    """
    time = values.shape[-1]
    if _whole(length, time):
        plain: Tensor = torch.fft.rfft(values)
        return plain
    bins = chirp(values, length, time // 2 + 1, -1)
    return torch.where(across(_bins(length, time) <= length[:, None] // 2, bins), bins, torch.zeros_like(bins))


def analytic(
    bins: Complex[Tensor, "batch *item bin"], length: Rows, time: int
) -> Complex[Tensor, "batch *item {time}"]:
    """The signal that `spectrum` was of, with its Hilbert transform as the imaginary part; its padding means nothing.

    Of a cosine it is a circle: cos(t) gives cos(t) + i sin(t).
    """
    place = _bins(length, time)
    once = (place == 0) | (2 * place == length[:, None])  # the mean and half the sampling rate have no other half
    weight = torch.where(once, 1, 2).to(bins.real.dtype) / length.clamp_min(1)[:, None]
    weighted = bins * across(weight, bins)
    if _whole(length, time):
        circling: Tensor = torch.fft.ifft(weighted, n=time, norm="forward")
        return circling
    return chirp(weighted, length, time, 1)


def signal(bins: Complex[Tensor, "batch *item bin"], length: Rows, time: int) -> Float[Tensor, "batch *item {time}"]:
    """The signal that `spectrum` was of; its padding means nothing."""
    if _whole(length, time):
        plain: Tensor = torch.fft.irfft(bins, n=time)
        return plain
    return analytic(bins, length, time).real


def frequencies(length: Rows, time: int, sample_rate: float) -> Float[Tensor, "batch bin"]:
    """Hertz of every bin of `spectrum`."""
    return _bins(length, time) * (sample_rate / length.clamp_min(1)[:, None])


def chirp(values: Tensor, length: Rows, outputs: int, sign: int) -> Complex[Tensor, "batch *item {outputs}"]:
    r"""Sums :math:`\sum_n x_n e^{\pm 2 \pi i n k / L}` for ``k < outputs``, with each row's own period :math:`L`.

    Because :math:`2 n k = n^2 + k^2 - (k - n)^2`, they are a convolution with a chirp, for which rows need no common
    period. Four times the work of a plain transform, but no row waits for another and no length leaves the device.

    Reference:
        Bluestein, A linear filtering approach to the computation of discrete Fourier transform, IEEE 1970.
    """
    inputs = values.shape[-1]
    size = next_fast_len(inputs + outputs - 1)
    period = length.clamp_min(1)[:, None]
    lag = torch.arange(max(inputs, outputs), device=values.device)
    angle = sign * math.pi * ((lag * lag) % (2 * period)).to(values.real.dtype) / period
    wave = torch.polar(torch.ones_like(angle), angle)
    kernel = wave.new_zeros(len(values), size)
    kernel[:, :outputs] = wave[:, :outputs].conj()
    kernel[:, size - inputs + 1 :] = wave[:, 1:inputs].conj().flip(1)
    turned = torch.fft.fft(values * across(wave[:, :inputs], values), n=size)
    convolved: Tensor = torch.fft.ifft(turned * across(torch.fft.fft(kernel), values))[..., :outputs]
    return convolved * across(wave[:, :outputs], values)


def _bins(length: Rows, time: int) -> Int[Tensor, "batch bin"]:
    return torch.arange(time // 2 + 1, device=length.device).expand(len(length), -1)


def _whole(length: Rows, time: int) -> bool:
    """Whether no row has padding; asked on the CPU alone, for elsewhere the answer would have to be waited for."""
    return length.device.type == "cpu" and bool((length == time).all())
