"""Correlated first: who meets when, what cannot cross before the release, block-diagonal starts."""

import pytest
import torch
from scipy.linalg import subspace_angles

from fusionkit.core.levels import Tokens
from fusionkit.fusion.correlated_first import CorrelatedFirst, canonical_correlation, meetings
from fusionkit.fusion.operation import TrainingBatch
from fusionkit.fusion.vectors import pool_streams
from fusionkit.testing import cases_of
from fusionkit.testing.gradients import gradient_reaches_parameters, optimiser_moves_parameters


def stream(values, present=None):
    here = torch.ones(len(values), dtype=torch.bool) if present is None else present
    return Tokens(values[:, None], torch.ones(len(values), 1, dtype=torch.bool), here)


def records(rows=200, seed=0):
    """b is independent; c is a seen through a mixture, with noise. The label is of a and of b."""
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rows, 4, generator=g), torch.randn(rows, 4, generator=g)
    c = a @ torch.randn(4, 5, generator=g) + 0.3 * torch.randn(rows, 5, generator=g)
    return {"a": a, "b": b, "c": c}, (a[:, 0] > 0).float()


def fitted(values, label, dim=6, **options):
    torch.manual_seed(0)
    made = CorrelatedFirst({name: x.shape[1] for name, x in values.items()}, dim, None, **options)
    batch = TrainingBatch({name: stream(x) for name, x in values.items()}, {"task": label})
    with torch.no_grad():
        made.fit(lambda: [batch], torch.Generator().manual_seed(1))
    return made


def spread(made):
    """Give the cross weights values, as training would."""
    with torch.no_grad():
        made.cross.normal_(generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("seed", range(4))
def test_what_is_correlated_meets_first(seed):
    made = fitted(*records(seed=seed), epochs=0)
    assert made.met.int().tolist() == [[[1, 0, 1], [0, 1, 0], [1, 0, 1]], [[1, 1, 1]] * 3], made.correlation
    assert made.correlation[0, 2] > 0.8 and made.correlation[0, 1] < 0.4


def test_the_tree_by_hand():
    """1 and 3 first (0.9), then 0 and 2 (0.5), then all (mean of 0.1, 0.3, 0.1, 0.3)."""
    rho = torch.eye(4)
    for i, j, value in ((1, 3, 0.9), (0, 2, 0.5), (0, 1, 0.1), (0, 3, 0.3), (1, 2, 0.1), (2, 3, 0.3)):
        rho[i, j] = rho[j, i] = value
    first, second, third = meetings(rho).int()
    assert first.tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1]]
    assert second.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
    assert third.all()
    assert meetings(torch.eye(1)).tolist() == [[[True]]]


def test_before_the_release_no_sensor_reaches_another():
    values, label = records()
    made = fitted(values, label, epochs=3)
    spread(made)
    x = {name: one.clone().requires_grad_() for name, one in values.items()}
    vectors = pool_streams({name: stream(one) for name, one in x.items()}, x)
    scaled = made.scale(vectors)
    states = made._run(scaled, vectors.here, made.release)
    for place, name in enumerate(x):
        gradients = torch.autograd.grad(states[place].sum(), list(x.values()), retain_graph=True, allow_unused=True)
        for other, gradient in zip(x, gradients, strict=True):
            reached = gradient is not None and bool(gradient.any())
            assert reached == (other == name)
    assert torch.equal(states, made._run(scaled, vectors.here, None))


@pytest.mark.parametrize("passes", [0.0, 4.0, 9.0])
def test_matches_the_plain_formula(passes):
    values, label = records()
    made = fitted(values, label, epochs=2, hold=3.0, ramp=2.0)
    spread(made)
    made.seen.fill_(int(200 * passes))
    gamma = {0.0: 0.0, 4.0: 0.5, 9.0: 1.0}[passes]
    assert made.release.item() == gamma
    x = {name: stream(one[:3]) for name, one in values.items()}
    found = made.eval()(x).values
    blocks = made.scale(pool_streams(x, x))
    met = [{(0, 2), (2, 0)}, {(i, j) for i in range(3) for j in range(3) if i != j}]
    for row in range(3):
        h = [made.enter[k](blocks[k][row]) for k in range(3)]
        for layer in range(2):
            own, new = made.own[layer], []
            for k in range(3):
                z = h[k] @ own.weight[k] + own.bias[k]
                for n in range(3):
                    if (n, k) in met[layer]:
                        z = z + gamma * h[n] @ made.cross[layer, n, k]
                new.append(z.relu())
            h = new
        torch.testing.assert_close(found[row, 0], made.join(torch.cat(h)))


def test_the_fit_leaves_diagonal_blocks_that_know_the_task_and_no_cross_weights():
    values, label = records()
    made = fitted(values, label)
    assert not made.cross.any()
    vectors = pool_streams({name: stream(x) for name, x in values.items()}, values)
    with torch.no_grad():
        states = made._run(made.scale(vectors), vectors.here, None)
        raw = fitted(values, label, epochs=0)._run(made.scale(vectors), vectors.here, None)

    def explained(x):
        x = torch.cat([x, torch.ones(200, 1)], 1)
        wanted = label[:, None] - label.mean()
        return (
            1
            - (
                (x @ torch.linalg.lstsq(x, wanted, driver="gelsd").solution - wanted).square().sum()
                / wanted.square().sum()
            ).item()
        )

    assert explained(states[0]) > explained(raw[0]) + 0.1
    assert explained(states[1]) < 0.4  # b knows nothing but chance


def test_only_training_counts_towards_the_release_and_the_count_is_saved():
    values, label = records(rows=40)
    made = fitted(values, label, epochs=1)
    x = {name: stream(one[:10]) for name, one in values.items()}
    made.eval()(x)
    assert made.seen.item() == 0 and made.records.item() == 40
    made.train()(x)
    made(x)
    assert made.seen.item() == 20
    other = CorrelatedFirst({name: v.shape[1] for name, v in values.items()}, 6, None)
    other.load_state_dict(made.state_dict())
    assert other.seen.item() == 20 and torch.equal(other.met, made.met)


def test_released_weights_train():
    """The two checks that the class is exempt from, with nothing held back."""
    for case in cases_of(CorrelatedFirst, hold=0.0, ramp=0.0):
        gradient_reaches_parameters(case, case.build())
        optimiser_moves_parameters(case, case.build())


def test_canonical_correlation_is_the_cosine_of_principal_angles():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(30, 3, generator=g, dtype=torch.float64), torch.randn(30, 3, generator=g, dtype=torch.float64)
    wanted = torch.from_numpy(subspace_angles((a - a.mean(0)).numpy(), (b - b.mean(0)).numpy())).cos().mean()
    assert canonical_correlation(a, b, 3) == pytest.approx(wanted.item())
    turn = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))[0]
    assert canonical_correlation(a, 5 * a @ turn + 1, 3) == pytest.approx(1)
    assert canonical_correlation(a, torch.ones(30, 2), 3) == 0
    assert canonical_correlation(a[:2], b[:2], 3) == 0


def test_one_sensor_and_an_absent_one():
    values, label = records(rows=30)
    one = fitted({"a": values["a"]}, label, epochs=1)
    assert one({"a": stream(values["a"])}).values.shape == (30, 1, 6)
    made = fitted(values, label, epochs=1)
    made.seen.fill_(10**6)
    spread(made)
    nobody = torch.zeros(30, dtype=torch.bool)
    out = made.eval()({name: stream(x * torch.nan, nobody) if name == "c" else stream(x) for name, x in values.items()})
    assert out.values.isfinite().all() and out.mask.all()
