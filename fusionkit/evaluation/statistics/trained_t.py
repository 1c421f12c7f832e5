"""A t test for subjects tested by a few trained models: would other subjects, and other trainings, agree?"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.stats import t

from fusionkit.core.errors import ShapeError
from fusionkit.core.recording import Array
from fusionkit.evaluation.statistics.ties import without_rounding

FEW = 2.0  # degrees of freedom of trainings below which nothing else is looked at
STEPS = 20_001
LOGARITHMS = np.linspace(np.log(1e-16), 0, STEPS)  # of p-values; one below is 1e-16


@dataclass(frozen=True)
class TrainedT:
    """A mean difference with its error over subjects and trainings; of many tests at once, arrays.

    Attributes:
        mean: of the differences, over subjects.
        error: its standard error.
        share: of its square that is of subjects; the rest is of trainings.
        subjects: degrees of freedom of the first.
        trainings: degrees of freedom of the second.
        p: two-sided.
    """

    mean: Array
    error: Array
    share: Array
    subjects: float
    trainings: float
    p: Array

    def critical(self, level: float = 0.95) -> Array:
        """How many errors the mean must lie from 0: between Student's quantiles for subjects and for trainings."""
        return _quantile((1 - level) / 2, self.share, self.subjects, self.trainings)

    def freedom(self, level: float = 0.95) -> Array:
        """Degrees of freedom whose quantile at that level is `critical`: between the two, most where subjects weigh most."""
        found: Array = np.vectorize(_freedom, otypes=[float])(
            self.critical(level),
            (1 - level) / 2,
            min(self.subjects, self.trainings),
            max(self.subjects, self.trainings),
        )
        return found

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Lower and upper end; 0 lies outside exactly where p is below 1 less the level.

        nan where differences do not vary and are too few to be certain of.
        """
        reach = self.critical(level) * self.error
        reach = np.where((self.error == 0) & (self.mean != 0) & (self.p >= 1 - level), np.nan, reach)
        return np.asarray(self.mean - reach), np.asarray(self.mean + reach)


def trained_t(differences: Float[np.ndarray, "*test subject seed"], fold: Int[np.ndarray, " subject"]) -> TrainedT:
    r"""Add to the error over subjects what they share: the luck of the models that were trained for their fold.

    Subjects tested by one model rise and fall together, so that a test over subjects finds differences that
    another training would not. How much the mean difference of a fold varies from seed to seed says how much. With
    n subjects in k folds of :math:`n_f`, R seeds, and the mean over seeds of each subject,

    .. math:: V = \frac{s^2_\mathrm{subjects}}{n}
              + \Bigl(1 - \frac{1 - q}{q (n - 1)}\Bigr) \sum_f \frac{n_f^2}{n^2} \frac{s^2_{f, \mathrm{seeds}}}{R},
              \quad q = \sum_f \frac{n_f^2}{n^2}

    The bracket leaves out what the first term has seen: it is (n - k) / (n - 1) for folds of one size, and 0 where
    each subject is a fold of its own. Where the folds' means lie further apart than this allows, V is their variance
    instead, :math:`\tfrac{k}{k - 1} \sum_f \tfrac{n_f^2}{n^2} (\bar d_f - \bar d)^2`. Seeds are no replicates of a
    subject: more of them leave the first term as it is. What the mean is held against are Cochran's critical values:
    the two terms' mean of Student's quantiles with n - 1 and with k (R - 1) degrees of freedom (fewer where folds differ
    in size). With one degree of freedom of the second, one fold with two seeds, its quantile alone. With
    one seed V is the larger of the first term and the variance of the folds, with k - 1 degrees of freedom. Where all
    subjects differ by the same amount, p is that of their signs alone, see `alike`.

    With the differences 1, 2, 3, 4 of four folds of one subject each it is the plain t test: error
    sqrt(5/3 / 4) = 0.645, three degrees of freedom.

    The combination is ours (random effects: subjects in folds, and seeds). In null studies of six strategies, four
    folds, three seeds and 15 subjects (`fusionkit.evaluation.statistics.null_study`), some pair was said to differ in
    1 % of studies without luck and 1 % with luck of 0.04, where the t test over subjects said so in 5 % and 12 %, and
    the corrected t test over folds in 2 % and 1 %. A difference of 0.1 was found in 78 % and 44 % of cases, by the
    corrected test in 7 % and 4 %. What a training set does to all its seeds alike is seen only through the folds:
    with a deviation of 0.02 more, false findings rise to 3 % (subjects alone: 25 %), of 30 subjects to 6 %; with 0.03,
    to 15 % in four folds and 12 % in ten. The corrected test then still says nothing untrue, and as good as nothing at
    all. `fusionkit bench statistics` counts.

    Args:
        differences: first strategy less second, for every subject and seed.
        fold: number of the fold that tests each subject.

    Raises:
        ShapeError: there are fewer than two subjects, one training for all, or not one fold for each subject.

    Reference:
        Cochran, Approximate Significance Levels of the Behrens-Fisher Test, Biometrics 1964, which is cautious where
        degrees of freedom are few (Satterthwaite's are not: with one fold, three seeds and 30 subjects false findings
        were 16 %); why trainings count: Bouthillier et al., Accounting for Variance in Machine Learning Benchmarks, MLSys 2021.
    """
    differences = np.asarray(differences, dtype=np.float64)
    largest = np.abs(differences).max((-2, -1), initial=0)
    subjects, seeds = differences.shape[-2:]
    _, member, size = np.unique(fold, return_inverse=True, return_counts=True)
    folds = len(size)
    if subjects < 2 or seeds * folds < 2 or member.shape != (subjects,):
        raise ShapeError(
            "differences must be of two subjects or more with a fold each, and of two folds or seeds, "
            f"but got {differences.shape} and {folds} folds of {np.shape(fold)}"
        )
    weight = (size / subjects) ** 2
    by_fold = ((member == np.arange(folds)[:, None]) / size[:, None]) @ differences  # (..., fold, seed)
    each = without_rounding(differences.mean(-1), largest[..., None])
    mean = each.mean(-1)
    over_subjects = each.var(-1, ddof=1) / subjects
    unseen = 1 - (1 - weight.sum()) / (weight.sum() * (subjects - 1)) if seeds > 1 else 0.0
    unseen = max(0.0, float(without_rounding(unseen, 1.0)))
    over_seeds = unseen * weight * by_fold.var(-1, ddof=min(1, seeds - 1)) / seeds  # (..., fold)
    variance = over_subjects + over_seeds.sum(-1)
    share = np.divide(over_subjects, variance, out=np.ones_like(variance), where=variance > 0)
    of_subjects = float(subjects - 1 if seeds > 1 else folds - 1)
    of_trainings = of_subjects if unseen == 0 else float((seeds - 1) * weight.sum() ** 2 / (weight**2).sum())
    if of_trainings < FEW:
        share = np.zeros_like(share)
    over_folds = (weight * (by_fold.mean(-1) - mean[..., None]) ** 2).sum(-1) * folds / max(1, folds - 1)
    error = np.sqrt(np.maximum(variance, over_folds))
    error = without_rounding(error, largest)
    statistic = np.divide(np.abs(mean), error, out=np.zeros_like(mean), where=error > 0)
    p = _chance(statistic, share, of_subjects, of_trainings)
    p = np.where((error == 0) & (mean != 0), alike(np.asarray(of_subjects)), p)
    return TrainedT(np.asarray(mean), np.asarray(error), share, of_subjects, of_trainings, p)


def _quantile(tail: Float[np.ndarray, "*p"] | float, share: Array, subjects: float, trainings: float) -> Array:
    return np.asarray(share * t.isf(tail, subjects) + (1 - share) * t.isf(tail, trainings))


def _chance(statistic: Array, share: Array, subjects: float, trainings: float) -> Array:
    """The level whose critical value is the statistic, two-sided: looked up, and drawn straight between neighbours (1e-6 of it)."""
    if subjects == trainings:
        return np.asarray(2 * t.sf(statistic, subjects))
    first, second = (_table(freedom) for freedom in (subjects, trainings))  # falling, as p rises
    low, high = np.zeros(statistic.shape, dtype=np.int64), np.full(statistic.shape, STEPS - 1)
    while (high - low > 1).any():
        middle = (low + high) // 2
        above = share * first[middle] + (1 - share) * second[middle] > statistic
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    ends = [share * first[end] + (1 - share) * second[end] for end in (low, high)]
    place = np.clip((ends[0] - statistic) / (ends[0] - ends[1]), 0, 1)
    return np.asarray(np.exp(LOGARITHMS[low] + place * (LOGARITHMS[high] - LOGARITHMS[low])))


@lru_cache(maxsize=64)
def _table(freedom: float) -> Array:
    return np.asarray(t.isf(np.exp(LOGARITHMS) / 2, freedom))


def _freedom(critical: float, tail: float, least: float, most: float) -> float:
    ends = [float(t.isf(tail, freedom)) - critical for freedom in (least, most)]
    if ends[0] <= 0 or ends[1] >= 0:  # one of the two, but for rounding
        return least if ends[0] <= 0 else most
    return float(brentq(lambda freedom: float(t.isf(tail, freedom)) - critical, least, most))


def alike(freedom: Float[np.ndarray, "*test"]) -> Array:
    """Chance that the signs of freedom + 1 differences are all the same: what is left to go by where they do not vary.

    A t test takes no spread for certainty, but scores of a few records often differ by the very same amount: of two
    subjects with ten records each in one of ten comparisons. Of two it is 1/2, of six 1/32.
    """
    return np.asarray(0.5**freedom)
