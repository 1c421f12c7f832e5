"""Log-mel against torchaudio, against a plain DFT in float64, and under padding and export."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fusionkit.core.compatibility import load_torchaudio
from fusionkit.core.errors import ConfigError
from fusionkit.modalities.audio import LogMel
from fusionkit.modalities.audio.front_end import dft_kernel, mel_filters


def speech_like(rate: int, seconds: float = 1.0, batch: int = 4) -> torch.Tensor:
    """Harmonics that glide, in noise, at very different levels."""
    time = torch.arange(round(rate * seconds)) / rate
    generator = torch.Generator().manual_seed(0)
    phase = 2 * math.pi * (120 * time + 40 * time**2)
    voice = sum(torch.sin(k * phase) / k for k in range(1, 12))
    noise = torch.randn(batch, len(time), generator=generator)
    return (voice + 0.05 * noise) * torch.tensor([0.3, 0.03, 0.003, 0.9])[:batch, None]


def everything(values: torch.Tensor) -> torch.Tensor:
    return torch.full((len(values),), values.shape[1])


@pytest.mark.parametrize(
    ("rate", "options"),
    [
        (16000, {}),
        (8000, {}),
        (16000, {"hop": 0.01, "mel_bands": 64}),
        (16000, {"dft_points": 400, "mel_bands": 40}),
        (22050, {"mel_bands": 40, "f_min": 50.0, "f_max": 8000.0, "frame": 0.032, "hop": 0.0125}),
    ],
)
def test_equals_torchaudio(rate, options):
    front_end = LogMel(float(rate), level="keep", **options)
    values = speech_like(rate)
    features, mask = front_end(values, everything(values))
    frame, hop = front_end.frame, front_end.hop
    points = options.get("dft_points", 2 ** math.ceil(math.log2(frame)))
    oracle = load_torchaudio().transforms.MelSpectrogram(
        rate, n_fft=points, win_length=frame, hop_length=hop, f_min=options.get("f_min", 20.0),
        f_max=options.get("f_max"), n_mels=front_end.shape.channel, center=False, power=2,
    )  # fmt: skip
    before = (points - frame) // 2  # torch centres a short window in the points of its DFT
    padded = F.pad(values, (before, points - frame - before + frame))
    expected = torch.log(oracle(padded) + 1e-6).transpose(1, 2)[..., None]
    steps = features.shape[1]
    assert steps == -(-values.shape[1] // hop)
    torch.testing.assert_close(features, expected[:, :steps], atol=1e-4, rtol=0)
    assert mask.sum(1).tolist() == [(values.shape[1] - frame) // hop + 1] * 4


def test_equals_a_plain_transform_in_float64():
    front_end = LogMel(8000.0, level="keep", hop=0.01, mel_bands=12, f_min=100.0)
    values = speech_like(8000, 0.2)
    features, _ = front_end(values, everything(values))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)
    mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)
    edges = 700 * (10 ** (np.linspace(mel(100), mel(4000), 14) / 2595) - 1)
    hertz = np.arange(129) * 8000 / 256
    for row, frame in [(0, 0), (1, 5), (3, 17)]:
        samples = values[row, frame * 80 : frame * 80 + 200].double().numpy()
        power = np.abs(np.fft.rfft(samples * window, 256)) ** 2
        for band in range(12):
            low, mid, high = edges[band : band + 3]
            triangle = np.clip(np.minimum((hertz - low) / (mid - low), (high - hertz) / (high - mid)), 0, None)
            assert features[row, frame, band, 0].item() == pytest.approx(np.log(1e-6 + triangle @ power), abs=1e-4)


def test_float32_stays_near_float64():
    values = speech_like(16000)
    single, double = LogMel(16000.0), LogMel(16000.0).double()
    double.dft = dft_kernel(400, 512)[:, mel_filters(512, 40, 20.0, 8000.0, 16000.0).any(1)].flatten(0, 1)[:, None]
    found, _ = single(values, everything(values))
    truth, _ = double(values.double(), everything(values))
    torch.testing.assert_close(found.double(), truth, atol=1e-4, rtol=0)


def test_silence_is_the_logarithm_of_the_floor():
    features, _ = LogMel(16000.0)(torch.zeros(2, 1600), torch.tensor([1600, 1600]))
    torch.testing.assert_close(features, torch.full_like(features, -13.815511))


@pytest.mark.parametrize("gain", [0.01, 0.5, 30.0])
def test_gain_does_not_matter_at_equal_level(gain):
    front_end, values, length = LogMel(16000.0), speech_like(16000), torch.tensor([16000, 9000, 16000, 5000])
    expected, mask = front_end(values, length)
    found, _ = front_end(gain * values, length)
    torch.testing.assert_close(found[:2][mask[:2]], expected[:2][mask[:2]], atol=1e-4, rtol=0)
    kept, _ = LogMel(16000.0, level="keep")(values, length)
    assert (kept - expected).abs().max() > 1


def test_equal_level_is_a_root_mean_square_of_a_tenth_over_the_real_samples():
    values, length = speech_like(16000), torch.tensor([16000, 9000, 16000, 5000])
    found, mask = LogMel(16000.0)(values, length)
    for row, count in enumerate(length.tolist()):
        real = values[row, :count]
        plain = real * 0.1 / real.square().mean().sqrt()
        expected, inside = LogMel(16000.0, level="keep")(plain[None], torch.tensor([count]))
        torch.testing.assert_close(found[row][mask[row]], expected[inside], atol=1e-4, rtol=0)


def test_what_is_nearly_silent_is_not_made_loud():
    quiet = 1e-6 * torch.randn(1, 1600)
    features, _ = LogMel(16000.0)(quiet, torch.tensor([1600]))
    expected, _ = LogMel(16000.0, level="keep")(1e3 * quiet, torch.tensor([1600]))
    torch.testing.assert_close(features, expected)


def test_a_tone_is_loudest_in_its_band():
    front_end = LogMel(16000.0, mel_bands=40)
    time = torch.arange(8000) / 16000
    centres = 700 * (10 ** (torch.linspace(31.7, 2840.0, 42)[1:-1] / 2595) - 1)
    for band in (8, 20, 33):
        tone = torch.sin(2 * math.pi * centres[band] * time)[None]
        features, mask = front_end(tone, torch.tensor([8000]))
        assert (features[mask][..., 0].argmax(-1) == band).all()


def test_masks_frames_that_reach_beyond_the_length():
    front_end = LogMel(16000.0, hop=0.01)  # frames of 400 samples, every 160
    values = torch.randn(5, 2000)
    _, mask = front_end(values, torch.tensor([2000, 400, 399, 560, 0]))
    assert mask.shape == (5, 13)
    assert mask.sum(1).tolist() == [11, 1, 0, 2, 0]
    assert mask.int().diff(dim=1).le(0).all()


@pytest.mark.parametrize("filler", [float("nan"), float("inf"), 9.0])
def test_what_is_behind_the_length_does_not_matter(filler):
    front_end = LogMel(16000.0)
    values, length = torch.randn(2, 1700), torch.tensor([1700, 1000])
    clean = values.clone()
    clean[1, 1000:] = 0
    dirty = values.clone()
    dirty[1, 1000:] = filler
    for left, right in zip(front_end(clean, length), front_end(dirty, length), strict=True):
        assert torch.equal(left, right)


def test_more_padding_changes_no_real_frame():
    front_end = LogMel(16000.0)
    values, length = torch.randn(2, 1700), torch.tensor([1700, 1000])
    short, mask = front_end(values, length)
    long, longer = front_end(F.pad(values, (0, 777)), length)
    assert longer[:, : mask.shape[1]].equal(mask) and not longer[:, mask.shape[1] :].any()
    torch.testing.assert_close(long[longer], short[mask])


def test_times_are_the_centres_of_frames():
    times = LogMel(16000.0, hop=0.01).times(3)
    torch.testing.assert_close(times, torch.tensor([0.0125, 0.0225, 0.0325]))


def test_a_window_shorter_than_a_frame_is_one_masked_frame():
    features, mask = LogMel(16000.0)(torch.randn(1, 100), torch.tensor([100]))
    assert features.shape == (1, 1, 40, 1) and features.isfinite().all() and not mask.any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dft_points": 300}, "300 is less than 400"),
        ({"f_min": 9000.0}, "9000, 8000"),
        ({"f_max": 8001.0}, "20, 8001"),
        ({"mel_bands": 200}, "200 bands are too narrow"),
        ({"hop": 1e-6}, "hold 400 and 0"),
    ],
)
def test_options_that_do_not_fit_the_rate_are_refused(options, said):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError, match=said):
            LogMel(16000.0, **options)


def test_exports_with_free_batch_and_time(tmp_path):
    import onnxruntime

    front_end = LogMel(8000.0, mel_bands=16).eval()
    batch, time = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("time", min=200, max=1 << 16)
    example = (torch.randn(2, 1000), torch.tensor([1000, 700]))
    path = tmp_path / "front_end.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            front_end, example, path, dynamo=True, opset_version=20, verbose=False,
            dynamic_shapes=({0: batch, 1: time}, {0: batch}), input_names=["values", "length"],
        )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows, samples in [(1, 8000), (3, 200), (5, 3333)]:
        values = speech_like(8000, samples / 8000, 1).repeat(rows, 1)[:, :samples]
        length = torch.randint(1, values.shape[1] + 1, (rows,))
        features, mask = session.run(None, {"values": values.numpy(), "length": length.numpy()})
        expected, real = front_end(values, length)
        np.testing.assert_allclose(features, expected.numpy(), atol=1e-4)
        np.testing.assert_array_equal(mask, real.numpy())
