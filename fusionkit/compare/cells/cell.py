"""One cell of a comparison: a strategy, a fold and a seed, trained in a folder of its own and never twice."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fusionkit.compare.cells.key import cell_key
from fusionkit.compare.conditions.asked_again import ask_again
from fusionkit.compare.conditions.corruption import Faults, keep_faults, read_faults
from fusionkit.compare.conditions.subsets import keep_subsets, read_subsets
from fusionkit.core.errors import DataError, FusionkitError
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.sections import Recipe
from fusionkit.recipe.write import dump_recipe
from fusionkit.training.arm import FUSED
from fusionkit.training.checkpoint import write_atomically
from fusionkit.training.engine import Drive, Engine
from fusionkit.training.fold import PREDICTIONS
from fusionkit.training.interruption import Interrupted
from fusionkit.training.listener import Listener
from fusionkit.training.run import Run, train

DONE = "cell.json"
LOG = "log.txt"
LOCK = "cell.lock"


@dataclass(frozen=True)
class Cell:
    """What one process trains at a time; plain text, so that it travels to any machine.

    Attributes:
        key: see `cell_key`; also its folder's name.
        strategy: label.
        recipe: resolved, as YAML.
        fold: which one.
        seed: of weights and order, written into the recipe.
        folder: where it is kept.
        faults: that the trained model is asked again under, and with every subset of its sensors; None asks nothing.
        study: digest of the study that it must be trained on; empty where any will do.
        split: digest of the split that it must be trained on; empty where any will do.
    """

    key: str
    strategy: str
    recipe: str
    fold: int
    seed: int
    folder: str
    faults: Faults | None = None
    study: str = ""
    split: str = ""

    @property
    def asked(self) -> bool:
        """Whether the trained model has been asked all that it is to be asked again."""
        folder, faults = Path(self.folder), self.faults
        return faults is None or (read_subsets(folder) is not None and read_faults(folder, faults) is not None)

    @property
    def done(self) -> Path:
        """The file that says how it ended, written last."""
        return Path(self.folder) / DONE


@dataclass(frozen=True)
class Ended:
    """How a cell ended.

    Attributes:
        key: of the cell.
        run: the run folder it left; empty where it failed.
        problem: why it failed, in a line; empty where it did not.
        seconds: of its training.
    """

    key: str
    run: str
    problem: str
    seconds: float


def make_cell(
    strategy: str,
    recipe: Recipe,
    fold: int,
    seed: int,
    *,
    study: str,
    split: str,
    cells: Path,
    faults: Faults | None = None,
) -> Cell:
    """A cell of these settings.

    Args:
        strategy: its label.
        recipe: the strategy's; the seed is written into it, and its run goes into the cell's folder.
        fold: which one.
        seed: of weights and order.
        study: digest of the study.
        split: digest of the split.
        cells: folder of all cells.
        faults: see `Cell`; they change no key, for they change nothing of the training.
    """
    recipe = replace(recipe, seed=seed)
    key = cell_key(recipe, fold, study=study, split=split)
    folder = cells / key
    cache = recipe.data.cache or str(Path(recipe.run.dir) / ".cache")
    data = recipe.data.model_copy(update={"cache": cache})
    run = recipe.run.model_copy(update={"dir": str(folder)})
    own = replace(recipe, name="run", data=data, run=run)
    return Cell(key, strategy, dump_recipe(own), fold, seed, str(folder), faults, study, split)


def read_ended(cell: Cell) -> Ended | None:
    """How it ended, if it did so before; None for what has yet to be trained, or whose run is not there."""
    try:
        said: Mapping[str, Any] = json.loads(cell.done.read_text())
        ended = Ended(str(said["key"]), str(said["run"]), str(said["problem"]), float(said["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    run = Path(ended.run)
    whole = run.parent.parent == Path(cell.folder) and (run / f"fold-{cell.fold}" / FUSED / PREDICTIONS).is_file()
    return ended if ended.key == cell.key and (ended.problem or whole) else None


def run_cell(cell: Cell, listener: Listener | None = None, drive: Drive = Engine.run) -> Ended:
    """Train a cell in this process, from where it was left if it was begun, and ask what it is to be asked again.

    A mistake in recipe or data is its end.

    Raises:
        Interrupted: a stop was asked for; what is trained is saved.
    """
    try:
        recipe = parse_recipe(cell.recipe, f"cell {cell.key}")
        run = train(recipe, resume=_begun(cell, recipe), fold=cell.fold, listener=listener, drive=drive)
        _check_same(cell, run)
        if cell.faults is not None and not cell.asked:
            again = ask_again(run, cell.fold)
            keep_subsets(again, Path(cell.folder))
            keep_faults(again, Path(cell.folder), cell.faults)
        ended = Ended(cell.key, str(run.folder), "", run.results(FUSED)[cell.fold].seconds)
    except Interrupted:
        raise
    except FusionkitError as error:
        ended = Ended(cell.key, "", str(error), 0.0)
    write_ended(cell, ended)
    return ended


def _begun(cell: Cell, recipe: Recipe) -> bool:
    """Whether the newest run in its folder is one to go on with: of this very recipe, and of no other data or split."""
    runs = sorted(Path(cell.folder).glob("run/*/recipe.yaml"))
    if not runs or runs[-1].read_text() != dump_recipe(recipe):
        return False
    try:
        _check_same(cell, Run(runs[-1].parent))
    except DataError:
        return False
    return True


def _check_same(cell: Cell, run: Run) -> None:
    """Refuse a run of other data or another split than the comparison's: another machine may have other files."""
    for name, wanted, got in (
        ("data", cell.study, _read(run.folder / "run.json").get("study", {}).get("digest")),
        ("split", cell.split, _read(run.folder / "split.json").get("digest")),
    ):
        if wanted and got not in (None, wanted):
            raise DataError(f"{run.folder}: the {name} must be the comparison's, but it was trained on another's")


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of a run; nothing where the run did not get so far."""
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except ValueError as error:
        raise DataError(f"{path}: must be whole, but {error}") from None


def write_ended(cell: Cell, ended: Ended) -> None:
    """Keep how a cell ended."""
    said = {**asdict(ended), "strategy": cell.strategy, "fold": cell.fold, "seed": cell.seed}
    write_atomically(cell.done, (json.dumps(said, indent=1) + "\n").encode())


def open_run(ended: Ended) -> Run:
    """The run that a cell left."""
    return Run.open(Path(ended.run))
