"""The common clock: bins by centre times, averages under masks, repetition of what has no time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkit.core.errors import ShapeError
from fusionkit.core.levels import Features, FeatureShape, Tokens
from fusionkit.fusion.align import align_features, align_tokens, aligned_width, centres

NAN = float("nan")


def tokens(values, time=None, mask=None, present=None):
    values = torch.tensor(values)[..., None] if isinstance(values, list) else values
    batch, token = values.shape[:2]
    return Tokens(
        values,
        torch.ones(batch, token, dtype=torch.bool) if mask is None else torch.tensor(mask),
        torch.ones(batch, dtype=torch.bool) if present is None else torch.tensor(present),
        None if time is None else torch.tensor(time).expand(batch, -1),
    )


def test_values_of_a_bin_are_averaged():
    values, mask = align_tokens({"eeg": tokens([[1.0, 3.0, 8.0]], [0.1, 0.4, 0.9])}, 2, 1.0)
    assert values.flatten().tolist() == [2.0, 8.0]
    assert mask.flatten().tolist() == [True, True]


def test_an_empty_bin_is_masked_and_zero():
    values, mask = align_tokens({"eeg": tokens([[1.0, 3.0, 8.0]], [0.1, 0.4, 0.9])}, 4, 1.0)
    assert values.flatten().tolist() == [1.0, 3.0, 0.0, 8.0]
    assert mask.flatten().tolist() == [True, True, False, True]


def test_a_masked_value_does_not_count_even_where_it_is_nan():
    stream = tokens([[1.0, NAN, 8.0]], [0.1, 0.4, 0.9], mask=[[True, False, True]])
    values, mask = align_tokens({"eeg": stream}, 2, 1.0)
    assert values.flatten().tolist() == [1.0, 8.0]
    assert mask.all()


def test_times_outside_the_window_belong_to_its_ends_and_an_edge_to_the_later_bin():
    values, _ = align_tokens({"eeg": tokens([[1.0, 2.0, 4.0]], [-1.0, 0.5, 3.0])}, 2, 1.0)
    assert values.flatten().tolist() == [1.0, 3.0]


def test_what_has_no_time_is_pooled_and_repeated():
    stream = tokens([[1.0, 3.0, NAN]], mask=[[True, True, False]])
    values, mask = align_tokens({"text": stream}, 3, 2.0)
    assert values.flatten().tolist() == [2.0, 2.0, 2.0]
    assert mask.all()


def test_an_absent_sensor_is_zero_and_masked_everywhere():
    timed = tokens([[NAN, NAN], [1.0, 3.0]], [NAN, NAN], present=[False, True])
    timed = timed._replace(time=torch.tensor([[NAN, NAN], [0.1, 0.9]]))
    plain = tokens([[NAN], [5.0]], present=[False, True])
    values, mask = align_tokens({"eeg": timed, "image": plain}, 2, 1.0)
    assert values[0].abs().sum() == 0
    assert not mask[0].any()
    assert values[1, ..., 0].tolist() == [[1.0, 5.0], [3.0, 5.0]]


def test_time_without_a_duration_is_refused():
    with pytest.raises(ShapeError, match="duration"):
        align_tokens({"eeg": tokens([[1.0]], [0.0])}, 2, None)


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 12), steps=st.integers(1, 6), duration=st.floats(0.1, 30), seed=st.integers(0, 99))
def test_matches_a_plain_loop(count, steps, duration, seed):
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(2, count, 3, generator=g)
    time = torch.rand(2, count, generator=g) * duration
    mask = torch.rand(2, count, generator=g) < 0.7
    stream = Tokens(values, mask, torch.tensor([True, True]), time)
    got, real = align_tokens({"x": stream}, steps, duration)
    width = duration / steps
    for row in range(2):
        bins = [[] for _ in range(steps)]
        for i in range(count):
            place = time[row, i].item() / width
            if abs(place - round(place)) < 1e-3:
                return  # on an edge: another test's business
            if mask[row, i]:
                bins[min(int(place), steps - 1)].append(values[row, i])
        for step, inside in enumerate(bins):
            assert real[row, step, 0] == bool(inside)
            expected = torch.stack(inside).mean(0) if inside else torch.zeros(3)
            torch.testing.assert_close(got[row, step, 0], expected)


def test_edges_do_not_depend_on_rounding():
    """Middles of three steps lie on edges of six bins (1.5 / 3 = 3 / 6); every duration must agree."""
    for duration in torch.linspace(0.7, 31.3, 200).tolist():
        time = [(i + 0.5) / 3 * duration for i in range(3)]
        _, mask = align_tokens({"x": tokens([[1.0, 1.0, 1.0]], time)}, 6, duration)
        assert mask.flatten().nonzero().flatten().tolist() == [1, 3, 5]


def test_centres_are_the_middles_of_bins():
    assert centres(4, 2.0, torch.zeros(1)).tolist() == [0.25, 0.75, 1.25, 1.75]


def test_patches_keep_their_order_in_the_width_and_words_are_averaged():
    image = Features(torch.arange(6.0).reshape(1, 3, 1, 2), torch.ones(1, 3, dtype=torch.bool), torch.tensor([True]))
    text = Features(torch.tensor([[[[1.0]], [[3.0]]]]), torch.ones(1, 2, dtype=torch.bool), torch.tensor([True]))
    shapes = {"image": FeatureShape(1, 2, steps=3, timed=False), "text": FeatureShape(1, 1, timed=False, trains=True)}
    blocks, mask = align_features({"text": text, "image": image}, shapes, 2, 1.0)
    assert blocks[0].tolist() == [[[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]] * 2]
    assert blocks[1].tolist() == [[[2.0]] * 2]
    assert [aligned_width(shape) for shape in shapes.values()] == [6, 1]
    assert mask.all()
