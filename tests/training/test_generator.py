"""Training of generators: whose turn it is, what is logged, what is said, and that a stop changes no bit."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fusionkit.augment.generative.generator import GenerativeAugmenter, Item, Made, Turn
from fusionkit.core import registry
from fusionkit.core.errors import DataError
from fusionkit.core.levels import WindowShape
from fusionkit.evaluation.generation.mmd import discrepancy
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.generator import GeneratorTraining
from fusionkit.training.history import read_history
from fusionkit.training.interruption import Interrupted, StopRequest
from fusionkit.training.order import derive_seed

RECORDS, BATCH = 10, 4


class Pair(GenerativeAugmenter):
    """Two players that each pull a number at the mean of what they see; batches and classes are written down."""

    kind = "pair"

    def __init__(self, item, spoil=None, spread=1.0, reach=0.0):
        super().__init__(item)
        self.critic, self.maker = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
        self.spoil, self.spread, self.reach = spoil, spread, reach
        self.register_buffer("settled", torch.zeros(()))
        self.seen = []

    def turns(self):
        return (
            Turn("critic", [self.critic], self._critic, lambda p: torch.optim.Adam(p, 1e-2), 3),
            Turn("generator", [self.maker], self._maker, lambda p: torch.optim.SGD(p, 1e-1)),
        )

    def settle(self):
        self.settled += 1

    def sample(self, label, generator):
        noise = torch.randn(len(label), 1, 2, 1, generator=generator)
        values = self.restore(noise * self._of(self.spread) + self._of(self.reach))
        return Made(values, label, torch.ones(len(label)))

    def _of(self, setting):
        return setting(int(self.settled)) if callable(setting) else setting

    def _critic(self, values, label, generator):
        self.seen.append(("critic", values.flatten(1).clone(), label.clone()))
        noise = torch.randn((), generator=generator)
        loss = (self.critic - values.flatten(1)).square().mean() + noise * self.critic.sum() + self.maker.sum() * 0.1
        if self.spoil == len(self.seen):
            loss = loss * math.nan
        return loss, {"distance": values.mean().detach()}

    def _maker(self, values, label, generator):
        self.seen.append(("generator", values.flatten(1).clone(), label.clone()))
        return (self.maker - self.critic.detach()).square().sum() + torch.rand((), generator=generator), {}


def records(classes=2):
    draw = torch.Generator().manual_seed(0)
    values = 3 + 2 * torch.randn(RECORDS, 1, 2, 1, generator=draw)
    return values, torch.arange(RECORDS) % classes


def make(folder=None, epochs=4, stop=None, said=None, facts=None, checkpoint_seconds=1e9, **options):
    values, label = records()
    generator = Pair(Item("features", WindowShape((1, 2, 1)), 2), **options)
    generator.prepare(values, label)
    return GeneratorTraining(
        generator,
        values,
        label,
        epochs=epochs,
        batch=BATCH,
        seed=5,
        folder=folder,
        facts=facts,
        checkpoint_seconds=checkpoint_seconds,
        say=(said if said is not None else []).append,
        stop=stop,
        classes=("rest", "work"),
    )


def test_every_player_sees_every_record_as_often_as_it_has_updates():
    training = make(epochs=2)
    training.run()
    seen, steps = training.generator.seen, 3  # 10 records by 4
    assert [name for name, _, _ in seen] == [*["critic"] * 3, "generator"] * steps * 2
    assert int(training.generator.settled) == steps * 2
    first = seen[: 4 * steps]
    for update in range(4):  # each update of a step has an order of its own
        values = torch.cat([first[4 * step + update][1] for step in range(steps)])
        standard = training.values.flatten(1)
        assert torch.equal(values.sort(0).values, standard.sort(0).values)
    orders = [torch.cat([first[4 * step + update][1] for step in range(steps)]) for update in range(4)]
    assert not any(torch.equal(one, other) for n, one in enumerate(orders) for other in orders[:n])
    for _, values, label in seen:  # records keep their classes
        rows = [int((training.values.flatten(1) == value).all(1).nonzero()) for value in values]
        assert label.tolist() == [row % 2 for row in rows]


@pytest.mark.parametrize("options", [{}, {"average": 0.9}, {"spectral": True}], ids=["plain", "average", "spectral"])
@pytest.mark.parametrize("kind", ["gan", "cgan", "wgan_gp", "cwgan_gp", "cvae", "dcgan"])
def test_nothing_waits_for_the_device_in_a_step(watch, kind, options):
    cls = registry.generators.get(kind)
    if "spectral" in options and "spectral" not in cls.__init__.__kwdefaults__:
        pytest.skip("it has no critic")
    narrow = {"width": 2} if kind == "dcgan" else {}
    generator = cls(Item("features", WindowShape((1, 12, 5)), 3), **options, **narrow).train()
    values, label = torch.randn(16, 1, 12, 5), torch.arange(16) % 3
    generator.prepare(values, label)
    random = torch.Generator().manual_seed(0)
    with watch() as seen:
        for turn in generator.turns():
            loss, _ = turn.loss(generator.standardise(values), label, random)
            loss.backward(inputs=list(turn.parameters))
        generator.settle()
    assert seen.found == []


def test_it_is_a_plain_loop():
    """The same batches and noise in a loop of plain torch give the same weights, to the bit."""
    training = make(epochs=3)
    trained = training.run()
    batches = iter(trained.seen)
    critic, maker = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    adam, plain = torch.optim.Adam([critic], 1e-2), torch.optim.SGD([maker], 1e-1)
    losses = []
    for epoch in range(3):
        noise = torch.Generator().manual_seed(derive_seed("epoch", 5, epoch))
        for _ in range(3):
            for _ in range(3):
                _, values, _ = next(batches)
                one = torch.randn((), generator=noise)
                loss = (critic - values).square().mean() + one * critic.sum() + maker.detach().sum() * 0.1
                adam.zero_grad()
                loss.backward()
                adam.step()
                losses.append(float(loss.detach()))
            next(batches)
            loss = (maker - critic.detach()).square().sum() + torch.rand((), generator=noise)
            plain.zero_grad()
            loss.backward()
            plain.step()
    assert torch.equal(trained.critic, critic) and torch.equal(trained.maker, maker)
    means = np.array(losses).reshape(3, -1).mean(1)
    np.testing.assert_allclose([entry["loss_critic"] for entry in training.history], means, rtol=1e-6)


def test_the_history_has_a_row_an_epoch(tmp_path):
    training = make(tmp_path, epochs=3)
    training.run()
    rows = read_history(tmp_path / "history.csv")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert list(rows[0]) == ["epoch", "loss_critic", "critic_distance", "loss_generator", "spread", "reach"]
    assert rows == training.history


class After(StopRequest):
    """A stop that is asked for after so many steps."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def __bool__(self):
        self.left -= 1
        if self.left < 0:
            self.signal = 15
        return super().__bool__()


