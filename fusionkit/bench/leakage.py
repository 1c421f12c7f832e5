r"""Does an evaluation find something where there is nothing? Every split protocol on noise that knows no label.

A protocol's accuracy on label-free noise is compared with what its own models reach by chance. That is not one
over the number of classes: leaving records of a class out makes the training prior favour the others, so that a model
answers the very class it is tested on too seldom. With :math:`n` groups of each of :math:`K` classes, leaving one
group out leaves :math:`n - 1` of its class and :math:`n` of each other: who answers the most frequent class is never
right, and who draws answers from the training prior is right in :math:`(n - 1) / (K n - 1) < 1 / K` of cases (4/14 of
SEED's 15 trials, not 1/3). In general, a model that answers class :math:`c` of fresh noise with the frequency
:math:`p_c`, whatever the label, is right by chance in

.. math:: E = \sum_c p_c \pi_c

of its test records, where :math:`\pi_c` is the share of class :math:`c` among them; over folds that is
:math:`1 / K` plus the covariance of :math:`p` and :math:`\pi`, negative where one is what the other lacks. Here
:math:`p` is counted: each fold's model is asked about noise of another seed, which it cannot know.

Windows of a trial, trials under one model and folds that trade training and test records are not independent: two
halves that test each other make nearly the same error twice. The deviation accuracy - E is therefore averaged over
*units*, which share neither records nor models: in a repetition (a seed of its own) the subjects or sessions whose
models have no record in common, or the repetition as a whole. Their standard error is ``sigma``; the deviation in
sigma is that of a normal variable as improbable as the t statistic with as many degrees of freedom as units less one.

Reference:
    Kohavi, A study of cross-validation and bootstrap for accuracy estimation and model selection, IJCAI 1995 (the
    majority under leave-one-out); Parker, Guenter and Bedo, Stratification bias in low signal microarray studies, BMC
    Bioinformatics 8:326, 2007; Bengio and Grandvalet, No unbiased estimator of the variance of k-fold
    cross-validation, JMLR 5, 2004.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse, stats
from sklearn.linear_model import LogisticRegression

from fusionkit.data.guard import check_straddling
from fusionkit.data.splits import Split
from fusionkit.recipe.build import build_modalities
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.sections import Recipe
from fusionkit.training.material import Material, open_study, smoothed_together
from fusionkit.training.records import divide, learn_tasks

LIMIT = 3.0
"""Deviations in sigma that an honest protocol stays within, and a leak does not."""

SENSOR = "kind: eeg, column: features, features: {kind: ready}"
SENSORS = {"raw": SENSOR, "smoothed": f"{SENSOR}, smooth: {{kind: lds, over: trial, causal: false}}"}
RECIPE = """
data: {kind: noise}
fusion: {kind: vote}
tasks: {emotion: {kind: classification}}
modalities:
  noise: """


@dataclass(frozen=True)
class Protocol:
    """How noise is split, and how much of it: subjects, sessions and a share of SEED's durations that show the protocol.

    Attributes:
        name: as the table shows it.
        split: options of a recipe's ``data.split``.
        reason: why its leak is allowed; None for an honest protocol.
    """

    name: str
    split: Mapping[str, Any]
    subjects: int = 6
    sessions: int = 2
    scale: float = 0.02
    reason: str | None = None


PROTOCOLS = (
    Protocol("leave_one_subject_out", {"kind": "leave_one_subject_out"}),
    Protocol("k_fold by subject", {"kind": "k_fold", "folds": 3}),
    Protocol("holdout by subject", {"kind": "holdout"}),
    Protocol("cross_session", {"kind": "cross_session"}),
    Protocol("seed_9_6", {"kind": "seed_9_6"}),
    Protocol("seed_v_3_fold", {"kind": "seed_v_3_fold"}),
    Protocol("within_subject by trial", {"kind": "within_subject"}),
    Protocol("leave_one_out by trial", {"kind": "leave_one_out", "by": "trial"}, subjects=1, sessions=1),
)
WINDOWS = Protocol(
    "k_fold by window",
    {"kind": "k_fold", "by": "record"},
    subjects=4,
    sessions=1,
    scale=0.1,
    reason="shows what a leak does",
)


@dataclass(frozen=True)
class LeakageScore:
    """One protocol on one kind of noise.

    Attributes:
        protocol: its name.
        features: ``raw`` or ``smoothed``.
        honest: whether it must stay at chance.
        accuracy: of all repetitions.
        chance: what its models reach by chance, see the module.
        sigma: standard error of accuracy - chance over units.
        deviation: accuracy - chance in sigma, as a normal variable.
        units: independent units, of all repetitions.
    """

    protocol: str
    features: str
    honest: bool
    accuracy: float
    chance: float
    sigma: float
    deviation: float
    units: int

    @property
    def expected(self) -> bool:
        """Whether an honest protocol stays within `LIMIT`. A leak of smoothed windows must exceed it, one of raw ones
        has nothing to find."""
        leaks = not self.honest and self.features == "smoothed"
        return self.deviation > LIMIT if leaks else abs(self.deviation) <= LIMIT


Report = Callable[[int, int, str], None]
"""Called with what is done, how much there is, and of what."""


def bench_leakage(repetitions: int = 40, *, seed: int = 0, report: Report | None = None) -> list[LeakageScore]:
    """Score every protocol, and the split by windows that leaks, on raw and on smoothed noise.

    Logistic regression (scikit-learn) stands in for networks, which would take the tenfold; studies, features,
    splits and the guard are those of a training run. Of 18 rows one exceeds 3 sigma by chance at one first seed in
    twenty: more repetitions tell that from a leak, which only grows.

    Args:
        repetitions: seeds of each; 2 or more.
        seed: the first of them.
        report: hears of progress.
    """
    jobs = [(protocol, features) for features in SENSORS for protocol in (*PROTOCOLS, WINDOWS)]
    scores = []
    with TemporaryDirectory() as folder:
        for done, (protocol, features) in enumerate(jobs):
            if report is not None:
                report(done, len(jobs), "protocols")
            scores.append(score_protocol(protocol, features, repetitions, Path(folder), seed=seed))
        if report is not None:
            report(len(jobs), len(jobs), "protocols")
    return scores


def score_protocol(protocol: Protocol, features: str, repetitions: int, folder: Path, *, seed: int = 0) -> LeakageScore:
    """Score one protocol on noise of ``repetitions`` seeds from ``seed`` on.

    Args:
        protocol: how the noise is split.
        features: ``raw`` or ``smoothed``.
        repetitions: seeds; 2 or more where a repetition is one unit.
        folder: for studies and features, which other protocols of the same noise share.
        seed: the first.

    Raises:
        DataError: the split leaks, and the protocol gives no reason.
    """
    noise = [_Noise.make(protocol, features, seed + index, folder) for index in range(repetitions + 1)]
    found = [_score(mine, fresh) for mine, fresh in pairwise(noise)]
    right, chance, count = (np.concatenate([units[:, column] for units in found]) for column in range(3))
    total = count.sum()
    accuracy, expected = right.sum() / total, chance.sum() / total
    error = right - chance - (accuracy - expected) * count
    units = len(count)
    sigma = math.sqrt(units / (units - 1) * float(np.square(error).sum())) / total
    return LeakageScore(
        protocol=protocol.name,
        features=features,
        honest=protocol.reason is None,
        accuracy=float(accuracy),
        chance=float(expected),
        sigma=sigma,
        deviation=_as_normal((accuracy - expected) / max(sigma, 1e-12), units - 1),
        units=units,
    )


@dataclass(frozen=True)
class _Noise:
    """One study of noise: its features, labels and split, made as a training run makes them."""

    features: Float[np.ndarray, "record number"]
    target: Int[np.ndarray, " record"]
    split: Split

    @classmethod
    def make(cls, protocol: Protocol, features: str, seed: int, folder: Path) -> "_Noise":
        recipe = _recipe(protocol, features, seed, folder)
        with open_study(recipe) as study:
            split = divide(recipe, study.records)
            check_straddling(split, study, recipe.data.allow_leakage, smoothed_together(recipe, study))
            _, targets = learn_tasks(recipe, study.records)
            values = Material(recipe, study, torch.device("cpu")).features("noise", build_modalities(recipe)["noise"])
            flat = np.array(values.values).reshape(len(study.records), -1)
        return cls(flat, targets["emotion"].astype(np.int64), split)


def _recipe(protocol: Protocol, features: str, seed: int, folder: Path) -> Recipe:
    options: dict[str, Any] = {"seed": seed, "cache": str(folder)}
    options |= {name: getattr(protocol, name) for name in ("subjects", "sessions", "scale")}
    options |= {f"split.{name}": value for name, value in protocol.split.items()}
    if protocol.reason is not None:
        options["allow_leakage"] = protocol.reason
    overrides = [f"seed={seed}", *(f"data.{name}={value}" for name, value in options.items())]
    return parse_recipe(f"{RECIPE}{{{SENSORS[features]}}}", "leakage", overrides)


def _score(mine: _Noise, fresh: _Noise) -> Float[np.ndarray, "unit 3"]:
    """Right answers, those by chance, and records of every unit."""
    units = _units(mine.split)
    totals = np.zeros((units.max() + 1, 3))
    for fold, unit in zip(mine.split.folds, units, strict=True):
        model = LogisticRegression(max_iter=200).fit(mine.features[fold.train], mine.target[fold.train])
        truth, answers = mine.target[fold.test], model.predict(fresh.features)
        share = np.bincount(answers, minlength=int(mine.target.max()) + 1) / len(answers)
        totals[unit] += [(model.predict(mine.features[fold.test]) == truth).sum(), share[truth].sum(), len(truth)]
    return totals


def _units(split: Split) -> Int[np.ndarray, " fold"]:
    """Number of each fold's unit: folds that share a record, or share one with folds that do, are in one."""
    used = [np.concatenate(list(fold.parts().values())) for fold in split.folds]
    fold = np.repeat(np.arange(len(used)), [len(rows) for rows in used])
    ties = sparse.csr_matrix((np.ones(len(fold)), (fold, np.concatenate(used))), shape=(len(used), len(split.ids)))
    _, units = sparse.csgraph.connected_components(ties @ ties.T, directed=False)
    return np.asarray(units, dtype=np.int64)


def _as_normal(statistic: float, freedom: int) -> float:
    """The standard normal value as improbable as a t statistic: 3 with 4 degrees of freedom is 2.05."""
    return math.copysign(float(-stats.norm.ppf(stats.t.sf(abs(statistic), freedom))), statistic)
