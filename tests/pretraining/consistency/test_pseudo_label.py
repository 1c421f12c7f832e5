"""Pseudo-labels against hand values and a loop."""

import math

import pytest
import torch

from fusionkit.pretraining.consistency.pseudo_label import pseudo_label


def test_hand_value():
    clean, noisy = torch.tensor([[0.7, 0.3]]).log(), torch.tensor([[0.5, 0.5]]).log()
    assert float(pseudo_label(clean, noisy, torch.tensor([True]))) == pytest.approx(math.log(2))


def test_equals_a_loop_over_unlabelled_records(logs):
    clean, noisy = logs(6, 4), logs(6, 4, seed=1)
    unlabelled = torch.tensor([True, False, True, True, False, True])
    rows = [row for row in range(6) if unlabelled[row]]
    likeliest = [max(range(4), key=lambda c, r=row: clean[r, c].item()) for row in range(6)]
    by_hand = -sum(noisy[row, likeliest[row]].item() for row in rows) / 4
    loss = pseudo_label(clean, noisy, unlabelled)
    assert float(loss.detach()) == pytest.approx(by_hand)
    loss.backward()
    assert clean.grad is None and not noisy.grad[~unlabelled].any() and noisy.grad[unlabelled].any(1).all()


def test_without_unlabelled_records_it_is_zero_without_nan(logs):
    noisy = logs(3, 2)
    loss = pseudo_label(logs(3, 2, seed=1), noisy, torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0.0 and not noisy.grad.any()
