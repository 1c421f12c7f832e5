"""Generated records of a fold: made of its training records alone, kept with a proof of that, and checked by it.

The folder ``fold-N/generated/SENSOR/`` of a run holds

- ``last.safetensors`` and ``history.csv``, see `fusionkit.training.generator.GeneratorTraining`;
- ``generator.safetensors``: the trained generator's state; none of one that keeps records;
- ``records.safetensors``, written last: ``values`` as the sensor is loaded, ``label`` (number of the class) and
  ``confidence`` (NaN where all are appended), with facts.

All three files say what they are of (`Origin.facts`): study, split, fold, a hash of the names of the training records that
were seen, and the recipe's entry; one that is of anything else is refused. The facts of the records also count what was
``wanted``, ``tried`` and ``kept`` of each class, and name the classes that ``collapsed``, and whether they ``diverged``.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from fusionkit.augment.generative.generator import GenerativeAugmenter, Item
from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError, located
from fusionkit.core.levels import Features, WindowShape
from fusionkit.core.modality import Array, Modality
from fusionkit.data.generated import Generated
from fusionkit.data.loading import Loader
from fusionkit.data.splits import Split
from fusionkit.evaluation.classifiers.fit import fit_classifier
from fusionkit.recipe.build import build_front_end, build_modalities, window_shape
from fusionkit.recipe.sections import GeneratorEntry, Recipe, plain
from fusionkit.training.arm import arms
from fusionkit.training.checkpoint import load_tensors, model_tensors, restore_model, save_tensors
from fusionkit.training.generator import GeneratorTraining, check_facts
from fusionkit.training.interruption import StopRequest
from fusionkit.training.labels import hide_labels
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material, loads_windows
from fusionkit.training.order import derive_seed
from fusionkit.training.parallel import is_leader, wait
from fusionkit.training.records import learn_tasks
from fusionkit.training.selection import Chosen, make_all, make_sure, wanted_records

GENERATED = "generated"
GENERATOR = "generator.safetensors"
RECORDS = "records.safetensors"
_AMOUNTS = ("add", "use", "keep")  # what records are made, not what makes them


@dataclass(frozen=True)
class Origin:
    """What a sensor's generator learns from in a fold, before any signal is read.

    Attributes:
        recipe: asks for it.
        material: the study and its features.
        sensor: whose records.
        entry: kind and options of the generator, and how it is used.
        fold: the fold's number.
        split: the digest of the split.
        rows: training records that have the sensor and a label of the task, ascending.
        label: their classes.
        classes: names of the classes.
    """

    recipe: Recipe
    material: Material
    sensor: str
    entry: GeneratorEntry
    fold: int
    split: str
    rows: Array
    label: Array
    classes: tuple[str, ...]

    @property
    def seed(self) -> int:
        """Of weights, orders and noise."""
        return derive_seed(self.recipe.seed, GENERATED, self.sensor, self.fold)

    def facts(self, *, amounts: bool) -> dict[str, Any]:
        """What tells a file of this training from all others.

        Args:
            amounts: whether it also matters how many records are made of the generator, and which are kept.
        """
        ids = sorted(self.material.study.records.id[row] for row in self.rows.tolist())
        entry = plain(self.entry)
        settings = json.dumps(plain(self.recipe.modalities[self.sensor]), sort_keys=True)
        return {
            "sensor": self.sensor,
            "settings": hashlib.sha256(settings.encode()).hexdigest(),
            "entry": {name: value for name, value in entry.items() if amounts or name not in _AMOUNTS},
            "classes": list(self.classes),
            "study": self.material.study.digest,
            "split": self.split,
            "fold": self.fold,
            "training": hashlib.sha256("\x1f".join(ids).encode()).hexdigest(),
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Lesson:
    """The training records of an `Origin`, read: on the device, whole and finite.

    Attributes:
        item: what one looks like.
        values: ``(record, *item)``, as training loads them.
        label: their classes.
        group: whom each is of, by the split's groups.
    """

    item: Item
    values: Float[Tensor, "record *item"]
    label: Int[Tensor, " record"]
    group: Int[Tensor, " record"]


def find_origin(
    recipe: Recipe, material: Material, split: Split, number: int, sensor: str, entry: GeneratorEntry | None = None
) -> Origin:
    """What a sensor's generator may learn from in a fold: labelled training records, of those that keep their labels.

    Args:
        recipe: asks for it.
        material: the study and its features.
        split: of the study.
        number: of the fold.
        sensor: whose records.
        entry: which generator; by default the recipe's.

    Raises:
        DataError: a class has no training record with the sensor.
    """
    entry = recipe.generators[sensor] if entry is None else entry
    assert entry.task is not None  # filled in when the recipe was read
    records, train = material.study.records, np.sort(split.folds[number].train)
    tasks, targets = learn_tasks(recipe, records)
    target = hide_labels(recipe, records, tasks, targets, train, number)[entry.task]
    here = material.study.sensor(sensor).present[train] & ~np.isnan(target[train])
    rows, classes = train[here], tasks[entry.task].classes
    label = target[rows].astype(np.int64)
    absent = [
        name for name, count in zip(classes, np.bincount(label, minlength=len(classes)), strict=True) if not count
    ]
    if absent:
        raise DataError(
            f"augment.{sensor}: every class must have a labelled training record with the sensor, but in fold {number} "
            f"{absent} have none"
        )
    return Origin(recipe, material, sensor, entry, number, split.digest, rows, label, classes)


def loaded_level(recipe: Recipe, sensor: str, modality: Modality) -> Literal["features", "window"]:
    """What is generated: windows where any model of the run loads the sensor as such, else features."""
    asked = [arm.recipe for arm in arms(recipe) if sensor in arm.recipe.modalities]
    return "window" if any(loads_windows(one, sensor, modality) for one in asked) else "features"


def read_lesson(origin: Origin) -> Lesson:
    """Read the training records.

    Raises:
        ConfigError: the sensor's records cannot be generated.
        DataError: one is shorter than the others, or not finite.
    """
    material, sensor = origin.material, origin.sensor
    modality, stored = build_modalities(origin.recipe)[sensor], material.stored[sensor]
    level = loaded_level(origin.recipe, sensor, modality)
    with located(f"augment.{sensor}"):
        values = torch.cat(list(_values(origin, origin.rows)))
        shape, places = WindowShape(values.shape[1:]), None
        if level == "features":
            places = build_front_end(origin.recipe, sensor, modality, stored).shape.places
        else:
            shape = window_shape(modality, stored)
    device, group = material.device, material.study.records.group(origin.recipe.data.split.by)[origin.rows]
    return Lesson(
        Item(level, shape, len(origin.classes), places),
        values,
        torch.from_numpy(origin.label).to(device),
        torch.from_numpy(group).to(device),
    )


def train_generator(
    origin: Origin,
    lesson: Lesson,
    folder: Path,
    *,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
    called: tuple[int, int] | None = None,
) -> tuple[GenerativeAugmenter, dict[str, Any]]:
    """Train a generator, from its last checkpoint if ``folder`` has one; at once if it is trained.

    Args:
        origin: what it is of.
        lesson: its training records.
        folder: where its files go.
        listener: hears of every epoch.
        stop: a request to save and leave.
        called: number of the fold and how many there are, for the listener; None says nothing of epochs.

    Returns:
        The generator, and what was found: ``collapsed``, ``diverged``, ``seconds``.

    Raises:
        ConfigError: it cannot make such records.
        DataError: a loss is not finite, or a file is of another training.
        Interrupted: a stop was asked for; the training is saved.
    """
    listener, entry = listener or Listener(), origin.entry
    generator = build_generator(origin, lesson)
    where = f"augment.{origin.sensor}: fold {origin.fold}"
    with located(where):
        generator.prepare(lesson.values, lesson.label)
        facts, path = origin.facts(amounts=False), folder / GENERATOR
        if path.exists() and not generator.keeps_records:
            tensors, known = load_tensors(path)
            check_facts(path, known, facts)
            with located(str(path)):
                restore_model(generator, tensors)
            return generator.eval(), {name: known[name] for name in ("collapsed", "diverged", "seconds")}
        if called is not None and generator.turns():
            listener.begin(f"{entry.kind} of {origin.sensor}", *called, entry.epochs)
        training = GeneratorTraining(
            generator,
            lesson.values,
            lesson.label,
            epochs=entry.epochs,
            batch=entry.batch,
            seed=derive_seed("train", origin.seed),
            folder=folder,
            facts=facts,
            checkpoint_seconds=origin.recipe.train.checkpoint_seconds,
            classes=origin.classes,
            progress=listener.step if called is not None else None,
            on_epoch=listener.epoch if called is not None else None,
            say=lambda line: listener.say(f"{where}: {line}"),
            stop=stop,
        )
        training.run()
        found = {"collapsed": training.collapsed, "diverged": training.diverged, "seconds": training.seconds}
        if not generator.keeps_records:
            save_tensors(path, model_tensors(generator), {**facts, **found})
        if called is not None and generator.turns():
            listener.end(f"{entry.kind} of {origin.sensor}", called[0], training.seconds)
    return generator, found


def make_records(origin: Origin, lesson: Lesson, generator: GenerativeAugmenter) -> Chosen:
    """Make what the entry wants: as many records as it says, with the training records' shares of classes.

    The noise is the same whatever ``add``, ``use`` and ``keep`` are.

    Raises:
        DataError: a record is not finite.
    """
    entry, device = origin.entry, lesson.values.device
    wanted = wanted_records(np.bincount(origin.label, minlength=len(origin.classes)).tolist(), entry.add)
    random = torch.Generator(device).manual_seed(derive_seed("make", origin.seed))
    with located(f"augment.{origin.sensor}: fold {origin.fold}"):
        if entry.keep is None:
            return make_all(generator, wanted, random)
        classify = fit_classifier(
            entry.keep.model,
            lesson.values.flatten(1),
            lesson.label,
            classes=len(origin.classes),
            seed=derive_seed("keep", origin.seed),
            group=lesson.group,
        )
        return make_sure(
            generator,
            wanted,
            random,
            classify=classify,
            min_confidence=entry.keep.min_confidence,
            candidates=entry.keep.candidates,
        )


def generate(
    origin: Origin,
    folder: Path,
    *,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
    called: tuple[int, int] | None = None,
) -> Generated:
    """The generated records of a sensor and a fold; from their file where there is one, which must be of this training.

    Raises:
        DataError: a file is broken, or of another study, split, fold, training part or entry.
        Interrupted: a stop was asked for; the training is saved.
    """
    path, listener = folder / RECORDS, listener or Listener()
    if not path.exists() and is_leader():
        lesson = read_lesson(origin)
        generator, found = train_generator(origin, lesson, folder, listener=listener, stop=stop, called=called)
        chosen = make_records(origin, lesson, generator)
        counts = {"wanted": chosen.wanted, "tried": chosen.tried, "kept": chosen.kept}
        facts = {**origin.facts(amounts=True), "level": lesson.item.level, **counts, **found}
        tensors = {"values": chosen.made.values, "label": chosen.made.label, "confidence": chosen.confidence}
        save_tensors(path, tensors, facts)
        _say_kept(origin, chosen, listener)
    wait()
    return read_records(origin, path)


def read_records(origin: Origin, path: Path) -> Generated:
    """Read generated records that must be of this training.

    Raises:
        DataError: the file is broken, or of another study, split, fold, training part or entry.
    """
    tensors, facts = load_tensors(path)
    check_facts(path, facts, origin.facts(amounts=True))
    values, label = tensors.get("values"), tensors.get("label")
    whole = values is not None and label is not None and len(values) == len(label) and values.dtype == torch.float32
    if values is None or label is None or not whole or not bool(torch.isfinite(values).all()):
        raise DataError(f"{path}: generated records must be finite float32 values with a label each, but are not")
    if not bool(((label >= 0) & (label < len(origin.classes))).all()):
        raise DataError(f"{path}: labels must be numbers of {len(origin.classes)} classes, but some are not")
    assert origin.entry.task is not None
    return Generated(origin.sensor, facts["level"], values, {origin.entry.task: label.numpy().astype(np.float32)})


def appending(recipe: Recipe) -> dict[str, GeneratorEntry]:
    """The generators that append records to a run's training, by sensor."""
    return {sensor: entry for sensor, entry in recipe.generators.items() if entry.add}


