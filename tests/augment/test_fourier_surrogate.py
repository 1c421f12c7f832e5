import numpy as np
import pytest
import torch

from fusionkit.augment.fourier_surrogate import FourierSurrogate
from fusionkit.core.levels import Window


def batch(lengths, time=60, channels=3, dtype=torch.float32):
    values = torch.randn(len(lengths), channels, time, generator=torch.Generator().manual_seed(0), dtype=dtype)
    length = torch.tensor(lengths)
    values = torch.where(torch.arange(time) < length[:, None, None], (values + 3) * 1e-5, 0.0)
    return Window(values.to(dtype), length, torch.ones(len(lengths), dtype=torch.bool))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("lengths", [[60, 60, 60], [60, 31, 2, 1, 44]])
@pytest.mark.parametrize("independent", [False, True])
def test_the_strength_of_every_frequency_stays(lengths, independent):
    stream = batch(lengths)
    out = FourierSurrogate(independent=independent, probability=1.0)(stream, seeded()).values
    for row, count in enumerate(lengths):
        before = np.abs(np.fft.rfft(stream.values[row, :, :count].double()))
        after = np.abs(np.fft.rfft(out[row, :, :count].double()))
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * before.max())
        assert not out[row, :, count:].any()
        if count > 2:
            assert not torch.allclose(out[row], stream.values[row], rtol=0.01)


def test_cross_spectra_stay_unless_channels_are_independent():
    stream = batch([60, 45], dtype=torch.float64)
    for independent in (False, True):
        out = FourierSurrogate(independent=independent, probability=1.0)(stream, seeded()).values
        for row, count in enumerate([60, 45]):
            before, after = (np.fft.rfft(x[row, :, :count].numpy()) for x in (stream.values, out))
            cross = [x[0, 1:-1] * x[1, 1:-1].conj() for x in (before, after)]
            assert np.allclose(*cross, rtol=1e-6) != independent


def test_angles_are_of_the_whole_circle():
    stream = batch([60] * 400, channels=1, dtype=torch.float64)
    out = FourierSurrogate(probability=1.0)(stream, seeded()).values
    turned = np.angle(np.fft.rfft(out.numpy()) / np.fft.rfft(stream.values.numpy()))[:, 0]
    assert np.allclose(turned[:, [0, 30]], 0, atol=1e-9)
    assert abs(np.exp(1j * turned[:, 1:30]).mean()) < 0.03
    assert np.histogram(turned[:, 1:30], 8, (-np.pi, np.pi))[0].min() > 0.9 * turned[:, 1:30].size / 8
