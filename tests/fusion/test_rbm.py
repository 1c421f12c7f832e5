"""RBM: every number by enumeration, contrastive divergence against a plain loop, learning on a toy."""

import itertools
import math

import pytest
import torch

from fusionkit.fusion.rbm import RBM


def machine(visible, hidden, gaussian=False, seed=0, scale=1.0):
    """A machine with weights of some size, so that nothing is nearly zero."""
    g = torch.Generator().manual_seed(seed)
    made = RBM(visible, hidden, gaussian=gaussian, generator=g)
    made.weight = scale * torch.randn(visible, hidden, generator=g)
    made.visible = scale * torch.randn(visible, generator=g)
    made.hidden = scale * torch.randn(hidden, generator=g)
    return made


def states(units):
    return [torch.tensor(bits, dtype=torch.float32) for bits in itertools.product((0, 1), repeat=units)]


def energy(rbm, v, h):
    if rbm.gaussian:
        return 0.5 * ((v - rbm.visible) ** 2).sum() - v @ rbm.weight @ h - rbm.hidden @ h
    return -(v @ rbm.weight @ h) - rbm.visible @ v - rbm.hidden @ h


def log_partition(rbm):
    every = [(v, h) for v in states(len(rbm.visible)) for h in states(len(rbm.hidden))]
    return torch.logsumexp(torch.stack([-energy(rbm, v, h) for v, h in every]), 0)


def log_likelihood(rbm, rows):
    return float((-rbm.free_energy(rows) - log_partition(rbm)).mean())


def by_hand():
    rbm = machine(2, 1)
    rbm.weight, rbm.visible, rbm.hidden = torch.tensor([[1.0], [-1.0]]), torch.tensor([0.2, -0.3]), torch.tensor([0.5])
    return rbm


