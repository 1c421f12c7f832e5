"""Gradient surgery: hand values, plain loops, SciPy and torchjd as oracles."""

import numpy as np
import pytest
import scipy.optimize
import torch

from fusionkit.core.registry import surgery
from fusionkit.losses.balancing.cagrad import CAGrad, solve
from fusionkit.losses.balancing.pcgrad import PCGrad

HAND = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])


def gradients(seed, tasks, width=6):
    g = torch.Generator().manual_seed(seed)
    scale = torch.rand(tasks, 1, generator=g, dtype=torch.float64) * 5 + 0.1
    return scale * torch.randn(tasks, width, generator=g, dtype=torch.float64)


def test_projections_by_hand():
    torch.testing.assert_close(PCGrad()(HAND), torch.tensor([0.5, 1.5]))


def plain_pcgrad(rows, orders):
    """The paper's loop, vector by vector."""
    total = torch.zeros_like(rows[0])
    for i, order in enumerate(orders):
        mine = rows[i].clone()
        for j in order.tolist():
            if j != i and mine @ rows[j] < 0:
                mine = mine - (mine @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
        total = total + mine
    return total


@pytest.mark.parametrize("tasks", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_projections_are_those_of_a_plain_loop_in_the_seeded_order(seed, tasks):
    rows, g = gradients(seed, tasks), torch.Generator().manual_seed(seed)
    orders = [torch.randperm(tasks, generator=g) for _ in range(tasks)]
    got = PCGrad()(rows, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(got, plain_pcgrad(rows, orders))


def test_the_order_matters_and_comes_from_the_generator():
    rows = gradients(1, 5, width=2)
    answers = [PCGrad()(rows, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1, 2, 3)]
    assert torch.equal(answers[0], answers[1])
    assert any(not torch.allclose(answers[0], other) for other in answers[2:])


@pytest.mark.parametrize("kind", surgery.kinds())
def test_gradients_that_agree_are_nearly_summed_and_zeros_do_no_harm(kind):
    operation = surgery.build(kind)
    alike = torch.ones(3, 1) * torch.tensor([[1.0, 2.0]])
    direction = operation(alike)
    assert (direction / direction.norm() @ torch.tensor([1.0, 2.0]) / 5**0.5).item() == pytest.approx(1)
    if kind != "cagrad":
        torch.testing.assert_close(direction, alike.sum(0))
    assert torch.equal(operation(torch.zeros(2, 3)), torch.zeros(3))
    assert operation(torch.tensor([[0.0, 0.0], [1.0, -1.0]])).isfinite().all()
    assert operation(torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).isfinite().all()
    one = torch.tensor([[1.0, 3.0]])
    torch.testing.assert_close(operation(one) / operation(one).norm(), one[0] / one.norm())
    assert operation(alike.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("c", "wanted"), [(0.0, (0.0, 0.5)), (0.5, (0.25, 0.5)), (0.9, (0.37464, 0.74928))])
def test_conflict_averse_directions_by_hand(c, wanted):
    torch.testing.assert_close(CAGrad(c=c)(HAND) / 2, torch.tensor(wanted), atol=2e-5, rtol=0)


@pytest.mark.parametrize("c", [0.2, 0.5, 0.95])
@pytest.mark.parametrize("tasks", [2, 3, 6])
@pytest.mark.parametrize("seed", range(6))
def test_the_dual_is_solved_as_scipy_does_and_the_step_lies_on_the_ball(seed, tasks, c):
    rows = gradients(seed, tasks)
    products = (rows @ rows.T).numpy()
    radius = c * products.mean() ** 0.5

    def dual(w):
        return w @ products.mean(1) + radius * np.sqrt(max(w @ products @ w, 1e-30))

    weights = solve(products, c)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1)
    start = np.random.default_rng(seed).dirichlet(np.ones(tasks), size=4)
    found = min(
        scipy.optimize.minimize(
            dual,
            x,
            method="SLSQP",
            bounds=[(0, 1)] * tasks,
            options={"ftol": 1e-14, "maxiter": 500},
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        ).fun
        for x in start
    )
    assert dual(weights) <= found + 1e-7 * abs(found) + 1e-9
    mean, step = rows.mean(0), CAGrad(c=c)(rows) / tasks
    assert (step - mean).norm().item() == pytest.approx(c * mean.norm().item(), rel=1e-6)
    assert (rows @ step).min() >= (rows @ mean).min() - 1e-9
    assert (rows @ step).min().item() == pytest.approx(dual(weights), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_torchjd_projects_the_same(seed):
    aggregation = pytest.importorskip("torchjd.aggregation")
    rows = gradients(seed, 2)
    torch.testing.assert_close(PCGrad()(rows), aggregation.PCGrad()(rows))


@pytest.mark.parametrize("seed", range(4))
def test_torchjd_steps_the_same(seed):
    pytest.importorskip("cvxpy")
    aggregation = pytest.importorskip("torchjd.aggregation")
    rows = gradients(seed, 3)
    torch.testing.assert_close(CAGrad(c=0.5)(rows) / 3, aggregation.CAGrad(c=0.5)(rows), rtol=1e-3, atol=1e-3)
