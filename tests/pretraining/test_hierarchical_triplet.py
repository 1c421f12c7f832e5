"""The tree of classes and its margins against the hand example, scipy and naive loops."""

import pytest
import torch
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform
from torch.nn import functional as F

from fusionkit.pretraining.class_tree import grow
from fusionkit.pretraining.hierarchical_triplet import ClassMargins, hierarchical_triplet

LINE = torch.tensor([[-0.1], [0.1], [0.9], [1.1], [4.9], [5.1]])
CLASSES = torch.tensor([0, 0, 1, 1, 2, 2])


def sums(values: torch.Tensor, who: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    member = F.one_hot(who, classes).float().T
    return member.sum(1), member @ values, member @ values.square().sum(1)


def test_hand_values() -> None:
    tree = grow(*sums(LINE, CLASSES, 3), levels=16)
    torch.testing.assert_close(tree.distance.diagonal(), torch.full((3,), 0.04), atol=1e-5, rtol=0)
    assert float(tree.distance[0, 1]) == pytest.approx(1.02, abs=1e-5)
    assert int(tree.level[0, 1]) == 4 and float(tree.merged[0, 1]) == pytest.approx(1.03, abs=1e-5)
    assert int(tree.level[0, 2]) == 16  # nothing is farther than the last level


def test_distances_equal_naive_loops_and_levels_single_linkage() -> None:
    values = F.normalize(torch.randn(40, 3, dtype=torch.float64), dim=1)
    who = torch.cat([torch.arange(5), torch.randint(0, 5, (35,))])
    tree = grow(*sums(values.float(), who, 5), levels=16)
    for p in range(5):
        for q in range(5):
            pairs = [
                float((values[i] - values[j]).square().sum())
                for i in range(40)
                for j in range(40)
                if who[i] == p and who[j] == q and i != j
            ]
            assert float(tree.distance[p, q]) == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)
    apart = tree.distance.clone().fill_diagonal_(0)
    chain = squareform(cophenet(linkage(squareform(apart.numpy(), checks=False), "single")))
    first = float(tree.distance.diagonal().mean())
    for p in range(5):
        for q in range(p):
            thresholds = [(level * (4 - first) / 16 + first, level) for level in range(1, 17)]
            wanted = min(level for limit, level in thresholds if chain[p, q] < limit)
            assert int(tree.level[p, q]) == wanted


def test_a_margin_leaves_out_the_width_of_the_anchors_class() -> None:
    """Rows are anchors: the class with members 0.2 apart has a wider margin to the other than that with 0.6."""
    margins = ClassMargins(2, 1, 0.1)
    margins.add(
        torch.tensor([[-0.1], [0.1], [0.7], [1.3]]), torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool)
    )
    margins.renew(16, 0.1)
    assert float(margins.margins[0, 1] - margins.margins[1, 0]) == pytest.approx(0.36 - 0.04, abs=1e-5)


def test_margins_grow_with_the_tree_and_sums_begin_anew() -> None:
    margins = ClassMargins(4, 1, 0.1)
    margins.add(LINE, CLASSES, torch.ones(6, dtype=torch.bool))
    assert margins.renew(16, 0.1) == pytest.approx(0.04, abs=1e-5)
    assert float(margins.margins[0, 1]) == pytest.approx(0.1 + 1.03 - 0.04, abs=1e-5)
    assert float(margins.margins[0, 3]) == pytest.approx(0.1)  # class 3 was not seen
    assert margins.rank[0, :3].tolist() == [0, 1, 2] and margins.rank[2, :3].tolist() == [2, 1, 0]
    assert not margins.count.any() and not margins.total.any() and not margins.squares.any()
    before = margins.margins.clone()
    margins.add(LINE, CLASSES, torch.zeros(6, dtype=torch.bool))
    margins.renew(16, 0.1)
    assert torch.equal(margins.margins, before)


def test_loss_hand_value_and_gradient() -> None:
    negative = torch.tensor([[1.5, 3.0, 0.1]], requires_grad=True)
    counts = torch.tensor([[True, True, False]])
    loss = hierarchical_triplet(torch.tensor([1.0]), negative, torch.ones(1, 3), counts)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.125)
    assert negative.grad is not None and negative.grad.tolist() == [[-0.25, 0.0, 0.0]]
    none = hierarchical_triplet(torch.tensor([1.0]), negative, torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.bool))
    assert float(none.detach()) == 0.0


def test_a_class_that_was_not_seen_joins_no_others() -> None:
    """Sums of an unseen class are those of a class in the middle of all: no chain may lead through it."""
    count, squares = torch.tensor([4.0, 4.0, 0.0]), torch.tensor([4.0, 4.0, 0.0])
    total = torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, 0.0]])  # two classes at a squared distance of 2
    tree, without = grow(count, total, squares, 16), grow(count[:2], total[:2], squares[:2], 16)
    assert without.level[0, 1] == 9 and tree.known.tolist() == [True, True, False]
    torch.testing.assert_close(tree.level[:2, :2], without.level)
    torch.testing.assert_close(tree.merged[:2, :2], without.merged)
    assert tree.level[2].tolist() == [16, 16, 1] and tree.merged.isfinite().all()
