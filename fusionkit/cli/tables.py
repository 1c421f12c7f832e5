"""Scores as tables for the terminal."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from fusionkit.compare.augmentation.gains import Found, called, judged_by, say, signed, warnings
from fusionkit.compare.augmentation.scores import NONE
from fusionkit.compare.cells.cell import Cell
from fusionkit.compare.findings.cost import Cost
from fusionkit.compare.findings.verdict import Judged, counted
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.probing import Probed
from fusionkit.evaluation.repeated import Gained
from fusionkit.evaluation.summary import Summary


def print_scores(screen: Console, summary: Summary) -> None:
    """One table a task: every model and baseline with 95 % intervals over groups."""
    for name, task in summary.tasks.items():
        shown = list(next(iter(task.rows)).scores)[:4] if task.rows else []
        order = [task.primary, *[metric for metric in shown if metric != task.primary]]
        title = f"{name} ({task.kind}): {task.labelled} records of {task.groups} {summary.by}s, held out"
        table = Table(title=title, title_justify="left")
        table.add_column("model")
        for metric in order:
            table.add_column(metric.replace("_", " "), justify="right")
        for row in task.rows:
            cells = [_said(row.scores[m]) for m in order]
            table.add_row(row.name + (f" ({row.note})" if row.note else ""), *cells)
        screen.print(table)


def print_intervals(
    screen: Console,
    scores: Mapping[str, Mapping[str, Interval]],
    noisy: Mapping[str, Mapping[str, Interval]] | None = None,
) -> None:
    """Every metric of every task, a line each; beside it what is left with noise, where that was asked for."""
    table = Table("task", "metric", "value [95 % over subjects]", *([] if noisy is None else ["with noise"]))
    for task, found in scores.items():
        for metric, interval in found.items():
            more = [] if noisy is None else [_said(noisy[task][metric])]
            table.add_row(task, metric.replace("_", " "), _said(interval), *more)
    screen.print(table)


def print_probe(screen: Console, probed: Probed) -> None:
    """Every measure of a run's encoders beside the same encoders untrained."""
    asked = "held-out" if probed.part == "test" else "validation"
    title = f"{probed.weights} encoders on {asked} records, 95 % over {probed.by}s"
    table = Table(title=title, title_justify="left")
    for column in ("task", "sensor", "measure", "of"):
        table.add_column(column)
    for column in ("records", probed.weights, "untrained"):
        table.add_column(column, justify="right")
    for one in probed.measured:
        metric = one.metric.replace("_", " ")
        numbers = (str(one.records), _said(one.learned), _said(one.untrained))
        table.add_row(one.task, one.sensor, one.measure, metric, *numbers)
    screen.print(table)


def print_gains_over_seeds(screen: Console, gained: Sequence[Gained], weights: str, seeds: Sequence[int]) -> None:
    """Every measure's mean over runs of several seeds, and what was gained."""
    said = f"seeds {', '.join(map(str, seeds))}: means, and the gain with 95 % over seeds (paired, Student's t)"
    table = Table(title=said, title_justify="left")
    for column in ("task", "sensor", "measure", "of"):
        table.add_column(column)
    for column in (weights, "untrained", "gain"):
        table.add_column(column, justify="right")
    for one in gained:
        means = (f"{sum(values) / len(values):.3f}" for values in (one.learned, one.untrained))
        gain = f"{one.gain.value:+.3f} [{one.gain.low:+.3f}, {one.gain.high:+.3f}]"
        table.add_row(one.task, one.sensor, one.measure, one.metric.replace("_", " "), *means, gain)
    screen.print(table)


def print_measures(screen: Console, folds: Mapping[int, Mapping[str, Mapping[str, float]]]) -> None:
    """What pretraining made of every sensor's embedding, a line a fold and sensor."""
    table = Table("fold", "sensor", "spread (0 collapsed, 1 best)", "alignment (0 best)", "uniformity (-4 best)")
    for fold, sensors in folds.items():
        for name, found in sensors.items():
            table.add_row(str(fold), name, *(f"{value:.3f}" for value in found.values()))
    screen.print(table)


def print_gains(screen: Console, found: Sequence[Found]) -> None:
    """Every strategy at the recipe's amount, a table a sensor; then what that means, and what validation chooses."""
    for one in found:
        unit = one.metric.replace("_", " ")
        title = f"{one.sensor}: {unit} of real test records, records appended {one.add:g} times"
        table = Table(
            "judged by", "training records", unit, "gain [95 % over folds]", "", title=title, title_justify="left"
        )
        for line in one.compared:
            if line.strategy == NONE or line.amount == one.add:
                gain = line.gain
                span = "" if gain.note else f" [{signed(gain.low)}, {signed(gain.high)}]"
                said = ("", "") if line.strategy == NONE else (f"{signed(gain.value)}{span}", gain.finding)
                table.add_row(judged_by(line.judge), called(line.strategy, one.kind), f"{line.score:.3f}", *said)
        screen.print(table)
        for sentence in [*one.sentences, *warnings(one.compared), *one.notes]:
            screen.print(sentence)
        for choice in one.chosen:
            if choice.strategy == one.use:
                what = f"{called(one.use, one.kind)} at the amount that each fold's validation chose"
                sentence = f"{one.sensor}, {judged_by(choice.judge)}: {say(choice.gain, what, one.metric)}"
                screen.print(f"{sentence}; over all folds validation likes {choice.amount:g} best.")


def print_comparison(
    screen: Console, judged: Sequence[Judged], failed: Sequence[tuple[Cell, str]], costs: Mapping[str, Sequence[Cost]]
) -> None:
    """A table a task: every strategy with its interval and what it costs; then what is shown, in sentences."""
    for one in judged:
        spent = {cost.strategy: cost for cost in costs.get(one.setting, ())}
        metric, better = one.metric.replace("_", " "), f"{one.better} is better"
        where = f"{one.setting}: " if one.setting else ""
        title = f"{where}{one.task}: {metric} of {counted(one.subjects, one.by)}, {better}"
        table = Table(title=title, title_justify="left")
        table.add_column("strategy")
        for column in ("mean [95 %]", "all records", "over seeds", "rank", "parameters", "ms to an answer"):
            if spent or column not in ("parameters", "ms to an answer"):
                table.add_column(column, justify="right")
        for line in one.lines:
            cells = [_said(Interval(line.low, line.high, line.mean)), f"{line.pooled:.3f}"]
            cells += [_known(line.seeds, 3), _known(line.rank, 2)]
            if spent:
                cost = spent.get(line.name)
                cells += ["", ""] if cost is None else [f"{cost.parameters:,}", f"{cost.latency_ms:.2f}"]
            table.add_row(line.name, *cells)
        screen.print(table)
        for sentence in (one.headline, *one.sentences):
            screen.print(sentence)
        for note in one.notes:
            screen.print(f"note: {note}")
    for cell, problem in failed:
        screen.print(f"failed: {cell.strategy}, fold {cell.fold}, seed {cell.seed}: {problem}")


def _known(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else ""


def _said(interval: Interval) -> str:
    if not np.isfinite(interval.low):
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