def refuse_mixed(entries: Mapping[str, GeneratorEntry]) -> None:
    """Refuse generators that models cannot be trained with.

    Raises:
        ConfigError: one makes records of mixed classes.
    """
    for sensor, entry in entries.items():
        if registry.generators.get(entry.kind).mixes:
            raise ConfigError(
                f"augment.{sensor}: {entry.kind} makes records of mixed classes, which no model is trained on; give train.mixup"
            )


def check_generators(
    recipe: Recipe, material: Material, split: Split, folds: Iterable[int], sensors: Iterable[str]
) -> None:
    """Refuse what the generators of some sensors could not learn or make in some folds, before anything is trained.

    Every record that a generator will see is read once, and none is kept.

    Raises:
        ConfigError: a sensor's records cannot be generated, or not by that kind.
        DataError: in some fold a class has no record with the sensor, or a record is not whole.
    """
    for sensor in sensors:
        origins = [find_origin(recipe, material, split, number, sensor) for number in folds]
        with located(f"augment.{sensor}"):
            for _ in _values(origins[0], np.unique(np.concatenate([origin.rows for origin in origins]))):
                pass
        first = replace(origins[0], rows=origins[0].rows[:1], label=origins[0].label[:1])
        build_generator(first, read_lesson(first))


def build_generator(origin: Origin, lesson: Lesson) -> GenerativeAugmenter:
    """A generator with its first weights, on the device.

    Raises:
        ConfigError: it cannot make such records.
    """
    entry = origin.entry
    with located(f"augment.{origin.sensor}: fold {origin.fold}"):
        torch.manual_seed(derive_seed("weights", origin.seed))
        made: GenerativeAugmenter = registry.generators.build(entry.kind, entry.options, lesson.item)
        return made.to(lesson.values.device)


