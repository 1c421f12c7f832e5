"""A run folder: everything needed to believe, repeat, compare and deploy a result."""

import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import fusionkit
from fusionkit.core.errors import ConfigError, DataError, located
from fusionkit.core.recording import Stored, describe_stored, restore_stored
from fusionkit.data.guard import check_straddling
from fusionkit.data.splits import Split
from fusionkit.data.study import Study
from fusionkit.data.unlabelled import with_unlabelled
from fusionkit.recipe.load import load_recipe
from fusionkit.recipe.sections import Recipe
from fusionkit.recipe.write import dump_recipe
from fusionkit.training.arm import arms
from fusionkit.training.checkpoint import load_tensors, write_atomically
from fusionkit.training.device import pick_device
from fusionkit.training.engine import Drive, Engine
from fusionkit.training.fold import PREDICTIONS, FoldResult, load_result, train_fold
from fusionkit.training.generating import (
    appending,
    check_generators,
    generate_fold,
    notes_of_generators,
    refuse_mixed,
)
from fusionkit.training.interruption import stop_on_signals
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material, open_study, smoothed_together
from fusionkit.training.out_of_fold import notes_of_held_out
from fusionkit.training.parallel import agree_on, is_leader, wait
from fusionkit.training.records import add_unlabelled, check_labels, divide, notes_of_unlabelled, read_records
from fusionkit.training.stage import notes_of_looks, pretrain_fold
from fusionkit.training.stamped import no_empty_folder, stamped_folder
from fusionkit.training.start import ENCODERS, PRETRAINED, notes_of, start_of

PACKAGES = ("torch", "torchaudio", "numpy", "scipy", "mne", "onnxruntime", "scikit-learn", "tokenizers", "soundfile")


@dataclass(frozen=True)
class Run:
    """A folder of results on disk: ``recipe.yaml``, ``split.json``, ``run.json``, ``fold-0/fused/`` and so on."""

    folder: Path

    @staticmethod
    def open(folder: Path) -> "Run":
        """Take up a folder that `train` made.

        Raises:
            DataError: it is no run.
        """
        if not (folder / "recipe.yaml").is_file():
            raise DataError(f"{folder}: a run must be a folder with a recipe.yaml, but there is none")
        return Run(folder)

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return load_recipe(str(self.folder / "recipe.yaml"))

    @property
    def facts(self) -> dict[str, Any]:
        """What ``run.json`` says: sensors as stored, notes, study digest, seconds.

        Raises:
            DataError: the run did not get so far.
        """
        try:
            return dict(json.loads((self.folder / "run.json").read_text()))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder}: a run must have a whole run.json, but {error}") from None

    @property
    def stored(self) -> dict[str, Stored]:
        """What the study knew of each sensor."""
        return {name: restore_stored(described) for name, described in self.facts["sensors"].items()}

    @property
    def study(self) -> Path:
        """The study that the run was made from."""
        return Path(self.facts["study"]["path"])

    def check_unchanged(self, study: Study, what: str) -> None:
        """Refuse other data than the run began with: their rows are not those that a fold was divided into.

        Raises:
            DataError: they are others; ``what`` says who needs them.
        """
        if (self.folder / "run.json").exists() and self.facts["study"]["digest"] != study.digest:
            raise DataError(f"{what} needs the data that began the run, but those of {self.folder} have changed since")

    def arm_folder(self, fold: int, arm: str) -> Path:
        """Where an arm's checkpoints and predictions of a fold are."""
        return self.folder / f"fold-{fold}" / arm

    def folds(self) -> list[int]:
        """Folds whose recipe model is trained to the end."""
        found = self.folder.glob(f"fold-*/fused/{PREDICTIONS}")
        return sorted(int(path.parts[-3].removeprefix("fold-")) for path in found)

    def pretrained(self) -> dict[int, dict[str, Any]]:
        """What is known of every fold whose encoders are pretrained to the end."""
        found = sorted(self.folder.glob(f"fold-*/{PRETRAINED}/{ENCODERS}"))
        return {(facts := load_tensors(path)[1])["fold"]: facts for path in found}

    def results(self, arm: str) -> dict[int, FoldResult]:
        """What an arm answered, by fold."""
        return {
            fold: load_result(self.arm_folder(fold, arm))
            for fold in self.folds()
            if (self.arm_folder(fold, arm) / PREDICTIONS).exists()
        }

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file of the run."""
        write_atomically(self.folder / name, (json.dumps(content, indent=1) + "\n").encode())


def train(
    recipe: Recipe,
    *,
    resume: bool = False,
    fold: int | None = None,
    listener: Listener | None = None,
    drive: Drive = Engine.run,
) -> Run:
    """Run a recipe: every fold, the recipe's model and each sensor alone.

    Args:
        recipe: what to do.
        resume: go on with the newest run of this recipe.
        fold: train only this one.
        listener: hears of everything.
        drive: see `Drive`.

    Raises:
        ConfigError: nothing to resume, or the run to resume was made by another recipe.
        DataError: the data break a rule. A run that was refused before it trained leaves no folder.
        Interrupted: a stop was asked for; the run is saved.
    """
    return _carry_out(recipe, resume, fold, listener or Listener(), drive, trains=True)


def pretrain(recipe: Recipe, *, resume: bool = False, fold: int | None = None, listener: Listener | None = None) -> Run:
    """Run the stages of a recipe's ``pretrain`` alone, in every fold; `train` with ``resume`` goes on from there.

    Args:
        recipe: what to do.
        resume: go on with the newest run of this recipe.
        fold: pretrain only this one.
        listener: hears of everything.

    Raises:
        ConfigError: the recipe has no stage; else as `train`.
        DataError: as `train`.
        Interrupted: as `train`.
    """
    if not recipe.pretrain:
        raise ConfigError("pretrain: must have a stage to be run, but the recipe has none")
    return _carry_out(recipe, resume, fold, listener or Listener(), Engine.run, trains=False)


def _carry_out(
    recipe: Recipe, resume: bool, fold: int | None, listener: Listener, drive: Drive, *, trains: bool
) -> Run:
    """Pretrain, and train where that is wanted, every fold that was chosen."""
    leader = is_leader()
    if trains:
        refuse_mixed(appending(recipe))
    records = read_records(recipe)
    split = divide(recipe, records)
    if fold is not None and not 0 <= fold < len(split.folds):
        raise ConfigError(f"--fold must be one of 0 to {len(split.folds) - 1}, but got {fold}")
    chosen = range(len(split.folds)) if fold is None else [fold]
    asks = trains or recipe.data.labels is not None  # what is pretrained may have no label at all
    hidden = check_labels(recipe, records, split, chosen) if asks else []
    device = pick_device(recipe.train.device)
    run = _resume(recipe) if resume else Run(agree_on(_begin(recipe).folder if leader else Path()))
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    began = time.monotonic()
    with stop_on_signals() as stop, no_empty_folder(run.folder, ours=leader and not resume):
        if not leader:
            wait()  # the leader makes study, features and split; the others find them
        study = open_study(recipe, listener.prepare)
        if resume:
            run.check_unchanged(study, "--resume")
        split = _kept(run, add_unlabelled(recipe, split, study.records), study)
        with located("data.split"):
            notes = check_straddling(split, study, recipe.data.allow_leakage, smoothed_together(recipe, study))
        listener.say(f"run {run.folder}")
        material = Material(recipe, study, device, listener.prepare)
        starts = {
            number: start_of(recipe.init, split, study.records, number, list(recipe.modalities)) for number in chosen
        }
        notes = [*split.notes(study.records), *notes, *hidden, *notes_of_unlabelled(recipe, split, study)]
        notes += [*material.notes, *notes_of(recipe)]
        notes += [*notes_of_looks(recipe), *(notes_of_held_out(recipe) if trains else ())]
        notes += notes_of_generators(recipe) if trains else []
        for note in notes:
            listener.say(f"note: {note}")
        if leader:
            _write_facts(run, recipe, study, material, device, notes)
            wait()
        if trains:
            check_generators(recipe, material, split, chosen, appending(recipe))
        seconds = {}
        for number in chosen:
            start = starts[number]
            if recipe.pretrain:
                heads = {} if start is None else start.heads
                start = pretrain_fold(
                    recipe, material, split, number, run.folder, start=start, listener=listener, stop=stop
                )
                start = replace(start, heads=heads)
            made = []
            if trains and recipe.generators:
                made = generate_fold(recipe, material, split, number, run.folder, listener=listener, stop=stop)
            for arm in arms(recipe) if trains else ():
                folder = run.arm_folder(number, arm.name)
                listener.begin(arm.name, number, len(split.folds), recipe.train.epochs)
                result = train_fold(
                    arm,
                    material,
                    split.folds[number],
                    number,
                    folder,
                    start=start,
                    generated=made,
                    listener=listener,
                    stop=stop,
                    drive=drive,
                )
                seconds[f"{number}/{arm.name}"] = result.seconds
                listener.end(arm.name, number, result.seconds)
        if not leader:
            return run
        facts = run.facts
        facts["seconds"] = {**facts.get("seconds", {}), **seconds}
        facts["wall_seconds"] = facts.get("wall_seconds", 0.0) + time.monotonic() - began
        facts["finished"] = len(run.folds()) == len(split.folds)
        run.write_json("run.json", facts)
    return run


def environment(device: torch.device) -> dict[str, Any]:
    """Machine and versions, as a run keeps them."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "fusionkit": fusionkit.__version__,
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "packages": versions,
    }


