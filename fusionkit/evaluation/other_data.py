"""Ask a run or a bundle about data it has not seen: the same sensors, another table."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fusionkit.core.errors import ConfigError, DataError, FusionkitError, UnknownNameError, located
from fusionkit.core.levels import Batch, Features, Window
from fusionkit.core.modality import Array, Modality
from fusionkit.core.recording import Stored, restore_stored
from fusionkit.data.loading import Loader
from fusionkit.data.study import Study
from fusionkit.evaluation.bundled import answer, as_prediction
from fusionkit.evaluation.intervals import Interval, bootstrap_all
from fusionkit.evaluation.noise import NoiseAtTest
from fusionkit.evaluation.predict import prediction, unplug
from fusionkit.evaluation.worn import Worn
from fusionkit.heads.task import Task
from fusionkit.recipe.build import build_modalities, build_tasks
from fusionkit.recipe.load import load_recipe, parse_recipe
from fusionkit.recipe.sections import Recipe
from fusionkit.runtime import Bundle, Session, read_bundle
from fusionkit.training.arm import FUSED
from fusionkit.training.device import pick_device
from fusionkit.training.fold import load_result
from fusionkit.training.material import Material, Report, open_study
from fusionkit.training.records import build_source, divide
from fusionkit.training.run import Run
from fusionkit.training.trained import load_trained


class Predictor(Protocol):
    """Answers batches of windows: predictions by task, probabilities or values."""

    def __call__(self, batch: Batch) -> dict[str, Array]: ...


@dataclass(frozen=True)
class Asked:
    """What can be asked: the recipe (pointed at the new data), its fitted sensors and tasks, and who answers.

    Attributes:
        session: of a bundle, which takes the statistics of wearers, too; None where torch answers.
        trained_on: digest of the signals that it was made from, by sensor; none where nobody knows.
        held_out: of those data, ids of the records that it never saw, which alone may be scored (a bundle names none:
            `_held_out`).
        own: whether the recipe names those data; where `trained_on` is known, it tells them under every name.
    """

    recipe: Recipe
    modalities: dict[str, Modality]
    tasks: dict[str, Task]
    stored: dict[str, Stored]
    predictor: Predictor
    session: Session | None = None
    trained_on: Mapping[str, str] = field(default_factory=dict)
    held_out: frozenset[str] = frozenset()
    own: bool = False


@dataclass(frozen=True)
class Answered:
    """Predictions of every record by task, the records they are about, and which of them may be scored.

    Attributes:
        own: whether the data are those that the model was made from.
    """

    study: Study
    predictions: dict[str, Array]
    scored: Array
    notes: list[str]
    own: bool = False


def open_trained(
    where: Path, overrides: Sequence[str] = (), *, fold: int | None = None, device: str | None = None
) -> Asked:
    """Take up a run folder or a bundle, and point its recipe at other data with ``data.path=...``.

    Args:
        where: the run or the bundle.
        overrides: ``KEY=VALUE`` of the command line.
        fold: whose model of a run; by default the first. A bundle has one model.
        device: where a run's model answers; by default what ``train.device=...`` names, else the CPU.

    Raises:
        BundleError: it is a file, but no bundle.
        ConfigError: an override changes what was trained, or a fold of a bundle is asked for.
        DataError: there is none, or the fold is not trained.
    """
    allowed = ("data.", "run.", "train.device")
    wrong = [text for text in overrides if not text.startswith(allowed)]
    if wrong:
        raise ConfigError(f"only data.*, run.* and train.device may be changed after training, but got {wrong}")
    if where.is_dir():
        run = Run.open(where)
        number = fold if fold is not None else (run.folds() or [0])[0]
        recipe = load_recipe(str(run.folder / "recipe.yaml"), overrides)
        if device is None:
            device = recipe.train.device if any(text.startswith("train.device=") for text in overrides) else "cpu"
        there = pick_device(device)
        trained = load_trained(run, number, device=there)
        answer = _TorchPredictor(trained.model, trained.tasks, there)
        own = _same_data(recipe, run.recipe)
        signals, held_out = _seen(run, number) if own or run.study.exists() else ({}, frozenset[str]())
        return Asked(recipe, trained.modalities, trained.tasks, trained.stored, answer, None, signals, held_out, own)
    if not where.exists():
        raise DataError(f"{where}: a trained model must be a run folder or a bundle, but there is none")
    if fold is not None:
        raise ConfigError(f"--fold is for runs, but {where} is no run and holds the model of one fold")
    return _open_bundle(read_bundle(where), overrides)


def ask(
    asked: Asked,
    *,
    absent: Sequence[str] = (),
    noise: Mapping[str, float] = MappingProxyType({}),
    labels: bool = True,
    report: Report | None = None,
) -> Answered:
    """Read the new data and answer for every record.

    Args:
        asked: see `open_trained`.
        absent: sensors to unplug; their columns are not read.
        noise: standard deviation of Gaussian noise, by sensor that gets some (see `NoiseAtTest`).
        labels: whether the tasks' columns must be there.
        report: hears of progress.

    Raises:
        DataError: the data do not fit what was trained (rates, channels), or cannot be read.
        UnknownNameError: an absent sensor is none of the recipe's.
    """
    recipe = asked.recipe
    for name in absent:
        if name not in recipe.modalities:
            raise UnknownNameError("sensor", name, recipe.modalities)
    recipe = replace(recipe, data=recipe.data.model_copy(update={"unlabelled": None}))  # of which nothing is asked
    here = {name: entry for name, entry in recipe.modalities.items() if name not in absent}
    if not here:
        raise ConfigError(f"at least one sensor must be left, but {sorted(absent)} are all of them")
    spoil = NoiseAtTest(noise, {name: asked.modalities[name] for name in here})
    columns = build_source(recipe).columns()
    tasks = {n: e for n, e in recipe.tasks.items() if labels or e.column in columns}
    seen = replace(recipe, modalities=here, augment={}, tasks=tasks)
    study = open_study(seen, report, expected={name: asked.stored[name] for name in here})
    taken: Material | Worn
    if asked.session is None:
        taken = Material(seen, study, torch.device("cpu"), report)
    else:
        taken = Worn(asked.session, seen, study, asked.modalities)
    inputs = {name: taken.windows(name, asked.modalities[name]) for name in here}
    loader = Loader(study, inputs, {}, torch.device("cpu"), False)
    answers: dict[str, list[Array]] = {}
    for batch in map(spoil, _batches(loader, len(study.records))):
        for name in absent:
            batch.inputs[name] = _nothing(asked, name, batch)
        for task, values in asked.predictor(unplug(batch, absent)).items():
            answers.setdefault(task, []).append(values)
    scored = ~taken.excluded
    adapted = None if asked.session is None else asked.session.manifest.adapted
    if labels and adapted is not None and adapted.get("sha256") == study.digest:
        raise ConfigError("a bundle was adapted to these very records: give others to score it on, data.path=...")
    signals = study.signals()
    own = asked.own or all(asked.trained_on.get(name) == signals[name] for name in here)
    notes = list(taken.notes)
    if own:
        unseen = _held_out(asked, study) if labels else asked.held_out
        scored = scored & np.array([name in unseen for name in study.records.id], dtype=bool)
        if labels and asked.session is not None and unseen:
            notes.append(
                f"the bundle was made from these data: scored are the {scored.sum()} records that it never saw"
            )
    return Answered(study, {task: np.concatenate(parts) for task, parts in answers.items()}, scored, notes, own)


def score_answers(asked: Asked, answered: Answered, *, seed: int = 0) -> dict[str, dict[str, Interval]]:
    """Every metric of every task, with intervals over subjects, on the records that may be scored.

    Raises:
        ConfigError: there are none, since the data are those that a bundle was made from.
        DataError: a label is none of the classes.
    """
    if answered.own and not answered.scored.any():
        raise ConfigError("a bundle was trained on part of its own data: give others to score it on, data.path=...")
    records = answered.study.records
    groups = records.group("subject")
    keep = np.flatnonzero(answered.scored)
    scores = {}
    for name, task in asked.tasks.items():
        with located(build_source(asked.recipe).title):
            target = task.encode(records.known(asked.recipe.tasks[name].column), name)
        scores[name] = bootstrap_all(task, answered.predictions[name][keep], target[keep], groups[keep], seed=seed)
    return scores


def answer_held_out(
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    absent: Sequence[str] = (),
    noise: Mapping[str, float] = MappingProxyType({}),
) -> tuple[Asked, Answered]:
    """Ask every fold's model of a run about its own test records, pooled over folds: nothing it was trained on.

    Raises:
        DataError: no fold is trained to the end.
        UnknownNameError: an absent sensor is none of the recipe's.
    """
    folds = Run.open(folder).folds()
    asked = open_trained(folder, overrides, fold=folds[0] if folds else None)
    pooled = ask(asked, absent=absent, noise=noise)
    for fold in folds[1:]:
        answered = ask(open_trained(folder, overrides, fold=fold), absent=absent, noise=noise)
        rows = answered.scored
        predictions = {
            task: np.where(rows.reshape((-1,) + (1,) * (values.ndim - 1)), answered.predictions[task], values)
            for task, values in pooled.predictions.items()
        }
        pooled = replace(pooled, predictions=predictions, scored=pooled.scored | rows)
    return asked, pooled


def _same_data(recipe: Recipe, trained: Recipe) -> bool:
    """Whether two recipes read the same records, whatever else differs between them."""
    return (recipe.data.kind, recipe.data.options) == (trained.data.kind, trained.data.options)


def _seen(run: Run, fold: int) -> tuple[dict[str, str], frozenset[str]]:
    """Digest of the signals of a run, and ids of the records that test a fold."""
    with Study.open(run.study) as study:
        names, signals = study.records.id, study.signals()
    return signals, frozenset(names[row] for row in load_result(run.arm_folder(fold, FUSED)).rows["test"].tolist())


def _held_out(asked: Asked, study: Study) -> frozenset[str]:
    """Of the data that a model was made from, ids of the records that it never saw; none where a bundle's split is another."""
    if asked.session is None:
        return asked.held_out
    told = asked.session.manifest.held_out
    if told is None:
        return frozenset()
    try:
        split = divide(asked.recipe, study.records)
    except FusionkitError:  # columns that it goes by are others now
        return frozenset()
    if split.digest != told.split or told.fold >= len(split.folds):
        return frozenset()
    return frozenset(study.records.id[row] for row in split.folds[told.fold].test.tolist())


