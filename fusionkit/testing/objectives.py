"""The cases of a pretraining objective, made sensors with small encoders, and the checks that only objectives have."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.augment.augmentation import WindowAugmentation, normal
from fusionkit.core.levels import Batch, Features, FeatureShape, Window, WindowShape
from fusionkit.core.modality import FrontEnd
from fusionkit.core.registry import check_options, encoders
from fusionkit.encoders.encoder import Encoder
from fusionkit.fusion.graph import parse_graph
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.objective import Given, PretrainingObjective
from fusionkit.testing.result import require
from fusionkit.testing.sorting import sort_cases
from fusionkit.training.stage import StageObjective
from fusionkit.training.update import JointUpdate

DIM, ROWS, STEPS, CLASSES, WORDS, SIDE = 8, 6, 3, 3, 30, 12
CASES = {
    "image": ("image",),
    "patches": ("patches",),
    "series": ("series",),
    "text": ("text",),
    "words": ("words",),
    "several": ("series", "image", "text"),
}
"""Sensors of each made model; the encoder of words is causal, and of several sensors the last one's is not trained."""
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "image": ("image_cnn", {"width": 8}),
    "patches": ("transformer", {"heads": 2}),
    "series": ("transformer", {"heads": 2}),
    "text": ("transformer", {"heads": 2}),
    "words": ("gru", {}),
}
SHAPES = {"image": (3, SIDE, SIDE), "patches": (3, SIDE, SIDE), "series": (4, 24), "text": (9,), "words": (9,)}


