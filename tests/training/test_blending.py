"""Gradient blending in training: whose losses count, which records are held out, when weights are set, and resuming."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from fusionkit.training import blending, fitting
from fusionkit.training import run as run_module
from fusionkit.training.blending import Blending
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.interruption import Interrupted
from fusionkit.training.listener import Listener
from fusionkit.training.records import read_records
from fusionkit.training.run import train

AT = (2, 40, 60)  # when a stop is asked for: within estimates, and between epochs
FUSION = "fusion={kind: gradient_blending, dim: 8, epochs: 2, online: %s, parts: 2}"


@pytest.fixture
def seen(monkeypatch):
    """Every estimate: the epoch, the rows and the weights; and the rows of every engine."""
    calls, rows = [], []

    class Spy(Blending):
        def __call__(self, epoch):
            was = {name: value.clone() for name, value in self.objective.state_dict().items()}
            super().__call__(epoch)
            now = self.objective.state_dict()
            assert all(torch.equal(was[name], now[name]) for name in was if not name.endswith("fused.weight"))
            calls.append((epoch, set(self.train), set(self.held_out), self.operation.weight.tolist()))

    class Engine(fitting.Engine):
        def __init__(self, objective, load, given, settings, **options):
            rows.append((options.get("folder") is not None, set(given.tolist())))
            super().__init__(objective, load, given, settings, **options)

    monkeypatch.setattr(fitting, "Blending", Spy)
    monkeypatch.setattr(fitting, "Engine", Engine)
    monkeypatch.setattr(blending, "Engine", Engine)
    return calls, rows


@pytest.mark.parametrize("online", [False, True])
def test_groups_are_held_out_and_weights_are_set_when_they_are_due(tiny, seen, online):
    calls, rows = seen
    recipe = tiny(FUSION % str(online).lower(), "train.epochs=4", "train.patience=0")
    train(recipe, fold=0)
    assert [epoch for epoch, *_ in calls] == [0, 1, 2, 3]
    weights = [weight for *_, weight in calls]
    assert weights[0] == weights[1] and weights[2] == weights[3] and (weights[1] != weights[2]) == online
    assert sum(weights[0]) == pytest.approx(1) and weights[0] != pytest.approx([1 / 3] * 3)
    _, inside, outside, _ = calls[0]
    assert inside and outside and not inside & outside
    main = [given for kept, given in rows if kept]
    copies = [given for kept, given in rows if not kept]
    assert main == [inside if online else inside | outside]
    assert len(copies) == (6 if online else 3) and all(given == inside for given in copies)
    subject = np.asarray(read_records(recipe).subject)
    assert not set(subject[list(inside)]) & set(subject[list(outside)])


def test_an_estimate_says_how_far_it_is(tiny, monkeypatch):
    monkeypatch.setattr(blending.Countdown.__init__, "__defaults__", (0.0,))

    class Heard(Listener):
        def say(self, text):
            lines.append(text)

    lines = []
    train(tiny(FUSION % "false", "train.epochs=1", "train.patience=0"), fold=0, listener=Heard())
    said = [line for line in lines if line.startswith("gradient blending")]
    assert said[0] == "gradient blending: 3 losses train alone for 2 epochs each"
    assert [line.split(", about")[0] for line in said[1:-1]] == [
        f"gradient blending, epochs of losses alone: {done} of 6" for done in range(1, 6)
    ]
    assert said[-1].startswith("gradient blending: weights ") and "all together 0." in said[-1]


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tiny, tmp_path, monkeypatch):
    options = (FUSION % "true", "train.epochs=5", "train.patience=0", "train.batch=3")
    whole = train(tiny(*options, f"run.dir={tmp_path / 'whole'}"), fold=0)

    class Stop:
        signal, asked = 2, 0

        def __bool__(self):
            self.asked += 1
            return stopped < len(AT) and self.asked >= AT[stopped]

    stop, stopped, recipe = Stop(), 0, tiny(*options, f"run.dir={tmp_path / 'part'}")
    monkeypatch.setattr(run_module, "stop_on_signals", lambda: nullcontext(stop))
    while True:
        try:
            parted = train(recipe, fold=0, resume=bool(stopped))
            break
        except Interrupted:
            stopped += 1
    assert stopped == len(AT)
    one, two = (load_tensors(next(run.folder.rglob("last.safetensors")))[0] for run in (whole, parted))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
