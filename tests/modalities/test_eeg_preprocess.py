"""Preprocessing is MNE's, called by hand; its causal twin is the same offline and in a stream, whatever the chunks."""

import json

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.recording import Stored
from fusionkit.core.registry import modalities
from fusionkit.modalities.eeg import EEG
from fusionkit.modalities.eeg.montage import MONTAGES
from fusionkit.modalities.eeg.places import electrode_places, montage
from fusionkit.modalities.eeg.preprocess import Gaps, mixing
from fusionkit.runtime.filters import Chain

TEN_TWENTY = MONTAGES["ten_twenty"]
RATE = 200.0


def brain(seconds=20, channels=TEN_TWENTY, offset=3e-4):
    """Volts ``(channel, time)``: noise that neighbours share, an offset, and mains."""
    noise = np.random.default_rng(0)
    time = np.arange(int(seconds * RATE)) / RATE
    common = noise.normal(0, 1e-5, (3, len(time)))
    weights = noise.normal(0, 1, (len(channels), 3))
    mains = 2e-5 * np.sin(2 * np.pi * 50 * time)
    values = weights @ common + noise.normal(0, 3e-6, (len(channels), len(time))) + mains + offset
    return values.astype(np.float32)


def build(**options):
    return modalities.build("eeg", options)


def stored_of(recording):
    values = recording.values
    return Stored(recording.sample_rate, recording.channels, "V", values.shape[1:], "<f4", len(values))


def by_hand(values, options, channels=TEN_TWENTY):
    """The recipe of a paper's methods section, in MNE's own words."""
    places = electrode_places(channels)
    info = mne.create_info([places[i] for i in range(len(channels))], RATE, "eeg")
    info.set_montage(montage())
    raw = mne.io.RawArray(values.astype(np.float64), info, verbose="error")
    raw.info["bads"] = [places[channels.index(name)] for name in options.get("bad", {}).get("given", [])]
    if "notch" in options:
        raw.notch_filter(options["notch"], verbose="error")
    raw.filter(options.get("low"), options.get("high"), verbose="error")
    if options.get("bad", {}).get("lof"):
        raw.info["bads"] += mne.preprocessing.find_bad_channels_lof(raw, n_neighbors=15, verbose="error")
    bads = list(raw.info["bads"])
    raw.interpolate_bads(verbose="error")
    raw.set_eeg_reference(options.get("reference", []), verbose="error")
    if "resample" in options:
        raw.resample(options["resample"], verbose="error")
    return raw.get_data().T, bads


@pytest.mark.parametrize(
    "options",
    [
        {"notch": 50, "low": 1, "high": 40, "reference": "average", "resample": 128},
        {"low": 0.5, "bad": {"given": ["Cz"]}, "reference": ["O1", "O2"]},
        {"notch": [50, 90], "high": 30, "bad": {"given": ["P7", "Fp1"]}, "reference": "average", "resample": 100},
    ],
)
def test_mne_is_called_as_one_would_by_hand(options):
    values = brain()
    got = build(montage="ten_twenty", preprocess=options).from_array(values, RATE, TEN_TWENTY)
    want, _ = by_hand(values, options)
    assert got.sample_rate == options.get("resample", RATE) and got.values.shape == want.shape
    np.testing.assert_allclose(got.values, want, atol=1e-5 * want.std())


def test_bad_channels_are_found_as_mne_finds_them(monkeypatch):
    monkeypatch.setattr("fusionkit.modalities.eeg.preprocess.NEIGHBOURS", 15)
    values = brain()
    values[7] = np.random.default_rng(1).normal(0, 4e-4, values.shape[1])
    options = {"low": 1, "high": 45, "bad": {"given": ["O2"], "lof": True}, "reference": "average"}
    want, bads = by_hand(values, options)
    assert bads == ["O2", TEN_TWENTY[7]]
    got = build(preprocess=options).from_array(values, RATE, TEN_TWENTY)
    np.testing.assert_allclose(got.values, want, atol=1e-5 * want.std())
    zeros = build(preprocess=options | {"interpolate_bad": False}).from_array(values, RATE, TEN_TWENTY).values
    assert np.flatnonzero(~zeros.any(0)).tolist() == [7, TEN_TWENTY.index("O2")]
    lenient = build(preprocess={**options, "bad": {"lof": 1e6}, "interpolate_bad": False})
    assert lenient.from_array(values, RATE, TEN_TWENTY).values.any(0).all()


