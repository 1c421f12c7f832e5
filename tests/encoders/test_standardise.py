"""Standardising: statistics of what was measured alone; and a model that takes the rest for the mean."""

import numpy as np
import torch

from fusionkit.core.levels import Features, FeatureShape
from fusionkit.encoders.standardise import Standardise


def batches(values):
    mask = torch.ones(values.shape[:2], dtype=torch.bool)
    mask[0, 3:] = False
    present = torch.tensor([True] * (len(values) - 1) + [False])
    return [Features(values[rows], mask[rows], present[rows]) for rows in torch.arange(len(values)).split(2)]


def test_what_was_not_measured_is_not_counted_and_stays():
    values = torch.randn(5, 4, 3, 2) * 2 + 5
    values[0, :, 1] = torch.nan
    values[3, 2, 0, 1] = torch.nan
    values[:, :, 2] = torch.nan
    standardise = Standardise(FeatureShape(3, 2))
    standardise.fit(batches(values))
    for at in np.ndindex(3, 2):
        seen = torch.cat([values[0, :3], *values[1:4]])[(slice(None), *at)]
        seen = seen[~seen.isnan()]
        mean, std = (seen.mean(), seen.std(correction=0)) if len(seen) else (torch.zeros(()), torch.ones(()))
        torch.testing.assert_close(standardise.mean[at], mean)
        torch.testing.assert_close(standardise.std[at], std)
    made = torch.cat([standardise(batch).values for batch in batches(values)])
    assert made[0, :3, 1].isnan().all() and not made[1:4, :, :2].isnan().sum() > 1
