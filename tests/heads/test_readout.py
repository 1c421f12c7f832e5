"""Readouts against plain loops; what is masked or absent changes no bit."""

import pytest
import torch

from fusionkit.core.levels import Tokens
from fusionkit.heads.readout import AttentionReadout, MeanReadout, make_readout


def some_tokens():
    generator = torch.Generator().manual_seed(4)
    mask = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    present = torch.tensor([True, True, True, False])
    return Tokens(torch.randn(4, 4, 5, generator=generator), mask, present)


def plain(readout, tokens):
    """One record at a time, with only what is real."""
    rows = []
    for values, mask, present in zip(tokens.values, tokens.mask, tokens.present, strict=True):
        real = values[mask & present]
        if not len(real):
            rows.append(torch.zeros(values.shape[1]))
        elif isinstance(readout, MeanReadout):
            rows.append(real.mean(0))
        else:
            rows.append((real @ readout.query / values.shape[1] ** 0.5).softmax(0) @ real)
    return torch.stack(rows)


def make(kind):
    readout = make_readout(kind, 5)
    for parameter in readout.parameters():
        torch.nn.init.normal_(parameter, std=2.0, generator=torch.Generator().manual_seed(9))
    return readout


@pytest.mark.parametrize("kind", ["mean", "attention"])
def test_matches_a_plain_loop(kind):
    readout = make(kind)
    torch.testing.assert_close(readout(some_tokens()), plain(readout, some_tokens()))


@pytest.mark.parametrize("kind", ["mean", "attention"])
@pytest.mark.parametrize("junk", [1e30, torch.nan, -torch.inf])
def test_hidden_values_change_no_bit_of_output_or_gradient(kind, junk):
    results = []
    for value in (0.0, junk):
        readout, tokens = make(kind), some_tokens()
        real = (tokens.mask & tokens.present[:, None])[..., None]
        values = torch.where(real, tokens.values, torch.tensor(value)).requires_grad_()
        vector = readout(tokens._replace(values=values))
        vector.square().sum().backward()
        results.append((vector.detach(), values.grad, *[p.grad for p in readout.parameters()]))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
        assert torch.isfinite(one).all()


def test_attention_starts_as_the_mean():
    torch.testing.assert_close(AttentionReadout(5)(some_tokens()), MeanReadout()(some_tokens()))


def test_attention_finds_the_token_it_asks_for():
    readout = AttentionReadout(2)
    with torch.no_grad():
        readout.query.copy_(torch.tensor([100.0, 0.0]))
    values = torch.tensor([[[1.0, 5.0], [0.0, 9.0], [0.0, 7.0]]])
    tokens = Tokens(values, torch.ones(1, 3, dtype=torch.bool), torch.ones(1, dtype=torch.bool))
    torch.testing.assert_close(readout(tokens), torch.tensor([[1.0, 5.0]]))


@pytest.mark.parametrize("kind", ["mean", "attention"])
def test_bfloat16_stays_bfloat16(kind):
    tokens = some_tokens()
    readout = make(kind).to(torch.bfloat16)
    assert readout(tokens._replace(values=tokens.values.bfloat16())).dtype == torch.bfloat16
