"""What a run's encoders have learned: probes of frozen embeddings, and fine-tuning with few labels, sensor by sensor.

All is learned from the run's training records, of whose labels those alone that ``data.labels`` keeps, and asked about
its test records, or about those that validate where settings are to be chosen; never about both. Beside each number
stands that of the same encoder with random weights.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from fusionkit.core.errors import ConfigError, DataError, UnknownNameError, located
from fusionkit.core.modality import Array
from fusionkit.data.splits import Fold, Split
from fusionkit.data.study import Study
from fusionkit.evaluation.embeddings import embed, linear_probe, nearest, recall_at, side_by_side, vote
from fusionkit.evaluation.fine_tuning import FineTuning
from fusionkit.evaluation.intervals import Interval, bootstrap
from fusionkit.evaluation.metrics import primary_metric
from fusionkit.evaluation.summary import plain
from fusionkit.fusion.vote import Vote
from fusionkit.heads.task import Task
from fusionkit.recipe.build import build_model
from fusionkit.recipe.sections import InitSection, Recipe
from fusionkit.training.device import pick_device
from fusionkit.training.labels import hide_labels, labelled_rows
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material
from fusionkit.training.order import derive_seed
from fusionkit.training.records import learn_tasks
from fusionkit.training.run import Run
from fusionkit.training.start import PRETRAINED, Start, encoder_tensors, read_pretrained, read_start

RECALL = (1, 5)
NEIGHBOURS = 20
SHARES = (0.01, 0.1, 1.0)
TOGETHER = "all sensors"
REPETITIONS = 1000
Side = Literal["learned", "untrained"]
Part = Literal["test", "validation"]


@dataclass(frozen=True)
class Measured:
    """One number of one sensor.

    Attributes:
        task: whose classes, or values.
        sensor: whose encoder; ``all sensors`` for embeddings side by side, and for the product of what sensors that were
            fine-tuned each by itself answer.
        measure: ``recall@1``, ``neighbours``, ``linear`` or ``fine-tuned 10 %``.
        metric: the task's main one, or ``recall``.
        learned: of the run's encoder, with an interval over groups.
        untrained: of the same encoder with random weights.
        records: how many labelled records of the part that was asked about have the sensor.
    """

    task: str
    sensor: str
    measure: str
    metric: str
    learned: Interval
    untrained: Interval
    records: int


@dataclass(frozen=True)
class Probed:
    """All that was measured of a run.

    Attributes:
        weights: which of the run's encoders, as pretrained or as trained.
        part: of every fold, which was asked about.
        folds: whose parts are pooled.
        by: what intervals are over.
        measured: the numbers.
        notes: what a reader must know.
    """

    weights: Literal["pretrained", "trained"]
    part: Part
    folds: list[int]
    by: str
    measured: list[Measured]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for ``probe.json`` and ``--json``."""
        return dict(plain(asdict(self)))


@dataclass(frozen=True)
class _Answer:
    """What one side said about one task by one measure; of recall, whether a neighbour was right."""

    task: str
    sensor: str
    measure: str
    side: Side
    rows: Array
    said: Array


@dataclass(frozen=True)
class _Given:
    """What a fold is probed with."""

    recipe: Recipe
    material: Material
    number: int
    folds: int
    fold: Fold
    tasks: dict[str, Task]
    targets: dict[str, Array]

    def having(self, sensor: str) -> Fold:
        """The fold's records that have a sensor."""
        here = self.material.study.sensors[sensor].offset >= 0
        return Fold(*(rows[here[rows]] for rows in (self.fold.train, self.fold.validation, self.fold.test)))


