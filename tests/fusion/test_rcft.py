"""RCFT: the whole layer against plain loops, causality to the bit, and what masks and absence may not change."""

import io
import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Tokens
from fusionkit.fusion.rcft import RCFT, Cache

NAN = float("nan")
DIM = 16
WIDTHS = {"eeg": DIM, "audio": DIM, "text": DIM}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"temporal": "lstm"},
    {"temporal": "lstm", "temporal_residual": False, "residual": "input"},
    {"temporal_residual": False, "positions": "sinusoidal"},
    {"residual": "input", "positions": "none", "kv_groups": 1},
    {"tie_layers": True, "kv_groups": 4},
]


def make(widths=WIDTHS, duration=2.0, shaken=True, **options):
    options = {"layers": 2, "heads": 4, "steps": 4, **options}
    model = RCFT(widths, DIM, duration, **options).double().eval()
    if shaken:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def make_batch(batch=3, seed=0, lengths=(4, 9, 3), widths=(DIM, DIM, DIM)):
    g = torch.Generator().manual_seed(seed)
    made = {}
    for name, length, width in zip(WIDTHS, lengths, widths, strict=True):
        values = torch.randn(batch, length, width, generator=g, dtype=torch.float64)
        time = ((torch.arange(length) + 0.5) / length * 2.0).double().expand(batch, -1)
        mask, present = torch.ones(batch, length, dtype=torch.bool), torch.ones(batch, dtype=torch.bool)
        made[name] = Tokens(values, mask, present, None if name == "text" else time)
    return made


def holes(batch):
    """A batch with a masked bin, a sensor that begins late, an absent sensor and a row with nothing."""
    eeg, audio, text = (part._replace(mask=part.mask.clone(), present=part.present.clone()) for part in batch.values())
    eeg.mask[0, 2] = False
    audio.mask[1, :5] = False
    text.present[1] = False
    for part in (eeg, audio, text):
        part.present[2] = False
    return {"eeg": eeg, "audio": audio, "text": text}


# the definition, one row, one branch, one step and one head at a time


def turned(x, step):
    half = len(x) // 2
    out = x.clone()
    for k in range(half):
        spin = complex(x[k], x[k + half]) * complex(math.cos(a := step * 10000 ** (-k / half)), math.sin(a))
        out[k], out[k + half] = spin.real, spin.imag
    return out


def plain_attention(layer, m, x, real, heads, rotary, memory):
    """Causal grouped-query attention of one branch of one row to the last ``memory`` steps: ``x`` is (step, dim)."""
    t = layer.temporal
    width = x.shape[1] // heads
    qkv = x @ t.qkv.weight[m]
    parts = qkv.split(width, -1)
    out = []
    for i in range(len(x)):
        mixed = []
        for h in range(heads):
            g = h // (heads // t.groups)
            q, ks, vs = parts[h], parts[heads + g], parts[heads + t.groups + g]
            spin = turned if rotary else lambda one, _: one
            keys = [j for j in range(max(0, i + 1 - memory), i + 1) if real[j]]
            if not keys:
                mixed.append(torch.zeros(width, dtype=x.dtype))
                continue
            scores = torch.stack([spin(q[i], i) @ spin(ks[j], j) / math.sqrt(width) for j in keys])
            mixed.append(sum(w * vs[j] for w, j in zip(scores.softmax(0), keys, strict=True)))
        out.append(torch.cat(mixed) @ t.out.weight[m])
    return torch.stack(out)


def plain_lstm(layer, m, x, real):
    t = layer.temporal
    h = c = torch.zeros(x.shape[1], dtype=x.dtype)
    out = []
    for i in range(len(x)):
        if real[i]:
            gates = x[i] @ t.input.weight[m] + t.input.bias[m] + h @ t.recurrent[m]
            enter, keep, new, leave = gates.chunk(4)
            c = keep.sigmoid() * c + enter.sigmoid() * new.tanh()
            h = leave.sigmoid() * c.tanh()
        out.append(h)
    return torch.stack(out)