def test_the_values_of_the_definition():
    rbm = by_hand()
    assert log_partition(rbm).exp().item() == pytest.approx(12.930881, abs=1e-5)
    rows = torch.stack(states(2))
    p = (-rbm.free_energy(rows) - log_partition(rbm)).exp()
    torch.testing.assert_close(p, torch.tensor([0.204837, 0.092039, 0.517780, 0.185344]), atol=1e-6, rtol=0)
    assert rbm.hide(torch.tensor([[1.0, 0.0]])).item() == pytest.approx(0.817574, abs=1e-6)
    shown = rbm.show(torch.tensor([[1.0]]))[0]
    torch.testing.assert_close(shown, torch.tensor([0.768525, 0.214165]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("gaussian", [False, True])
def test_free_energy_and_hidden_units_by_enumeration(gaussian):
    rbm = machine(3, 2, gaussian)
    for v in torch.randn(4, 3) if gaussian else states(3):
        joint = torch.stack([-energy(rbm, v, h) for h in states(2)])
        torch.testing.assert_close(-rbm.free_energy(v[None])[0], torch.logsumexp(joint, 0))
        p = joint.softmax(0)
        on = sum(weight * h for weight, h in zip(p, states(2), strict=True))
        torch.testing.assert_close(rbm.hide(v[None])[0], on)


def test_gaussian_visible_units_are_normal_around_their_mean():
    """For fixed h the energy is a parabola in v whose lowest point is ``show(h)``, with curvature 1."""
    rbm, h = machine(2, 2, gaussian=True), torch.tensor([1.0, 0.0])
    mean = rbm.show(h[None])[0]
    for apart in (torch.tensor([0.3, 0.0]), torch.tensor([-1.0, 2.0])):
        rise = energy(rbm, mean + apart, h) - energy(rbm, mean, h)
        assert rise.item() == pytest.approx(0.5 * apart.square().sum().item(), abs=1e-4)


@pytest.mark.parametrize(("gaussian", "steps"), [(False, 1), (False, 3), (True, 1), (True, 2)])
def test_contrastive_divergence_is_the_plain_loop(gaussian, steps):
    rbm = machine(3, 2, gaussian)
    data = torch.randn(4, 3) if gaussian else torch.stack(states(3))[2:6]
    rbm.generator.manual_seed(9)
    found = rbm.divergence(data, steps)
    g = torch.Generator().manual_seed(9)

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    def hidden_of(v):
        return [sigmoid(rbm.hidden[j] + sum(v[i] * rbm.weight[i, j] for i in range(3))) for j in range(2)]

    v = [[float(x) for x in row] for row in data]
    first = h = [hidden_of(row) for row in v]
    for _ in range(steps):
        draw = torch.rand(4, 2, generator=g)
        on = [[float(draw[r, j] < h[r][j]) for j in range(2)] for r in range(4)]
        mean = [
            [rbm.visible[i] + sum(on[r][j] * rbm.weight[i, j] for j in range(2)) for i in range(3)] for r in range(4)
        ]
        if gaussian:
            noise = torch.randn(4, 3, generator=g)
            v = [[float(mean[r][i] + noise[r, i]) for i in range(3)] for r in range(4)]
        else:
            noise = torch.rand(4, 3, generator=g)
            v = [[float(noise[r, i] < sigmoid(mean[r][i])) for i in range(3)] for r in range(4)]
        h = [hidden_of(row) for row in v]
    for i in range(3):
        assert found.visible[i].item() == pytest.approx(
            sum(data[r][i].item() - v[r][i] for r in range(4)) / 4, abs=1e-5
        )
        for j in range(2):
            wanted = sum(data[r][i].item() * first[r][j] - v[r][i] * h[r][j] for r in range(4)) / 4
            assert found.weight[i, j].item() == pytest.approx(wanted, abs=1e-5)
    for j in range(2):
        assert found.hidden[j].item() == pytest.approx(sum(first[r][j] - h[r][j] for r in range(4)) / 4, abs=1e-5)


def test_a_long_chain_follows_the_exact_gradient_of_the_likelihood():
    """A 3 x 2 machine by enumeration: 4,000 chains of 30 steps."""
    rbm = machine(3, 2, scale=0.5)
    data = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    parts = (rbm.weight, rbm.visible, rbm.hidden)
    for part in parts:
        part.requires_grad_()
    likelihood = (-rbm.free_energy(data) - log_partition(rbm)).mean()
    exact = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(likelihood, parts)])
    with torch.no_grad():
        found = torch.cat([part.flatten() for part in rbm.divergence(data.repeat(1000, 1), 30)])
    assert torch.corrcoef(torch.stack([exact, found]))[0, 1] > 0.99
    assert (found - exact).abs().max() < 0.03


def test_the_likelihood_of_bars_rises():
    """2 x 3 images of vertical or horizontal bars."""
    bars = torch.tensor(
        [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 0, 1, 0, 0], [0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1]]
    )
    rows = bars.float().repeat(40, 1)
    rbm = RBM(6, 4, gaussian=False, generator=torch.Generator().manual_seed(0))
    before = log_likelihood(rbm, rows)
    rbm.fit(rows, epochs=150, steps=1, lr=0.1)
    assert before == pytest.approx(-6 * math.log(2), abs=0.1)
    assert log_likelihood(rbm, rows) > before + 0.8  # the best there is: -log 5


def test_gaussian_free_energy_tells_the_data_from_shuffled_data():
    g = torch.Generator().manual_seed(1)
    side = (torch.rand(400, 1, generator=g) < 0.5).float() * 2 - 1
    rows = side * torch.tensor([1.0, -1.0, 1.0]) * 0.9 + 0.4 * torch.randn(400, 3, generator=g)
    rbm = RBM(3, 4, gaussian=True, generator=g)
    rbm.fit(rows, epochs=60, steps=1, lr=0.02)
    shuffled = torch.stack([column[torch.randperm(400, generator=g)] for column in rows.T], 1)
    assert rbm.free_energy(rows).mean() < rbm.free_energy(shuffled).mean() - 0.5
