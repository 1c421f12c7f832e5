import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError
from fusionkit.core.recording import Stored
from fusionkit.modalities.eeg import EEG
from fusionkit.modalities.eeg import front_end as modules
from fusionkit.modalities.eeg.bands import BANDS
from fusionkit.modalities.eeg.features import BandpassFeatures, DftFeatures, RawFeatures, ReadyFeatures, SeedFeatures
from fusionkit.modalities.eeg.reference import KINDS

RATE = 200.0
UV = 1e-6
FILTERED = {"dft": DftFeatures, "bandpass": BandpassFeatures, "seed": SeedFeatures}


def stored(rate=RATE, longest=800, channels=3, item=(), names=None):
    names = names or tuple(f"c{i}" for i in range(channels))
    return Stored(rate, names, "V", (channels, *item), "float32", longest)


def front_end(rate=RATE, longest=800, channels=3, **options):
    return EEG(features=DftFeatures(**options)).front_end(stored(rate, longest, channels))


def features(options, recording, rate=RATE, names=None):
    """Features ``(step, channel, band)`` of a whole recording ``(channel, time)``, as a study makes them."""
    modality, x = EEG(features=options), np.asarray(recording, np.float32)
    kept = stored(rate, x.shape[-1], len(x), names=names)
    whole = modality.whole(kept)
    window = torch.from_numpy(modality.window(x.T if whole is None else whole(x.T)))[None]
    values, mask = modality.front_end(kept)(window, torch.tensor([x.shape[-1]]))
    assert mask.all()
    return values[0].double().numpy()


def noise(*shape, seed=0):
    """White noise of 10 microvolts."""
    return np.random.default_rng(seed).normal(0, 10 * UV, shape)


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


@pytest.mark.parametrize("kind", ["dft", "bandpass"])
@pytest.mark.parametrize("rate", [125.0, 200.0])
def test_white_noise_has_its_variance_in_every_band(kind, rate):
    x = noise(40, round(1000 * rate), seed=1)  # 40,000 windows: no mean is off by more than 0.4 % by chance
    found = features(FILTERED[kind](measure="power"), x, rate)
    for band, (low, high) in enumerate(BANDS["seed"].values()):
        true = 100 * (high - low) / (rate / 2)  # square microvolts
        assert found[..., band].mean() == pytest.approx(true, rel=0.015)


@pytest.mark.parametrize("order", [2, 3, 8])
def test_white_noise_has_its_variance_whatever_the_order_of_the_filters(order):
    found = features(BandpassFeatures(measure="power", order=order), noise(40, 100_000))
    want = [2 * (high - low) / 2 for low, high in BANDS["seed"].values()]
    np.testing.assert_allclose(found.mean((0, 1)), want, rtol=0.02)


@pytest.mark.parametrize("kind", ["dft", "bandpass"])
@pytest.mark.parametrize("offset", [1e-3, -4e-3])
def test_an_offset_moves_no_band(kind, offset):
    x = noise(3, 4000)
    moved = features(FILTERED[kind](), x + offset) - features(FILTERED[kind](), x)
    assert np.abs(moved).max() < 1e-3


def test_an_offset_moves_delta_of_the_seed_kind_alone():
    x = 2 * noise(40, 20_000)
    moved = (features(SeedFeatures(), x + 50 * UV) - features(SeedFeatures(), x)).mean((0, 1))
    assert moved[0] == pytest.approx(8.1, abs=0.4)
    assert np.abs(moved[1:]).max() < 0.01


@pytest.mark.parametrize("kind", FILTERED)
@pytest.mark.parametrize("bands", ["seed", "classic"])
def test_every_kind_is_its_float64_reference(kind, bands):
    x = (noise(3, 1700) + np.array([0, 1e-3, -4e-3])[:, None]).astype(np.float32)
    found = features(FILTERED[kind](measure="power", bands=bands), x)
    want = KINDS[kind](x.astype(np.float64), RATE, 200, list(BANDS[bands].values()))
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_the_seed_kind_takes_a_longer_transform():
    x = noise(2, 1000).astype(np.float32)
    found = features(SeedFeatures(points=256), x)
    want = KINDS["seed"](x.astype(np.float64), RATE, 200, list(BANDS["seed"].values()), points=256)
    np.testing.assert_allclose(found, np.log2(100 * want), atol=1e-4)


