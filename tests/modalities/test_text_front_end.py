"""Embeddings of ids under padding, and dropped tokens."""

import pytest
import torch

from fusionkit.core.levels import Window
from fusionkit.modalities.text import TokenDrop, WordEmbedding


def test_looks_up_one_vector_a_token():
    front_end = WordEmbedding(20, 4)
    ids = torch.tensor([[3, 7, 3], [19, 0, 0]])
    features, mask = front_end(ids, torch.tensor([3, 1]))
    assert features.shape == (2, 3, 4, 1)
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    table = front_end.embedding.weight
    assert torch.equal(features[0, :, :, 0], table[[3, 7, 3]])
    assert torch.equal(features[1, 0, :, 0], table[19]) and (features[1, 1:] == 0).all()
    assert front_end.times(3) is None
    assert front_end.shape.trains and not front_end.shape.timed


@pytest.mark.parametrize("garbage", [5, 19, 10**6, -3])
def test_what_is_behind_the_length_does_not_matter(garbage):
    front_end = WordEmbedding(20, 4)
    ids = torch.tensor([[3, 7, 3], [19, garbage, garbage]])
    features, mask = front_end(ids, torch.tensor([3, 1]))
    expected, _ = front_end(torch.tensor([[3, 7, 3], [19, 0, 0]]), torch.tensor([3, 1]))
    assert torch.equal(features, expected) and not mask[1, 1:].any()
    features[1, 1:].sum().backward()
    assert (front_end.embedding.weight.grad == 0).all()


def test_vectors_start_near_length_1():
    length = WordEmbedding(2000, 64).embedding.weight[1:].norm(dim=1)
    assert length.mean().item() == pytest.approx(1, abs=0.02)
    assert (WordEmbedding(20, 4).embedding.weight[0] == 0).all()


def test_dropped_tokens_become_id_1_at_the_rate_asked_for():
    ids = torch.randint(2, 50, (200, 40))
    length = torch.randint(1, 41, (200,))
    ids[torch.arange(40) >= length[:, None]] = 0
    window = Window(ids, length, torch.ones(200, dtype=torch.bool))
    changed = TokenDrop(rate=0.2)(window, torch.Generator().manual_seed(0)).values
    dropped = changed != ids
    assert (changed[dropped] == 1).all() and (changed[ids == 0] == 0).all()
    assert (dropped.sum() / (ids != 0).sum()).item() == pytest.approx(0.2, abs=0.02)
    assert (TokenDrop(rate=1.0)(window).values == (ids != 0).long()).all()
    half = TokenDrop(rate=1.0, probability=0.5)(window, torch.Generator().manual_seed(0)).values
    assert ((half == ids).all(1) ^ (half == (ids != 0).long()).all(1)).all()
    assert (half == ids).all(1).float().mean().item() == pytest.approx(0.5, abs=0.12)