def _begin(recipe: Recipe) -> Run:
    folder = stamped_folder(Path(recipe.run.dir) / recipe.name)
    try:
        write_atomically(folder / "recipe.yaml", dump_recipe(recipe).encode())
    except OSError as error:
        raise ConfigError(f"run.dir: must be a folder to write to, but {folder}: {error.strerror}") from None
    return Run(folder)


def _resume(recipe: Recipe) -> Run:
    runs = sorted((Path(recipe.run.dir) / recipe.name).glob("*/recipe.yaml"))
    if not runs:
        raise ConfigError(f"--resume needs an earlier run, but {Path(recipe.run.dir) / recipe.name} has none")
    if runs[-1].read_text() != dump_recipe(recipe):
        raise ConfigError(f"--resume needs the recipe that began the run, but {runs[-1]} differs from it")
    return Run(runs[-1].parent)


def _kept(run: Run, split: Split, study: Study) -> Split:
    path = run.folder / "split.json"
    if path.exists():
        kept = Split.load(path, study.records)
        return with_unlabelled(kept, study.records, split.transductive) if split.unlabelled else kept
    split.save(path)
    return split


def _write_facts(
    run: Run, recipe: Recipe, study: Study, material: Material, device: torch.device, notes: Sequence[str]
) -> None:
    sensors = {name: describe_stored(stored) for name, stored in material.stored.items()}
    before = run.facts if (run.folder / "run.json").exists() else {}
    facts = {
        **before,
        "study": {"path": str(study.path), "digest": study.digest, "records": len(study.records)}
        | ({"unlabelled": study.records.unlabelled} if study.records.unlabelled else {}),
        "sensors": sensors,
        "notes": list(notes),
        "excluded": int(material.excluded[: len(study.records) - study.records.unlabelled].sum()),
        "finished": False,
    }
    run.write_json("run.json", facts)
    run.write_json("environment.json", environment(device))
