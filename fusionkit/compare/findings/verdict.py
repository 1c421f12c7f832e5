"""What a comparison found: a table of strategies, every pair with its tests, and sentences that claim no more."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fusionkit.compare.experiment.grid import FACTS, Experiment, describe
from fusionkit.compare.experiment.results import Scores
from fusionkit.compare.findings.cost import Cost
from fusionkit.compare.findings.margins import USUAL, check_margin
from fusionkit.core.recording import Array
from fusionkit.evaluation.statistics.conclude import Comparison, conclude, headline
from fusionkit.evaluation.statistics.friedman import friedman
from fusionkit.evaluation.statistics.nemenyi import critical_difference
from fusionkit.evaluation.statistics.pairs import Pair, compare_pairs
from fusionkit.evaluation.statistics.trained_t import trained_t
from fusionkit.evaluation.summary import plain
from fusionkit.training.checkpoint import write_atomically

NONE = float("nan")
VERDICT = "verdict.json"


@dataclass(frozen=True)
class Line:
    """One strategy.

    Attributes:
        name: its label.
        compared: whether it is in the pairs; sensors alone stand for themselves.
        mean: score, seeds averaged first, then over subjects.
        low, high: its interval at 95 %, over subjects and trainings, cut to what a score can be: from 0 on, and up
            to 1 where higher is better; nan where there is none.
        pooled: score of all test records together, mean over seeds.
        seeds: standard deviation of the mean from seed to seed; nan of one seed.
        rank: mean rank within subjects among what is compared, 1 for the best; nan for the others.
    """

    name: str
    compared: bool
    mean: float
    low: float
    high: float
    pooled: float
    seeds: float
    rank: float


@dataclass(frozen=True)
class Judged:
    """One task of one setting, judged.

    Attributes:
        setting: its label; empty where there is one.
        task: its name.
        metric: its main metric.
        better: which direction of it is better.
        by: what the split keeps whole.
        subjects: how many of these have every score.
        lines: strategies, the best mean first.
        pairs: of all that are compared, one family for Holm's correction.
        friedman: p-value of Friedman's test over subjects; nan where there are fewer than three strategies.
        critical: Nemenyi's critical difference of mean ranks, likewise.
        margin: half the region of practical equivalence.
        left_out: strategies that some cell failed, or without a score, and how many of their trainings.
        chosen: how often validation chose each sensor as the best single one.
        notes: what limits the tests.
        headline: which strategy is the best, and over which that is shown.
        sentences: one a pair with the best.
    """

    setting: str
    task: str
    metric: str
    better: str
    by: str
    subjects: int
    lines: tuple[Line, ...]
    pairs: tuple[Pair, ...]
    friedman: float
    critical: float
    margin: float
    left_out: dict[str, str]
    chosen: dict[str, int]
    notes: tuple[str, ...]
    headline: str
    sentences: tuple[str, ...]

    @property
    def comparisons(self) -> list[Comparison]:
        """Of the best with each other, and then of the others among themselves; better means first."""
        place = {line.name: number for number, line in enumerate(self.lines)}
        found = [one.comparison for one in self.pairs]
        found = [one if place[one.first] < place[one.second] else one.turned for one in found]
        return sorted(found, key=lambda one: (place[one.first], place[one.second]))


def judge(scores: Scores, *, setting: str = "", margin: float = USUAL) -> Judged:
    """Compare every strategy, the best single sensor, the late mean and the training prior with each other.

    Seeds are averaged before anything is tested: they are no replicates of a subject, and count only for how much
    the luck of a training moves a mean (`fusionkit.evaluation.statistics.trained_t`, which decides). The other
    tests of a pair are there to be looked at. A strategy that failed in a cell is compared with nothing.

    Args:
        scores: of one task.
        setting: label.
        margin: largest difference that does not matter in practice, in units of the metric.

    Raises:
        ConfigError: the margin is not above 0.
    """
    check_margin(margin)
    left_out = _left_out(scores)
    kept = [i for i, name in enumerate(scores.strategies) if name not in left_out]
    names = [scores.strategies[i] for i in kept]
    whole = ~np.isnan(scores.by_subject[kept]).any((0, 1))
    by_subject, fold = scores.by_subject[kept][:, :, whole], scores.fold[whole]
    seeds, subjects = by_subject.shape[1:]
    compared = [k for k, name in enumerate(names) if name not in scores.sensors]
    places, p, critical = _ranks(by_subject[compared].mean(1).T, scores.better)
    ranks = dict(zip((names[k] for k in compared), places, strict=True))
    most = 1.0 if scores.better == "higher" else np.inf
    lines = [
        _line(name, name in ranks, by_subject[k], fold, scores.pooled[kept[k]], ranks.get(name, NONE), most)
        for k, name in enumerate(names)
    ]
    sign = 1 if scores.better == "higher" else -1
    lines.sort(key=lambda line: -sign * line.mean if np.isfinite(line.mean) else np.inf)
    folds = len(np.unique(fold))
    units = f"{counted(subjects, scores.by)} in {counted(folds, 'fold')}"
    pairs: list[Pair] = []
    if len(compared) > 1:
        found = compare_pairs(
            by_subject[compared],
            scores.folds[[kept[k] for k in compared]],
            fold,
            [names[k] for k in compared],
            test_share=scores.test_share,
            margin=margin,
            better=scores.better,
        )
        pairs = [replace(one, comparison=replace(one.comparison, units=units)) for one in found]
    comparisons = [pair.comparison for pair in pairs]
    means = {line.name: line.mean for line in lines if line.compared}
    defined = [name for name, mean in means.items() if np.isfinite(mean)]
    best = defined[0] if defined else ""
    place = {name: number for number, name in enumerate(means)}
    about = [one for one in comparisons if best in (one.first, one.second)]
    about.sort(key=lambda one: place[one.first] + place[one.second])
    return Judged(
        setting=setting,
        task=scores.task,
        metric=scores.metric,
        better=scores.better,
        by=scores.by,
        subjects=subjects,
        lines=tuple(lines),
        pairs=tuple(pairs),
        friedman=p,
        critical=critical,
        margin=margin,
        left_out=left_out,
        chosen=_chosen(scores),
        notes=tuple(_notes(scores, subjects, folds, seeds, left_out)),
        headline=headline(comparisons, means, better=scores.better) if best else "Nothing was scored.",
        sentences=tuple(conclude(one, margin=margin) for one in about),
    )


def counted(number: int, what: str) -> str:
    """``1 subject``, ``2 subjects``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def write_verdict(
    experiment: Experiment, judged: Sequence[Judged], costs: Mapping[str, Sequence[Cost]]
) -> dict[str, Any]:
    """Write ``verdict.json``, and into ``comparison.json`` how every cell ended; what the first says.

    Args:
        experiment: says where.
        judged: every task of every setting.
        costs: of strategies, by label of the setting.
    """
    said = {
        "tasks": [asdict(one) for one in judged],
        "costs": [{"setting": label, **asdict(one)} for label, of in costs.items() for one in of],
        "failed": [
            {"strategy": cell.strategy, "fold": cell.fold, "seed": cell.seed, "problem": problem}
            for cell, problem in experiment.failed
        ],
    }
    for name, content in ((FACTS, describe(experiment)), (VERDICT, said)):
        write_atomically(experiment.folder / name, (json.dumps(plain(content), indent=1) + "\n").encode())
    return said


