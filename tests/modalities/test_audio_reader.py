"""Reading sound: what comes out of good files, and one-line errors for bad ones."""

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkit.core.errors import DataError
from fusionkit.core.registry import modalities
from fusionkit.modalities.audio import Audio
from fusionkit.modalities.audio.reader import resample


def tone(rate: int, seconds: float = 0.5, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".aiff", ".au", ".opus"])
def test_reads_every_suffix_it_names(tmp_path, suffix):
    rate = 16000
    options = {".opus": {"format": "OGG", "subtype": "OPUS"}}.get(suffix, {})
    soundfile.write(tmp_path / f"a{suffix}", tone(rate), rate, **options)
    recording = Audio().read(tmp_path / f"a{suffix}")
    assert recording.sample_rate == 16000 and recording.values.dtype == np.float32
    assert abs(len(recording.values) - 8000) <= 2400  # lossy formats pad
    spectrum = np.abs(np.fft.rfft(recording.values))
    assert np.fft.rfftfreq(len(recording.values), 1 / 16000)[spectrum.argmax()] == pytest.approx(440, abs=3)
    assert np.abs(recording.values).max() == pytest.approx(0.5, abs=0.1)


def test_lossless_files_come_back_to_the_bit(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 1000).astype(np.int16)
    for suffix in (".wav", ".flac"):
        soundfile.write(tmp_path / f"a{suffix}", samples, 16000, subtype="PCM_16")
        values = Audio().read(tmp_path / f"a{suffix}").values
        np.testing.assert_array_equal(values, samples.astype(np.float32) / 32768)
        np.testing.assert_array_equal(values, Audio().from_array(samples, 16000.0).values)


def test_channels_are_averaged(tmp_path):
    left, right = tone(16000), tone(16000, hertz=1000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(Audio().read(tmp_path / "a.wav").values, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 22051])
def test_other_rates_are_resampled(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(rate), rate, subtype="FLOAT")
    values = Audio().read(tmp_path / "a.wav").values
    assert len(values) == -(-round(rate * 0.5) * 16000 // rate)
    inner = slice(500, len(values) - 500)  # a filter rings at the ends
    np.testing.assert_allclose(values[inner], tone(16000, 0.51)[: len(values)][inner], atol=2e-3)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_what_the_new_rate_cannot_hold_is_filtered_out(rate):
    high = tone(rate, hertz=7000)
    assert np.abs(resample(high, float(rate), 8000)[500:-500]).max() < 0.01


def test_integers_are_scaled_by_their_type():
    audio = Audio()
    assert audio.from_array(np.array([-32768, 16384], np.int16)).values.tolist() == [-1.0, 0.5]
    assert audio.from_array(np.array([-(2**31), 2**30], np.int32)).values.tolist() == [-1.0, 0.5]
    assert audio.from_array(np.array([0, 128, 192], np.uint8)).values.tolist() == [-1.0, 0.0, 0.5]
    assert audio.from_array(np.array([0.25, -0.5])).values.tolist() == [0.25, -0.5]


def test_an_array_without_a_rate_is_at_the_sensors_own():
    assert Audio(sample_rate=8000).from_array(np.zeros(80)).sample_rate == 8000
    assert len(Audio(sample_rate=8000).from_array(np.zeros(160), 16000.0).values) == 80


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 3000), st.sampled_from([8000, 11025, 16000, 22050]))
def test_any_length_of_sound_keeps_its_duration(count, rate):
    values = Audio(sample_rate=16000).from_array(np.ones(count, np.float32), float(rate)).values
    assert len(values) == -(-count * 16000 // rate)
    assert np.isfinite(values).all()


def write(path, content: bytes):
    path.write_bytes(content)
    return path


def wav(samples: np.ndarray, path) -> bytes:
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    return bytes(path.read_bytes())


def test_bad_files_are_refused_by_name(tmp_path):
    good = wav(tone(16000), tmp_path / "good.wav")
    soundfile.write(tmp_path / "good.flac", tone(16000), 16000)
    flac = (tmp_path / "good.flac").read_bytes()
    cases = {
        "missing.wav": (None, "no such file"),
        "nothing.wav": (b"", "must be a sound file"),
        "text.wav": (b"hello, this is no sound" * 9, "must be a sound file"),
        "empty.wav": (wav(tone(16000)[:0], tmp_path / "e.wav"), "must hold samples, but it holds none"),
        "cut.wav": (good[: len(good) // 2], "must be whole"),
        "header.wav": (good[:30], "must be"),
        "cut.flac": (flac[: len(flac) // 2], "must be"),
        "nan.wav": (wav(np.array([0, np.nan, 0], np.float32), tmp_path / "n.wav"), "sample 1 is not"),
    }
    for name, (content, said) in cases.items():
        path = tmp_path / name if content is None else write(tmp_path / name, content)
        with pytest.raises(DataError, match=said) as caught:
            Audio().read(path)
        assert name in str(caught.value) and "\n" not in str(caught.value), name
    with pytest.raises(DataError, match="no such file"):
        Audio().read(tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((2, 9), np.float32), r"\(2, 9\)"),
        (np.zeros(0, np.float32), "holds none"),
        (np.array([0.0, np.inf]), "sample 1"),
        (np.zeros(4, np.int64), "int64"),
        (np.array(["a"]), "<U1"),
    ],
)
def test_bad_arrays_are_refused(values, said):
    with pytest.raises(DataError, match=said):
        Audio().from_array(values)


def test_a_rate_that_is_no_whole_number_is_refused():
    with pytest.raises(DataError, match=r"22050\.5"):
        Audio().from_array(np.zeros(100), 22050.5)


def test_options_are_checked_by_the_registry():
    audio = modalities.build("audio", {"sample_rate": 8000, "mel_bands": 40})
    front_end = audio.front_end(stored(audio))
    assert (front_end.shape.channel, front_end.hop, front_end.frame) == (40, 128, 200)
    assert audio.window_shape(stored(audio)) == (8000,)
    with pytest.raises(ValueError, match="did you mean 'mel_bands'"):
        modalities.build("audio", {"mel_band": 40})


def stored(audio: Audio):
    from fusionkit.core.recording import Stored

    return Stored(float(audio.sample_rate), (), "", (), "float32", 8000)


def test_draws_one_spectrogram_a_class():
    audio = Audio(sample_rate=8000, mel_bands=20)
    features = np.random.default_rng(0).standard_normal((12, 30, 20, 1)).astype(np.float32)
    features[3, 20:] = np.nan
    labels = np.array([0.0, 1, 2] * 3 + [np.nan] * 3)
    figures = audio.figures(features, labels, ["a", "b", "c", "never"], stored(audio))
    titles = [axis.get_title() for axis in figures["spectrograms"].axes if axis.get_title()]
    assert titles == ["a (n = 3)", "b (n = 3)", "c (n = 3)"]
    assert audio.figures(features, np.full(12, np.nan), ["a"], stored(audio)) == {}


def test_reads_real_speech(real_data):
    path = min((real_data / "lab" / "audio").glob("*.flac"))
    recording = Audio().read(path)
    assert recording.values.shape == (32000,) and recording.sample_rate == 16000
    assert 0.01 < np.abs(recording.values).max() <= 1
