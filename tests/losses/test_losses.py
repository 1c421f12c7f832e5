"""Losses against plain loops, torch's own and values by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.core.registry import losses
from fusionkit.losses.bernoulli import Bernoulli
from fusionkit.losses.huber import Huber
from fusionkit.losses.loss import Loss, make_loss
from fusionkit.losses.negative_log_likelihood import NegativeLogLikelihood
from fusionkit.losses.squared_error import SquaredError


def classes_batch(dtype=torch.float64):
    logits = torch.randn(6, 4, dtype=dtype, generator=torch.Generator().manual_seed(1)) * 3
    return logits, torch.tensor([0, 3, 2, 1, 1, 0]), torch.tensor([1.0, 0.5, 2.0, 3.0], dtype=dtype)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("weighted", [False, True])
def test_negative_log_likelihood_is_cross_entropy_of_torch(smoothing, weighted):
    logits, target, weights = classes_batch()
    weights = weights if weighted else None
    ours = NegativeLogLikelihood(label_smoothing=smoothing)(logits.log_softmax(1), target, weights)
    theirs = F.cross_entropy(logits, target, weight=weights, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(ours, theirs)
    if weighted:  # the weighted mean of torch is our sum over the sum of weights
        mean = F.cross_entropy(logits, target, weight=weights, label_smoothing=smoothing)
        torch.testing.assert_close(ours.sum() / weights[target].sum(), mean)


def test_equal_chances_of_two_classes_cost_log_2():
    even = torch.full((1, 2), 0.5).log()
    for smoothing in (0.0, 0.3):
        loss = NegativeLogLikelihood(label_smoothing=smoothing)(even, torch.tensor([1]))
        assert loss.item() == pytest.approx(math.log(2))


def test_bernoulli_is_binary_cross_entropy_averaged_over_labels():
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    target = torch.randint(0, 2, (5, 3), generator=generator)
    weights = torch.rand(3, 2, dtype=torch.float64, generator=generator)
    decision = torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], -1)
    theirs = F.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
    torch.testing.assert_close(Bernoulli()(decision, target), theirs.mean(1))
    plain = torch.zeros(5, dtype=torch.float64)
    for record in range(5):
        for label in range(3):
            outcome = int(target[record, label])
            plain[record] -= weights[label, outcome] * decision[record, label, outcome] / 3
    torch.testing.assert_close(Bernoulli()(decision, target, weights), plain)


def test_squared_error_by_hand():
    torch.testing.assert_close(
        SquaredError()(torch.tensor([3.0, 1.0, -1.0]), torch.tensor([1.0, 1.0, 1.0])), torch.tensor([4.0, 0.0, 4.0])
    )


@pytest.mark.parametrize(
    ("delta", "difference", "value"), [(1.0, 0.5, 0.125), (1.0, 3, 2.5), (1.0, -3, 2.5), (2.0, 3, 4.0)]
)
def test_huber_by_hand(delta, difference, value):
    loss = Huber(delta=delta)(torch.tensor([float(difference)]), torch.zeros(1))
    assert loss.item() == pytest.approx(value)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8), st.floats(0.1, 5))
@settings(max_examples=50, deadline=None)
def test_huber_is_half_the_square_near_and_never_above_it(differences, delta):
    difference = torch.tensor(differences, dtype=torch.float64)
    loss = Huber(delta=delta)(difference, torch.zeros_like(difference))
    half = SquaredError()(difference, torch.zeros_like(difference)) / 2
    near = difference.abs() <= delta
    torch.testing.assert_close(loss[near], half[near])
    assert (loss <= half + 1e-9).all()


@pytest.mark.parametrize("kind", losses.kinds())
def test_every_loss_gives_one_number_per_record_whatever_its_neighbours(kind):
    loss: Loss = losses.build(kind)
    generator = torch.Generator().manual_seed(3)
    shape = {"class": (4, 3), "labels": (4, 3, 2), "value": (4,)}[loss.takes]
    decision = torch.randn(shape, generator=generator)
    if loss.takes == "value":
        target = torch.randn(4, generator=generator)
    else:
        decision = decision.log_softmax(-1)
        target = torch.randint(0, 2, (4, 3) if loss.takes == "labels" else (4,), generator=generator)
    together = loss(decision, target)
    assert together.shape == (4,)
    assert (together >= 0).all()
    alone = torch.cat([loss(decision[i : i + 1], target[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("kind", ["squared_error", "huber"])
def test_numbers_have_no_class_weights(kind):
    with pytest.raises(ConfigError, match=f"{kind} takes no class weights"):
        losses.build(kind)(torch.zeros(2), torch.zeros(2), torch.ones(2))


def test_a_loss_is_chosen_by_kind_or_with_options():
    assert isinstance(make_loss("huber", "value"), Huber)
    assert make_loss({"kind": "huber", "delta": 2}, "value").delta == 2
    assert make_loss("negative_log_likelihood", "class", label_smoothing=0.1).label_smoothing == 0.1


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("huber", "must take a decision of form 'class', one of .'negative_log_likelihood'., but got 'huber'"),
        ({"label_smoothing": 0.1}, "must say its kind"),
        ({"kind": "negative_log_likelihood", "smoothing": 0.1}, "no such option.*label_smoothing"),
        ({"kind": "negative_log_likelihood", "label_smoothing": 1.5}, "less than 1, got 1.5"),
    ],
)
def test_a_wrong_choice_is_refused(choice, message):
    with pytest.raises(ConfigError, match=message):
        make_loss(choice, "class")


def test_an_unknown_loss_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"'hubber'; did you mean 'huber'\?; known: \['bernoulli', 'huber'"):
        make_loss("hubber", "value")
