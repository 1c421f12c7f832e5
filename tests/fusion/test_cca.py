"""The CCA objective against its definition by eigenvectors, and where that definition has no gradient."""

import pytest
import torch

from fusionkit.fusion.cca import RIDGE, CCAFusion, correlation_loss
from fusionkit.testing.streams import make_tokens, without


def plain(left, right, top=None):
    """The formula as it stands: symmetric inverse roots by eigenvectors, one pair, float64."""
    left, right = left.double(), right.double()
    left, right = left - left.mean(0), right - right.mean(0)
    free = len(left) - 1

    def root(x):
        values, vectors = torch.linalg.eigh(x.T @ x / free + RIDGE * torch.eye(x.shape[1]))
        kept = values > 1e-9
        return vectors[:, kept] @ torch.diag(values[kept] ** -0.5) @ vectors[:, kept].T

    t = root(left) @ (left.T @ right / free) @ root(right)
    squares = torch.linalg.eigvalsh(t.T @ t + RIDGE * torch.eye(t.shape[1]))
    return -squares.sqrt().sort(descending=True).values[:top].sum()


def every(pairs, rows):
    return torch.ones(pairs, rows, dtype=torch.bool)


@pytest.mark.parametrize("top", [None, 1, 2])
@pytest.mark.parametrize("rows", [40, 7, 3])
def test_equals_the_definition_by_eigenvectors(rows, top):
    left, right = torch.randn(2, rows, 5), torch.randn(2, rows, 5)
    right[..., :2] += left[..., :2]
    found = correlation_loss(left, right, every(2, rows), top)
    for pair in range(2):
        torch.testing.assert_close(found[pair], plain(left[pair], right[pair], top))


def test_equals_the_correlations_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.cross_decomposition")
    g = torch.Generator().manual_seed(0)
    left = torch.randn(400, 3, generator=g)
    right = left @ torch.randn(3, 3, generator=g) + torch.randn(400, 3, generator=g)
    one, two = (
        sklearn.CCA(3, max_iter=5000, tol=1e-10).fit(left.numpy(), right.numpy()).transform(left.numpy(), right.numpy())
    )
    found = [torch.corrcoef(torch.tensor([one[:, i].tolist(), two[:, i].tolist()]))[0, 1] for i in range(3)]
    wanted = -sum((one**2 + RIDGE) ** 0.5 for one in found)
    assert correlation_loss(left[None], right[None], every(1, 400)).item() == pytest.approx(wanted.item(), abs=3e-3)


def test_equal_streams_and_independent_ones():
    left = torch.randn(1, 5000, 3)
    assert correlation_loss(left, left, every(1, 5000)).item() == pytest.approx(-3, abs=0.01)
    assert correlation_loss(left, left @ torch.randn(3, 3), every(1, 5000)).item() == pytest.approx(-3, abs=0.05)
    apart = correlation_loss(left, torch.randn(1, 5000, 3), every(1, 5000)).item()
    assert -0.2 < apart < -0.09


def test_rows_that_lack_one_count_nothing():
    left, right, both = torch.randn(1, 20, 3), torch.randn(1, 20, 3), torch.rand(1, 20) < 0.7
    found = correlation_loss(left, right, both)
    torch.testing.assert_close(found[0], plain(left[0][both[0]], right[0][both[0]]))
    torch.testing.assert_close(correlation_loss(torch.where(both[..., None], left, 9.0), right, both), found)


@pytest.mark.parametrize("rows", [0, 1, 2, 4, 30])
def test_with_fewer_rows_than_numbers_its_gradient_is_finite_and_right(rows):
    both = torch.arange(30)[None] < rows
    left = torch.randn(1, 30, 6, dtype=torch.float64, requires_grad=True)
    right = torch.randn(1, 30, 6, dtype=torch.float64, requires_grad=True)
    loss = correlation_loss(left, right, both)
    loss.sum().backward()
    assert loss.isfinite().all() and left.grad.isfinite().all() and right.grad.isfinite().all()
    assert not left.grad[:, rows:].any()
    if rows in (4, 30):
        assert torch.autograd.gradcheck(lambda x: correlation_loss(x, right.detach(), both), left, atol=1e-4)


def test_a_number_that_is_not_finite_gives_nan_not_an_error():
    left, right = torch.randn(2, 9, 3), torch.randn(2, 9, 3)
    left[0, 2, 1] = torch.inf
    assert correlation_loss(left, right, every(2, 9)).isnan().tolist() == [True, False]


def test_the_operation_adds_the_mean_over_pairs_of_its_views():
    op = CCAFusion(dict.fromkeys("abc", 4), 4, 1.0, components=2, weight=0.5)
    g = torch.Generator().manual_seed(0)
    inputs = {name: make_tokens(4, 9, g, duration=1.0) for name in "abc"}
    inputs = without(inputs, "b", torch.arange(9) == 3)
    fused = op(inputs)
    vectors, real = op.vectors(inputs)
    total = 0.0
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = real[i] & real[j]
        total += plain((vectors[i] @ op.views.weight[i])[both], (vectors[j] @ op.views.weight[j])[both])
    torch.testing.assert_close(fused.auxiliary.double(), 0.5 * total / 3)
    torch.testing.assert_close(fused.tokens.values[:, 0], op.out(torch.cat(list(vectors), 1)))


def test_training_on_it_alone_finds_what_two_sensors_share():
    torch.manual_seed(1)
    op = CCAFusion(dict.fromkeys("ab", 6), 6, None, components=1, weight=1.0)
    shared = torch.randn(256, 1, 1)
    inputs = {}
    for name in "ab":
        values = 3 * torch.randn(256, 1, 6)
        values[..., :1] = shared + 0.1 * torch.randn(256, 1, 1)
        there = torch.ones(256, dtype=torch.bool)
        inputs[name] = make_tokens(6, 256, torch.Generator(), steps=1)._replace(
            values=values, mask=there[:, None], present=there
        )
    optimiser = torch.optim.Adam(op.views.parameters(), lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        op(inputs).auxiliary.backward()
        optimiser.step()
    assert op(inputs).auxiliary < -0.95
    weight = op.views.weight.detach()[:, :, 0].abs()
    assert (weight[:, 0] / weight.sum(1) > 0.7).all()
