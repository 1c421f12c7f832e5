import torch

from fusionkit.augment.time_reverse import TimeReverse
from fusionkit.core.levels import Window


def test_twice_is_once_too_often():
    values = torch.randn(5, 2, 9, generator=torch.Generator().manual_seed(0))
    stream = Window(values, torch.tensor([9, 4, 1, 0, 8]), torch.ones(5, dtype=torch.bool))
    reverse = TimeReverse(probability=1.0)
    once = reverse(stream)
    for row, count in enumerate(stream.length.tolist()):
        assert torch.equal(once.values[row, :, :count], values[row, :, :count].flip(-1))
        assert torch.equal(once.values[row, :, count:], values[row, :, count:])
    assert torch.equal(reverse(once).values, values)
