"""Votes: hand values, absence, and that outcomes are normalised."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkit.fusion.vote import Vote

RULES = ["mean", "product", "bayes", "max", "majority", "learned"]
NAN = float("nan")


def logs(*rows):
    return torch.tensor(rows).log()


def here(*rows):
    return torch.tensor(rows)


def vote(rule, branches=2, weight=None):
    made = Vote(tuple("abcdef"[:branches]), rule=rule)
    if weight is not None:
        made.weight.data = torch.tensor(weight)
    return made


def test_the_mean_of_probabilities():
    merged = vote("mean").merge_log_probabilities(logs([[0.6, 0.4]], [[0.7, 0.3]]), here([True], [True]))
    torch.testing.assert_close(merged.exp(), torch.tensor([[0.65, 0.35]]))


def test_the_renormalised_product():
    merged = vote("product").merge_log_probabilities(logs([[0.6, 0.4]], [[0.7, 0.3]]), here([True], [True]))
    torch.testing.assert_close(merged.exp(), torch.tensor([[0.7778, 0.2222]]), atol=5e-5, rtol=0)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [("max", (0.6364, 0.3636)), ("majority", (0.8833, 0.1167)), ("bayes", (0.4667, 0.5333))],
)
def test_other_rules_by_hand(rule, wanted):
    made = vote(rule)
    made.bind(torch.tensor([0.8, 0.2]).log())
    merged = made.merge_log_probabilities(logs([[0.6, 0.4]], [[0.7, 0.3]]), here([True], [True]))
    torch.testing.assert_close(merged.exp(), torch.tensor([wanted]), atol=5e-5, rtol=0)


def test_bayes_counts_the_prior_once_for_any_number_of_branches():
    made, prior = vote("bayes", 3), torch.tensor([0.7, 0.2, 0.1])
    made.bind(prior.log())
    likelihood = torch.rand(3, 1, 3) + 0.1
    posterior = likelihood * prior / (likelihood * prior).sum(-1, keepdim=True)
    for off in range(4):
        present = torch.tensor([[row >= off] for row in range(3)])
        wanted = prior * likelihood[off:, 0].prod(0)
        got = made.merge_log_probabilities(posterior.log(), present).exp()[0]
        torch.testing.assert_close(got, wanted / wanted.sum())


def test_bayes_with_a_flat_prior_is_the_product():
    decisions, present = torch.randn(3, 4, 5).log_softmax(-1), torch.rand(3, 4) < 0.6
    made = vote("bayes", 3)
    made.bind(torch.full((5,), 0.2).log())
    product = vote("product", 3).merge_log_probabilities(decisions, present)
    torch.testing.assert_close(made.merge_log_probabilities(decisions, present), product)


def test_a_majority_wins_against_one_certain_branch_and_the_mean_breaks_ties():
    decisions = logs([[0.6, 0.4]], [[0.7, 0.3]], [[0.01, 0.99]])
    three = vote("majority", 3).merge_log_probabilities(decisions, here([True], [True], [True]))
    assert three.argmax() == 0
    two = vote("majority", 3).merge_log_probabilities(decisions, here([True], [False], [True]))
    assert two.argmax() == 1


def test_learned_weights_are_a_softmax_over_the_present():
    learned = vote("learned", 3, [0.0, torch.log(torch.tensor(3.0)).item(), 5.0])
    decisions = logs([[0.6, 0.4]], [[0.8, 0.2]], [[0.1, 0.9]])
    merged = learned.merge_log_probabilities(decisions, here([True], [True], [False]))
    torch.testing.assert_close(merged.exp(), torch.tensor([[0.25 * 0.6 + 0.75 * 0.8, 0.25 * 0.4 + 0.75 * 0.2]]))
    numbers = torch.tensor([[[2.0]], [[6.0]], [[NAN]]])
    assert learned.merge_values(numbers, here([True], [True], [False])).item() == pytest.approx(5.0)


def test_learned_starts_as_the_mean_and_only_learned_has_a_parameter():
    decisions, present = torch.randn(3, 4, 5).log_softmax(-1), torch.rand(3, 4) < 0.6
    learned, mean = (vote(rule, 3).merge_log_probabilities(decisions, present) for rule in ("learned", "mean"))
    torch.testing.assert_close(learned, mean)
    assert [len(list(vote(rule).parameters())) for rule in RULES] == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("rule", RULES)
def test_two_equal_branches_of_a_mean_and_one_branch_alone_are_themselves(rule):
    one = torch.randn(4, 3).log_softmax(-1)
    alone = vote(rule, 1).merge_log_probabilities(one[None], torch.ones(1, 4, dtype=torch.bool))
    if rule == "majority":
        torch.testing.assert_close(alone.exp(), (one.exp() + (one == one.amax(-1, keepdim=True))) / 2)
        return
    torch.testing.assert_close(alone, one)
    if rule not in ("product", "bayes"):
        both = vote(rule).merge_log_probabilities(torch.stack([one, one]), torch.ones(2, 4, dtype=torch.bool))
        torch.testing.assert_close(both, one)


@pytest.mark.parametrize("outcome", [(3,), (4, 2)])
@pytest.mark.parametrize("rule", RULES)
def test_an_absent_branch_changes_no_bit(rule, outcome):
    present = torch.tensor([[True, False, True, False], [False, True, True, False]])
    made = vote(rule)
    decisions = torch.randn(2, 4, *outcome).log_softmax(-1)
    clean = made.merge_log_probabilities(decisions, present)
    for filling in (0.0, -50.0, NAN, float("-inf"), float("inf")):
        other = torch.where(present.reshape(2, 4, *(1 for _ in outcome)), decisions, filling)
        assert torch.equal(made.merge_log_probabilities(other, present), clean)
    torch.testing.assert_close(clean.exp().sum(-1), torch.ones(4, *outcome[:-1]))
    torch.testing.assert_close(clean[3].exp(), torch.full(outcome, 1 / outcome[-1]))
    if rule != "majority":
        torch.testing.assert_close(clean[0], decisions[0, 0])


@pytest.mark.parametrize("rule", RULES)
def test_numbers_are_averaged_over_the_present(rule):
    numbers = torch.tensor([[[2.0], [NAN], [1.0], [1.0]], [[6.0], [3.0], [NAN], [5.0]]])
    present = torch.tensor([[True, False, True, False], [True, True, False, False]])
    merged = vote(rule).merge_values(numbers, present)
    torch.testing.assert_close(merged, torch.tensor([[4.0], [3.0], [1.0], [3.0]]))


@pytest.mark.parametrize("rule", RULES)
def test_gradients_are_finite_and_reach_the_present_only(rule):
    made = vote(rule)
    raw = torch.randn(2, 3, 4)
    raw[0, 0] = NAN
    decisions = raw.clone().requires_grad_()
    present = torch.tensor([[False, True, False], [True, True, False]])
    made.merge_log_probabilities(decisions, present)[:, 0].sum().backward()
    assert decisions.grad.isfinite().all()
    assert decisions.grad[0, 0].abs().sum() == 0
    assert decisions.grad[:, 2].abs().sum() == 0
    reached = decisions.grad[:, 1].abs().sum(-1) > 0
    assert reached.any() if rule == "max" else reached.all()  # the largest alone is heard, by definition
    if made.weight is not None:
        assert made.weight.grad.abs().sum() > 0
        assert made.weight.grad.isfinite().all()


def test_certain_branches_that_contradict_each_other_stay_finite():
    certain = torch.tensor([[[0.0, float("-inf")]], [[float("-inf"), 0.0]]])
    for rule in RULES:
        merged = vote(rule).merge_log_probabilities(certain, here([True], [True]))
        torch.testing.assert_close(merged.exp(), torch.tensor([[0.5, 0.5]]))


def test_a_tiny_probability_keeps_its_logarithm():
    decisions = torch.tensor([[[0.0, -200.0]], [[0.0, -200.0]]])
    merged = vote("mean").merge_log_probabilities(decisions, here([True], [True]))
    torch.testing.assert_close(merged, decisions[0])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 200), branches=st.integers(1, 5), classes=st.integers(2, 5), rule=st.sampled_from(RULES))
def test_matches_plain_loops_in_float64(seed, branches, classes, rule):
    g = torch.Generator().manual_seed(seed)
    decisions = torch.randn(branches, 3, classes, generator=g, dtype=torch.float64).log_softmax(-1)
    present = torch.rand(branches, 3, generator=g) < 0.6
    weight = torch.randn(branches, generator=g)
    made = Vote(tuple(map(str, range(branches))), rule=rule).double()
    if rule == "learned":
        made.weight.data = weight.double()
    got = made.merge_log_probabilities(decisions, present).exp()
    for row in range(3):
        rows = [b for b in range(branches) if present[b, row]]
        if not rows:
            expected = torch.full((classes,), 1 / classes, dtype=torch.float64)
        elif rule == "max":
            expected = torch.stack([decisions[b, row].exp() for b in rows]).amax(0)
        elif rule == "majority":
            expected = torch.stack([decisions[b, row].exp() for b in rows]).mean(0)
            for b in rows:
                expected[decisions[b, row].argmax()] += 1
        elif rule in ("product", "bayes"):
            expected = torch.stack([decisions[b, row].exp() for b in rows]).prod(0)
        else:
            raw = torch.tensor([weight[b].item() if rule == "learned" else 0.0 for b in rows]).exp()
            expected = sum(w / raw.sum() * decisions[b, row].exp() for w, b in zip(raw.double(), rows, strict=True))
        torch.testing.assert_close(got[row], expected / expected.sum(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_rows_do_not_know_each_other_and_half_precision_works(rule):
    made = vote(rule)
    decisions, present = torch.randn(2, 6, 3).log_softmax(-1), torch.rand(2, 6) < 0.7
    whole = made.merge_log_probabilities(decisions, present)
    order = torch.randperm(6)
    torch.testing.assert_close(made.merge_log_probabilities(decisions[:, order], present[:, order]), whole[order])
    for row in range(6):
        part = made.merge_log_probabilities(decisions[:, row : row + 1], present[:, row : row + 1])
        torch.testing.assert_close(part, whole[row : row + 1])
    for dtype in (torch.bfloat16, torch.float16):
        low = made.merge_log_probabilities(decisions.to(dtype), present)
        assert low.dtype == dtype
        torch.testing.assert_close(low.float(), whole, atol=0.05, rtol=0.02)
