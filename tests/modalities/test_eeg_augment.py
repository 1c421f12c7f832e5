import pytest
import torch

from fusionkit.augment.channel_noise import ChannelNoise
from fusionkit.core.levels import Features, Window
from fusionkit.modalities.eeg import ChannelDropout, FeatureChannelDropout, FeatureNoise, SignFlip, TimeShift

WINDOW = {
    "shift": TimeShift(probability=1.0),
    "dropout": ChannelDropout(share=0.5, probability=1.0),
    "noise": ChannelNoise(probability=1.0),
    "flip": SignFlip(probability=1.0),
}
FEATURE = {"noise": FeatureNoise(probability=1.0), "dropout": FeatureChannelDropout(share=0.5, probability=1.0)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def window(batch=6):
    length = torch.full((batch,), 40)
    length[1] = 25
    values = torch.randn(batch, 5, 40) * 1e-5
    values[1, :, 25:] = 0
    return Window(values, length, torch.ones(batch, dtype=torch.bool))


def features(batch=6):
    mask = torch.ones(batch, 7, dtype=torch.bool)
    mask[1, 4:] = False
    return Features(torch.randn(batch, 7, 5, 3), mask, torch.ones(batch, dtype=torch.bool))


@pytest.mark.parametrize("name", WINDOW)
def test_a_window_changes_by_its_seed_and_never_its_padding(name):
    augmentation, stream = WINDOW[name], window()
    before = stream.values.clone()
    out = augmentation(stream, seeded())
    assert torch.equal(stream.values, before)
    assert torch.equal(out.values, augmentation(stream, seeded()).values)
    assert not torch.equal(out.values, stream.values)
    if name != "flip":
        assert not torch.equal(out.values, augmentation(stream, seeded(1)).values)
    assert (out.values[1, :, 25:] == 0).all()
    assert out.length is stream.length and out.present is stream.present
    assert augmentation.level == "window"


@pytest.mark.parametrize("name", FEATURE)
def test_features_change_by_their_seed(name):
    augmentation, stream = FEATURE[name], features()
    out = augmentation(stream, seeded())
    assert torch.equal(out.values, augmentation(stream, seeded()).values)
    assert not torch.equal(out.values, augmentation(stream, seeded(1)).values)
    assert out.mask is stream.mask and augmentation.level == "features"


@pytest.mark.parametrize("augmentation", [*WINDOW.values(), *FEATURE.values()])
def test_probability_is_per_sample(augmentation):
    stream = window(400) if augmentation.level == "window" else features(400)
    whole, augmentation.probability = augmentation.probability, 0.0
    assert torch.equal(augmentation(stream, seeded()).values, stream.values)
    augmentation.probability = 0.3
    changed = (augmentation(stream, seeded()).values != stream.values).flatten(1).any(1).float().mean()
    augmentation.probability = whole
    assert 0.2 < changed < 0.4


def test_a_shift_is_a_roll_of_what_is_real():
    out = TimeShift(most=0.5, probability=1.0)(stream := window(), seeded())
    for row, length in enumerate(stream.length.tolist()):
        real, moved = stream.values[row, :, :length], out.values[row, :, :length]
        assert any(torch.equal(real.roll(k, 1), moved) for k in range(-length // 2, length // 2 + 1))


def test_noise_is_in_proportion_to_each_channel():
    values = torch.randn(50, 2, 2000, generator=seeded(3)) * torch.tensor([1e-5, 3e-4])[:, None] + 1e-2
    stream = Window(values.double(), torch.full((50,), 2000), torch.ones(50, dtype=torch.bool))
    added = ChannelNoise(spread=0.2, probability=1.0)(stream, seeded()).values - stream.values
    torch.testing.assert_close(
        added.std((0, 2)) / stream.values.std(2).mean(0), torch.tensor([0.2, 0.2]).double(), rtol=0.02, atol=0
    )


def test_dropout_leaves_a_channel():
    out = ChannelDropout(share=0.9, probability=1.0)(stream := window(200), seeded()).values
    lost = (out == 0).all(2)
    assert not lost.all(1).any() and 0.6 < lost.float().mean() < 0.9
    assert torch.equal(out[~lost], stream.values[~lost])


def test_feature_noise_leaves_padding():
    stream = features()
    out = FeatureNoise(spread=0.5, probability=1.0)(stream, seeded()).values
    assert torch.equal(out[~stream.mask], stream.values[~stream.mask])
    assert (out - stream.values)[stream.mask].std().item() == pytest.approx(0.5, rel=0.1)
