r"""Does a comparison find what is known? Made studies whose best fusion follows from their law, compared as users would.

The law is `fusionkit.data.synthetic.law`; each sensor mixes its three cues into 12 numbers, so that a training takes a
second. What is known is known by construction, not by trying:

- ``xor``: two sensors hold a bit each and the answer is whether they differ. Either sensor alone is independent of it,
  and a sum of anything that each of them says is right in three of four cases at most; both together know all.
- ``redundant``: three sensors see one cause with errors as large as itself. The sign of their sum is the best answer,
  right in 1/2 + asin(sqrt(3/4)) / pi = 0.833 of cases; a sensor alone, in 0.75. A product of opinions can be that sign.
- ``useless``: one sensor sees the cause with half the error and is right in p = 0.852 of cases; two see nothing. Counted
  as votes they spoil it: with answers by the toss of a coin to 3/4 p + (1 - p) / 4 = 0.676. The one sensor alone, which
  validation has to choose, is as good as anything; weighed, the others cost little.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.compare.cells.executor import Executor
from fusionkit.compare.experiment.grid import Asked, Block, Experiment, compare
from fusionkit.compare.experiment.results import BEST_SINGLE, scores
from fusionkit.compare.experiment.strategy import LATE_MEAN
from fusionkit.compare.findings.verdict import Judged, judge
from fusionkit.data.synthetic.law import Law
from fusionkit.evaluation.statistics.conclude import Verdict

SUBJECTS, RECORDS, WIDTH = 12, 60, 12
FOLDS, TRAININGS = 3, 2
NEEDED = 0.9  # of the studies in which the known best must be found
PRIOR = "majority"


@dataclass(frozen=True)
class Dial:
    """One law, and what it makes of strategies.

    Attributes:
        law: makes labels and what sensors see.
        sensors: that see something.
        useless: how many more see nothing.
        fusions: what is compared, by label.
        best: as good as can be, the one that is asked about first; baselines of a comparison may be among them.
        worse: what the first must be shown to beat.
    """

    law: Law
    sensors: tuple[str, ...]
    useless: int
    fusions: Mapping[str, Mapping[str, Any]]
    best: tuple[str, ...]
    worse: tuple[str, ...]


def _vote(rule: str) -> dict[str, Any]:
    return {"kind": "vote", "rule": rule}


DIALS = {
    "xor": Dial(
        Law(2, redundant=0.0, unique=0.0, synergy=1.0, noise=0.2),
        ("eeg", "audio"),
        0,
        {"multiplicative": {"kind": "multiplicative"}, "product": _vote("product")},
        ("multiplicative",),
        ("product", LATE_MEAN, BEST_SINGLE, PRIOR),
    ),
    "redundant": Dial(
        Law(2, redundant=1.0, unique=0.0, synergy=0.0, noise=1.0),
        ("eeg", "audio", "image"),
        0,
        {"product": _vote("product"), "counted votes": _vote("majority")},
        ("product", LATE_MEAN),
        (BEST_SINGLE, PRIOR),
    ),
    "useless": Dial(
        Law(2, redundant=1.0, unique=0.0, synergy=0.0, noise=0.5),
        ("eeg",),
        2,
        {"product": _vote("product"), "counted votes": _vote("majority")},
        (BEST_SINGLE, LATE_MEAN, "product"),
        ("counted votes", PRIOR),
    ),
}


@dataclass(frozen=True)
class Ranked:
    """One made study, compared.

    Attributes:
        dial: its name.
        seed: of the study.
        first: the strategy with the best mean.
        means: of all strategies.
        known_first: whether that is one of those that are as good as can be.
        least: the lowest end of the intervals by which the known best is better than what is worse.
        shown: whether it is said to beat all of these, after Holm's correction over all pairs.
        untrue: sentences that contradict what is known: something worse that is said to beat the best.
    """

    dial: str
    seed: int
    first: str
    means: dict[str, float]
    known_first: bool
    least: float
    shown: bool
    untrue: tuple[str, ...]

    @property
    def found(self) -> bool:
        """The known best is first, and every interval leaves out 0."""
        return self.known_first and self.least > 0


def write_study(dial: Dial, seed: int, path: Path) -> None:
    """Draw one study and write it as ``.npz``: a column a sensor, ``target`` and ``subject``."""
    generator = np.random.default_rng(seed)
    truths = [dial.law.draw(generator) for _ in range(SUBJECTS * RECORDS)]
    columns = {
        "target": np.array([str(truth.target) for truth in truths]),
        "subject": np.repeat([f"s{number:02d}" for number in range(SUBJECTS)], RECORDS),
    }
    for sensor in dial.sensors:
        seen = [truth.cues[sensor] for truth in truths]
        cues = np.array([[one.shared, one.own, one.symbol] for one in seen])
        mixing = generator.standard_normal((3, WIDTH)) / np.sqrt(3)
        columns[sensor] = (cues @ mixing).astype(np.float32)
    for number in range(dial.useless):
        columns[f"useless_{number}"] = generator.standard_normal((len(truths), WIDTH)).astype(np.float32)
    np.savez(path, **columns)  # type: ignore[arg-type]


def bench_dials(
    folder: Path,
    executor: Executor,
    *,
    dials: Sequence[str] | None = None,
    studies: int = 10,
    heard: Callable[[int, int, float], None] = lambda done, total, left: None,
) -> Iterator[Ranked]:
    """Compare every dial's strategies on several studies, dial by dial.

    Args:
        folder: where studies and trainings are written.
        executor: trains.
        dials: which of `DIALS`; None takes all.
        studies: how many of each, with seeds from 0 on.
        heard: hears of progress.

    Yields:
        One a study.
    """
    for name in DIALS if dials is None else dials:
        experiment = _compare(name, folder / name, executor, studies, heard)
        for seed, block in enumerate(experiment.blocks):
            (found,) = scores(block, experiment)
            yield rank(name, seed, judge(found), _labels(DIALS[name], block))


def _compare(
    name: str, folder: Path, executor: Executor, studies: int, heard: Callable[[int, int, float], None]
) -> Experiment:
    dial = DIALS[name]
    folder.mkdir(parents=True)
    paths = [folder / f"{seed}.npz" for seed in range(studies)]
    for seed, path in enumerate(paths):
        write_study(dial, seed, path)
    sensor = {"kind": "signal", "normalise": {"kind": "none"}, "encoder": {"kind": "mlp", "hidden": 64}}
    fusions = [{**options, "dim": 16} for options in dial.fusions.values()]
    recipe = {
        "name": name,
        "data": {
            "kind": "npz",
            "path": str(paths[0]),
            "columns": {"subject": "subject"},
            "split": {"kind": "k_fold", "by": "subject", "folds": FOLDS, "validation": 0.2},
        },
        "modalities": dict.fromkeys([*dial.sensors, *(f"useless_{n}" for n in range(dial.useless))], sensor),
        "fusion": fusions[0],
        "tasks": {"target": {"kind": "classification"}},
        "train": {"epochs": 20, "batch": 64, "lr": 5e-3},
        "run": {"dir": str(folder / "runs")},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    vary = ["fusion=" + ",".join(json.dumps(fusion) for fusion in fusions)]
    vary += ["data.path=" + ",".join(map(str, paths))] if studies > 1 else []
    asked = Asked((str(folder / "recipe.yaml"),), (), tuple(vary), TRAININGS)
    return compare(asked, executor, heard=heard)


def _labels(dial: Dial, block: Block) -> dict[str, str]:
    """How a comparison calls each strategy, and how the dial does."""
    asked = [one.label for one in block.setting.strategies if one.role == "strategy"]
    return dict(zip(asked, dial.fusions, strict=True))


def rank(name: str, seed: int, judged: Judged, labels: Mapping[str, str]) -> Ranked:
    """Hold a verdict against what is known.

    Args:
        name: of the dial.
        seed: of the study.
        judged: what was found.
        labels: the dial's word for each strategy that has another in the verdict.
    """
    dial = DIALS[name]
    means = {labels.get(line.name, line.name): line.mean for line in judged.lines if line.compared}
    seen = {}
    for pair in judged.pairs:
        for one in (pair.comparison, pair.comparison.turned):
            seen[labels.get(one.first, one.first), labels.get(one.second, one.second)] = one
    against = [seen[dial.best[0], other] for other in dial.worse if other in means]
    untrue = [(other, best) for other in dial.worse for best in dial.best if (other, best) in seen]
    first = next(iter(means))
    return Ranked(
        dial=name,
        seed=seed,
        first=first,
        means=means,
        known_first=first in dial.best,
        least=float(np.min([one.low for one in against])),  # nan where any has none
        shown=all(one.verdict is Verdict.BETTER for one in against),
        untrue=tuple(f"{other} beats {best}" for other, best in untrue if seen[other, best].verdict is Verdict.BETTER),
    )


def enough(rows: Sequence[Ranked]) -> bool:
    """Whether the known best was found in nine studies of ten, and nothing untrue was said."""
    return sum(row.found for row in rows) >= NEEDED * len(rows) and not any(row.untrue for row in rows)