def test_twice_the_amplitude_is_two_in_the_seed_kind_and_one_bit_elsewhere():
    x = noise(2, 1000)
    for options, more in ((SeedFeatures(), 2), (DftFeatures(log=2), 1), (BandpassFeatures(log=2), 1)):
        np.testing.assert_allclose(features(options, 2 * x) - features(options, x), more, atol=1e-4)


@given(hertz=st.floats(3, 48), phase=st.floats(0, 6))
@settings(max_examples=25, deadline=None)
def test_a_sinusoid_two_frequencies_from_an_edge_lands_in_its_band(hertz, phase):
    edges = np.array([1, 4, 8, 14, 31, 50])
    if np.abs(edges - hertz).min() < 2:
        return
    x = 50 * UV * np.sin(2 * np.pi * hertz * np.arange(2000) / RATE + phase)[None]
    band = int(np.searchsorted(edges, hertz)) - 1
    for kind, least in (("dft", 0.998), ("bandpass", 0.9)):  # filters of order 5 have soft edges
        found = features(FILTERED[kind](measure="power"), x)[5:, 0]
        assert (found[:, band] / found.sum(-1) > least).all()
        np.testing.assert_allclose(found[:, band], 50**2 / 2, rtol=0.15)  # a second holds no whole number of periods


@pytest.mark.parametrize(("hertz", "band"), [(10.0, 2), (6.0, 1), (20.0, 3), (40.0, 4)])
def test_a_sinusoid_lands_in_its_band_alone(hertz, band):
    t = torch.arange(800) / RATE
    x = (50 * UV * torch.sin(2 * math.pi * hertz * t + 0.3)).expand(1, 3, -1)
    power = variance(front_end()(x, full(x))[0].double())
    assert (power[..., band] - 50**2 / 2).abs().max() / (50**2 / 2) < 1e-3
    others = [i for i in range(5) if i != band]
    assert power[..., others].max() / power[..., band].min() < 1e-5


@pytest.mark.parametrize("kind", ["dft", "bandpass"])
def test_volts_give_what_microvolts_give_up_to_the_unit(kind):
    x, options = noise(2, 1000), FILTERED[kind]
    in_volts, in_microvolts = (features(options(unit=unit), x) for unit in ("V", "uV"))
    np.testing.assert_allclose(in_volts, in_microvolts - math.log(1e6), atol=1e-5)
    in_volts, in_microvolts = (features(options(unit=unit, measure="power"), x) for unit in ("V", "uV"))
    np.testing.assert_allclose(in_volts, in_microvolts * 1e-12, rtol=1e-6)
    shares = [features(options(unit=unit, measure="relative_power"), x) for unit in ("V", "uV")]
    assert np.array_equal(*shares)


def test_one_square_microvolt_has_1_42_nats():
    x = noise(4, 200_000) / 10
    options = DftFeatures(bands={"all": (1, 100)}, measure="power")
    assert features(options, x).mean() == pytest.approx(0.99, rel=0.005)
    log = features(options.model_copy(update={"measure": "entropy"}), x).mean()
    assert log == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 0.99), abs=0.01)


@pytest.mark.parametrize("kind", FILTERED)
def test_shares_sum_to_one(kind):
    shares = features(FILTERED[kind](measure="relative_power"), noise(3, 1000))
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    assert (shares > 0).all()


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


LACKING = {
    "dft": DftFeatures(step=0.5),
    "bandpass": BandpassFeatures(),
    "seed": SeedFeatures(),
    "raw": RawFeatures(),
    "ready": ReadyFeatures(),
}


def windows_of(kind, time=700):
    """A front end and a batch of two windows of four channels, in its layout."""
    item = {"bandpass": (5,), "ready": (5,)}.get(kind, ())
    kept = stored(channels=4, item=item if kind == "ready" else (), longest=time)
    x = torch.randn(2, 4, *item, time, generator=torch.Generator().manual_seed(0)) * 10 * UV
    return EEG(features=LACKING[kind]).front_end(kept), x


