"""CKA: what it may not depend on, the plain formula, and the bias that the debiased one has not."""

import pytest
import torch

from fusionkit.fusion.cka import debiased_cka, linear_cka


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_debiased(a, b):
    """Sums over different rows, one at a time."""

    def hsic(x, y):
        n = len(x)
        k = [[float(x[i] @ x[j]) if i != j else 0.0 for j in range(n)] for i in range(n)]
        l = [[float(y[i] @ y[j]) if i != j else 0.0 for j in range(n)] for i in range(n)]
        trace = sum(k[i][j] * l[j][i] for i in range(n) for j in range(n))
        sums = sum(map(sum, k)) * sum(map(sum, l)) / ((n - 1) * (n - 2))
        cross = sum(k[i][q] * l[q][j] for i in range(n) for j in range(n) for q in range(n))
        return (trace + sums - 2 * cross / (n - 2)) / (n * (n - 3))

    return hsic(a, b) / (hsic(a, a) * hsic(b, b)) ** 0.5


@pytest.mark.parametrize("cka", [linear_cka, debiased_cka])
def test_rotation_scale_and_shift_change_nothing(cka):
    a = draw(30, 4)
    turn = torch.linalg.qr(draw(4, 4, seed=1))[0]
    assert cka(a, a) == pytest.approx(1)
    assert cka(a, a @ turn) == pytest.approx(1)
    assert cka(a, -3.5 * a + 7) == pytest.approx(1)
    assert cka(a, draw(30, 4, seed=2)) == pytest.approx(cka(draw(30, 4, seed=2), a))


def test_linear_cka_by_hand():
    """Columns (1, -1, 0) and (1, 1, -2) are orthogonal; (1, -1, 0) and (1, 0, -1) have the product 1, lengths 2."""
    a, b, c = (
        torch.tensor([[1.0], [-1.0], [0.0]]),
        torch.tensor([[1.0], [1.0], [-2.0]]),
        torch.tensor([[1.0], [0.0], [-1.0]]),
    )
    assert linear_cka(a, b) == pytest.approx(0)
    assert linear_cka(a, c) == pytest.approx(0.25)


def test_debiased_cka_is_the_plain_sum():
    a, b = draw(7, 3), draw(7, 2, seed=1)
    b[:, 0] += a[:, 1]
    assert debiased_cka(a, b) == pytest.approx(naive_debiased(a, b), abs=1e-9)


def test_independent_data_of_few_columns():
    assert linear_cka(draw(2000, 5), draw(2000, 5, seed=1)) < 0.05
    assert abs(debiased_cka(draw(2000, 5), draw(2000, 5, seed=1))) < 0.05


def test_with_as_many_columns_as_rows_only_the_debiased_one_knows_independence():
    pairs = [(draw(40, 60, seed=2 * i), draw(40, 60, seed=2 * i + 1)) for i in range(8)]
    assert min(linear_cka(a, b) for a, b in pairs) > 0.5
    assert abs(sum(debiased_cka(a, b) for a, b in pairs) / 8) < 0.03


def test_what_does_not_vary_agrees_with_nothing():
    assert linear_cka(torch.ones(9, 2), draw(9, 2)) == 0
    assert debiased_cka(torch.ones(9, 2), draw(9, 2)) == 0
    assert debiased_cka(draw(3, 2), draw(3, 2)) == 0  # too few rows to say
