"""Perceiver: against HighMMT one row, one sensor and one pair at a time, and what is shared by all of them."""

import math

import pytest
import torch
import torch.nn.functional as F

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Tokens, pool
from fusionkit.fusion.perceiver import Perceiver

NAN = float("nan")
DIM = 8


def make(widths=None, **options):
    model = Perceiver(widths or {"a": 3, "b": 5, "c": DIM}, DIM, 2.0, **{"latents": 4, "heads": 2, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def stream(length, width, timed=True, batch=4):
    time = ((torch.arange(length) + 0.5) / length * 2.0).double().expand(batch, -1) if timed else None
    values = torch.randn(batch, length, width, dtype=torch.float64)
    return Tokens(values, torch.ones(batch, length, dtype=torch.bool), torch.ones(batch, dtype=torch.bool), time)


def make_batch():
    batch = {"a": stream(3, 3), "b": stream(6, 5), "c": stream(4, DIM, timed=False)}
    batch["b"].mask[0, 4:] = False
    batch["c"].mask[1, 1] = False
    batch["c"].present[2] = False
    for part in batch.values():
        part.present[3] = False
    return batch


def attend(a, heads, x, source):
    """All queries at all of a source, which may be nothing."""
    if not len(source):
        return torch.zeros_like(x)
    q, k = x @ a.query.weight[0] + a.query.bias[0], source @ a.key.weight[0]
    v, width = source @ a.value.weight[0] + a.value.bias[0], x.shape[1] // heads
    parts = []
    for h in range(heads):
        cut = slice(h * width, (h + 1) * width)
        parts.append((q[:, cut] @ k[:, cut].T / math.sqrt(width)).softmax(1) @ v[:, cut])
    return torch.cat(parts, 1) @ a.out.weight[0] + a.out.bias[0]


def plain_block(block, x, source):
    x = x + attend(block.cross, 1, block.cross_norm(x), block.source_norm(source))
    first, second = block.feed[1], block.feed[4]
    x = x + second(F.gelu(first(block.feed[0](x))))
    n = block.self_norm(x)
    return x + attend(block.attention, 2, n, n)


def plain_perceiver(model, batch, layers=1):
    """The answer of each row as one vector, and the normed numbers before the last layer."""
    names, answers, inner = list(batch), [], []
    for row in range(4):
        latents, some = [], []
        for m, part in enumerate(batch.values()):
            real = part.mask[row] & part.present[row]
            count = int(real.sum())
            where = torch.linspace(-1, 1, count).double() if part.time is None else part.time[row, real] - 1
            source = torch.zeros(count, DIM + 13 + 10, dtype=torch.float64)
            for i, x in enumerate(part.values[row, real]):
                source[i, : len(x)] = x
                bands = [math.pi * 2**k * float(where[i]) for k in range(6)]
                code = [math.sin(b) for b in bands] + [math.cos(b) for b in bands] + [float(where[i])]
                source[i, DIM : DIM + 13] = torch.tensor(code)
                source[i, DIM + 13 :] = model.sensor[m]
            z = model.latents
            for _ in range(layers):
                z = plain_block(model.encoder, z, source)
            latents.append(z)
            some.append(count > 0)
        last = []
        for i in range(len(names)):
            for j in range(len(names)):
                if i != j:
                    x = plain_block(model.crossing, latents[i], latents[j] if some[j] else latents[j][:0])
                    last.append(x[-1] if some[i] else torch.zeros_like(x[-1]))
        normed = model.norm(torch.cat(last))
        inner.append(normed)
        answers.append(normed @ model.out.weight.flatten(0, 1) + model.out.bias)
    return torch.stack(answers), torch.stack(inner)


@torch.no_grad()
@pytest.mark.parametrize("layers", [1, 2])
def test_matches_the_plain_definition(layers):
    model, batch = make(layers=layers), make_batch()
    got = model(batch)
    answers, inner = plain_perceiver(model, batch, layers)
    assert inner.shape == (4, 3 * 2 * DIM)  # n (n - 1) d
    torch.testing.assert_close(pool(got)[:2], answers[:2], atol=1e-5, rtol=1e-5)  # nothing absent: the paper's vector
    for row in range(3):
        for m in range(3):
            if got.mask[row, m]:
                share = 3 * inner[row].reshape(3, -1)[m] @ model.out.weight[m] + model.out.bias
                torch.testing.assert_close(got.values[row, m], share, atol=1e-5, rtol=1e-5)
    assert got.mask.tolist() == [[True] * 3, [True] * 3, [True, True, False], [False] * 3]
    assert (got.values[~got.mask] == 0).all()


@pytest.mark.parametrize(("count", "width"), [(2, 128), (3, 384), (4, 768)])
def test_the_width_of_the_pairs_is_the_papers(count, width):
    model = Perceiver(dict.fromkeys("abcd"[:count], 64), 64, None)
    assert model.norm.normalized_shape == (width,)
    assert len(model.pairs) == count * (count - 1)


def test_all_but_the_sensors_numbers_and_the_last_layer_is_shared():
    def sizes(model):
        return {
            name: p.numel() for name, p in model.named_parameters() if not name.startswith(("out", "norm", "sensor"))
        }

    assert sizes(make(dict.fromkeys("ab", DIM))) == sizes(make(dict.fromkeys("abcd", DIM)))


@torch.no_grad()
def test_layers_are_tied():
    assert sum(p.numel() for p in make(layers=3).parameters()) == sum(p.numel() for p in make().parameters())


@torch.no_grad()
def test_any_subset_of_sensors_gives_an_answer_and_absent_values_change_no_bit():
    model, batch = make(), make_batch()
    for gone in (["a"], ["b"], ["c"], ["a", "b"], ["b", "c"], ["a", "b", "c"]):
        outcomes = []
        for filling in (0.0, 9.0, NAN):
            part = dict(batch)
            for name in gone:
                values = torch.full_like(batch[name].values, filling)
                part[name] = batch[name]._replace(values=values, present=torch.zeros(4, dtype=torch.bool))
            outcomes.append(model(part))
        assert all(torch.equal(outcomes[0].values, other.values) for other in outcomes[1:])
        assert outcomes[0].values.isfinite().all()
        assert outcomes[0].mask[:2].sum(1).tolist() == [3 - len(gone)] * 2


def test_every_sensor_hears_every_other_one_and_no_masked_value_has_a_gradient():
    model, batch = make().train(), make_batch()
    leaves = {name: part.values.requires_grad_() for name, part in batch.items()}
    got = model(batch)
    for m in range(3):
        heard = torch.autograd.grad(got.values[0, m].square().sum(), list(leaves.values()), retain_graph=True)
        assert all(gradient[0].abs().max() > 1e-8 for gradient in heard)
    got.values.square().sum().backward()
    for name, part in batch.items():
        assert leaves[name].grad[~(part.mask & part.present[:, None])].abs().sum() == 0
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.parameters())


def test_it_refuses_one_sensor_and_heads_that_do_not_divide():
    with pytest.raises(ConfigError, match="two inputs, but got 1"):
        Perceiver({"a": 8}, 8, None)
    with pytest.raises(ConfigError, match="3 does not divide 8"):
        make(heads=3)
