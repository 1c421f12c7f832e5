"""Additive early fusion, bin by bin."""

import pytest
import torch

from fusionkit.core.levels import Features, FeatureShape
from fusionkit.fusion.additive import Additive
from fusionkit.fusion.align import align_features

SHAPES = {
    "eeg": FeatureShape(3, 2),
    "image": FeatureShape(1, 2, steps=4, timed=False),
    "text": FeatureShape(5, 1, timed=False),
}


def features(values, time=None, present=None):
    rows, steps = values.shape[:2]
    here = torch.ones(rows, dtype=torch.bool)
    return Features(values, torch.ones(rows, steps, dtype=torch.bool), here if present is None else present, time)


def batch(rows=4):
    time = ((torch.arange(7) + 0.5) / 7).expand(rows, -1)
    return {
        "eeg": features(torch.randn(rows, 7, 3, 2), time, torch.tensor([True, True, False, False])),
        "image": features(torch.randn(rows, 4, 1, 2), None, torch.tensor([True, False, True, False])),
        "text": features(torch.randn(rows, 2, 5, 1), None, torch.tensor([True, True, True, False])),
    }


@pytest.mark.parametrize("rule", ["mean", "sum"])
def test_every_bin_by_the_formula(rule):
    op = Additive(SHAPES, 1.0, width=6, steps=3, rule=rule)
    inputs = batch()
    found = op(inputs)
    blocks, real = align_features(inputs, SHAPES, 3, 1.0)
    for row in range(4):
        for step in range(3):
            parts = [
                layer(block[row, step])
                for i, (layer, block) in enumerate(zip(op.maps, blocks, strict=True))
                if real[row, step, i]
            ]
            wanted = sum(parts, torch.zeros(6))
            if rule == "mean" and parts:
                wanted = wanted / len(parts)
            torch.testing.assert_close(found.values[row, step, :, 0], wanted)
            assert found.mask[row, step] == bool(parts)
    assert found.present.tolist() == [True, True, True, False]
    torch.testing.assert_close(found.time[0], torch.tensor([1.0, 3.0, 5.0]) / 6)
    assert op.shape == FeatureShape(6, 1, steps=3, timed=True, trains=True)


def test_by_hand():
    shapes = {"a": FeatureShape(1, 1, timed=False), "b": FeatureShape(1, 1, timed=False)}
    one = torch.ones(1, 1, 1, 1)
    for rule, both in (("mean", 4.0), ("sum", 8.0)):
        op = Additive(shapes, None, width=1, rule=rule)
        with torch.no_grad():
            for layer, weight in zip(op.maps, (2.0, 3.0), strict=True):
                layer.weight.fill_(weight)
                layer.bias.fill_(weight - 1)
        inputs = {"a": features(one), "b": features(one)}
        assert op(inputs).values.item() == both
        inputs["b"] = features(one * torch.nan, present=torch.tensor([False]))
        assert op(inputs).values.item() == 3.0
