"""Transforms of rows of different lengths, against NumPy's of each row."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import hilbert

from fusionkit.augment import spectrum as module
from fusionkit.augment.spectrum import analytic, chirp, frequencies, signal, spectrum


def rows(lengths, time, channels=2, seed=0, dtype=torch.float64):
    values = torch.randn(len(lengths), channels, time, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    length = torch.tensor(lengths)
    return torch.where(torch.arange(time) < length[:, None, None], values, 0.0), length


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40).flatmap(
        lambda time: st.tuples(st.just(time), st.lists(st.integers(0, time), min_size=1, max_size=4))
    )
)
def test_every_row_has_the_spectrum_of_its_own_samples(drawn):
    time, lengths = drawn
    values, length = rows(lengths, time)
    bins = spectrum(values, length)
    assert bins.shape == (len(lengths), 2, time // 2 + 1)
    for row, count in enumerate(lengths):
        own = np.fft.rfft(values[row, :, :count].numpy()) if count else np.zeros((2, 0))
        np.testing.assert_allclose(bins[row, :, : own.shape[1]], own, atol=1e-10)
        assert not bins[row, :, own.shape[1] or 1 :].any()
    back = signal(bins, length, time)
    assert back.shape == values.shape
    real = torch.arange(time) < length[:, None, None]
    torch.testing.assert_close(torch.where(real, back, 0.0), values, rtol=0, atol=1e-10)


@pytest.mark.parametrize("time", [11, 12])
def test_the_analytic_signal_is_scipys(time):
    values, length = rows([time, time - 1, 7, 2], time)
    found = analytic(spectrum(values, length), length, time)
    for row, count in enumerate(length.tolist()):
        np.testing.assert_allclose(found[row, :, :count], hilbert(values[row, :, :count].numpy()), atol=1e-10)


def test_the_way_without_padding_gives_the_same(monkeypatch):
    values, length = rows([50, 50], 50)
    plain = spectrum(values, length), analytic(spectrum(values, length), length, 50)
    monkeypatch.setattr(module, "_whole", lambda length, time: False)
    torch.testing.assert_close(spectrum(values, length), plain[0])
    torch.testing.assert_close(analytic(plain[0], length, 50), plain[1])
    torch.testing.assert_close(signal(plain[0], length, 50), values)


def test_float32_keeps_its_digits_over_long_windows():
    values, length = rows([6000, 5999], 6000, dtype=torch.float32)
    bins = spectrum(values, length)
    for row, count in enumerate(length.tolist()):
        own = np.fft.rfft(values[row, :, :count].double().numpy())
        assert np.abs(bins[row, :, : own.shape[1]].numpy() - own).max() < 2e-6 * np.abs(own).max()


def test_a_chirp_sums_what_its_formula_says():
    values, length = rows([5, 3], 5)
    for sign in (1, -1):
        found = chirp(values, length, 4, sign)
        for row, period in enumerate(length.tolist()):
            for k in range(4):
                turns = torch.exp(sign * 2j * torch.pi * torch.arange(5).double() * k / period)
                torch.testing.assert_close(found[row, :, k], (values[row] * turns).sum(-1))


def test_bins_know_their_hertz():
    hertz = frequencies(torch.tensor([10, 8]), 10, 100.0)
    assert hertz[0].tolist() == [0, 10, 20, 30, 40, 50] and hertz[1, :5].tolist() == [0, 12.5, 25, 37.5, 50]
