"""`report.html` of a comparison: the verdict first, then everything needed to believe or doubt it."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from types import MappingProxyType

import numpy as np

from fusionkit.compare.cells.cell import open_run
from fusionkit.compare.conditions.corruption import Faults
from fusionkit.compare.experiment.grid import Asked, Experiment
from fusionkit.compare.experiment.results import Scores
from fusionkit.compare.findings.calibrated import Calibration
from fusionkit.compare.findings.cost import Cost
from fusionkit.compare.findings.margins import USUAL
from fusionkit.compare.findings.stress import UNITS, Stress
from fusionkit.compare.findings.verdict import Judged, counted
from fusionkit.compare.report.calibration_section import calibration_section
from fusionkit.compare.report.plots import cost_scatter, subject_lines
from fusionkit.compare.report.stress_section import stress_section
from fusionkit.core.recording import Array
from fusionkit.evaluation import html
from fusionkit.evaluation.comparison_plots import critical_difference_diagram, forest
from fusionkit.evaluation.plots import svg_text
from fusionkit.evaluation.report import split_table
from fusionkit.evaluation.statistics.conclude import Verdict, signed
from fusionkit.evaluation.statistics.pairs import Pair
from fusionkit.recipe.write import dump_recipe

WHOLE = 15
"""Pairs up to which the forest shows all; of more, those with the best."""

Found = Mapping[str, Sequence[tuple[Scores, Judged]]]
"""Tasks by label of the setting."""


def build_compare_page(
    experiment: Experiment,
    found: Found,
    costs: Mapping[str, Sequence[Cost]],
    stressed: Mapping[str, Sequence[Stress]] = MappingProxyType({}),
    calibrated: Mapping[str, Sequence[Calibration]] = MappingProxyType({}),
) -> str:
    """The page as HTML; it needs no network.

    Args:
        experiment: what was trained.
        found: scores and verdicts of every setting.
        costs: of its strategies, by label of the setting.
        stressed: what is left of them when sensors fail, likewise.
        calibrated: what their probabilities are worth, likewise.
    """
    several = len(experiment.blocks) > 1
    name = experiment.blocks[0].setting.recipe.name
    body = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="muted">{escape(str(experiment.folder))}, {len(experiment.ended)} trainings</p>',
        *(_lead(judged, several) for tasks in found.values() for _, judged in tasks),
        *_failed(experiment),
    ]
    for block in experiment.blocks:
        label = block.setting.label
        by_strategy = {cost.strategy: cost for cost in costs.get(label, ())}
        if several:
            body.append(f"<h2>{escape(label)}</h2>")
        body += [f'<p class="note">{escape(note)}</p>' for note in block.notes]
        for scores, judged in found.get(label, ()):
            body += _task(scores, judged, by_strategy, 3 if several else 2)
            for stress in (one for one in stressed.get(label, ()) if one.task == judged.task):
                body += stress_section(stress)
            for calibration in (one for one in calibrated.get(label, ()) if one.task == judged.task):
                body += calibration_section(calibration)
        if by_strategy:
            body += ["<h3>Cost</h3>", _costs(list(by_strategy.values()))]
    body.append("<h2>How it was compared</h2>")
    body += [f"<p>{escape(text)}</p>" for text in _method(found)]
    body.append("<h2>Split</h2>")
    for block in experiment.blocks:
        body += [f"<h3>{escape(block.setting.label)}</h3>"] if several else []
        body.append(split_table(block.split, block.study.records))
    body += ["<h2>Settings</h2>", *_settings(experiment, found, several)]
    return html.page(f"{name}, compared", body)


def _lead(judged: Judged, several: bool) -> str:
    where = f"{judged.setting}, {judged.task}" if several else judged.task
    return f'<p class="lead"><b>{escape(where)}</b>: {escape(judged.headline)}</p>'


def _failed(experiment: Experiment) -> Iterator[str]:
    """Every cell without a result, by name and reason."""
    failed = experiment.failed
    if not failed:
        return
    lines = [([cell.strategy, str(cell.fold), str(cell.seed), problem], False) for cell, problem in failed]
    yield (
        f'<div class="note"><b>{len(failed)} of {len(experiment.ended)} trainings failed</b>; --resume tries them again.'
        f"{html.table(['strategy', 'fold', 'seed', 'problem'], lines)}</div>"
    )


def _task(scores: Scores, judged: Judged, costs: Mapping[str, Cost], level: int) -> Iterator[str]:
    by = judged.by
    words = f"{judged.metric.replace('_', ' ')} of {counted(judged.subjects, by)}, {judged.better} is better"
    yield f"<h{level}>{escape(judged.task)} <span class='muted'>{escape(words)}</span></h{level}>"
    yield _strategies(judged)
    yield from (f'<p class="note">{escape(note)}</p>' for note in judged.notes)
    if judged.pairs:
        yield "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in judged.sentences) + "</ul>"
        shown = judged.comparisons
        if len(shown) > WHOLE:
            shown = [one for one in shown if judged.lines and one.first == _best(judged)]
        drawn = forest(shown, judged.metric, margin=judged.margin)
        whose = "all pairs" if len(shown) == len(judged.pairs) else "the best with every other"
        yield html.figure(svg_text(drawn), f"differences of {whose}")
    if np.isfinite(judged.critical):
        ranked = [line for line in judged.lines if line.compared]
        diagram = critical_difference_diagram(
            [line.name for line in ranked], np.array([line.rank for line in ranked]), judged.critical
        )
        words = (
            f"mean ranks within {by}s, best on the left; Friedman's test p {_chance(judged.friedman)}. It takes {by}s for "
            "independent; where it parts strategies that the sentences above do not, these hold"
        )
        yield html.figure(svg_text(diagram), words)
    order = [scores.strategies.index(line.name) for line in judged.lines]
    spread = np.nanmean(
        np.where(np.isnan(scores.by_subject[order]).all(1, keepdims=True), 0, scores.by_subject[order]), 1
    )
    spread[np.isnan(scores.by_subject[order]).all(1)] = np.nan
    yield html.figure(
        svg_text(subject_lines(judged.lines, spread, judged.metric)),
        f"every {by} under every strategy, seeds averaged; blue: mean and 95 % interval",
    )
    if costs:
        drawn = cost_scatter(judged.lines, costs, judged.metric)
        yield html.figure(svg_text(drawn), "score and cost; diamonds: sensors alone")
    if judged.pairs:
        yield f"<details><summary>all pairs, all tests</summary>{_pairs(judged)}</details>"
    yield f"<details><summary>all seeds and folds</summary>{_seeds(scores)}</details>"
    yield f"<details><summary>every {escape(by)}</summary>{_subjects(scores, judged, spread)}</details>"


def _best(judged: Judged) -> str:
    return next(line.name for line in judged.lines if line.compared)


def _strategies(judged: Judged) -> str:
    lines = []
    best = next((line.name for line in judged.lines if line.compared), "")
    for line in judged.lines:
        span = f"\n[{_number(line.low)}, {_number(line.high)}]" if np.isfinite(line.low) else ""
        said = line.name
        if judged.chosen and line.name == "best single":
            chosen = ", ".join(f"{name} {count} x" for name, count in judged.chosen.items() if count)
            said += f"\nchosen on validation: {chosen}"
        cells = [said, f"{_number(line.mean)}{span}", _number(line.pooled), _number(line.seeds), _number(line.rank, 2)]
        lines.append((cells, line.name == best))
    lines += [([f"{name}\n{why}", "–", "–", "–", "–"], False) for name, why in judged.left_out.items()]
    header = ["strategy", f"mean over {judged.by}s", "all records", "deviation over seeds", "mean rank"]
    return html.table(header, lines)


def _pairs(judged: Judged) -> str:
    """Two tables with a line a pair, the one with the better mean first: what is tested, and how large it is."""
    tests, sizes = [], []
    for pair in sorted(judged.pairs, key=lambda pair: _place(judged, pair)):
        turned = pair.comparison.difference < 0
        one, turn = (pair.comparison.turned, -1) if turned else (pair.comparison, 1)
        span = f"\n[{signed(one.low)}, {signed(one.high)}]" if np.isfinite(one.low) else ""
        shown = one.verdict in (Verdict.BETTER, Verdict.WORSE)
        name, difference = f"{one.first} less {one.second}", f"{signed(one.difference)}{span}"
        chances = [one.p, pair.signed_rank, pair.sign_flip, pair.corrected]
        none = judged.better == "higher" and pair.detectable > 1  # scores are at most 1
        tests.append(([name, difference, *map(_chance, chances), "none" if none else _number(pair.detectable)], shown))
        posterior = ["–"] * 3
        if pair.posterior is not None:
            ends = [pair.posterior.better, pair.posterior.same, pair.posterior.worse][::turn]
            posterior = [_number(value) for value in ends]
        values = [turn * value for value in (pair.cohen_dz, pair.hedges_gz, pair.rank_biserial, pair.cliffs_delta)]
        sizes.append(([name, *posterior, *(_number(value, 2) for value in values)], shown))
    header = ["pair", "difference", "p", "Wilcoxon", "sign flips", "corrected t, folds", "detectable"]
    probable = ["pair", "P(better)", "P(same)", "P(worse)", "Cohen's d", "Hedges' g", "rank-biserial", "Cliff's delta"]
    return html.table(header, tests) + "<p></p>" + html.table(probable, sizes)


def _place(judged: Judged, pair: Pair) -> tuple[int, int]:
    order = {line.name: number for number, line in enumerate(judged.lines)}
    first, second = order[pair.comparison.first], order[pair.comparison.second]
    return min(first, second), max(first, second)


def _seeds(scores: Scores) -> str:
    """A line a strategy and seed: all test records together, and every fold."""
    lines = []
    for name, pooled, folds in zip(scores.strategies, scores.pooled, scores.folds, strict=True):
        for seed, (value, by_fold) in enumerate(zip(pooled, folds, strict=True)):
            lines.append(([name, str(seed), _number(value), *map(_number, by_fold)], False))
    folds = [f"fold {number}" for number in range(scores.folds.shape[2])]
    return html.table(["strategy", "seed", "all records", *folds], lines)


def _subjects(scores: Scores, judged: Judged, spread: Array) -> str:
    """A line a subject, a column a strategy, seeds averaged."""
    lines = [
        ([subject, str(fold), *map(_number, values)], False)
        for subject, fold, values in zip(scores.subjects, scores.fold, spread.T, strict=True)
    ]
    return html.table([scores.by, "fold", *(line.name for line in judged.lines)], lines)


def _costs(costs: Sequence[Cost]) -> str:
    lines = [
        (
            [
                one.strategy,
                f"{one.parameters:,}",
                f"{one.macs:,}",
                f"{one.latency_ms:.2f}",
                f"{one.step_ms:.2f}",
                f"{one.train_seconds:.1f}",
            ],
            False,
        )
        for one in costs
    ]
    batch = max((one.batch for one in costs), default=0)
    header = [
        "strategy", "parameters", "multiplications an answer", "ms to an answer", f"ms a step of {batch} records",
        "s a training",
    ]  # fmt: skip
    return html.table(header, lines) + (
        '<p class="muted">Medians of calls in turn, on one thread where no GPU trains. An answer takes one window of '
        "every sensor to a decision; matrices, convolutions and attention are counted, Fourier transforms are not. "
        "A step is forward, backward and update on a batch that is loaded.</p>"
    )


def _method(found: Found) -> Iterator[str]:
    every = [judged for tasks in found.values() for _, judged in tasks]
    if not every:
        yield "Nothing was scored."
        return
    by, margins = every[0].by, {judged.task: f"±{judged.margin:g}" for judged in every}
    margin = ", ".join(f"{words} ({task})" for task, words in margins.items())
    margin = margin if len(set(margins.values())) > 1 else next(iter(margins.values()))
    yield (
        f"Every strategy is trained on the same split; the seed changes weights and order alone. Seeds are averaged first. "
        f"What decides is a t test over {by}s whose error counts what the models of a fold share, the luck of their "
        "training, as seeds and folds show it; p-values are Holm's over all pairs of one task in one setting, and other "
        "tasks and settings are corrected by themselves. Intervals are of one pair each, at 95 %. Differences are called "
        "shown only where the interval leaves out 0 and the corrected p is below 0.05; equivalence, where the interval "
        "of the pair by itself lies within the margin."
    )
    yield (
        f"Wilcoxon's test, sign flips and ranks look at {by}s alone, the corrected t test (Nadeau and Bengio) and the "
        "Bayesian probabilities at folds alone; they are shown to be compared and decide nothing. P(better) and P(worse) "
        f"are of differences beyond {margin} (--rope), P(same) of those within. Detectable is the true difference that a "
        "study of this size finds in 80 % of cases at the level of all pairs together; none, where not even the largest "
        "there can be would be found."
    )
    yield (
        "What a training set does to all seeds alike is seen through the folds alone: where it moves a strategy by three "
        f"quarters of what a seed does, some pair is falsely said to differ in 15 % of made studies of 30 {by}s in four "
        "folds, in 12 % with ten; where by half, in 6 %."
    )
    yield (
        "The best single sensor is chosen in every fold by its score on validation records, never on test records. The "
        "late mean has the encoders of the first strategy and a branch a sensor, and answers with the mean of the branches. "
        "Majority (mean for numbers) answers with what was most frequent in training."
    )


def _words(asked: Asked, found: Found) -> Iterator[str]:
    """The command line that compared this, and nothing that it takes by itself."""
    yield from (*asked.recipes, *asked.overrides)
    for axis in asked.vary:
        yield from ("--vary", axis)
    yield from ("--seeds", str(asked.seeds))
    if asked.match is not None:
        yield from ("--match", asked.match)
    if asked.tune is not None:
        yield from ("--tune", str(asked.tune))
    if asked.faults is not None:
        yield "--robustness"
        for kind, usual in vars(Faults()).items():
            if kind in UNITS and (levels := getattr(asked.faults, kind)) != usual:
                yield from ("--faults", f"{kind}={','.join(f'{level:g}' for level in levels) or 'none'}")
    margins = {judged.task: judged.margin for tasks in found.values() for _, judged in tasks}
    for task, margin in margins.items():
        if margin != USUAL:
            yield from ("--rope", f"{task}={margin:g}")


def _settings(experiment: Experiment, found: Found, several: bool) -> Iterator[str]:
    yield f'<pre style="white-space: pre-wrap">fusionkit compare {escape(shlex.join(_words(experiment.asked, found)))}</pre>'
    for block in experiment.blocks:
        prefix = f"{block.setting.label}: " if several else ""
        for one in block.setting.strategies:
            yield f"<details><summary>{escape(prefix + one.label)}</summary><pre>{escape(dump_recipe(one.recipe))}</pre></details>"
    done = next((one for one in experiment.ended.values() if not one.problem), None)
    if done is not None:
        run = open_run(done)
        yield html.versions(json.loads((run.folder / "environment.json").read_text()), run.facts)


def _number(value: float, digits: int = 3) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}" if np.isfinite(value) else "–"


def _chance(p: float) -> str:
    if not np.isfinite(p):
        return "–"
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001"
