import pytest
import torch

from fusionkit.core.levels import Features, FeatureShape
from fusionkit.encoders.gru import GRUEncoder
from fusionkit.testing.streams import make_features


def plain_gru(gru, x):
    """One layer, one step at a time, from the equations."""
    w, u, b, c = gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0
    dim = u.shape[1]
    state, states = torch.zeros(len(x), dim), []
    for t in range(x.shape[1]):
        i, h = x[:, t] @ w.T + b, state @ u.T + c
        reset = torch.sigmoid(i[:, :dim] + h[:, :dim])
        update = torch.sigmoid(i[:, dim : 2 * dim] + h[:, dim : 2 * dim])
        candidate = torch.tanh(i[:, 2 * dim :] + reset * h[:, 2 * dim :])
        state = (1 - update) * candidate + update * state
        states.append(state)
    return torch.stack(states, 1)


def run(module, x, mask=None):
    mask = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
    return module(Features(x, mask, torch.ones(len(x), dtype=torch.bool))).values


def test_matches_the_equations():
    module = GRUEncoder(FeatureShape(3, 2), 4).eval()
    x = torch.randn(2, 7, 3, 2)
    torch.testing.assert_close(run(module, x), module.norm(plain_gru(module.gru, x.flatten(2))))


def test_no_step_sees_a_later_one():
    module = GRUEncoder(FeatureShape(2, 1), 8, layers=2).eval()
    x = torch.randn(1, 5, 2, 1)
    changed = x.clone()
    changed[0, 3] += 1
    assert (run(module, changed) != run(module, x)).any(-1).tolist() == [[False, False, False, True, True]]


def test_a_hidden_step_in_the_middle_enters_as_zeros():
    module = GRUEncoder(FeatureShape(2, 1), 4).eval()
    x = torch.randn(1, 3, 2, 1)
    mask = torch.tensor([[True, False, True]])
    zeroed = x.clone()
    zeroed[0, 1] = 0
    torch.testing.assert_close(run(module, x, mask)[0, 2], run(module, zeroed)[0, 2])
    assert (run(module, x, mask)[0, 1] == 0).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_some_steps_at_a_time_give_the_tokens_of_all(layers):
    encoder = GRUEncoder(FeatureShape(3, 2), 6, layers=layers).eval()
    features = make_features(FeatureShape(3, 2), 4, torch.Generator().manual_seed(1), steps=12)
    hidden = torch.rand(4, 12) < 0.3
    features = features._replace(mask=features.mask & ~hidden)
    whole, state, made = encoder(features), encoder.empty_state(4), []
    for start, stop in ((0, 1), (1, 6), (6, 12)):
        part = features._replace(
            values=features.values[:, start:stop], mask=features.mask[:, start:stop], time=features.time[:, start:stop]
        )
        tokens, state = encoder.step(part, state, torch.ones(stop - start, dtype=torch.bool))
        made.append(tokens.values)
    torch.testing.assert_close(torch.cat(made, 1), whole.values, atol=1e-6, rtol=1e-5)


def test_steps_that_the_stream_does_not_have_leave_the_state():
    encoder = GRUEncoder(FeatureShape(3, 2), 6).eval()
    features = make_features(FeatureShape(3, 2), 4, torch.Generator().manual_seed(1), steps=3)
    before = torch.rand(4, 1, 6)
    _, state = encoder.step(features, before, torch.tensor([False, False, False]))
    assert torch.equal(state, before)
