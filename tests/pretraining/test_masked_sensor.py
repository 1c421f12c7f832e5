"""Masked sensor: an error by hand, no gradient to what is hidden nor to the copy, and what is shared is found."""

import copy

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Batch, Window
from fusionkit.core.registry import objectives
from fusionkit.pretraining.masked_sensor import unexplained


def test_nothing_known_costs_1_and_all_known_0():
    target = torch.tensor([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0], [99.0, 0.0]]).reshape(4, 1, 2)
    counts = torch.tensor([[True], [True], [True], [False]])
    scaled = torch.tensor([-(1.5**0.5), 0.0, 1.5**0.5])
    predicted = torch.zeros(4, 1, 2)
    assert float(unexplained(predicted, target, counts)) == pytest.approx(0.5)  # one number of two varies
    predicted[:3, 0, 0] = scaled
    assert float(unexplained(predicted, target, counts)) == pytest.approx(0.0, abs=1e-10)
    predicted[0, 0, 1] = 3.0
    assert float(unexplained(predicted, target, counts)) == pytest.approx(9 / 2 / 3)
    assert float(unexplained(predicted, target, torch.zeros_like(counts))) == 0.0


def test_equals_numbers_of_a_regression():
    x = torch.randn(50, 1, 3, dtype=torch.float64)
    y = x @ torch.randn(3, 4, dtype=torch.float64) + torch.randn(50, 1, 4, dtype=torch.float64)
    z = (y - y.mean(0)) / y.std(0, correction=0)
    flat = torch.cat([x[:, 0], torch.ones(50, 1, dtype=torch.float64)], 1)
    fit = (flat @ torch.linalg.lstsq(flat, z[:, 0]).solution)[:, None]
    r2 = 1 - (fit - z).square().sum(0) / z.square().sum(0)
    loss = unexplained(fit, y, torch.ones(50, 1, dtype=torch.bool))
    assert float(loss) == pytest.approx(float(1 - r2.mean()), rel=1e-4)


def built(made, **options):
    objective = objectives.build("masked_sensor", options, made.given)
    objective.bind(made.model)
    return objective


def test_the_hidden_sensor_gets_no_gradient_from_its_own_prediction_nor_the_copy_any(stage):
    made = stage(image="image_cnn", eeg="transformer", text="gru")
    objective = built(made)
    looks = made.looks()
    objective._predict(looks, "eeg", ["image", "text"], 7).square().sum().backward()
    encoders = made.model.encoders
    assert all(p.grad is None for p in encoders["eeg"].parameters())
    assert all(p.grad is not None for name in ("image", "text") for p in encoders[name].parameters())
    made.loss(objective).backward()
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoders.parameters())


def test_the_loss_is_that_of_the_copys_tokens_where_a_record_has_another_sensor(stage):
    made = stage(image="mlp", eeg="cnn")
    made.model.eval()
    objective = built(made)
    with torch.no_grad():
        for parameter in objective.teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = made.batch(absent={("image", 1), ("eeg", 3), ("image", 4), ("eeg", 4)})
    wanted = []
    for name, other in (("image", "eeg"), ("eeg", "image")):
        target = objective.teacher.look(batch.inputs).stream(name)
        real = target.mask.clone()
        real[[1, 3, 4]] = False
        rows = target.values[real]
        z = (rows - rows.mean(0)) / rows.std(0, correction=0)
        predicted = objective._predict(made.looks(batch), name, [other], target.values.shape[1])
        wanted.append((predicted[real] - z).square().mean())
    torch.testing.assert_close(made.loss(objective, batch), torch.stack(wanted).mean(), rtol=1e-4, atol=1e-5)


def test_values_of_an_absent_sensor_change_no_prediction(stage):
    made = stage(image="image_cnn", eeg="transformer", text="transformer")
    made.model.eval()
    objective = built(made)
    batch = made.batch(absent={("image", 2)})
    other = copy.deepcopy(batch)
    window = other.inputs["image"]
    window.values[2] = 5.0
    assert torch.equal(made.loss(objective, batch), made.loss(objective, other))


def test_the_copy_follows_after_each_step(stage):
    made = stage(image="mlp", eeg="mlp")
    objective = built(made, momentum=0.9)
    before = made.model.encoders["eeg"].hidden.weight.detach().clone()
    with torch.no_grad():
        made.model.encoders["eeg"].hidden.weight += 1.0
    objective.settle(made.model)
    torch.testing.assert_close(objective.teacher.encoders["eeg"].hidden.weight, before + 0.1)
    objective.train()
    assert not objective.teacher.encoders["eeg"].training


def test_all_absent_is_zero_without_nan(stage):
    made = stage(image="image_cnn", eeg="cnn")
    objective = built(made)
    loss = made.loss(objective, made.batch(absent={(n, record) for n in ("image", "eeg") for record in range(5)}))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(p.grad is None or not p.grad.any() for p in (*made.model.parameters(), *objective.parameters()))


def test_what_two_sensors_share_is_found_and_what_they_do_not_is_not(stage):
    def after(shared):
        torch.manual_seed(0)
        made = stage(eeg=("mlp", {"dropout": 0.0}), image=("mlp", {"dropout": 0.0}))
        objective = built(made, layers=1)
        trained = [*made.model.encoders.parameters(), *(p for p in objective.parameters() if p.requires_grad)]
        optimiser = torch.optim.Adam(trained, 1e-2)
        generator = torch.Generator().manual_seed(0)
        losses = []
        for _ in range(30):
            cause = torch.randn(32, 1, 1, 1, generator=generator)
            other = cause if shared else torch.randn(32, 1, 1, 1, generator=generator)
            here, length = torch.ones(32, dtype=torch.bool), torch.full((32,), 4)
            image = Window(other.expand(32, 3, 12, 12).sigmoid(), length, here)
            inputs = {"eeg": Window(cause[:, 0].expand(32, 4, 4), length, here), "image": image}
            loss = objective(made.looks(Batch(inputs)), generator)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            objective.settle(made.model)
            losses.append(float(loss.detach()))
        return sum(losses[-5:]) / 5

    assert after(shared=True) < 0.6
    assert after(shared=False) > 0.9


def test_one_sensor_is_refused(stage):
    with pytest.raises(ConfigError, match=r"two sensors or more, but the stage has \['eeg'\]"):
        objectives.build("masked_sensor", {}, stage(eeg="mlp").given)
