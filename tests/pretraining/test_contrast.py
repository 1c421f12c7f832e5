"""The contrastive objectives through real encoders: what they train, what missing sensors do, what they learn."""

import copy
from typing import Any

import pytest
import torch

from fusionkit.augment.augmentation import FeatureAugmentation, normal
from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.core.levels import Batch, Features, FeatureShape, Window
from fusionkit.encoders.mlp import MLPEncoder
from fusionkit.fusion.graph import parse_graph
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.identity import identity
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective

OBJECTIVES = [
    ("info_nce", {}),
    ("supcon", {}),
    ("moco", {"size": 16}),
    ("contrastive", {}),
    ("contrastive", {"task": "class", "form": "lecture"}),
    *(("triplet", {"mining": mining}) for mining in ("random", "semi_hard", "hard", "batch_hard", "online")),
    ("triplet", {"task": "class", "mining": "online", "hinge": False, "squared": False}),
    ("hierarchical_triplet", {}),
    ("hierarchical_triplet", {"neighbours": 1}),
]
SENSORS = ("eeg", "audio")


class Noise(FeatureAugmentation):
    """Adds noise."""

    def forward(self, stream: Features, generator: torch.Generator | None = None) -> Features:
        """Of a tenth."""
        return stream._replace(
            values=stream.values + 0.1 * normal(tuple(stream.values.shape), stream.values, generator)
        )


def make_model() -> FusionModel:
    shape = FeatureShape(3, 1)
    return FusionModel(
        parse_graph({"kind": "vote", "dim": 8}, SENSORS),
        front_ends={},
        encoders={name: MLPEncoder(shape, 8, dropout=0.0) for name in SENSORS},
        operations={},
        merges={},
        branch_heads={},
        heads={},
        augmentations={name: [Noise()] for name in SENSORS},
    )


def make_batch(count: int = 12, seed: int = 0) -> Batch:
    """Three classes; both sensors see the class and something of the record; some labels and sensors are missing."""
    generator = torch.Generator().manual_seed(seed)
    class_ = torch.arange(count) % 3
    own = torch.randn(3, 3, generator=torch.Generator().manual_seed(99))[class_] + torch.randn(
        count, 3, generator=generator
    )
    inputs: dict[str, Window | Features] = {}
    for place, name in enumerate(SENSORS):
        values = own.roll(place, 1)[:, None, :, None].expand(-1, 2, -1, -1).contiguous()
        present = torch.ones(count, dtype=torch.bool)
        present[place : place + 1] = count == 1  # a record alone has all
        inputs[name] = Features(values, torch.ones(count, 2, dtype=torch.bool), present)
    target = class_.float()
    target[3:4] = torch.nan
    return Batch(inputs, {"class": target}, torch.arange(count) + 100 * seed)


def make(kind: str, options: dict[str, Any]) -> tuple[FusionModel, Any]:
    torch.manual_seed(0)
    model = make_model()
    given = Given(SENSORS, 8, features={}, levels=dict.fromkeys(SENSORS, "features"), classes={"class": 3})
    objective = registry.objectives.build(kind, options, given)
    objective.bind(model)
    return model, objective


