"""Interpolation consistency: a loop, and answers that are linear."""

import pytest
import torch

from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.interpolation import interpolation


def test_hand_value():
    taught = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).log()
    mixed = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).log()
    assert float(interpolation(taught, mixed, torch.tensor([1, 0]), torch.tensor(0.5))) == pytest.approx(0.25)


def test_equals_a_loop_and_gives_the_teacher_no_gradient(logs):
    taught, mixed = logs(5, 3), logs(5, 3, seed=1)
    partner, share = torch.tensor([2, 0, 4, 3, 1]), torch.tensor(0.3, dtype=torch.float64)
    total = 0.0
    for row in range(5):
        for c in range(3):
            target = 0.3 * taught[row, c].exp() + 0.7 * taught[partner[row], c].exp()
            total += ((mixed[row, c].exp() - target) ** 2).item()
    loss = interpolation(taught, mixed, partner, share)
    assert float(loss.detach()) == pytest.approx(total / 15)
    loss.backward()
    assert taught.grad is None and mixed.grad.any(1).all()


def test_an_answer_that_is_linear_in_the_record_costs_nothing():
    generator = torch.Generator().manual_seed(0)
    records = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    weight = torch.rand(4, 3, generator=generator, dtype=torch.float64)
    weight = weight / weight.sum(1, keepdim=True)
    records = records / records.sum(1, keepdim=True)  # so that answers are probabilities
    partner, share = torch.randperm(6, generator=generator), torch.tensor(0.37, dtype=torch.float64)
    mixed = torch.lerp(records[partner], records, share)
    loss = interpolation((records @ weight).log(), (mixed @ weight).log(), partner, share)
    assert float(loss) == pytest.approx(0.0, abs=1e-15)


def test_the_teacher_answers_to_records_as_they_are(objective, batch, generator):
    """What is mixed is not augmented, so that neither is what the mixture of answers is made of."""
    made, data = objective([("interpolation", {})]), batch()
    method = made.consistency[0]
    answers = Answers(made.model, data, made.model(data.inputs, generator()), generator(1))
    found = method.loss("state", answers)
    mixture, mixed = answers.mixed(method.alpha)
    taught = method.teacher(data.inputs)["state"].float()
    torch.testing.assert_close(found, interpolation(taught, mixed["state"].float(), mixture.partner, mixture.share))