@pytest.mark.parametrize("kind", ["pair", "cwgan_gp", "cvae"])
def test_stops_at_every_step_change_no_bit(tmp_path, kind):
    def training(folder, stop=None):
        if kind == "pair":
            return make(folder, stop=stop)
        torch.manual_seed(1)
        values, label = records()
        item, options = Item("features", WindowShape((1, 2, 1)), 2), {"hidden": 6, "latent": 3, "average": 0.5}
        generator = registry.generators.build(kind, options, item)
        generator.prepare(values, label)
        return GeneratorTraining(generator, values, label, epochs=4, batch=BATCH, seed=5, folder=folder, stop=stop)

    whole, stops = training(tmp_path / "whole").run(), 0
    for _ in range(200):
        torch.manual_seed(stops)  # what a new process begins with
        part = training(tmp_path / "cut", After(0))
        try:
            cut = part.run()
            break
        except Interrupted as error:
            assert error.exit_code == 143
            stops += 1
    assert stops >= 12  # every step, and ends of epochs
    for name, value in whole.state_dict().items():
        assert torch.equal(value, cut.state_dict()[name]), name
    assert (tmp_path / "whole/history.csv").read_text() == (tmp_path / "cut/history.csv").read_text()


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    make(tmp_path, facts={"fold": 0}).run()
    with pytest.raises(
        DataError, match=r"last\.safetensors: fold must be 1, but is 0: the file is of another training"
    ):
        make(tmp_path, facts={"fold": 1}).run()


