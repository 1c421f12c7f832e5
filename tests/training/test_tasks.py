"""Several tasks in one training: modes, weights and surgery in whole runs, exact when they are taken up again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import Batch, Features, Tokens
from fusionkit.core.registry import balancing, fusion
from fusionkit.encoders.encoder import Encoder
from fusionkit.fusion.graph import parse_graph
from fusionkit.fusion.model import FusionModel, Output
from fusionkit.heads.classification import Classification
from fusionkit.heads.gate import TaskHeads
from fusionkit.heads.regression import Regression
from fusionkit.losses.balancing.none import NoSurgery
from fusionkit.losses.balancing.pcgrad import PCGrad
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.engine import Engine, Settings
from fusionkit.training.interruption import Interrupted, StopRequest
from fusionkit.training.objective import TaskObjective, last_layers
from fusionkit.training.order import inner_parts
from fusionkit.training.plan import RandomTaskPlan
from fusionkit.training.run import train
from fusionkit.training.trained import load_trained
from fusionkit.training.update import JointUpdate, PerTaskUpdate, SurgeryUpdate, Terms

CPU = torch.device("cpu")
TWO = ("tasks.second.kind=classification", "tasks.second.column=target")


class Two(nn.Module):
    """A shared layer, and a head for each of two tasks that some batches have no labels of."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(4, 3)
        self.heads = nn.ModuleList(nn.Linear(3, 1) for _ in range(2))

    def terms(self, batch, generator=None):
        hidden = self.shared(batch.targets["x"]).tanh()
        found, here = [], []
        for name, head in zip(("one", "two"), self.heads, strict=True):
            known = name in batch.targets
            here.append(known)
            found.append((head(hidden)[:, 0] - batch.targets[name]).square().mean() if known else torch.zeros(()))
        return Terms(torch.stack(found), torch.tensor(here), self.shared.bias.square().sum(), found)

    def forward(self, batch, generator=None):
        terms = self.terms(batch, generator)
        return terms.tasks.sum() + terms.auxiliary


def batch_of(seed, *tasks):
    g = torch.Generator().manual_seed(seed)
    return Batch({}, {"x": torch.randn(8, 4, generator=g), **{task: torch.randn(8, generator=g) for task in tasks}})


def updated(update, batches, **options):
    torch.manual_seed(0)
    objective = Two()
    made = update(objective, objective, weight_decay=0.01, clip=1.0, precision=None, device=CPU, **options)
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        made(batch, generator, 1e-2)
    return objective


def same(one, other, tolerance=1e-6):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.allclose(mine, theirs, atol=tolerance) for mine, theirs in pairs)


def test_gradients_that_are_only_added_train_as_the_sum_of_losses_does():
    batches = [batch_of(1, "one", "two"), batch_of(2, "one"), batch_of(3), batch_of(4, "one", "two")]
    joint, apart = updated(JointUpdate, batches), updated(SurgeryUpdate, batches, surgery=NoSurgery())
    assert same(joint, apart)


def test_surgery_takes_shared_parameters_alone():
    """Heads get their own gradient, and the auxiliary loss adds its own, whatever the combination answers."""
    given = []

    def record(gradients, generator):
        given.append(gradients)
        return torch.zeros(gradients.shape[1])

    batch, objective = batch_of(1, "one", "two"), Two()
    made = SurgeryUpdate(objective, objective, weight_decay=0, clip=None, precision=None, device=CPU, surgery=record)
    made.step = lambda *_: None
    made(batch, torch.Generator(), 0.1)
    assert given[0].shape == (2, 15)
    terms = objective.terms(batch)
    for task in range(2):
        wanted = torch.autograd.grad(terms.losses[task], objective.shared.parameters(), retain_graph=True)
        torch.testing.assert_close(given[0][task], torch.cat([part.flatten() for part in wanted]))
        own = torch.autograd.grad(terms.tasks[task], objective.heads[task].weight, retain_graph=True)[0]
        torch.testing.assert_close(objective.heads[task].weight.grad, own)
    assert not objective.shared.weight.grad.any()
    torch.testing.assert_close(objective.shared.bias.grad, 2 * objective.shared.bias)


