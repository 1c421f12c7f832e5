import torch
from torch.nn import functional as F

from fusionkit.core.levels import Features, FeatureShape
from fusionkit.encoders.mlp import MLPEncoder


def test_matches_the_formula():
    module = MLPEncoder(FeatureShape(3, 2), 4, hidden=5).eval()
    x = torch.randn(2, 7, 3, 2)
    flat = x.reshape(2, 7, 6)
    hidden = F.gelu(flat @ module.hidden.weight.T + module.hidden.bias)
    out = hidden @ module.out.weight.T + module.out.bias + flat @ module.shortcut.weight.T
    want = (out - out.mean(-1, keepdim=True)) / (out.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    got = module(Features(x, torch.ones(2, 7, dtype=torch.bool), torch.ones(2, dtype=torch.bool)))
    torch.testing.assert_close(got.values, want)


def test_steps_do_not_meet():
    module = MLPEncoder(FeatureShape(3, 2), 4).eval()
    mask, present = torch.ones(1, 7, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    x = torch.randn(1, 7, 3, 2)
    other = x.clone()
    other[0, 3] += 1
    changed = module(Features(other, mask, present)).values != module(Features(x, mask, present)).values
    assert changed.any(-1).nonzero().tolist() == [[0, 3]]
