"""What every strategy and amount of augmentation brings on test records, and what may be said of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fusionkit.compare.augmentation.scores import MODEL, NONE, OWN, Part, Score
from fusionkit.core.recording import Array
from fusionkit.evaluation.paired import Gain, fold_means, paired_gain

LEVEL = 0.95
PERCENT = f"{100 * LEVEL:g} %"


@dataclass(frozen=True)
class Measure:
    """What is compared by.

    Attributes:
        metric: its name.
        better: which direction is.
        ratio: records that test for each that trains, see `paired_gain`.
    """

    metric: str
    better: Literal["higher", "lower"]
    ratio: float


@dataclass(frozen=True)
class Compared:
    """One strategy at one amount, by one judge: means over folds, of means over seeds.

    Attributes:
        score: on test records.
        validation: on validation records; nan where there are none.
        wanted: records that were to be appended.
        appended: records that were.
        gain: over appending nothing, on test records.
    """

    sensor: str
    judge: str
    strategy: str
    amount: float
    score: float
    validation: float
    wanted: float
    appended: float
    gain: Gain


@dataclass(frozen=True)
class Chosen:
    """One strategy at the amount that its fold's validation records like best, 0 among them.

    Attributes:
        amount: the one that is best on validation over all folds, which is what to take.
        by_fold: the one each fold chose for itself.
        gain: on test records, of the amounts by fold; no test record had a say.
    """

    sensor: str
    judge: str
    strategy: str
    amount: float
    by_fold: tuple[float, ...]
    gain: Gain


@dataclass(frozen=True)
class Found:
    """What is said of one sensor's augmenter.

    Attributes:
        sensor: its name.
        kind: of its augmenter.
        use: the recipe's strategy.
        add: the recipe's amount.
        metric: what is compared by.
        compared: every strategy, amount and judge.
        chosen: what validation chooses.
        notes: what a reader must know.
    """

    sensor: str
    kind: str
    use: str
    add: float
    metric: str
    compared: Sequence[Compared]
    chosen: Sequence[Chosen]
    notes: Sequence[str] = ()

    @property
    def sentences(self) -> list[str]:
        """A sentence for every judge about the augmenter as the recipe uses it, which claims no more than its interval."""
        what = f"{self.kind} ({self.use}, {self.add:g} times)"
        return [
            f"{self.sensor}, {judged_by(one.judge)}: {say(one.gain, what, self.metric)}."
            for one in self.compared
            if (one.strategy, one.amount) == (self.use, self.add)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        compared = [{**vars(one), "gain": _plain(one.gain)} for one in self.compared]
        chosen = [{**vars(one), "by_fold": list(one.by_fold), "gain": _plain(one.gain)} for one in self.chosen]
        lists = {"compared": compared, "chosen": chosen, "notes": list(self.notes), "sentences": self.sentences}
        return {**vars(self), **lists}


def compare(scores: Sequence[Score], measure: Measure) -> list[Compared]:
    """Every strategy and amount beside appending nothing, in the order in which they come."""
    tables = _tables(scores, measure.metric)
    made = []
    for key, parts in tables.items():
        plain = tables[key[0], key[1], NONE, 0.0]["test"]
        gain = paired_gain(parts["test"], plain, ratio=measure.ratio, level=LEVEL, better=measure.better)
        counts = np.mean([[one.wanted, one.appended] for one in scores if _key(one) == key], axis=0)
        means = _mean(parts["test"]), _mean(parts["validation"])
        made.append(Compared(*key, *means, float(counts[0]), float(counts[1]), gain))
    return made


def choose(scores: Sequence[Score], measure: Measure) -> list[Chosen]:
    """For every strategy that was tried at several amounts, what validation chooses; none where nothing validates."""
    tables = _tables(scores, measure.metric)
    made = []
    for sensor, judge, strategy in dict.fromkeys(key[:3] for key in tables if key[2] != NONE):
        amounts = sorted(key[3] for key in tables if key[:3] == (sensor, judge, strategy))
        tried = [tables[sensor, judge, NONE, 0.0], *(tables[sensor, judge, strategy, amount] for amount in amounts)]
        sign = 1 if measure.better == "higher" else -1
        seen = np.stack([sign * fold_means(parts["validation"]) for parts in tried])
        if len(amounts) < 2 or np.isnan(seen).any():
            continue
        best = seen.argmax(0)  # the smallest amount of those that are equally good
        changed = np.stack([tried[place]["test"][fold] for fold, place in enumerate(best)])
        gain = paired_gain(changed, tried[0]["test"], ratio=measure.ratio, level=LEVEL, better=measure.better)
        names = [0.0, *amounts]
        chosen = names[int(seen.mean(1).argmax())]
        made.append(Chosen(sensor, judge, strategy, chosen, tuple(names[place] for place in best), gain))
    return made


def warnings(compared: Sequence[Compared]) -> list[str]:
    """What a reader of the whole table must bear in mind."""
    tried = [one for one in compared if one.strategy != NONE and not one.gain.note]
    if len(tried) < 2:
        return []
    found = [one for one in tried if one.gain.finding in ("gain", "loss")]
    alone = (1 - LEVEL) * len(tried)
    told = f"{len(found)} of {len(tried)} comparisons have an interval without 0"
    return [f"{told}; if nothing helped or harmed, about {alone:.1f} would by chance. No interval is widened for that."]


def say(gain: Gain, what: str, metric: str) -> str:
    """What a gain means: ``no gain`` where its interval covers 0."""
    unit = metric.replace("_", " ")
    if np.isnan(gain.value):
        return f"{what} could not be compared"
    if gain.finding == "unknown":
        return f"{what} changes {unit} by {signed(gain.value)}; {gain.note}, so that nothing can be said of other data"
    said = {"gain": "brings a gain in", "loss": "harms", "no gain": "brings no gain in"}[gain.finding]
    span = f"{PERCENT} interval {signed(gain.low)} to {signed(gain.high)}, {gain.folds} folds"
    return f"{what} {said} {unit}: {signed(gain.value)} ({span})"


def signed(value: float) -> str:
    """A difference as it is printed: +0.050, and +0.000 for what rounds to nothing."""
    return f"{value:+.3f}".replace("-0.000", "+0.000")


def judged_by(judge: str) -> str:
    """How a judge is called in a sentence."""
    return {"svm": "linear SVM", "network": "shortcut network", MODEL: "the recipe's model"}.get(judge, judge)


def called(strategy: str, kind: str) -> str:
    """How a strategy is called in a table; the recipe's own augmenter has its kind's name."""
    if strategy in OWN:
        return f"{kind}, {strategy}"
    return {NONE: "no augmentation", "noise_copies": "Gaussian noise", "geometric_copies": "geometric copies"}.get(
        strategy, strategy
    )


def _plain(gain: Gain) -> dict[str, Any]:
    return {**vars(gain), "each": list(gain.each), "finding": gain.finding}


def _tables(scores: Sequence[Score], metric: str) -> dict[tuple[str, str, str, float], dict[Part, Array]]:
    """Scores ``(fold, seed)`` by part, by sensor, judge, strategy and amount; nan where there is none."""
    tables: dict[tuple[str, str, str, float], dict[Part, Array]] = {}
    places = {(sensor, judge): _places(own) for (sensor, judge), own in _grouped(scores)}
    for one in scores:
        folds, seeds = places[one.sensor, one.judge]
        key = _key(one)
        if key not in tables:
            empty = np.full((len(folds), len(seeds)), np.nan)
            tables[key] = {"validation": empty, "test": empty.copy()}
        tables[key][one.part][folds[one.fold], seeds[one.seed]] = one.metrics[metric]
    return tables


def _key(one: Score) -> tuple[str, str, str, float]:
    return one.sensor, one.judge, one.strategy, one.amount


def _grouped(scores: Sequence[Score]) -> Iterator[tuple[tuple[str, str], list[Score]]]:
    for key in dict.fromkeys((score.sensor, score.judge) for score in scores):
        yield key, [score for score in scores if (score.sensor, score.judge) == key]


def _places(scores: Sequence[Score]) -> tuple[dict[int, int], dict[int, int]]:
    """Rows of folds and columns of seeds."""
    folds, seeds = sorted({score.fold for score in scores}), sorted({score.seed for score in scores})
    return {fold: row for row, fold in enumerate(folds)}, {seed: column for column, seed in enumerate(seeds)}


def _mean(values: Array) -> float:
    means = fold_means(values)
    known = means[~np.isnan(means)]
    return float(known.mean()) if len(known) else float("nan")
