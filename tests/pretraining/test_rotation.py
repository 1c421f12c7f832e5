"""Rotation: turns that come full circle, equal labels, a loss by hand, and images alone."""

import math

import pytest
import torch
from torch import nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Batch
from fusionkit.core.registry import objectives
from fusionkit.modalities.image import Flip
from fusionkit.pretraining.guess import guess_loss
from fusionkit.pretraining.rotation import four_turns


def test_four_quarters_are_none_and_rows_are_in_the_order_of_the_turns():
    image = torch.rand(2, 3, 4, 4)
    turned = four_turns(image).unflatten(0, (4, 2))
    assert torch.equal(turned[0], image)
    assert torch.equal(torch.rot90(turned[3], 1, (2, 3)), image)
    assert torch.equal(torch.rot90(turned[1], 1, (2, 3)), turned[2])
    assert torch.equal(turned[2], image.flip(2, 3))


def test_a_guess_costs_its_logarithm():
    every = torch.ones(4, dtype=torch.bool)
    assert float(guess_loss(torch.zeros(4, 4), torch.arange(4), every)) == pytest.approx(math.log(4))
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0]])
    counts = torch.tensor([True, True, False])
    wanted = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert float(guess_loss(logits, torch.tensor([0, 0, 1]), counts)) == pytest.approx(wanted, rel=1e-6)
    assert float(guess_loss(logits, torch.tensor([0, 0, 1]), torch.zeros(3, dtype=torch.bool))) == 0.0


@pytest.mark.parametrize("kind", ["image_cnn", "vit", "mlp", "transformer", "cnn"])
def test_equals_a_loop_over_turns_with_any_encoder(stage, kind):
    made = stage(image=kind)
    made.model.eval()
    objective = objectives.build("rotation", {}, made.given)
    batch = made.batch(absent={("image", 2)})
    total = []
    for record in (0, 1, 3, 4):
        for quarters in range(4):
            window = batch.inputs["image"]
            pixels = torch.rot90(window.values[record : record + 1], quarters, (2, 3))
            alone = made.model.look(
                {"image": window._replace(values=pixels, length=window.length[:1], present=window.present[:1])}
            )
            total.append(-objective.heads["image"](alone.readout("image")).log_softmax(1)[0, quarters])
    torch.testing.assert_close(made.loss(objective, batch), torch.stack(total).mean())


def test_absent_images_say_nothing_and_give_finite_gradients(stage):
    made = stage(image="image_cnn")
    objective = objectives.build("rotation", {}, made.given)
    loss = made.loss(objective, made.batch(absent={("image", record) for record in range(5)}))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(
        p.grad is None or torch.isfinite(p.grad).all() for p in (*made.model.parameters(), *objective.parameters())
    )


def test_images_are_turned_after_the_sensors_augmentations(stage):
    made = stage(image="image_cnn")
    made.model.eval()
    objective = objectives.build("rotation", {}, made.given)
    batch = made.batch()
    window = batch.inputs["image"]
    wanted = made.loss(objective, Batch({"image": window._replace(values=window.values.flip(3))}))
    made.model.augmentations["image"] = nn.ModuleList([Flip(probability=1.0)])
    torch.testing.assert_close(made.loss(objective, batch), wanted)


def test_images_must_be_square(stage):
    with pytest.raises(ConfigError, match=r"square images, but those of wide are 8 x 12"):
        objectives.build("rotation", {}, stage(wide="image_cnn").given)
