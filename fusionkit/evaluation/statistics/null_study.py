"""Studies in which no strategy is better than another: how often does a test find a winner all the same?"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binom, ttest_1samp

from fusionkit.core.recording import Array
from fusionkit.evaluation.statistics.corrected_t import corrected_t
from fusionkit.evaluation.statistics.friedman import friedman
from fusionkit.evaluation.statistics.holm import holm
from fusionkit.evaluation.statistics.nemenyi import critical_difference
from fusionkit.evaluation.statistics.sign_flip import sign_flip
from fusionkit.evaluation.statistics.signed_rank import signed_rank
from fusionkit.evaluation.statistics.trained_t import trained_t

Decide = Callable[["Design", Array], Array]
"""From scores ``(study, subject, strategy, seed)`` to which pairs are said to differ, ``(study, pair)``."""


@dataclass(frozen=True)
class Design:
    """A comparison, and where its scores come from: standard deviations of what differs.

    Subjects are tested in turn, each in one fold, so that those of a fold share the models trained for it.

    Attributes:
        strategies, subjects, folds, seeds: how many.
        subject, fold: how subjects, and folds, differ for all strategies alike: pairs take them away.
        taste: how strategies differ by subject, whatever the training.
        noise: of a subject's score, at each seed: it has few windows.
        luck: of a trained model: shared by the subjects of its fold, other at the next seed.
        bias: of a training set: shared by the subjects of its fold, and by all seeds; correlated between folds by
            the share of records that a fold tests, as training sets overlap.
        advantage: what the first strategy is better by; 0 for a null study.
        records: of a subject: its score is a share of them, 0.7 in the mean, so that scores are often equal; None for
            scores of any size.
    """

    strategies: int = 6
    subjects: int = 12
    folds: int = 4
    seeds: int = 3
    subject: float = 0.1
    fold: float = 0.05
    taste: float = 0.05
    noise: float = 0.04
    luck: float = 0.0
    bias: float = 0.0
    advantage: float = 0.0
    records: int | None = None

    @property
    def member(self) -> Int[np.ndarray, " subject"]:
        """The fold that tests each subject."""
        return np.arange(self.subjects) % self.folds

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Which two strategies each comparison is of."""
        return list(combinations(range(self.strategies), 2))


def simulate(design: Design, studies: int, seed: int) -> Float[np.ndarray, "study subject strategy seed"]:
    """Scores of many studies."""
    random = np.random.default_rng(seed).standard_normal
    member = design.member
    subjects, folds, strategies, seeds = design.subjects, design.folds, design.strategies, design.seeds
    scores = design.noise * random((studies, subjects, strategies, seeds))
    scores += design.luck * random((studies, folds, strategies, seeds))[:, member]
    scores += design.taste * random((studies, subjects, strategies, 1))
    shared = 1 / folds
    own, common = random((studies, folds, strategies, 1)), random((studies, 1, strategies, 1))
    scores += design.bias * (np.sqrt(1 - shared) * own + np.sqrt(shared) * common)[:, member]
    scores += design.subject * random((studies, subjects, 1, 1))
    scores += design.fold * random((studies, folds, 1, 1))[:, member]
    scores[:, :, 0] += design.advantage
    if design.records is not None:
        scores = np.rint((scores + 0.7) * design.records).clip(0, design.records) / design.records
    return scores


def usual_designs() -> list[Design]:
    """Comparisons as they are made: 4 to 8 strategies, 8 to 30 subjects in one fold or 4 to 10, three seeds.

    Each with trainings that have no luck of their own, some and much, and with scores of ten records.
    """
    sizes = product((4, 6, 8), (1, 4, 5, 10), (8, 15, 30))
    lucks: list[tuple[float, int | None]] = [(0.0, None), (0.02, None), (0.04, None), (0.04, 10)]
    return [
        Design(strategies=strategies, subjects=subjects, folds=folds, luck=luck, records=records)
        for strategies, folds, subjects in sizes
        if subjects >= folds
        for luck, records in lucks
    ]


def corrected_t_folds(design: Design, scores: Array) -> Array:
    """Pairs that differ by the corrected resampled t test over folds, after Holm."""
    return holm(corrected_t(_by_fold(design, _pairs(design, scores)), test_share=1 / design.folds).p) < 0.05


def plain_t_folds(design: Design, scores: Array) -> Array:
    """Pairs that differ by a t test over folds that takes training sets for independent, after Holm."""
    return holm(ttest_1samp(_by_fold(design, _pairs(design, scores)), 0, axis=-1).pvalue) < 0.05


def t_subjects(design: Design, scores: Array) -> Array:
    """Pairs that differ by a t test over subjects, after Holm."""
    return holm(ttest_1samp(_pairs(design, scores).mean(-1), 0, axis=-1).pvalue) < 0.05


def signed_rank_subjects(design: Design, scores: Array) -> Array:
    """Pairs that differ by Wilcoxon's test over subjects, after Holm."""
    return holm(signed_rank(_pairs(design, scores).mean(-1)).p) < 0.05


def sign_flip_subjects(design: Design, scores: Array) -> Array:
    """Pairs that differ by the permutation test of signs over subjects, after Holm."""
    return holm(sign_flip(_pairs(design, scores).mean(-1)).p) < 0.05


def nemenyi_subjects(design: Design, scores: Array) -> Array:
    """Pairs whose ranks differ by more than the critical difference, where Friedman's test finds any."""
    found = friedman(scores.mean(-1))
    apart = np.stack([np.abs(found.ranks[:, i] - found.ranks[:, j]) for i, j in design.pairs], axis=1)
    return (apart > critical_difference(design.strategies, design.subjects)) & (found.p < 0.05)[:, None]


def trained_t_subjects(design: Design, scores: Array) -> Array:
    """Pairs that differ by the t test over subjects and trainings, after Holm."""
    return holm(trained_t(_pairs(design, scores), design.member).p) < 0.05


DECIDES = "t, subjects and trainings"
TESTS: dict[str, Decide] = {
    "corrected t, folds": corrected_t_folds,
    "plain t, folds": plain_t_folds,
    DECIDES: trained_t_subjects,
    "t, subjects": t_subjects,
    "Wilcoxon, subjects": signed_rank_subjects,
    "sign flips, subjects": sign_flip_subjects,
    "Friedman-Nemenyi, subjects": nemenyi_subjects,
}


def false_positives(decide: Decide, design: Design, *, studies: int = 2000, seed: int = 0) -> float:
    """Share of null studies in which any pair is said to differ; 0.05 or less where the test keeps its level."""
    return float(decide(design, simulate(design, studies, seed)).any(1).mean())


def upper_bound(studies: int, level: float = 0.05, confidence: float = 0.99) -> float:
    """Largest share of studies that a test of that level may yet be wrong in: 0.0615 of 2000 at 0.05."""
    return float(binom.ppf(confidence, studies, level) / studies)


def _pairs(design: Design, scores: Array) -> Array:
    """Differences ``(study, pair, subject, seed)``."""
    return np.stack([scores[:, :, i] - scores[:, :, j] for i, j in design.pairs], axis=1)


def _by_fold(design: Design, differences: Array) -> Array:
    """Means over the subjects of a fold and over seeds, ``(study, pair, fold)``."""
    each = differences.mean(-1)
    return np.stack([each[..., design.member == fold].mean(-1) for fold in range(design.folds)], axis=-1)
