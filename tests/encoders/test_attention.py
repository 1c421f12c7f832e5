import pytest
import torch
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError
from fusionkit.encoders.attention import MultiHeadAttention


def plain_attention(module, query, key, value, allowed):
    """One row, one head, one query at a time."""
    q, k, v = module.query(query), module.key(key), module.value(value)
    batch, queries, _ = q.shape
    w, share = module.width, module.heads // module.groups
    out = torch.zeros_like(q)
    for b in range(batch):
        for h in range(module.heads):
            g = h // share
            for i in range(queries):
                seen = [j for j in range(key.shape[1]) if allowed[b, i, j]]
                if not seen:
                    continue
                kk, vv = k[b, seen, g * w : (g + 1) * w], v[b, seen, g * w : (g + 1) * w]
                weight = torch.softmax(kk @ q[b, i, h * w : (h + 1) * w] / w**0.5, 0)
                out[b, i, h * w : (h + 1) * w] = weight @ vv
    out = module.out(out)
    return torch.where(allowed.any(-1)[..., None], out, 0.0)


@pytest.mark.parametrize("groups", [None, 2, 1])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_matches_a_plain_loop(groups, causal, masked):
    module = MultiHeadAttention(8, 4, kv_groups=groups).double()
    torch.nn.init.normal_(module.out.bias)
    query, key, value = (torch.randn(3, n, 8, dtype=torch.float64) for n in (5, 6, 6))
    mask = torch.rand(3, 6) > 0.4
    mask[0, 0], mask[1] = False, False
    allowed = torch.ones(3, 5, 6, dtype=torch.bool)
    if masked:
        allowed &= mask[:, None]
    if causal:
        allowed &= torch.ones(5, 6, dtype=torch.bool).tril()
    got = module(query, key, value, mask if masked else None, causal)
    torch.testing.assert_close(got, plain_attention(module, query, key, value, allowed))
    if masked:
        assert (got[1] == 0).all()


def test_matches_torch_with_as_many_groups_as_heads():
    module = MultiHeadAttention(8, 2, kv_groups=2)
    x = torch.randn(2, 5, 8)
    q, k, v = (f(x).unflatten(2, (2, 4)).transpose(1, 2) for f in (module.query, module.key, module.value))
    want = module.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(x, x, x, causal=True), want)


def test_values_of_masked_keys_reach_neither_output_nor_gradient():
    module = MultiHeadAttention(4, 2)
    query, key = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    mask = torch.tensor([[True, True, False, True, False], [False] * 5])
    want = module(query, key, key, mask)
    dirty = torch.where(mask[..., None], key, torch.nan).requires_grad_()
    got = module(query, dirty, dirty, mask)
    assert torch.equal(got, want)
    got.sum().backward()
    assert (dirty.grad[~mask] == 0).all()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_the_future_is_not_seen():
    module = MultiHeadAttention(4, 2)
    x = torch.randn(1, 6, 4)
    later = x.clone()
    later[:, 4:] += 1
    assert torch.equal(module(x, x, x, causal=True)[:, :4], module(later, later, later, causal=True)[:, :4])
    assert not torch.equal(module(x, x, x)[:, :4], module(later, later, later)[:, :4])


def test_dropout_is_off_in_evaluation():
    module = MultiHeadAttention(4, 2, dropout=0.5)
    x = torch.randn(1, 6, 4)
    assert not torch.equal(module(x, x, x), module(x, x, x))
    module.eval()
    assert torch.equal(module(x, x, x), module(x, x, x))


@pytest.mark.parametrize(
    ("heads", "groups", "message"), [(3, None, "3 does not divide 8"), (4, 3, "3 does not divide 4")]
)
def test_what_does_not_divide_is_refused(heads, groups, message):
    with pytest.raises(ConfigError, match=message):
        MultiHeadAttention(8, heads, kv_groups=groups)


def test_exports_with_dynamic_batch_and_lengths():
    module = MultiHeadAttention(4, 2, kv_groups=1).eval()
    batch, keys = torch.export.Dim("batch", min=1), torch.export.Dim("keys", min=1)
    x, mask = torch.randn(3, 7, 4), torch.ones(3, 7, dtype=torch.bool)
    shape = {0: batch, 1: keys}
    program = torch.export.export(module, (x, x, x, mask, True), dynamic_shapes=(shape, shape, shape, shape, None))
    y, m = torch.randn(2, 4, 4), torch.rand(2, 4) > 0.5
    torch.testing.assert_close(program.module()(y, y, y, m, True), module(y, y, y, m, True))
