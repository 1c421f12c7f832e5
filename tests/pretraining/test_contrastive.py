"""Both forms of margin contrast against hand values and a public implementation."""

import pytest
import torch
from torch.nn import functional as F

from fusionkit.pretraining.contrastive import contrastive
from fusionkit.pretraining.metric import distances

YES, NO = torch.tensor([True]), torch.tensor([False])


def test_hand_values() -> None:
    five = distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))[0]
    assert float(contrastive(five, YES, 6.0, "lecture")) == 5
    assert float(contrastive(five, NO, 6.0, "lecture")) == 1
    assert float(contrastive(five, YES, 6.0, "hadsell")) == 12.5
    assert float(contrastive(five, NO, 6.0, "hadsell")) == 0.5


@pytest.mark.parametrize("form", ["lecture", "hadsell"])
def test_pairs_beyond_the_margin_are_left_where_they_are(form) -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    far = distances(points[:1], points[1:])[0]
    contrastive(far, NO, 4.9, form).sum().backward()
    assert points.grad is not None and not points.grad.any()
    points.grad.zero_()
    far = distances(points[:1], points[1:])[0]
    contrastive(far, NO, 5.1, form).sum().backward()
    assert points.grad.any()


@pytest.mark.parametrize("form", ["lecture", "hadsell"])
def test_points_that_are_one_have_a_finite_gradient(form) -> None:
    points = torch.ones(3, 2, requires_grad=True)
    together = distances(points, points)
    alike = torch.tensor([[False, True, False], [True, False, False], [False, False, False]])
    contrastive(together, alike, 1.0, form).sum().backward()
    assert points.grad is not None and bool(points.grad.isfinite().all())


def test_distances_are_exact_near_zero() -> None:
    base = F.normalize(torch.randn(4, 8), dim=1)
    moved = base + 1e-5 * torch.eye(4, 8)
    torch.testing.assert_close(distances(base, moved).diagonal(), torch.full((4,), 1e-5), rtol=0.05, atol=0)


def test_the_lecture_s_form_equals_a_public_implementation() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    distances_of = pytest.importorskip("pytorch_metric_learning.distances")
    reducers = pytest.importorskip("pytorch_metric_learning.reducers")
    values, labels = torch.randn(6, 4), torch.tensor([0, 1, 0, 1, 2, 2])
    theirs = losses.ContrastiveLoss(
        pos_margin=0,
        neg_margin=2.5,
        distance=distances_of.LpDistance(normalize_embeddings=False),
        reducer=reducers.MeanReducer(),
    )(values, labels)
    alike = (labels[:, None] == labels[None]) & ~torch.eye(6, dtype=torch.bool)
    unlike = labels[:, None] != labels[None]
    loss = contrastive(distances(values, values), alike, 2.5, "lecture")
    assert float(loss[alike].mean() + loss[unlike].mean()) == pytest.approx(float(theirs), rel=1e-5)
