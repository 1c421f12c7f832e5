"""Colorization: a loss by a loop, greys alone are seen, and a prior of the images so far."""

import math

import pytest
import torch

from fusionkit.core.registry import objectives
from fusionkit.pretraining.colorization import ColourPrior, colour_loss
from fusionkit.pretraining.colour import grey, lab


def test_a_square_costs_its_cross_entropy_times_the_weight_of_its_bin():
    shares = torch.tensor([[[0.7, 0.3, 0.0], [0.0, 0.2, 0.8]], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    here = torch.tensor([True, False])
    weights = torch.tensor([0.5, 1.0, 2.0])
    assert float(colour_loss(torch.zeros(2, 2, 3), shares, torch.ones(3), here)) == pytest.approx(math.log(3))
    assert float(colour_loss(torch.zeros(2, 2, 3), shares, weights, here)) == pytest.approx(1.25 * math.log(3))
    logits = torch.randn(2, 2, 3, requires_grad=True)
    loss = colour_loss(logits, shares, weights, here)
    p = logits.detach().softmax(2)[0]
    wanted = (
        -(0.5 * (0.7 * p[0, 0].log() + 0.3 * p[0, 1].log()) + 2.0 * (0.2 * p[1, 1].log() + 0.8 * p[1, 2].log())) / 2
    )
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert logits.grad is not None and not logits.grad[1].any()


def test_the_prior_is_the_mean_over_batches_and_one_of_equal_bins():
    prior = ColourPrior(2)
    assert prior().tolist() == [0.5, 0.5]
    shares = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    prior.see(shares, torch.tensor([True, False]))
    assert prior().tolist() == [0.75, 0.25]
    prior.see(shares, torch.tensor([False, False]))
    assert prior().tolist() == [0.75, 0.25]


@pytest.mark.parametrize("kind", ["image_cnn", "vit", "mlp", "transformer", "cnn"])
def test_every_encoder_sees_greys_and_is_asked_for_the_hues_of_squares(stage, kind):
    made = stage(photo=kind)
    made.model.eval()
    objective = objectives.build("colorization", {"layers": 1}, made.given).eval()
    batch = made.batch(absent={("photo", 2)})
    loss = made.loss(objective, batch)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.model.encoders.parameters())
    window = batch.inputs["photo"]
    pixels = torch.nan_to_num(window.values)
    tokens = made.model.look({"photo": window._replace(values=grey(pixels))}).stream("photo")
    logits = objective.outs["photo"](objective.decoders["photo"](tokens, (3, 3)))
    total = []
    for record in (0, 1, 3, 4):
        for square in range(9):
            row, column = 4 * (square // 3), 4 * (square % 3)
            hue = lab(pixels[record : record + 1, :, row : row + 4, column : column + 4])[0, 1:].mean((1, 2))
            near = (objective.bins - hue).norm(dim=1).sort()
            share = torch.exp(-near.values[:5].square() / 50)
            total.append(-(share / share.sum() * logits[record, square].log_softmax(0)[near.indices[:5]]).sum())
    torch.testing.assert_close(
        loss, torch.stack(total).mean(), rtol=1e-4, atol=1e-4
    )  # a prior of equals weighs nothing


def test_the_prior_is_learned_in_training_alone_and_kept(stage):
    made = stage(photo="image_cnn")
    objective = objectives.build("colorization", {}, made.given)
    made.loss(objective)
    assert int(objective.priors["photo"].batches) == 2
    assert float(objective.priors["photo"]().sum()) == pytest.approx(1.0, rel=1e-5)
    objective.eval()
    made.loss(objective)
    assert int(objective.state_dict()["priors.photo.batches"]) == 2


def test_all_absent_is_zero_without_nan(stage):
    made = stage(photo="image_cnn")
    objective = objectives.build("colorization", {}, made.given)
    loss = made.loss(objective, made.batch(absent={("photo", record) for record in range(5)}))
    loss.backward()
    assert float(loss.detach()) == 0.0 and int(objective.priors["photo"].batches) == 1
    assert all(p.grad is None or not p.grad.any() for p in made.model.parameters())
