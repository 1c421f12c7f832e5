"""What every generative augmenter shares: the width of a record, and its scale over the training records."""

import torch

from fusionkit.augment.generative.generator import Item
from fusionkit.augment.generative.noise_copies import NoiseCopies
from fusionkit.core.levels import WindowShape


def test_the_width_of_a_record():
    assert Item("features", WindowShape((1, 62, 5)), 3).width == 310
    assert Item("window", WindowShape((7,)), 3).width == 7


def test_every_number_is_standardised_over_the_training_records():
    made = NoiseCopies(Item("features", WindowShape((1, 3, 1)), 2))
    values = torch.tensor([[1.0, 5.0, -2.0], [3.0, 5.0, 2.0]]).reshape(2, 1, 3, 1)
    made.prepare(values, torch.tensor([0, 1]))
    assert made.shift.flatten().tolist() == [2, 5, 0]
    assert made.scale.flatten().tolist() == [1, 1, 2], "what never varies keeps its scale"
    assert made.standardise(values).flatten().tolist() == [-1, 0, -1, 1, 0, 1]
    assert torch.equal(made.restore(made.standardise(values)), values)
