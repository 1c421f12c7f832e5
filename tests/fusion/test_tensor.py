"""Tensor fusion: its products one by one, their number, and what an absent sensor leaves."""

import itertools

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import pool
from fusionkit.fusion.tensor import TensorFusion, tensor_product
from fusionkit.testing.streams import make_tokens, without


def plain_products(vectors):
    """Every choice of one entry of each [1; h], the last sensor's changing fastest."""
    led = [[1.0, *vector.tolist()] for vector in vectors]
    return torch.tensor([torch.tensor(choice).prod() for choice in itertools.product(*led)])


@pytest.mark.parametrize("widths", [(3,), (2, 3), (3, 1, 2), (1, 2, 1, 2)])
def test_products_one_by_one(widths):
    vectors = [torch.randn(4, width) for width in widths]
    found = tensor_product(vectors)
    for row in range(4):
        torch.testing.assert_close(found[row], plain_products([vector[row] for vector in vectors]))
    assert (found[:, 0] == 1).all()


def test_by_hand_and_by_number():
    found = tensor_product([torch.tensor([[2.0]]), torch.tensor([[3.0, 5.0]])])
    assert found.tolist() == [[1, 3, 5, 2, 6, 10]]
    assert tensor_product([torch.ones(1, 64), torch.ones(1, 32)]).shape == (1, 2145)
    assert tensor_product([torch.ones(1, 64), torch.ones(1, 32), torch.ones(1, 16)]).shape == (1, 36465)


def test_an_absent_sensor_leaves_the_products_of_the_others():
    a, b, c = torch.randn(2, 2), torch.zeros(2, 3), torch.randn(2, 2)
    found = tensor_product([a, b, c]).reshape(2, 3, 4, 3)
    torch.testing.assert_close(found[:, :, 0].flatten(1), tensor_product([a, c]))
    assert (found[:, :, 1:] == 0).all()


@pytest.mark.parametrize("width", [None, 2])
def test_the_answer_is_two_layers_on_the_products(width):
    op = TensorFusion({"a": 4, "b": 4}, 4, 1.0, width=width).eval()
    g = torch.Generator().manual_seed(0)
    inputs = {name: make_tokens(4, 5, g, duration=1.0) for name in "ab"}
    inputs = without(inputs, "b", torch.tensor([True, False, False, False, False]))
    vectors = [pool(tokens) for tokens in inputs.values()]
    if width is not None:
        with torch.no_grad():
            op.reduce.bias.normal_()
        vectors = [vector @ op.reduce.weight[i] + op.reduce.bias[i] for i, vector in enumerate(vectors)]
        vectors[1][0] = 0
    _, first, _, second, _ = op.network
    wanted = (second((first(tensor_product(vectors))).clamp_min(0))).clamp_min(0)
    torch.testing.assert_close(op(inputs).values[:, 0], wanted)
    assert first.in_features == (25 if width is None else 9)


def test_too_many_products_are_refused_with_their_number_and_a_width_that_fits():
    inputs = dict.fromkeys("abc", 64)
    with pytest.raises(ConfigError, match=r"3 sensors of width 64 have 274,625; a width of 35 fits"):
        TensorFusion(inputs, 64, None)
    assert TensorFusion(inputs, 64, None, width=35).network[1].in_features == 46_656
    with pytest.raises(ConfigError, match="46,656; a width of 34 fits"):
        TensorFusion(inputs, 64, None, width=35, limit=46_655)
    with pytest.raises(ConfigError, match="1,024; low_rank"):
        TensorFusion(dict.fromkeys("abcdefghij", 1), 1, None, limit=1_000)