CAUSAL = {
    "method": "causal", "notch": 50, "low": 1, "high": 45, "bad": {"given": ["T4"]}, "reference": "average",
    "resample": 64,
}  # fmt: skip


@settings(max_examples=8)
@given(sizes=st.lists(st.integers(0, 700), min_size=1, max_size=40))
def test_a_stream_in_any_chunks_equals_the_recording(real_data, sizes):
    """On a real recording: channels picked, notch, band-pass, a bad channel, reference, rate, and a filter bank."""
    path = real_data / "lab" / "eeg" / "S00_arithmetic.edf"
    sensor = build(
        montage="ten_twenty", sample_rate=125, preprocess=CAUSAL,
        features={"kind": "bandpass", "bands": {"alpha": [8, 13], "beta": [13, 30]}},
    )  # fmt: skip
    recording = sensor.read(path)
    stored = stored_of(recording)
    offline = sensor.whole(stored)(recording.values)
    assert recording.sample_rate == 64 and offline.shape == (3840, 19, 2)
    raw = build(montage="ten_twenty").read(path).values
    steps = json.loads(json.dumps(sensor.chain(stored)))
    assert [step["step"] for step in steps] == ["sos", "sos", "mix", "resample", "bank"]
    chain = Chain(steps)
    cuts = np.cumsum(sizes)
    online = np.concatenate([chain.push(part) for part in np.split(raw, cuts[cuts < len(raw)])])
    assert online.shape == offline.shape
    np.testing.assert_allclose(online, offline, rtol=0, atol=1e-5 * offline.std())


def test_causal_filters_are_those_of_scipy():
    values = brain()
    got = build(preprocess={"method": "causal", "notch": 50, "low": 1, "high": 45}).from_array(values, RATE, TEN_TWENTY)
    notch = signal.tf2sos(*signal.iirnotch(50, 30, fs=RATE))
    band = signal.butter(4, [1, 45], "band", fs=RATE, output="sos")
    want = values.astype(np.float64).T
    for sos in (notch, band):
        want = signal.sosfilt(sos, want, axis=0, zi=signal.sosfilt_zi(sos)[..., None] * want[0])[0]
    np.testing.assert_allclose(got.values, want, atol=1e-6 * want.std())


@pytest.mark.parametrize("method", ["mne", "causal"])
def test_filters_do_what_they_say(method):
    """Mains and offset go, 10 Hz stay, 0.2 Hz and 70 Hz go; nothing rings from the offset."""
    time = np.arange(int(40 * RATE)) / RATE

    def amplitude(hertz, **options):
        wave = 1e-5 * np.sin(2 * np.pi * hertz * time) + 1e-3
        sensor = build(preprocess={"method": method, "low": 1, "high": 40, **options})
        out = sensor.from_array(wave[None], RATE, ["Cz"]).values[:, 0]
        rate = options.get("resample", RATE)
        return float(np.sqrt(2 * np.mean(out[int(10 * rate) : int(30 * rate)] ** 2)) / 1e-5)

    assert amplitude(10) == pytest.approx(1, abs=0.02)
    assert amplitude(0.2) < 0.1 and amplitude(70) < 0.12
    assert amplitude(30, notch=30) < 0.05 and amplitude(20, notch=30) == pytest.approx(1, abs=0.03)
    if method == "mne":
        assert amplitude(10, resample=100) == pytest.approx(1, abs=0.02)


def test_an_offset_does_not_ring_in_causal_filters():
    still = np.full((19, 400), 0.05, np.float32)
    got = build(preprocess={"method": "causal", "low": 1, "notch": 50}).from_array(still, RATE, TEN_TWENTY)
    assert np.abs(got.values).max() < 1e-9


