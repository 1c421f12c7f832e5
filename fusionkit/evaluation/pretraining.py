"""What pretraining did, for the report of a run: loss, and whether embeddings collapsed."""

import json
from html import escape
from pathlib import Path
from typing import Any

from fusionkit.evaluation import html, plots
from fusionkit.pretraining.collapse import COLLAPSED
from fusionkit.training.checkpoint import write_atomically
from fusionkit.training.history import read_history
from fusionkit.training.run import Run
from fusionkit.training.start import PRETRAINED

MEASURES = ("spread", "alignment", "uniformity")


def pretraining_parts(run: Run) -> list[str]:
    """A section for the report; nothing where no fold is pretrained."""
    folds = run.pretrained()
    if not folds:
        return []
    histories = {f"fold {fold}": read_history(run.arm_folder(fold, PRETRAINED) / "history.csv") for fold in folds}
    header = ["fold", "sensor", *MEASURES, "records", "records/s"]
    lines = []
    for fold, facts in folds.items():
        for name, found in measures(run, fold).items():
            cells = [str(fold), name, *(f"{found[what]:.3f}" for what in MEASURES)]
            cells += [str(facts["records"]), f"{facts['records_per_second']:,.0f}"]
            lines.append((cells, name in facts["collapsed"]))
    caption = (
        "training records after every epoch, lines of all folds; spread 1 is everywhere alike and 0 collapsed, alignment 0 is "
        "two looks that agree, uniformity -4 is best"
    )
    return [
        "<h2>Pretraining</h2>",
        *(f'<p class="note">{escape(line)}</p>' for line in collapse_lines(folds)),
        html.figure(plots.svg_text(plots.pretraining_curves(histories, COLLAPSED)), caption),
        f"<details open><summary>embeddings after the last epoch</summary>{html.table(header, lines)}</details>",
    ]


def measures(run: Run, fold: int) -> dict[str, dict[str, float]]:
    """Spread, alignment and uniformity of every sensor after the last epoch that trained it."""
    last: dict[str, float] = {}
    for entry in read_history(run.arm_folder(fold, PRETRAINED) / "history.csv"):
        last |= entry
    sensors = [name.removeprefix("spread_") for name in last if name.startswith("spread_")]
    return {name: {what: last[f"{what}_{name}"] for what in MEASURES} for name in sensors}


def collapse_lines(folds: dict[int, dict[str, Any]]) -> list[str]:
    """What must be said of sensors whose embeddings are all alike."""
    return [
        f"fold {fold}: embeddings of {', '.join(facts['collapsed'])} are collapsed: all records look alike to their encoders"
        for fold, facts in folds.items()
        if facts["collapsed"]
    ]


def write_pretraining_report(run: Run) -> Path:
    """Write the report of a run that is pretrained, but not trained, and return its path."""
    facts, environment = run.facts, json.loads((run.folder / "environment.json").read_text())
    name, recipe = run.recipe.name, (run.folder / "recipe.yaml").read_text()
    body = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="muted">{escape(str(run.folder))}, fusionkit {escape(environment["fusionkit"])}</p>',
        *(f'<p class="note">{escape(note)}</p>' for note in facts["notes"]),
        *pretraining_parts(run),
        "<h2>Settings</h2>",
        f"<details><summary>recipe.yaml</summary><pre>{escape(recipe)}</pre></details>",
        html.versions(environment, facts),
    ]
    path = run.folder / "report.html"
    write_atomically(path, html.page(name, body).encode())
    return path
