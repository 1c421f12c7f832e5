"""Low-rank fusion against the dense tensor that its factors stand for, and the size of what comes out."""

import pytest
import torch

from fusionkit.core.levels import Tokens
from fusionkit.fusion.low_rank import LowRankFusion
from fusionkit.fusion.tensor import tensor_product


def make(sensors, dim, **options):
    return LowRankFusion({str(i): dim for i in range(sensors)}, dim, None, **options)


def run(op, vectors, there=None):
    """One token a sensor."""
    rows = vectors.shape[1]
    here = torch.ones(len(vectors), rows, dtype=torch.bool) if there is None else there
    ones = torch.ones(rows, 1, dtype=torch.bool)
    inputs = {name: Tokens(vectors[i][:, None], ones, here[i]) for i, name in enumerate(op.inputs)}
    return op(inputs).values[:, 0]


def dense(op):
    """Sum over ranks of a_i times the outer product of the factors, written out for every output."""
    sensors, led, rank, out = op.factors.shape
    weights = torch.zeros(led**sensors, out, dtype=op.factors.dtype)
    for i in range(rank):
        for o in range(out):
            product = torch.ones(1, dtype=op.factors.dtype)
            for m in range(sensors):
                product = torch.outer(product, op.factors[m, :, i, o]).flatten()
            weights[:, o] += op.a[0, i] * product
    return weights


@pytest.mark.parametrize("init", ["scaled", "paper"])
@pytest.mark.parametrize("sensors", [1, 2, 3])
def test_equals_the_dense_tensor_of_its_factors(sensors, init):
    op = make(sensors, 3, rank=2, init=init).double()
    with torch.no_grad():
        op.factors.add_(torch.randn_like(op.factors))
        op.a.normal_()
        op.b.normal_()
    vectors = torch.randn(sensors, 5, 3, dtype=torch.float64)
    there = torch.rand(sensors, 5) < 0.7
    there[0] = True
    clean = vectors * there[..., None]
    wanted = tensor_product(list(clean)) @ dense(op) + op.b
    torch.testing.assert_close(run(op, vectors, there), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("sensors", "dim", "rank"), [(2, 8, 3), (4, 5, 1)])
def test_parameters_are_counted_by_the_formula(sensors, dim, rank):
    op = make(sensors, dim, rank=rank)
    assert sum(p.numel() for p in op.parameters()) == rank * dim * sensors * (dim + 1) + rank + dim


@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("sensors", [1, 2, 3, 4, 5, 6])
def test_the_answer_keeps_its_size_with_more_sensors(sensors, rank):
    spread = [run(make(sensors, 32, rank=rank), torch.randn(sensors, 256, 32)).std(0).square().mean() for _ in range(8)]
    assert 0.7 < torch.stack(spread).mean().sqrt() < 1.5


def test_as_published_it_vanishes():
    spread = [run(make(m, 32, init="paper"), torch.randn(m, 256, 32)).std(0).mean() for m in (2, 3, 4)]
    assert spread[0] > 3 * spread[1] > 9 * spread[2] and spread[2] < 1e-2


def test_as_published_draws_are_xavier_with_the_papers_axes():
    op = make(2, 40, rank=10, init="paper")
    wanted = (2 / (10 * 40 + 41 * 40)) ** 0.5
    assert op.factors.std().item() == pytest.approx(wanted, rel=0.02)
    assert (op.b == 0).all()


def test_at_first_an_absent_sensor_multiplies_by_one():
    op = make(3, 8)
    vectors = torch.randn(3, 6, 8)
    there = torch.tensor([[True] * 6, [False] * 6, [True] * 6])
    pair = make(2, 8)
    with torch.no_grad():
        pair.factors.copy_(op.factors[[0, 2]])
    torch.testing.assert_close(run(op, vectors, there), run(pair, vectors[[0, 2]]))