@dataclass(frozen=True)
class _TorchPredictor:
    model: torch.nn.Module
    tasks: Mapping[str, Task]
    device: torch.device

    @torch.no_grad()
    def __call__(self, batch: Batch) -> dict[str, Array]:
        decisions = self.model(batch.to(self.device).inputs).decisions
        return {n: prediction(self.tasks[n], d.cpu().double().numpy()) for n, d in decisions.items()}


@dataclass(frozen=True)
class _BundlePredictor:
    session: Session
    tasks: Mapping[str, Task]

    def __call__(self, batch: Batch) -> dict[str, Array]:
        windows = {name: window for name, window in batch.inputs.items() if isinstance(window, Window)}
        return {name: as_prediction(self.tasks[name], of) for name, of in answer(self.session, windows).items()}


def _open_bundle(bundle: Bundle, overrides: Sequence[str]) -> Asked:
    try:
        with located(str(bundle.path)):
            return _restore_bundle(bundle, overrides)
    except (KeyError, TypeError, UnicodeDecodeError) as error:
        if isinstance(error, FusionkitError):
            raise
        raise DataError(f"{bundle.path}: a bundle must describe its recipe, sensors and tasks, but: {error}") from None


def _restore_bundle(bundle: Bundle, overrides: Sequence[str]) -> Asked:
    text = bundle.files["recipe.yaml"].decode()
    recipe = parse_recipe(
        text, str(bundle.path), ["run.dir=runs", "data.cache=null", *overrides]
    )  # no folder of theirs
    signals = bundle.manifest.trained_on
    own = not signals and _same_data(recipe, parse_recipe(text, str(bundle.path)))
    modalities, tasks = build_modalities(recipe), build_tasks(recipe)
    for name, modality in modalities.items():
        prefix = f"files/{name}/"
        found = {file.removeprefix(prefix): c for file, c in bundle.files.items() if file.startswith(prefix)}
        if modality.fitted:
            modality.restore(found)
    for name, task in tasks.items():
        task.restore(bundle.manifest.tasks[name].state)
    stored = {name: restore_stored(asdict(sensor.stored)) for name, sensor in bundle.manifest.sensors.items()}
    session = Session(bundle)
    predictor = _BundlePredictor(session, tasks)
    return Asked(recipe, modalities, tasks, stored, predictor, session, signals, own=own)


