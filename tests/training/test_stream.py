"""Pretraining on a stream: each record comes once, in the order of the study, and what was drawn is repeatable."""

from typing import Any

import pytest
import torch

from fusionkit.core import registry
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.problem import RecipeError
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.engine import Engine
from fusionkit.training.interruption import Interrupted
from fusionkit.training.records import divide, read_records
from fusionkit.training.run import Run, pretrain
from fusionkit.training.stream import ReplayLoader, StreamPlan

BUFFERS = ("fifo", "min_red", "reservoir")


def stage(kind: str = "min_red", **more: Any) -> str:
    stream = {"kind": kind, "size": 9, "updates": 3, **more}
    return f"pretrain={{objectives: [{{kind: nt_xent}}], epochs: 1, batch: 4, stream: {stream}}}"


def kept(run: Run, fold: int = 0) -> dict[str, torch.Tensor]:
    folder = run.folder / f"fold-{fold}" / "pretrained"
    return load_tensors(folder / "encoders.safetensors")[0] | load_tensors(folder / "stage-0" / "last.safetensors")[0]


def test_a_plan_gives_every_record_once_in_order_and_then_draws() -> None:
    plan = StreamPlan(torch.randperm(22), 5, 3)
    steps = plan(0)
    assert plan.steps == len(steps) == 15
    assert torch.equal(torch.cat([step.rows for step in steps]), torch.arange(22))
    assert [len(step.rows) > 0 for step in steps] == [True, False, False] * 5
    assert max(len(step.rows) for step in steps) == 5


def test_all_buffers_are_known() -> None:
    assert tuple(registry.buffers.kinds()) == BUFFERS


@pytest.mark.parametrize("kind", BUFFERS)
def test_a_stream_trains_on_training_records_alone_each_new_once(tiny, monkeypatch, kind) -> None:
    new, drawn, real = [], [], ReplayLoader.__call__

    def watch(self, rows):
        batch = real(self, rows)
        new.append(rows.tolist())
        drawn.append(batch.index.tolist())
        assert set(drawn[-1]) <= {row for part in new for row in part}
        return batch

    monkeypatch.setattr(ReplayLoader, "__call__", watch)
    recipe = tiny(stage(kind))
    run = pretrain(recipe, fold=0)
    assert load_recipe(str(run.folder / "recipe.yaml")).resolved() == recipe.resolved()
    train = divide(recipe, read_records(recipe)).folds[0].train.tolist()
    assert [row for part in new for row in part] == sorted(train)
    assert all(len(part) == 4 for part in drawn) and len(drawn) == 3 * -(-len(train) // 4)
    assert (kept(run)["model.buffer.rows"] >= 0).all()


@pytest.mark.parametrize("kind", BUFFERS)
def test_a_stream_that_was_stopped_goes_on_to_the_same_bits(tiny, monkeypatch, kind) -> None:
    whole = kept(pretrain(tiny(stage(kind)), fold=0))
    real, steps = Engine._train_step, []

    def stop(self, *given):
        steps.append(real(self, *given))
        if len(steps) == 7:
            self.stop.signal = 15
        return steps[-1]

    monkeypatch.setattr(Engine, "_train_step", stop)
    with pytest.raises(Interrupted):
        pretrain(tiny(stage(kind)), fold=0)
    monkeypatch.undo()
    again = kept(pretrain(tiny(stage(kind)), resume=True, fold=0))
    assert whole.keys() == again.keys()
    different = [name for name in whole if name != "losses" and not torch.equal(whole[name], again[name])]
    assert not different


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (stage("lifo"), "'lifo'"),
        (stage().replace("epochs: 1", "epochs: 3"), "epochs must be 1, but got 3"),
        (stage(size=0), "pretrain.stream.size"),
        (stage("fifo", momentum=0.5), "no such option"),
    ],
)
def test_a_stream_that_cannot_be_is_refused_by_its_key(tiny, given, message) -> None:
    with pytest.raises(RecipeError, match=message):
        tiny(given)
