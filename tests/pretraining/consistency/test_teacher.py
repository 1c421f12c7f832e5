"""A teacher is the mean of the weights so far, learns nothing itself, and is what mean teacher compares with."""

import pytest
import torch

from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.divergence import squared_distance
from fusionkit.pretraining.consistency.teacher import Teacher


def test_the_first_steps_are_a_plain_mean_and_later_ones_decay(objective):
    model, teacher = objective().model, Teacher(0.7)
    teacher.bind(model)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.zero_()
        for parameter in model.parameters():
            parameter.fill_(1.0)
    seen = []
    for step in range(1, 5):
        teacher.settle(model, torch.tensor(step))
        seen.append(next(teacher.parameters()).flatten()[0].item())
    assert seen[:2] == pytest.approx([0.5, 2 / 3])
    assert seen[2:] == pytest.approx([0.7 * 2 / 3 + 0.3, 0.7 * (0.7 * 2 / 3 + 0.3) + 0.3])


@pytest.mark.parametrize("kind", ["mean_teacher", "interpolation"])
def test_no_gradient_goes_into_the_teacher_and_no_step_but_its_own_moves_it(kind, objective, batch, generator):
    made = objective([(kind, {"decay": 0.9})])
    method = made.consistency[0]
    before = {name: value.clone() for name, value in method.teacher.state_dict().items()}
    assert not any(parameter.requires_grad for parameter in method.teacher.parameters())
    optimiser = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], 0.1)
    made(batch(), generator()).backward()
    assert all(parameter.grad is None for parameter in method.teacher.parameters())
    optimiser.step()
    assert all(torch.equal(before[name], value) for name, value in method.teacher.state_dict().items())
    made.settle()
    now = dict(method.teacher.model.named_parameters())
    for name, parameter in made.model.named_parameters():
        wanted = 0.5 * before[f"model.{name}"] + 0.5 * parameter.detach()  # after one step, a mean of two
        torch.testing.assert_close(now[name].detach(), wanted)


def test_the_teachers_answer_has_all_sensors_and_no_dropout(objective, batch, generator):
    made, data = objective([("mean_teacher", {})], dropout=0.5), batch()
    teacher = made.consistency[0].teacher
    with torch.no_grad():
        wanted = made.model.eval()(data.inputs).decisions["state"]
    torch.testing.assert_close(teacher(data.inputs)["state"], wanted)
    assert not torch.equal(teacher(data.inputs, generator(0))["state"], wanted)


def test_mean_teacher_is_the_mean_square_of_the_two_answers(objective, batch, generator):
    made, data = objective([("mean_teacher", {})]), batch()
    answers = Answers(made.model, data, made.model(data.inputs, generator()), generator(1))
    found = made.consistency[0].loss("state", answers)
    taught, noisy = answers.taught(made.consistency[0].teacher)["state"], answers.noisy("state")
    by_hand = sum(
        (a.exp() - b.exp()).item() ** 2 for x, y in zip(taught, noisy, strict=True) for a, b in zip(x, y, strict=True)
    )
    assert float(found.detach()) == pytest.approx(by_hand / (8 * 3), rel=1e-5)
    found.backward()
    torch.testing.assert_close(squared_distance(taught, noisy).mean().detach(), found.detach())


def test_the_pi_model_compares_two_noises_and_both_learn(logs, objective, batch, generator):
    made, data = objective([("pi_model", {})]), batch()
    answers = Answers(made.model, data, made.model(data.inputs, generator()), generator(1))
    first, second = answers.noisy("state", 0), answers.noisy("state", 1)
    first.retain_grad()
    second.retain_grad()
    answers._noisy = [{"state": first}, {"state": second}]
    found = made.consistency[0].loss("state", answers)
    found.backward()
    by_hand = ((first.exp() - second.exp()) ** 2).sum() / (8 * 3)
    torch.testing.assert_close(found.detach(), by_hand.detach())
    assert first.grad.any() and second.grad.any()
