"""What generators did, for the report of a run: how they learned, how many records they made, and how good those are."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import torch

from fusionkit.core.modality import Array
from fusionkit.data.splits import Fold, Split
from fusionkit.data.study import Study
from fusionkit.evaluation import html, plots
from fusionkit.evaluation.generation.drawings import draw_learning
from fusionkit.evaluation.generation.of_fold import fold_quality
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.generating import GENERATED, RECORDS, find_origin, read_lesson, read_records
from fusionkit.training.generator import COLLAPSED
from fusionkit.training.history import read_history
from fusionkit.training.material import Material
from fusionkit.training.run import Run


def generated_parts(run: Run, study: Study, split: Split) -> list[str]:
    """A section for the report; nothing where no record was generated."""
    folders = {sensor: f"{GENERATED}/{sensor}" for sensor in run.recipe.generators}
    facts = {
        sensor: {
            fold: load_tensors(run.arm_folder(fold, folder) / RECORDS)[1]
            for fold in run.folds()
            if (run.arm_folder(fold, folder) / RECORDS).exists()
        }
        for sensor, folder in folders.items()
    }
    facts = {sensor: found for sensor, found in facts.items() if found}
    if not facts:
        return []
    material = Material(run.recipe, study, torch.device("cpu"))
    parts = ["<h2>Generated records</h2>", _INTRODUCTION]
    for sensor, found in facts.items():
        parts += [
            f"<h3>{escape(sensor)}</h3>",
            *_made(run, sensor, found),
            *_quality(run, material, split, sensor, min(found)),
        ]
    return parts


_INTRODUCTION = (
    "<p class='muted'>Made of each fold's training records and appended to training alone; all scores of this report are of "
    "real records.</p>"
)


def _made(run: Run, sensor: str, found: dict[int, dict[str, Any]]) -> Iterator[str]:
    """How many there are of every fold and class, and how the generators learned."""
    yield from (f'<p class="note">{escape(line)}</p>' for line in _warnings(found))
    classes = next(iter(found.values()))["classes"]
    lines = [
        (
            [
                str(fold),
                *(
                    f"{kept:,}\nof {wanted:,} wanted, {tried:,} made"
                    for kept, wanted, tried in zip(facts["kept"], facts["wanted"], facts["tried"], strict=True)
                ),
                f"{facts['seconds']:.1f}",
            ],
            False,
        )
        for fold, facts in found.items()
    ]
    kind = run.recipe.generators[sensor].kind
    header = ["fold", *classes, "seconds\nof training"]
    yield f"<details open><summary>{escape(kind)}: records by class</summary>{html.table(header, lines)}</details>"
    files = {fold: run.arm_folder(fold, f"{GENERATED}/{sensor}") / "history.csv" for fold in found}
    yield from learning_parts({fold: read_history(path) for fold, path in files.items() if path.exists()}, kind)


def learning_parts(histories: Mapping[int, Sequence[Mapping[str, float]]], kind: str) -> list[str]:
    """Curves of a generator's training; nothing where it was not trained.

    Args:
        histories: epochs by fold.
        kind: of the generator.
    """
    figure = draw_learning({f"fold {fold}": history for fold, history in histories.items()})
    caption = f"how {kind} learned: means of every epoch; spread and reach of real records are 1"
    return [] if figure is None else [html.figure(plots.svg_text(figure), caption)]


def _warnings(found: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    """What must be said of the generators of a sensor, a line for all folds."""
    collapsed = [f"{fold} ({', '.join(facts['collapsed'])})" for fold, facts in found.items() if facts["collapsed"]]
    if collapsed:
        yield (
            f"collapsed in fold {', '.join(collapsed)}: generated records of these classes vary less than {COLLAPSED:.0%} as "
            f"much as real ones"
        )
    diverged = [str(fold) for fold, facts in found.items() if facts["diverged"]]
    if diverged:
        yield f"diverged in fold {', '.join(diverged)}: generated records lie far from all real ones"
    few = [
        f"{fold} ({kept:,} of {wanted:,} {name})"
        for fold, facts in found.items()
        for name, kept, wanted in zip(facts["classes"], facts["kept"], facts["wanted"], strict=True)
        if kept < wanted
    ]
    if few:
        yield f"fewer records were kept than wanted in fold {', '.join(few)}"


def _quality(run: Run, material: Material, split: Split, sensor: str, fold: int) -> list[str]:
    """Measures and pictures of one fold's records."""
    origin = find_origin(run.recipe, material, split, fold, sensor)
    made = read_records(origin, run.arm_folder(fold, f"{GENERATED}/{sensor}") / RECORDS)
    part, rows = _held_out(split.folds[fold])
    return fold_quality(origin, read_lesson(origin), made, rows, part).parts


def _held_out(fold: Fold) -> tuple[str, Array]:
    """Records that neither the generator nor a judgement of test needs: validation, else test."""
    return ("validation", fold.validation) if len(fold.validation) else ("test", fold.test)