def test_a_mix_interpolates_first_and_references_to_what_is_good():
    names = ["Fp1", "Fp2", "C3", "C4", "Cz", "O1"]
    assert mixing(names, Gaps(), "x") is None
    average = mixing(names, Gaps(missing=(5,)), "x", bad=[0], reference="average")
    want = np.zeros((6, 6))
    want[1:5, 1:5] = np.eye(4) - 1 / 4
    np.testing.assert_allclose(average, want)
    to_two = mixing(names, Gaps(), "x", reference=["C3", "C4"])
    np.testing.assert_allclose(to_two @ np.arange(6.0), np.arange(6.0) - 2.5)
    filled = mixing(names, Gaps(missing=(4,), interpolate=True), "x", bad=[0], interpolate_bad=True)
    assert not filled[:, [0, 4]].any() and filled[[0, 4]].any(1).all()
    np.testing.assert_array_equal(filled[[1, 2, 3, 5]], np.eye(6)[[1, 2, 3, 5]])
    both = mixing(names, Gaps(missing=(4,), interpolate=True), "x", bad=[0], interpolate_bad=True, reference="average")
    np.testing.assert_allclose(both, filled - filled.mean(0), atol=1e-12)
    with pytest.raises(DataError, match="x: a recording must have a good channel, but all 6 are bad or missing"):
        mixing(names, Gaps(missing=(0, 1, 2)), "x", bad=[3, 4, 5])
    with pytest.raises(DataError, match=r"x: preprocess\.reference must be a good channel, but 'O1' is bad or missing"):
        mixing(names, Gaps(missing=(5,)), "x", reference=["Cz", "O1"])


@pytest.mark.parametrize("method", ["mne", "causal"])
def test_what_was_not_measured_stays_exactly_zero(method):
    names = [name for name in TEN_TWENTY if name != "Pz"]
    options = {"method": method, "low": 1, "bad": {"given": ["C3"]}, "interpolate_bad": False, "reference": "average"}
    sensor = build(montage="ten_twenty", missing="mask", sample_rate=RATE, preprocess=options | {"resample": 100})
    values = sensor.from_array(brain(channels=names), RATE, names).values
    assert np.flatnonzero(~values.any(0)).tolist() == [TEN_TWENTY.index("C3"), TEN_TWENTY.index("Pz")]
    np.testing.assert_allclose(values.sum(1), 0, atol=1e-5 * values.std())  # the average is that of the others


@pytest.mark.parametrize("method", ["mne", "causal"])
def test_a_channel_that_is_zero_throughout_is_none_of_the_average(method):
    values = brain()
    values[4] = 0
    options = {"method": method, "reference": "average"}
    got = build(preprocess=options).from_array(values, RATE, TEN_TWENTY).values
    assert not got[:, 4].any()
    want = values - values[np.arange(19) != 4].mean(0)
    np.testing.assert_allclose(np.delete(got.T, 4, 0), np.delete(want, 4, 0), atol=1e-9)
    filled = build(montage="ten_twenty", missing="interpolate").from_array(values, RATE, TEN_TWENTY).values
    assert filled[:, 4].std() > 1e-6


def test_missing_channels_are_interpolated_from_good_ones_only():
    names = [name for name in TEN_TWENTY if name != "Pz"]
    values = brain(channels=names)
    options = {"method": "causal", "bad": {"given": ["P3"]}}
    sensor = build(montage="ten_twenty", missing="interpolate", preprocess=options)
    one = sensor.from_array(values, RATE, names).values
    values[names.index("P3")] *= 100
    np.testing.assert_array_equal(sensor.from_array(values, RATE, names).values, one)


@pytest.mark.parametrize("method", ["mne", "causal"])
def test_a_channel_that_is_bad_in_every_recording_is_interpolated_where_it_is_zero_too(method):
    """As the chain of a stream does, which knows no recording."""
    values = np.random.default_rng(0).normal(0, 1e-5, (19, 400)).astype(np.float32)
    silent = values.copy()
    silent[TEN_TWENTY.index("Cz")] = 0
    sensor = build(preprocess={"method": method, "bad": {"given": ["Cz"]}, "reference": "average"})
    made = sensor.from_array(silent, RATE, TEN_TWENTY)
    np.testing.assert_array_equal(made.values, sensor.from_array(values, RATE, TEN_TWENTY).values)
    steps = sensor.chain(Stored(RATE, TEN_TWENTY, "V", (19,), "<f4", 400))
    np.testing.assert_allclose(Chain(steps).push(silent.T), made.values, atol=1e-10)