def probe(
    run: Run,
    *,
    sensors: Sequence[str] = (),
    shares: Sequence[float] = SHARES,
    epochs: int | None = None,
    fold: int | None = None,
    part: Part = "test",
    listener: Listener | None = None,
) -> Probed:
    """Measure the encoders of a run, as pretrained where it pretrained, else as trained.

    Args:
        run: pretrained or trained.
        sensors: which; by default all that have an encoder of their own.
        shares: of the labelled training records to fine-tune with; none leaves fine-tuning out.
        epochs: of fine-tuning; by default the recipe's.
        fold: only this one; by default all that are done.
        part: whose records are asked about; with ``validation`` nothing of the test part is looked at.
        listener: hears of every epoch.

    Raises:
        ConfigError: the fold is not done.
        DataError: none is, the data have changed since, no sensor has an encoder of its own, or a fold lacks the part.
        UnknownNameError: a sensor has none.
    """
    listener, recipe = listener or Listener(), run.recipe
    pretrained = sorted(run.pretrained())
    done = pretrained or run.folds()
    if not done:
        raise DataError(f"{run.folder}: a run must have a fold that is trained or pretrained to the end, but none is")
    if fold is not None and fold not in done:
        raise ConfigError(f"--fold must be one that is done, {done}, but got {fold}")
    folds = done if fold is None else [fold]
    starts = {n: read_pretrained(run.folder, n) if pretrained else read_start(run.folder, n) for n in folds}
    chosen = _chosen(run, recipe, starts[folds[0]], sensors)
    answers: list[_Answer] = []
    kept: dict[int, int] = {}
    with Study.open(run.study) as study:
        run.check_unchanged(study, "a probe")
        split = Split.load(run.folder / "split.json", study.records)
        material = Material(recipe, study, pick_device(recipe.train.device), listener.prepare)
        tasks, targets = learn_tasks(recipe, study.records)
        groups = study.records.group(recipe.data.split.by)
        for number in folds:
            train, asked = split.folds[number].train, getattr(split.folds[number], part)
            asked = asked[~material.excluded[asked]]
            with located(f"fold {number}"):
                if not len(asked):
                    raise DataError(f"a fold must have {part} records to be asked about, but this one has none")
                left = hide_labels(recipe, study.records, tasks, targets, train, number)
                for name, task in tasks.items():
                    task.fit(left[name][train], name)
            kept[number] = int(labelled_rows(left, train).sum())
            own = Fold(train, train[:0], asked)
            given = _Given(recipe, material, number, len(split.folds), own, tasks, left)
            sides: dict[Side, Start] = {"learned": starts[number], "untrained": _untrained(given, starts[number])}
            for side, start in sides.items():
                answers += _frozen(given, start, side, chosen)
            tuned: list[_Answer] = []
            for sensor in chosen:
                if not labelled_rows(left, given.having(sensor).train).any():
                    continue  # no label that is kept has the sensor
                for share in shares:
                    for side, start in sides.items():
                        tuned += _tuned(given, start, side, sensor, share, epochs, listener)
            answers += [*tuned, *_together(tuned, tasks)]
    measured = _measure(answers, tasks, targets, groups)
    weights: Literal["pretrained", "trained"] = "pretrained" if pretrained else "trained"
    return Probed(weights, part, folds, recipe.data.split.by, measured, _notes(recipe, weights, tasks, kept))


def _chosen(run: Run, recipe: Recipe, start: Start, sensors: Sequence[str]) -> list[str]:
    known = [name for name in recipe.modalities if name in start.sensors]
    if not known:
        raise DataError(f"{run.folder}: a sensor must have an encoder of its own to be probed, but none has")
    for name in sensors:
        if name not in known:
            raise UnknownNameError("sensor with an encoder of its own", name, known)
    return list(sensors) or known


def _untrained(given: _Given, start: Start) -> Start:
    """The encoders with random weights, those that pretraining began with unless another run gave them; same statistics."""
    recipe, material = given.recipe, given.material
    seed = derive_seed(recipe.seed, PRETRAINED, given.number)
    modalities = material.fit_modalities(recipe, given.fold.train, [start.files], seed)
    torch.manual_seed(derive_seed("weights", seed))
    model = build_model(recipe, modalities, material.stored, {})
    weights = encoder_tensors(model, start.sensors)
    weights |= {name: value for name, value in start.weights.items() if name.startswith("standardise.")}
    return Start(weights, start.files, "untrained")


def _tuned(
    given: _Given, start: Start, side: Side, sensor: str, share: float, epochs: int | None, listener: Listener
) -> list[_Answer]:
    """What one sensor answers after training with a share of the labels; random weights are never held back."""
    recipe = given.recipe if side == "learned" else replace(given.recipe, init=InitSection.model_validate({}))
    tuning = FineTuning(recipe, sensor, given.material, given.having(sensor), given.number, share, epochs)
    measure = f"fine-tuned {100 * share:g} %"
    listener.begin(f"{sensor} {measure} {side}", given.number, given.folds, tuning.recipe_alone.train.epochs)
    began = time.monotonic()
    said = tuning(start, given.tasks, given.targets, listener)
    listener.end(f"{sensor} {measure} {side}", given.number, time.monotonic() - began)
    return [_Answer(task, sensor, measure, side, tuning.fold.test, values) for task, values in said.items()]


def _together(tuned: Sequence[_Answer], tasks: Mapping[str, Task]) -> list[_Answer]:
    """The product of the sensors' answers, of those that a record has, for tasks with one class a record."""
    groups: dict[tuple[str, str, Side], list[_Answer]] = {}
    for one in tuned:
        if _classed(tasks[one.task]):
            groups.setdefault((one.task, one.measure, one.side), []).append(one)
    made = []
    for (task, measure, side), parts in groups.items():
        if len(parts) < 2:
            continue
        rows = np.unique(np.concatenate([one.rows for one in parts]))
        decisions = torch.zeros(len(parts), len(rows), parts[0].said.shape[1], dtype=torch.float64)
        seen = torch.zeros(len(parts), len(rows), dtype=torch.bool)
        for place, one in enumerate(parts):
            where = torch.from_numpy(np.searchsorted(rows, one.rows))
            decisions[place, where] = torch.from_numpy(one.said).double().log()
            seen[place, where] = True
        merged = Vote(tuple(one.sensor for one in parts), rule="product").merge_log_probabilities(decisions, seen)
        made.append(_Answer(task, TOGETHER, measure, side, rows, merged.exp().numpy()))
    return made


