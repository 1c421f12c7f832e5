"""UDA against hand values and a naive loop; where its gradients go and where they do not."""

import math

import pytest
import torch
from torch.nn import functional as F

from fusionkit.pretraining.consistency.divergence import divergence, squared_distance
from fusionkit.pretraining.consistency.sharpen import sharpen
from fusionkit.pretraining.consistency.uda import uda


def log(*rows):
    return torch.tensor(rows, dtype=torch.float64).log()


def test_hand_values():
    assert float(divergence(log([0.7, 0.3]), log([0.5, 0.5]))) == pytest.approx(0.082283, abs=1e-6)
    cross = -(log([0.7, 0.3]).exp() * log([0.5, 0.5])).sum()
    entropy = -(log([0.7, 0.3]).exp() * log([0.7, 0.3])).sum()
    assert float(cross) == pytest.approx(0.693147, abs=1e-6) and float(entropy) == pytest.approx(0.610864, abs=1e-6)
    logits = torch.tensor([1.0, 0.0], dtype=torch.float64).log_softmax(0)
    assert sharpen(logits, 0.4).exp().tolist() == pytest.approx([0.924142, 0.075858], abs=1e-6)
    assert sharpen(logits, 1.0).exp().tolist() == pytest.approx([0.731059, 0.268941], abs=1e-6)
    assert sharpen(log([0.7, 0.3]), 0.5).exp()[0].tolist() == pytest.approx([0.844828, 0.155172], abs=1e-6)
    assert float(uda(log([0.7, 0.3]), log([0.5, 0.5]), 1.0, 0.6)) == pytest.approx(0.082283, abs=1e-6)
    assert float(squared_distance(log([1.0, 0.0]), log([0.0, 1.0]))) == 1.0


def test_an_impossible_class_counts_nothing():
    sure = torch.tensor([[0.0, -math.inf]], requires_grad=True)
    assert float(divergence(sure.detach(), log([0.5, 0.5]).float())) == pytest.approx(math.log(2))


def test_equals_a_naive_loop_over_the_whole_batch(logs):
    clean, noisy = logs(9, 4), logs(9, 4, seed=1)
    total, unsure = 0.0, 0
    for p, q in zip(clean.detach().exp(), noisy.detach().exp(), strict=True):
        if not max(p) > 0.6:
            unsure += 1
            continue
        power = [float(x) ** (1 / 0.4) for x in p]
        target = [x / sum(power) for x in power]
        total += sum(t * (math.log(t) - math.log(float(x))) for t, x in zip(target, q, strict=True))
    assert 0 < unsure < 9  # the mean is over all nine, not over those that are sure
    assert uda(clean, noisy, 0.4, 0.6).item() == pytest.approx(total / 9, rel=1e-10)


def test_equals_torch_with_its_arguments_in_their_order(logs):
    clean, noisy = logs(6, 3), logs(6, 3, seed=1)
    theirs = F.kl_div(noisy, clean.detach(), reduction="batchmean", log_target=True)
    torch.testing.assert_close(uda(clean, noisy, 1.0, 0.0), theirs)


def test_no_gradient_on_the_clean_side_and_none_from_records_that_are_not_sure(logs):
    clean, noisy = logs(9, 4), logs(9, 4, seed=1)
    uda(clean, noisy, 0.4, 0.6).backward()
    assert clean.grad is None
    sure = clean.detach().exp().amax(1) > 0.6
    assert noisy.grad[sure].any(1).all() and not noisy.grad[~sure].any()


def test_the_confidence_is_that_of_the_answer_before_it_is_sharpened_and_must_be_exceeded():
    clean, noisy = log([0.7, 0.3]), log([0.5, 0.5])
    assert float(sharpen(clean, 0.4).exp().max()) > 0.8
    assert float(uda(clean, noisy, 0.4, 0.8)) == 0.0
    half = torch.full((1, 2), 0.5).log()
    assert float(uda(half, log([0.9, 0.1]).float(), 1.0, float(half.exp().max()))) == 0.0


def test_the_same_answer_twice_costs_nothing_and_nobody_is_sure_enough_of_one(logs):
    same = logs(5, 3)
    assert float(uda(same, same, 1.0, 0.0).detach()) == pytest.approx(0.0, abs=1e-12)
    noisy = logs(5, 3, seed=1)
    loss = uda(same, noisy, 0.4, 1.0)
    loss.backward()
    assert float(loss.detach()) == 0.0 and not noisy.grad.any()


def test_every_label_of_several_is_one_answer(logs):
    clean, noisy = logs(4, 3, 2), logs(4, 3, 2, seed=1)
    parts = [uda(clean[:, label], noisy[:, label], 0.4, 0.7) for label in range(3)]
    torch.testing.assert_close(uda(clean, noisy, 0.4, 0.7), torch.stack(parts).mean())
