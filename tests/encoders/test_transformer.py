import math

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features, FeatureShape
from fusionkit.encoders.position import sinusoidal, spatial
from fusionkit.encoders.transformer import TransformerBlock, TransformerEncoder
from fusionkit.testing import check_encoder


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


FOUR = FeatureShape(4, 3)


def over_channels(shape=FOUR, **options):
    return TransformerEncoder(shape, 8, over="channels", **options).eval()


def test_over_channels_no_step_sees_another():
    module = over_channels()
    x = torch.randn(1, 5, 4, 3)
    changed = x.clone()
    changed[0, 3, 2] += 1
    assert (run(module, changed) != run(module, x)).any(-1).tolist() == [[False, False, False, True, False]]


@pytest.mark.parametrize("embedding", ["shie", "linear"])
def test_over_channels_is_the_mean_of_channels_that_looked_at_each_other(embedding):
    """One step at a time: embed each channel, add its code, let a sequence of channels through the blocks."""
    module = over_channels(embedding=embedding, layers=1)
    x = torch.randn(2, 3, 4, 3)
    found = run(module, x)
    for row in range(2):
        for step in range(3):
            tokens = (module.embed.embed(x[row, step][None, None]) + module.embed.codes)[0, 0]
            block = module.blocks[0]
            normed = block.attention_norm(tokens)
            heads = []
            for head in range(4):
                part = slice(2 * head, 2 * head + 2)
                query, key, value = (
                    layer(normed)[:, part]
                    for layer in (block.attention.query, block.attention.key, block.attention.value)
                )
                heads.append((query @ key.T / math.sqrt(2)).softmax(1) @ value)
            tokens = tokens + block.attention.out(torch.cat(heads, 1))
            hidden = torch.nn.functional.gelu(block.feed_in(block.feed_norm(tokens)))
            wanted = module.norm(tokens + block.feed_out(hidden)).mean(0)
            torch.testing.assert_close(found[row, step], wanted)


def test_over_channels_which_channel_it_is_matters_by_its_code_alone():
    module = over_channels()
    x = torch.randn(1, 2, 4, 3)
    turned = torch.tensor([2, 0, 3, 1])
    assert not torch.allclose(run(module, x[:, :, turned]), run(module, x), atol=1e-4)
    other = over_channels()
    other.load_state_dict(module.state_dict())
    with torch.no_grad():
        other.embed.codes.copy_(module.embed.codes[turned])
    torch.testing.assert_close(run(other, x[:, :, turned]), run(module, x))


def test_codes_start_from_the_places_of_the_channels():
    places = ((0.0, 0.0, 0.1), (0.0, 0.03, 0.095), (0.0, 0.09, 0.0), (0.0, -0.09, 0.0))
    codes = over_channels(FeatureShape(4, 3, places=places)).embed.codes
    assert torch.equal(codes, spatial(places, 8))
    apart = torch.cdist(codes, codes)
    assert apart[0, 1] < apart[0, 2] and apart[0, 1] < apart[0, 3] < apart[2, 3]


@pytest.mark.parametrize("dim", [6, 20])
def test_spatial_codes_match_the_plain_formula(dim):
    place = (0.02, -0.05, 0.07)
    (code,) = spatial((place,), dim)
    count = math.ceil(dim / 6)
    for i in range(count):
        wavelength = 0.8 * (0.05 / 0.8) ** (i / max(1, count - 1))
        for axis in range(3):
            for half, wave in enumerate((math.sin, math.cos)):
                at = 6 * i + 3 * half + axis
                if at < dim:
                    assert code[at] == pytest.approx(wave(2 * math.pi * place[axis] / wavelength), abs=1e-5)
    assert spatial(((0.0, 0.0, 0.0),), 8)[0].tolist() == [0, 0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("options", [{}, {"embedding": "linear", "layers": 1}], ids=str)
def test_over_channels_conforms(options):
    check_encoder(TransformerEncoder, over="channels", **options)


@pytest.mark.slow
def test_over_channels_exports():
    check_encoder(TransformerEncoder, export=True, over="channels", layers=1)
