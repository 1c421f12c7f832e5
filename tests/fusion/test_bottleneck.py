"""Bottleneck: against the paper one row and one sensor at a time, and what can pass through the shared tokens."""

import math

import pytest
import torch
import torch.nn.functional as F

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Fused, Tokens, pool
from fusionkit.fusion import branches
from fusionkit.fusion.bottleneck import Bottleneck
from fusionkit.fusion.position import fourier, place

NAN = float("nan")
DIM = 8
VARIANTS = [
    {},
    {"readout": "token"},
    {"share": True, "fusion_layer": 0},
    {"share": True, "readout": "token", "bottlenecks": 1},
]


def make(widths=None, **options):
    options = {"layers": 3, "fusion_layer": 1, "bottlenecks": 2, "heads": 2, **options}
    model = Bottleneck(widths or {"a": DIM, "b": 5, "c": DIM}, DIM, 2.0, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


def joined(model, batch):
    """The joint stream alone."""
    answer = model(batch)
    return answer.tokens if isinstance(answer, Fused) else answer


def stream(length, width, timed=True, batch=4):
    time = ((torch.arange(length) + 0.5) / length * 2.0).double().expand(batch, -1) if timed else None
    values = torch.randn(batch, length, width, dtype=torch.float64)
    return Tokens(values, torch.ones(batch, length, dtype=torch.bool), torch.ones(batch, dtype=torch.bool), time)


def make_batch():
    """Unequal lengths; padding, a hole, an absent sensor, one of padding alone, and a row with nothing at all."""
    batch = {"a": stream(3, DIM), "b": stream(6, 5), "c": stream(4, DIM, timed=False)}
    batch["b"].mask[0, 4:] = False
    batch["a"].mask[1, 1] = False
    batch["c"].present[1] = False
    batch["b"].mask[2] = False
    for part in batch.values():
        part.present[3] = False
    return batch


def norm(x, layer, m):
    return F.layer_norm(x, x.shape[-1:]) * layer.weight[m] + layer.bias[m]


def plain_block(block, m, heads, x):
    """A pre-norm block over tokens that are all real."""
    a = block.attention
    n = norm(x, block.attention_norm, m)
    q, k, v = n @ a.query.weight[m] + a.query.bias[m], n @ a.key.weight[m], n @ a.value.weight[m] + a.value.bias[m]
    width = x.shape[1] // heads
    parts = []
    for h in range(heads):
        cut = slice(h * width, (h + 1) * width)
        parts.append((q[:, cut] @ k[:, cut].T / math.sqrt(width)).softmax(1) @ v[:, cut])
    x = x + torch.cat(parts, 1) @ a.out.weight[m] + a.out.bias[m]
    hidden = F.gelu(norm(x, block.feed_norm, m) @ block.feed_in.weight[m] + block.feed_in.bias[m])
    return x + hidden @ block.feed_out.weight[m] + block.feed_out.bias[m]


def plain_bottleneck(model, batch, fusion_layer=1, share=False, readout="gap", **_):
    """Real tokens of each row, sensor after sensor; what is not there is never in any product."""
    rows = []
    for row in range(4):
        states, where = {}, {name: place(part, 2.0) for name, part in batch.items()}
        for m, (name, part) in enumerate(batch.items()):
            real = part.mask[row] & part.present[row]
            if real.any():
                code = model.time.linear(fourier(where[name][row, real][None]).double())[0]
                x = model.project[m](part.values[row, real]) + model.sensor[m] + code
                states[m] = torch.cat([model.reader[m][None], x]) if readout == "token" else x
        shared = model.shared
        for i, block in enumerate(model.blocks):
            if i < fusion_layer:
                states = {m: plain_block(block, 0 if share else m, 2, x) for m, x in states.items()}
                continue
            both = {m: plain_block(block, 0 if share else m, 2, torch.cat([x, shared])) for m, x in states.items()}
            count = len(model.shared)
            if both:
                shared = sum(x[-count:] for x in both.values()) / len(both)
            states = {m: x[:-count] for m, x in both.items()}
        kept = [x[:1] if readout == "token" else x for x in states.values()]
        rows.append(model.norm(torch.cat(kept)) if kept else torch.zeros(0, DIM, dtype=torch.float64))
    return rows


@torch.no_grad()
@pytest.mark.parametrize("options", VARIANTS)
def test_matches_the_plain_definition(options):
    model, batch = make(**options), make_batch()
    got = joined(model, batch)
    for row, want in enumerate(plain_bottleneck(model, batch, **options)):
        torch.testing.assert_close(got.values[row][got.mask[row]], want, atol=1e-6, rtol=1e-6)
        read = want.mean(0) if len(want) else torch.zeros(DIM).double()
        torch.testing.assert_close(pool(got)[row], read, atol=1e-6, rtol=1e-6)
    assert (got.values[~got.mask] == 0).all()
    if options.get("readout") == "token":
        assert got.mask.tolist() == [[True] * 3, [True, True, False], [True, False, True], [False] * 3]


@torch.no_grad()
def test_averaging_logits_of_each_sensor_is_reading_the_mean():
    """The paper's token readout: one shared linear layer on each sensor's token, then the mean."""
    model, batch, head = make(readout="token"), make_batch(), torch.nn.Linear(DIM, 3).double()
    got = joined(model, batch)
    torch.testing.assert_close(head(got.values[0]).mean(0), head(pool(got)[0]))


@torch.no_grad()
def test_every_sensors_token_is_a_stream_for_the_same_heads():
    model, batch = make(readout="token"), make_batch()
    got = model(batch)
    assert model.shares_heads and model.streams == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3} and not make().streams
    for i, own in enumerate(got.streams.values()):
        torch.testing.assert_close(pool(own), got.tokens.values[:, i])
        assert own.present.tolist() == got.tokens.mask[:, i].tolist()


