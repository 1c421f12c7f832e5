"""Two networks against each other: whose turn it is, whose records they see, and which weights make records."""

import copy
from collections import Counter

import pytest
import torch
from torch import nn

from fusionkit.augment.generative.adversarial import AdversarialAugmenter
from fusionkit.augment.generative.contest import Game
from fusionkit.augment.generative.generator import Item
from fusionkit.augment.generative.gradient_penalty import gradient_penalty
from fusionkit.core.levels import WindowShape
from fusionkit.core.registry import generators

ITEM = Item("features", WindowShape((1, 2, 2)), 3)
GANS = {"gan": (1, "discriminator"), "cgan": (1, "discriminator"), "wgan_gp": (5, "critic"), "cwgan_gp": (5, "critic")}


def records(rows=24, classes=3):
    label = torch.arange(rows) % classes
    return torch.randn(rows, 1, 2, 2, generator=torch.Generator().manual_seed(0)) + 10.0 * label[
        :, None, None, None
    ], label


def prepared(kind, item=ITEM, **options):
    made = generators.build(kind, options, item).train()
    made.prepare(*records(classes=item.classes))
    return made


def step(made, optimisers, count, generator):
    values, label = records()
    for turn in made.turns():
        for _ in range(turn.times):
            optimisers[turn.name].zero_grad()
            loss, _ = turn.loss(made.standardise(values), label, generator)
            loss.backward()
            optimisers[turn.name].step()
            count[turn.name] += 1
    made.settle()


@pytest.mark.parametrize("kind", GANS)
def test_the_papers_number_of_critic_steps_is_made_for_each_of_the_generator(kind):
    times, judge = GANS[kind]
    made = prepared(kind)
    optimisers = {turn.name: turn.optimiser(turn.parameters) for turn in made.turns()}
    count = Counter()
    step(made, optimisers, count, torch.Generator().manual_seed(0))
    assert count == {judge: times, "generator": 1}
    count.clear()
    more = prepared(kind, critic_steps=3)
    step(more, {turn.name: turn.optimiser(turn.parameters) for turn in more.turns()}, count, torch.Generator())
    assert count == {judge: 3, "generator": 1}


@pytest.mark.parametrize(
    ("kind", "rate", "betas"),
    [
        ("gan", 2e-4, (0.5, 0.999)),
        ("cgan", 2e-4, (0.5, 0.999)),
        ("dcgan", 2e-4, (0.5, 0.999)),
        ("wgan_gp", 1e-4, (0.0, 0.9)),
        ("cwgan_gp", 1e-4, (0.0, 0.9)),
    ],
)
def test_the_papers_optimisers(kind, rate, betas):
    made = generators.build(kind, {}, Item("features", WindowShape((1, 6, 2)), 2))
    for turn in made.turns():
        optimiser = turn.optimiser(turn.parameters)
        assert type(optimiser) is torch.optim.Adam
        assert (optimiser.defaults["lr"], optimiser.defaults["betas"]) == (rate, betas)


def test_the_conditional_critics_loss_is_its_formula():
    made = prepared("cwgan_gp", hidden=8, layers=1, latent=4)
    values, label = records()
    critic, _ = made.turns()
    loss, seen = critic.loss(made.standardise(values), label, torch.Generator().manual_seed(4))
    codes, generator = torch.eye(3)[label], torch.Generator().manual_seed(4)
    noise = torch.randn((24, 4), generator=generator)
    fake = made.makers[0](noise, codes).reshape(values.shape).detach()
    judge = lambda x: made.judges[0](x, codes)[:, 0]
    real = made.standardise(values)
    penalty = gradient_penalty(judge, real, fake, generator)
    torch.testing.assert_close(loss, judge(fake).mean() - judge(real).mean() + 10 * penalty)
    torch.testing.assert_close(seen["wasserstein"], (judge(real).mean() - judge(fake).mean()).detach())
    torch.testing.assert_close(seen["gradient_penalty"], penalty.detach())