@pytest.mark.parametrize(("update", "epoch", "step"), [(1, 0, 0), (3, 0, 0), (10, 0, 2), (4 * 3 + 6, 1, 1)])
def test_a_loss_that_is_no_number_stops_with_its_step(tmp_path, update, epoch, step):
    with pytest.raises(DataError, match=rf"loss_critic is nan in epoch {epoch}, step {step}$"):
        make(tmp_path, spoil=update, checkpoint_seconds=0.0).run()
    if (tmp_path / "last.safetensors").exists():  # no checkpoint holds spoiled weights
        tensors, _ = load_tensors(tmp_path / "last.safetensors")
        assert all(torch.isfinite(x).all() for name, x in tensors.items() if x.is_floating_point())


def test_collapse_and_divergence_are_said_when_they_come_and_at_the_end():
    said = []
    training = make(said=said, epochs=5, spread=lambda steps: 1.0 if steps < 7 else 0.01)
    training.run()
    assert [line.split(":")[0] for line in said] == ["pair is in epoch 2 collapsed", "pair ends in epoch 4 collapsed"]
    assert "vary 0." in said[0] and training.collapsed == ["rest", "work"] and not training.diverged
    said.clear()
    training = make(said=said, epochs=4, reach=lambda steps: 50.0 if 4 < steps < 10 else 0.0)
    training.run()
    assert len(said) == 1 and said[0].startswith("pair is in epoch 1 diverged: its records lie 50")
    assert not training.diverged and not training.collapsed


def test_spread_and_reach_are_one_for_copies_of_the_records():
    values, label = records()
    generator = Pair(Item("features", WindowShape((1, 2, 1)), 2))
    generator.prepare(values, label)
    generator.sample = lambda label, random: Made(values[label.argsort() * 0 + order], label, torch.ones(len(label)))
    order = torch.cat([torch.arange(0, RECORDS, 2), torch.arange(1, RECORDS, 2)])
    entry = GeneratorTraining(generator, values, label, epochs=1, batch=BATCH, seed=0)._measure()
    assert entry == pytest.approx({"spread": 1.0, "reach": 1.0}, rel=1e-5)


def mixture(count, seed):
    """Six Gaussians on a ring; opposite ones are of one class, so that every class has two modes."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(count) % 3
    return centres()[label + 3 * torch.randint(0, 2, (count,), generator=draw)] + 0.2 * torch.randn(
        count, 2, generator=draw
    ), label


def centres():
    angle = torch.arange(6) * torch.pi / 3
    return 2 * torch.stack([angle.cos(), angle.sin()], 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options", "epochs", "fall"),
    [
        (
            "cwgan_gp",
            {"learning_rate": 1e-3, "average": 0.995, "penalty": 0.1, "critic_steps": 3, "latent": 8},
            250,
            10,
        ),
        ("cvae", {"learning_rate": 3e-3, "latent": 2}, 150, 4),  # it makes means, which vary less than records
    ],
)
def test_a_mixture_with_known_classes_is_learned(kind, options, epochs, fall):
    """Of made records 95 % or more are of their class by the true rule, and in each class the discrepancy falls."""
    values, label = mixture(600, 0)
    held, its = mixture(1200, 9)
    torch.manual_seed(0)
    item = Item("features", WindowShape((1, 2, 1)), 3)
    generator = registry.generators.build(kind, {"hidden": 64, **options}, item)
    generator.prepare(values.view(-1, 1, 2, 1), label)

    def look():
        made = generator.sample(its, torch.Generator().manual_seed(1)).values.reshape(-1, 2)
        right = (torch.cdist(made, centres()).argmin(1) % 3 == its).float().mean()
        apart = [discrepancy(made[its == one].numpy(), held[its == one].numpy(), 0.5).biased for one in range(3)]
        return float(right), np.array(apart)

    before = look()
    GeneratorTraining(generator, values.view(-1, 1, 2, 1), label, epochs=epochs, batch=128, seed=1).run()
    after = look()
    assert before[0] < 0.5 and after[0] >= 0.95
    assert (after[1] <= before[1] / fall).all(), (before[1], after[1])