def _frozen(given: _Given, start: Start, side: Side, sensors: Sequence[str]) -> list[_Answer]:
    """Neighbours and lines of every sensor, and of all together, for tasks with one class a record."""
    recipe, material, fold = given.recipe, given.material, given.fold
    modalities = material.fit_modalities(recipe, fold.train, [start.files], recipe.seed)
    model = build_model(recipe, modalities, material.stored, {}).to(material.device)
    start.take(model)
    loader = material.loader(recipe, modalities, {})
    parts = [embed(model, loader, rows, sensors) for rows in (fold.train, fold.test)]
    if len(sensors) > 1:
        for part in parts:
            part[TOGETHER] = side_by_side(list(part.values()))
    answers = []
    for name, task in given.tasks.items():
        if not _classed(task):
            continue
        train, test = given.targets[name][fold.train], given.targets[name][fold.test]
        for sensor in parts[0]:
            gallery, queries = parts[0][sensor], parts[1][sensor]
            known, asked = gallery.here & ~np.isnan(train), queries.here
            if not known.any() or not asked.any():
                continue
            labels, classes = train[known].astype(np.int64), len(task.classes)
            found = nearest(queries.values[asked], gallery.values[known], max(NEIGHBOURS, *RECALL))
            truth = np.nan_to_num(test[asked], nan=-1).astype(np.int64)
            said = {f"recall@{count}": recall_at(found, truth, labels, count) for count in RECALL}
            said["neighbours"] = vote(found, labels, classes)
            said["linear"] = linear_probe(gallery.values[known], labels, queries.values[asked], classes)
            answers += [_Answer(name, sensor, what, side, fold.test[asked], values) for what, values in said.items()]
    return answers


def _classed(task: Task) -> bool:
    """Whether a record has one of several classes."""
    return bool(task.classes) and task.kind != "multi_label"


def _measure(
    answers: Sequence[_Answer], tasks: Mapping[str, Task], targets: Mapping[str, Array], groups: Array
) -> list[Measured]:
    """Every measure over the test records of all folds."""
    pooled: dict[tuple[str, str, str], dict[Side, list[_Answer]]] = {}
    for one in answers:
        pooled.setdefault((one.task, one.sensor, one.measure), {}).setdefault(one.side, []).append(one)
    measured = []
    for (task, sensor, measure), sides in pooled.items():
        metric, found, records = primary_metric(tasks[task]), {}, 0
        for side, parts in sides.items():
            rows, said = np.concatenate([one.rows for one in parts]), np.concatenate([one.said for one in parts])
            target = targets[task][rows]
            records = int((~np.isnan(target.reshape(len(rows), -1)).any(1)).sum())
            if measure.startswith("recall@"):
                found[side] = bootstrap(_share, said, target, groups[rows], seed=0, repetitions=REPETITIONS)
            else:
                found[side] = bootstrap(metric, said, target, groups[rows], seed=0, repetitions=REPETITIONS)
        called = "recall" if measure.startswith("recall@") else metric.name
        measured.append(Measured(task, sensor, measure, called, found["learned"], found["untrained"], records))
    order = [*dict.fromkeys(one.sensor for one in measured if one.sensor != TOGETHER), TOGETHER]
    tuned = [one.measure for one in measured if one.measure.startswith("fine-tuned")]
    kinds = [*(f"recall@{count}" for count in RECALL), "neighbours", "linear", *dict.fromkeys(tuned)]
    names = list(tasks)
    return sorted(measured, key=lambda m: (names.index(m.task), order.index(m.sensor), kinds.index(m.measure)))


def _share(hits: Array, target: Array) -> float:
    del target
    return float(hits.mean())


def _notes(recipe: Recipe, weights: str, tasks: Mapping[str, Task], kept: Mapping[int, int]) -> list[str]:
    notes = []
    if recipe.data.labels is not None:
        counts = ", ".join(f"{count} in fold {number}" for number, count in kept.items())
        notes.append(f"data.labels hides labels: all that is learned here has those that are kept, {counts}")
    if weights == "trained":
        notes.append(
            "encoders were trained with all labels that training records keep, also where few are given to fine-tuning"
        )
    for name, task in tasks.items():
        if not _classed(task):
            notes.append(f"{name} has no single class a record: it is fine-tuned alone")
    return notes