@pytest.mark.parametrize("kind", LACKING)
def test_what_was_not_measured_is_nan_and_nothing_else_changes(kind):
    module, x = windows_of(kind)
    length = torch.tensor([700, 450])
    whole, mask = module(x, length)
    assert module.lacks and torch.isfinite(whole[mask]).all()
    holed = x.clone()
    holed[0, 1] = 0
    holed[0, 2, ..., 3] = torch.nan
    holed[1, 0, ..., :450] = 0  # silent as far as it is real
    holed[1, 3, ..., 450:] = torch.nan  # whole as far as it is real
    holed[1, 2, ..., 10:] = 0  # something was measured
    found, again = module(holed, length)
    assert torch.equal(again, mask)
    lacking = torch.isnan(found)
    want = torch.tensor([[False, True, True, False], [True, False, False, False]])
    assert torch.equal(lacking[mask], want[:, None, :, None].expand_as(found)[mask])
    kept = ~want.clone()
    kept[1, 2] = False  # other samples
    same = kept[:, None, :, None] & mask[:, :, None, None]
    torch.testing.assert_close(found[same.expand_as(found)], whole[same.expand_as(whole)])


@pytest.mark.parametrize("kind", ["dft", "bandpass", "seed"])
def test_a_constant_was_measured(kind):
    module, x = windows_of(kind)
    found, _ = module(torch.full_like(x, 3e-4), full(x))
    assert torch.isfinite(found).all()


def test_a_pair_lacks_what_either_lacks():
    names = ("C3", "C4", "O1", "O2", "Fz")
    x = noise(5, 800)
    x[1] = 0
    found = features(DftFeatures(asymmetry="asm"), x, names=names)
    assert np.isnan(found[:, [0, 2]]).all() and np.isfinite(found[:, [1, 3]]).all()


def test_a_recording_with_a_silent_channel_filters_to_nan_there():
    x = noise(2, 2000)
    x[0] = 0
    found = features(BandpassFeatures(), x)
    assert np.isnan(found[:, 0]).all() and np.isfinite(found[:, 1]).all()


def test_places_are_known_where_every_electrode_has_one():
    kept = stored(channels=2, names=("C3", "C4"))
    left, right = EEG().front_end(kept).shape.places
    assert left[0] == pytest.approx(-right[0], abs=0.005) and left[0] < -0.04
    assert EEG().front_end(stored()).shape.places is None
    assert EEG(features=DftFeatures(asymmetry="dasm")).front_end(kept).shape.places is None


@pytest.mark.parametrize("step", [None, 0.25])
def test_the_size_of_the_pieces_changes_nothing(step, monkeypatch):
    module = front_end(step=step, longest=3000)
    x, length = torch.randn(5, 3, 3000) * 10 * UV, torch.tensor([3000, 2999, 10, 450, 3000])
    whole, mask = module(x, length)
    for kilobytes in (100, 20, 1):  # 3 records, some steps of a record, one step
        monkeypatch.setattr(modules, "CHUNK_BYTES", kilobytes * 1024)
        pieces, again = module(x, length)
        assert torch.equal(again, mask)
        torch.testing.assert_close(pieces[mask], whole[mask])


def test_an_empty_batch_has_no_features():
    values, mask = front_end()(torch.zeros(0, 3, 800), torch.zeros(0, dtype=torch.int64))
    assert values.shape == (0, 4, 3, 5) and mask.shape == (0, 4)


@pytest.mark.parametrize("asymmetry", [None, "dasm"])
def test_ready_features_pass(asymmetry):
    x = np.random.default_rng(0).normal(4, 1, (4, 5, 6)).astype(np.float32)
    modality = EEG(features=ReadyFeatures(asymmetry=asymmetry))
    recording = modality.from_array(x, 0.25, ("C3", "C4", "F5", "F6"))
    kept = Stored(0.25, recording.channels, recording.unit, (4, 5), "float32", 6)
    window = torch.from_numpy(modality.window(recording.values))[None]
    module = modality.front_end(kept)
    found, mask = module(window, torch.tensor([5]))
    want = x if asymmetry is None else x[[0, 2]] - x[[1, 3]]
    np.testing.assert_array_equal(found[0, :5].numpy(), want.transpose(2, 0, 1)[:5])
    assert mask.tolist() == [[True] * 5 + [False]]
    assert module.times(2).tolist() == [2.0, 6.0]


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


