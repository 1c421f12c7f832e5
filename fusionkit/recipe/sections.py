"""The sections of a recipe. Component options come from the registry; what stands here belongs to the place."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import options_model
from fusionkit.data.alignment import AlignOptions
from fusionkit.data.normalisation import NormaliseOptions
from fusionkit.data.smoothing import NoSmoothing, SmoothOptions
from fusionkit.data.splits import SplitOptions
from fusionkit.fusion.graph import Graph

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""What a sensor, a task or a node may be called: it names files, modules and inputs of an exported graph."""
RESERVED = {"kind", "options", "option_names"}
"""What every choice of a component is asked for: no option of a component may be called so."""


class Section(BaseModel):
    """A mapping with fixed keys; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Choice(Section):
    """One component: its ``kind``, and the options of that kind.

    `choice_model` derives the subclass that knows a kind's options; ``options`` gives them with every default.
    """

    kind: str = Field(description="which component; `fusionkit ls` lists them")
    option_names: ClassVar[tuple[str, ...]] = ()

    @property
    def options(self) -> dict[str, Any]:
        """What the component takes as keyword-only arguments."""
        return {name: getattr(self, name) for name in self.option_names}


ChoiceType = TypeVar("ChoiceType", bound=Choice)


def choice_model(base: type[ChoiceType], cls: type, where: str) -> type[ChoiceType]:
    """The keys of ``base`` and the options of the component ``cls`` in one model.

    Raises:
        ConfigError: the component has an option that the place needs for itself.
    """
    options = options_model(cls).model_fields
    taken = sorted(set(options) & ({field.alias or name for name, field in base.model_fields.items()} | RESERVED))
    if taken:
        raise ConfigError(f"{where}: a component may not have the options {taken}, which belong to every {where}")
    model = create_model(
        cls.__name__,
        __base__=base,
        **{name: (field.annotation, field) for name, field in options.items()},  # type: ignore[call-overload]
    )
    model.option_names = tuple(options)
    return model  # type: ignore[no-any-return]


class LabelSection(Section):
    """How few labels are pretended: the training records of every fold but some lose theirs."""

    keep: int = Field(ge=1, description="how many training records, or groups of them, keep their labels")
    by: Literal["record", "recording", "trial", "session", "subject"] = Field(
        "record", description="what keeps or loses its labels as a whole; records are drawn by their classes' shares"
    )
    seed: int | None = Field(None, ge=0, description="of the draw (default: the recipe's seed)")


class UnlabelledSection(Choice):
    """Where records without labels come from: any source, with its options."""

    transductive: str | None = Field(
        None, min_length=1, description="the reason why records of validation and test groups may be seen"
    )

    def told(self) -> str:
        """What it is, in a line."""
        path = self.options.get("path")
        who = "" if self.transductive is None else f", those of validation and test groups, too: {self.transductive}"
        return f"{self.kind}{'' if path is None else f' {path}'}, records without labels{who}"


class DataSection(Choice):
    """Where the records come from, and how they are divided."""

    split: SplitOptions = Field(
        default_factory=lambda: SplitOptions(kind="holdout"), description="how records are divided"
    )
    labels: LabelSection | None = Field(
        None, description="hide the labels of all but a few training records (default: none is hidden)"
    )
    unlabelled: UnlabelledSection | None = Field(
        None, description="a second source, of records without labels for pretrain and train.consistency"
    )
    allow_leakage: str | None = Field(
        None, min_length=1, description="the reason why signal or a trial may be on both sides of the split"
    )
    cache: str | None = Field(None, description="folder of studies and features (default: .cache beside the runs)")
    workers: int = Field(0, ge=0, description="processes that read files into the study; 0 reads them in this one")
    resident: Literal["auto"] | bool = Field("auto", description="hold all data in device memory, or stream it")


class ModalityEntry(Choice):
    """One sensor."""

    column: str = Field("", description="column of the table or array (default: the sensor's name)")
    start: str | None = Field(None, description="column with the start in seconds (default: <column>_start)")
    stop: str | None = Field(None, description="column with the end in seconds (default: <column>_stop)")
    align: AlignOptions = Field(
        default_factory=AlignOptions, description="what windows are multiplied by before features are made"
    )
    smooth: SmoothOptions = Field(
        default_factory=NoSmoothing, description="how features are smoothed in time, before they are normalised"
    )
    normalise: NormaliseOptions = Field(
        default_factory=NormaliseOptions, description="how the features of a record are centred and scaled"
    )
    encoder: Choice | None = Field(None, description="what makes tokens of it (default: the sensor's own)")


class TaskEntry(Choice):
    """One question the model answers."""

    column: str = Field("", description="column with the labels (default: the task's name)")
    from_: str | None = Field(None, alias="from", description="node of the graph that answers (default: the last)")
    weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="share of its loss in the sum")


class KeepSection(Section):
    """Which candidates of a generator are appended: those of whose class a classifier is sure."""

    by: Literal["classifier"] = Field(
        "classifier", description="what judges: a classifier that is trained on the fold's real training records"
    )
    model: Literal["network", "svm"] = Field("network", description="that classifier")
    min_confidence: float = Field(
        0.9, ge=0, le=1, description="least probability of the wanted class, which must be the most probable one, too"
    )
    candidates: int = Field(10, ge=1, description="candidates at most, as a multiple of the records wanted of a class")


MOST_ADDED = 1000.0


class GeneratorEntry(Choice):
    """A generative augmenter: it learns the training records of every fold, and new ones are appended to them."""

    add: float = Field(
        1.0,
        ge=0,
        le=MOST_ADDED,
        allow_inf_nan=False,
        description="generated records for a labelled training record; 0 makes none",
    )
    use: Literal["full", "selective"] = Field(
        "full", description="append all that is made, or only what a classifier is sure of"
    )
    keep: KeepSection | None = Field(None, description="how selective use chooses")
    task: str | None = Field(None, description="whose classes are wanted (default: the only task that has classes)")
    epochs: int = Field(200, ge=1, description="passes of every player over the training records")
    batch: int = Field(128, ge=1, description="records in a step")


class AdversarySection(Section):
    """A head that the trunk learns to deceive about the subject."""

    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="of its loss beside the tasks'")
    pace: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="factor on its learning rate, lest the trunk run ahead of it"
    )


class HeadsSection(Section):
    """What stands between the trunk and the tasks."""

    sharing: Literal["hard", "soft", "mixture_of_experts"] = Field(
        "hard", description="what several tasks share of the readout: all, layers that are alike, or experts"
    )
    penalty: float = Field(
        0.01, ge=0, allow_inf_nan=False, description="of differences between the tasks' layers in soft sharing"
    )
    experts: int = Field(4, ge=1, description="how many experts a mixture has")
    gate: bool | Literal["sigmoid", "notebook", "none"] = Field(
        True, description="a learned gate per task on the shared readout; true means sigmoid"
    )
    adversary: AdversarySection | None = Field(
        None, description="a head that guesses the training subject through a reversed gradient; {} gives its defaults"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of the readout that is dropped in training")


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ValueError("a device must be auto, cpu, mps, cuda or cuda:N")
    return name


class TrainSection(Section):
    """How weights are learned."""

    epochs: int = Field(40, ge=1, description="passes over the training records, at most")
    batch: int = Field(64, ge=1, description="records in a step")
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False, description="largest learning rate, after warm-up")
    weight_decay: float = Field(0.05, ge=0, allow_inf_nan=False, description="decoupled decay of the weights")
    warmup: float = Field(0.1, ge=0, le=1, description="share of the steps in which the rate rises")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 means no clipping")
    patience: int = Field(10, ge=0, description="epochs without gain on validation before it stops; 0 means never")
    monitor: Literal["loss", "score", "last"] = Field(
        "loss", description="what validation chooses the epoch by; last takes the last one, for few validation groups"
    )
    checkpoint_seconds: float = Field(30.0, gt=0, description="seconds between checkpoints within an epoch")
    threads: int = Field(0, ge=0, description="threads of torch on the CPU; 0 leaves torch's choice")
    modality_dropout: float = Field(
        0.2, ge=0, lt=1, description="chance that a sensor vanishes from a training sample (never the last one)"
    )
    sensor_corruption: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of training samples in which one sensor, of two or more, is covered with noise",
    )
    corruption_strength: float = Field(
        3.0,
        gt=0,
        allow_inf_nan=False,
        description="strongest such noise, in standard deviations of the sensor; each sample draws its own",
    )
    mixup: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="alpha of mixup, which trains on mixtures of two records and their labels; 0 means none",
    )
    consistency: tuple[Choice, ...] = Field(
        (), description="what is learned from records without labels beside the tasks; several are added up"
    )
    balance: Choice | None = Field(None, description="how the tasks' losses are weighed (default: fixed)")
    surgery: Choice | None = Field(None, description="how the tasks' gradients are combined (default: none)")
    task_mode: Literal["joint", "random", "per_task_step"] = Field(
        "joint", description="all tasks in a step; one random task a step; or all, with an optimiser and a step each"
    )
    task_power: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="random tasks come as often as their labels to this power"
    )
    device: Annotated[str, AfterValidator(_device)] = Field("auto", description="auto, cpu, mps, cuda or cuda:N")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="of the forward pass in training")
    single_sensors: bool = Field(True, description="also train every sensor alone, to compare with")


def task_conflicts(train: TrainSection) -> list[tuple[str, str]]:
    """Choices of ``train`` that contradict each other, each as (key, message)."""
    balance = "fixed" if train.balance is None else train.balance.kind
    surgery = "none" if train.surgery is None else train.surgery.kind
    found = []
    if train.consistency and train.task_mode != "joint":
        message = f"consistency belongs to no single task, but task_mode is {train.task_mode}"
        found.append(("consistency", message))
    if train.consistency and train.mixup:
        message = f"consistency compares answers to the same record, but mixup={train.mixup:g} mixes records"
        found.append(("consistency", message))
    if train.task_mode != "joint" and surgery != "none":
        message = f"surgery combines the gradients of one step, but task_mode is {train.task_mode}"
        found.append(("surgery", message))
    if train.task_mode == "random" and balance == "gradnorm":
        found.append(("balance", "gradnorm compares tasks within a step, but task_mode is random: a step has one"))
    if train.task_mode == "per_task_step" and balance != "fixed":
        message = f"every task has an optimiser of its own, which undoes any weight, but balance is {balance}"
        found.append(("balance", message))
    return found


class ObjectiveEntry(Choice):
    """One objective of a pretraining stage."""

    weight: float = Field(1.0, gt=0, allow_inf_nan=False, description="share of its loss in the sum")


class StreamEntry(Choice):
    """Records come once, in the order of the study; steps draw from a replay buffer, which ``kind`` names."""

    size: int = Field(256, ge=1, description="most records that the buffer keeps")
    updates: int = Field(4, ge=1, description="steps for every batch of new records")


class StageSection(Section):
    """One stage of pretraining: what encoders learn from training records before any label is looked at.

    Device, precision, threads and the time between checkpoints are those of ``train``.
    """

    objectives: tuple[ObjectiveEntry, ...] = Field(min_length=1, description="what is minimised, with weights")
    encoders: tuple[str, ...] = Field((), description="sensors whose encoders are trained (default: all)")
    epochs: int = Field(20, ge=1, description="passes over the training records")
    batch: int = Field(64, ge=1, description="records in a step")
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False, description="largest learning rate, after warm-up")
    weight_decay: float = Field(0.05, ge=0, allow_inf_nan=False, description="decoupled decay of the weights")
    warmup: float = Field(0.1, ge=0, le=1, description="share of the steps in which the rate rises")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 means no clipping")
    stream: StreamEntry | None = Field(None, description="records come once, in the order of the study")


FREEZE = re.compile(r"none|encoders|until\((\d+)\)")


def _freeze(text: str) -> str:
    found = FREEZE.fullmatch(text)
    if not found or found[1] == "0":
        raise ValueError("must be none, encoders or until(N) with N of 1 or more epochs")
    return text


class InitSection(Section):
    """Where encoders come from that do not begin with random weights, and how training treats them."""

    from_: str | None = Field(
        None, alias="from", min_length=1, description="folder of a run whose encoders are taken, fold by fold"
    )
    freeze: Annotated[str, AfterValidator(_freeze)] = Field(
        "none", description="none, encoders (they never train), or until(N): they train from epoch N on, counted from 0"
    )
    lr_scale: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="factor on the learning rate of encoders that were trained before"
    )
    heads: dict[str, str] = Field(
        default_factory=dict,
        description="by branch of the late node, the branch of the other run whose head it takes; such heads never train",
    )
    transductive: str | None = Field(
        None, min_length=1, description="the reason why the other run may have seen records that this one tests on"
    )

    @property
    def frozen_epochs(self) -> float:
        """How many epochs encoders stay as they are: infinitely many where they never train."""
        found = FREEZE.fullmatch(self.freeze)
        assert found is not None
        return float(found[1]) if found[1] else {"none": 0.0, "encoders": math.inf}[self.freeze]


class ExportSection(Section):
    """How the bundle is made."""

    opset: int = Field(20, ge=18, le=24, description="version of the ONNX operators")
    tolerance: float = Field(1e-4, gt=0, description="largest difference between torch and the bundle")
    streaming: bool = Field(False, description="the model will be fed by a stream: refuse what looks ahead")
    step: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="seconds from one decision of a stream to the next; default: a window",
    )


class RunSection(Section):
    """Where results go."""

    dir: str = Field("runs", min_length=1, description="folder of run folders")


@dataclass(frozen=True)
class Recipe:
    """An experiment, read and checked: every kind is known, every option has a value, the graph is sound.

    Attributes:
        fusion: the section as it was read; ``graph`` is what it means.
        augment: augmentations by sensor, in order; at most one of a sensor's is a generator.
        pretrain: stages, in order; none where encoders begin with random weights or those of another run.
        expect: scores that a slow test holds the recipe to, by task.
        file: how the recipe was called when it was read; not part of what it says, nor is
        open: keys that still hold ``???``, which the command line must give.
    """

    name: str
    seed: int
    plugins: tuple[str, ...]
    data: DataSection
    modalities: Mapping[str, ModalityEntry]
    fusion: Mapping[str, Any]
    graph: Graph
    tasks: Mapping[str, TaskEntry]
    heads: HeadsSection
    augment: Mapping[str, tuple[Choice, ...]]
    pretrain: tuple[StageSection, ...]
    init: InitSection
    train: TrainSection
    export: ExportSection
    run: RunSection
    expect: Mapping[str, Any]
    file: str = field(default="", compare=False)
    open: tuple[str, ...] = field(default=(), compare=False)

    def changes(self, sensor: str) -> tuple[Choice, ...]:
        """What changes a sensor's batches in training: its augmentations but the generator."""
        return tuple(entry for entry in self.augment.get(sensor, ()) if not isinstance(entry, GeneratorEntry))

    @property
    def generators(self) -> dict[str, GeneratorEntry]:
        """The generator of every sensor that has one."""
        found = {name: [e for e in entries if isinstance(e, GeneratorEntry)] for name, entries in self.augment.items()}
        return {name: entries[0] for name, entries in found.items() if entries}

    def resolved(self) -> dict[str, Any]:
        """Plain data with every default written out: what a run saves and `fusionkit show` prints.

        Reading it again gives the same.
        """
        sections = {name: plain(getattr(self, name)) for name in SECTIONS}
        return {**sections, "fusion": _resolve_graph(self.graph, short="graph" not in self.fusion)}


