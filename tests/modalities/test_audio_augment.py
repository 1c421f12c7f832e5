"""SpecAugment within its bounds, and changes of samples."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features, Window
from fusionkit.modalities.audio import AudioNoise, AudioShift, BandWarp, Gain, SpecAugment
from fusionkit.modalities.audio.augment import bend, stripes, unbent


def features(batch=5, steps=30, bands=12, lengths=None) -> Features:
    lengths = torch.full((batch,), steps) if lengths is None else torch.tensor(lengths)
    values = 1 + torch.rand(batch, steps, bands, 1)
    return Features(values, torch.arange(steps) < lengths[:, None], torch.ones(batch, dtype=torch.bool))


def runs(row: torch.Tensor) -> int:
    """How many stripes of True there are."""
    padded = torch.cat([torch.zeros(1), row.float()])
    return int((padded.diff() > 0).sum())


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 12), st.integers(0, 3), st.integers(0, 40), st.floats(0, 1), st.integers(0, 3), st.integers(0, 999)
)
def test_no_more_is_hidden_than_allowed(frequency, frequency_masks, time, fraction, time_masks, seed):
    given_ = features(lengths=[30, 30, 17, 1, 0])
    augmentation = SpecAugment(
        frequency=frequency, frequency_masks=frequency_masks, time=time, time_fraction=fraction, time_masks=time_masks
    )
    changed = augmentation(given_, torch.Generator().manual_seed(seed))
    hidden = (changed.values != given_.values)[..., 0]
    for row, length in enumerate([30, 30, 17, 1, 0]):
        inside = hidden[row, :length]
        assert not hidden[row, length:].any()
        if length < 2:
            continue
        most = time_masks * min(time, math.floor(fraction * length))
        if inside.all():  # no telling stripes of which kind did it
            assert most >= length or frequency * frequency_masks >= 12
            continue
        bands = inside.all(0)
        steps = inside[:, ~bands].all(1)
        assert torch.equal(inside, bands | steps[:, None])  # stripes and nothing else
        assert bands.sum() <= frequency * frequency_masks
        assert steps.sum() <= most
        assert runs(steps) <= time_masks and runs(bands) <= frequency_masks


def test_what_is_hidden_takes_the_mean_of_the_real_steps():
    given_ = features(lengths=[30, 20, 30, 30, 30])
    given_.values[1, 20:] = torch.nan
    changed = SpecAugment()(given_, torch.Generator().manual_seed(0))
    for row, length in [(0, 30), (1, 20)]:
        hidden = changed.values[row, :length] != given_.values[row, :length]
        assert hidden.any()
        torch.testing.assert_close(
            changed.values[row, :length][hidden], given_.values[row, :length].mean().expand(int(hidden.sum()))
        )


def test_stripes_follow_the_papers_uniform_laws():
    many = torch.full((20000,), 10)
    drawn = stripes(many, torch.full((20000,), 4.0), 12, torch.Generator().manual_seed(0))
    assert not drawn[:, 10:].any()
    widths = torch.bincount(drawn.sum(1), minlength=5) / 20000
    torch.testing.assert_close(widths, torch.full((5,), 0.2), atol=0.012, rtol=0)
    starts = drawn[drawn.sum(1) == 4].float().argmax(1)
    torch.testing.assert_close(
        torch.bincount(starts, minlength=7) / len(starts), torch.full((7,), 1 / 7), atol=0.03, rtol=0
    )


def test_time_masks_fall_on_real_steps_of_a_mask_with_holes():
    given_ = features(batch=200, steps=10)
    given_.mask[:, ::2] = False
    changed = SpecAugment(frequency_masks=0, time_fraction=1.0)(given_, torch.Generator().manual_seed(0))
    hidden = (changed.values != given_.values).any(-1).any(-1)
    assert not hidden[:, ::2].any() and (hidden[:, 1::2].float().mean(0) > 0.2).all()


def test_records_are_chosen_by_themselves():
    given_ = features(batch=400)
    changed = SpecAugment(probability=0.25)(given_, torch.Generator().manual_seed(0))
    share = (changed.values != given_.values).any(-1).any(-1).any(-1).float().mean().item()
    assert share == pytest.approx(0.25, abs=0.07)


def test_warped_bands_lie_on_one_line_within_its_bounds():
    """A ramp over bands shows where each band was taken from."""
    ramp = torch.arange(20.0)[None, None, :, None].expand(300, 3, 20, 1)
    given_ = Features(ramp, torch.ones(300, 3, dtype=torch.bool), torch.ones(300, dtype=torch.bool))
    source = BandWarp(stretch=0.2, move=3.0)(given_, torch.Generator().manual_seed(0)).values[..., 0]
    torch.testing.assert_close(source, source[:, :1].expand_as(source))  # every step alike
    source = source[:, 0]
    inner = (source > 0) & (source < 19)
    steps = source.diff(dim=1)[inner[:, 1:] & inner[:, :-1]]
    assert steps.min() >= 0.799 and steps.max() <= 1.201 and steps.max() - steps.min() > 0.35
    first = source[:, 0]
    assert first.min() == 0 and 2.8 < first.max() <= 3.0
    for row in range(300):
        middle = source[row, inner[row]]
        line = middle[0] + (middle[-1] - middle[0]) * torch.arange(len(middle)) / (len(middle) - 1)
        torch.testing.assert_close(middle, line, atol=1e-4, rtol=0)


def test_no_warp_is_the_identity_and_one_band_stays():
    given_ = features()
    assert torch.equal(BandWarp(stretch=0.0, move=0.0)(given_).values, given_.values)
    one = features(bands=1)
    assert torch.equal(BandWarp()(one).values, one.values)


@pytest.mark.parametrize("augmentation", [SpecAugment(), BandWarp()])
def test_padding_keeps_its_values_whatever_they_are(augmentation):
    given_ = features(lengths=[30, 20, 0, 30, 30])
    given_.values[1, 20:] = torch.nan
    changed = augmentation(given_, torch.Generator().manual_seed(0)).values
    assert changed[1, 20:].isnan().all() and torch.equal(changed[2], given_.values[2])
    assert changed[given_.mask].isfinite().all()


def sound(batch=4, time=1000, length=None) -> Window:
    values = torch.randn(batch, time, generator=torch.Generator().manual_seed(0))
    lengths = torch.full((batch,), time) if length is None else torch.tensor(length)
    return Window(values, lengths, torch.ones(batch, dtype=torch.bool))


def test_gain_is_one_factor_a_record_within_its_bounds():
    given_ = sound(batch=300, time=10)
    factor = Gain(decibels=6.0)(given_, torch.Generator().manual_seed(0)).values / given_.values
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    decibels = 20 * factor[:, 0].log10()
    assert decibels.min() >= -6.001 and decibels.max() <= 6.001 and decibels.abs().max() > 5.5


def test_shift_moves_a_record_and_lets_silence_in():
    given_ = sound(batch=50, time=40, length=[40] * 25 + [30] * 25)
    moved = AudioShift(most=0.2)(given_, torch.Generator().manual_seed(0)).values
    seen = set()
    for row in range(50):
        length, most = (40, 8) if row < 25 else (30, 6)
        plain = given_.values[row, :length]
        fits = [
            by
            for by in range(-most, most + 1)
            if torch.equal(
                moved[row, :length],
                torch.cat(
                    [torch.zeros(max(by, 0)), plain[max(-by, 0) : length - max(by, 0)], torch.zeros(max(-by, 0))]
                ),
            )
        ]
        assert len(fits) == 1
        assert torch.equal(moved[row, length:], given_.values[row, length:])
        seen.update(fits)
    assert len(seen) > 8


def test_noise_has_the_ratio_asked_for():
    given_ = sound(batch=6, time=20000, length=[20000] * 3 + [9000] * 3)
    scaled = given_._replace(values=given_.values * torch.tensor([1e-4, 1e-2, 1.0] * 2)[:, None])
    changed = AudioNoise(least=20.0, most=20.0)(scaled, torch.Generator().manual_seed(0))
    for row, length in enumerate(given_.length.tolist()):
        noise = (changed.values - scaled.values)[row]
        ratio = 10 * math.log10(scaled.values[row, :length].square().mean() / noise[:length].square().mean())
        assert ratio == pytest.approx(20, abs=0.3)
        assert (noise[length:] == 0).all()


def test_bounds_of_noise_must_be_in_order():
    with pytest.raises(ConfigError, match="30 is more than 20"):
        AudioNoise(least=30.0, most=20.0)


def torchaudio_stripe(size: int, most: int, draw: np.random.Generator) -> np.ndarray:
    """As `torchaudio.functional.mask_along_axis` draws one; its widths are below ``most``."""
    width = draw.random() * most
    start = int(draw.random() * (size - width))
    return (np.arange(size) >= start) & (np.arange(size) < start + int(width))


def test_stripes_fall_where_those_of_torchaudio_fall():
    """Ours reach F and T, and the last place, too, as the paper's do: 9 of 25 there is 8 of 24 here."""
    rows, steps, bands = 5000, 24, 20
    mask = torch.ones(rows, steps, dtype=torch.bool)
    given_ = Features(torch.randn(rows, steps, bands, 1), mask, torch.ones(rows, dtype=torch.bool))
    for axis, options in ((1, {"time": 8, "frequency_masks": 0}), (2, {"frequency": 8, "time_masks": 0})):
        ours = SpecAugment(**{"time_fraction": 1.0, "time_masks": 1, "frequency_masks": 1, **options})
        changed = (ours(given_, torch.Generator().manual_seed(0)).values != given_.values).movedim(axis, 1)
        draw, size = np.random.default_rng(0), changed.shape[1]
        theirs = torch.from_numpy(np.stack([torchaudio_stripe(size + 1, 9, draw)[:size] for _ in range(rows)]))
        hidden = [it.flatten(2).any(2) if it.ndim > 2 else it for it in (changed, theirs)]
        places = [
            it.float().mean(0) for it in hidden
        ]  # theirs are rarer at the end, for their widths are no whole ones
        torch.testing.assert_close(*places, atol=0.045, rtol=0)
        widths = [torch.bincount(it.sum(1), minlength=9) / rows for it in hidden]
        torch.testing.assert_close(widths[0], widths[1], atol=0.025, rtol=0)


