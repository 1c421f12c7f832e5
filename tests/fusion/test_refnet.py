"""RefNet: its loss against torch's, and what absent sensors add to it."""

import pytest
import torch
from torch import nn

from fusionkit.core.levels import pool
from fusionkit.fusion.refnet import RefNet, cosine_loss
from fusionkit.testing.streams import make_tokens, without


def test_equals_torchs_cosine_embedding_loss_summed_over_sensors():
    found, wanted = torch.randn(2, 3, 5, 4)
    loss = nn.CosineEmbeddingLoss()
    total = sum(loss(found[m], wanted[m], torch.ones(5)) for m in range(3))
    torch.testing.assert_close(cosine_loss(found, wanted, torch.ones(3, 5, dtype=torch.bool)), total)


def test_by_hand():
    one = torch.tensor([[[1.0, 0.0]]])
    here = torch.ones(1, 1, dtype=torch.bool)
    for other, cost in (([2.0, 0.0], 0), ([0.0, 3.0], 1), ([-1.0, 0.0], 2)):
        assert cosine_loss(one, torch.tensor([[other]]), here).item() == pytest.approx(cost)
    assert cosine_loss(one, one, ~here).item() == 0


@pytest.mark.parametrize("absent", [False, True])
def test_the_operation_adds_it_for_the_samples_that_have_the_sensor(absent):
    op = RefNet(dict.fromkeys("ab", 4), 4, 1.0, weight=0.3)
    g = torch.Generator().manual_seed(0)
    inputs = {name: make_tokens(4, 5, g, duration=1.0) for name in "ab"}
    if absent:
        inputs = without(inputs, "b", torch.tensor([True, False, True, False, False]))
    fused = op(inputs)
    vectors = [pool(tokens) for tokens in inputs.values()]
    joined = op.out(torch.cat(vectors, 1))
    torch.testing.assert_close(fused.tokens.values[:, 0], joined)
    refined, total = op.refiner(joined), 0.0
    for m, name in enumerate("ab"):
        here = inputs[name].present
        cosine = nn.functional.cosine_similarity(refined[here, 4 * m : 4 * m + 4], vectors[m][here])
        total = total + (1 - cosine).mean()
    torch.testing.assert_close(fused.auxiliary, 0.3 * total)


def test_a_vector_of_zeros_has_a_gradient_that_is_no_explosion():
    zeros = torch.zeros(1, 1, 4, requires_grad=True)
    cosine_loss(zeros, torch.ones(1, 1, 4), torch.ones(1, 1, dtype=torch.bool)).backward()
    assert zeros.grad.isfinite().all() and zeros.grad.norm() <= 1e3
