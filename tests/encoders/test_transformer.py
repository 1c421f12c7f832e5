import math

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features, FeatureShape
from fusionkit.encoders.position import sinusoidal
from fusionkit.encoders.transformer import TransformerBlock, TransformerEncoder


def run(module, x, mask=None):
    mask = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
    return module(Features(x, mask, torch.ones(len(x), dtype=torch.bool))).values


@pytest.mark.parametrize("dim", [6, 7])
def test_positions_match_the_plain_formula(dim):
    codes = sinusoidal(torch.zeros(2, 40, dim, dtype=torch.float64))
    for t in (0, 1, 39):
        for i in range(dim):
            angle = t * 10_000 ** (-2 * (i // 2) / dim)
            assert codes[t, i] == pytest.approx(math.cos(angle) if i % 2 else math.sin(angle), abs=1e-5)
    assert codes[0].tolist() == ([0.0, 1.0] * 4)[:dim]


def test_every_step_sees_every_real_step():
    module = TransformerEncoder(FeatureShape(2, 1), 8, layers=1).eval()
    x = torch.randn(1, 5, 2, 1)
    mask = torch.tensor([[True, True, False, True, True]])
    changed = x.clone()
    changed[0, 3] += 1
    assert (run(module, changed, mask) != run(module, x, mask)).any(-1).tolist() == [[True, True, False, True, True]]
    changed = x.clone()
    changed[0, 2] += 1  # hidden
    assert torch.equal(run(module, changed, mask), run(module, x, mask))


def test_a_causal_one_sees_no_later_step():
    module = TransformerEncoder(FeatureShape(2, 1), 8, causal=True).eval()
    x = torch.randn(1, 5, 2, 1)
    changed = x.clone()
    changed[0, 3] += 1
    assert (run(module, changed) != run(module, x)).any(-1).tolist() == [[False, False, False, True, True]]


def test_order_matters():
    module = TransformerEncoder(FeatureShape(2, 1), 8).eval()
    x = torch.randn(1, 5, 2, 1)
    assert not torch.allclose(run(module, x.flip(1)).flip(1), run(module, x), atol=1e-3)


def test_a_block_with_silent_outputs_is_the_identity():
    block = TransformerBlock(8, 2)
    for layer in (block.attention.out, block.feed_out):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    x = torch.randn(2, 3, 8)
    assert torch.equal(block(x, None), x)


def test_heads_must_divide_dim():
    with pytest.raises(ConfigError, match="3 does not divide 8"):
        TransformerEncoder(FeatureShape(2, 1), 8, heads=3)
