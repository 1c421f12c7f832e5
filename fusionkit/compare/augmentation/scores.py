"""Single results of a study of augmenters, and the table they are kept in."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

NONE = "none"
"""The strategy that appends nothing."""
OWN = ("full", "selective")
"""Strategies of the recipe's own augmenter."""
MODEL = "model"
"""Who is judged by: the recipe's own model; else a classifier by its name."""

Part = Literal["validation", "test"]


@dataclass(frozen=True)
class Score:
    """What was reached on real records of one part, of one fold and seed.

    Attributes:
        sensor: whose training records were added to; of the recipe's model, all that have an augmenter.
        fold: its number.
        seed: of everything that is drawn but the split.
        judge: ``svm``, ``network`` or `MODEL`.
        strategy: `NONE`, a kind of copies, ``mixup``, or one of `OWN`.
        amount: records appended for a labelled training record, as wanted; 0 of `NONE`.
        part: ``validation`` or ``test``.
        records: real records that were scored.
        wanted: records that were to be appended.
        appended: how many were; fewer where no more were sure.
        metrics: by name, the main one first.
    """

    sensor: str
    fold: int
    seed: int
    judge: str
    strategy: str
    amount: float
    part: Part
    records: int
    wanted: int
    appended: int
    metrics: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def table(scores: Sequence[Score]) -> str:
    """CSV: a line for every score, a column for every metric."""
    metrics = list(dict.fromkeys(name for score in scores for name in score.metrics))
    plain = [name for name in Score.__dataclass_fields__ if name != "metrics"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*plain, *metrics])
    for score in scores:
        cells = [getattr(score, name) for name in plain]
        writer.writerow([*cells, *(repr(score.metrics[name]) if name in score.metrics else "" for name in metrics)])
    return text.getvalue()


def read_scores(entries: Iterable[Mapping[str, Any]]) -> list[Score]:
    """Scores from what `Score.as_dict` gave, or from JSON of it, where a metric that is not defined is null."""
    scores = []
    for entry in entries:
        metrics = {name: math.nan if value is None else value for name, value in entry["metrics"].items()}
        scores.append(Score(**{**entry, "metrics": metrics}))
    return scores
