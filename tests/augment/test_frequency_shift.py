import numpy as np
import pytest
import torch

from fusionkit.augment.frequency_shift import FrequencyShift
from fusionkit.core.levels import Window
from fusionkit.core.recording import Stored

RATE = 100.0


def shift(stream, most, seed=0):
    made = FrequencyShift(most=most, probability=1.0)
    made.bind(Stored(RATE, ("a",), "V", (1,), "float32", 1000))
    return made(stream, torch.Generator().manual_seed(seed)).values


def test_a_sine_moves_by_what_was_drawn_in_all_channels_alike():
    seconds = torch.arange(1000, dtype=torch.float64) / RATE
    one = torch.stack([torch.sin(2 * torch.pi * 10 * seconds), torch.cos(2 * torch.pi * 20 * seconds)]) + 5
    stream = Window(one.expand(64, -1, -1).clone(), torch.full((64,), 1000), torch.ones(64, dtype=torch.bool))
    out = shift(stream, 3.0)
    drawn = 3 * (2 * torch.rand(64, 1, generator=after_choosing(64)) - 1)
    turn = 2 * np.pi * drawn[:, 0].double()[:, None] * seconds
    torch.testing.assert_close(out[:, 0] - 5, torch.sin(2 * torch.pi * 10 * seconds + turn), rtol=0, atol=1e-6)
    torch.testing.assert_close(out[:, 1] - 5, torch.cos(2 * torch.pi * 20 * seconds + turn), rtol=0, atol=1e-6)
    hertz = np.fft.rfftfreq(8000, 1 / RATE)
    peak = hertz[np.abs(np.fft.rfft((out[:, 0] - 5).numpy() * np.hanning(1000), 8000)).argmax(-1)]
    np.testing.assert_allclose(peak, 10 + drawn[:, 0].numpy(), atol=0.02)
    assert drawn.min() < -2.5 and drawn.max() > 2.5


def after_choosing(batch):
    generator = torch.Generator().manual_seed(0)
    torch.rand(batch, generator=generator)
    return generator


@pytest.mark.parametrize("length", [1000, 700, 333])
def test_only_real_samples_move_and_power_stays(length):
    values = torch.zeros(3, 1, 1000, dtype=torch.float64)
    values[..., :length] = torch.sin(2 * torch.pi * 12 * torch.arange(length) / RATE)
    out = shift(Window(values, torch.full((3,), length), torch.ones(3, dtype=torch.bool)), 1.0)
    assert not out[..., length:].any()
    assert (out.square().sum(-1) / values.square().sum(-1)).sub(1).abs().max() < 0.02
