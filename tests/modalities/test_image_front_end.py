"""Patches against a plain loop."""

import pytest
import torch

from fusionkit.modalities.image import Patches


@pytest.mark.parametrize(("height", "width", "patch"), [(4, 4, 2), (6, 9, 3), (5, 7, 3), (2, 2, 4)])
def test_equals_a_plain_loop(height, width, patch):
    images = torch.rand(2, 3, height, width)
    front_end = Patches(height, width, patch=patch)
    features, mask = front_end(images, torch.tensor([1, 1]))
    rows, columns = -(-height // patch), -(-width // patch)
    assert features.shape == (2, rows * columns, 3, patch**2)
    assert (front_end.shape.steps, front_end.shape.channel, front_end.shape.subchannel) == features.shape[1:]
    assert mask.all() and mask.shape == features.shape[:2]
    assert front_end.times(rows * columns) is None and not front_end.shape.timed and not front_end.shape.trains
    for row in range(rows * patch):
        for column in range(columns * patch):
            place = (row // patch) * columns + column // patch
            pixel = (row % patch) * patch + column % patch
            inside = row < height and column < width
            expected = images[:, :, row, column] if inside else torch.zeros(2, 3)
            assert torch.equal(features[:, place, :, pixel], expected)
