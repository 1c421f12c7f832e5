"""Heterogeneity by transfer: two rotations of one cause are alike, noise is not; pairs by their crossing."""

import numpy as np
import pytest
import torch

from fusionkit.compare.suggestion.probe import Material, mean_loss, probe
from fusionkit.compare.suggestion.proposal import clusters
from fusionkit.compare.suggestion.transfer import Estimate, estimate, heterogeneity, measure_transfer
from fusionkit.compare.suggestion.vectors import cut


@pytest.fixture(scope="module")
def material():
    """Two rotations of one cause, and noise."""
    draw = np.random.default_rng(0)
    cause = draw.standard_normal(600)
    seen = draw.standard_normal((3, 600, 4))
    seen[:2, :, 0] += cause
    turned = [one @ np.linalg.qr(draw.standard_normal((4, 4)))[0] for one in seen]
    parts = cut(np.arange(600) % 20, 3, draw)
    here = torch.ones(3, 600, dtype=torch.bool)
    return Material(torch.tensor(np.stack(turned)).float(), here, torch.tensor(cause > 0).float(), 2, parts)


ALONE = [[0], [1], [2]]


def test_rotations_are_a_cluster_and_noise_is_not(material):
    distance = heterogeneity(measure_transfer(material, ALONE, probe(material, ALONE))).double().numpy()
    assert np.array_equal(distance, distance.T) and (distance >= 0).all() and not distance.diagonal().any()
    assert clusters(distance, 0.1) == [[0, 1], [2]], distance


def test_a_plain_loop(material):
    """One source, one target, one network at a time."""
    alone, counts = probe(material, ALONE), []
    found = measure_transfer(material, ALONE, alone, counts.append)
    loss = torch.zeros(3, 3, 3)
    for i in range(3):
        for j in range(3):
            held = alone.of([i])
            tuned = probe(material, [[j]], body=held.body)
            assert all(torch.equal(one, other) for one, other in zip(tuned.body, held.body, strict=True))
            loss[:, i, j] = mean_loss(material, tuned.answer, tuned.counted)[:, 0]
    own = torch.stack([loss[:, j, j] for j in range(3)], 1)
    torch.testing.assert_close(found.mean, (loss - own[:, None]).mean(0), atol=2e-3, rtol=0)
    assert sum(counts) == 9


def test_transfer_within_two_errors_counts_as_nothing():
    """T(1->2) is 0.3 and certain, T(2->1) is -0.1 and certain, T(1->3) is 0.2 with an error of 0.15."""
    mean = torch.tensor([[0.0, 0.3, 0.2], [-0.1, 0.0, 0.0], [0.0, 0.0, 0.0]])
    error = torch.full((3, 3), 0.05)
    error[0, 2] = 0.15
    expected = torch.tensor([[0.0, 0.3, 0.0], [0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.equal(heterogeneity(Estimate(mean, error, 3)), expected)


def test_the_estimate_of_one_two_three():
    found = estimate(torch.tensor([1.0, 2.0, 3.0]))
    assert float(found.mean) == 2
    assert float(found.error) == pytest.approx(3**-0.5)
    assert float(found.low) == pytest.approx(2 - 4.302653 * 3**-0.5, abs=1e-5)