def _batches(loader: Loader, count: int, size: int = 64) -> Iterator[Batch]:
    for rows in np.array_split(np.arange(count), max(1, -(-count // size))):
        yield loader.batch(torch.from_numpy(rows))


def _nothing(asked: Asked, name: str, like: Batch) -> Window | Features:
    """A window of an unplugged sensor: zeros of the right shape."""
    modality, stored = asked.modalities[name], asked.stored[name]
    window = modality.window(np.zeros((stored.longest, *stored.item), stored.dtype))
    size = len(next(iter(like.inputs.values())).present)
    values: Tensor = torch.from_numpy(np.zeros((size, *window.shape), window.dtype))
    absent = torch.zeros(size, dtype=torch.bool)
    return Window(values, torch.zeros(size, dtype=torch.int64), absent)


def table(asked: Asked, answered: Answered) -> Iterable[dict[str, object]]:
    """A row per record: id, and by task the answer with its probability."""
    for row, name in enumerate(answered.study.records.id):
        line: dict[str, object] = {"id": name}
        for task_name, task in asked.tasks.items():
            values = answered.predictions[task_name][row]
            if task.outcome == "value":
                line[task_name] = float(values[0])
            elif values.ndim == 2:
                yes = values[:, 1]
                line[task_name] = ";".join(c for c, p in zip(task.classes, yes, strict=True) if p > 0.5)
                line.update({f"{task_name}_{c}": float(p) for c, p in zip(task.classes, yes, strict=True)})
            else:
                line[task_name] = task.classes[int(values.argmax())]
                line.update({f"{task_name}_{c}": float(p) for c, p in zip(task.classes, values, strict=True)})
        yield line
