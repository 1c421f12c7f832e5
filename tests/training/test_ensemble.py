"""Models trained together: what each would have become alone, or a reason why not."""

import statistics
import time
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fusionkit.recipe.load import load_recipe
from fusionkit.training import ensemble
from fusionkit.training.arm import FUSED, arms
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.engine import Engine
from fusionkit.training.ensemble import Misfit, clip_each, draw_noise, misfit, train_together
from fusionkit.training.fold import train_fold
from fusionkit.training.interruption import Interrupted, StopRequest
from fusionkit.training.material import Material, open_study
from fusionkit.training.records import divide, read_records

SMALL = ["data.subjects=8", "data.records=12", "data.seconds=1.0", "modalities=eeg", "train.device=cpu"]
SMALL += ["modalities.eeg.encoder={kind: mlp, hidden: 16, dropout: 0.5}", "heads.dropout=0.3"]
SMALL += ["data.split={kind: k_fold, by: subject, folds: 2, validation: 0.25}", "fusion={kind: vote, dim: 16}"]
SMALL += ["train.epochs=3", "train.batch=8", "train.clip=0.5"]


class Caught(Exception):
    pass


@pytest.fixture(autouse=True)
def any_gain(monkeypatch):
    monkeypatch.setattr(ensemble, "LEAST_GAIN", 0.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def engines(cache, tmp_path):
    """Makes engines of folds and seeds that are ready to run, each with a folder of its own below a name."""

    def make(name, *changes, count=4, stop=None):
        recipe = load_recipe("quickstart", [*SMALL, f"data.cache={cache}", *changes])
        study = open_study(recipe)
        split = divide(recipe, read_records(recipe))
        material = Material(recipe, study, torch.device("cpu"))
        found = []

        def catch(engine):
            found.append(engine)
            raise Caught

        for number in range(count):
            (arm,) = (one for one in arms(replace(recipe, seed=number // 2)) if one.name == FUSED)
            with pytest.raises(Caught):
                folder = tmp_path / name / str(number)
                train_fold(arm, material, split.folds[number % 2], number % 2, folder, stop=stop, drive=catch)
        return found

    return make


def assert_near(one: Engine, two: Engine):
    assert one.best_epoch == two.best_epoch and len(one.history) == len(two.history)
    for entry, other in zip(one.history, two.history, strict=True):
        assert entry == pytest.approx(other, abs=1e-5)
    assert one.folder is not None and two.folder is not None
    for file in ("best.safetensors", "last.safetensors"):
        (tensors, facts), (others, other_facts) = load_tensors(one.folder / file), load_tensors(two.folder / file)
        assert tensors.keys() == others.keys() and facts.get("finished") == other_facts.get("finished")
        assert facts["epoch"] == other_facts["epoch"]
        for name, tensor in tensors.items():
            if not name.startswith("random"):
                torch.testing.assert_close(tensor, others[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_folds_and_seeds_together_become_what_each_becomes_alone(engines, weights):
    task = f"tasks.target.class_weights={weights}"
    alone, together = engines("alone", task), engines("together", task)
    assert alone[0].steps * alone[0].settings.epochs >= 10
    for engine in alone:
        engine.run()
    assert train_together(together) > 0
    for one, two in zip(alone, together, strict=True):
        assert_near(one, two)
    first, second = (torch.cat([p.flatten() for p in e.objective.parameters()]) for e in together[:2])
    assert (first - second).abs().max() > 1e-3


class Centre(nn.Module):
    """Subtracts a running mean, which evaluation leaves as it is."""

    level: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("level", torch.zeros(()))

    def forward(self, values):
        if self.training:
            self.level.mul_(0.5).add_(0.5 * values.detach().mean())
        return values - self.level


def centred(engines):
    for engine in engines:
        encoder = engine.objective.model.encoders["eeg"]
        encoder.dropout = nn.Sequential(encoder.dropout, Centre())
    return engines


def test_running_statistics_go_along(engines):
    alone, together = centred(engines("alone", count=2)), centred(engines("together", count=2))
    for engine in alone:
        engine.run()
    train_together(together)
    for one, two in zip(alone, together, strict=True):
        assert_near(one, two)


def test_one_that_stops_early_leaves_the_others(engines):
    change = ["train.epochs=8", "train.patience=1", "train.lr=0.03", "train.monitor=loss"]
    alone, together = engines("alone", *change), engines("together", *change)
    for engine in alone:
        engine.run()
    assert len({len(engine.history) for engine in alone}) > 1
    train_together(together)
    for one, two in zip(alone, together, strict=True):
        assert len(one.history) == len(two.history) and one.best_epoch == two.best_epoch


def test_what_was_stopped_goes_on_alone_or_together(engines):
    whole = engines("whole")
    for engine in whole:
        engine.run()
    stop = StopRequest()
    begun = engines("left")
    begun[-1].on_epoch = lambda entry: setattr(stop, "signal", 15)
    with pytest.raises(Interrupted):
        train_together(begun, stop=stop)
    again = engines("left")
    again[0].run()
    train_together(again[1:])
    for one, two in zip(whole, again, strict=True):
        assert_near(one, two)


def test_a_checkpoint_within_an_epoch_is_refused(engines):
    stop = StopRequest()
    stop.signal = 15
    (begun,) = engines("left", count=1, stop=stop)
    with pytest.raises(Interrupted):
        begun.run()
    with pytest.raises(Misfit, match="different steps"):
        train_together(engines("left"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("train.mixup=0.2", "random numbers"),
        ("train.balance={kind: uncertainty}", "fixed"),
        ("augment.eeg=[{kind: channel_noise}]", "random numbers"),
        ("train.task_mode=per_task_step", "one loss"),
    ],
)
def test_what_is_not_trained_together_says_why(engines, change, reason):
    assert reason in misfit(engines("one", change, count=1))
    assert misfit(engines("two", count=2)) is None


def test_different_settings_or_shapes_are_refused(engines):
    assert "settings" in misfit([*engines("a", count=1), *engines("b", "train.lr=0.5", count=1)])
    assert "shape" in misfit([*engines("a", count=1), *engines("b", "fusion.dim=8", count=1)])


def test_what_torch_cannot_batch_is_refused_and_left_as_it_was(engines):
    made = engines("gru", "modalities.eeg.encoder={kind: gru}", count=2)
    before = [value.clone() for value in made[0].objective.state_dict().values()]
    with pytest.raises(Misfit, match=r"torch\.func"):
        train_together(made)
    for value, old in zip(made[0].objective.state_dict().values(), before, strict=True):
        assert torch.equal(value, old)
    made[0].run()


def test_gradients_that_come_out_otherwise_are_refused(engines, monkeypatch):
    monkeypatch.setattr(ensemble, "_learned", lambda tasks: {})
    with pytest.raises(Misfit, match="otherwise"):
        train_together(engines("one", "tasks.target.class_weights=balanced", "data.records=11"))


def test_no_gain_is_a_reason(engines, monkeypatch):
    monkeypatch.setattr(ensemble, "LEAST_GAIN", 1e9)
    with pytest.raises(Misfit, match="times as fast"):
        train_together(engines("one", count=2))


def test_noise_is_that_of_dropout():
    values, shapes = torch.ones(7, 33), [(torch.Size([7, 33]), 0.3), (torch.Size([2, 5]), 0.5)]
    generators = [torch.Generator().manual_seed(seed) for seed in (4, 9)]
    first, second = draw_noise(shapes, generators)
    for number, seed in enumerate((4, 9)):
        torch.manual_seed(seed)
        assert torch.equal(first[number], F.dropout(values, 0.3))
        assert torch.equal(second[number], F.dropout(torch.ones(2, 5), 0.5))


def test_every_model_is_clipped_by_its_own_norm():
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(3, 4, 5, generator=generator), torch.randn(3, 2, generator=generator)]
    gradients = [g * torch.tensor([0.01, 1.0, 100.0]).view(-1, *(1,) * (g.ndim - 1)) for g in gradients]
    expected = []
    for number in range(3):
        parameters = [nn.Parameter(torch.zeros_like(g[number])) for g in gradients]
        for parameter, g in zip(parameters, gradients, strict=True):
            parameter.grad = g[number].clone()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        expected.append([parameter.grad for parameter in parameters])
    clip_each(gradients, 1.0)
    for number, own in enumerate(expected):
        for g, want in zip(gradients, own, strict=True):
            torch.testing.assert_close(g[number], want)


@pytest.mark.study
def test_twenty_models_train_twice_as_fast_together(engines):
    change = ["train.epochs=3", "train.batch=4", "modalities.eeg.encoder.hidden=128", "fusion.dim=64"]
    gains = []
    for turn in range(3):
        alone, together = engines(f"alone{turn}", *change, count=20), engines(f"both{turn}", *change, count=20)
        began = time.perf_counter()
        for engine in alone:
            engine.run()
        middle = time.perf_counter()
        train_together(together)
        gains.append((middle - began) / (time.perf_counter() - middle))
    assert statistics.median(gains) >= 2
