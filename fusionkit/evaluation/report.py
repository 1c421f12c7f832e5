"""`report.html`: one file, no network, everything a reader needs to believe or doubt a run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusionkit.core.registry import modalities
from fusionkit.data.records import Records
from fusionkit.data.splits import Split
from fusionkit.data.study import Study
from fusionkit.evaluation import html, plots
from fusionkit.evaluation.describe import describe_model
from fusionkit.evaluation.generation.report import generated_parts
from fusionkit.evaluation.pictures import Signals, class_pictures
from fusionkit.evaluation.pretraining import pretraining_parts
from fusionkit.evaluation.summary import Summary, TaskSummary
from fusionkit.fusion.draw import svg
from fusionkit.recipe.build import needs_features
from fusionkit.training.arm import FUSED
from fusionkit.training.checkpoint import write_atomically
from fusionkit.training.history import read_history
from fusionkit.training.material import Material
from fusionkit.training.records import add_unlabelled
from fusionkit.training.run import Run
from fusionkit.training.trained import Trained, load_trained


def write_report(run: Run, summary: Summary) -> Path:
    """Write the report of a run and return its path."""
    path = run.folder / "report.html"
    write_atomically(path, build_report(run, summary).encode())
    return path


def build_report(run: Run, summary: Summary) -> str:
    """The report as HTML."""
    facts, environment = run.facts, json.loads((run.folder / "environment.json").read_text())
    with Study.open(run.study) as study:
        trained = load_trained(run, summary.folds[0])
        notes = describe_model(trained.recipe, trained.model, study, trained.tasks)
        split = add_unlabelled(run.recipe, Split.load(run.folder / "split.json", study.records), study.records)
        body = [
            f"<h1>{escape(summary.name)}</h1>",
            f'<p class="muted">{escape(str(run.folder))}, fusionkit {escape(environment["fusionkit"])}</p>',
            *(f'<p class="lead">{escape(_verdict(name, task))}</p>' for name, task in summary.tasks.items()),
            *(f'<p class="note">{escape(note)}</p>' for note in facts["notes"]),
            "<h2>Fusion</h2>",
            html.figure(
                svg(
                    trained.recipe.graph,
                    {n: f"{_lines(note['shapes'])}\n{note['parameters']:,} parameters" for n, note in notes.items()},
                ),
                "",
            ),
            "<h2>Tasks</h2>",
            *(_task(name, task, summary) for name, task in summary.tasks.items()),
            "<h2>Training</h2>",
            _training(run, summary, facts),
            *pretraining_parts(run),
            *generated_parts(run, study, split),
            *_sensors(run, trained, study, summary),
            "<h2>Split</h2>",
            split_table(split, study.records),
            "<h2>Settings</h2>",
            f"<details><summary>recipe.yaml</summary><pre>{escape((run.folder / 'recipe.yaml').read_text())}</pre></details>",
            html.versions(environment, facts),
        ]
    return html.page(summary.name, body)


def _verdict(name: str, task: TaskSummary) -> str:
    """One sentence per task that claims no more than its intervals do."""
    rows = {row.name: row.scores[task.primary] for row in task.rows}
    fused, metric = rows["fused"], task.primary.replace("_", " ")
    text = f"{name}: {metric} {fused.value:.3f}"
    if np.isfinite(fused.low):
        text += f" (95 % interval {fused.low:.3f} to {fused.high:.3f} over {task.groups} groups)"
    base = next(row for row in task.rows if row.note == "the training prior")
    text += f"; {base.name} answers reach {base.scores[task.primary].value:.3f}"
    if "best single" in rows:
        text += f", the best single sensor (chosen on validation) {rows['best single'].value:.3f}"
    return text + "."


def _task(name: str, task: TaskSummary, summary: Summary) -> str:
    fused = task.answers["fused"]
    figures = [html.figure(plots.svg_text(plots.score_bars(task.rows, task.primary)), "held-out records, folds pooled")]
    if task.kind in ("classification", "ordinal"):
        figures.append(
            html.figure(plots.svg_text(plots.confusion(fused.prediction, fused.target, task.classes)), "confusion")
        )
        figures.append(html.figure(plots.svg_text(plots.reliability(fused.prediction, fused.target)), "reliability"))
    elif task.kind == "regression":
        figures.append(
            html.figure(plots.svg_text(plots.values(fused.prediction, fused.target)), "answers and right values")
        )
    figures.append(
        html.figure(
            plots.svg_text(plots.group_spread(task.by_group, task.primary)), f"every {summary.by} of the test parts"
        )
    )
    metrics = list(task.rows[0].scores)
    header = ["model", *(metric.replace("_", " ") for metric in metrics), "folds"]
    lines = []
    for row in task.rows:
        cells = [row.name + (f"\n{row.note}" if row.note else "")]
        for metric in metrics:
            score = row.scores[metric]
            span = f"\n[{score.low:.3f}, {score.high:.3f}]" if np.isfinite(score.low) else ""
            cells.append(f"{score.value:.3f}{span}")
        cells.append(_folds(row.folds))
        lines.append((cells, row.name == "fused"))
    groups = [([group, str(count), f"{value:.3f}"], False) for group, (count, value) in sorted(task.by_group.items())]
    return (
        f"<h3>{escape(name)} <span class='muted'>({escape(task.kind)}, {task.labelled} labelled records of "
        f"{task.groups} {escape(summary.by)}s)</span></h3>{''.join(figures)}"
        f"<details open><summary>all metrics, 95 % bootstrap intervals over {escape(summary.by)}s</summary>"
        f"{html.table(header, lines)}</details>"
        f"<details><summary>every {escape(summary.by)}</summary>"
        f"{html.table([summary.by, 'records', task.primary.replace('_', ' ')], groups)}</details>"
    )


def _folds(scores: Sequence[float]) -> str:
    """The score of every fold; of more than ten, mean and standard deviation over folds, as the literature reports them."""
    if len(scores) <= 10:
        return " ".join(f"{value:.3f}" for value in scores)
    known = np.array(scores)[np.isfinite(scores)]
    if len(known) < 2:
        return f"{len(known)} of {len(scores)} defined"
    return f"{known.mean():.3f} +- {known.std(ddof=1):.3f}\nmean and deviation of {len(known)}"


def _training(run: Run, summary: Summary, facts: Mapping[str, Any]) -> str:
    histories = {f"fold {fold}": read_history(run.arm_folder(fold, FUSED) / "history.csv") for fold in summary.folds}
    seconds = facts.get("seconds", {})
    lines = [([key, f"{value:.1f}"], key.endswith(f"/{FUSED}")) for key, value in sorted(seconds.items())]
    return (
        html.figure(plots.svg_text(plots.learning_curves(histories)), "the recipe's model")
        + f"<details><summary>seconds</summary>{html.table(['fold/model', 'seconds'], lines)}</details>"
    )


def _sensors(run: Run, trained: Trained, study: Study, summary: Summary) -> Iterable[str]:
    """Windows and spectra of every time series, and what a sensor draws of its features, for the first task with classes."""
    task = next((name for name, found in summary.tasks.items() if found.kind == "classification"), None)
    if task is None:
        return
    column = trained.recipe.tasks[task].column
    target = trained.tasks[task].encode(study.records.known(column), task)
    classes, records = summary.tasks[task].classes, study.records
    material = Material(trained.recipe, study, torch.device("cpu"))
    parts: list[str] = []
    for name in trained.recipe.graph.modalities:
        modality, sensor = trained.modalities[name], study.sensors[name]
        bands = modality.hertz() or modalities.build(modality.kind).hertz()
        signals = Signals(sensor.stored, sensor.slice, sensor.present, records.id, records.subject, bands)
        for title, picture in class_pictures(signals, target, classes).items():
            parts.append(html.figure(plots.svg_text(picture.figure()), f"{name}: {title}"))
        if name not in needs_features(trained.recipe) or modality.fitted:
            continue
        features = material.features(name, modality).values
        drawn = modality.figures(np.asarray(features), target, classes, sensor.stored)
        parts += [html.figure(plots.svg_text(figure), f"{name}: {title}") for title, figure in drawn.items()]
    if parts:
        yield f"<h2>Sensors</h2><p class='muted'>Signals and features of all records by class of {escape(task)}.</p>"
        yield from parts


def split_table(split: Split, records: Records) -> str:
    """Where a split is kept, and the names of what it keeps whole by fold and part."""
    by = split.options.by
    names, groups = records.group_names(by), records.group(by)
    lines = []
    for number, fold in enumerate(split.folds):
        for part, rows in fold.sets().items():
            members = sorted({names[g] for g in groups[rows]})
            shown = ", ".join(members[:40]) + (", ..." if len(members) > 40 else "")
            lines.append(([f"{number} {part}", str(len(rows)), str(len(members)), shown], False))
    return (
        f"<p>Saved in <code>split.json</code>, digest <code>{escape(split.digest[:16])}</code>.</p>"
        f"<details><summary>which {escape(by)} is where</summary>"
        f"{html.table(['fold', 'records', f'{by}s', 'names'], lines)}</details>"
    )


def _lines(text: str) -> str:
    """Shapes in lines short enough for a box of the drawing."""
    return text.replace(", features", "\nfeatures").replace(" a step, ", " a step\n").replace(", heads", "\nheads")
