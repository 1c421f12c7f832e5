"""Stacking: its formula, its fit against SciPy, and that it learns which branch to believe."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch

from fusionkit.core.levels import Decision
from fusionkit.fusion.operation import TrainingBatch
from fusionkit.fusion.stacking import Stacking, fit_logistic
from fusionkit.fusion.vote import Vote

HERE = torch.ones(2, 1, dtype=torch.bool)


def fitted(decisions, present, target, **options):
    names = tuple("abcd"[: len(decisions)])
    made = Stacking(names, **options)
    inputs = {name: Decision(decisions[m], present[m]) for m, name in enumerate(names)}
    made.fit(lambda: [TrainingBatch(inputs, {"task": target})], torch.Generator())
    return made


def records(seed=0, rows=300):
    """The first branch knows, the second swaps classes 1 and 2, the third guesses."""
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 3, (rows,), generator=g)
    raw = torch.randn(3, rows, 3, generator=g)
    raw[0] += 1.5 * torch.nn.functional.one_hot(target, 3)
    raw[1] += 4.0 * torch.nn.functional.one_hot(torch.tensor([0, 2, 1])[target], 3)
    return raw.log_softmax(-1), torch.ones(3, rows, dtype=torch.bool), target


def test_without_data_it_is_the_geometric_mean():
    made = Stacking(("a", "b"))
    decisions = torch.tensor([[[0.6, 0.4]], [[0.7, 0.3]]]).log()
    wanted = torch.tensor([[0.6517, 0.3483]])
    torch.testing.assert_close(made.merge_log_probabilities(decisions, HERE).exp(), wanted, atol=5e-5, rtol=0)
    made.bind(torch.tensor([0.9, 0.1]).log())
    torch.testing.assert_close(made.merge_log_probabilities(decisions, HERE).exp(), wanted, atol=5e-5, rtol=0)
    nobody = made.merge_log_probabilities(decisions, ~HERE).exp()
    torch.testing.assert_close(nobody, torch.tensor([[0.9, 0.1]]))


def test_the_fit_is_that_of_scipy_on_the_plain_formula():
    decisions, _, target = records(rows=40)
    rows = decisions[:2].double() / 2

    def plain(x):
        weight, bias = x[:18].reshape(2, 3, 3), x[18:]
        total = 0.25 * sum(((weight[m] - np.eye(3)) ** 2).sum() for m in range(2)) + 0.25e-6 * (bias**2).sum()
        for row in range(40):
            score = bias + sum(weight[m] @ rows[m, row].numpy() for m in range(2))
            total -= score[target[row]] - np.log(np.exp(score).sum())
        return total

    found = scipy.optimize.minimize(plain, np.zeros(21), tol=1e-10)
    weight, bias = fit_logistic(rows, target, 0.5)
    mine = np.concatenate([weight.numpy().ravel(), bias.numpy()])
    assert plain(mine) == pytest.approx(found.fun, rel=1e-7)
    np.testing.assert_allclose(mine[:18], found.x[:18], atol=2e-3)


def test_it_merges_by_the_plain_formula_with_branches_absent():
    decisions, present, target = records()
    made = fitted(decisions, present, target.float())
    here = torch.rand(3, 300) < 0.5
    got = made.merge_log_probabilities(decisions, here).exp()
    for row in range(40):
        seen = [m for m in range(3) if here[m, row]]
        if seen:
            score = made.bias + sum(made.weight[m] @ decisions[m, row].clamp_min(-9.21) for m in seen) / len(seen)
            torch.testing.assert_close(got[row], score.softmax(0))
        else:
            torch.testing.assert_close(got[row], torch.full((3,), 1 / 3))


def test_it_beats_every_branch_and_the_vote_where_one_errs_regularly():
    """The swap is undone, for one matrix a branch maps its classes to the right ones."""
    decisions, present, target = records(rows=1000)
    made = fitted(decisions, present, target.float())
    fresh, present, truth = records(seed=1, rows=2000)

    def right(log_probabilities):
        return (log_probabilities.argmax(-1) == truth).float().mean().item()

    stacked = right(made.merge_log_probabilities(fresh, present))
    mean = right(Vote(("a", "b", "c")).merge_log_probabilities(fresh, present))
    assert stacked > max(mean, *(right(branch) for branch in fresh)) + 0.05
    felt = [(weight - weight.mean(0)).abs().max() for weight in made.weight]  # the rest moves all classes alike
    assert felt[2] < 0.5
    assert felt[0] > 1.0


def test_missing_labels_and_absent_branches_change_nothing():
    decisions, present, target = records()
    target = target.float()
    present[1, ::3] = False
    made = fitted(decisions, present, target)
    more = torch.cat([decisions, torch.full((3, 2, 3), math.nan)], 1)
    more[1, :300][~present[1]] = math.inf
    shown = torch.cat([present, torch.tensor([[True, False]] * 3)], 1)
    other = fitted(more.nan_to_num(-1.0), shown, torch.cat([target, torch.tensor([math.nan, 1.0])]))
    torch.testing.assert_close(made.weight, other.weight)
    torch.testing.assert_close(made.bias, other.bias)
    clean = made.merge_log_probabilities(decisions, present)
    assert torch.equal(made.merge_log_probabilities(more[:, :300], present), clean)


def test_labels_are_fitted_one_by_one():
    decisions, present, target = records()
    one, two = ((target == k).float() for k in (1, 2))
    pairs = torch.stack([decisions[:, :, [0, 1]].log_softmax(-1), decisions[:, :, [0, 2]].log_softmax(-1)], 2)
    both = fitted(pairs, present, torch.stack([one, two], 1))
    for label, truth in enumerate((one, two)):
        alone = fitted(pairs[:, :, label], present, truth)
        torch.testing.assert_close(both.weight[:, label], alone.weight)
        torch.testing.assert_close(both.bias[label], alone.bias)


def test_numbers_are_merged_by_ridge_regression():
    torch.manual_seed(0)
    target = 5 + torch.randn(200)
    decisions = torch.stack([2 * target + 1 + 0.3 * torch.randn(200), torch.randn(200)])[..., None]
    present = torch.ones(2, 200, dtype=torch.bool)
    made = fitted(decisions, present, target[:, None], penalty=0.5)

    def plain(x):
        wide = decisions[..., 0].double()
        answer = x[2] + (x[0] * wide[0] + x[1] * wide[1]) / 2
        rest = ((target.double() - answer) ** 2).sum() / target.double().var(correction=0)
        return float(rest + 0.5 * ((x[0] - 1) ** 2 + (x[1] - 1) ** 2))

    found = scipy.optimize.minimize(plain, np.zeros(3), tol=1e-12).x
    np.testing.assert_allclose([*made.weight.flatten().tolist(), made.bias.item()], found, atol=2e-3)
    got = made.merge_values(decisions, present)[:, 0]
    assert (got - target).square().mean() < 0.05
    only = made.merge_values(decisions, torch.tensor([[True], [False]]).expand(-1, 200))[:, 0]
    torch.testing.assert_close(only, made.bias + made.weight[0, 0, 0] * decisions[0, :, 0])


def test_state_round_trips():
    decisions, present, target = records()
    made = fitted(decisions, present, target.float())
    other = Stacking(("a", "b", "c"))
    other.bind(torch.full((3,), 1 / 3).log())
    other.load_state_dict(made.state_dict())
    assert torch.equal(
        other.merge_log_probabilities(decisions, present), made.merge_log_probabilities(decisions, present)
    )


def test_numbers_that_never_differ_are_fitted_though_a_branch_was_never_there():
    op = Stacking(("a", "b"))
    op.bind(torch.tensor([2.0]))
    values, there = torch.randn(6, 1), torch.ones(6, dtype=torch.bool)
    batch = TrainingBatch({"a": Decision(values, there), "b": Decision(values, ~there)}, {"y": torch.full((6, 1), 2.0)})
    op.fit(lambda: [batch], torch.Generator())
    got = op.merge_values(torch.stack([values, values]), torch.stack([there, ~there]))
    assert op.weight.isfinite().all()
    torch.testing.assert_close(got, torch.full((6, 1), 2.0), atol=1e-4, rtol=0)
