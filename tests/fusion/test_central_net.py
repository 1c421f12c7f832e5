"""CentralNet: the equations layer by layer, its two limits, and the sensors' own losses from recipe to objective."""

import pytest
import torch

from fusionkit.core.levels import pool
from fusionkit.fusion.central_net import CentralNet
from fusionkit.testing.streams import make_tokens, without

SOME = torch.tensor([True, False, True, False, False])


def batch(names="ab"):
    g = torch.Generator().manual_seed(0)
    return {name: make_tokens(4, 5, g, duration=1.0) for name in names}


def roused(names="ab", **options):
    op = CentralNet(dict.fromkeys(names, 4), 4, 1.0, **options)
    with torch.no_grad():
        for name, parameter in op.named_parameters():
            if "share" not in name:
                parameter.normal_()
    return op


def plain(op, vectors):
    """One row: a list of vectors, None where a sensor is absent."""
    centre = None
    for layer in range(len(op.centre) + 1):
        total = torch.zeros(4)
        for k, vector in enumerate(vectors):
            if vector is not None:
                total = total + op.sensor_share[layer, k] * vector
        if centre is not None:
            total = total + op.centre_share[layer - 1] * centre
        if layer == len(op.centre):
            return total, vectors
        centre = (op.centre[layer].weight @ total + op.centre[layer].bias).clamp_min(0)
        own = op.sensors[layer]
        vectors = [
            None if vector is None else (vector @ own.weight[k] + own.bias[k]).clamp_min(0)
            for k, vector in enumerate(vectors)
        ]


@pytest.mark.parametrize("layers", [1, 3])
def test_layer_by_layer(layers):
    op = roused("abc", layers=layers)
    with torch.no_grad():
        op.sensor_share.normal_()
        op.centre_share.normal_()
    inputs = without(batch("abc"), "b", SOME)
    found = op(inputs)
    vectors = {name: pool(tokens) for name, tokens in inputs.items()}
    for row in range(5):
        wanted, own = plain(op, [vectors[n][row] if inputs[n].present[row] else None for n in "abc"])
        torch.testing.assert_close(found.tokens.values[row, 0], wanted)
        for name, vector in zip("abc", own, strict=True):
            stream = found.streams[name]
            assert stream.present[row] == inputs[name].present[row] == (vector is not None) == stream.mask[row, 0]
            torch.testing.assert_close(stream.values[row, 0], torch.zeros(4) if vector is None else vector)
    assert found.auxiliary == 0


def test_shares_start_even():
    op = CentralNet(dict.fromkeys("abc", 4), 4, None)
    assert (op.sensor_share == 0.25).all() and (op.centre_share == 0.25).all()
    assert op.sensor_share.shape == (3, 3) and op.centre_share.shape == (2,)


def test_with_the_sensors_last_share_only_each_adds_what_it_became_alone():
    op = roused()
    with torch.no_grad():
        op.sensor_share[:-1] = 0
        op.centre_share.zero_()
    inputs = batch()
    both, a, b = (op(x).tokens.values for x in (inputs, without(inputs, "b"), without(inputs, "a")))
    torch.testing.assert_close(both, a + b)


def test_with_the_first_share_only_the_sensors_own_layers_do_not_matter():
    op = roused()
    with torch.no_grad():
        op.sensor_share[1:] = 0
    inputs = batch()
    before = op(inputs).tokens.values
    with torch.no_grad():
        for layer in op.sensors:
            layer.weight.normal_()
    torch.testing.assert_close(op(inputs).tokens.values, before)
    assert not torch.allclose(before, op(without(inputs, "a")).tokens.values)


def test_every_share_gets_a_gradient():
    op = roused()
    op(batch()).tokens.values.square().sum().backward()
    assert op.sensor_share.grad.all() and op.centre_share.grad.all()


def test_without_a_weight_no_stream_is_handed_out():
    op = roused(sensor_weight=0.0)
    assert not op.streams and not op(batch()).streams
    assert dict(roused(sensor_weight=0.5).streams) == {"a": 0.5, "b": 0.5}