def test_method_one_takes_gradients_at_the_same_weights_then_steps_task_by_task():
    """The notebook's loop: a tape a task, then every task's own Adam."""
    batches = [batch_of(1, "one", "two"), batch_of(2, "one", "two"), batch_of(3, "two"), batch_of(4, "one", "two")]
    got = updated(PerTaskUpdate, batches, tasks=["one", "two"])
    torch.manual_seed(0)
    plain = Two()
    groups = [
        {"params": [p for p in plain.parameters() if (p.ndim > 1) == wide], "weight_decay": decay}
        for wide, decay in ((True, 0.01), (False, 0.0))
    ]
    optimisers = [torch.optim.AdamW(groups, lr=1e-2) for _ in range(2)]
    for batch in batches:
        tapes = []
        terms = plain.terms(batch)
        labelled = [task for task in range(2) if terms.labelled[task]]
        for task in labelled:
            plain.zero_grad()
            (plain.terms(batch).losses[task] + plain.terms(batch).auxiliary / len(labelled)).backward()
            tapes.append([p.grad for p in plain.parameters()])
        for task, tape in zip(labelled, tapes, strict=True):
            for parameter, gradient in zip(plain.parameters(), tape, strict=True):
                parameter.grad = gradient
            nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
            optimisers[task].step()
    assert same(got, plain)


@pytest.mark.parametrize("update", [JointUpdate, SurgeryUpdate, PerTaskUpdate])
def test_a_task_without_labels_in_a_batch_leaves_its_head_alone(update):
    options = {SurgeryUpdate: {"surgery": PCGrad()}, PerTaskUpdate: {"tasks": ["one", "two"]}}.get(update, {})
    first = [batch_of(1, "one", "two")]
    before, after = updated(update, first, **options), updated(update, [*first, batch_of(2, "one")], **options)
    assert same(before.heads[1], after.heads[1], 0) and not same(before.heads[0], after.heads[0])


def test_several_processes_are_refused_where_one_makes_the_gradients(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 0)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda module, **_: module)

    def update(*given, **options):
        return SurgeryUpdate(*given, surgery=PCGrad(), **options)

    with pytest.raises(ConfigError, match="made by one process, but 2 train"):
        Engine(Two(), lambda rows: None, torch.arange(4), Settings(), seed=0, device=CPU, update=update)


class Late(nn.Module):
    """A trunk and two heads, as `TaskObjective` wants a model."""

    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict({"eeg": nn.Linear(3, 4)})
        self.operations, self.branch_heads, self.merges = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        self.heads = nn.ModuleDict({"eeg": nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 1)])})
        self.graph = SimpleNamespace(nodes=())

    def forward(self, inputs, generator=None):
        hidden = self.encoders["eeg"](inputs["eeg"]).tanh()
        state, level = (head(hidden) for head in self.heads["eeg"])
        return Output({"state": state.log_softmax(1), "level": level}, {}, {}, torch.zeros(()))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["fixed", "uncertainty", "gradnorm", "dwa"])
