"""Neighbours, votes and lines against hand values, scikit-learn and a public implementation."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fusionkit.evaluation import embeddings
from fusionkit.evaluation.embeddings import Embedding, Nearest, linear_probe, nearest, recall_at, side_by_side, vote


def circle(*degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def made(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels, asked = generator.integers(0, 3, 60), generator.integers(0, 3, 25)
    centre = generator.normal(size=(3, 5))
    return (
        centre[labels] + generator.normal(size=(60, 5)),
        labels,
        centre[asked] + generator.normal(size=(25, 5)),
        asked,
    )


def test_recall_hand_values() -> None:
    labels = np.array([0, 1, 0, 1])
    found = nearest(circle(0, 10, 50, 55), None, 3)
    assert found.rows[:, 0].tolist() == [1, 0, 3, 2]
    assert recall_at(found, labels, labels, 1).mean() == 0
    assert recall_at(found, labels, labels, 2).tolist() == [True, False, False, True]
    assert recall_at(found, labels, labels, 3).mean() == 1


def test_vote_hand_value() -> None:
    found = Nearest(np.array([[0, 1]]), np.array([[1.0, 0.5]]))
    np.testing.assert_allclose(vote(found, np.array([0, 2]), 3, 0.5), [[0.731059, 0, 0.268941]], atol=1e-6)


@pytest.mark.parametrize("cells", [2**24, 100])
def test_neighbours_equal_those_of_scikit_learn_in_any_number_of_parts(monkeypatch, cells) -> None:
    monkeypatch.setattr(embeddings, "CELLS", cells)
    train, labels, test, _ = made()
    found = nearest(test, train, 7)
    weigh = KNeighborsClassifier(7, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
    theirs = weigh.fit(train, labels)
    index = theirs.kneighbors(test, return_distance=False)
    assert np.array_equal(found.rows, index)
    np.testing.assert_allclose(vote(found, labels, 3), theirs.predict_proba(test), atol=1e-9)
    among = nearest(train, None, 4).rows
    assert np.array_equal(among, theirs.kneighbors(train, 5, return_distance=False)[:, 1:])


def test_recall_equals_a_naive_loop() -> None:
    train, labels, test, asked = made(1)
    cosine = (test / np.linalg.norm(test, axis=1)[:, None]) @ (train / np.linalg.norm(train, axis=1)[:, None]).T
    hits = [asked[i] in labels[np.argsort(-cosine[i])[:2]] for i in range(len(test))]
    assert recall_at(nearest(test, train, 5), asked, labels, 2).tolist() == hits
    assert nearest(test, train[:3], 5).rows.shape == (25, 3)


def test_recall_equals_a_public_implementation() -> None:
    calculators = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    torch = pytest.importorskip("torch")
    train, labels, test, asked = made(2)

    def knn(query, k, reference, ref_includes_query=False):
        found = nearest(query.numpy(), reference.numpy(), k)
        return torch.from_numpy(1 - found.cosine), torch.from_numpy(found.rows)

    theirs = calculators.AccuracyCalculator(include=("precision_at_1",), k=1, knn_func=knn).get_accuracy(
        *(torch.from_numpy(part) for part in (test, asked, train, labels))
    )
    assert recall_at(nearest(test, train, 1), asked, labels, 1).mean() == pytest.approx(theirs["precision_at_1"])


def test_the_line_equals_scikit_learn_on_standardised_numbers() -> None:
    train, labels, test, _ = made()
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, labels)
    np.testing.assert_allclose(linear_probe(train, labels, test, 3), theirs.predict_proba(test), atol=1e-9)


def test_classes_that_do_not_train_and_embeddings_that_are_one_are_no_error() -> None:
    train, labels, test, _ = made()
    some = labels != 1
    answer = linear_probe(train[some], labels[some], test, 3)
    assert not answer[:, 1].any() and np.allclose(answer.sum(1), 1)
    only = linear_probe(train[labels == 2], labels[labels == 2], test, 3)
    assert (only == [0, 0, 1]).all()
    collapsed = linear_probe(np.ones((60, 5), np.float32), labels, np.ones((25, 5), np.float32), 3)
    np.testing.assert_allclose(collapsed[0], np.bincount(labels) / 60, atol=0.01)
    assert np.isfinite(vote(nearest(np.zeros((3, 5)), train, 4), labels, 3)).all()


def test_sensors_count_alike_side_by_side() -> None:
    first, second = made()[0][:6], 100 * made(1)[0][:6]
    here = np.array([True] * 5 + [False])
    both = side_by_side([Embedding(first, np.ones(6, bool)), Embedding(second, here)])
    one, other, joint = (nearest(part[:1], part[1:2], 1).cosine for part in (first, second, both.values))
    np.testing.assert_allclose(joint, (one + other) / 2)
    assert both.here.all() and not both.values[5, 5:].any() and both.values[5, :5].any()