def generate_fold(
    recipe: Recipe,
    material: Material,
    split: Split,
    number: int,
    run: Path,
    *,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
) -> list[Generated]:
    """The generated records of all sensors of a fold, made once for all of the fold's models.

    Args:
        recipe: its ``augment``.
        material: the study, its features and statistics.
        split: of the study.
        number: the fold's number.
        run: the run's folder.
        listener: hears of every epoch.
        stop: a request to save and leave.
    """
    made = []
    for sensor in appending(recipe):
        origin = find_origin(recipe, material, split, number, sensor)
        folder = run / f"fold-{number}" / GENERATED / sensor
        made.append(generate(origin, folder, listener=listener, stop=stop, called=(number, len(split.folds))))
    return [one for one in made if len(one)]


def notes_of_generators(recipe: Recipe) -> list[str]:
    """What is said of generated records in a run, a line a sensor."""
    notes = []
    for sensor, entry in appending(recipe).items():
        which = "all that are made" if entry.keep is None else f"those of whose class the {entry.keep.model} is sure"
        notes.append(
            f"augment.{sensor}: {entry.kind} learns each fold's training records; {entry.add:g} generated records for each "
            f"of them with a label of {entry.task} ({which}) are appended to training alone: validation and test are real"
        )
    end = recipe.graph.end
    if notes and end.level == "late" and registry.fusion.build(end.kind, end.options, tuple(end.inputs)).held_out:
        notes.append(
            f"{end.name} ({end.kind}) is fitted to branches of inner trainings, which have no generated records"
        )
    return notes


