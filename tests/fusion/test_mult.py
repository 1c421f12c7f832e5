"""MulT: against the paper one row, one stack and one head at a time, and what lengths, masks and absence may not change."""

import math

import pytest
import torch
import torch.nn.functional as F

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Tokens, pool
from fusionkit.fusion import branches
from fusionkit.fusion.mult import MulT, positions

NAN = float("nan")
DIM = 6


def shaken(model):
    """No weight at its tidy start."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def make(widths=None, **options):
    return shaken(MulT(widths or {"a": DIM, "b": 4, "c": DIM}, DIM, None, **{"layers": 2, "heads": 3, **options}))


def tokens(batch, length, width, mask=None, present=None):
    return Tokens(
        torch.randn(batch, length, width, dtype=torch.float64),
        torch.ones(batch, length, dtype=torch.bool) if mask is None else mask,
        torch.ones(batch, dtype=torch.bool) if present is None else present,
    )


def make_batch():
    """Unequal lengths, padding, a hole, an absent sensor, and a row with nothing at all."""
    b_mask = torch.ones(4, 7, dtype=torch.bool)
    b_mask[0, 5:], b_mask[1, 2] = False, False
    here = torch.arange(4) != 3
    return {
        "a": tokens(4, 3, DIM, present=here),
        "b": tokens(4, 7, 4, b_mask, here),
        "c": tokens(4, 5, DIM, present=torch.tensor([True, True, False, False])),
    }


# the definition


def norm(x, layer, m):
    return F.layer_norm(x, x.shape[-1:]) * layer.weight[m] + layer.bias[m]


def plain_block(block, m, heads, x, source, real):
    """One layer of one stack of one row: ``x`` is (step, width)."""
    a = block.attention
    q = norm(x, block.attention_norm, m) @ a.query.weight[m] + a.query.bias[m]
    looked = norm(source, block.attention_norm, m)
    k, v = looked @ a.key.weight[m], looked @ a.value.weight[m] + a.value.bias[m]
    width = x.shape[1] // heads
    keys = [j for j in range(len(source)) if real[j]]
    taken = torch.zeros_like(x)
    for i in range(len(x)):
        if not keys:
            continue
        parts = []
        for h in range(heads):
            cut = slice(h * width, (h + 1) * width)
            weight = torch.stack([q[i, cut] @ k[j, cut] / math.sqrt(width) for j in keys]).softmax(0)
            parts.append(sum(w * v[j, cut] for w, j in zip(weight, keys, strict=True)))
        taken[i] = torch.cat(parts) @ a.out.weight[m] + a.out.bias[m]
    x = x + taken
    hidden = F.relu(norm(x, block.feed_norm, m) @ block.feed_in.weight[m] + block.feed_in.bias[m])
    return x + hidden @ block.feed_out.weight[m] + block.feed_out.bias[m]


def plain_code(step, dim):
    half = dim // 2
    angles = [step * math.exp(-k * math.log(10000) / max(half - 1, 1)) for k in range(half)]
    return torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles] + [0.0] * (dim % 2))


def plain_mult(model, batch, heads=3):
    """The answer of each row, and each target's token."""
    names, answers, every = list(batch), [], []
    for row in range(len(batch["a"].present)):
        low, real = [], []
        for name, project in zip(names, model.project, strict=True):
            part = batch[name]
            real.append((part.mask[row] & part.present[row]).tolist())
            x = torch.where(torch.tensor(real[-1])[:, None], part.values[row], 0.0)
            x = project(x) * math.sqrt(DIM)
            low.append(torch.stack([x[t] + plain_code(t + 1, DIM) for t in range(len(x))]).double())
        ends, stack = [], 0
        for target in range(len(names)):
            beside = []
            for source in range(len(names)):
                if source == target:
                    continue
                z = low[target]
                for block in model.cross:
                    z = plain_block(block, stack, heads, z, low[source], real[source])  # never an updated source
                beside.append(norm(z, model.cross_norm, stack))
                stack += 1
            h = torch.cat(beside, 1)
            for block in model.memory:
                h = plain_block(block, target, heads, h, h, real[target])
            h = norm(h, model.memory_norm, target)
            places = [t for t in range(len(h)) if real[target][t]]
            ends.append(h[places[-1]] if places else torch.zeros_like(h[0]))
        assert stack == len(names) * (len(names) - 1)
        s = torch.cat(ends)
        s = s + model.residual(F.relu(model.hidden(s)))
        shares = [part @ w for part, w in zip(s.chunk(len(names)), model.out.weight, strict=True)]
        some = [any(one) for one in real]
        tokens = [len(names) * share + model.out.bias for share in shares]
        every.append(torch.stack([t if there else torch.zeros(DIM) for t, there in zip(tokens, some, strict=True)]))
        answers.append(torch.cat([s]) @ model.out.weight.flatten(0, 1) + model.out.bias)
    return torch.stack(answers), torch.stack(every)