def test_only_what_looks_ahead_is_named():
    assert EEG().ahead() == [] and EEG().chain(Stored(RATE, ("Cz",), "V", (1,), "<f4", 100)) == []
    harmless = build(preprocess={"reference": "average", "bad": {"given": ["Cz"]}})
    assert harmless.ahead() == []
    stored = Stored(RATE, TEN_TWENTY, "V", (19,), "<f4", 100)
    assert [step["step"] for step in harmless.chain(stored)] == ["mix"]
    ahead = build(preprocess={"low": 1, "notch": 50, "bad": {"lof": 2.0}})
    assert [line.split(" ")[0] for line in ahead.ahead()] == [
        "preprocess.notch",
        "preprocess.low",
        "preprocess.bad.lof",
    ]
    assert ahead.chain(stored) is None
    assert build(preprocess=CAUSAL, sample_rate=125).ahead() == []
    for more in ({"resample": True}, {"features": {"kind": "ready"}}):
        other = build(sample_rate=125, **more)
        assert [line.split()[0] for line in other.ahead()] == [f"{next(iter(more))}".replace("features", "features:")]
        assert other.chain(stored) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"preprocess": {"method": "causal", "bad": {"lof": True}}},
            "cannot find bad channels by lof, which needs the",
        ),
        ({"preprocess": {"method": "causal", "resample": 100}}, "needs a sample_rate, at which files and streams come"),
        ({"preprocess": {"low": 40, "high": 1}}, "low must be below high, but 40 Hz is not below 1 Hz"),
        ({"preprocess": {"low": -1}}, r"preprocess\.low"),
        ({"preprocess": {"notsch": 50}}, r"preprocess\.notsch: no such option; did you mean 'notch'"),
        ({"preprocess": {"method": "fir"}}, r"preprocess\.method"),
        ({"preprocess": {"bad": {"lof": -1}}}, r"preprocess\.bad\.lof"),
        ({"preprocess": {"reference": []}}, r"preprocess\.reference"),
        ({"preprocess": {"resample": float("inf")}}, r"preprocess\.resample"),
        ({"sample_rate": float("inf")}, "sample_rate"),
        ({"features": {"kind": "dft", "window": float("inf")}}, r"window: input should be a finite number"),
        ({"features": {"window": 2}}, r"features\.kind: must be given, too"),
        ({"preprocess": {"low": 1}, "features": {"kind": "ready"}}, "preprocess is for signals, but features"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"high": 100}, r"array: preprocess\.high must lie below half the rate, 100 Hz, but got 100 Hz"),
        ({"notch": [50, 150], "method": "causal"}, r"preprocess\.notch must lie below half the rate.*got 150 Hz"),
        ({"bad": {"given": ["T9"]}}, r"array: preprocess\.bad\.given: there must be a channel 'T9'"),
        ({"reference": ["A1"]}, r"array: preprocess\.reference: there must be a channel 'A1'"),
        ({"low": 0.1}, "a recording must be longer than its filter, but it lasts 2 s and MNE says: filter_length"),
    ],
)
def test_recordings_that_do_not_fit_are_refused_in_one_line(options, message):
    with pytest.raises(DataError, match=message) as raised:
        build(preprocess=options).from_array(brain(seconds=2), RATE, TEN_TWENTY)
    assert len(str(raised.value).splitlines()) == 1


def test_lost_samples_are_refused_by_mne_and_held_by_the_chain():
    values = brain()
    values[3, 100:110] = np.nan
    with pytest.raises(DataError, match=r"array: samples must be finite for preprocess\.method: mne"):
        build(preprocess={"low": 1}).from_array(values, RATE, TEN_TWENTY)
    got = build(preprocess={"method": "causal", "low": 1}).from_array(values, RATE, TEN_TWENTY).values
    assert np.argwhere(np.isnan(got)).tolist() == [[row, 3] for row in range(100, 110)]
