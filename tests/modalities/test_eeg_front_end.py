import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError
from fusionkit.core.recording import Stored
from fusionkit.modalities.eeg import EEG
from fusionkit.modalities.eeg.bands import BANDS
from fusionkit.modalities.eeg.features import DftFeatures, RawFeatures

RATE = 200.0
UV = 1e-6


def stored(rate=RATE, longest=800, channels=3):
    return Stored(rate, tuple(f"c{i}" for i in range(channels)), "V", (channels,), "float32", longest)


def front_end(rate=RATE, longest=800, channels=3, **options):
    return EEG(features=DftFeatures(**options)).front_end(stored(rate, longest, channels))


def full(x):
    return torch.full((len(x),), x.shape[-1])


def variance(entropy):
    return torch.exp(2 * entropy) / (2 * math.pi * math.e)


def plain_entropy(x, rate, seconds, step, bands, floor):
    """The formula in float64 with NumPy's FFT: each row of the windowed DFT without its mean, at unit gain for noise."""
    n, hop = round(seconds * rate), round(step * rate)
    w = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    kernel = np.fft.fft(np.diag(w), axis=0)[: n // 2 + 1]  # row k: w_j exp(-2 pi i k j / n)
    out = []
    for start in range(0, x.shape[-1] - n + 1, hop):
        piece = x[..., start : start + n] * 1e6
        step_out = []
        for low, high in bands:
            total = 0.0
            for k in range(n // 2 + 1):
                if low <= k * rate / n < high:
                    for row in (kernel[k].real, kernel[k].imag):
                        row = row - row.mean()
                        gain = (row**2).sum()
                        if gain > 1e-6:
                            total = total + 2 / (n * (w**2).sum()) * (piece @ row) ** 2 * (w**2).sum() / 2 / gain
            step_out.append(0.5 * np.log(2 * np.pi * np.e * np.maximum(total, floor)))
        out.append(np.stack(step_out, -1))
    return np.stack(out, 1)  # batch, step, channel, band


@pytest.mark.parametrize("bands", ["seed", "classic"])
@pytest.mark.parametrize(("window", "step"), [(1.0, None), (1.0, 0.25), (2.0, 0.3)])
def test_matches_a_float64_reference(bands, window, step):
    x = np.random.default_rng(0).normal(0, 20 * UV, (2, 3, 800)) + np.array([0, 1e-3, -4e-3])[:, None]
    ours, mask = front_end(window=window, step=step, bands=bands)(
        torch.tensor(x, dtype=torch.float32), torch.tensor([800] * 2)
    )
    want = plain_entropy(
        x.astype(np.float32).astype(np.float64), RATE, window, step or window, BANDS[bands].values(), 1e-6
    )
    assert mask.all() and ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), want, atol=1e-4)


@given(
    rate=st.sampled_from([100.0, 125.0, 128.0, 256.0, 500.0]),
    window=st.sampled_from([0.5, 1.0, 1.2]),
    low=st.integers(2, 20),
    width=st.integers(2, 25),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_matches_the_reference_at_any_rate_and_band(rate, window, low, width, seed):
    x = np.random.default_rng(seed).normal(0, 10 * UV, (1, 1, 700)).astype(np.float32)
    bands = {"band": (low, low + width), "top": (rate / 4, rate / 2)}
    ours, _ = front_end(rate, 700, 1, window=window, bands=bands)(torch.tensor(x), torch.tensor([700]))
    order = sorted(bands.values())
    np.testing.assert_allclose(
        ours.numpy(), plain_entropy(x.astype(float), rate, window, window, order, 1e-6), atol=1e-4
    )


@pytest.mark.parametrize("rate", [125.0, 200.0])
def test_white_noise_has_its_variance_in_every_band(rate):
    seconds = 600
    x = torch.randn(1, 12, round(seconds * rate), generator=torch.Generator().manual_seed(1)) * 10 * UV
    ours, _ = front_end(rate, x.shape[-1], 12)(x, full(x))
    for band, (low, high) in enumerate(BANDS["seed"].values()):
        true = 100 * (high - low) / (rate / 2)  # square microvolts
        assert variance(ours[..., band].double()).mean() == pytest.approx(true, rel=0.02)


def test_an_offset_moves_no_band():
    x = torch.randn(4, 3, 800) * 10 * UV
    module = front_end()
    plain, _ = module(x, full(x))
    moved, _ = module(x + 1e-3, full(x))
    assert (moved - plain).abs().max() < 1e-3


@pytest.mark.parametrize(("hertz", "band"), [(10.0, 2), (6.0, 1), (20.0, 3), (40.0, 4)])
def test_a_sinusoid_lands_in_its_band_alone(hertz, band):
    t = torch.arange(800) / RATE
    x = (50 * UV * torch.sin(2 * math.pi * hertz * t + 0.3)).expand(1, 3, -1)
    power = variance(front_end()(x, full(x))[0].double())
    assert (power[..., band] - 50**2 / 2).abs().max() / (50**2 / 2) < 1e-3
    others = [i for i in range(5) if i != band]
    assert power[..., others].max() / power[..., band].min() < 1e-5


def test_volts_are_taken_as_microvolts():
    x = torch.randn(1, 3, 20_000) * UV
    whole = {"whole": (1.0, 100.0)}
    entropy, _ = front_end(longest=20_000, bands=whole)(x, full(x))
    assert entropy.mean() == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 0.99), abs=0.02)  # 1 uV: 1.4189 nats
    bits, _ = front_end(longest=20_000, bands=whole, log=2)(x, full(x))
    torch.testing.assert_close(bits, entropy / math.log(2))