def loss_of(model: FusionModel, objective: PretrainingObjective, batch: Batch, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return objective(Looks(model, batch, generator), generator)


@pytest.mark.parametrize(("kind", "options"), OBJECTIVES)
def test_a_few_steps_bring_the_loss_down(kind, options) -> None:
    model, objective = make(kind, options)
    parameters = [p for p in [*model.parameters(), *objective.parameters()] if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=5e-3)
    losses = []
    for step in range(40):
        optimiser.zero_grad()
        loss = loss_of(model, objective, make_batch(24, seed=step % 2), seed=step)
        loss.backward()
        optimiser.step()
        objective.settle(model)
        losses.append(float(loss.detach()))
    assert all(parameter.grad is not None for parameter in parameters)
    if (
        options.get("mining") not in ("semi_hard", "hard", "online") and kind != "moco"
    ):  # these grow harder by themselves
        assert sum(losses[-10:]) < 0.95 * sum(losses[:10])
    objective.close_epoch()
    assert bool(torch.isfinite(loss_of(model, objective, make_batch(24))))


@pytest.mark.parametrize(("kind", "options"), OBJECTIVES)
def test_a_sensor_that_is_absent_changes_nothing_and_gets_no_gradient(kind, options) -> None:
    model, objective = make(kind, options)
    for seed in range(2):  # fills queues and lists
        loss_of(model, objective, make_batch(12, seed + 1))
        objective.settle(model)
    batch, other = make_batch(), make_batch()
    eeg = other.inputs["eeg"].values.clone()
    eeg[0] = torch.nan
    other.inputs["eeg"] = other.inputs["eeg"]._replace(values=eeg)
    again = copy.deepcopy(objective)
    assert float(loss_of(model, objective, batch).detach()) == float(loss_of(model, again, other).detach())
    absent = {name: level._replace(present=torch.zeros_like(level.present)) for name, level in batch.inputs.items()}
    for inputs in (absent, {**batch.inputs, "audio": absent["audio"]}):
        model.zero_grad()
        loss = loss_of(model, objective, Batch(inputs, batch.targets, batch.index))
        loss.backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        assert bool(loss.isfinite()) and all(bool(grad.isfinite().all()) for grad in grads)
        silent = SENSORS if inputs is absent else ("audio",)
        for name in silent:
            assert all(p.grad is None or not p.grad.any() for p in model.encoders[name].parameters())


@pytest.mark.parametrize(("kind", "options"), OBJECTIVES)
def test_one_record_alone_is_finite_and_the_same_seed_gives_the_same_loss(kind, options) -> None:
    model, objective = make(kind, options)
    again = copy.deepcopy(objective)
    batch = make_batch(1)
    loss = loss_of(model, objective, batch)
    loss.backward()
    assert bool(loss.isfinite())
    assert float(loss.detach()) == float(loss_of(model, again, batch).detach())


def test_keys_have_no_gradient_move_by_momentum_and_survive_a_checkpoint() -> None:
    model, objective = make("moco", {"size": 16, "momentum": 0.5})
    assert objective.kind == "moco" and objective.key_model is not None
    objective.train()
    assert not objective.key_model.training and not any(p.requires_grad for p in objective.key_model.parameters())
    before = {name: p.clone() for name, p in objective.key_model.named_parameters()}
    projected = {name: p.clone() for name, p in objective.key_projections.named_parameters()}
    optimiser = torch.optim.SGD([p for p in [*model.parameters(), *objective.parameters()] if p.requires_grad], 0.1)
    batch = make_batch()
    loss_of(model, objective, batch)
    objective.settle(model)  # the queue fills; nothing has moved, so neither does the copy
    assert all(torch.equal(before[n], p) for n, p in objective.key_model.named_parameters())
    loss_of(model, objective, batch).backward()
    assert all(p.grad is None for p in objective.key_model.parameters())
    optimiser.step()
    objective.settle(model)
    trained = dict(model.named_parameters())
    for name, parameter in objective.key_model.named_parameters():
        torch.testing.assert_close(parameter, 0.5 * before[name] + 0.5 * trained[name].detach())
    trained = dict(objective.projections.named_parameters())
    for name, parameter in objective.key_projections.named_parameters():
        torch.testing.assert_close(parameter, 0.5 * projected[name] + 0.5 * trained[name].detach())
    assert int(objective.queues["eeg"].written) == 22  # eleven of twelve records have it
    kept = objective.state_dict()
    _, other = make("moco", {"size": 16, "momentum": 0.5})
    other.load_state_dict(kept)
    assert float(loss_of(model, other, batch).detach()) == float(loss_of(model, objective, batch).detach())


def test_keys_are_made_by_the_copy() -> None:
    """Of a copy that knows nothing (all its weights 0) every key is the same; queries still differ."""
    model, objective = make("moco", {"size": 16})
    with torch.no_grad():
        for parameter in objective.key_model.parameters():
            parameter.zero_()
    loss_of(model, objective, make_batch()).backward()
    objective.settle(model)
    keys = objective.queues["audio"].keys[:11]
    assert torch.equal(keys, keys[:1].expand(11, -1)) and keys.any()
    assert model.look(make_batch().inputs).readout("audio").std(0).any()


def test_a_record_that_lacks_a_sensor_has_no_pair() -> None:
    """The loss of the pairs is that of the records which have both, whichever of the two the others lack."""
    model, objective = make("info_nce", {})
    batch = make_batch()
    for lacking, other in (SENSORS, SENSORS[::-1]):
        inputs = dict(batch.inputs)
        here = torch.arange(12) < 5
        inputs[lacking] = inputs[lacking]._replace(present=here)
        inputs[other] = inputs[other]._replace(present=torch.ones_like(here))
        few: dict[str, Window | Features] = {}
        for name, level in inputs.items():
            assert isinstance(level, Features)
            few[name] = Features(level.values[:5], level.mask[:5], level.present[:5])
        model.augmentations = torch.nn.ModuleDict()
        found, wanted = (loss_of(model, objective, Batch(some, batch.targets, batch.index)) for some in (inputs, few))
        torch.testing.assert_close(found, wanted)


def test_a_learned_scale_trains_and_stays_within_its_bound() -> None:
    model, objective = make("info_nce", {"temperature": 0.5, "max_scale": 2.5})
    loss_of(model, objective, make_batch()).backward()
    assert objective.log_scale.grad is not None and objective.log_scale.grad != 0
    with torch.no_grad():
        objective.log_scale.fill_(3)
    objective.settle(model)
    assert float(objective.log_scale.detach().exp()) == pytest.approx(2.5)
    _, fixed = make("info_nce", {"learn_scale": False})
    assert not fixed.log_scale.requires_grad


def test_hard_examples_are_met_again() -> None:
    model, objective = make("triplet", {"mining": "online", "list_size": 8, "task": "class", "margin": 1.0})
    batch = make_batch()
    loss_of(model, objective, batch)
    listed = objective.lists["eeg"]
    assert int((listed.hardness > 0).sum()) > 3 and bool((listed.hardness.diff() <= 0).all())
    objective.eval()
    before = listed.values.clone()
    loss_of(model, objective, batch)
    assert torch.equal(listed.values, before)  # only training adds to it


def test_the_tree_parts_classes_after_an_epoch() -> None:
    model, objective = make("hierarchical_triplet", {})
    loss_of(model, objective, make_batch(24))
    said = objective.close_epoch()
    assert set(said) == {"within eeg", "within audio"} and all(0 < value < 4 for value in said.values())
    margins = objective.trees["eeg"].margins
    apart = ~torch.eye(3, dtype=torch.bool)
    assert bool((margins[apart] > 0.1).all())


def test_who_is_alike() -> None:
    batch = make_batch(4)
    assert identity(batch, None).tolist() == [-1, -2, -3, -4]
    assert identity(batch, "class").tolist() == [0, 1, 2, -4]
    batch.index = torch.tensor([7, 8, 9, 10])
    batch.targets["class"] = torch.tensor([2.0, torch.nan, 2.0, 0.0])
    assert identity(batch, "class").tolist() == [2, -9, 2, 0]
    nan = torch.nan
    batch.targets["tags"] = torch.tensor([[1.0, 0, 1], [0, 1, 1], [1, 0, 1], [nan, nan, nan]])
    first, second, third, fourth = identity(batch, "tags").tolist()
    assert first == third != second and min(first, second) >= 0 and fourth == -11


def test_objectives_that_need_classes_say_so() -> None:
    given = Given(SENSORS, 8, features={}, levels={})
    for kind in ("supcon", "hierarchical_triplet"):
        with pytest.raises(ConfigError, match="a task must have some, but none has"):
            registry.objectives.build(kind, {}, given)
    some = Given(SENSORS, 8, features={}, levels={}, classes={"sleep": 5})
    for kind in ("supcon", "triplet", "contrastive", "hierarchical_triplet"):
        with pytest.raises(UnknownNameError, match="no task with classes named 'mood'; known: "):
            registry.objectives.build(kind, {"task": "mood"}, some)


def test_a_tree_of_classes_refuses_several_labels_a_record() -> None:
    model, objective = make("hierarchical_triplet", {})
    batch = make_batch()
    batch.targets["class"] = torch.zeros(12, 3)
    with pytest.raises(ConfigError, match="a record must have one class, but class has several labels"):
        loss_of(model, objective, batch)
