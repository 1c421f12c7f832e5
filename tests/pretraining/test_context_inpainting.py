"""Context inpainting: holes that lie in what is real, a loss of the hole alone, and a critic that is fooled."""

import math
from typing import Any

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import objectives
from fusionkit.pretraining.context_inpainting import draw_hole, real_or_painted
from fusionkit.training.stage import StageObjective
from fusionkit.training.update import decay_groups

KINDS: list[dict[str, Any]] = [
    {"image": "image_cnn"},
    {"image": "vit"},
    {"image": "mlp"},
    {"eeg": "transformer"},
    {"eeg": "cnn"},
    {"eeg": "gru"},
]
IDS = [f"{name} {kind}" for one in KINDS for name, kind in one.items()]


def test_a_hole_of_a_picture_is_a_rectangle_anywhere_in_it():
    holes = draw_hole(torch.ones(400, 24, dtype=torch.bool), (4, 6), 0.25, torch.Generator().manual_seed(0))
    planes = holes.reshape(400, 4, 6)
    assert torch.equal(planes.any(2)[:, :, None] & planes.any(1)[:, None], planes)
    assert set(planes.any(2).sum(1).tolist()) == {2} and set(planes.any(1).sum(1).tolist()) == {3}
    assert holes.any(0).all() and len(holes.unique(dim=0)) == 3 * 4


def test_a_hole_of_a_signal_is_a_stretch_of_what_is_real():
    real = torch.ones(300, 8, dtype=torch.bool)
    real[100:200, 4:] = False
    real[200:, 1:] = False
    holes = draw_hole(real, (1, 8), 0.5, torch.Generator().manual_seed(0))
    assert set(holes[:100].sum(1).tolist()) == {4} and len(holes[:100].unique(dim=0)) == 5
    assert set(holes[100:200].sum(1).tolist()) == {2} and len(holes[100:200].unique(dim=0)) == 3
    assert not holes[200:].any() and not (holes & ~real).any()
    starts = torch.nn.functional.pad(holes[:200].int(), (1, 0)).diff(dim=1)
    assert set((starts == 1).sum(1).tolist()) == {1}


def test_a_critic_that_cannot_tell_costs_log_4_and_places_outside_the_hole_nothing():
    hole = torch.tensor([[True, False, True]])
    flat = torch.zeros(1, 3)
    assert float(real_or_painted(flat, flat, hole)) == pytest.approx(math.log(4))
    real, painted = torch.tensor([[2.0, 50.0, 0.0]]), torch.tensor([[-1.0, 50.0, 1.0]])
    wanted = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1)) + math.log(2) + math.log(1 + math.exp(1))) / 2
    assert float(real_or_painted(real, painted, hole)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("kinds", KINDS, ids=IDS)
def test_equals_a_loop_over_the_hole_which_alone_gets_gradients(stage, kinds):
    made = stage(**kinds)
    (name,) = kinds
    objective = objectives.build("context_inpainting", {"adversarial": 0.1}, made.given)
    seen = {}
    objective.outs[name].register_forward_hook(lambda _, taken, out: seen.update(out=out, kept=out.retain_grad()))
    batch = made.batch(absent={(name, 1)})
    loss = made.loss(objective, batch, seed=5)
    loss.backward()
    places = objective.places[name]
    target = places.target(made.looks(batch).level(name)).values
    real = places.target(made.looks(batch).level(name)).mask
    hole = draw_hole(real, places.grid(target.shape[1]), 0.25, torch.Generator().manual_seed(5))
    assert hole.any(1).tolist() == [True, False, True, True, True]
    painted, errors, tricks = seen["out"].detach(), [], []
    critic = objective.critics[name]
    for record, step in hole.nonzero().tolist():
        wanted = target[record, step].flatten()
        errors.append((painted[record, step] - wanted).square().mean())
        tricks.append(-critic(wanted).sigmoid().log() - (1 - critic(painted[record, step]).sigmoid()).log())
    torch.testing.assert_close(loss, 0.9 * torch.stack(errors).mean() + torch.stack(tricks).mean())
    gradient = seen["out"].grad
    assert not gradient[~hole].any() and gradient[hole].any(1).all()
    assert all(torch.isfinite(one.grad).all() for one in made.model.encoders.parameters())


def test_the_painter_gets_the_critics_gradient_turned_around_and_weighted(stage):
    made = stage(eeg="mlp")
    made.model.eval()
    gradients = {}
    for weight in (0.0, 0.25):
        torch.manual_seed(1)
        objective = objectives.build("context_inpainting", {"adversarial": weight}, made.given)
        seen = {}
        objective.outs["eeg"].register_forward_hook(
            lambda _, taken, out, seen=seen: seen.update(out=out, kept=out.retain_grad())
        )
        made.loss(objective).backward()
        gradients[weight] = seen["out"].grad
        painted = seen["out"].detach().requires_grad_()
    hole = gradients[0.0].any(2)
    real_or_painted(torch.zeros(hole.shape), objective.critics["eeg"](painted)[..., 0], hole).backward()
    torch.testing.assert_close(gradients[0.25], 0.75 * gradients[0.0] - 0.25 * painted.grad)
    assert objective.critics["eeg"][0].weight.grad.any()


def test_all_absent_is_zero_without_nan(stage):
    made = stage(image="image_cnn", eeg="cnn")
    objective = objectives.build("context_inpainting", {}, made.given)
    loss = made.loss(objective, made.batch(absent={(n, record) for n in ("image", "eeg") for record in range(5)}))
    loss.backward()
    assert float(loss.detach()) == 0.0
    for one in (*made.model.parameters(), *objective.parameters()):
        assert one.grad is None or not one.grad.any()


def test_a_stage_of_text_alone_is_refused(stage):
    with pytest.raises(ConfigError, match=r"context_inpainting learns from images, signals .* none of \['text'\]"):
        objectives.build("context_inpainting", {}, stage(text="transformer").given)


def test_critics_learn_at_a_tenth_of_the_rate(stage):
    made = stage(image="transformer")
    objective = objectives.build("context_inpainting", {}, made.given)
    groups = decay_groups(StageObjective(made.model, {"it": objective}, [1.0], ["image"]), 0.05)
    paces = {id(parameter): group["scale"] for group in groups for parameter in group["params"]}
    assert {paces[id(p)] for p in objective.critics.parameters()} == {0.1}
    others = [*made.model.encoders.parameters(), *objective.decoders.parameters(), *objective.outs.parameters()]
    assert {paces[id(p)] for p in others} == {1.0}
