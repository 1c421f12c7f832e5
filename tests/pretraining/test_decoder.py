"""Places read out of tokens: codes of both, what is masked, and gradients."""

import pytest
import torch

from fusionkit.core.levels import Tokens
from fusionkit.encoders.position import sinusoidal
from fusionkit.pretraining.decoder import PlaceDecoder, place_codes, token_codes


def test_codes_of_a_line_are_sines_and_those_of_a_picture_half_of_each():
    like = torch.zeros(1, 1, 8)
    assert torch.equal(place_codes((1, 5), like), sinusoidal(torch.zeros(1, 5, 8)))
    plane = place_codes((2, 3), like)
    four = sinusoidal(torch.zeros(1, 3, 4))
    assert torch.equal(
        plane, torch.stack([torch.cat([four[row], four[column]]) for row in range(2) for column in range(3)])
    )
    assert len(plane.unique(dim=0)) == 6


def test_tokens_stand_where_the_places_under_them_do():
    line = place_codes((1, 8), torch.zeros(1, 1, 6))
    assert torch.equal(token_codes(line, (1, 8), 8), line)
    torch.testing.assert_close(token_codes(line, (1, 8), 4), (line[::2] + line[1::2]) / 2)
    plane = place_codes((4, 6), torch.zeros(1, 1, 8))
    torch.testing.assert_close(token_codes(plane, (4, 6), 24), plane)
    square = plane.reshape(4, 6, 8)
    means = torch.stack([square[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean((0, 1)) for r in range(2) for c in range(3)])
    torch.testing.assert_close(token_codes(plane, (4, 6), 6), means)
    torch.testing.assert_close(token_codes(plane, (4, 6), 7), torch.cat([torch.zeros(1, 8), means]))  # a class token
    assert token_codes(plane, (4, 6), 11).shape == (11, 8)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_masked_tokens_change_nothing_and_get_no_gradient(count):
    decoder = PlaceDecoder(8, 2, 2)
    values = torch.randn(3, count, 8, requires_grad=True)
    mask = torch.ones(3, count, dtype=torch.bool)
    mask[1, count // 2] = False
    here = torch.tensor([True, True, False])
    out = decoder(Tokens(values, mask, here), (1, 4))
    out.square().sum().backward()
    assert out.shape == (3, 4, 8) and torch.isfinite(out).all()
    assert values.grad is not None and not values.grad[1, count // 2].any() and not values.grad[2].any()
    assert values.grad[0].any()
    changed = values.detach().clone()
    changed[1, count // 2], changed[2] = torch.nan, torch.nan
    torch.testing.assert_close(decoder(Tokens(changed, mask, here), (1, 4)), out)
