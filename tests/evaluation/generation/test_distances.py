"""Neighbours and balls against scikit-learn, in any number of parts."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from fusionkit.evaluation.generation import distances
from fusionkit.evaluation.generation.distances import median_distance, nearest_distance, within_reach


def test_hand_values() -> None:
    x = np.array([[0.0], [1.0], [5.0]])
    assert nearest_distance(x).tolist() == [1, 1, 4]
    assert nearest_distance(x, neighbour=2).tolist() == [5, 4, 5]
    assert nearest_distance(x, np.array([[2.0], [9.0]])).tolist() == [2, 1, 3]
    assert median_distance(x) == 4
    assert median_distance(np.zeros((3, 1))) == 1
    assert within_reach(x, np.array([[2.0], [9.0]]), np.array([1.0, 3.0])).tolist() == [False, True, False]


@pytest.mark.parametrize("cells", [2**22, 40])
def test_they_equal_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(distances, "CELLS", cells)
    x, y = np.random.default_rng(0).normal(size=(2, 31, 3))
    theirs = NearestNeighbors().fit(y)
    np.testing.assert_allclose(nearest_distance(x, y, 3), theirs.kneighbors(x, 3)[0][:, 2])
    np.testing.assert_allclose(nearest_distance(y, None, 3), theirs.kneighbors(None, 3)[0][:, 2])
    radius = nearest_distance(y)
    inside = [any(np.linalg.norm(a - b) <= r for b, r in zip(y, radius, strict=True)) for a in x]
    assert within_reach(x, y, radius).tolist() == inside


def test_no_record_has_no_distance() -> None:
    assert nearest_distance(np.zeros((0, 2)), np.zeros((4, 2))).shape == (0,)
