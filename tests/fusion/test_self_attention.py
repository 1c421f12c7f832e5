"""Self-attention over one row: against torch's own encoder, and what makes sensors and times tell apart."""

import pytest
import torch

from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.core.levels import Tokens, pool
from fusionkit.fusion.position import fourier, place
from fusionkit.fusion.self_attention import SelfAttention

DIM = 8


def make(widths=None, duration=2.0, **options):
    model = SelfAttention(widths or {"a": DIM, "b": 5, "c": DIM}, DIM, duration, **{"heads": 2, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def stream(length, width, timed=True, batch=3):
    time = ((torch.arange(length) + 0.5) / length * 2.0).double().expand(batch, -1) if timed else None
    values = torch.randn(batch, length, width, dtype=torch.float64)
    return Tokens(values, torch.ones(batch, length, dtype=torch.bool), torch.ones(batch, dtype=torch.bool), time)


def make_batch():
    batch = {"a": stream(3, DIM), "b": stream(6, 5), "c": stream(4, DIM, timed=False)}
    batch["b"].mask[0, 4:] = False
    batch["c"].present[1] = False
    for part in batch.values():
        part.present[2] = False
    return batch


def torchs(model):
    """The blocks as layers of torch."""
    layers = []
    for block in model.blocks:
        layer = torch.nn.TransformerEncoderLayer(
            DIM, 2, 2 * DIM, 0.0, activation="gelu", batch_first=True, norm_first=True
        ).double()
        a = block.attention
        state = {
            "self_attn.in_proj_weight": torch.cat([a.query.weight, a.key.weight, a.value.weight]),
            "self_attn.in_proj_bias": torch.cat([a.query.bias, torch.zeros(DIM), a.value.bias]),
        }
        pairs = {"self_attn.out_proj": a.out, "linear1": block.feed_in, "linear2": block.feed_out}
        for theirs, ours in {**pairs, "norm1": block.attention_norm, "norm2": block.feed_norm}.items():
            state |= {f"{theirs}.weight": ours.weight, f"{theirs}.bias": ours.bias}
        layer.load_state_dict(state)
        layers.append(layer.eval())
    return layers


@torch.no_grad()
def test_matches_torchs_encoder_on_the_real_tokens_alone():
    model, batch = make(), make_batch()
    got = model(batch)
    for row in range(2):
        kept = []
        for i, part in enumerate(batch.values()):
            real = part.mask[row] & part.present[row]
            count = int(real.sum())
            if part.time is None:
                where = torch.linspace(-1, 1, count)
            else:
                where = part.time[row, real].float() - 1
            angle = torch.pi * where[:, None] * torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
            code = torch.cat([angle.sin(), angle.cos(), where[:, None]], 1).double()
            kept.append(model.project[i](part.values[row, real]) + model.sensor[i] + code @ model.time.linear.weight.T)
        x = torch.cat(kept)[None]
        for layer in torchs(model):
            x = layer(x)
        torch.testing.assert_close(got.values[row][got.mask[row]], model.norm(x)[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(pool(got)[row], model.norm(x)[0].mean(0), atol=1e-5, rtol=1e-5)
    assert got.mask.sum(1).tolist() == [11, 9, 0]
    assert (got.values[~got.mask] == 0).all()
    assert got.time is None  # one stream has none


@torch.no_grad()
def test_times_stay_where_every_stream_has_them():
    model, batch = make({"a": DIM, "b": 5}), make_batch()
    got = model({name: batch[name] for name in "ab"})
    assert torch.equal(got.time, torch.cat([batch["a"].time, batch["b"].time], 1))


@torch.no_grad()
def test_time_and_sensor_matter_and_the_place_in_the_row_does_not():
    model, batch = make({"a": DIM, "b": DIM}), {"a": stream(3, DIM), "b": stream(4, DIM)}
    plain = model(batch)
    order = torch.tensor([2, 0, 1])
    moved = batch["a"]._replace(values=batch["a"].values[:, order], time=batch["a"].time[:, order])
    torch.testing.assert_close(model({**batch, "a": moved}).values[:, :3], plain.values[:, :3][:, order])
    later = batch["a"]._replace(time=batch["a"].time + 0.1)
    assert (model({**batch, "a": later}).values - plain.values).abs().max() > 1e-3
    swapped = model({"a": batch["b"], "b": batch["a"]})
    assert (pool(swapped) - pool(plain)).abs().max() > 1e-3  # a learned vector tells the sensors apart


def test_places_by_head():
    everyone = torch.ones(1, dtype=torch.bool)
    timed = Tokens(
        torch.zeros(1, 4, 1),
        torch.tensor([[True, True, True, False]]),
        everyone,
        torch.tensor([[0, 1.0, 3.0, float("nan")]]),
    )
    assert place(timed, 4.0).tolist() == [[-1.0, -0.5, 0.5, 0.0]]
    untimed = timed._replace(mask=torch.tensor([[True, False, True, True]]), time=None)
    assert place(untimed, None).tolist() == [[-1.0, 0.0, 0.0, 1.0]]
    single = timed._replace(mask=torch.tensor([[False, True, False, False]]), time=None)
    assert place(single, None).tolist() == [[0.0, -1.0, 0.0, 0.0]]
    with pytest.raises(ShapeError, match="duration"):
        place(timed, None)
    assert fourier(torch.zeros(1, 1)).flatten().tolist() == [0.0] * 6 + [1.0] * 6 + [0.0]
    quarter = fourier(torch.full((1, 1), 0.5)).flatten()
    torch.testing.assert_close(quarter[[0, 1, 6, 7, 12]], torch.tensor([1.0, 0.0, 0.0, -1.0, 0.5]), atol=1e-6, rtol=0)


def test_gradients_reach_every_weight_and_no_masked_value():
    model, batch = make().train(), make_batch()
    leaves = {name: part.values.requires_grad_() for name, part in batch.items()}
    model(batch).values.square().sum().backward()
    for name, part in batch.items():
        real = part.mask & part.present[:, None]
        assert leaves[name].grad[~real].abs().sum() == 0
        assert (leaves[name].grad[real].abs().sum(-1) > 0).all()


def test_heads_must_divide_dim():
    with pytest.raises(ConfigError, match="3 does not divide 8"):
        make(heads=3)