def test_the_generators_loss_is_its_formula():
    made = prepared("cwgan_gp", hidden=8, layers=1, latent=4)
    values, label = records()
    loss, _ = made.turns()[1].loss(made.standardise(values), label, torch.Generator().manual_seed(4))
    codes = torch.eye(3)[label]
    noise = torch.randn((24, 4), generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(loss, -made.judges[0](made.makers[0](noise, codes), codes).mean())


class Spy(AdversarialAugmenter):
    """Remembers what its judges see; a maker makes its own number."""

    kind = "spy"

    def __init__(self, item, conditional=False):
        self.seen = []
        made = iter(range(100))
        super().__init__(
            item,
            lambda: (_Number(next(made)), _Remembers(self)),
            Game(),
            conditional=conditional,
            latent=1,
            critic_steps=1,
            learning_rate=1e-3,
            betas=(0.5, 0.999),
            average=0.0,
        )


class _Number(nn.Module):
    def __init__(self, number):
        super().__init__()
        self.number = nn.Parameter(torch.tensor(float(number)))

    def forward(self, noise, beside):
        return self.number.expand(len(noise), 4)


class _Remembers(nn.Module):
    def __init__(self, spy):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.remembered = spy.seen

    def forward(self, values, beside):
        self.remembered.append((id(self), values.detach().clone(), beside))
        return self.weight * values.flatten(1).sum(1, keepdim=True)


def test_a_pair_of_a_class_sees_its_own_class_alone():
    spy = Spy(ITEM)
    label = torch.tensor([2, 0, 0, 2, 2, 0, 0])
    values = label[:, None, None, None].expand(-1, 1, 2, 2).float() + 50
    spy.turns()[0].loss(values, label, torch.Generator().manual_seed(0))
    real = [values for _, values, _ in spy.seen if values.min() >= 50]
    assert [set(it.unique().tolist()) for it in (real[0], real[-1])] == [{50.0}, {52.0}]
    assert {len(it) for it in real} == {3}, "a third of seven, rounded up"
    assert all(beside.shape[1] == 0 for _, _, beside in spy.seen)


def test_a_class_that_the_batch_lacks_counts_nothing():
    spy = Spy(ITEM)
    label = torch.tensor([0, 2, 0, 2])
    values = label[:, None, None, None].expand(-1, 1, 2, 2).float()
    loss, seen = spy.turns()[0].loss(values, label, torch.Generator().manual_seed(0))
    loss.backward()
    grads = [judge.weight.grad for judge in spy.judges]
    assert grads[1] is None or grads[1] == 0
    assert grads[0] is not None and grads[2] is not None

    def value(class_):
        right, wrong = torch.full((2,), 4.0 * class_), torch.full((2,), 4.0 * class_)
        return Game().judging(lambda x: x, right, wrong, torch.Generator())[0]

    torch.testing.assert_close(loss, (value(0) + value(2)) / 2)
    torch.testing.assert_close(seen["value"], -loss.detach())


@pytest.mark.parametrize("conditional", [False, True])
def test_every_wanted_class_is_made_by_its_own_maker(conditional):
    spy = Spy(ITEM, conditional)
    label = torch.tensor([2, 0, 1, 1, 2])
    found = spy.sample(label, torch.Generator().manual_seed(0))
    wanted = torch.zeros(5) if conditional else label.float()
    assert torch.equal(found.values, wanted[:, None, None, None].expand(-1, 1, 2, 2))
    assert torch.equal(found.label, label)
    assert torch.equal(found.share, torch.ones(5))


def test_records_come_in_the_sensors_own_scale():
    spy = Spy(ITEM, conditional=True)
    values, label = records()
    spy.prepare(values, label)
    found = spy.sample(torch.zeros(1, dtype=torch.long), torch.Generator())
    torch.testing.assert_close(found.values[0], values.mean(0))


@pytest.mark.parametrize("kind", ["gan", "cwgan_gp"])
def test_the_averaged_generator_is_the_one_that_samples(kind):
    made = prepared(kind, average=0.75, hidden=8)
    start = copy.deepcopy(made.makers)
    optimisers = {turn.name: turn.optimiser(turn.parameters) for turn in made.turns()}
    wanted = [p.detach().clone() for p in start.parameters()]
    for place in range(3):
        step(made, optimisers, Counter(), torch.Generator().manual_seed(place))
        wanted = [0.75 * mean + 0.25 * p.detach() for mean, p in zip(wanted, made.makers.parameters(), strict=True)]
    for mean, found in zip(wanted, made.averaged.parameters(), strict=True):
        torch.testing.assert_close(found, mean)
    label = torch.arange(6) % 3
    by_average = made.sample(label, torch.Generator().manual_seed(1)).values
    made.makers.load_state_dict(made.averaged.state_dict())
    made.averaged = None
    torch.testing.assert_close(made.sample(label, torch.Generator().manual_seed(1)).values, by_average)


def test_many_records_are_made_in_parts_and_alike(monkeypatch):
    made = prepared("wgan_gp", hidden=8)
    label = torch.arange(50) % 3
    whole = made.sample(label, torch.Generator().manual_seed(1)).values
    monkeypatch.setattr("fusionkit.augment.generative.adversarial.batches", lambda n: [slice(0, 7), slice(7, n)])
    torch.testing.assert_close(made.sample(label, torch.Generator().manual_seed(1)).values, whole)


@pytest.mark.parametrize("kind", ["gan", "wgan_gp", "cgan", "cwgan_gp"])
def test_spectral_normalisation_is_in_the_critic_alone(kind):
    made = generators.build(kind, {"spectral": True}, ITEM)
    judged = [name for name, _ in made.judges.named_parameters() if name.endswith("weight.original")]
    plain = [name for name, _ in made.judges.named_parameters() if name.endswith(".weight")]
    assert judged and not plain
    assert not [name for name, _ in made.makers.named_parameters() if "original" in name]
