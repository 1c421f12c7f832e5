"""GMU: both forms number by number, and who is mixed when a sensor is absent."""

import pytest
import torch

from fusionkit.core.levels import pool
from fusionkit.fusion.gated import GatedFusion
from fusionkit.testing.streams import make_tokens, without


def batch(names, absent=None):
    g = torch.Generator().manual_seed(0)
    inputs = {name: make_tokens(4, 5, g, duration=1.0) for name in names}
    if absent is not None:
        inputs = without(inputs, absent, torch.tensor([True, False, True, False, False]))
    return inputs, [pool(tokens) for tokens in inputs.values()]


def test_of_two_sensors_it_is_the_papers_unit():
    op = GatedFusion({"a": 4, "b": 4}, 4, 1.0)
    inputs, (a, b) = batch("ab")
    z = (torch.cat([a, b], 1) @ op.gates.weight.T).sigmoid()
    wanted = z * (a @ op.features.weight[0]).tanh() + (1 - z) * (b @ op.features.weight[1]).tanh()
    torch.testing.assert_close(op(inputs).values[:, 0], wanted)
    assert op.gates.weight.shape == (4, 8)


@pytest.mark.parametrize("absent", [None, "a", "c"])
def test_of_more_a_softmax_over_those_present(absent):
    op = GatedFusion(dict.fromkeys("abc", 4), 4, 1.0)
    inputs, vectors = batch("abc", absent)
    found = op(inputs).values[:, 0]
    for row in range(5):
        seen = torch.cat([vector[row] for vector in vectors])
        scores = (op.gates.weight @ seen).reshape(3, 4)
        here = [i for i, name in enumerate("abc") if inputs[name].present[row]]
        for k in range(4):
            total = sum(scores[i, k].exp() for i in here)
            wanted = sum(
                scores[i, k].exp() / total * (vectors[i][row] @ op.features.weight[i][:, k]).tanh() for i in here
            )
            torch.testing.assert_close(found[row, k], wanted)


@pytest.mark.parametrize("names", ["ab", "abc"])
def test_a_sensor_alone_is_not_held_back_by_its_gate(names):
    op = GatedFusion(dict.fromkeys(names, 4), 4, 1.0)
    inputs, vectors = batch(names)
    for name in names[1:]:
        inputs = without(inputs, name)
    torch.testing.assert_close(op(inputs).values[:, 0], (vectors[0] @ op.features.weight[0]).tanh())
