"""`check_objective` finds planted defects, each by the check that is named for it, and passes what is sound."""

from typing import ClassVar

import pytest
import torch
from torch import nn

from fusionkit.cli import main
from fusionkit.core.errors import ConfigError
from fusionkit.pretraining.objective import PretrainingObjective
from fusionkit.testing import ConformanceError, check_component, check_objective, objectives


class Sound(PretrainingObjective):
    """Embeddings of two looks are to agree, by a learned map."""

    def __init__(self, given, *, scale: float = 1.0):
        super().__init__(given)
        self.scale = scale
        self.maps = nn.ModuleDict({name: nn.Linear(given.dim, given.dim) for name in given.sensors})

    def forward(self, looks, generator):
        return torch.stack([self.one(looks, name) for name in self.given.sensors]).mean()

    def one(self, looks, name):
        first, second = looks.view(0).readout(name), looks.view(1).readout(name)
        apart = (self.maps[name](first) - second).square().mean(1) * self.scale
        here = looks.present(name)
        return torch.where(here, apart, torch.zeros_like(apart)).sum() / here.sum().clamp_min(1)


class CountsAbsentRecords(Sound):
    def one(self, looks, name):
        return (self.maps[name](looks.view(0).readout(name)) - 1).square().mean()


class ReadsAbsentValues(Sound):
    def one(self, looks, name):
        return super().one(looks, name) + 0.0 * looks.batch.inputs[name].values.float().mean()


class DividesByNothing(Sound):
    def one(self, looks, name):
        here = looks.present(name)
        apart = (self.maps[name](looks.view(0).readout(name)) - 1).square().mean(1)
        return torch.where(here, apart, torch.zeros_like(apart)).sum() / here.sum()


class SquareRootOfNothing(Sound):
    def one(self, looks, name):
        first = self.maps[name](looks.view(0).readout(name))
        distance = (first - first.detach()).square().sum(1).sqrt()
        here = looks.present(name)
        return super().one(looks, name) + torch.where(here, distance, torch.zeros_like(distance)).sum()


class DrawsFromNowhere(Sound):
    def one(self, looks, name):
        return super().one(looks, name) * torch.rand((), generator=self.source)

    source = torch.Generator()


class Detached(Sound):
    def one(self, looks, name):
        first = looks.view(0).readout(name).detach()
        return (self.maps[name](first) * looks.present(name)[:, None]).square().mean()


class MovesTheOthers(Sound):
    def settle(self, model):
        with torch.no_grad():
            for buffer in model.standardise.buffers():
                buffer += 1e-3


class ForgetsItsQueue(Sound):
    """What it remembers is no buffer."""

    def __init__(self, given):
        super().__init__(given)
        self.queue = torch.zeros(given.dim)

    def one(self, looks, name):
        return super().one(looks, name) * (1 + self.queue.square().sum())

    def settle(self, model):
        self.queue = self.queue + 1


class NeedsLabels(Sound):
    def one(self, looks, name):
        return super().one(looks, name) * looks.batch.targets["target"].mean()


class WritesToItsInputs(Sound):
    def one(self, looks, name):
        looks.batch.targets["target"].add_(1)
        return super().one(looks, name)


class ALossARecord(Sound):
    def forward(self, looks, generator):
        return looks.view(0).readout(self.given.sensors[0]).mean(1)


class SaysTensors(Sound):
    def close_epoch(self):
        return {"count": torch.ones(())}


@pytest.fixture
def series_alone(monkeypatch):
    """One case is enough to find what is planted."""
    monkeypatch.setattr(objectives, "CASES", {"series": ("series",)})


def failed(cls):
    with pytest.raises(ConformanceError) as caught:
        check_objective(cls)
    return {result.name for result in caught.value.results if result.outcome == "failed"}


def test_a_sound_objective_passes_over_every_case():
    results = check_component(Sound, scale=2.0)
    assert {result.outcome for result in results} == {"passed"}
    assert {result.case for result in results} == {"image", "patches", "series", "text", "words", "several"}


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (CountsAbsentRecords, "all_absent"),
        (ReadsAbsentValues, "absent_values_change_nothing"),
        (DividesByNothing, "all_absent"),
        (SquareRootOfNothing, "one_record"),
        (DrawsFromNowhere, "repeats_by_seed"),
        (Detached, "gradient_reaches_encoders"),
        (MovesTheOthers, "trains_nothing_else"),
        (ForgetsItsQueue, "state_is_whole"),
        (NeedsLabels, "no_labels"),
        (WritesToItsInputs, "leaves_inputs_untouched"),
        (ALossARecord, "gives_a_loss"),
        (SaysTensors, "closes_epochs"),
    ],
)
def test_a_planted_defect_is_found(series_alone, cls, check):
    assert check in failed(cls)


def test_an_exemption_is_printed_with_its_reason(series_alone):
    class Exempt(CountsAbsentRecords):
        """Pulls on empty records, too."""

        exempt: ClassVar[dict[str, str]] = {"all_absent": "what is absent is to be zero"}

    results = check_objective(Exempt)
    assert {result.detail for result in results if result.outcome == "exempt"} == {"what is absent is to be zero"}


def test_an_objective_that_takes_nothing_says_why():
    class Picky(Sound):
        """Takes nothing."""

        def __init__(self, given):
            raise ConfigError("picky takes nothing")

    with pytest.raises(
        ConfigError, match="must learn from some of the made sensors, but refuses all: image: picky takes nothing"
    ):
        check_objective(Picky)


def test_the_command_line_checks_objectives(series_alone, capsys):
    assert main(["conform", "objectives.nt_xent", "temperature=0.2"]) == 0
    assert "objectives.nt_xent: 13 passed" in capsys.readouterr().out