class _Samples(FrontEnd):
    """Every sample of a series as a step."""

    def __init__(self) -> None:
        super().__init__()
        self.shape = FeatureShape(4, 1)

    def forward(self, values: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        return values.transpose(1, 2)[..., None], torch.arange(values.shape[2]) < length[:, None]

    def times(self, steps: int) -> Tensor:
        return torch.arange(steps, dtype=torch.float32)


class _Patches(FrontEnd):
    """Squares of 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.shape = FeatureShape(3, 16, steps=(SIDE // 4) ** 2, timed=False)

    def forward(self, values: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        del length
        patches = F.unfold(values, 4, stride=4).transpose(1, 2).reshape(len(values), -1, 3, 16)
        return patches, torch.ones(patches.shape[:2], dtype=torch.bool)

    def times(self, steps: int) -> None:
        return None


class _Words(FrontEnd):
    """Embeddings that train."""

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary = WORDS
        self.embedding = nn.Embedding(WORDS, 6, padding_idx=0)
        self.shape = FeatureShape(6, 1, timed=False, trains=True)

    def forward(self, values: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        return self.embedding(values)[..., None], torch.arange(values.shape[1]) < length[:, None]

    def times(self, steps: int) -> None:
        return None


FRONT_ENDS: dict[str, Callable[[], FrontEnd]] = {
    "series": _Samples,
    "patches": _Patches,
    "text": _Words,
    "words": _Words,
}


class _Noise(WindowAugmentation):
    """What makes two looks differ."""

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        return stream._replace(
            values=stream.values + 0.1 * normal(tuple(stream.values.shape), stream.values, generator)
        )


class ObjectiveCase:
    """An objective over some made sensors.

    Args:
        cls: the objective.
        options: its keyword-only options.
        label: which of `CASES`.

    Attributes:
        trained: sensors whose encoders train.
    """

    def __init__(self, cls: type[PretrainingObjective], options: Mapping[str, Any], label: str) -> None:
        self.cls, self.options = cls, check_options(cls, options, getattr(cls, "kind", cls.__name__))
        self.label, self.sensors = label, CASES[label]
        self.trained = self.sensors if len(self.sensors) == 1 else self.sensors[:-1]
        self.exempt: Mapping[str, str] = getattr(cls, "exempt", {})

    def build(self, seed: int = 0) -> StageObjective:
        """Model and objective with weights of their own, in training mode.

        Raises:
            ConfigError: the objective learns nothing from these sensors.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, given = self._model()
            objective = self.cls(given, **self.options)
            made = StageObjective(model, {"objective": objective}, [1.0], self.trained)
        made.bind()
        return made.train()

    def _model(self) -> tuple[FusionModel, Given]:
        front_ends = {name: FRONT_ENDS[name]() for name in self.sensors if name in FRONT_ENDS}
        shapes = {name: front_end.shape for name, front_end in front_ends.items()}
        windows = {name: WindowShape(SHAPES[name], 8.0 if name == "series" else None) for name in SHAPES}
        windows = {name: shape for name, shape in windows.items() if len(shape) > 1}
        made = {}
        for name in self.sensors:
            kind, options = ENCODERS[name]
            made[name] = cast(Encoder, encoders.build(kind, options, shapes.get(name, windows.get(name)), DIM))
        model = FusionModel(
            parse_graph({"kind": "vote", "dim": DIM}, list(self.sensors)),
            front_ends=front_ends,
            encoders=made,
            operations={},
            merges={},
            branch_heads={},
            heads={},
            augmentations={name: [_Noise()] for name in self.sensors if len(SHAPES[name]) > 1},
            standardise=list(self.sensors),
        )
        given = Given(
            sensors=tuple(self.trained),
            dim=DIM,
            features=shapes,
            levels={name: encoder.level for name, encoder in made.items()},
            windows={name: windows.get(name) for name in self.sensors},
            vocabularies={name: part.vocabulary for name, part in front_ends.items() if part.vocabulary},
            classes={"target": CLASSES},
            steps=STEPS,
        )
        return model, given

    def batch(self, rows: int = ROWS, seed: int = 0, absent: Collection[tuple[str, int]] = ()) -> Batch:
        """Records with labels, of which some lack a sensor: (sensor, record); every third one is short."""
        generator = torch.Generator().manual_seed(seed)
        inputs: dict[str, Window | Features] = {}
        for name in self.sensors:
            shape = SHAPES[name]
            values = torch.rand(rows, *shape, generator=generator)
            if len(shape) == 1:
                values = (2 + values * (WORDS - 2)).long()
            length = torch.full((rows,), shape[-1])
            if len(shape) < 3:
                length[::3] -= 3
            here = torch.tensor([(name, row) not in absent for row in range(rows)])
            inputs[name] = Window(values, length, here)
        return Batch(inputs, {"target": (torch.arange(rows) % CLASSES).float()}, torch.arange(rows))

    def loss(self, made: StageObjective, batch: Batch, seed: int = 0) -> Tensor:
        """The loss of one batch; every draw follows from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found: Tensor = made(batch, torch.Generator().manual_seed(seed))
        return found

    def train(self, made: StageObjective, steps: int = STEPS) -> None:
        """Some steps, as the engine makes them."""
        update = JointUpdate(made, made, weight_decay=0.05, clip=1.0, precision=None, device=torch.device("cpu"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            generator = torch.Generator().manual_seed(0)
            for step in range(steps):
                update(self.batch(seed=step), generator, 1e-2)
                made.settle()


def objective_cases(
    cls: type[PretrainingObjective], options: Mapping[str, Any]
) -> tuple[list[ObjectiveCase], dict[str, str]]:
    """The cases that an objective takes, and why it refuses the others.

    Raises:
        ConfigError: it takes none.
    """
    made = [ObjectiveCase(cls, options, label) for label in CASES]
    return sort_cases(made, getattr(cls, "kind", cls.__name__), "learn from some of the made sensors")


def gives_a_loss(case: ObjectiveCase, made: StageObjective) -> None:
    """One finite number, which a gradient flows from."""
    loss = case.loss(made, case.batch())
    require(loss.shape == (), f"a loss must be one number, but has the shape {tuple(loss.shape)}")
    require(bool(loss.isfinite()), f"a loss must be finite, but is {float(loss.detach())}")
    require(loss.requires_grad, "a gradient must flow from the loss, but it depends on no weight")


def leaves_inputs_untouched(case: ObjectiveCase, made: StageObjective) -> None:
    """Windows, lengths and labels are as they were."""
    batch, again = case.batch(), case.batch()
    case.loss(made, batch).backward()  # type: ignore[no-untyped-call]
    for name, level in batch.inputs.items():
        for part, before in zip(level[:3], again.inputs[name][:3], strict=True):
            require(
                torch.equal(part, before),
                f"an objective must not write to its inputs, but {name} is changed",
            )
    require(torch.equal(batch.targets["target"], again.targets["target"]), "an objective must not write to labels")


def repeats_by_seed(case: ObjectiveCase, made: StageObjective) -> None:
    """Built and trained twice from one seed, losses and state are the same to the bit."""
    del made
    pair = [case.build(), case.build()]
    for one in pair:
        case.train(one)
    first, second = (case.loss(one, case.batch(seed=9)) for one in pair)
    require(
        torch.equal(first, second),
        f"the same seed must give the same loss, but {float(first.detach())} is not {float(second.detach())}",
    )
    _same(pair[0].state_dict(), pair[1].state_dict(), "two trainings from one seed must agree")


def absent_values_change_nothing(case: ObjectiveCase, made: StageObjective) -> None:
    """What an absent sensor holds reaches neither loss nor gradient."""
    absent = [(name, row) for place, name in enumerate(case.sensors) for row in (place, place + 2)]
    found = []
    for filling in (0.0, torch.nan, 1e6):
        batch = case.batch(absent=absent)
        for name, level in batch.inputs.items():
            values = level.values.clone()
            values[~level.present] = filling if values.is_floating_point() else WORDS - 1
            batch.inputs[name] = level._replace(values=values)
        case.train(one := case.build(), 1)
        loss = case.loss(one, batch)
        found.append((loss.detach(), _gradients(one, loss)))
    for loss, gradients in found:
        require(bool(loss.isfinite()), f"a loss must be finite where sensors are absent, but is {float(loss.detach())}")
        require(
            torch.equal(loss, found[0][0]),
            f"absent values must change no loss, but {float(loss.detach())} is not {float(found[0][0])}",
        )
        _same(gradients, found[0][1], "absent values must change no gradient")
    del made


def all_absent(case: ObjectiveCase, made: StageObjective) -> None:
    """A batch without any sensor has loss 0, and moves nothing to NaN."""
    absent = [(name, row) for name in case.sensors for row in range(ROWS)]
    loss = case.loss(made, case.batch(absent=absent))
    require(
        float(loss.detach()) == 0, f"a batch in which nothing counts must have loss 0, but has {float(loss.detach())}"
    )
    _gradients(made, loss)


def one_record(case: ObjectiveCase, made: StageObjective) -> None:
    """A batch of one is finite, and so are its gradients."""
    loss = case.loss(made, case.batch(rows=1))
    require(bool(loss.isfinite()), f"the loss of one record must be finite, but is {float(loss.detach())}")
    _gradients(made, loss)


def one_record_with_a_sensor(case: ObjectiveCase, made: StageObjective) -> None:
    """A batch in which one record alone has sensors is finite, and so are its gradients."""
    absent = [(name, row) for name in case.sensors for row in range(1, ROWS)]
    loss = case.loss(made, case.batch(absent=absent))
    require(bool(loss.isfinite()), f"the loss of one record must be finite, but is {float(loss.detach())}")
    _gradients(made, loss)


def no_labels(case: ObjectiveCase, made: StageObjective) -> None:
    """Records without labels have a finite loss with finite gradients."""
    batch = case.batch()
    batch.targets["target"] = torch.full((ROWS,), torch.nan)
    loss = case.loss(made, batch)
    require(bool(loss.isfinite()), f"a loss must be finite without labels, but is {float(loss.detach())}")
    _gradients(made, loss)


def half_precision(case: ObjectiveCase, made: StageObjective) -> None:
    """Under bfloat16 the loss and its gradients are finite."""
    with torch.autocast("cpu", torch.bfloat16):
        loss = case.loss(made, case.batch())
    require(bool(loss.isfinite()), f"a loss must be finite in bfloat16, but is {float(loss.detach())}")
    _gradients(made, loss)


def gradient_reaches_encoders(case: ObjectiveCase, made: StageObjective) -> None:
    """Some chosen encoder gets a gradient after a first step; nothing else of the model does."""
    case.train(made, 1)
    made.zero_grad()
    case.loss(made, case.batch()).backward()  # type: ignore[no-untyped-call]
    inside = {id(p) for part in made.parts for p in part.parameters()}
    outside = [n for n, p in made.model.named_parameters() if id(p) not in inside and p.grad is not None]
    require(not outside, f"no gradient may reach what does not train, but one reaches {outside}")
    got = any(p.grad is not None and bool(p.grad.any()) for part in made.parts for p in part.parameters())
    require(got, "a gradient must reach an encoder that trains, but none does")


def trains_nothing_else(case: ObjectiveCase, made: StageObjective) -> None:
    """After some steps the chosen encoders have moved, and the rest of the model is the same to the bit."""
    prefixes = tuple(f"{group}.{name}." for group in ("encoders", "front_ends") for name in case.trained)
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    case.train(made)
    after = made.model.state_dict()
    moved = [name for name, value in after.items() if not torch.equal(value, before[name])]
    strange = [name for name in moved if not name.startswith(prefixes)]
    require(not strange, f"only chosen encoders may move, but so do {strange}")
    require(bool(moved), "an encoder must move in training, but none does")


def state_is_whole(case: ObjectiveCase, made: StageObjective) -> None:
    """What has trained is restored from its state to the bit: queues, teachers and counts are in it."""
    case.train(made)
    other = case.build(seed=1)
    other.load_state_dict(made.state_dict())
    for seed in (3, 4):
        first, second = (case.loss(one, case.batch(seed=seed), seed) for one in (made, other))
        require(
            torch.equal(first, second),
            f"a restored objective must go on alike, but {float(second.detach())} is not {float(first.detach())}",
        )
        for one in (made, other):
            case.train(one, 1)


def closes_epochs(case: ObjectiveCase, made: StageObjective) -> None:
    """What an epoch's end says are numbers by name."""
    case.train(made, 1)
    said = made.close_epoch()
    wrong = {name: value for name, value in said.items() if not isinstance(value, float)}
    require(not wrong, f"an epoch's end must say numbers, but says {wrong}")


CHECKS = {
    gives_a_loss: (),
    leaves_inputs_untouched: ("gives_a_loss",),
    repeats_by_seed: ("gives_a_loss",),
    absent_values_change_nothing: ("repeats_by_seed",),
    all_absent: ("gives_a_loss",),
    one_record: ("gives_a_loss",),
    one_record_with_a_sensor: ("gives_a_loss",),
    no_labels: ("gives_a_loss",),
    half_precision: ("gives_a_loss",),
    gradient_reaches_encoders: ("gives_a_loss",),
    trains_nothing_else: ("gives_a_loss",),
    state_is_whole: ("repeats_by_seed",),
    closes_epochs: ("gives_a_loss",),
}


def _gradients(made: StageObjective, loss: Tensor) -> dict[str, Tensor]:
    """Of everything that trains; they must be finite."""
    made.zero_grad()
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    wrong = [name for name, gradient in found.items() if not bool(gradient.isfinite().all())]
    require(not wrong, f"gradients must be finite, but those of {wrong} are not")
    made.zero_grad()
    return found


def _same(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], rule: str) -> None:
    differ: Iterable[str] = [
        n for n in wanted if n not in found or not torch.equal(found[n].nan_to_num(), wanted[n].nan_to_num())
    ]
    require(
        not differ and set(found) == set(wanted),
        f"{rule}, but {sorted({*differ, *(set(found) ^ set(wanted))})} differs",
    )
