"""Layers with weights of their own for every branch: against torch's own layers, one branch at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Tokens
from fusionkit.fusion.branches import (
    BranchAttention,
    BranchBlock,
    BranchLinear,
    BranchNorm,
    BranchShares,
    group_lengths,
    in_one_row,
    last_real,
    masked_softmax,
    product,
    some_branches,
    stack_streams,
)
from fusionkit.fusion.causal import BranchLSTM, CausalAttention, rotate, sinusoid


def shaken(module):
    """No weight at its tidy start."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.double()


def states(branches=3, batch=2, steps=5, dim=8):
    return torch.randn(branches, batch, steps, dim, dtype=torch.float64)


def everything(x):
    return torch.ones(x.shape[:3], dtype=torch.bool)


def test_linear_and_norm_equal_one_layer_a_branch():
    x, linear, norm = states(), shaken(BranchLinear(3, 8, 6)), shaken(BranchNorm(3, 8))
    for m in range(3):
        torch.testing.assert_close(linear(x)[m], F.linear(x[m], linear.weight[m].T, linear.bias[m]))
        torch.testing.assert_close(norm(x)[m], F.layer_norm(x[m], (8,), norm.weight[m], norm.bias[m]))


@pytest.mark.parametrize("groups", [4, 2, 1])
def test_grouped_query_attention_equals_torchs(groups):
    """With as many groups as heads it is multi-head attention, with one group multi-query attention."""
    x, attend = states(), shaken(CausalAttention(3, 8, 4, groups, rotary=False))
    got = attend(x, everything(x))
    for m in range(3):
        q, k, v = F.linear(x[m], attend.qkv.weight[m].T).split([8, 2 * groups, 2 * groups], -1)
        q = q.reshape(2, 5, 4, 2).transpose(1, 2)
        k, v = (part.reshape(2, 5, groups, 2).transpose(1, 2) for part in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        expected = F.linear(mixed.transpose(1, 2).reshape(2, 5, 8), attend.out.weight[m].T)
        torch.testing.assert_close(got[m], expected)


def test_steps_that_are_not_real_are_no_keys_and_a_step_without_any_gives_zero():
    x, attend = states(), shaken(CausalAttention(3, 8, 4, 2, rotary=False))
    mask = torch.tensor([False, True, False, True, True]).expand(3, 2, 5)
    got = attend(x, mask)
    short = x[:, :, [1, 3, 4]]
    torch.testing.assert_close(got[:, :, [1, 3, 4]], attend(short, everything(short)))
    assert got[:, :, 0].abs().sum() == 0


def test_rotary_products_depend_on_distance_only_and_keep_lengths():
    q, k = torch.randn(2, 6, dtype=torch.float64)
    turned_q, turned_k = (rotate(x.expand(9, 6)) for x in (q, k))
    products = turned_q @ turned_k.T
    for distance in range(-5, 6):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    torch.testing.assert_close(turned_q.norm(dim=1), q.norm().expand(9))
    assert torch.equal(turned_q[0], q)
    angle = torch.tensor(3 * 10000 ** (-2 * 1 / 6), dtype=torch.float64)
    torch.testing.assert_close(turned_q[3, 1], q[1] * angle.cos() - q[4] * angle.sin(), atol=1e-6, rtol=1e-6)


def test_sinusoid_starts_with_zeros_and_ones():
    table = sinusoid(4, 7, torch.zeros(1))
    assert table.shape == (4, 7)
    assert table[0].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    torch.testing.assert_close(table[:, 0], torch.arange(4.0).sin())


def test_lstm_equals_torchs():
    x, lstm = states(), shaken(BranchLSTM(3, 8))
    for m in range(3):
        plain = nn.LSTM(8, 8, batch_first=True).double()
        plain.weight_ih_l0.data, plain.bias_ih_l0.data = lstm.input.weight[m].T.detach(), lstm.input.bias[m].detach()
        plain.weight_hh_l0.data = lstm.recurrent[m].T.detach()
        plain.bias_hh_l0.data.zero_()
        torch.testing.assert_close(lstm(x, everything(x))[m], plain(x[m])[0])


def test_lstm_steps_over_what_is_not_real():
    x, lstm = states(), shaken(BranchLSTM(3, 8))
    mask = torch.tensor([False, True, True, False, True]).expand(3, 2, 5)
    got = lstm(x, mask)
    short = x[:, :, [1, 2, 4]]
    torch.testing.assert_close(got[:, :, [1, 2, 4]], lstm(short, everything(short)))
    assert got[:, :, 0].abs().sum() == 0
    assert torch.equal(got[:, :, 3], got[:, :, 2])


def test_masked_softmax_sums_to_one_or_is_zero():
    scores = torch.randn(3, 4)
    mask = torch.tensor([[True] * 4, [True, False, True, False], [False] * 4])
    weights = masked_softmax(scores, mask)
    torch.testing.assert_close(weights.sum(-1), torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(weights[1, [0, 2]], scores[1, [0, 2]].softmax(-1))
    assert weights[~mask].abs().sum() == 0


def test_softmax_over_another_axis():
    scores, mask = torch.randn(3, 4), torch.rand(3, 4) > 0.3
    torch.testing.assert_close(masked_softmax(scores.T, mask.T, axis=0).T, masked_softmax(scores, mask))


def test_attention_equals_torchs_in_every_branch():
    x, source, attend = states(), states(steps=7, dim=6), shaken(BranchAttention(3, 8, 4, source=6))
    mask = torch.rand(3, 2, 7) > 0.4
    mask[..., 0], mask[1, 0] = True, False
    got = attend(x, source, mask)
    assert (got[1, 0] == 0).all()  # nothing to look at
    for m in range(3):
        theirs = nn.MultiheadAttention(8, 4, kdim=6, vdim=6, batch_first=True).double()
        bias = torch.cat([attend.query.bias[m], torch.zeros(8), attend.value.bias[m]])
        for name, value in (
            ("q_proj_weight", attend.query.weight[m].T), ("k_proj_weight", attend.key.weight[m].T),
            ("v_proj_weight", attend.value.weight[m].T), ("in_proj_bias", bias),
            ("out_proj.weight", attend.out.weight[m].T), ("out_proj.bias", attend.out.bias[m]),
        ):  # fmt: skip
            theirs.get_parameter(name).data = value.detach()
        want, _ = theirs(x[m], source[m], source[m], key_padding_mask=~mask[m])
        seen = mask[m].any(1)
        torch.testing.assert_close(got[m][seen], want[seen])


def test_the_mean_over_shares_is_one_linear_layer():
    x, share = torch.randn(3, 5, 4, dtype=torch.float64), shaken(BranchShares(3, 4, 6))
    whole = F.linear(x.transpose(0, 1).flatten(1), share.weight.flatten(0, 1).T, share.bias)
    torch.testing.assert_close(share(x).mean(1), whole)


def test_streams_are_stacked_and_put_in_one_row():
    def stream(length, timed):
        mask, time = torch.ones(2, length, dtype=torch.bool), torch.arange(float(length)).expand(2, -1)
        return Tokens(
            torch.full((2, length, 3), float(length)), mask, torch.tensor([True, length > 1]), time if timed else None
        )

    values, mask = stack_streams([stream(1, True), stream(3, True)])
    assert values.shape == (2, 2, 3, 3)
    assert values[:, 0, :, 0].tolist() == [[1.0, 0.0, 0.0], [3.0, 3.0, 3.0]]
    assert mask[:, 0].tolist() == [[True, False, False], [True, True, True]]
    row = in_one_row([stream(1, True), stream(3, True)])
    assert row.values[0, :, 0].tolist() == [1.0, 3.0, 3.0, 3.0]
    assert row.time is not None and row.time[0].tolist() == [0.0, 0.0, 1.0, 2.0]
    assert row.present.tolist() == [True, True]
    assert in_one_row([stream(1, True), stream(3, False)]).time is None


def test_the_last_real_step():
    values = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1).expand(3, 3, 1)
    mask = torch.tensor([[True, True, False], [True, False, True], [False] * 3])
    assert last_real(values, mask).flatten().tolist() == [2.0, 3.0, 0.0]


@pytest.mark.parametrize("rotary", [False, True])
def test_a_step_of_attention_beyond_its_memory_sees_the_newest_steps(rotary):
    """With a memory of three, step 4 sees steps 2 to 4; turned keys keep their distance."""
    x, attend = states(), shaken(CausalAttention(3, 8, 4, 2, rotary=rotary))
    past = tuple(torch.zeros(3, 2, 2, 3, 2, dtype=torch.float64) for _ in range(2))
    for number in range(5):
        mask = (torch.arange(3) >= 2 - number).expand(3, 2, 3)
        got, past = attend.step(x[:, :, number, None], past, mask)
    want = attend(x[:, :, 2:], everything(x[:, :, 2:]))[:, :, -1:]
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((8, 3, 1), "heads must divide dim, but 3"),
        ((8, 4, 3), "kv_groups must divide heads, but 3"),
        ((6, 2, 1), "even"),
    ],
)
def test_numbers_that_do_not_divide_are_refused(numbers, message):
    dim, heads, groups = numbers
    with pytest.raises(ConfigError, match=message):
        CausalAttention(2, dim, heads, groups, rotary=True)