def test_what_a_batch_says_of_a_task_without_labels_is_nothing(kind, precision):
    """Its decisions may be anything, its head has no gradient, its weight stays; the other task learns as if alone."""
    state, level = Classification(classes=["x", "y"]), Regression()
    state.fit(np.array([0.0, 1, 1, 0]), "state")
    level.fit(np.array([1.0, 2, 3, 5]), "level")
    tasks = {"state": state, "level": level}
    balance = balancing.build(kind, {}, [task.outcome for task in tasks.values()])
    objective = TaskObjective(Late(), tasks, {"state": 1.0, "level": 2.0}, balance=balance).train()
    inputs, generator = {"eeg": torch.randn(6, 3)}, torch.Generator()
    full = {"state": torch.tensor([0.0, 1, 1, 0, torch.nan, 0]), "level": torch.arange(6.0)}
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        objective(Batch(inputs, full), generator).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in objective.model.parameters())
    for targets in ({**full, "level": torch.full((6,), torch.nan)}, {"state": full["state"]}):
        objective.zero_grad()
        before, terms = balance.weights(), objective.terms(Batch(inputs, targets), generator)
        assert terms.labelled.tolist() == [True, False] and terms.tasks[1] == 0
        terms.tasks.sum().backward()
        objective.settle()
        head = objective.model.heads["eeg"][1]
        assert all(p.grad is None or not p.grad.any() for p in head.parameters())
        assert balance.weights()[1] == before[1]
        for parameter in balance.parameters():
            assert parameter.grad[1] == 0


def test_the_last_shared_layer_is_what_makes_the_readout():
    model = Late()
    assert last_layers(model) == [[model.encoders["eeg"].weight]]


def test_random_tasks_come_in_proportion_and_bring_every_record_of_theirs():
    rows = {"one": torch.arange(10), "two": torch.arange(10, 40), "none": torch.arange(0)}
    plan = RandomTaskPlan(rows, 5, 4000, seed=1, alpha=1.0)
    steps = plan(0)
    drawn = [step.hidden for step in steps]
    assert 0.22 < drawn.count(("two", "none")) / 4000 < 0.28
    for step in steps:
        own = rows["one" if step.hidden == ("two", "none") else "two"]
        assert len(step.rows) == 5 and torch.isin(step.rows, own).all()
    ones = torch.cat([step.rows for step in steps if step.hidden == ("two", "none")])
    assert all(sorted(part.tolist()) == list(range(10)) for part in ones[:400].split(10))
    again, other = plan(0), plan(1)
    assert all(torch.equal(a.rows, b.rows) and a.hidden == b.hidden for a, b in zip(steps, again, strict=True))
    assert [step.hidden for step in other] != drawn
    even = [step.hidden for step in RandomTaskPlan(rows, 5, 4000, seed=1, alpha=0.0)(0)]
    assert 0.47 < even.count(("two", "none")) / 4000 < 0.53


def test_a_small_task_gives_all_it_has():
    plan = RandomTaskPlan({"one": torch.arange(3)}, 8, 4, seed=0, alpha=1.0)
    assert all(sorted(step.rows.tolist()) == [0, 1, 2] for step in plan(0)[:1])


CHOICES = {
    "uncertainty": ["train.balance.kind=uncertainty"],
    "gradnorm": ["train.balance.kind=gradnorm"],
    "gradnorm of a vote": ["train.balance.kind=gradnorm", "fusion={kind: vote, dim: 8}"],
    "dwa": ["train.balance.kind=dwa", "train.epochs=4"],
    "pcgrad": ["train.surgery.kind=pcgrad", "heads.sharing=mixture_of_experts"],
    "cagrad": ["train.surgery.kind=cagrad", "train.balance.kind=uncertainty", "heads.sharing=soft"],
    "random": ["train.task_mode=random", "heads.gate=notebook"],
    "per task": ["train.task_mode=per_task_step"],
    "adversary": ["heads.adversary.weight=0.5", "train.mixup=0.4"],
    "trusted": ["fusion={kind: trusted, dim: 8}", "heads.adversary.weight=0.5"],
    "bayes": ["fusion={kind: vote, rule: bayes, dim: 8}"],
}


def same_bits(one, other):
    return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()