def test_half_a_volt_scale_is_ln_2():
    x = torch.randn(2, 3, 400) * 10 * UV
    module = front_end()
    torch.testing.assert_close(module(2 * x, full(x))[0], module(x, full(x))[0] + math.log(2))


def test_silence_gives_the_floor():
    entropy, mask = front_end(floor=1e-4)(torch.full((1, 3, 400), 2e-5), torch.tensor([400]))
    assert torch.allclose(entropy, torch.tensor(0.5 * math.log(2 * math.pi * math.e * 1e-4)))
    assert mask.all()


def test_a_step_counts_only_if_wholly_real():
    x = torch.randn(3, 3, 800) * UV
    module = front_end(window=1.0, step=0.5)
    length = torch.tensor([800, 450, 199])
    entropy, mask = module(x, length)
    assert entropy.shape == (3, 7, 3, 5)
    assert mask.sum(1).tolist() == [7, 3, 0]
    dirty = torch.where(torch.arange(800) < length[:, None, None], x, torch.nan)
    again, _ = module(dirty, length)
    assert torch.isfinite(again).all()
    assert torch.equal(again[mask], entropy[mask])
    short, _ = module(x[1:2, :, :450], torch.tensor([450]))
    torch.testing.assert_close(short[0], entropy[1, :3])


def test_times_are_centres():
    assert front_end(window=2.0, step=0.5).times(3).tolist() == [1.0, 1.5, 2.0]
    assert EEG(features=RawFeatures()).front_end(stored()).times(2).tolist() == pytest.approx([0.0025, 0.0075])


def test_raw_is_microvolts_per_sample():
    x = torch.full((2, 3, 10), 5e-6)
    x[1, :, 4:] = torch.nan
    values, mask = EEG(features=RawFeatures()).front_end(stored())(x, torch.tensor([10, 4]))
    assert values.shape == (2, 10, 3, 1)
    assert mask.sum(1).tolist() == [10, 4]
    torch.testing.assert_close(values[0], torch.full((10, 3, 1), 5.0))
    assert torch.isfinite(values).all()


@pytest.mark.parametrize(
    ("options", "rate", "message"),
    [
        ({}, 90.0, "half the sampling rate, 45 Hz, but 'gamma' is 31 to 50"),
        ({"bands": {"odd": (8, 4)}}, 200.0, "must rise"),
        ({"bands": {"thin": (4.2, 4.8)}}, 200.0, "multiple of 1 Hz"),
        ({"window": 9.0}, 200.0, "9 s is longer than the longest record, 4 s"),
        ({"step": 0.001}, 200.0, "at least one sample"),
    ],
)
def test_what_cannot_be_is_refused(options, rate, message):
    with pytest.raises(ConfigError, match=message):
        front_end(rate, round(4 * rate), **options)


def test_bands_are_ordered_by_frequency_and_may_touch_the_nyquist_frequency():
    options = DftFeatures(bands={"high": (31, 50), "low": (1, 4)})
    assert list(EEG(features=options).hertz()) == ["low", "high"]
    slow = 20 * UV * torch.sin(2 * math.pi * 2 * torch.arange(400) / 100).expand(1, 3, -1)
    entropy, _ = front_end(100.0, 400, bands=options.bands)(slow, full(slow))
    assert (entropy[..., 0] > entropy[..., 1] + 3).all()


@pytest.mark.parametrize("step", [None, pytest.param(0.25, marks=pytest.mark.slow)])
def test_exports_with_free_batch_and_time(step, tmp_path):
    import onnxruntime

    module = front_end(step=step).eval()
    x = torch.randn(3, 3, 800) * 10 * UV
    dims = {0: torch.export.Dim("batch", min=1), 2: torch.export.Dim("time", min=400, max=10_000)}
    program = torch.export.export(module, (x, full(x)), dynamic_shapes=(dims, {0: dims[0]}))
    y = torch.randn(2, 3, 500) * 10 * UV
    length = torch.tensor([500, 450])
    for got, want in zip(program.module()(y, length), module(y, length), strict=True):
        torch.testing.assert_close(got, want)
    torch.onnx.export(program, dynamo=True, opset_version=20, verbose=False).save(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for values, n in ((y, length), (y[:1, :, :200], torch.tensor([200]))):
        feed = dict(zip([i.name for i in session.get_inputs()], (values.numpy(), n.numpy()), strict=True))
        entropy, mask = session.run(None, feed)
        want = module(values, n)
        np.testing.assert_allclose(entropy, want[0].numpy(), atol=1e-4)
        assert (mask == want[1].numpy()).all()
