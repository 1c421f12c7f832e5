"""`check_generator` finds planted defects, each by the check that is named for it, and passes what is sound."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from fusionkit.augment.generative.generator import GenerativeAugmenter, Made, Turn
from fusionkit.cli import main
from fusionkit.core.errors import ConfigError
from fusionkit.testing import ConformanceError, check_component, check_generator, generators


class Sound(GenerativeAugmenter):
    """A mean a class that one player learns, and a spread that another one learns."""

    kind = "sound"

    def __init__(self, item, *, rate: float = 0.1):
        super().__init__(item)
        self.rate = rate
        self.mean = nn.Parameter(torch.randn(item.classes, item.width))
        self.spread = nn.Parameter(torch.ones(item.width))
        self.register_buffer("moved", torch.zeros(()))

    def turns(self):
        return (
            Turn("judge", [self.spread], self.judging, self.sgd, 2),
            Turn("maker", [self.mean], self.making, self.sgd),
        )

    def sgd(self, parameters):
        return torch.optim.SGD(parameters, self.rate)

    def judging(self, values, label, generator):
        with torch.no_grad():
            off = values.flatten(1) - self.mean[label]
        return (self.spread - off.abs().mean(0)).square().mean(), {"off": off.abs().mean()}

    def making(self, values, label, generator):
        noise = torch.randn(len(values), self.item.width, generator=generator)
        made = self.mean[label] + self.spread.detach() * noise
        return (made - values.flatten(1)).square().mean(), {}

    def settle(self):
        self.moved += 1

    def sample(self, label, generator):
        with torch.no_grad():
            noise = torch.randn(len(label), self.item.width, generator=generator)
            made = self.mean[label] + self.spread * noise
            return Made(self.restore(made.reshape(-1, *self.item.shape)), label, torch.ones(len(label)))


class DividesByTheDeviation(Sound):
    def prepare(self, values, label):
        super().prepare(values, label)
        self.scale.copy_(values.std(0))


class LearnsOutsideItsTurns(Sound):
    def __init__(self, item):
        super().__init__(item)
        self.idle = nn.Parameter(torch.zeros(3))


class TwoPlayersOfOneWeight(Sound):
    def turns(self):
        first, second = super().turns()
        return first._replace(parameters=[self.spread, self.mean]), second


class ALossARecord(Sound):
    def making(self, values, label, generator):
        return (self.mean[label] - values.flatten(1)).square().mean(1), {}


class LogsNumbersOfTheHost(Sound):
    def judging(self, values, label, generator):
        loss, _ = super().judging(values, label, generator)
        return loss, {"off": loss.item()}


class LogsGradients(Sound):
    def judging(self, values, label, generator):
        loss, _ = super().judging(values, label, generator)
        return loss, {"off": loss}


class TheMakerIsNotDetached(Sound):
    def judging(self, values, label, generator):
        off = values.flatten(1) - self.mean[label]
        return (self.spread - off.abs().mean(0)).square().mean(), {}


class TheJudgeLearnsInTheMakersTurn(Sound):
    def making(self, values, label, generator):
        noise = torch.randn(len(values), self.item.width, generator=generator)
        return (self.mean[label] + self.spread * noise - values.flatten(1)).square().mean(), {}


class WritesToItsBatch(Sound):
    def judging(self, values, label, generator):
        loss = super().judging(values, label, generator)
        values.mul_(2)
        return loss


class NeedsTwoRecords(Sound):
    def judging(self, values, label, generator):
        return (self.spread - values.flatten(1).std(0)).square().mean(), {}


class NeedsEveryClass(Sound):
    def judging(self, values, label, generator):
        off = [
            (values[label == class_] - self.mean[class_].detach().view_as(values[0]))
            for class_ in range(self.item.classes)
        ]
        return sum((self.spread - it.flatten(1).abs().mean(0)).square().mean() for it in off), {}


class LearnsNothing(Sound):
    def sgd(self, parameters):
        return torch.optim.SGD(parameters, 0.0)


class MakesDoubles(Sound):
    def sample(self, label, generator):
        made = super().sample(label, generator)
        return made._replace(values=made.values.double())


class SortsTheClasses(Sound):
    def sample(self, label, generator):
        return super().sample(label.sort().values, generator)


class KeepsGradients(Sound):
    def sample(self, label, generator):
        made = super().sample(label, generator)
        return made._replace(values=made.values + 0 * self.spread.sum())


class SharesTwice(Sound):
    def sample(self, label, generator):
        values, label, share = super().sample(label, generator)
        return Made(torch.cat([values, values]), torch.cat([label, label]), torch.cat([share, share]))


class CannotMakeNone(Sound):
    def sample(self, label, generator):
        made = super().sample(label, generator)
        return made._replace(share=made.share / made.share.max())


class IgnoresTheClass(Sound):
    def sample(self, label, generator):
        return super().sample(torch.zeros_like(label), generator)._replace(label=label)


class IgnoresTheSeed(Sound):
    def sample(self, label, generator):
        return super().sample(label, torch.Generator().manual_seed(0))


class DrawsFromTorch(Sound):
    def making(self, values, label, generator):
        return super().making(values + torch.randn_like(values), label, generator)


class DrawsFromNumpy(Sound):
    def sample(self, label, generator):
        made = super().sample(label, generator)
        return made._replace(values=made.values + float(np.random.rand()))


class MovesWhileSampling(Sound):
    def sample(self, label, generator):
        self.moved += 1
        return super().sample(label, generator)


class StaysInEvaluation(Sound):
    def sample(self, label, generator):
        self.eval()
        return super().sample(label, generator)


class ForgetsAnAverage(Sound):
    def __init__(self, item):
        super().__init__(item)
        self.count = 0

    def settle(self):
        self.count += 1

    def sample(self, label, generator):
        made = super().sample(label, generator)
        return made._replace(values=made.values + self.count)


class SavesItsRecords(Sound):
    def __init__(self, item):
        super().__init__(item)
        self.register_buffer("kept", torch.zeros(0, *item.shape))

    def prepare(self, values, label):
        super().prepare(values, label)
        self.kept = values


@pytest.fixture
def features_alone(monkeypatch):
    """One case is enough to find what is planted."""
    monkeypatch.setattr(generators, "CASES", {"features": generators.CASES["features"]})


def failed(cls):
    with pytest.raises(ConformanceError) as caught:
        check_generator(cls)
    return {result.name for result in caught.value.results if result.outcome == "failed"}


def test_a_sound_augmenter_passes_over_every_case():
    results = check_component(Sound, rate=0.2)
    assert {result.outcome for result in results if result.case != "one class"} == {"passed"}
    assert {result.case for result in results} == {"features", "steps", "series", "sound", "image", "one class"}
    assert [result.name for result in results if result.outcome == "skipped"] == ["heeds_classes"]


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (DividesByTheDeviation, "standardises"),
        (LearnsOutsideItsTurns, "declares_turns"),
        (TwoPlayersOfOneWeight, "declares_turns"),
        (ALossARecord, "gives_losses"),
        (LogsNumbersOfTheHost, "gives_losses"),
        (LogsGradients, "gives_losses"),
        (TheMakerIsNotDetached, "gradients_stay_home"),
        (TheJudgeLearnsInTheMakersTurn, "gradients_stay_home"),
        (WritesToItsBatch, "leaves_batches_untouched"),
        (NeedsTwoRecords, "odd_batches"),
        (NeedsEveryClass, "odd_batches"),
        (LearnsNothing, "learns"),
        (MakesDoubles, "makes_what_is_wanted"),
        (SortsTheClasses, "makes_what_is_wanted"),
        (KeepsGradients, "makes_what_is_wanted"),
        (SharesTwice, "makes_what_is_wanted"),
        (CannotMakeNone, "none_and_one"),
        (IgnoresTheClass, "heeds_classes"),
        (IgnoresTheSeed, "heeds_classes"),
        (DrawsFromTorch, "repeats_by_seed"),
        (DrawsFromNumpy, "repeats_by_seed"),
        (MovesWhileSampling, "sampling_changes_nothing"),
        (StaysInEvaluation, "sampling_changes_nothing"),
        (ForgetsAnAverage, "state_is_whole"),
        (SavesItsRecords, "state_is_whole"),
    ],
)
@pytest.mark.filterwarnings("ignore:std.*degrees of freedom")
def test_a_planted_defect_is_found(features_alone, cls, check):
    assert check in failed(cls)


def test_an_exemption_is_printed_with_its_reason(features_alone):
    class Exempt(IgnoresTheClass):
        """Makes one kind of record."""

        exempt: ClassVar[dict[str, str]] = {"heeds_classes": "records of all classes are alike"}

    results = check_generator(Exempt)
    assert {result.detail for result in results if result.outcome == "exempt"} == {"records of all classes are alike"}


def test_one_that_makes_nothing_says_why():
    class Picky(Sound):
        """Makes nothing."""

        kind = "picky"

        def __init__(self, item):
            raise ConfigError("picky makes nothing")

    with pytest.raises(
        ConfigError, match="picky must make some of the made records, but refuses all: features: picky makes nothing"
    ):
        check_generator(Picky)


def test_the_command_line_checks_generators(features_alone, capsys):
    assert main(["conform", "generators.noise_copies", "spread=0.1"]) == 0
    assert "generators.noise_copies: 7 passed, 6 skipped" in capsys.readouterr().out
    assert main(["ls", "generators"]) == 0
    listed = capsys.readouterr().out
    assert all(kind in listed for kind in ("cwgan_gp", "cvae", "dcgan", "noise_copies"))
    assert main(["explain", "cwgan_gp"]) == 0
    assert "of the gradient penalty" in capsys.readouterr().out
