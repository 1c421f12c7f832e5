"""The t test over subjects and trainings: by hand, against the plain t test, and as an unbiased error."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from fusionkit.core.errors import ShapeError
from fusionkit.evaluation.statistics.null_study import DECIDES, TESTS, Design, false_positives
from fusionkit.evaluation.statistics.trained_t import trained_t


def plain(differences, fold):
    """The formula, one fold at a time."""
    n, seeds = differences.shape
    each, folds = differences.mean(1), np.unique(fold)
    total = each.var(ddof=1) / n
    q = sum(((fold == f).sum() / n) ** 2 for f in folds)
    unseen = 1 - (1 - q) / (q * (n - 1))
    parts = [unseen * ((fold == f).sum() / n) ** 2 * differences[fold == f].mean(0).var(ddof=1) / seeds for f in folds]
    k = len(folds)
    by_fold = (
        k / (k - 1) * sum(((fold == f).sum() / n) ** 2 * (each[fold == f].mean() - each.mean()) ** 2 for f in folds)
    )
    share = total / (total + sum(parts))
    sizes = [(fold == f).sum() ** 2 for f in folds]
    trainings = (seeds - 1) * sum(sizes) ** 2 / sum(one**2 for one in sizes)

    def critical(tail):
        return share * scipy.stats.t.isf(tail, n - 1) + (1 - share) * scipy.stats.t.isf(tail, trainings)

    error = max(total + sum(parts), by_fold) ** 0.5
    away = abs(each.mean()) / error
    return error, 2 * scipy.optimize.brentq(lambda tail: critical(tail) - away, 1e-16, 0.5), critical(0.025)


def test_a_subject_a_fold_is_the_plain_t_test():
    d = np.repeat([[1.0], [2], [3], [4]], 3, axis=1) + np.array([-1e-3, 0, 1e-3])
    found = trained_t(d, np.arange(4))
    assert (found.mean, found.error, found.freedom()) == pytest.approx((2.5, np.sqrt(5 / 12), 3))
    theirs = scipy.stats.ttest_1samp(d.mean(1), 0)
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.interval() == pytest.approx(tuple(theirs.confidence_interval()))


@pytest.mark.parametrize("fold", [[0, 0, 1, 1, 2, 2], [0, 0, 0, 7, 7, 3], [0, 0, 0, 0, 1, 1]])
def test_agrees_with_the_formula_for_many_tests_at_once(fold):
    fold = np.array(fold)
    d = np.random.default_rng(1).normal(0, 1, (3, 2, 6, 4)) + fold[:, None] * np.linspace(0, 1, 3)[:, None, None, None]
    found = trained_t(d, fold)
    for i in np.ndindex(3, 2):
        error, p, critical = plain(d[i], fold)
        assert (found.error[i], found.critical()[i]) == pytest.approx((error, critical))
        assert found.p[i] == pytest.approx(p, rel=1e-5)
        assert scipy.stats.t.ppf(0.975, found.freedom()[i]) == pytest.approx(critical)


def test_shared_luck_is_counted_and_more_seeds_take_it_away():
    """The mean of the squared error is no less than the variance of the mean, luck and all."""
    rng = np.random.default_rng(2)
    fold = np.arange(12) % 4
    for seeds in (2, 8):
        luck = rng.normal(0, 1, (4000, 4, seeds))[:, fold]
        d = luck + rng.normal(0, 0.5, (4000, 12, 1)) + rng.normal(0, 0.5, (4000, 12, seeds))
        found = trained_t(d, fold)
        true = 1 / 4 / seeds + 0.25 / 12 + 0.25 / 12 / seeds
        assert found.mean.var() == pytest.approx(true, rel=0.08)
        assert true * 0.97 < (found.error**2).mean() < 1.6 * true
        subjects_alone = d.mean(-1).var(-1, ddof=1).mean() / 12
        assert subjects_alone < 0.8 * true


def test_seeds_are_no_replicates_of_a_subject():
    rng = np.random.default_rng(3)
    d = np.repeat(rng.normal(0, 1, (12, 1)), 2, axis=1)
    few, many = (trained_t(np.repeat(d, times, axis=1), np.arange(12) % 4) for times in (1, 50))
    assert few.error == pytest.approx(many.error)
    assert few.error >= d[:, 0].std(ddof=1) / np.sqrt(12) - 1e-12


def test_the_interval_leaves_out_0_exactly_where_p_is_below_the_level():
    d = np.random.default_rng(4).normal(0.4, 1, (500, 9, 3))
    found = trained_t(d, np.arange(9) % 3)
    low, high = found.interval(0.95)
    np.testing.assert_array_equal((low > 0) | (high < 0), found.p < 0.05)
    assert 20 < (found.p < 0.05).sum() < 480


def test_no_difference_and_the_same_for_all():
    assert trained_t(np.zeros((6, 2)), np.arange(6) % 2).p == 1
    found = trained_t(np.full((6, 2), 0.1), np.arange(6) % 2)
    assert found.p == 2 / 2**6  # six signs that agree
    assert found.interval() == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize(("subjects", "seeds", "signs"), [(2, 1, 2), (2, 3, 2), (4, 3, 4)])
def test_a_few_differences_without_spread_are_no_certainty(subjects, seeds, signs):
    found = trained_t(np.full((subjects, seeds), -0.1), np.arange(subjects))
    assert found.p == 2 / 2**signs
    assert np.isnan(found.interval()).all()


def test_two_subjects_with_ten_records_each_hardly_ever_differ_by_chance():
    """Their differences are the very same in 12 % of null studies."""
    scores = np.random.default_rng(0).binomial(10, 0.8, (2000, 2, 2, 1)) / 10
    found = trained_t(scores[:, 0] - scores[:, 1], np.arange(2))
    assert (found.p < 0.05).mean() < 0.0615


def test_differences_by_rounding_alone_are_none():
    """The same three scores in another order: their means differ by 1e-17."""
    scores = np.random.default_rng(0).integers(0, 31, (20, 3)) / 30
    d = scores - scores[:, [1, 2, 0]]
    assert 0 < np.abs(d.mean(1)).max() < 1e-15
    found = trained_t(d, np.arange(20))
    assert (found.mean, found.error, found.p) == (0, 0, 1)


def test_one_seed_is_the_plain_t_test_over_folds_where_those_differ_more():
    d = np.array([1.0, 1.1, 3.0, 3.1, 2.0, 2.2])[:, None]
    fold = np.array([0, 0, 1, 1, 2, 2])
    found = trained_t(d, fold)
    theirs = scipy.stats.ttest_1samp([1.05, 3.05, 2.1], 0)
    assert (found.p, found.freedom()) == (pytest.approx(theirs.pvalue), 2)
    assert trained_t(d[::-1], fold).error == pytest.approx(found.error)


def test_one_fold_has_its_luck_from_seeds():
    d = np.random.default_rng(5).normal(0, 1, (8, 4)) + np.array([0, 1, 2, 3.0])
    found = trained_t(d, np.zeros(8, dtype=int))
    expected = d.mean(1).var(ddof=1) / 8 + d.mean(0).var(ddof=1) / 4
    assert found.error == pytest.approx(np.sqrt(expected))


def test_two_seeds_in_one_fold_are_two_numbers():
    """How much luck moves a mean is then known by one difference: Student's t with one degree of freedom."""
    d = np.random.default_rng(6).normal(1, 1, (30, 2))
    found = trained_t(d, np.zeros(30, dtype=int))
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(found.mean / found.error, 1), rel=1e-5)
    assert found.freedom() == pytest.approx(1)


@pytest.mark.parametrize(("seeds", "subjects"), [(2, 30), (3, 30), (5, 10)])
@pytest.mark.parametrize("folds", [1, 2])
def test_keeps_its_level_in_one_fold_or_two(seeds, subjects, folds):
    """With Satterthwaite's degrees of freedom, 36 % of studies of two seeds in one fold find a difference."""
    design = Design(strategies=5, subjects=subjects, folds=folds, seeds=seeds, luck=0.04)
    assert false_positives(TESTS[DECIDES], design) <= 0.0615


@pytest.mark.parametrize(("shape", "folds"), [((6, 1), 1), ((1, 3), 1)])
def test_too_few_of_anything_is_refused(shape, folds):
    with pytest.raises(ShapeError, match="two subjects or more with a fold each, and of two folds or seeds"):
        trained_t(np.zeros(shape), np.arange(shape[0]) % folds)


def test_every_subject_must_have_a_fold():
    with pytest.raises(ShapeError, match=r"folds of \(5,\)"):
        trained_t(np.zeros((6, 3)), np.arange(5))
