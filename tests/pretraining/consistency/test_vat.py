"""Virtual adversarial training: directions of linear models, lengths, and gradients."""

import pytest
import torch

from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.divergence import divergence
from fusionkit.pretraining.consistency.perturbation import Perturbation, unit_length
from fusionkit.pretraining.consistency.vat import adversarial


def norm(change):
    return torch.stack([part.flatten(1).square().sum(1) for part in change.values()]).sum(0).sqrt()


@pytest.fixture
def linear():
    """A softmax of a linear map of two sensors with seven and five numbers, and records of them."""
    generator = torch.Generator().manual_seed(0)
    weight = {"a": torch.randn(7, 3, generator=generator), "b": torch.randn(5, 3, generator=generator)}
    record = {"a": torch.randn(9, 7, generator=generator), "b": torch.randn(9, 5, generator=generator)}

    def answer(change):
        return sum((record[name] + change[name]) @ weight[name] for name in weight).log_softmax(-1)

    nothing = {name: torch.zeros_like(part) for name, part in record.items()}
    draw = {name: torch.randn(part.shape, generator=generator) for name, part in record.items()}
    return answer, answer(nothing), draw, weight


def test_directions_have_length_one_and_lie_in_the_row_space_of_a_linear_model(linear):
    answer, clean, draw, weight = linear
    worst = adversarial(answer, clean, draw, 0.1, 1)
    torch.testing.assert_close(norm(worst), torch.ones(9))
    joint = torch.cat([worst["a"], worst["b"]], 1)
    rows = torch.linalg.qr(torch.cat([weight["a"], weight["b"]]))[0]
    torch.testing.assert_close(joint @ rows @ rows.T, joint, atol=1e-5, rtol=1e-4)


def test_no_random_direction_costs_more(linear):
    answer, clean, draw, _ = linear
    worst = adversarial(answer, clean, draw, 1e-2, 8)
    far = divergence(clean, answer({name: 0.1 * part for name, part in worst.items()}))
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        other = unit_length({name: torch.randn(part.shape, generator=generator) for name, part in draw.items()})
        assert (far >= divergence(clean, answer({name: 0.1 * part for name, part in other.items()}))).all()


def test_the_length_of_tiny_numbers_is_one_and_of_none_zero():
    change = {"a": torch.full((2, 3), 1e-25), "b": torch.zeros(2, 1)}
    change["a"][1] = 0
    length = norm(unit_length(change))
    torch.testing.assert_close(length, torch.tensor([1.0, 0.0]))


def test_the_change_of_a_batch_has_the_length_epsilon_and_spares_what_is_not_real(
    objective, batch, generator, monkeypatch
):
    made, absent = objective([("vat", {"epsilon": 2.5})]), [("image", 0), ("eeg", 1), ("text", 2)]
    data, seen = batch(absent=absent), []
    plain = Perturbation.__call__

    def listen(self, change):
        seen.append({name: part.detach() for name, part in change.items()})
        return plain(self, change)

    monkeypatch.setattr(Perturbation, "__call__", listen)
    answers = Answers(made.model, data, made.model(data.inputs, generator()), generator(1))
    made.consistency[0].loss("state", answers)
    looked, moved = seen
    torch.testing.assert_close(norm(looked), torch.full((8,), 0.1))
    torch.testing.assert_close(norm(moved), torch.full((8,), 2.5))
    for name, row in absent:
        assert not moved[name][row].any() and not looked[name][row].any()
    steps = moved["eeg"].shape[1]
    padding = torch.arange(steps) >= data.inputs["eeg"].length[:, None]
    assert not moved["eeg"][padding].any() and moved["text"][0].any()


def test_windows_in_volts_are_changed_in_their_own_unit(objective, batch):
    made, data = objective(), batch()
    perturbation = Perturbation(made.model, data)
    assert set(perturbation.grounds) == {"image", "eeg", "text"} and perturbation.windows == {"image"}
    image = data.inputs["image"].values
    torch.testing.assert_close(perturbation.grounds["image"].unit, image.square().mean().sqrt())
    nothing = {name: torch.zeros_like(ground.values) for name, ground in perturbation.grounds.items()}
    made.eval()
    with torch.no_grad():
        wanted = made.model(data.inputs).decisions["state"]
        torch.testing.assert_close(perturbation(nothing)["state"], wanted)


def test_the_clean_answer_and_the_search_get_no_gradient(objective, batch, generator):
    made, data = objective([("vat", {})], dropout=0.5), batch()
    answers = Answers(made.model, data, made.model(data.inputs, generator()), generator(1))
    made.zero_grad()
    loss = made.consistency[0].loss("state", answers)
    assert all(parameter.grad is None for parameter in made.parameters())
    loss.backward()
    assert loss > 0 and any(parameter.grad is not None for parameter in made.model.encoders["text"].parameters())
    assert not answers.clean("state").requires_grad