SECTIONS = tuple(part.name for part in fields(Recipe) if part.name not in ("graph", "file", "open"))
"""Every section, in the order in which recipes are written."""


def plain(value: Any) -> Any:
    """Models, tuples and mappings as what YAML holds; a key is left out where None is both value and default."""
    if isinstance(value, BaseModel):
        return _dump(value)
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def _dump(value: BaseModel) -> dict[str, Any]:
    models = type(value).model_fields
    parts = {name: getattr(value, name) for name in models}
    nested = {name: plain(part) for name, part in parts.items() if _holds_models(part)}
    flat = value.model_dump(mode="json", exclude=set(nested))
    dumped: dict[str, Any] = {}
    for name, field_ in models.items():
        part = nested.get(name, flat.get(name))
        if part is not None or field_.get_default(call_default_factory=True, validated_data={}) is not None:
            dumped[field_.alias or name] = part
    return dumped


def _holds_models(value: Any) -> bool:
    """Whether it is a model, or several: those know the options of their kind, which their place does not."""
    return isinstance(value, BaseModel) or (isinstance(value, tuple) and any(isinstance(it, BaseModel) for it in value))


def _resolve_graph(graph: Graph, short: bool) -> dict[str, Any]:
    nodes: dict[str, dict[str, Any]] = {}
    for node in graph.nodes:
        entry: dict[str, Any] = {"kind": node.kind}
        if not short:
            entry["inputs"] = list(node.inputs)
        entry.update(plain(options_model(registry.fusion.get(node.kind))(**node.options)))
        if node.encoder is not None:
            given = {name: value for name, value in node.encoder.items() if name != "kind"}
            encoder = registry.encoders.get(node.encoder["kind"])
            entry["encoder"] = {"kind": node.encoder["kind"], **plain(options_model(encoder)(**given))}
        nodes[node.name] = entry
    return {"dim": graph.dim, **nodes[graph.end.name]} if short else {"dim": graph.dim, "graph": nodes}