def plain_rcft(model, batch, *, layers, heads=4, steps=4, duration=2.0, memory=None, **options):
    """Fused values, states per branch and readout, from the equations; attention forgets all but ``memory`` bins."""
    memory = steps if memory is None else memory
    names, dim = list(batch), model.dim
    fused, read = [], []
    for row in range(len(batch[names[0]].present)):
        h, real = [], []
        for name in names:
            part = batch[name]
            bins = [[] for _ in range(steps)]
            for i in range(part.values.shape[1]):
                if part.mask[row, i] and part.present[row]:
                    if part.time is None:
                        where = range(steps)
                    else:
                        where = [min(int(part.time[row, i] / duration * steps + 1e-4), steps - 1)]
                    for place in where:
                        bins[place].append(part.values[row, i])
            zero = torch.zeros(dim, dtype=torch.float64)
            h.append(torch.stack([torch.stack(one).mean(0) if one else zero for one in bins]))
            real.append([bool(one) for one in bins])
        if options.get("positions") == "sinusoidal":
            half = dim // 2
            table = [
                [f(t * 10000 ** (-k / half)) for f in (math.sin, math.cos) for k in range(half)] for t in range(steps)
            ]
            h = [x + torch.tensor(table, dtype=torch.float64) for x in h]
        for n in range(layers):
            layer = model.layers[0 if options.get("tie_layers") else n]
            a, u = [], []
            for m, x in enumerate(h):
                inner = x
                if options.get("temporal_residual", True):
                    inner = F.layer_norm(x, (dim,)) * layer.before.weight[m] + layer.before.bias[m]
                if options.get("temporal") == "lstm":
                    new = plain_lstm(layer, m, inner, real[m])
                else:
                    rotary = options.get("positions", "rotary") == "rotary"
                    new = plain_attention(layer, m, inner, real[m], heads, rotary, memory)
                a.append(x + new if options.get("temporal_residual", True) else new)
                u.append(F.gelu(a[m] @ layer.dense.weight[m] + layer.dense.bias[m]))
            q, k, v = ([u[m] @ part.weight[m] for m in range(len(h))] for part in (layer.query, layer.key, layer.value))
            new_h = []
            for m in range(len(h)):
                rows = []
                for t in range(steps):
                    mixed = []
                    for head in range(heads):
                        cut = slice(head * dim // heads, (head + 1) * dim // heads)
                        keys = [j for j in range(len(h)) if real[j][t]]
                        r = torch.zeros(dim // heads, dtype=torch.float64)
                        if keys:
                            s = torch.stack([q[m][t, cut] @ k[j][t, cut] / math.sqrt(dim // heads) for j in keys])
                            r = sum(w * v[j][t, cut] for w, j in zip(s.softmax(0), keys, strict=True))
                        mixed.append(r)
                    skip = a[m][t] if options.get("residual") == "input" else u[m][t]
                    total = skip + torch.cat(mixed) @ layer.out.weight[m]
                    rows.append(F.layer_norm(total, (dim,)) * layer.norm.weight[m] + layer.norm.bias[m])
                new_h.append(torch.stack(rows))
            h = new_h
        out = torch.zeros(steps, dim, dtype=torch.float64)
        last = torch.zeros(dim, dtype=torch.float64)
        for t in range(steps):
            if any(real[m][t] for m in range(len(h))):
                since = 0 if options.get("temporal") == "lstm" else max(0, t + 1 - memory)
                side = [
                    h[m][t] if any(real[m][since : t + 1]) else torch.zeros(dim, dtype=torch.float64)
                    for m in range(len(h))
                ]
                out[t] = model.join.weight @ torch.cat(side) + model.join.bias
                last = out[t]
        fused.append(out)
        read.append(last)
    return torch.stack(fused), torch.stack(read)


@torch.no_grad()
@pytest.mark.parametrize("options", VARIANTS)
def test_matches_the_plain_definition(options):
    model, batch = make(**options), holes(make_batch())
    got = model(batch)
    expected, read = plain_rcft(model, batch, layers=2, **options)
    torch.testing.assert_close(got.values, expected, atol=1e-6, rtol=1e-6)  # angles of positions are float32
    torch.testing.assert_close(model.readout(got), read, atol=1e-6, rtol=1e-6)


def test_shapes_times_and_masks():
    tokens = make()(holes(make_batch()))
    assert tokens.values.shape == (3, 4, DIM)
    assert tokens.time[0].tolist() == [0.25, 0.75, 1.25, 1.75]
    assert tokens.present.tolist() == [True, True, False]
    assert tokens.mask.tolist() == [[True] * 4, [True] * 4, [False] * 4]


def test_the_readout_is_the_last_real_step():
    values = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    read = make().readout(Tokens(values, mask, torch.tensor([True, False])))
    assert read.tolist() == [[2.0, 3.0], [0.0, 0.0]]


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("name", ["eeg", "audio"])
def test_nothing_of_a_later_bin_reaches_an_earlier_one(options, name):
    model, batch = make(**options), make_batch()
    before = model.trace(batch).states
    for bin_ in range(4):
        inside = (batch[name].time >= bin_ * 0.5) & (batch[name].time < (bin_ + 1) * 0.5)
        values = batch[name].values + 3.0 * inside[..., None]
        after = model.trace({**batch, name: batch[name]._replace(values=values)}).states
        assert torch.equal(after[:, :, :bin_], before[:, :, :bin_])
        for branch in range(3):
            assert (after[branch, :, bin_] - before[branch, :, bin_]).abs().max() > 1e-6


@pytest.mark.parametrize("options", VARIANTS)
def test_other_branches_are_heard_through_the_output_projection_alone(options):
    model, batch = make(**options), make_batch()
    for m, k in itertools.permutations(range(3), 2):
        leaf = batch[list(batch)[k]].values.clone().requires_grad_()
        heard = {**batch, list(batch)[k]: batch[list(batch)[k]]._replace(values=leaf)}
        (gradient,) = torch.autograd.grad(model.trace(heard).states[m].square().sum(), leaf)
        assert gradient.abs().max() > 1e-8
    with torch.no_grad():
        for layer in model.layers:
            layer.out.weight[1] = 0.0
    leaf = batch["audio"].values.clone().requires_grad_()
    other = batch["eeg"].values.clone().requires_grad_()
    heard = {**batch, "audio": batch["audio"]._replace(values=leaf), "eeg": batch["eeg"]._replace(values=other)}
    states = model.trace(heard).states
    own, foreign = torch.autograd.grad(states[1].square().sum(), (leaf, other), allow_unused=True)
    assert foreign is None or foreign.abs().max() == 0
    assert own.abs().max() > 1e-8


def test_attention_maps_sum_to_one_over_the_branches_that_are_there():
    model, batch = make(), holes(make_batch())
    trace = model.trace(batch)
    assert len(trace.attention) == 2
    for attention in trace.attention:
        assert attention.shape == (3, 4, 4, 3, 3)
        anyone = trace.mask.any(0)[:, :, None, None].expand(3, 4, 4, 3)
        torch.testing.assert_close(attention.sum(-1), anyone.double())
        assert attention[0, 2, :, :, 0].abs().max() == 0  # EEG has nothing in that bin
        assert attention[1, :, :, :, 2].abs().max() == 0  # no text in that row


def test_one_branch_attends_to_itself():
    model, batch = make({"eeg": DIM}), {"eeg": make_batch()["eeg"]}
    for attention in model.trace(batch).attention:
        assert torch.equal(attention, torch.ones(3, 4, 4, 1, 1).double())


@pytest.mark.parametrize("options", VARIANTS)
def test_permuting_branches_with_their_weights_permutes_their_states(options):
    model, batch, order = make(**options), holes(make_batch()), [2, 0, 1]
    other = make(dict.fromkeys(("text", "eeg", "audio"), DIM), **options)
    state = model.state_dict()
    for key, value in state.items():
        if key.startswith("layers"):
            state[key] = value[order]
    state["join.weight"] = model.join.weight.reshape(DIM, 3, DIM)[:, order].reshape(DIM, 3 * DIM)
    other.load_state_dict(state)
    torch.testing.assert_close(other.trace(batch).states, model.trace(batch).states[order])
    torch.testing.assert_close(other(batch).values, model(batch).values)


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("gone", [("eeg",), ("audio", "text"), ("eeg", "audio", "text")])
def test_absent_values_change_no_bit(options, gone):
    model = make(widths={"eeg": DIM, "audio": 6, "text": DIM}, **options)
    outcomes = []
    for filling in (0.0, 9.0, NAN):
        batch = make_batch(widths=(DIM, 6, DIM))
        for name in gone:
            values, time = batch[name].values.clone(), batch[name].time
            values[1] = filling
            time = None if time is None else time.clone().index_fill_(0, torch.tensor([1]), filling)
            batch[name] = Tokens(values, batch[name].mask, torch.arange(3) != 1, time)
        tokens = model(batch)
        outcomes.append((tokens.values, tokens.mask, model.readout(tokens)))
    for other in outcomes[1:]:
        assert all(torch.equal(a, b) for a, b in zip(outcomes[0], other, strict=True))
    assert all(part.isfinite().all() for part in outcomes[0])
    if len(gone) == 3:
        assert outcomes[0][0][1].abs().max() == 0


@pytest.mark.parametrize("options", VARIANTS)
def test_gradients_are_finite_and_never_reach_what_is_masked(options):
    model, batch = (
        make(widths={"eeg": DIM, "audio": 6, "text": DIM}, **options),
        holes(make_batch(widths=(DIM, 6, DIM))),
    )
    for name, part in batch.items():
        real = part.mask & part.present[:, None]
        values = part.values.masked_fill(~real[..., None], NAN).requires_grad_()
        batch[name] = part._replace(values=values)
    tokens = model.train()(batch)
    (model.readout(tokens).square().sum() + tokens.values.square().sum()).backward()
    for part in batch.values():
        real = part.mask & part.present[:, None]
        assert part.values.grad[~real].abs().sum() == 0
        assert (part.values.grad[real].abs().sum(-1) > 0).all()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("options", VARIANTS)
def test_padding_changes_nothing(options):
    model, batch = make(**options), make_batch()
    plain = model(batch)
    for name, part in batch.items():
        pad = torch.full((3, 2, DIM), NAN, dtype=torch.float64)
        mask = torch.cat([part.mask, torch.zeros(3, 2, dtype=torch.bool)], 1)
        time = None if part.time is None else torch.cat([part.time, torch.full((3, 2), 0.3)], 1)
        batch[name] = Tokens(torch.cat([part.values, pad], 1), mask, part.present, time)
    torch.testing.assert_close(model(batch).values, plain.values)
    assert torch.equal(model(batch).mask, plain.mask)


@pytest.mark.parametrize("options", VARIANTS)
def test_rows_do_not_know_each_other(options):
    model, batch = make(**options).float(), holes(make_batch())
    batch = {name: part._replace(values=part.values.float()) for name, part in batch.items()}
    whole = model(batch)
    for rows in [torch.tensor([2, 0, 1]), *torch.arange(3)[:, None]]:
        part = model({k: Tokens(*(None if x is None else x[rows] for x in t)) for k, t in batch.items()})
        torch.testing.assert_close(part.values, whole.values[rows], atol=1e-5, rtol=1e-5)


def test_dropout_is_on_the_values_only_and_off_in_eval(monkeypatch):
    model, batch = make(dropout=0.5), make_batch()
    assert torch.equal(model(batch).values, model(batch).values)
    values, dropped = [], []
    for layer in model.layers:
        layer.value.register_forward_hook(lambda module, args, out: values.append(out))
    real = F.dropout
    monkeypatch.setattr(F, "dropout", lambda x, p, training: dropped.append((x, p, training)) or real(x, p, training))
    model.train()
    first, second = model.trace(batch), model.trace(batch)
    assert not torch.equal(first.states, second.states)
    assert torch.equal(first.attention[0], second.attention[0])  # neither its weights nor the path before it
    assert [x is value for (x, _, _), value in zip(dropped, values, strict=True)] == [True] * 4
    assert {(p, training) for _, p, training in dropped} == {(0.5, True)}


def test_tied_layers_are_one_layer():
    count = {
        tied: sum(p.numel() for p in make(tie_layers=tied, layers=3).layers.parameters()) for tied in (True, False)
    }
    assert count[False] == 3 * count[True]


def test_streams_of_another_width_are_projected_and_without_a_clock_there_is_one_step():
    model = make(widths={"eeg": 5, "text": DIM}, duration=None)
    batch = make_batch(widths=(5, DIM, DIM))
    tokens = model({"eeg": batch["eeg"]._replace(time=None), "text": batch["text"]})
    assert tokens.values.shape == (3, 1, DIM)
    assert tokens.time is None


def test_heads_must_divide_dim():
    with pytest.raises(ConfigError, match="3 does not divide 16"):
        RCFT(WIDTHS, DIM, 1.0, heads=3)


@pytest.mark.parametrize("options", VARIANTS)
def test_half_precision_stays_close(options):
    model, batch = make(shaken=False, **options), holes(make_batch())
    reference = model(batch).values
    low = {name: part._replace(values=part.values.bfloat16()) for name, part in batch.items()}
    got = model.bfloat16()(low).values
    assert got.dtype == torch.bfloat16
    assert got.isfinite().all()
    assert (got.double() - reference).abs().mean() < 0.05


def bin_of(batch, number, steps=4, duration=2.0):
    """The tokens of one bin alone; of the text all."""
    part = {}
    for name, tokens in batch.items():
        inside = slice(None)
        if tokens.time is not None:
            inside = (tokens.time[0] * steps / duration).long() == number
        time = None if tokens.time is None else tokens.time[:, inside]
        part[name] = Tokens(tokens.values[:, inside], tokens.mask[:, inside], tokens.present, time)
    return part


STREAMED = [{**variant, "tie_layers": tied} for variant in VARIANTS[:5] for tied in (False, True)]


@torch.no_grad()
@pytest.mark.parametrize("options", STREAMED)
@pytest.mark.parametrize("seed", range(2))
def test_streaming_equals_the_full_pass_at_every_bin(options, seed):
    model, batch = make(layers=3, **options), make_batch(4, seed, lengths=(4, 9, 3))
    for name, part in batch.items():
        values = part.values.clone()
        mask, present = torch.rand(values.shape[:2]) > 0.4, torch.rand(4) > 0.2
        mask[0, : 1 if name == "eeg" else 3] = False  # nothing at all in the first bin
        values[~(mask & present[:, None])] = NAN
        batch[name] = part._replace(values=values, mask=mask, present=present)
    whole, cache = model(batch), None
    for number in range(4):
        tokens, cache = model.step(bin_of(batch, number), cache)
        torch.testing.assert_close(tokens.values[:, 0], whole.values[:, number], atol=1e-5, rtol=1e-5)
        assert torch.equal(tokens.mask[:, 0], whole.mask[:, number])
        torch.testing.assert_close(tokens.time[:, 0], whole.time[:, number], check_dtype=False)
        assert torch.equal(tokens.present, whole.present)
    assert whole.mask.any() and not whole.mask.all()


@torch.no_grad()
def test_a_bin_may_have_no_tokens_and_a_cache_keeps_its_shapes():
    model, batch = make(), make_batch()
    cache = model.empty_cache(3)
    for number in range(7):  # past the window, the oldest bin goes
        part = bin_of(batch, number % 4)
        part["eeg"] = Tokens(*(None if x is None else x[:, :0] if x.ndim > 1 else x for x in part["eeg"]))
        tokens, later = model.step(part, cache)
        assert tokens.values.isfinite().all() and tokens.mask.all()
        assert [x.shape for x in later] == [x.shape for x in cache]
        assert later.number == number + 1
        cache = later
    assert cache.begun.tolist() == [[False] * 3, [True] * 3, [True] * 3]


@torch.no_grad()
def test_a_cache_remembers_what_it_should():
    """One that loses its memory, or sees a wrong bin, gives something else."""
    model, batch = make(), make_batch()
    whole = model(batch).values[:, 3]
    _, cache = model.step(bin_of(batch, 0))
    tokens, _ = model.step(bin_of(batch, 3), cache)
    assert (tokens.values[:, 0] - whole).abs().max() > 1e-3


def long_batch(bins, rows=2):
    """Two tokens of EEG and one of audio a bin of half a second; sensors vanish for single bins and for long."""
    g = torch.Generator().manual_seed(4)
    made = {}
    for name, rate, gone in (("eeg", 2, range(9, 18)), ("audio", 1, range(14, 16))):
        count = rate * bins
        time = ((torch.arange(count) + 0.5) * 0.5 / rate).double()
        mask = torch.rand(rows, count, generator=g) > 0.3
        mask[0, torch.isin((time / 0.5).long(), torch.tensor(list(gone)))] = False
        values = torch.randn(rows, count, DIM, generator=g, dtype=torch.float64).masked_fill(~mask[..., None], NAN)
        made[name] = Tokens(values, mask, torch.ones(rows, dtype=torch.bool), time.expand(rows, -1))
    return made


@torch.no_grad()
@pytest.mark.parametrize("options", [v for v in VARIANTS if v.get("positions") != "sinusoidal"])
def test_a_stream_beyond_its_window_attends_to_the_last_bins(options):
    """Against plain loops over all bins, whose attention sees four of them."""
    bins, batch = 24, long_batch(24)
    model, cache = make({"eeg": DIM, "audio": DIM}, **options), None
    expected, _ = plain_rcft(model, batch, layers=2, steps=bins, duration=bins / 2, memory=4, **options)
    for number in range(bins):
        tokens, cache = model.step(bin_of(batch, number, bins, bins / 2), cache)
        torch.testing.assert_close(tokens.values[:, 0], expected[:, number], atol=1e-5, rtol=1e-5)
    assert not cache.real.all() and (expected == 0).all(-1).any()


@torch.no_grad()
@pytest.mark.parametrize("positions", ["rotary", "none"])
def test_a_stream_is_as_exact_after_a_day_as_at_first(positions):
    model, batch, caches = make(positions=positions).float(), make_batch(), []
    batch = {name: part._replace(values=part.values.float()) for name, part in batch.items()}
    for count in (0, 8_640_000):
        cache = model.empty_cache(3)._replace(number=torch.tensor(count))
        for number in range(4):
            tokens, cache = model.step(bin_of(batch, number), cache)
        caches.append((tokens.values, *cache[1:]))
    assert all(torch.equal(a, b) for a, b in zip(*caches, strict=True))


class Stream(torch.nn.Module):
    """One bin and the cache as plain tensors."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, eeg, mask, present, number, begun, real, first, second):
        tokens, cache = self.model.step({"eeg": Tokens(eeg, mask, present)}, Cache(number, begun, real, first, second))
        return tokens.values, tokens.mask, *cache


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"positions": "sinusoidal"}, {"temporal": "lstm"}])
def test_a_streaming_step_exports_with_the_cache_going_in_and_out(options):
    model = make({"eeg": DIM}, **options).float()
    made = Stream(model).eval()
    given = (torch.randn(3, 2, DIM), torch.ones(3, 2, dtype=torch.bool), torch.ones(3, dtype=torch.bool))
    cache = tuple(model.empty_cache(3))
    batch = torch.export.Dim("batch", min=2, max=64)
    moves = [{0: batch}, {0: batch}, {0: batch}, {}, {1: batch}, {1: batch}, {2: batch}, {2: batch}]
    program = torch.export.export(made, given + cache, dynamic_shapes=tuple(moves)).module()
    cache = tuple(model.empty_cache(5))
    for _ in range(4):
        given = (torch.randn(5, 2, DIM), torch.rand(5, 2) > 0.3, torch.ones(5, dtype=torch.bool))
        found, wanted = program(*given, *cache), made(*given, *cache)
        for got, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(got, expected)
        cache = tuple(wanted[2:])


class Flat(torch.nn.Module):
    """Positional tensors, as an exported graph has them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, eeg, time, eeg_present, text, text_mask):
        eeg_mask, everyone = torch.ones_like(time, dtype=torch.bool), torch.ones_like(eeg_present)
        parts = {"eeg": Tokens(eeg, eeg_mask, eeg_present, time), "text": Tokens(text, text_mask, everyone)}
        tokens = self.model(parts)
        return tokens.values, tokens.mask, self.model.readout(tokens)


def flat(batch):
    eeg, text = batch["eeg"], batch["text"]
    present = torch.arange(len(eeg.present)) != 1
    mask = text.mask.clone()
    mask[1] = False  # a row with nothing at all
    return eeg.values.float(), eeg.time.float().contiguous(), present, text.values.float(), mask


def dynamic():
    batch, time, token = (torch.export.Dim(name, min=2, max=4096) for name in ("batch", "time", "token"))
    return ({0: batch, 1: time}, {0: batch, 1: time}, {0: batch}, {0: batch, 1: token}, {0: batch, 1: token})


def exportable(options):
    return Flat(make(widths={"eeg": DIM, "text": DIM}, **options).float()).eval()


@pytest.mark.parametrize("options", VARIANTS[:2])
def test_exports_with_any_batch_and_length(options):
    made = exportable(options)
    program = torch.export.export(made, flat(make_batch(4)), dynamic_shapes=dynamic())
    other = flat(make_batch(7, lengths=(6, 9, 5)))
    for got, expected in zip(program.module()(*other), made(*other), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:# The axis name:UserWarning")
@pytest.mark.parametrize("options", VARIANTS)
def test_onnx_agrees(options):
    onnxruntime = pytest.importorskip("onnxruntime")
    made = exportable(options)
    program = torch.onnx.export(made, flat(make_batch(4)), dynamo=True, opset_version=20, dynamic_shapes=dynamic())
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    other = flat(make_batch(7, lengths=(6, 9, 5)))
    feed = {slot.name: x.numpy() for slot, x in zip(session.get_inputs(), other, strict=True)}
    for got, expected in zip(session.run(None, feed), made(*other), strict=True):
        torch.testing.assert_close(torch.as_tensor(got), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("options", VARIANTS)
def test_device_and_cpu_agree(options):
    model, batch = make(**options).float(), holes(make_batch())
    batch = {
        k: Tokens(v.values.float(), v.mask, v.present, None if v.time is None else v.time.float())
        for k, v in batch.items()
    }
    expected = model(batch).values
    moved = {k: Tokens(*(None if x is None else x.cuda() for x in v)) for k, v in batch.items()}
    torch.testing.assert_close(model.cuda()(moved).values.cpu(), expected, atol=1e-4, rtol=1e-4)
