"""What a run trains on: the study, the features of every sensor and their statistics, made once for all folds."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusionkit.core.errors import ConfigError, located
from fusionkit.core.modality import Array, Modality, Stored
from fusionkit.data import features as feature_cache
from fusionkit.data import normalisation
from fusionkit.data.alignment import Alignment, fit_alignment
from fusionkit.data.features import CachedFeatures
from fusionkit.data.generated import Generated
from fusionkit.data.ingest import ingest, open_or_ingest
from fusionkit.data.loading import Loader, LoaderInput
from fusionkit.data.normalisation import Statistics
from fusionkit.data.smoothing import NoSmoothing, crosses_records, smooth_features, smoother, smoothing_groups
from fusionkit.data.sources.study import StudySource
from fusionkit.data.study import Study
from fusionkit.recipe.build import build_front_end, build_modalities, needs_features, needs_window
from fusionkit.recipe.sections import Recipe
from fusionkit.recipe.streaming import notes_of_future
from fusionkit.training.order import derive_seed
from fusionkit.training.records import build_source, label_columns, sensor_columns

Report = Callable[[int, int, str], None]
"""Called with what is done, how much there is, and of what."""


def cache_folder(recipe: Recipe) -> Path:
    """Where studies and features are kept between runs."""
    return Path(recipe.data.cache) if recipe.data.cache else Path(recipe.run.dir) / ".cache"


def open_study(recipe: Recipe, report: Report | None = None, *, expected: Mapping[str, Stored] | None = None) -> Study:
    """Make the study of a recipe, or open the one made before from the same files and settings.

    Args:
        recipe: says where the data lie and which sensors it has.
        report: hears of progress.
        expected: refuse sensors that are stored otherwise (rate, channels) than a trained model knows them.
    """
    source = build_source(recipe)
    sensors = sensor_columns(recipe, build_modalities(recipe))
    labels = label_columns(recipe, source, divided=expected is None)
    progress = None if report is None else partial(count_recordings, report)
    cache, workers = cache_folder(recipe), recipe.data.workers
    return open_or_ingest(source, sensors, labels, cache, expected=expected, progress=progress, workers=workers)


def ingest_study(recipe: Recipe, path: Path, report: Report | None = None) -> Study:
    """Make a study file of a recipe's data where the user wants it.

    Args:
        recipe: says where the data lie and which sensors it has.
        path: the file to be made.
        report: hears of progress.

    Raises:
        ConfigError: the file would be no study by its name, or is the very one that is read; or there are two sources.
        DataError: the data break a rule.
    """
    if recipe.data.unlabelled is not None:
        raise ConfigError("data.unlabelled: a study file is of one source, but there are two: ingest each alone")
    source = build_source(recipe)
    if path.suffix.lower() not in (".h5", ".hdf5"):
        raise ConfigError(f"a study must end in .h5 or .hdf5, but got {str(path)!r}")
    if isinstance(source, StudySource) and path.exists() and path.samefile(source.path):
        raise ConfigError(f"a study must go to another file than the one it is read from, but both are {path}")
    sensors = sensor_columns(recipe, build_modalities(recipe))
    progress = None if report is None else partial(count_recordings, report)
    return ingest(source, sensors, label_columns(recipe, source), path, progress=progress, workers=recipe.data.workers)


def count_recordings(report: Report, done: int, total: int, name: str) -> None:
    """Progress of ingestion as one stage, whatever each recording is called."""
    report(done, total, "recordings")


class Material:
    """A study with its features and statistics, from which every fold and every arm of a run loads.

    Args:
        recipe: the checked recipe; arms may use fewer of its sensors.
        study: its study.
        device: where features are computed and batches lie.
        report: see `Report`.
    """

    def __init__(self, recipe: Recipe, study: Study, device: torch.device, report: Report | None = None) -> None:
        self.recipe, self.study, self.device, self.report = recipe, study, device, report
        self.stored: dict[str, Stored] = {name: study.sensors[name].stored for name in recipe.modalities}
        self.notes: list[str] = []
        self.excluded: Array = np.zeros(len(study.records), dtype=bool)
        self._features: dict[str, CachedFeatures] = {}
        self._statistics: dict[str, Statistics] = {}
        self._alignment: dict[str, Alignment] = {}
        self.notes += build_source(recipe).notes(sensor_columns(recipe, build_modalities(recipe)))
        self.notes += notes_of_future(recipe)
        for name, modality in build_modalities(recipe).items():
            self._align(name)
            self._check_smoothing(name, modality)
            kind = recipe.modalities[name].normalise.kind
            if kind not in ("none", "training"):
                if modality.fitted:
                    raise ConfigError(
                        f"modalities.{name}.normalise: a sensor whose front end trains cannot be normalised by {kind}"
                    )
                if name not in needs_features(recipe):
                    raise ConfigError(
                        f"modalities.{name}.normalise: statistics of a {kind} are those of features, but its encoder "
                        f"takes windows and would ignore them"
                    )
                self._normalise(name, modality)

    def features(self, name: str, modality: Modality) -> CachedFeatures:
        """The sensor's features over the whole study, computed once and kept on disk."""
        if name not in self._features:
            entry, folder = self.recipe.modalities[name], cache_folder(self.recipe) / "features"
            within = NoSmoothing() if crosses_records(entry.smooth) else entry.smooth
            made = feature_cache.compute(
                self.study,
                name,
                modality,
                build_front_end(self.recipe, name, modality, self.stored[name]),
                folder,
                _digest(entry.kind, entry.options, entry.align.model_dump(), within.model_dump()),
                alignment=self._alignment.get(name),
                device=self.device,
                progress=None if self.report is None else partial(_forward, self.report, f"features of {name}"),
            )
            with located(f"modalities.{name}.smooth"):
                if not isinstance(within, NoSmoothing) and made.values.shape[1] < 2:
                    raise ConfigError("over must be trial or recording, for every record has one step")
                if not isinstance(entry.smooth, NoSmoothing) and crosses_records(entry.smooth):
                    made = smooth_features(entry.smooth, made, self.study, name, folder)
            self._features[name] = made
        return self._features[name]

    def statistics(self, name: str) -> Statistics | None:
        """Shift and scale of every record, where the sensor is normalised by group."""
        return self._statistics.get(name)

    def windows(self, name: str, modality: Modality) -> LoaderInput:
        """What a trained model is asked with: windows; features where smoothing crosses records, for no window knows it."""
        if crosses_records(self.recipe.modalities[name].smooth):
            return LoaderInput(self.features(name, modality), self._statistics.get(name))
        return LoaderInput(modality, self._statistics.get(name), alignment=self._alignment.get(name))

    def _align(self, name: str) -> None:
        with located(f"modalities.{name}.align"):
            alignment = fit_alignment(self.recipe.modalities[name].align, self.study, name)
        if alignment is not None:
            self._alignment[name] = alignment
            self.excluded |= alignment.calibration_records
            self.notes.append(alignment.note)

    def _check_smoothing(self, name: str, modality: Modality) -> None:
        """Refuse smoothing that nobody would see."""
        options = self.recipe.modalities[name].smooth
        if isinstance(options, NoSmoothing):
            return
        where = f"modalities.{name}.smooth"
        if modality.fitted or name not in needs_features(self.recipe):
            raise ConfigError(f"{where}: only features can be smoothed, but the encoder of {name} takes windows")
        if crosses_records(options) and needs_window(self.recipe, name):
            raise ConfigError(
                f"{where}: smoothing across records is done before training, but an augmentation or encoder of {name} takes "
                f"windows, or training corrupts them"
            )

    def _normalise(self, name: str, modality: Modality) -> None:
        options = self.recipe.modalities[name].normalise
        with located(f"modalities.{name}.normalise"):
            statistics = normalisation.statistics(
                options,
                self.features(name, modality),
                self.study,
                name,
                modality,
                build_front_end(self.recipe, name, modality, self.stored[name]),
                alignment=self._alignment.get(name),
                smooth=smoother(self.recipe.modalities[name].smooth),
                device=self.device,
            )
        if statistics is None:
            return
        self._statistics[name] = statistics
        self.excluded |= statistics.calibration_records
        if statistics.note:
            self.notes.append(statistics.note)
        classed = {task: e.column for task, e in self.recipe.tasks.items() if e.kind != "regression"}
        self.notes += normalisation.warn_of_erased_labels(options, self.study, name, classed)

    def fit_modalities(self, recipe: Recipe, rows: Array, folders: Sequence[Path], seed: int) -> dict[str, Modality]:
        """The sensors of an arm, fitted to training rows where they must be, or restored from the first folder that has them."""
        modalities = build_modalities(recipe)
        for name, modality in modalities.items():
            if not modality.fitted:
                continue
            kept = next((folder / name for folder in folders if (folder / name).is_dir()), None)
            if kept is not None:
                modality.restore({file.name: file.read_bytes() for file in sorted(kept.iterdir()) if file.is_file()})
                continue
            sensor = self.study.sensors[name]
            stored = (sensor.slice(int(row)) for row in rows if sensor.offset[row] >= 0)
            modality.fit(stored, np.random.default_rng(derive_seed("fit", name, seed)))
        return modalities

    def input(self, name: str, modality: Modality, *, windowed: bool) -> LoaderInput:
        """Where a sensor is loaded from: its features, or its raw windows."""
        statistics = self._statistics.get(name)
        if windowed:
            return LoaderInput(modality, statistics, alignment=self._alignment.get(name))
        return LoaderInput(self.features(name, modality), statistics)

    def loader(
        self,
        recipe: Recipe,
        modalities: Mapping[str, Modality],
        targets: Mapping[str, Array],
        generated: Sequence[Generated] = (),
    ) -> Loader:
        """Load batches for an arm: features where they are enough, raw windows where an encoder needs them.

        Generated windows make a sensor's own be loaded as windows, too.
        """
        made = {one.sensor for one in generated if one.level == "window"}
        inputs: dict[str, LoaderInput] = {}
        for name in recipe.graph.modalities:
            windowed = name in made or loads_windows(recipe, name, modalities[name])
            inputs[name] = self.input(name, modalities[name], windowed=windowed)
        loader = Loader(self.study, inputs, targets, self.device, recipe.data.resident, generated)
        filtered = [
            n
            for n, given in inputs.items()
            if isinstance(given.source, Modality) and given.source.whole(self.stored[n])
        ]
        if filtered and not loader.resident:
            raise ConfigError(
                f"modalities.{filtered[0]}: windows of recordings that are filtered as a whole must fit into memory, for batches "
                f"take them in any order; give data.resident=true, or no augmentation and encoder that takes windows"
            )
        return loader


def loads_windows(recipe: Recipe, name: str, modality: Modality) -> bool:
    """Whether a sensor's raw windows are loaded for a model, not its features."""
    return modality.fitted or needs_window(recipe, name) or name not in needs_features(recipe)


def smoothed_together(recipe: Recipe, study: Study) -> dict[str, Array]:
    """By sensor that is smoothed across records, the number of each record's sequence, which no split may part."""
    groups = {}
    for name, entry in recipe.modalities.items():
        if not isinstance(entry.smooth, NoSmoothing) and entry.smooth.over != "record":
            with located(f"modalities.{name}.smooth"):
                groups[name] = smoothing_groups(entry.smooth, study, name)
    return groups


def _forward(report: Report, what: str, done: int, total: int) -> None:
    report(done, total, what)


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
