"""How good the records of a study's augmenters are: of one fold and seed, as its page shows them."""

from dataclasses import replace
from html import escape

from fusionkit.compare.augmentation.augmenting import Augmentation
from fusionkit.compare.augmentation.gains import Found
from fusionkit.compare.augmentation.judging import Cell
from fusionkit.data.splits import Split
from fusionkit.data.study import Study
from fusionkit.evaluation.generation.of_fold import fold_quality
from fusionkit.evaluation.generation.report import learning_parts
from fusionkit.training.device import pick_device
from fusionkit.training.generating import GENERATED
from fusionkit.training.history import read_history
from fusionkit.training.interruption import StopRequest
from fusionkit.training.listener import Listener
from fusionkit.training.material import Material


def quality_parts(made: Augmentation, found: Found) -> list[str]:
    """Parts of a page: how a sensor's augmenter learned in every fold, and its records beside real ones in the first.

    All is of the first seed. Held-out records are those of validation, or of test where there are none; nothing is chosen by
    them.

    Args:
        made: the study.
        found: of the sensor.
    """
    sensor, done = found.sensor, [score for score in made.scores if score.sensor == found.sensor]
    seed = min(score.seed for score in done)
    folds = sorted({score.fold for score in done if score.seed == seed})
    recipe = replace(made.recipe, seed=seed)
    folders = {fold: made.folder / f"fold-{fold}" / f"seed-{seed}" for fold in folds}
    histories = {fold: folder / GENERATED / sensor / "history.csv" for fold, folder in folders.items()}
    curves = learning_parts({fold: read_history(path) for fold, path in histories.items() if path.exists()}, found.kind)
    amount = found.add or max(one.amount for one in found.compared)
    fold = folds[0]
    with Study.open(made.study) as study:
        material = Material(recipe, study, pick_device(recipe.train.device))
        split = Split.load(made.folder / "split.json", study.records)
        cell = Cell(recipe, material, split, fold, seed, sensor, folders[fold], Listener(), StopRequest())
        part = "validation" if len(split.folds[fold].validation) else "test"
        rows = split.folds[fold].parts()[part]
        records = cell.generated(found.use, amount)
        judged = fold_quality(cell.origin, cell.lesson, records, rows, part).parts
    said = f"Records of {found.kind} ({found.use}, {amount:g} times, seed {seed}) beside real ones"
    return [f"<h3>{escape(said)}</h3>", *curves, *judged]