def _left_out(scores: Scores) -> dict[str, str]:
    """Those with a training that failed. A fold whose test records have no label takes nobody's score away."""
    found = {}
    failed = np.isnan(scores.pooled)
    empty = np.isnan(scores.folds[~failed.any(1)]).all((0, 1))  # (fold,), of those that came to an end everywhere
    for name, lost, folds in zip(scores.strategies, failed, scores.folds, strict=True):
        if lost.any():
            missing = int(np.isnan(folds[:, ~empty]).sum()) if not empty.all() else folds.size
            found[name] = f"no score in {missing} of {folds.size} trainings"
    return found


def _line(name: str, compared: bool, by_subject: Array, fold: Array, pooled: Array, rank: float, most: float) -> Line:
    """Of scores ``(seed, subject)``."""
    seeds, subjects = by_subject.shape
    low = high = NONE
    if subjects >= 2 and seeds * len(np.unique(fold)) >= 2:
        low, high = (float(np.clip(end, 0, most)) for end in trained_t(by_subject.T, fold).interval())
    mean = float(by_subject.mean()) if subjects else NONE
    spread = float(by_subject.mean(1).std(ddof=1)) if subjects and seeds > 1 else NONE
    return Line(name, compared, mean, low, high, float(pooled.mean()), spread, float(rank))


def _ranks(scores: Array, better: Any) -> tuple[Array, float, float]:
    """Mean ranks of scores ``(subject, strategy)``, and whether they differ."""
    subjects, strategies = scores.shape
    if subjects < 2 or strategies < 3:
        return np.full(strategies, NONE), NONE, NONE
    found = friedman(scores, better)
    return found.ranks, float(found.p), critical_difference(strategies, subjects)


def _chosen(scores: Scores) -> dict[str, int]:
    every = [name for folds in scores.chosen for name in folds]
    return {name: every.count(name) for name in scores.sensors} if every else {}


def _notes(scores: Scores, subjects: int, folds: int, seeds: int, left_out: dict[str, str]) -> list[str]:
    by, found = scores.by, []
    kept = [i for i, name in enumerate(scores.strategies) if name not in left_out]
    empty = int(np.isnan(scores.folds[kept]).all((0, 1)).sum()) if kept else 0
    if empty:
        every = counted(scores.folds.shape[2], "fold")
        found.append(f"no label among the test records of {empty} of {every}: they say nothing here")
    if left_out:
        gone = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        found.append(f"not compared, for a comparison of what is left would not be fair: {gone}")
    if subjects < len(scores.subjects):
        every = counted(len(scores.subjects), by)
        found.append(f"left out for want of a score: {len(scores.subjects) - subjects} of {every}")
    if scores.within:
        found.append(
            f"intervals are over {by}s: they say what other {by}s of these subjects would, not what others would"
        )
    if subjects < 2:
        found.append(f"fewer than two {by}s were tested: nothing can be said of others")
    elif seeds * folds < 2:
        found.append("one training of each strategy: how much luck moves it is not known, so nothing is concluded; "
                     "give --seeds 3 or folds")  # fmt: skip
    elif seeds == 1 and folds < subjects:
        found.append("one seed: how much the luck of a training moves a score is known from folds alone")
    if folds == 1 and seeds == 2 and subjects > 1:
        found.append("two trainings of each strategy: hardly anything can be shown, for how much luck moves them is known "
                     "from one difference; give --seeds 3 or folds")  # fmt: skip
    if folds == 1 and subjects > 1:
        found.append("one fold: what other training records would have taught is in no interval")
    if subjects > 1 and folds < subjects:
        found.append(f"the {by}s of a fold share its models, which tests and ranks over {by}s alone do not know")
    return found
