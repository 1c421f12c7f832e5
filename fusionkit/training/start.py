"""Encoders that were trained before: where their weights lie, what may be taken, and how training treats them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fusionkit.core.errors import ConfigError, DataError, located
from fusionkit.data.records import Records
from fusionkit.data.splits import Split
from fusionkit.fusion.model import FusionModel
from fusionkit.recipe.sections import InitSection, Recipe, plain
from fusionkit.recipe.yaml import read_file
from fusionkit.training.arm import FUSED
from fusionkit.training.checkpoint import load_tensors

PRETRAINED = "pretrained"
ENCODERS = "encoders.safetensors"
_KEPT = ("encoders", "front_ends", "standardise")
_REASONS = {
    "init.transductive": "began with encoders that",
    "data.unlabelled.transductive": "trained encoders that",
    "data.allow_leakage": "trained encoders that",
}
"""Where a run says why records that are held out may have been seen, and what it did then."""


@dataclass(frozen=True)
class Start:
    """Encoders of one fold.

    Attributes:
        weights: under the names that `FusionModel.state_dict` gives them.
        files: folder of what fitted sensors learned (vocabularies), a folder a sensor.
        source: what messages call it.
        heads: weights of a late node's branches, under such names, too.
    """

    weights: Mapping[str, Tensor]
    files: Path
    source: str
    heads: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def sensors(self) -> list[str]:
        """Whose encoders these are."""
        return sorted({name.split(".")[1] for name in self.weights if name.startswith("encoders.")})

    def take(self, model: FusionModel) -> list[str]:
        """Put the weights into a model's encoders, and into front ends and statistics of the same sensors.

        Returns:
            The sensors that begin so.

        Raises:
            DataError: an encoder is built otherwise.
        """
        own = model.state_dict()
        taken = [name for name in model.graph.modalities if name in model.encoders and name in self.sensors]
        for name in taken:
            parts = tuple(f"{kind}.{name}." for kind in _KEPT)
            wanted = {key for key in own if key.startswith(parts)}
            given = {key: value for key, value in self.weights.items() if key.startswith(parts)}
            lacking = {key for key in wanted if not key.startswith("standardise.")} - set(given)
            wrong = [key for key, value in given.items() if key not in wanted or own[key].shape != value.shape]
            if lacking or wrong:
                key = min([*lacking, *wrong])
                shapes = [tuple(tensors[key].shape) if key in tensors else "none" for tensors in (given, own)]
                raise DataError(
                    f"{self.source}: the encoder of {name!r} must be built as the recipe's, but {key} is {shapes[0]} there and "
                    f"{shapes[1]} here"
                )
            model.load_state_dict(given, strict=False)
        return taken

    def take_heads(self, model: FusionModel, chosen: Mapping[str, str]) -> None:
        """Put heads of the other run's branches on a model's branches; they stay as they are to the bit.

        Args:
            model: the model; branches that it lacks are passed over.
            chosen: by branch, the other run's branch.

        Raises:
            DataError: there is no such head, or it is built otherwise.
        """
        for branch, other in chosen.items():
            if branch not in model.branch_heads:
                continue
            kept = f"branch_heads.{other}."
            given = {key.removeprefix(kept): value for key, value in self.heads.items() if key.startswith(kept)}
            own = {key: tuple(value.shape) for key, value in model.branch_heads[branch].state_dict().items()}
            if {key: tuple(value.shape) for key, value in given.items()} != own:
                known = sorted({key.split(".")[1] for key in self.heads})
                what = f"it is built otherwise than that of {branch!r}" if given else f"it has those of {known}"
                raise DataError(f"{self.source}: the head of {other!r} must be one to be taken, but {what}")
            model.branch_heads[branch].load_state_dict(given)
            model.branch_heads[branch].requires_grad_(False)


class HeldBack:
    """Parts that were trained before: frozen for some epochs, then trained by a smaller rate.

    A frozen part is in evaluation mode, so that it is the same to the bit afterwards, running statistics included.

    Args:
        parts: the modules.
        frozen_epochs: epochs before they train; infinity for never.
        lr_scale: factor on the rate of their parameters.
    """

    def __init__(self, parts: Iterable[nn.Module], frozen_epochs: float, lr_scale: float) -> None:
        self.parts, self.frozen_epochs, self.lr_scale = list(parts), frozen_epochs, lr_scale
        self.trained = [[p for p in part.parameters() if p.requires_grad] for part in self.parts]
        if frozen_epochs == float("inf"):  # an optimiser that is made now never knows them
            self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Freeze or free the parts as this epoch wants, which has just been put into training mode."""
        frozen = epoch < self.frozen_epochs
        for part, trained in zip(self.parts, self.trained, strict=True):
            for parameter in trained:
                parameter.requires_grad_(not frozen)
            if frozen:
                part.eval()

    def scales(self) -> dict[int, float]:
        """Factor on the learning rate, by the parameter's id; 1 for all that are not named."""
        return {id(p): self.lr_scale for trained in self.trained for p in trained} if self.lr_scale != 1 else {}


def hold_back(model: FusionModel, sensors: Iterable[str], init: InitSection) -> HeldBack:
    """The encoders of some sensors, and their front ends where those train, as the recipe wants them treated."""
    parts = [model.encoders[name] for name in sensors]
    parts += [model.front_ends[name] for name in sensors if name in model.front_ends]
    return HeldBack(parts, init.frozen_epochs, init.lr_scale)


def encoder_tensors(model: FusionModel, sensors: Iterable[str]) -> dict[str, Tensor]:
    """What `Start` takes of a model: encoders, front ends that train, and statistics of some sensors."""
    parts = tuple(f"{kind}.{name}." for kind in _KEPT for name in sensors)
    return {key: value for key, value in model.state_dict().items() if key.startswith(parts)}