@pytest.mark.parametrize("choice", CHOICES)
def test_a_training_that_stops_in_an_epoch_goes_on_to_the_same_bits(tiny, choice, monkeypatch):
    from fusionkit.training import fitting

    overrides = [*TWO, "train.epochs=3", *CHOICES[choice]]
    whole = train(tiny(*overrides), fold=0)
    history = (whole.arm_folder(0, "fused") / "history.csv").read_text()
    steps = 0

    class Cut(Engine):
        def __init__(self, *given, stop, **options):
            self.request = StopRequest()
            super().__init__(*given, stop=self.request, **options)

        def _train_step(self, *given):
            nonlocal steps
            steps += 1
            if steps == 3:
                self.request.signal = 15
            return super()._train_step(*given)

    monkeypatch.setattr(fitting, "Engine", Cut)
    with pytest.raises(Interrupted):
        train(tiny(*overrides), fold=0)
    monkeypatch.undo()
    again = train(tiny(*overrides), fold=0, resume=True)
    assert again.folder != whole.folder
    for name in ("best", "last"):
        one, other = (load_tensors(run.arm_folder(0, "fused") / f"{name}.safetensors")[0] for run in (whole, again))
        assert one.keys() == other.keys()
        assert all(same_bits(one[key], other[key]) for key in one if not key.startswith("random."))
    assert (again.arm_folder(0, "fused") / "history.csv").read_text() == history
    if "balance" in str(CHOICES[choice]):
        assert "weight_second" in history
    trained = load_trained(again, 0)
    assert set(trained.tasks) == {"target", "second"}


def test_the_recipe_says_how_fast_the_adversary_learns(tiny, monkeypatch):
    from fusionkit.training import fitting

    paces = []

    class Seen(Engine):
        def __init__(self, objective, *given, **options):
            paces.append(set(objective.scales().values()))
            super().__init__(objective, *given, **options)

    monkeypatch.setattr(fitting, "Engine", Seen)
    train(tiny(*TWO, "train.epochs=1", "heads.adversary={pace: 7}"), fold=0)
    assert paces[0] == {7.0}


