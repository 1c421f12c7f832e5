"""The engine: it learns, it resumes to the bit, it stops where it must."""

import csv
import math
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fusionkit.core.errors import DataError
from fusionkit.core.levels import Batch
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.engine import Engine, Settings
from fusionkit.training.interruption import Interrupted, StopRequest


class Objective(nn.Module):
    """Dropout and a random shift of the inputs, so that every random stream matters."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))

    def forward(self, batch, generator=None):
        x = batch.targets["x"]
        if generator is not None:
            x = x + 0.1 * torch.randn(x.shape, generator=generator)
        return F.cross_entropy(self.layers(x), batch.targets["y"])


def make(folder=None, seed=1, stop=None, load=None, on_epoch=None, **settings):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=g)
    y = (x[:, 0] > 0).long()
    torch.manual_seed(3)
    objective = Objective()
    engine = Engine(
        objective,
        load or (lambda rows: Batch({}, {"x": x[rows], "y": y[rows]})),
        torch.arange(50),
        Settings(**{"epochs": 4, "batch": 8, "lr": 1e-2, **settings}),
        seed=seed,
        device=torch.device("cpu"),
        folder=folder,
        validate=lambda: (float(objective(Batch({}, {"x": x[50:], "y": y[50:]}))), {"validation_loss": 0.0}),
        stop=stop,
        on_epoch=on_epoch,
    )
    return engine


def weights(engine):
    return {name: value.clone() for name, value in engine.objective.state_dict().items()}


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_training_learns_and_writes_a_history(tmp_path):
    engine = make(tmp_path, epochs=30)
    engine.run()
    with open(tmp_path / "history.csv", newline="") as file:
        history = list(csv.DictReader(file))
    assert len(history) == 30
    assert float(history[-1]["loss"]) < 0.6 * float(history[0]["loss"])


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    one, two, other = make(), make(), make(seed=2)
    for engine in (one, two, other):
        engine.run()
    assert_same(weights(one), weights(two))
    assert not torch.equal(one.objective.layers[0].weight, other.objective.layers[0].weight)


class Killed(Exception):
    """Stands for SIGKILL in one process: whatever was not written is lost."""


@pytest.mark.parametrize("step", [1, 6, 7, 8, 15, 27])
def test_a_run_that_dies_at_any_step_goes_on_to_the_same_weights(tmp_path, step):
    whole = make(tmp_path / "whole")
    whole.run()
    first = make(tmp_path / "cut", checkpoint_seconds=1e-9)
    calls, plain = 0, first.load

    def load(rows):
        nonlocal calls
        calls += 1
        if calls > step:
            raise Killed
        return plain(rows)

    first.load = load
    with pytest.raises(Killed):
        first.run()
    second = make(tmp_path / "cut", checkpoint_seconds=1e-9)
    second.run()
    assert_same(weights(whole), weights(second))
    assert second.history == whole.history
    best = [load_tensors(tmp_path / name / "best.safetensors")[0] for name in ("whole", "cut")]
    assert_same(*best)


def test_a_stop_request_saves_and_leaves_in_the_middle_of_an_epoch(tmp_path):
    stop = StopRequest()
    engine = make(tmp_path, stop=stop)
    plain, calls = engine.load, 0

    def load(rows):
        nonlocal calls
        calls += 1
        if calls == 10:
            stop.signal = 15
        return plain(rows)

    engine.load = load
    with pytest.raises(Interrupted) as raised:
        engine.run()
    assert raised.value.exit_code == 143
    _, facts = load_tensors(tmp_path / "last.safetensors")
    assert (facts["epoch"], facts["step"]) == (1, 3)
    whole, rest = make(), make(tmp_path)
    whole.run()
    rest.run()
    assert_same(weights(whole), weights(rest))


def test_a_finished_run_is_not_trained_again(tmp_path):
    make(tmp_path).run()
    seen = []
    again = make(tmp_path, on_epoch=seen.append)
    again.run()
    assert not seen


def test_a_loss_that_is_not_finite_stops_with_its_records_named(tmp_path):
    x = torch.ones(60, 5)
    x[33] = math.nan
    engine = make(tmp_path, load=lambda rows: Batch({}, {"x": x[rows], "y": torch.zeros(len(rows), dtype=torch.long)}))
    with pytest.raises(DataError, match=r"loss must be finite, but is nan in epoch 0, step \d, records .*33"):
        engine.run()
    assert not (tmp_path / "best.safetensors").exists()


def test_however_training_ends_nothing_writes_to_its_folder_afterwards(tmp_path):
    pytest.importorskip("tensorboard")
    nothing = torch.full((60, 5), math.nan)
    bad = make(tmp_path / "bad", load=lambda rows: Batch({}, {"x": nothing[rows], "y": torch.zeros(len(rows)).long()}))
    stop = StopRequest()
    stop.signal = 15
    before = set(threading.enumerate())
    for engine, error in ((bad, DataError), (make(tmp_path / "left", stop=stop), Interrupted)):
        with pytest.raises(error):
            engine.run()
    make(tmp_path / "whole").run()
    assert list((tmp_path / "bad" / "tensorboard").iterdir())
    assert not set(threading.enumerate()) - before


def test_early_stopping_keeps_the_best_epoch(tmp_path):
    values = iter([3.0, 1.0, 2.0, 2.0, 2.0, 0.0])
    engine = make(tmp_path, epochs=6, patience=2)
    engine.validate = lambda: (next(values), {})
    engine.run()
    assert engine.best_epoch == 1
    assert len(engine.history) == 4
    kept, facts = load_tensors(tmp_path / "best.safetensors")
    assert facts == {"epoch": 1}
    last = weights(engine)["layers.0.weight"]
    engine.load_best()
    assert torch.equal(engine.objective.layers[0].weight, kept["model.layers.0.weight"])
    assert not torch.equal(engine.objective.layers[0].weight, last)


def test_every_training_row_is_seen_once_an_epoch():
    seen = []
    engine = make(epochs=2)
    plain = engine.load

    def load(rows):
        seen.append(rows)
        return plain(rows)

    engine.load = load
    engine.run()
    half = len(seen) // 2
    for epoch in (seen[:half], seen[half:]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(50))
    assert torch.cat(seen[:half]).tolist() != torch.cat(seen[half:]).tolist()


def test_a_checkpoint_that_is_cut_short_is_named(tmp_path):
    make(tmp_path).run()
    path = tmp_path / "last.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"last\.safetensors: a checkpoint must be a whole safetensors file"):
        make(tmp_path).run()
