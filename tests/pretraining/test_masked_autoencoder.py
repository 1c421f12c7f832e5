"""Masked auto-encoder: hidden steps and channels, a loss by a loop on hidden places alone, with every encoder."""

from typing import Any

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Batch, Window
from fusionkit.core.registry import objectives
from fusionkit.pretraining.masked_autoencoder import draw_hidden, mean_at_places, normalise_patches

KINDS: list[dict[str, Any]] = [
    {"image": "image_cnn"},
    {"image": "vit"},
    {"image": "mlp"},
    {"image": "transformer"},
    {"eeg": "transformer"},
    {"eeg": "cnn"},
    {"eeg": "gru"},
    {"eeg": ("transformer", {"over": "channels"})},
]
IDS = [f"{name} {kind if isinstance(kind, str) else kind[0]}" for one in KINDS for name, kind in one.items()]


def test_whole_steps_in_runs_and_whole_channels_are_hidden():
    real = torch.arange(10) < torch.tensor([[10], [6]])
    hidden = draw_hidden(real, 4, 0.5, 0.5, 1, torch.Generator().manual_seed(0))
    assert hidden.sum((1, 2)).tolist() == [5 * 4 + 5 * 2, 3 * 4 + 3 * 2]
    assert hidden.all(2).sum(1).tolist() == [5, 3] and not (hidden & ~real[..., None]).any()
    partly = hidden & ~hidden.all(2, keepdim=True)
    assert all(len(partly[row][real[row] & ~hidden[row].all(1)].unique(dim=0)) == 1 for row in range(2))
    runs = draw_hidden(torch.ones(3, 12, dtype=torch.bool), 2, 0.5, 0.0, 3, torch.Generator().manual_seed(0))
    blocks = runs[:, :, 0].reshape(3, 4, 3)
    assert torch.equal(blocks.all(2), blocks.any(2)) and blocks.all(2).sum(1).tolist() == [2, 2, 2]