@pytest.mark.parametrize(
    ("options", "kept", "message"),
    [
        (BandpassFeatures(bands={"top": (50, 100)}), stored(), "end below half .* 100 Hz, but 'top' is 50 to 100 Hz"),
        (BandpassFeatures(bands={"low": (0, 4)}), stored(), "start above 0 Hz"),
        (SeedFeatures(bands={"low": (0.5, 4)}), stored(), "must start at 1 Hz or above, but 'low' is 0.5 to 4 Hz"),
        (SeedFeatures(points=128), stored(), "points must hold a window of 200 samples, but is 128"),
        (ReadyFeatures(), stored(), r"ready needs features .* but the recordings hold signals"),
        (DftFeatures(), stored(item=(5,)), r"dft needs signals .* but the recordings hold features"),
        (ReadyFeatures(), stored(item=(4,)), "the bands of the recordings, 4, but names 5"),
        (
            DftFeatures(asymmetry="dasm"),
            stored(names=("Fz", "C3", "Pz")),
            "dasm needs electrodes left and right .* among Fz, C3, Pz: C4 missing",
        ),
    ],
)
def test_what_does_not_fit_the_recordings_is_refused(options, kept, message):
    with pytest.raises(ConfigError, match=message):
        EEG(features=options).front_end(kept)


@pytest.mark.parametrize("options", [DftFeatures, BandpassFeatures, SeedFeatures, ReadyFeatures, RawFeatures])
def test_options_are_plain_frozen_data_that_explain_themselves(options):
    with pytest.raises(ValueError, match="frozen"):
        options().kind = "other"
    assert options.model_validate_json(options().model_dump_json()) == options()
    schema = options.model_json_schema()
    assert all(field.get("description") for name, field in schema["properties"].items() if name != "kind")


def test_bands_are_ordered_by_frequency_and_may_touch_the_nyquist_frequency():
    options = DftFeatures(bands={"high": (31, 50), "low": (1, 4)})
    assert list(EEG(features=options).hertz()) == ["low", "high"]
    slow = 20 * UV * torch.sin(2 * math.pi * 2 * torch.arange(400) / 100).expand(1, 3, -1)
    entropy, _ = front_end(100.0, 400, bands=options.bands)(slow, full(slow))
    assert (entropy[..., 0] > entropy[..., 1] + 3).all()


EXPORTED = {
    "dft": DftFeatures(asymmetry="asm"),
    "dft, overlapping": DftFeatures(step=0.25, measure="relative_power"),
    "bandpass": BandpassFeatures(measure="power"),
    "seed": SeedFeatures(),
    "ready": ReadyFeatures(asymmetry="rasm"),
    "raw": RawFeatures(),
}


@pytest.mark.parametrize(
    "name", [key if key == "dft" else pytest.param(key, marks=pytest.mark.slow) for key in EXPORTED]
)
def test_exports_with_free_batch_and_time(name, tmp_path):
    import onnxruntime

    options = EXPORTED[name]
    bands = (5,) if options.kind in ("bandpass", "ready") else ()
    kept = stored(channels=4, names=("C3", "C4", "O1", "O2"), item=bands if options.kind == "ready" else ())
    module = EEG(features=options).front_end(kept).eval()
    x = torch.randn(3, 4, *bands, 800) * 10 * UV
    dims = {0: torch.export.Dim("batch", min=1), x.ndim - 1: torch.export.Dim("time", min=400, max=10_000)}
    program = torch.export.export(module, (x, full(x)), dynamic_shapes=(dims, {0: dims[0]}))
    y = torch.randn(2, 4, *bands, 500) * 10 * UV
    y[0, 1] = 0
    y[1, 2, ..., 7] = torch.nan
    y[1, 3, ..., 450:] = torch.nan
    length = torch.tensor([500, 450])
    want, mask = module(y, length)
    assert torch.isnan(want[mask]).any()
    found, again = program.module()(y, length)
    assert torch.equal(again, mask)
    torch.testing.assert_close(found[mask], want[mask], equal_nan=True)
    torch.onnx.export(program, dynamo=True, opset_version=20, verbose=False).save(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for values, n in ((y, length), (y[:1, ..., :200], torch.tensor([200]))):
        feed = dict(zip([i.name for i in session.get_inputs()], (values.numpy(), n.numpy()), strict=True))
        found, again = session.run(None, feed)
        want, mask = module(values, n)
        assert (again == mask.numpy()).all()
        np.testing.assert_allclose(found[again], want[mask].numpy(), atol=1e-4, rtol=1e-4, equal_nan=True)
