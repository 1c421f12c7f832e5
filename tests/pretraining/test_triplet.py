"""Triplets: hand values, mining against its definition, the list of hard ones."""

import pytest
import torch
from torch.nn import functional as F

from fusionkit.pretraining.hard_list import HardList
from fusionkit.pretraining.metric import distances
from fusionkit.pretraining.triplet import mine, triplet


def test_hand_values() -> None:
    anchor, positive, negative = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.2]])
    near, far = distances(anchor, positive)[0], distances(anchor, negative)[0]
    assert float(triplet(near, far, 0.5, hinge=False)) == pytest.approx(0.3, abs=1e-6)
    assert float(triplet(near.square(), far.square(), 0.5, hinge=False)) == pytest.approx(0.06, abs=1e-6)
    assert float(triplet(near, far, 0.2, hinge=True)) == pytest.approx(0, abs=1e-6)
    assert float(triplet(near.square(), far.square(), 0.2, hinge=True)) == 0
    assert float(triplet(near, far + 3, 0.2, hinge=False)) < 0  # unbounded below


def test_the_example_of_the_docstring() -> None:
    squared = torch.tensor([[1.0, 0.9, 1.1, 1.15, 3.0]])
    alike = torch.tensor([[True, False, False, False, False]])
    chosen = {
        mining: int(mine(squared, alike, ~alike, mining, 0.2, torch.Generator()).negative)
        for mining in ("hard", "semi_hard", "batch_hard")
    }
    assert chosen == {"hard": 1, "semi_hard": 2, "batch_hard": 1}


@pytest.mark.parametrize("mining", ["random", "semi_hard", "hard", "batch_hard", "online"])
def test_every_triplet_is_what_its_mining_says(mining) -> None:
    generator = torch.Generator().manual_seed(0)
    margin, found, drawn = 0.3, 0, set()
    for seed in range(30):
        values = F.normalize(torch.randn(9, 3, generator=torch.Generator().manual_seed(seed)), dim=1)
        who = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3])
        squared = distances(values, values).square()
        alike = (who[:, None] == who[None]) & ~torch.eye(9, dtype=torch.bool)
        unlike = who[:, None] != who[None]
        mined = mine(squared, alike, unlike, mining, margin, generator)
        assert not mined.found[8]  # has nobody alike
        for a in range(8):
            p, n = int(mined.positive[a]), int(mined.negative[a])
            positives = [k for k in range(9) if alike[a, k]]
            negatives = [k for k in range(9) if unlike[a, k]]
            assert p in positives
            to_positive = float(squared[a, p])
            if mining == "semi_hard":
                negatives = [k for k in negatives if to_positive < float(squared[a, k]) < to_positive + margin]
            if mining == "hard":
                negatives = [k for k in negatives if float(squared[a, k]) < to_positive]
            assert bool(mined.found[a]) == bool(negatives)
            if not negatives:
                continue
            found += 1
            assert n in negatives
            drawn.add((a, p, n))
            if mining in ("semi_hard", "batch_hard", "online"):
                assert n == min(negatives, key=lambda k: float(squared[a, k]))
            if mining == "batch_hard":
                assert p == max(positives, key=lambda k: float(squared[a, k]))
    assert found > 40 and len(drawn) > 20


def test_batch_hard_equals_a_public_implementation() -> None:
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    lengths = pytest.importorskip("pytorch_metric_learning.distances")
    values, who = torch.randn(10, 4), torch.arange(10) % 3
    miner = miners.BatchHardMiner(distance=lengths.LpDistance(normalize_embeddings=False))
    anchor, positive, negative = miner(values, who)
    alike = (who[:, None] == who[None]) & ~torch.eye(10, dtype=torch.bool)
    ours = mine(
        distances(values, values).square(), alike, who[:, None] != who[None], "batch_hard", 0.2, torch.Generator()
    )
    assert torch.equal(ours.positive[anchor], positive) and torch.equal(ours.negative[anchor], negative)


def test_the_list_keeps_the_hardest_and_forgets_with_time() -> None:
    kept = HardList(3, 1)
    new = torch.arange(1.0, 6.0)[:, None]
    kept.meet(new, torch.arange(5), torch.tensor([0.1, 0.0, 0.5, 0.3, 0.2]), torch.zeros(3))
    assert kept.values[:, 0].tolist() == [3, 4, 5] and kept.identity.tolist() == [2, 3, 4]
    torch.testing.assert_close(kept.hardness, torch.tensor([0.5, 0.3, 0.2]))
    nothing = (torch.zeros(1, 1), torch.zeros(1, dtype=torch.long), torch.zeros(1))
    kept.meet(*nothing, torch.tensor([0.0, 0.0, 0.6]))  # the last was met again, the others fade
    torch.testing.assert_close(kept.hardness, torch.tensor([0.6, 0.45, 0.27]))
    assert kept.identity.tolist() == [4, 2, 3]
    kept.meet(torch.ones(1, 1), torch.tensor([9]), torch.tensor([0.3]), torch.zeros(3))
    assert kept.identity.tolist() == [4, 2, 9]


def test_the_list_is_kept_in_place() -> None:
    """Several processes share buffers by where they lie, as they were when training began."""
    listed = HardList(3, 2)
    before = {name: buffer.data_ptr() for name, buffer in listed.named_buffers()}
    listed.meet(torch.eye(2), torch.tensor([4, 5]), torch.tensor([0.5, 0.1]), torch.zeros(3))
    assert {name: buffer.data_ptr() for name, buffer in listed.named_buffers()} == before
    assert listed.identity.tolist() == [4, 5, 0]