def reach(model, batch, listener, speaker):
    """Largest gradient of one sensor's tokens by another's."""
    names = list(batch)
    leaf = batch[speaker].values.clone().requires_grad_()
    got = model({**batch, speaker: batch[speaker]._replace(values=leaf)})
    start = sum(batch[name].mask.shape[1] for name in names[: names.index(listener)])
    own = got.values[0, start : start + batch[listener].mask.shape[1]]
    (gradient,) = torch.autograd.grad(own.square().sum(), leaf)
    return gradient[0].abs().max()


def test_sensors_talk_through_the_shared_tokens_and_only_in_the_next_layer():
    batch = make_batch()
    assert reach(make(layers=2, fusion_layer=0), batch, "a", "b") > 1e-8
    late = make(layers=2, fusion_layer=1)  # what b tells F in the only shared layer, nobody hears any more
    assert reach(late, batch, "a", "b") == 0
    assert reach(late, batch, "b", "b") > 1e-8
    assert all(p.grad is None for p in late.parameters())


def test_every_sensor_hears_the_same_shared_tokens_of_the_layer_before():
    """In parallel: the second sensor does not hear the first within a layer, so their order means nothing."""
    model, batch, order = make(share=True), make_batch(), [2, 0, 1]
    names = [list("abc")[i] for i in order]
    other = Bottleneck(
        {name: model.inputs[name] for name in names},
        DIM,
        2.0,
        layers=3,
        fusion_layer=1,
        bottlenecks=2,
        heads=2,
        share=True,
    )
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("project")}
    state["sensor"] = model.sensor[order]
    state |= {f"project.{order.index(1)}.{k}": v for k, v in model.project[1].state_dict().items()}
    other.double().eval().load_state_dict(state)
    torch.testing.assert_close(pool(other({name: batch[name] for name in names})), pool(model(batch)))


@pytest.mark.parametrize("options", VARIANTS)
def test_streams_of_unequal_lengths_are_computed_apart_and_come_to_the_same(options, monkeypatch):
    """Values and gradients are those of all streams padded to the longest one."""
    model, batch = make(**options), make_batch()
    batch["a"] = stream(30, batch["a"].values.shape[2])
    whole = []
    model.blocks[-1].feed_in.register_forward_hook(lambda layer, given, made: whole.append(made.shape))

    def run():
        model.zero_grad()
        got = joined(model, batch)
        got.values.square().sum().backward()
        return got, [parameter.grad.clone() for parameter in model.parameters()]

    apart, there = run()
    assert len(whole) > 1
    monkeypatch.setattr(branches, "group_lengths", lambda lengths: [list(range(len(lengths)))])
    together, wanted = run()
    assert torch.equal(apart.mask, together.mask) and torch.equal(apart.present, together.present)
    torch.testing.assert_close(apart.values, together.values, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(there, wanted, atol=1e-9, rtol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("options", VARIANTS)
def test_padding_and_absent_values_change_nothing(options):
    model, batch = make(**options), make_batch()
    plain = joined(model, batch)
    for name, part in batch.items():
        pad = torch.full_like(part.values[:, :2], NAN)
        mask = torch.cat([part.mask, torch.zeros(4, 2, dtype=torch.bool)], 1)
        values = torch.where((part.mask & part.present[:, None])[..., None], part.values, NAN)
        time = None if part.time is None else torch.cat([part.time, part.time[:, :2]], 1)
        longer = {**batch, name: Tokens(torch.cat([values, pad], 1), mask, part.present, time)}
        got = joined(model, longer)
        torch.testing.assert_close(got.values[got.mask], plain.values[plain.mask])


def test_gradients_reach_every_weight_and_no_masked_value():
    model, batch = make(dropout=0.0).train(), make_batch()
    leaves = {name: part.values.requires_grad_() for name, part in batch.items()}
    model(batch).values.square().sum().backward()
    for name, part in batch.items():
        real = part.mask & part.present[:, None]
        assert leaves[name].grad[~real].abs().sum() == 0
        assert (leaves[name].grad[real].abs().sum(-1) > 0).all()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in model.parameters())


def test_shared_weights_are_one_set():
    count = {share: sum(p.numel() for p in make(share=share).blocks.parameters()) for share in (True, False)}
    assert count[False] == 3 * count[True]


def test_the_fusion_layer_must_be_there():
    with pytest.raises(ConfigError, match="3 is not below 3"):
        make(fusion_layer=3)