@pytest.mark.parametrize(("width", "keys"), [(24, 5), (24, 100), (96, 5)])
def test_few_narrow_keys_and_many_wide_ones_are_attended_alike(width, keys):
    """Both ways to mix, against torch's attention under the same mask, with gradients."""
    torch.manual_seed(0)
    attention = BranchAttention(2, width, 3).double()
    query, source = (torch.randn(2, 4, tokens, width, dtype=torch.float64) for tokens in (50, keys))
    source.requires_grad_()
    mask = torch.rand(2, 4, keys) < 0.6
    mask[0, 1] = False
    found = attention(query, source, mask)
    parts = {}
    for name, x in (("query", query), ("key", source), ("value", source)):
        layer = getattr(attention, name)
        made = torch.einsum("bnti,bio->bnto", x, layer.weight)
        made = made if layer.bias is None else made + layer.bias[:, None, None]
        parts[name] = made.unflatten(3, (3, -1)).transpose(2, 3)
    scores = parts["query"] @ parts["key"].transpose(3, 4) * (width / 3) ** -0.5
    weights = scores.masked_fill(~mask[:, :, None, None], -torch.inf).softmax(-1).nan_to_num(0.0)
    mixed = (weights @ parts["value"]).transpose(2, 3).flatten(3)
    wanted = torch.einsum("bnti,bio->bnto", mixed, attention.out.weight) + attention.out.bias[:, None, None]
    wanted = torch.where(mask.any(2)[..., None, None], wanted, 0.0)
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(answer.square().sum(), source)[0] for answer in (found, wanted)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("out", [7, 16, 17, 30, 48])
def test_products_of_many_rows_are_the_plain_ones(out):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 300, 5, requires_grad=True), torch.randn(2, 5, out), torch.randn(2, out)
    for added in (bias, None):
        found = product(x, weight, added)
        wanted = torch.einsum("bri,bio->bro", x, weight) + (0 if added is None else added[:, None])
        torch.testing.assert_close(found, wanted)
        gradients = [torch.autograd.grad(answer.square().sum(), x)[0] for answer in (found, wanted)]
        torch.testing.assert_close(*gradients)


def test_some_branches_answer_as_they_do_among_all_and_learn_alone():
    block = shaken(BranchBlock(3, 6, 2, dropout=0.0, activation=torch.relu)).double()
    x, mask = torch.randn(3, 4, 5, 6, dtype=torch.float64), torch.rand(3, 4, 5) > 0.3
    whole = block(x, mask)
    assert torch.equal(some_branches(block, range(3), x, mask), whole)
    some = some_branches(block, [2, 0], x[[2, 0]], mask[[2, 0]])
    torch.testing.assert_close(some, whole[[2, 0]])
    some.square().sum().backward()
    assert all((parameter.grad[1] == 0).all() and parameter.grad[[0, 2]].any() for parameter in block.parameters())


def test_streams_of_about_one_length_are_one_group():
    assert group_lengths([1, 64, 1, 50]) == [[0, 2], [1, 3]]
    assert group_lengths([3, 7, 1, 20]) == [[2], [0], [1], [3]]
    assert group_lengths([8, 8, 8]) == [[0, 1, 2]] and group_lengths([4, 8, 9]) == [[0, 1], [2]]