def read_pretrained(run: Path, fold: int, digest: str | None = None) -> Start:
    """The encoders of a fold as they were pretrained.

    Args:
        run: the run's folder.
        fold: the fold's number.
        digest: of the split that they must be of; None takes any.

    Raises:
        DataError: the fold is not pretrained to the end, the file is broken, or it is of another fold or split.
    """
    folder = run / f"fold-{fold}" / PRETRAINED
    weights, facts = load_tensors(folder / ENCODERS)
    if digest is not None and (facts.get("split"), facts.get("fold")) != (digest, fold):
        raise DataError(f"{folder / ENCODERS}: encoders must be of this fold and split, but these are not")
    return Start(weights, folder / "files", str(folder))


def read_start(run: Path, fold: int) -> Start:
    """The encoders of a run's fold: as trained where that is done, else as pretrained.

    Raises:
        DataError: the fold has neither, or a file is broken.
    """
    trained = run / f"fold-{fold}" / FUSED
    if (trained / "predictions.safetensors").exists():
        tensors, _ = load_tensors(trained / "best.safetensors")
        kept = "model.model."  # the objective's model, not what only trained it
        named = {name.removeprefix(kept): value for name, value in tensors.items() if name.startswith(kept)}
        weights = {name: value for name, value in named.items() if name.startswith(tuple(f"{k}." for k in _KEPT))}
        heads = {name: value for name, value in named.items() if name.startswith("branch_heads.")}
        return Start(weights, trained / "files", str(trained), heads)
    if (run / f"fold-{fold}" / PRETRAINED / ENCODERS).exists():
        return read_pretrained(run, fold)
    raise DataError(f"{run}: fold {fold} must be trained or pretrained to the end, but it is neither")


def start_of(init: InitSection, split: Split, records: Records, number: int, sensors: Collection[str]) -> Start | None:
    """The encoders of another run that a fold begins with; None where the recipe names none.

    Nothing of validation or test parts may have been seen: the other run must have the same split, of which the same
    fold is taken, unless the recipe gives a reason why another will do. A run that began with such a reason hands it on.

    Raises:
        ConfigError: the other run has another split, or a reason of its own why it may have seen what it held out, and this
            one gives none.
        DataError: it is no run, a file of it is broken, or it has an encoder of none of the ``sensors``.
    """
    if init.from_ is None:
        return None
    run = Path(init.from_)
    with located("init.from"):
        if not (run / "recipe.yaml").is_file():
            raise DataError(f"{run}: a run must be a folder with a recipe.yaml, but there is none")
        if _digest(run, records) == split.digest:
            start, made_for = read_start(run, number), _made_for(run, number)
            same = made_for is None or (made_for.get("split"), made_for.get("fold")) == (split.digest, number)
        else:
            there = (run / f"fold-{number}").is_dir()
            start, same = read_start(run, number if there else 0), False
        if _section(run, "data", "unlabelled"):  # records beside the split are kept apart by what it goes by
            apart = _section(run, "data", "split")
            same = same and (apart.get("by"), apart.get("column")) == (split.options.by, split.options.column)
        if not same and init.transductive is None:
            raise ConfigError(
                f"{run} has another split, so that it may have seen records that this one validates or tests on; give the same "
                f"data.split, or init.transductive='<reason>'"
            )
        for key, what in _REASONS.items():
            *sections, name = key.split(".")
            before = _section(run, *sections).get(name)
            if before is not None and init.transductive is None:
                raise ConfigError(
                    f"{run} {what} may have seen records that this run validates or tests on (its {key}: {before!r}); give "
                    f"init.transductive='<reason>', too"
                )
        if not set(sensors) & set(start.sensors):
            theirs = ", ".join(start.sensors)
            raise DataError(f"{start.source} must have an encoder of {' or '.join(sensors)}, but has those of {theirs}")
        if init.heads and not start.heads:
            raise DataError(
                f"{run}: heads must be those of a late node's branches of a trained run, but there are none"
            )
    return start


def _digest(run: Path, records: Records) -> str | None:
    """Of a run's split; None where it is of other records, or was changed."""
    try:
        return Split.load(run / "split.json", records).digest
    except DataError:
        return None


def _section(run: Path, *names: str) -> dict[str, Any]:
    """A section of the recipe that a run was made by, or a mapping in one."""
    found: Any = read_file(run / "recipe.yaml", str(run / "recipe.yaml")).data
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return dict(found) if isinstance(found, dict) else {}


def _made_for(run: Path, number: int) -> dict[str, Any] | None:
    """Fold and split that pretrained encoders say they are of; None where trained ones are taken."""
    folder = run / f"fold-{number}"
    if (folder / FUSED / "predictions.safetensors").exists():
        return None
    return load_tensors(folder / PRETRAINED / ENCODERS)[1]


def notes_of(recipe: Recipe) -> list[str]:
    """What a report must say of a start that is not guarded, or that knew labels which are hidden now."""
    init, notes = recipe.init, []
    if init.from_ is None:
        return []
    if init.transductive is not None:
        seen = f"encoders come from {init.from_}, which may have seen records of validation and test parts"
        notes.append(f"transductive: {seen}: {init.transductive}")
    if recipe.data.labels is not None:
        now, then = plain(recipe.data.labels), _section(Path(init.from_), "data").get("labels")
        if then != now:
            notes.append(
                f"encoders come from {init.from_}, which may have learned from labels that data.labels hides here"
            )
    return notes
