"""The non-local gate, token by token."""

import torch

from fusionkit.core.levels import Tokens
from fusionkit.fusion.nl_gate import NonLocalGate
from fusionkit.testing.streams import make_tokens, without


def batch(names, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {name: make_tokens(4, 5, g, steps=6 + i, duration=2.0) for i, name in enumerate(names)}


def plain(op, inputs, row):
    """The formula for one sample, real tokens only."""
    first, *others = inputs.values()
    answers = []
    for token in range(first.values.shape[1]):
        if not first.mask[row, token]:
            continue
        q = op.query(first.values[row, token])
        keys, values = [], []
        for i, other in enumerate(others):
            for step in range(other.values.shape[1]):
                if other.mask[row, step] and other.present[row]:
                    keys.append(op.keys[i](other.values[row, step]))
                    values.append(op.values[i](other.values[row, step]))
        if keys:
            scores = torch.stack([q @ key for key in keys])
            weights = scores.exp() / scores.exp().sum()
            q = q + sum(weight * value for weight, value in zip(weights, values, strict=True))
        answers.append(q)
    return torch.stack(answers)


def test_every_token_by_the_formula_with_two_sensors_and_with_more():
    for names in ("ab", "abc"):
        op = NonLocalGate(dict.fromkeys(names, 4), 4, 2.0)
        inputs = without(batch(names), "b", torch.tensor([True, False, False, False, False]))
        found = op(inputs)
        for row in range(5):
            torch.testing.assert_close(found.values[row][found.mask[row]], plain(op, inputs, row))
        assert torch.equal(found.mask, inputs["a"].mask) and torch.equal(found.time, inputs["a"].time)


def test_two_equal_keys_give_the_mean_of_their_values_on_top_of_the_projected_query():
    op = NonLocalGate({"a": 1, "b": 1}, 1, None)
    with torch.no_grad():
        for part, weight, bias in ((op.query, 3.0, 0.5), (op.keys[0], 0.0, 1.0), (op.values[0], 2.0, 0.0)):
            part.weight.fill_(weight)
            part.bias.fill_(bias)
    here = torch.ones(1, dtype=torch.bool)
    a = Tokens(torch.tensor([[[1.0]]]), here[:, None], here)
    b = Tokens(torch.tensor([[[2.0], [6.0]]]), torch.ones(1, 2, dtype=torch.bool), here)
    assert op({"a": a, "b": b}).values.item() == 3.5 + 8.0


def test_without_the_first_sensor_one_token_of_zeros_asks():
    op = NonLocalGate(dict.fromkeys("ab", 4), 4, 2.0)
    inputs = without(batch("ab"), "a")
    found = op(inputs)
    assert found.mask.sum(1).tolist() == [1] * 5 and (found.time[:, 0] == 1.0).all()
    here = torch.ones(5, dtype=torch.bool)
    zeros = Tokens(torch.zeros(5, 1, 4), here[:, None], here)
    torch.testing.assert_close(found.values[:, :1], op({"a": zeros, "b": inputs["b"]}).values)
    nothing = op(without(inputs, "b"))
    assert not nothing.mask.any() and (nothing.values == 0).all()
