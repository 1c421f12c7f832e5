"""What a run trains on: the study, the features of every sensor and their statistics, made once for all folds."""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError, located
from fusionkit.core.modality import Array, Modality, Stored
from fusionkit.data import features as feature_cache
from fusionkit.data import normalisation
from fusionkit.data.features import CachedFeatures
from fusionkit.data.ingest import SensorColumn, ingest
from fusionkit.data.loading import Loader, LoaderInput, WindowInput
from fusionkit.data.normalisation import Statistics
from fusionkit.data.sources.source import Source
from fusionkit.data.study import Study
from fusionkit.recipe.build import build_modalities, needs_features, needs_window
from fusionkit.recipe.sections import Recipe
from fusionkit.training.order import derive_seed

Report = Callable[[int, int, str], None]
"""Called with what is done, how much there is, and of what."""


def sensor_columns(recipe: Recipe, modalities: Mapping[str, Modality]) -> dict[str, SensorColumn]:
    """Where in the table each sensor's cells are."""
    return {
        name: SensorColumn(name, modalities[name], entry.column or name, entry.start, entry.stop)
        for name, entry in recipe.modalities.items()
    }


def label_columns(recipe: Recipe, source: Source) -> list[str]:
    """Columns of the table that a study must keep: the tasks', and those that a split goes by."""
    wanted = [entry.column or name for name, entry in recipe.tasks.items()]
    split = recipe.data.split
    for name in (split.by, getattr(split, "column", None)):
        if name and name in source.columns():
            wanted.append(name)
    return list(dict.fromkeys(wanted))


def build_source(recipe: Recipe) -> Source:
    """The source that the recipe's ``data`` section names."""
    with located("data"):
        source: Source = registry.sources.build(recipe.data.kind, recipe.data.options)
        return source


def cache_folder(recipe: Recipe) -> Path:
    """Where studies and features are kept between runs."""
    return Path(recipe.data.cache) if recipe.data.cache else Path(recipe.run.dir) / ".cache"


def open_study(recipe: Recipe, report: Report | None = None) -> Study:
    """Make the study of a recipe, or open the one made before from the same files and settings."""
    source = build_source(recipe)
    sensors = sensor_columns(recipe, build_modalities(recipe))
    labels = label_columns(recipe, source)
    key = _digest(
        source.fingerprint(),
        labels,
        {n: (e.kind, e.column or n, e.start, e.stop, e.options) for n, e in recipe.modalities.items()},
    )
    path = cache_folder(recipe) / f"{recipe.name}-{key}.study.h5"
    if path.exists():
        try:
            return Study.open(path)
        except DataError:
            path.unlink()  # our own cache, cut short: make it again
    return ingest(source, sensors, labels, path, progress=report)


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
        modalities = build_modalities(recipe)
        for name, modality in modalities.items():
            entry = recipe.modalities[name]
            if entry.normalise.kind == "none":
                continue
            if modality.fitted:
                raise ConfigError(f"modalities.{name}.normalise: a sensor whose front end trains cannot be normalised")
            self._normalise(name, modality)

    def features(self, name: str, modality: Modality) -> CachedFeatures:
        """The sensor's features over the whole study, computed once and kept on disk."""
        if name not in self._features:
            entry = self.recipe.modalities[name]
            front_end = modality.front_end(self.stored[name])
            self._features[name] = feature_cache.compute(
                self.study,
                name,
                modality,
                front_end,
                cache_folder(self.recipe) / "features",
                _digest(entry.kind, entry.options),
                device=self.device,
                progress=self.report,
            )
        return self._features[name]

    def statistics(self, name: str) -> Statistics | None:
        """Shift and scale of every record, where the sensor is normalised by group."""
        return self._statistics.get(name)

    def _normalise(self, name: str, modality: Modality) -> None:
        with located(f"modalities.{name}.normalise"):
            statistics = normalisation.statistics(
                self.recipe.modalities[name].normalise,
                self.features(name, modality),
                self.study,
                name,
                modality,
                modality.front_end(self.stored[name]),
            )
        self._statistics[name] = statistics
        self.excluded |= statistics.calibration_records
        if statistics.note:
            self.notes.append(f"{name}: {statistics.note}")
        for task, entry in self.recipe.tasks.items():
            warning = normalisation.erases_labels(
                self.recipe.modalities[name].normalise, self.study, entry.column or task
            )
            if warning:
                self.notes.append(f"{name}: {warning}")
                warnings.warn(f"modalities.{name}.normalise: {warning}", stacklevel=2)

    def fit_modalities(self, recipe: Recipe, rows: Array, folder: Path | None, seed: int) -> dict[str, Modality]:
        """The sensors of an arm, fitted to training rows where they must be, or restored from ``folder``."""
        modalities = build_modalities(recipe)
        for name, modality in modalities.items():
            if not modality.fitted:
                continue
            kept = None if folder is None else folder / "files" / name
            if kept is not None and kept.is_dir():
                modality.restore({file.name: file.read_bytes() for file in sorted(kept.iterdir()) if file.is_file()})
                continue
            sensor = self.study.sensors[name]
            stored = (sensor.slice(int(row)) for row in rows if sensor.offset[row] >= 0)
            modality.fit(stored, np.random.default_rng(derive_seed("fit", name, seed)))
        return modalities

    def loader(self, recipe: Recipe, modalities: Mapping[str, Modality], targets: Mapping[str, Array]) -> Loader:
        """Load batches for an arm: features where they are enough, raw windows where an encoder needs them."""
        inputs: dict[str, LoaderInput] = {}
        for name in recipe.graph.modalities:
            modality, statistics = modalities[name], self._statistics.get(name)
            windowed = modality.fitted or needs_window(recipe, name)
            if windowed or name not in needs_features(recipe):
                inputs[name] = WindowInput(modality, statistics)
            else:
                inputs[name] = feature_cache.FeatureInput(self.features(name, modality), statistics)
        return Loader(self.study, inputs, targets, self.device, recipe.data.resident)


def _digest(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
