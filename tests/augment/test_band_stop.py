import pytest
import torch

from fusionkit.augment.band_stop import BandStop
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.recording import Stored


def bound(rate=100.0, **options):
    made = BandStop(probability=1.0, **options)
    made.bind(Stored(rate, ("a", "b"), "V", (2,), "float32", 200))
    return made


def sines(hertz, batch=1, time=200, rate=100.0):
    seconds = torch.arange(time, dtype=torch.float64) / rate
    values = torch.stack([torch.sin(2 * torch.pi * f * seconds) for f in hertz])
    return Window(values.expand(batch, -1, -1).clone(), torch.full((batch,), time), torch.ones(batch, dtype=torch.bool))


def test_what_lies_in_the_band_goes_and_the_rest_stays():
    stream = sines([10, 20], batch=300)
    out = bound(width=5.0)(stream, torch.Generator().manual_seed(0)).values
    power = out.square().mean(-1) / stream.values.square().mean(-1)
    gone, stayed = power < 1e-12, (power - 1).abs() < 1e-12
    assert (gone | stayed).all()
    assert not gone.all(1).any()  # 10 Hz apart, the band is 5 wide
    share = gone.double().mean(0)
    assert share[0].item() == pytest.approx(5 / 45, abs=0.06) and share[1].item() == pytest.approx(5 / 45, abs=0.06)
    assert torch.allclose(out[stayed], stream.values[stayed], atol=1e-12)


def test_a_band_ends_below_the_highest():
    stream = sines([8, 30], batch=200)
    out = bound(width=5.0, highest=15.0)(stream, torch.Generator().manual_seed(0)).values
    assert torch.allclose(out[:, 1], stream.values[:, 1], atol=1e-12)
    assert 0.3 < (out[:, 0].abs().amax(-1) < 1e-9).double().mean() < 0.7


def test_the_mean_stays_though_the_band_begin_at_0():
    stream = Window(torch.full((4, 2, 50), 3.0), torch.tensor([50, 50, 20, 1]), torch.ones(4, dtype=torch.bool))
    out = bound(width=50.0)(stream, torch.Generator().manual_seed(0)).values
    torch.testing.assert_close(out, stream.values)


def test_bands_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="width must be at most the 4 Hz that are there, but got 5"):
        bound(rate=8.0)
    with pytest.raises(ConfigError, match="highest must be at most half the sampling rate of 100 Hz, but got 60"):
        bound(highest=60.0)
    with pytest.raises(ConfigError, match="band_stop must be bound to a sensor first"):
        BandStop()(sines([1, 2]))
    with pytest.raises(ConfigError, match="sensor with time"):
        BandStop().bind(Stored(None, ("a",), "", (1,), "float32", 1))
