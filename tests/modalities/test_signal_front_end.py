import numpy as np
import pytest
import torch

from fusionkit.augment.channel_noise import ChannelNoise
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.recording import Stored
from fusionkit.modalities.signal import Signal, SignalScale
from fusionkit.modalities.signal.front_end import RawFeatures, StatisticsFeatures


def stored(rate=10.0, longest=40, unit=""):
    return Stored(rate, ("a", "b"), unit, (2,), "float32", longest)


def full(x):
    return torch.full((len(x),), x.shape[-1])


@pytest.mark.parametrize("step", [None, 0.5])
def test_matches_plain_statistics(step):
    x = torch.randn(3, 2, 40, dtype=torch.float64) + 5
    values, mask = Signal(features=StatisticsFeatures(window=1.5, step=step)).front_end(stored())(x.float(), full(x))
    hop = 15 if step is None else 5
    second = np.arange(15) / 10
    for b in range(3):
        for t in range(values.shape[1]):
            for c in range(2):
                piece = x[b, c, t * hop : t * hop + 15].numpy()
                slope = np.polyfit(second, piece, 1)[0]
                activity = np.abs(np.diff(piece)).mean() * 10
                want = [piece.mean(), piece.std(), piece.min(), piece.max(), slope, activity]
                np.testing.assert_allclose(values[b, t, c], want, rtol=1e-4, atol=1e-4)
    assert mask.all() and values.shape[1] == (40 - 15) // hop + 1


def test_the_docstring_example_holds():
    x = torch.tensor([[[0.0, 1, 2, 3]]])
    module = Signal(features=StatisticsFeatures(window=4.0)).front_end(Stored(1.0, ("a",), "", (1,), "float32", 4))
    values, _ = module(x, full(x))
    torch.testing.assert_close(values[0, 0, 0], torch.tensor([1.5, 1.118034, 0, 3, 1, 1]))
    assert module.names == ("mean", "deviation", "minimum", "maximum", "slope", "activity")
    assert module.times(2).tolist() == [2.0, 6.0]


@pytest.mark.parametrize("features", [StatisticsFeatures(), RawFeatures()])
def test_volts_become_microvolts_and_other_units_stay(features):
    x = torch.randn(2, 2, 40)
    sensor = Signal(features=features)
    plain = sensor.front_end(stored())(x, full(x))[0]
    torch.testing.assert_close(sensor.front_end(stored(unit="V"))(x * 1e-6, full(x))[0], plain)


@pytest.mark.parametrize("features", [StatisticsFeatures(), RawFeatures()])
def test_padding_is_masked_and_unseen(features):
    x = torch.randn(2, 2, 40)
    length = torch.tensor([40, 25])
    module = Signal(features=features).front_end(stored())
    values, mask = module(x, length)
    assert mask.sum(1).tolist() == ([4, 2] if features.kind == "statistics" else [40, 25])
    dirty = torch.where(torch.arange(40) < length[:, None, None], x, torch.nan)
    again, _ = module(dirty, length)
    assert torch.isfinite(again).all() and torch.equal(again[mask], values[mask])


def test_a_silent_channel_has_finite_gradients():
    x = torch.zeros(1, 2, 40, requires_grad=True)
    Signal().front_end(stored())(x, full(x))[0].sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("features", [StatisticsFeatures(), RawFeatures()])
def test_a_vector_is_one_step_without_time(features):
    module = Signal(features=features).front_end(stored(rate=None, longest=1))
    assert (module.shape.steps, module.shape.timed, module.shape.channel) == (1, False, 2)
    values, mask = module(torch.tensor([[[3.0], [4.0]], [[0.0], [0.0]]]), torch.tensor([1, 0]))
    assert values[0, 0, :, 0].tolist() == [3, 4] and mask.tolist() == [[True], [False]]
    assert module.times(1) is None


def test_a_window_longer_than_the_record_is_refused():
    with pytest.raises(ConfigError, match="5 s is longer than the longest record, 4 s"):
        Signal(features=StatisticsFeatures(window=5.0)).front_end(stored())


def test_a_scale_is_one_factor_a_sample_within_bounds():
    stream = Window(torch.randn(300, 2, 8), torch.full((300,), 8), torch.ones(300, dtype=torch.bool))
    out = SignalScale(most=0.5, probability=1.0)(stream, torch.Generator().manual_seed(0))
    ratio = (out.values / stream.values).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert 1 / 1.5 <= ratio.min() < 0.7 and 1.4 < ratio.max() <= 1.5
    assert SignalScale(probability=0.0)(stream).values.equal(stream.values)


def test_noise_leaves_a_vector_alone():
    stream = Window(torch.randn(3, 4, 1), torch.ones(3, dtype=torch.long), torch.ones(3, dtype=torch.bool))
    assert ChannelNoise(probability=1.0)(stream).values.equal(stream.values)


@pytest.mark.slow
def test_exports_with_free_batch_and_time(tmp_path):
    import onnxruntime

    module = Signal(features=StatisticsFeatures(window=1.0, step=0.5)).front_end(stored()).eval()
    x = torch.randn(3, 2, 40)
    free = {0: torch.export.Dim("batch", min=1), 2: torch.export.Dim("time", min=15, max=1000)}
    program = torch.export.export(module, (x, full(x)), dynamic_shapes=(free, {0: free[0]}))
    torch.onnx.export(program, dynamo=True, opset_version=20, verbose=False).save(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    y, length = torch.randn(2, 2, 57), torch.tensor([57, 33])
    feed = dict(zip([i.name for i in session.get_inputs()], (y.numpy(), length.numpy()), strict=True))
    for got, want in zip(session.run(None, feed), module(y, length), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)
