"""Multiplicative interactions: the sums written out, one row at a time."""

import pytest
import torch

from fusionkit.core.levels import pool
from fusionkit.fusion.multiplicative import (
    MatrixInteraction,
    MultiplicativeFusion,
    ScalarInteraction,
    VectorInteraction,
)
from fusionkit.testing.streams import make_tokens, without


def roused(module):
    """Nothing at zero, so that every term shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def plain(part, x, z):
    """One row, by the formula of each form."""
    if isinstance(part, MatrixInteraction):
        return torch.stack([
            sum(x[i] * z[j] * part.W[i, j, k] for i in range(len(x)) for j in range(len(z)))
            + sum(z[j] * part.V[j, k] for j in range(len(z)))
            + sum(x[i] * part.U[i, k] for i in range(len(x)))
            + part.b[k]
            for k in range(len(part.b))
        ])  # fmt: skip
    if isinstance(part, VectorInteraction):
        return torch.stack([
            (sum(x[i] * part.W[i, j] for i in range(len(x))) + part.V[j]) * z[j]
            + sum(x[i] * part.U[i, j] for i in range(len(x))) + part.b[j]
            for j in range(len(z))
        ])  # fmt: skip
    return (part.w.dot(x) + part.v) * z + (part.u.dot(x) + part.b)


@pytest.mark.parametrize("part", [MatrixInteraction(2, 3, 4), VectorInteraction(2, 3), ScalarInteraction(2)])
def test_every_form_row_by_row(part):
    roused(part)
    x, z = torch.randn(5, 2), torch.randn(5, 3)
    torch.testing.assert_close(part(x, z), torch.stack([plain(part, x[i], z[i]) for i in range(5)]))


def test_matrix_has_the_papers_number_of_parameters_and_biases_start_at_zero():
    part = MatrixInteraction(32, 64, 16)
    assert sum(p.numel() for p in part.parameters()) == 34_320
    assert (part.b == 0).all()
    for zero in (VectorInteraction(3, 3).V, VectorInteraction(3, 3).b, ScalarInteraction(3).v, ScalarInteraction(3).b):
        assert (zero == 0).all()


def test_scalar_by_hand():
    part = ScalarInteraction(2)
    with torch.no_grad():
        part.w.copy_(torch.tensor([1.0, 0.0]))
        part.u.copy_(torch.tensor([0.0, 1.0]))
    assert part(torch.tensor([[2.0, 3.0]]), torch.tensor([[1.0, 5.0]])).tolist() == [[5.0, 13.0]]


def test_terms_start_with_unit_variance():
    x, z = torch.randn(512, 32), torch.randn(512, 32)
    part = MatrixInteraction(32, 32, 32)
    assert (part(x, z) - z @ part.V - x @ part.U).std().item() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("form", ["matrix", "vector", "scalar"])
def test_more_sensors_are_folded_from_left_to_right_and_absent_ones_are_zeros(form):
    op = roused(MultiplicativeFusion(dict.fromkeys("abc", 4), 4, 1.0, form=form))
    g = torch.Generator().manual_seed(0)
    inputs = {name: make_tokens(4, 5, g, duration=1.0) for name in "abc"}
    inputs = without(inputs, "b", torch.tensor([True, False, True, False, False]))
    a, b, c = (pool(tokens) for tokens in inputs.values())
    found = op(inputs).values[:, 0]
    for row in range(5):
        second = plain(op.interactions[0], a[row], b[row])
        torch.testing.assert_close(found[row], plain(op.interactions[1], second, c[row]))
    assert (b[0] == 0).all()


def test_cost_grows_with_the_number_of_sensors_not_its_square():
    count = [
        sum(p.numel() for p in MultiplicativeFusion({str(i): 4 for i in range(m)}, 4, None).parameters())
        for m in (2, 3, 4)
    ]
    assert count[1] == 2 * count[0] and count[2] == 3 * count[0]
