"""Trusted evidence: Dempster's rule by a plain loop, its loss by torch.distributions and hand values."""

import itertools
import math

import pytest
import torch
from torch.distributions import Dirichlet, kl_divergence

from fusionkit.fusion.trusted import Trusted, evidential_loss, merge_evidence

HERE = torch.ones(2, 1, dtype=torch.bool)


def inverse_softplus(values):
    return torch.tensor(values, dtype=torch.float64).expm1().log()


def plain(opinions, classes):
    """Beliefs and doubts of one record, folded pair by pair as the paper writes it."""
    belief, doubt = torch.zeros(classes, dtype=torch.float64), 1.0
    for e in opinions:
        strength = float((e + 1).sum())
        b, u = e / strength, classes / strength
        conflict = sum(float(belief[i] * b[j]) for i, j in itertools.permutations(range(classes), 2))
        belief = (belief * b + belief * u + b * doubt) / (1 - conflict)
        doubt = doubt * u / (1 - conflict)
    strength = classes / doubt
    return belief * strength + 1


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("branches", [1, 2, 4])
def test_merges_as_dempsters_rule_pair_by_pair(branches, classes):
    g = torch.Generator().manual_seed(branches)
    raw = 3 * torch.randn(branches, 6, classes, generator=g, dtype=torch.float64)
    present = torch.rand(branches, 6, generator=g) < 0.6
    got = Trusted(tuple("abcd"[:branches])).merge_log_probabilities(raw, present)
    for row in range(6):
        seen = [torch.nn.functional.softplus(raw[m, row]) for m in range(branches) if present[m, row]]
        alpha = plain(seen, classes)
        torch.testing.assert_close(got[row].exp(), alpha / alpha.sum())


def test_evidence_of_two_twice_by_hand():
    single = torch.tensor([[[2.0, 0.0]], [[2.0, 0.0]]])
    torch.testing.assert_close(merge_evidence(single).exp(), torch.tensor([[7.0, 1.0]]))
    raw = inverse_softplus([[[2.0, 1e-12]], [[2.0, 1e-12]]])
    merged = Trusted(("a", "b")).merge_log_probabilities(raw, HERE).exp()
    torch.testing.assert_close(merged, torch.tensor([[0.875, 0.125]], dtype=torch.float64))


def test_a_doubtful_branch_yields_to_one_that_knows():
    raw = inverse_softplus([[[50.0, 1e-9]], [[1e-9, 0.5]]])
    assert Trusted(("a", "b")).merge_log_probabilities(raw, HERE).exp()[0, 0] > 0.9


def test_an_absent_branch_changes_no_bit_and_none_at_all_is_uniform():
    made, present = Trusted(("a", "b")), torch.tensor([[True, False, False], [True, True, False]])
    raw = torch.randn(2, 3, 4)
    clean = made.merge_log_probabilities(raw, present)
    for filling in (math.nan, math.inf, -math.inf, 300.0):
        other = torch.where(present[..., None], raw, filling)
        assert torch.equal(made.merge_log_probabilities(other, present), clean)
    torch.testing.assert_close(clean[2].exp(), torch.full((4,), 0.25))


def test_much_evidence_stays_finite():
    made, raw = Trusted(tuple("abcdef")), torch.full((6, 1, 3), 1e4)
    raw[:, :, 0] = 3e4
    merged = made.merge_log_probabilities(raw, torch.ones(6, 1, dtype=torch.bool))
    assert merged.isfinite().all() and merged[0].argmax() == 0


def test_no_evidence_costs_one_and_evidence_for_the_right_class_less():
    """psi(2) - psi(1) = 1; alpha (3, 1): psi(4) - psi(3) = 1/3."""
    alpha = torch.tensor([[1.0, 1.0], [3.0, 1.0]])
    loss = evidential_loss(alpha, torch.tensor([0, 0]), torch.tensor(1.0))
    torch.testing.assert_close(loss, torch.tensor([1.0, 1 / 3]))


def test_the_loss_is_an_expected_cross_entropy_and_a_divergence():
    """Against torch.distributions, and against the mean over samples."""
    torch.manual_seed(0)
    alpha, target = torch.rand(5, 3, dtype=torch.float64) * 4 + 1, torch.tensor([0, 1, 2, 0, 1])
    for share in (0.0, 0.4):
        got = evidential_loss(alpha, target, torch.tensor(share))
        for row in range(5):
            drawn = Dirichlet(alpha[row]).sample((200_000,))
            fit = -drawn[:, target[row]].log().mean()
            wrong = alpha[row].clone()
            wrong[target[row]] = 1.0
            divergence = kl_divergence(Dirichlet(wrong), Dirichlet(torch.ones(3, dtype=torch.float64)))
            assert got[row].item() == pytest.approx((fit + share * divergence).item(), abs=0.02)
    exact = evidential_loss(alpha, target, torch.tensor(1.0)) - evidential_loss(alpha, target, torch.tensor(0.0))
    wrong = alpha.clone()
    wrong[torch.arange(5), target] = 1.0
    torch.testing.assert_close(exact, kl_divergence(Dirichlet(wrong), Dirichlet(torch.ones(5, 3).double())))


def test_branches_and_merged_opinion_are_trained_where_there_are_labels():
    made = Trusted(("a", "b"))
    raw = torch.randn(2, 4, 3, requires_grad=True)
    present = torch.tensor([[True, False, True, False], [True, True, True, False]])
    target = torch.tensor([0.0, 2.0, math.nan, 1.0])
    for epoch, share in ((0, 0.0), (5, 0.5), (40, 1.0)):
        made.epoch.fill_(epoch)
        total, weight = made.loss(raw, present, target)
        wanted = 0.0
        for row in (0, 1):
            opinions = [torch.nn.functional.softplus(raw[m, row].detach()) for m in range(2) if present[m, row]]
            alphas = [e + 1 for e in opinions] + [plain([e.double() for e in opinions], 3).float()]
            wanted += sum(evidential_loss(a, target[row].long(), torch.tensor(share)) for a in alphas)
        torch.testing.assert_close(total, wanted)
        assert weight == 2
    total.backward()
    assert raw.grad.isfinite().all()
    reached = (raw.grad.abs().sum(-1) > 0).tolist()
    assert reached == [[True, False, False, False], [True, True, False, False]]


def test_epochs_are_counted_and_kept():
    made = Trusted(("a",))
    made.close_epoch()
    other = Trusted(("a",))
    other.load_state_dict(made.state_dict())
    assert other.epoch == 1


def test_numbers_are_averaged_over_the_present():
    numbers = torch.tensor([[[2.0], [math.nan], [1.0]], [[6.0], [3.0], [5.0]]])
    present = torch.tensor([[True, False, False], [True, True, False]])
    torch.testing.assert_close(Trusted(("a", "b")).merge_values(numbers, present), torch.tensor([[4.0], [3.0], [3.0]]))