def test_stacking_is_fitted_on_decisions_about_unseen_groups_and_resumed(tiny, monkeypatch):
    from fusionkit.training import out_of_fold

    overrides = ["fusion={kind: stacking, dim: 8, folds: 2}"]
    whole = train(tiny(*overrides), fold=0)
    folder, weight = whole.arm_folder(0, "fused"), load_trained(whole, 0).model.merges["target"].weight
    assert not torch.equal(weight[0], torch.eye(len(weight[0])))
    parts = [load_tensors(folder / f"inner-{k}" / "held_out.safetensors")[1]["rows"] for k in range(2)]
    split = whole.folder / "split.json"
    from fusionkit.training.material import open_study

    study = open_study(whole.recipe)
    from fusionkit.data.splits import Split

    fold = Split.load(split, study.records).folds[0]
    assert sorted(parts[0] + parts[1]) == fold.train.tolist()
    subject = np.asarray(study.records.subject)
    assert not set(subject[parts[0]]) & set(subject[parts[1]])
    real, calls = out_of_fold.train_model, 0

    def die(*given, **options):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(*given, **options)

    monkeypatch.setattr(out_of_fold, "train_model", die)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(*overrides), fold=0)
    monkeypatch.undo()
    again = train(tiny(*overrides), fold=0, resume=True)
    one, other = (load_tensors(run.arm_folder(0, "fused") / "best.safetensors")[0] for run in (whole, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_inner_parts_keep_groups_whole_and_one_group_is_too_few():
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    rows = np.array([0, 1, 2, 3, 4, 5])
    parts = inner_parts(rows, groups, 5, seed=0)
    assert len(parts) == 3 and sorted(np.concatenate(parts).tolist()) == rows.tolist()
    assert all(len(set(groups[part])) == 1 for part in parts)
    with pytest.raises(DataError, match="two groups or more"):
        inner_parts(rows[:2], groups, 5, seed=0)


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["train.surgery.kind=pcgrad", "train.task_mode=random"], "surgery: surgery combines"),
        (["train.balance.kind=gradnorm", "train.task_mode=random"], "balance: gradnorm compares tasks"),
        (["train.balance.kind=dwa", "train.task_mode=per_task_step"], "balance: every task has an optimiser"),
        (["train.balance.kind=sqrt"], "no balancing component named 'sqrt'"),
        (["train.balance.kind=gradnorm", "train.balance.alfa=1"], "no such option; did you mean 'alpha'"),
        (["heads.sharing=half"], "heads.sharing"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(tiny, overrides, match):
    with pytest.raises(ConfigError, match=match):
        tiny(*overrides)


def test_evidence_is_for_classes(tiny):
    with pytest.raises(ConfigError, match="evidence is for one of several classes, but a multi_label"):
        train(tiny("fusion={kind: trusted, dim: 8}", "tasks.target.kind=multi_label"), fold=0)


class Embed(Encoder):
    """Features as tokens, through a layer."""

    def __init__(self):
        super().__init__()
        self.dim = 8
        self.layer = nn.Linear(8, 8)

    def forward(self, features):
        return Tokens(self.layer(features.values[..., 0]), features.mask, features.present, None)


def test_tasks_branch_off_at_their_depths_of_the_graph():
    """A task that reads an earlier node neither sees nor moves what comes after it; missing labels move nothing."""
    graph = parse_graph(
        {
            "dim": 8,
            "graph": {
                "physio": {"kind": "gated", "inputs": ["eeg", "ecg"]},
                "answer": {"kind": "self_attention", "inputs": ["physio", "image"]},
            },
        },
        ["eeg", "ecg", "image"],
        {"level": "physio"},
    )
    tasks = {"level": Regression(), "state": Classification(classes=["x", "y"])}
    level, state = torch.tensor([1.0, 2, 3, 5, torch.nan]), torch.tensor([0.0, torch.nan, 1, 0, 1])
    tasks["level"].fit(level.numpy(), "level")
    tasks["state"].fit(state.numpy(), "state")
    model = FusionModel(
        graph,
        front_ends={},
        encoders={name: Embed() for name in graph.modalities},
        operations={
            node.name: fusion.build(node.kind, node.options, dict.fromkeys(node.inputs, 8), 8, None)
            for node in graph.nodes
        },
        merges={},
        branch_heads={},
        heads={
            "physio": TaskHeads(8, {"level": tasks["level"]}, gate=False),
            "answer": TaskHeads(8, {"state": tasks["state"]}, gate=False),
        },
    )
    objective = TaskObjective(model, tasks, {"level": 1.0, "state": 1.0})
    here = torch.ones(5, 3, dtype=torch.bool)
    inputs = {name: Features(torch.randn(5, 3, 8, 1), here, here[:, 0]) for name in graph.modalities}

    def moved(targets):
        model.zero_grad()
        objective(Batch(inputs, targets)).backward()
        parts = {"eeg", "ecg", "image", "physio", "answer"}
        found = {name: {**model.encoders, **model.operations}[name] for name in parts}
        found |= {"head of level": model.heads["physio"], "head of state": model.heads["answer"]}
        return {
            name for name, part in found.items() if any(p.grad is not None and p.grad.any() for p in part.parameters())
        }

    nothing = torch.full((5,), torch.nan)
    early = {"eeg", "ecg", "physio", "head of level"}
    late = {"eeg", "ecg", "physio", "image", "answer", "head of state"}
    assert moved({"level": level, "state": nothing}) == early
    assert moved({"level": nothing, "state": state}) == late
    assert moved({"level": level, "state": state}) == early | late
    assert moved({"level": nothing, "state": nothing}) == set()
    before = model(inputs).decisions
    inputs["image"] = inputs["image"]._replace(values=torch.randn(5, 3, 8, 1))
    after = model(inputs).decisions
    assert torch.equal(before["level"], after["level"]) and not torch.equal(before["state"], after["state"])
