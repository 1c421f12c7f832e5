"""Vectors of sensors: pooling, scales by training records, reconstruction errors by sensor."""

import pytest
import torch

from fusionkit.core.errors import DataError
from fusionkit.core.levels import Tokens
from fusionkit.fusion.operation import TrainingBatch
from fusionkit.fusion.vectors import SensorScale, Vectors, block_error, minibatches, one_token, pool_training

NAN = float("nan")


def stream(values, present=None):
    """One token a record; NaN where it is absent."""
    here = torch.ones(len(values), dtype=torch.bool) if present is None else torch.tensor(present)
    values = torch.where(here[:, None], values, torch.full_like(values, NAN))
    return Tokens(values[:, None], torch.ones(len(values), 1, dtype=torch.bool), here)


def batch(present=None, task=0.0):
    values = torch.tensor([[1.0, 5.0], [3.0, 5.0], [8.0, 8.0]])
    return TrainingBatch({"a": stream(values, present), "b": stream(values[:, :1])}, {"task": torch.full((3,), task)})


def test_scale_by_hand():
    """Entry 0 of 'a' has mean 2 and spread 1, entry 1 does not vary; its width is 2."""
    vectors = pool_training(lambda: [batch([True, True, False])], ["a", "b"])
    scale = SensorScale([2, 1])
    scale.fit(vectors)
    a, b = scale(vectors)
    torch.testing.assert_close(a, torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]) / 2**0.5)
    torch.testing.assert_close(b.square().mean(), torch.tensor(1.0))
    assert vectors.here.tolist() == [[True, True], [True, True], [False, True]]


def test_every_sensor_has_the_mean_square_length_one_whatever_its_width_and_unit():
    g = torch.Generator().manual_seed(0)
    values = [torch.randn(50, 3, generator=g) * 1e-5 + 1, torch.randn(50, 40, generator=g) * 100]
    vectors = Vectors(values, torch.ones(50, 2, dtype=torch.bool), {})
    scale = SensorScale([3, 40])
    scale.fit(vectors)
    for block in scale(vectors):
        assert block.square().sum(1).mean().item() == pytest.approx(1, rel=1e-2)


def test_the_scale_follows_what_encoders_learn_but_not_in_evaluation():
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(400, 3, generator=generator) * 0.01
    small[:, 2] = 5.0  # does not vary
    scale = SensorScale([3])
    here = torch.ones(400, 1, dtype=torch.bool)
    scale.fit(Vectors([small], here, {}))
    grown = Vectors([100 * small + 2], here, {})
    scale.eval()
    before = scale(grown)[0].square().sum(1).mean()
    assert before > 1000
    assert torch.equal(scale(grown)[0].square().sum(1).mean(), before)
    scale.train()
    with torch.no_grad():
        assert torch.equal(scale(grown)[0].square().sum(1).mean(), before)
    for start in range(0, 4000, 40):
        rows = torch.arange(start, start + 40) % 400
        scale(Vectors([grown.values[0][rows]], here[rows], {}))
    assert scale(grown)[0].square().sum(1).mean() == pytest.approx(2 / 3, rel=0.1)  # two of three entries vary


def test_the_scale_moves_a_tenth_towards_the_records_that_have_the_sensor():
    scale = SensorScale([1, 1])
    scale.fit(Vectors([torch.tensor([[1.0], [3.0]])] * 2, torch.ones(2, 2, dtype=torch.bool), {}))
    batch = torch.tensor([[4.0], [8.0], [torch.nan]])
    scale(Vectors([batch, batch], torch.tensor([[True, False], [True, False], [False, False]]), {}))
    mean = 2 + 0.1 * (6 - 2)
    variance = 0.9 * 1 + 0.1 * ((4 - mean) ** 2 + (8 - mean) ** 2) / 2
    torch.testing.assert_close(scale.mean, torch.tensor([mean, 2.0]))
    torch.testing.assert_close(scale.scale, torch.tensor([variance**-0.5, 1.0]))


def test_training_records_are_joined_with_their_targets():
    vectors = pool_training(lambda: [batch(task=1.0), batch(task=2.0)], ["b", "a"])
    assert [block.shape for block in vectors.values] == [(6, 1), (6, 2)]
    assert vectors.targets["task"].tolist() == [1.0] * 3 + [2.0] * 3


def test_a_sensor_that_no_training_record_has_is_named():
    with pytest.raises(DataError, match="none has 'a'"):
        pool_training(lambda: [batch([False] * 3)], ["a", "b"])
    with pytest.raises(DataError, match="there are none"):
        pool_training(list, ["a"])


def test_block_error_by_hand():
    found, wanted = torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[0.0, 0.0, 5.0]])
    assert block_error(found, wanted, torch.tensor([[True, True]]), [2, 1]).item() == 2.5
    assert block_error(found, wanted, torch.tensor([[True, False]]), [2, 1]).item() == 1.0
    assert block_error(found, wanted, torch.tensor([[False, False]]), [2, 1]).item() == 0.0


def test_one_token_is_masked_where_nothing_is_real():
    inputs = {"a": stream(torch.ones(2, 1), [True, False]), "b": stream(torch.ones(2, 1), [False, True])}
    token = one_token(torch.ones(2, 3), inputs, torch.tensor([True, False]))
    assert token.values.tolist() == [[[1.0] * 3], [[0.0] * 3]]
    assert token.mask.tolist() == [[True], [False]] and token.present.tolist() == [True, True]


def test_minibatches_give_every_row_once():
    parts = list(minibatches(10, 4, torch.Generator().manual_seed(0)))
    assert [len(part) for part in parts] == [4, 3, 3]
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
