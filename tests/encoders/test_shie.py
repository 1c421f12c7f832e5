import math

import pytest
import torch

from fusionkit.encoders.shie import SubchannelEmbedding


def gelu(x):
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def plain(layer, copy, x):
    """One channel's linear map, one number at a time."""
    weight, bias = layer.weight[copy if len(layer.weight) > 1 else 0], layer.bias[copy if len(layer.bias) > 1 else 0]
    return [sum(x[i] * weight[i, o].item() for i in range(len(x))) + bias[o].item() for o in range(len(bias))]


def plain_linear(layer, x):
    return [
        sum(w * v for w, v in zip(row.tolist(), x, strict=True)) + b
        for row, b in zip(layer.weight, layer.bias.tolist(), strict=True)
    ]


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_matches_the_plain_formula(share, residual):
    module = SubchannelEmbedding(3, 2, 4, inner=2, share_subchannel=share, residual=residual).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 2, 3, 2, dtype=torch.float64)
    out = module(x)
    for b in range(2):
        for t in range(2):
            step = x[b, t].tolist()
            y = [
                plain(module.subchannel_out, f, [gelu(v) for v in plain(module.subchannel_in, f, step[f])])
                for f in range(3)
            ]
            z = []  # (inner, dim)
            for s in range(2):
                column = [y[f][s] for f in range(3)]
                z.append(plain_linear(module.channel_out, [gelu(v) for v in plain_linear(module.channel_in, column)]))
            flat = [z[s][d] for d in range(4) for s in range(2)]  # vec of (dim, inner)
            want = torch.tensor(plain_linear(module.project, flat), dtype=torch.float64)
            if residual:
                want = want + module.straight.weight @ x[b, t].flatten()
            torch.testing.assert_close(out[b, t], want)


@pytest.mark.parametrize("share", [True, False])
def test_a_change_stays_in_its_channel_and_step(share):
    module = SubchannelEmbedding(3, 4, 8, share_subchannel=share)
    x = torch.randn(2, 5, 3, 4)
    other = x.clone()
    other[1, 2, 1, 3] += 1
    first = (module.subchannels(other) != module.subchannels(x)).any(-1)
    assert first.nonzero().tolist() == [[1, 2, 1]]
    assert (module(other) != module(x)).any(-1).nonzero().tolist() == [[1, 2]]
    assert module(x).shape == (2, 5, 8)


def test_channels_share_their_first_stage_or_do_not():
    x = torch.randn(1, 1, 1, 4).expand(1, 1, 3, 4)
    shared = SubchannelEmbedding(3, 4, 8, share_subchannel=True).subchannels(x)
    apart = SubchannelEmbedding(3, 4, 8, share_subchannel=False).subchannels(x)
    torch.testing.assert_close(shared[0, 0, 0], shared[0, 0, 1])
    assert not torch.allclose(apart[0, 0, 0], apart[0, 0, 1])


def test_a_missing_channel_is_a_zero_with_a_flag():
    module = SubchannelEmbedding(3, 4, 8, masked=True)
    x = torch.randn(2, 5, 3, 4)
    known = torch.rand(2, 5, 3) > 0.5
    dirty = torch.where(known[..., None], x, torch.nan)
    assert torch.equal(module(dirty, known), module(x, known))
    assert torch.equal(module(x), module(x, torch.ones_like(known)))
    zeros = torch.where(known[..., None], x, 0.0)
    assert not torch.equal(module(zeros, known), module(zeros))  # a zero that was measured is another thing