def test_patches_in_their_own_mean_and_spread():
    made = normalise_patches(torch.tensor([1.0, 2.0, 3.0, 4.0, 4.0, 4.0]).reshape(1, 2, 1, 3))
    torch.testing.assert_close(made.flatten(), torch.tensor([-1.0, 0.0, 1.0, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    "options", [{}, {"channels": 0.5, "steps": 0.5, "normalise": True, "span": 2}], ids=["plain", "all"]
)
@pytest.mark.parametrize("kinds", KINDS, ids=IDS)
def test_equals_a_loop_over_hidden_places_which_alone_get_gradients(stage, kinds, options):
    made = stage(**kinds)
    (name,) = kinds
    objective = objectives.build("masked_autoencoder", options, made.given)
    seen = {}
    objective.outs[name].register_forward_hook(lambda _, taken, out: seen.update(out=out, kept=out.retain_grad()))
    encode = made.model.encoders[name].register_forward_pre_hook(lambda _, taken: seen.update(level=taken[0]))
    batch = made.batch(absent={(name, 1)})
    loss = made.loss(objective, batch, seed=5)
    loss.backward()
    encode.remove()
    places = objective.places[name]
    target = places.target(made.looks(batch).level(name))
    generator = torch.Generator().manual_seed(5)
    hidden = draw_hidden(
        target.mask,
        places.channel,
        options.get("steps", 0.75),
        options.get("channels", 0.0),
        options.get("span", 1),
        generator,
    )
    read = seen["out"].reshape(target.values.shape)
    total = []
    for record, step, channel in hidden.nonzero().tolist():
        whole = target.values[record, step]
        wanted = (whole - whole.mean()) / (whole.var() + 1e-6).sqrt() if options else whole
        total.append((read[record, step, channel] - wanted[channel]).square().mean())
    torch.testing.assert_close(loss, torch.stack(total).mean())
    gradient = seen["out"].grad.reshape(target.values.shape)
    assert not gradient[~hidden].any() and gradient[hidden].any(1).all()
    assert not hidden[1].any() and hidden[0].any()
    if places.features:  # the encoder does not see them at all
        assert torch.equal(seen["level"].mask[0], target.mask[0] & ~hidden[0].all(1))
    for one in made.model.encoders.parameters():
        assert one.grad is not None and torch.isfinite(one.grad).all()


def test_several_sensors_share_the_loss_and_text_is_passed_over(stage):
    made = stage(image="image_cnn", eeg="transformer", text="transformer")
    objective = objectives.build("masked_autoencoder", {}, made.given)
    assert sorted(objective.decoders) == ["eeg", "image"]
    made.loss(objective).backward()
    assert all(p.grad is None for p in made.model.encoders["text"].parameters())


def test_all_absent_is_zero_without_nan(stage):
    made = stage(image="image_cnn", eeg="cnn")
    objective = objectives.build("masked_autoencoder", {}, made.given)
    absent = {(name, record) for name in ("image", "eeg") for record in range(5)}
    loss = made.loss(objective, made.batch(absent=absent))
    loss.backward()
    assert float(loss.detach()) == 0.0
    for one in (*made.model.parameters(), *objective.parameters()):
        assert one.grad is None or not one.grad.any()


def test_hidden_steps_are_learned_from_the_others(stage):
    """Every step of a record is the same, and every record another: what is hidden can be known."""
    made = stage(eeg=("transformer", {"dropout": 0.0, "layers": 1}))
    objective = objectives.build("masked_autoencoder", {"layers": 1}, made.given)
    optimiser = torch.optim.Adam([*made.model.encoders.parameters(), *objective.parameters()], 1e-2)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(60):
        values = torch.randn(32, 4, 1, generator=generator).expand(32, 4, 10)
        window = Window(values, torch.full((32,), 10), torch.ones(32, dtype=torch.bool))
        loss = objective(made.looks(Batch({"eeg": window})), generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.35 * sum(losses[:10])


def test_what_hides_nothing_is_refused(stage):
    with pytest.raises(ConfigError, match="must hide something"):
        objectives.build("masked_autoencoder", {"steps": 0}, stage(eeg="mlp").given)
    with pytest.raises(ConfigError, match=r"none of \['text'\] is such"):
        objectives.build("masked_autoencoder", {}, stage(text="transformer").given)
    with pytest.raises(ConfigError, match="heads must divide dim, but 3 does not divide 16"):
        objectives.build("masked_autoencoder", {"heads": 3}, stage(eeg="mlp").given)


def test_the_mean_at_a_place_is_that_of_real_steps():
    values = torch.tensor([[1.0, 5.0], [3.0, 7.0]]).reshape(2, 2, 1, 1)
    made = mean_at_places(values, torch.tensor([[True, True], [True, False]]))
    assert made.flatten().tolist() == [2, 5, 2, 5]


def test_the_history_says_what_means_leave_unexplained(stage):
    made = stage(image="transformer", eeg="transformer")
    objective = objectives.build("masked_autoencoder", {}, made.given).train()
    assert objective.close_epoch() == {"unexplained_image": 1.0, "unexplained_eeg": 1.0}  # nothing was learned from
    for out in objective.outs.values():
        torch.nn.init.zeros_(out.weight)
        torch.nn.init.zeros_(out.bias)
    batch, errors = made.batch(), {}
    for step in (0, 1):
        made.loss(objective, batch, seed=step)
        generator = torch.Generator().manual_seed(step)
        for name, places in objective.places.items():
            target = places.target(made.looks(batch).level(name))
            hidden = draw_hidden(target.mask, places.channel, 0.75, 0.0, 1, generator)[..., None].expand(
                target.values.shape
            )
            real = target.mask[:, :, None, None].expand(target.values.shape)
            mean = torch.stack(
                [
                    torch.stack([target.values[:, step][real[:, step, 0, 0]].mean(0) for _ in range(len(real))])
                    for step in range(real.shape[1])
                ],
                1,
            )
            each = errors.setdefault(name, [0.0, 0.0])
            each[0] += target.values[hidden].square().mean().item()
            each[1] += (target.values - mean)[hidden].square().mean().item()
    objective.eval()
    made.loss(objective, batch)  # validation is not counted
    wanted = {f"unexplained_{name}": error / mean for name, (error, mean) in errors.items()}
    assert objective.close_epoch() == pytest.approx(wanted, rel=1e-4)
    assert objective.close_epoch() == {"unexplained_image": 1.0, "unexplained_eeg": 1.0}
