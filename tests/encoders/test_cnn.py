"""The spectrogram encoder: norms over real steps only, padding without any effect, token times."""

import pytest
import torch
from torch.nn import functional as F

from fusionkit.core.levels import Features, FeatureShape
from fusionkit.core.registry import encoders
from fusionkit.encoders.cnn import CNNEncoder, PlaneNorm, bin_mean


def features(batch=4, time=21, channel=10, subchannel=2, lengths=(21, 13, 21, 8)) -> Features:
    values = torch.randn(batch, time, channel, subchannel)
    mask = torch.arange(time) < torch.tensor(lengths)[:, None]
    present = torch.tensor([True, True, False, True])
    return Features(values, mask, present, (torch.arange(time) * 0.1 + 0.05).expand(batch, time))


@pytest.fixture(params=[{}, {"blocks": 4, "halvings": 2}, {"halvings": 0, "blocks": 1}, {"halvings": 8}], ids=str)
def encoder(request) -> CNNEncoder:
    built: CNNEncoder = encoders.build("cnn", {"width": 4, **request.param}, FeatureShape(10, 2), 6)
    built(features())  # running statistics other than 0 and 1
    return built.eval()


def test_gives_a_token_for_some_steps_in_a_row(encoder):
    given = features()
    tokens = encoder(given)
    covers = encoder.covers
    steps = -(-21 // covers)
    assert tokens.values.shape == (4, steps + (covers > 1), 6)
    assert tokens.mask.sum(1).tolist() == [steps, -(-13 // covers), 0, -(-8 // covers)]
    for row, length in [(0, 21), (1, 13), (3, 8)]:
        for token in range(-(-length // covers)):
            inside = given.time[row, token * covers : min(length, (token + 1) * covers)]
            torch.testing.assert_close(tokens.time[row, token], inside.mean())
    assert encoder(given._replace(time=None)).time is None


def test_equals_plain_convolutions_of_the_unpadded_record(encoder):
    given = features()
    tokens = encoder(given)
    for row, length in [(0, 21), (1, 13), (3, 8)]:
        x = given.values[row, :length].permute(2, 0, 1)[None]
        for i, block in enumerate(encoder.blocks):
            stride = (2 if 2**i < encoder.covers else 1, 2)
            kernel = block.convolve.weight
            x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
            norm = block.norm
            x = F.relu(F.batch_norm(x, norm.mean, norm.variance, norm.weight, norm.bias, eps=1e-5))
        expected = encoder.project(x[0].permute(1, 0, 2).flatten(1))
        torch.testing.assert_close(tokens.values[row, : len(expected)], expected, atol=1e-5, rtol=1e-5)
        assert (tokens.values[row, len(expected) :] == 0).all()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("filler", [0.0, 1e4, float("nan"), float("inf")])
def test_neither_padding_nor_an_absent_record_changes_a_bit(encoder, training, filler):
    encoder.train(training)
    encoder.dropout.p = 0.0
    given = features()
    real = (given.mask & given.present[:, None])[..., None, None]
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    expected = encoder(given._replace(values=torch.where(real, given.values, 0.0))).values
    learned = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.load_state_dict(state)
    dirty = torch.where(real, given.values, filler).requires_grad_()
    found = encoder(given._replace(values=dirty))
    assert torch.equal(found.values, expected)
    assert all(torch.equal(value, learned[name]) for name, value in encoder.state_dict().items())
    found.values.square().sum().backward()
    assert (dirty.grad[~real.expand_as(dirty)] == 0).all() and dirty.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("extra", [1, 2, 3, 40])
def test_longer_padding_changes_nothing(encoder, training, extra):
    encoder.train(training)
    encoder.dropout.p = 0.0
    given = features()
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    short = encoder(given)
    encoder.load_state_dict(state)
    long = encoder(
        Features(
            F.pad(given.values, (0, 0, 0, 0, 0, extra), value=3.0),
            F.pad(given.mask, (0, extra)),
            given.present,
            F.pad(given.time, (0, extra)),
        )
    )
    steps = short.values.shape[1]
    torch.testing.assert_close(long.values[:, :steps], short.values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(long.time[:, :steps], short.time)
    assert torch.equal(long.mask[:, :steps], short.mask) and not long.mask[:, steps:].any()


def test_norm_learns_from_real_steps_only():
    norm = PlaneNorm(2, momentum=1.0)
    x = torch.full((2, 2, 3, 2), 77.0)
    x[0, 0, :2], x[0, 1, :2] = 1.0, torch.tensor([4.0, 8.0])
    x[1, 0, 2], x[1, 1, 2] = 3.0, torch.tensor([4.0, 8.0])
    mask = torch.tensor([[True, True, False], [False, False, True]])
    out = norm(x, mask)
    mean, variance = 5 / 3, (4 * (1 - 5 / 3) ** 2 + 2 * (3 - 5 / 3) ** 2) / 6
    torch.testing.assert_close(norm.mean, torch.tensor([mean, 6.0]))
    torch.testing.assert_close(norm.variance, torch.tensor([variance, 4.0]))
    torch.testing.assert_close(out[0, 1, 0], torch.tensor([-1.0, 1.0]))
    norm.eval()
    torch.testing.assert_close(norm(x, mask), out)


def test_norm_equals_batch_norm_where_all_is_real():
    norm, oracle = PlaneNorm(3), torch.nn.BatchNorm2d(3)
    for _ in range(3):
        x = 2 + 3 * torch.randn(4, 3, 50, 6)
        torch.testing.assert_close(norm(x, torch.ones(4, 50, dtype=torch.bool)), oracle(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm.mean, oracle.running_mean)
    torch.testing.assert_close(norm.variance, oracle.running_var * 1199 / 1200 + 0.729 / 1200, atol=1e-4, rtol=1e-3)


def test_norm_learns_nothing_from_a_batch_without_real_steps():
    norm = PlaneNorm(2)
    out = norm(torch.randn(2, 2, 3, 4), torch.zeros(2, 3, dtype=torch.bool))
    assert out.isfinite().all() and (norm.mean == 0).all() and (norm.variance == 1).all()


def test_norm_keeps_its_statistics_in_single_precision_under_half():
    norm = PlaneNorm(1, momentum=1.0)
    x = 5 + 0.5 * torch.randn(64, 1, 200, 8)  # 102,400 numbers: a sum that bfloat16 cannot count
    out = norm(x.bfloat16(), torch.ones(64, 200, dtype=torch.bool))
    assert out.dtype == torch.bfloat16 and norm.mean.dtype == torch.float32
    assert norm.mean.item() == pytest.approx(5, abs=0.01) and norm.variance.item() == pytest.approx(0.25, abs=0.01)


def test_bins_are_filled_up_with_zeros():
    assert bin_mean(torch.tensor([[1.0, 2.0, 3.0]]), 2).tolist() == [[1.5, 1.5]]
    assert bin_mean(torch.tensor([[1.0, 2.0, 3.0]]), 1).tolist() == [[1.0, 2.0, 3.0]]


def test_learns_where_in_time_a_tone_was():
    """Early or late, low or high: four classes that need both axes."""
    encoder = CNNEncoder(FeatureShape(8, 1), 8, width=4, blocks=2, halvings=2, dropout=0.0)
    head = torch.nn.Linear(8, 4)
    label = torch.arange(64) % 4
    values = 0.1 * torch.randn(64, 12, 8, 1)
    for row, kind in enumerate(label.tolist()):
        values[row, (kind // 2) * 8 + 1 : (kind // 2) * 8 + 3, (kind % 2) * 5 + 1] += 2.0
    given = Features(values, torch.ones(64, 12, dtype=torch.bool), torch.ones(64, dtype=torch.bool))
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.02)
    for _ in range(60):
        tokens = encoder(given).values
        loss = F.cross_entropy(head(tokens[:, 0] - tokens[:, 2]), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1
