"""MixMatch: guesses, mixtures and their two losses, against hand values and loops."""

import math
from types import SimpleNamespace

import pytest
import torch

from fusionkit.augment.mixup import mix
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.registry import consistency
from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.mixmatch import guess, mixmatch


def test_a_guess_is_the_sharpened_mean_of_the_looks(logs):
    looks = torch.tensor([[[0.6, 0.4]], [[0.8, 0.2]]], dtype=torch.float64).log()
    assert guess(looks, 0.5)[0].tolist() == pytest.approx([0.844828, 0.155172], abs=1e-6)
    looks = logs(3, 4, 5)
    assert not guess(looks, 0.5).requires_grad
    mean = looks.detach().exp().mean(0)
    power = mean**2
    torch.testing.assert_close(guess(looks, 0.5), power / power.sum(-1, keepdim=True))


def test_the_losses_equal_loops(logs):
    target, mixed = logs(6, 3).detach().exp(), logs(6, 3, seed=1)
    labelled = torch.tensor([True, False, True, False, False, False])
    partner, share = torch.tensor([3, 2, 1, 0, 5, 4]), torch.tensor(0.8, dtype=torch.float64)
    cross = squared = 0.0
    for row in range(6):
        y = [0.8 * float(target[row, c]) + 0.2 * float(target[partner[row], c]) for c in range(3)]
        q = mixed[row].detach().exp().tolist()
        if labelled[row]:
            cross -= sum(a * math.log(b) for a, b in zip(y, q, strict=True)) / 2
        else:
            squared += sum((a - b) ** 2 for a, b in zip(y, q, strict=True)) / 3 / 4
    found = mixmatch(target, mixed, labelled, partner, share)
    assert [float(part.detach()) for part in found] == pytest.approx([cross, squared])
    sum(found).backward()
    assert mixed.grad.any(1).all()


@pytest.mark.parametrize("known", [True, False])
def test_a_side_without_records_is_zero(logs, known):
    found = mixmatch(
        logs(3, 2).detach().exp(),
        logs(3, 2, seed=1),
        torch.full((3,), known),
        torch.tensor([1, 2, 0]),
        torch.tensor(0.9, dtype=torch.float64),
    )
    sum(found).backward()
    assert float(found[1 if known else 0].detach()) == 0.0 and float(found[0 if known else 1].detach()) > 0


def test_a_record_is_the_larger_part_of_its_mixture():
    window = Window(torch.rand(4, 2, 3), torch.full((4,), 3), torch.ones(4, dtype=torch.bool))
    shares = [float(mix({"a": window}, 0.75, torch.Generator().manual_seed(s), closer=True).share) for s in range(40)]
    plain = [float(mix({"a": window}, 0.75, torch.Generator().manual_seed(s)).share) for s in range(40)]
    assert min(shares) >= 0.5 > min(plain)
    assert shares == pytest.approx([max(share, 1 - share) for share in plain])


def test_labels_stay_and_others_are_guessed(objective, batch, generator):
    made, data = objective([("mixmatch", {"looks": 3})]), batch()
    method = made.consistency[0]
    answers = Answers(made.model, data, made.model(data.inputs, generator()), generator(1))
    cross, squared = method.supervised("state", answers), method.loss("state", answers)
    mixture, mixed = answers.mixed(0.75, closer=True)
    looks = answers.looks("state", 3)
    assert len(looks) == 3 and not looks.requires_grad and not torch.equal(looks[1], looks[2])
    target = guess(looks, 0.5)
    target[:3] = torch.eye(3)
    wanted = mixmatch(target, mixed["state"], answers.labelled("state"), mixture.partner, mixture.share)
    torch.testing.assert_close(torch.stack([cross, squared]), torch.stack(wanted))


def test_its_cross_entropy_takes_the_place_of_the_tasks_loss(objective, batch, generator):
    made, data = objective([("mixmatch", {})]), batch()
    terms = made.terms(data, generator())
    assert not terms.tasks.any() and not terms.labelled.any() and terms.auxiliary > 0


@pytest.mark.parametrize("labels", [1, 2])
def test_a_task_that_answers_more_than_its_labels_is_refused(logs, labels):
    """With one label, broadcasting would take its target for the number of labels, too."""
    answers = SimpleNamespace(
        looks=lambda task, count: logs(count, 4, labels + 1, 2),
        batch=SimpleNamespace(targets={"tags": torch.zeros(4, labels)}),
    )
    with pytest.raises(ConfigError, match="an answer for each label, but tags guesses their number, too"):
        consistency.build("mixmatch", {}, {"tags": 1.0}, 10).loss("tags", answers)
