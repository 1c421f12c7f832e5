"""Every two strategies of a comparison, with every test: what a table of it holds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from fusionkit.core.errors import ShapeError, UnknownNameError
from fusionkit.core.recording import Array
from fusionkit.evaluation.metric import Better
from fusionkit.evaluation.statistics.conclude import Comparison
from fusionkit.evaluation.statistics.corrected_t import corrected_t
from fusionkit.evaluation.statistics.correlated_t import Posterior, correlated_t
from fusionkit.evaluation.statistics.detectable import detectable_difference
from fusionkit.evaluation.statistics.effect_size import cliffs_delta, cohen_dz, hedges_gz, rank_biserial
from fusionkit.evaluation.statistics.holm import holm
from fusionkit.evaluation.statistics.sign_flip import sign_flip
from fusionkit.evaluation.statistics.signed_rank import signed_rank
from fusionkit.evaluation.statistics.ties import without_rounding
from fusionkit.evaluation.statistics.trained_t import trained_t

NONE = float("nan")


@dataclass(frozen=True)
class Pair:
    """Two strategies, all p-values after Holm over the pairs of the table.

    Attributes:
        comparison: difference, interval and p-value of the t test over subjects and trainings, which the verdict
            is by.
        subjects: how many have a score of both at every seed.
        freedom: degrees of freedom that its critical value is worth.
        signed_rank: p-value of Wilcoxon's test over subjects.
        sign_flip: of the permutation test over subjects.
        corrected: of the corrected t test over folds.
        posterior: of the difference over folds; None where there are fewer than two.
        cohen_dz, hedges_gz, rank_biserial, cliffs_delta: sizes of the effect over subjects.
        detectable: true difference that this study finds in 80 % of cases, at the level of all pairs together.
    """

    comparison: Comparison
    subjects: int
    freedom: float
    signed_rank: float
    sign_flip: float
    corrected: float
    posterior: Posterior | None
    cohen_dz: float
    hedges_gz: float
    rank_biserial: float
    cliffs_delta: float
    detectable: float


def compare_pairs(
    by_subject: Float[np.ndarray, "strategy seed subject"],
    by_fold: Float[np.ndarray, "strategy seed fold"],
    fold: Int[np.ndarray, " subject"],
    strategies: Sequence[str],
    *,
    test_share: float,
    margin: float,
    better: Better = "higher",
    against: str | None = None,
) -> list[Pair]:
    """Compare all pairs of strategies, or each with one that was chosen before the test records were looked at.

    A subject that misses a score of either at any seed is left out of that pair, and so is a fold.

    Args:
        by_subject: scores; nan where there is none.
        by_fold: scores of all test records of a fold, likewise.
        fold: number of the fold that tests each subject.
        strategies: their names.
        test_share: of the records that a fold trains on or tests, the share that it tests.
        margin: half the region of practical equivalence.
        better: which direction of the scores is.
        against: the one to compare with, or none: all pairs. It may be the best on validation, but not on test.

    Raises:
        ShapeError: the scores do not fit together.
        UnknownNameError: there is no strategy to compare with of that name.
    """
    if against is not None and against not in strategies:
        raise UnknownNameError("strategy", against, strategies)
    wanted = (len(strategies), by_subject.shape[1], len(fold))
    if by_subject.shape != wanted or by_fold.shape[:2] != wanted[:2]:
        raise ShapeError(
            f"there must be scores of {len(strategies)} strategies and {len(fold)} subjects at the same seeds, "
            f"but got {by_subject.shape} and {by_fold.shape} by fold"
        )
    sign = 1 if better == "higher" else -1
    pairs = [
        pair for pair in combinations(range(len(strategies)), 2) if against in (None, *(strategies[i] for i in pair))
    ]
    if against is not None:  # it is named first
        pairs = [pair if strategies[pair[0]] == against else pair[::-1] for pair in pairs]
    found = [
        _pair(
            (strategies[i], strategies[j]),
            sign * by_subject[[i, j]],
            sign * by_fold[[i, j]],
            np.asarray(fold),
            test_share,
            margin,
            len(pairs),
        )
        for i, j in pairs
    ]
    first = holm(np.array([one.comparison.p for one in found]))
    others = [
        holm(np.array([getattr(one, name) for one in found])) for name in ("signed_rank", "sign_flip", "corrected")
    ]
    return [
        replace(
            one,
            comparison=replace(one.comparison, p=float(first[k])),
            signed_rank=float(others[0][k]),
            sign_flip=float(others[1][k]),
            corrected=float(others[2][k]),
        )
        for k, one in enumerate(found)
    ]


def _pair(
    names: tuple[str, str], both: Array, both_folds: Array, fold: Array, test_share: float, margin: float, family: int
) -> Pair:
    """Two strategies, ``(2, seed, subject)`` and ``(2, seed, fold)``, p-values as they are."""
    known = ~np.isnan(both).any((0, 1))
    both, fold = both[:, :, known], fold[known]
    size = float(np.nanmax(np.abs(both), initial=0))
    differences = without_rounding(both[0] - both[1], size).T  # (subject, seed)
    subjects, seeds = differences.shape
    each = without_rounding(differences.mean(1), size)
    folds = without_rounding((both_folds[0] - both_folds[1]).mean(0), size)
    folds = folds[~np.isnan(folds)]
    mean = float(each.mean()) if subjects else NONE
    low = high = p = freedom = detectable = NONE
    if subjects >= 2 and seeds * len(np.unique(fold)) >= 2:
        tested = trained_t(differences, fold)
        low, high = map(float, tested.interval())
        p, freedom = float(tested.p), float(tested.freedom())
        if tested.error > 0:  # without any spread there is nothing to tell it by
            level = 1 - 0.05 / family
            detectable = detectable_difference(float(tested.error), float(tested.freedom(level)), level=level)
    return Pair(
        comparison=Comparison(*names, mean, low, high, p, f"{subjects} subjects"),
        subjects=subjects,
        freedom=freedom,
        signed_rank=float(signed_rank(each).p) if subjects else NONE,
        sign_flip=float(sign_flip(each).p) if subjects else NONE,
        corrected=float(corrected_t(folds, test_share=test_share).p) if len(folds) > 1 else NONE,
        posterior=correlated_t(folds, test_share=test_share, rope=margin) if len(folds) > 1 else None,
        cohen_dz=float(cohen_dz(each)),
        hedges_gz=float(hedges_gz(each)),
        rank_biserial=float(rank_biserial(each)),
        cliffs_delta=float(cliffs_delta(both[0].mean(0), both[1].mean(0))) if subjects else NONE,
        detectable=detectable,
    )