@torch.no_grad()
def test_matches_the_plain_definition():
    model, batch = make(), make_batch()
    got = model(batch)
    answer, every = plain_mult(model, batch)
    torch.testing.assert_close(got.values, every, atol=1e-6, rtol=1e-6)  # angles of positions are float32
    torch.testing.assert_close(pool(got)[:2], answer[:2], atol=1e-6, rtol=1e-6)  # nothing absent: the paper's vector
    assert got.mask.tolist() == [[True] * 3, [True] * 3, [True, True, False], [False] * 3]
    assert got.present.tolist() == [True, True, True, False]


def test_one_block_is_torchs_layer():
    """With one source for queries and keys a block is torch's pre-norm encoder layer."""
    block = make().memory[0]
    wide = 2 * DIM
    theirs = torch.nn.TransformerEncoderLayer(wide, 3, 4 * wide, 0.0, batch_first=True, norm_first=True).double()
    a = block.attention
    with torch.no_grad():
        for m in range(3):
            theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight[m].T for p in (a.query, a.key, a.value)]))
            theirs.self_attn.in_proj_bias.copy_(torch.cat([a.query.bias[m], torch.zeros(wide), a.value.bias[m]]))
            for ours, other in (
                (a.out, theirs.self_attn.out_proj), (block.feed_in, theirs.linear1), (block.feed_out, theirs.linear2)
            ):  # fmt: skip
                other.weight.copy_(ours.weight[m].T)
                other.bias.copy_(ours.bias[m])
            for ours, other in ((block.attention_norm, theirs.norm1), (block.feed_norm, theirs.norm2)):
                other.weight.copy_(ours.weight[m])
                other.bias.copy_(ours.bias[m])
            x, mask = torch.randn(3, 2, 5, wide).double(), torch.rand(2, 5) > 0.3
            mask[:, 0] = True
            want = theirs(x[m], src_key_padding_mask=~mask)
            torch.testing.assert_close(block(x, mask.expand(3, -1, -1))[m], want)


def test_stacks_are_directed_and_there_are_none_from_a_sensor_to_itself():
    assert [len(make(dict.fromkeys("abcd"[:m], DIM)).pairs) for m in (2, 3, 4)] == [2, 6, 12]
    assert make().pairs == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]