def _values(origin: Origin, rows: Array) -> Iterator[Float[Tensor, "record *item"]]:
    """Records of a study as training loads them, some at a time; what is no generator's to learn is refused."""
    material, sensor = origin.material, origin.sensor
    modality = build_modalities(origin.recipe)[sensor]
    level = loaded_level(origin.recipe, sensor, modality)
    if modality.fitted:
        raise ConfigError(f"records must be numbers to be generated, but windows of {modality.kind} are ids")
    if level == "window" and material.statistics(sensor) is not None:
        kind = origin.recipe.modalities[sensor].normalise.kind
        raise ConfigError(
            f"records are loaded as windows, which statistics of a {kind} go along with, but a generated one is of none; "
            f"give modalities.{sensor}.normalise.kind=none, or no augmentation and encoder that takes windows"
        )
    given = material.input(sensor, modality, windowed=level == "window")
    loader = Loader(material.study, {sensor: given}, {}, material.device, resident=False)
    for chunk in torch.split(torch.from_numpy(rows), loader.chunk):
        stream = loader.batch(chunk).inputs[sensor]
        _check_whole(origin, stream, chunk)
        yield stream.values.float()


def _check_whole(origin: Origin, stream: Any, rows: Tensor) -> None:
    """Refuse a record that is not as long as the longest, or that has a value which is no number."""
    if isinstance(stream, Features):
        real = stream.mask.sum(1)
        full = stream.mask.shape[1]
    else:
        real, full = stream.length, stream.values.shape[-1]
    finite = torch.isfinite(stream.values).flatten(1).all(1)
    wrong = ((real != full) | ~finite).nonzero()
    if len(wrong):
        at = int(wrong[0])
        name = origin.material.study.records.id[int(rows[at])]
        unit = "steps" if isinstance(stream, Features) else "samples"
        what = (
            f"has {int(real[at])} of {full} {unit}"
            if int(real[at]) != full
            else "has values that are no finite numbers"
        )
        raise DataError(f"records must all be whole for a generator to learn them, but {name!r} {what}")


def _say_kept(origin: Origin, chosen: Chosen, listener: Listener) -> None:
    """Say where fewer records were kept than were wanted."""
    keep = origin.entry.keep
    short = [
        f"{kept} of {wanted} {name!r} ({tried} tried)"
        for name, wanted, tried, kept in zip(origin.classes, chosen.wanted, chosen.tried, chosen.kept, strict=True)
        if kept < wanted
    ]
    if keep is not None and short:
        listener.say(
            f"augment.{origin.sensor}: fold {origin.fold}: fewer records are appended than wanted, for the {keep.model} is sure "
            f"by {keep.min_confidence:g} of no more: {', '.join(short)}"
        )