def test_time_is_bent_along_two_lines():
    at = torch.tensor
    source = unbent(at([2.0, 3.0, 0.0]), at([4.0, 3.0, 0.0]), at([8.0, 5.0, 0.0]), 10)
    assert source[0].tolist() == [0, 0.5, 1, 1.5, 2, 3.5, 5, 6.5, 8, 9]
    assert source[1].tolist() == list(range(10)) and source[2].tolist() == list(range(10))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 90), st.integers(0, 999))
def test_bent_time_keeps_order_and_ends_and_goes_no_farther_than_it_may(length, warp, seed):
    source = bend(torch.full((50,), length), warp, 45, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(source[:, 0], torch.zeros(50))
    torch.testing.assert_close(
        source[:, length - 1 :], torch.arange(length - 1.0, 45).expand(50, -1), atol=1e-4, rtol=0
    )
    assert (source.diff(dim=1) >= -1e-5).all()
    assert ((source - torch.arange(45)).abs() <= warp + 1e-3).all()


def test_moments_are_moved_evenly_both_ways():
    source = bend(torch.full((20_000,), 41), 10, 41, torch.Generator().manual_seed(0))
    moved = (source - torch.arange(41)).abs().amax(1)  # at the moment itself, but for what lies between two steps
    assert moved.mean().item() == pytest.approx(5, abs=0.25) and moved.max() > 9
    assert (source[:, 20] > 20).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_a_bent_record_is_its_own_steps_in_between_and_padding_stays():
    steps = torch.arange(30.0)
    values = (3 + steps)[None, :, None, None].repeat(4, 1, 5, 1)
    mask = (steps < torch.tensor([30, 30, 12, 30])[:, None]) & ~((steps % 7 == 3) & (torch.arange(4) == 1)[:, None])
    stream = Features(torch.where(mask[:, :, None, None], values, torch.nan), mask, torch.tensor([True] * 3 + [False]))
    augmentation = SpecAugment(warp=6, frequency_masks=0, time_masks=0)
    changed = augmentation(stream, torch.Generator().manual_seed(1)).values
    drawn = torch.Generator().manual_seed(1)
    torch.rand(4, generator=drawn)  # who is chosen
    for row in range(3):
        own = values[row, mask[row], 0, 0].numpy()
        source = bend(torch.tensor([30, 26, 12, 0]), 6, 30, torch.Generator().set_state(drawn.get_state()))[row]
        wanted = np.interp(source[: len(own)].numpy(), np.arange(len(own)), own)
        np.testing.assert_allclose(changed[row, mask[row], 2, 0].numpy(), wanted, rtol=1e-5)
    assert changed[:3][mask[:3]].isfinite().all() and changed[~mask].isnan().all()
    assert torch.equal(changed[3].nan_to_num(), stream.values[3].nan_to_num())
    never = SpecAugment(warp=6, frequency_masks=0, time_masks=0, probability=0.0)
    assert torch.equal(never(stream, torch.Generator()).values.nan_to_num(), stream.values.nan_to_num())