def test_positions_by_head_and_never_of_what_is_in_a_step():
    code = positions(2, 5, torch.zeros(1).double())
    want = [math.sin(1), math.sin(1e-4), math.cos(1), math.cos(1e-4), 0.0]
    torch.testing.assert_close(code[0], torch.tensor(want).double(), atol=1e-6, rtol=1e-6)
    model, batch = make(), make_batch()
    batch["a"].values[:, 1, 0] = 0.0  # the authors' code takes this step for padding
    near = {**batch, "a": batch["a"]._replace(values=batch["a"].values + 1e-9 * (batch["a"].values == 0))}
    torch.testing.assert_close(model(near).values, model(batch).values, atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_the_order_of_steps_matters_and_padding_does_not():
    model, batch = make(), make_batch()
    plain = model(batch).values
    turned = {**batch, "b": batch["b"]._replace(values=batch["b"].values.flip(1), mask=batch["b"].mask.flip(1))}
    assert (model(turned).values[:3] - plain[:3]).abs().amax((1, 2)).min() > 1e-3
    for name, part in batch.items():
        pad = torch.full_like(part.values[:, :2], NAN)
        mask = torch.cat([part.mask, torch.zeros(4, 2, dtype=torch.bool)], 1)
        longer = {**batch, name: part._replace(values=torch.cat([part.values, pad], 1), mask=mask)}
        torch.testing.assert_close(model(longer).values, plain)


@torch.no_grad()
def test_an_absent_sensor_is_as_if_it_were_never_looked_at():
    """Row 2 has no third sensor: its stacks take nothing, and nothing that is in it matters."""
    model, batch = make(), make_batch()
    batch["c"].values[2] = NAN
    got = model(batch)
    assert got.values.isfinite().all()
    assert (got.values[2, 2] == 0).all() and (got.values[3] == 0).all()
    quiet = torch.where(batch["c"].present[:, None, None], batch["c"].values, 7.0)
    assert torch.equal(model({**batch, "c": batch["c"]._replace(values=quiet)}).values, got.values)


def test_streams_of_unequal_lengths_are_computed_apart_and_come_to_the_same(monkeypatch):
    """Values and gradients are those of all streams padded to the longest one."""
    model = make({"a": DIM, "b": 4, "c": DIM, "d": DIM}, dropout=0.0, embed_dropout=0.0)
    batch = {**make_batch(), "c": tokens(4, 1, DIM), "d": tokens(4, 20, DIM, torch.rand(4, 20) > 0.3)}

    def run():
        model.zero_grad()
        got = model(batch)
        got.values.square().sum().backward()
        return got, [parameter.grad.clone() for parameter in model.parameters()]

    apart, there = run()
    monkeypatch.setattr(branches, "group_lengths", lambda lengths: [list(range(len(lengths)))])
    together, wanted = run()
    assert torch.equal(apart.mask, together.mask) and torch.equal(apart.present, together.present)
    torch.testing.assert_close(apart.values, together.values, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(there, wanted, atol=1e-9, rtol=1e-9)


def test_a_short_stream_is_not_padded_to_a_long_one():
    """Three vectors beside a text: the steps that the cross-modal stacks compute, each once a pair."""
    model = make(dict.fromkeys("abcd", DIM))
    steps = []
    model.cross[0].feed_in.register_forward_hook(lambda layer, given, made: steps.append(made.shape[0] * made.shape[2]))
    model({"a": tokens(2, 64, DIM), **{name: tokens(2, 1, DIM) for name in "bcd"}})
    assert sum(steps) == 3 * 64 + 9 * 1


def test_gradients_reach_every_weight_and_no_masked_value():
    model, batch = make(dropout=0.0).train(), make_batch()
    leaves = {name: part.values.requires_grad_() for name, part in batch.items()}
    model(batch).values.square().sum().backward()
    for name, part in batch.items():
        real = part.mask & part.present[:, None]
        assert leaves[name].grad[~real].abs().sum() == 0
        assert (leaves[name].grad[real].abs().sum(-1) > 0).all()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.parameters())


def test_self_attention_has_at_least_three_layers():
    assert [len(make(layers=n).memory) for n in (1, 3, 5)] == [3, 3, 5]
    assert [len(make(layers=n).cross) for n in (1, 3, 5)] == [1, 3, 5]


def test_it_refuses_one_sensor_and_heads_that_do_not_divide():
    with pytest.raises(ConfigError, match="two inputs, but got 1"):
        MulT({"a": 8}, 8, None)
    with pytest.raises(ConfigError, match="3 does not divide 8"):
        MulT({"a": 8, "b": 8}, 8, None, heads=3)
