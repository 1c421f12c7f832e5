"""The paired bootstrap: the same draws for all, against loops, and how often it holds the truth."""

import numpy as np
import pytest
import scipy.stats

from fusionkit.core.errors import ConfigError, DataError, ShapeError
from fusionkit.core.registry import heads
from fusionkit.evaluation.intervals import bootstrap, percentile_interval
from fusionkit.evaluation.metrics import metrics_of
from fusionkit.evaluation.statistics.resampled import resample_means, resample_metric, widened

SCORES = np.random.default_rng(0).normal(0.7, 0.1, (9, 3, 2))


def test_two_subjects_by_hand():
    found = resample_means(np.array([1.0, 3.0]), seed=0, repetitions=500)
    assert found.value == 2
    assert set(found.draws) == {1.0, 2.0, 3.0}


def test_a_strategy_is_never_better_than_itself_whoever_is_drawn():
    found = resample_means(SCORES[:, :1, 0] + np.array([0, 0.1]), seed=0)
    difference = found.then(lambda s: s[..., 1] - s[..., 0])
    interval = difference.interval()
    assert (interval.low, interval.value, interval.high) == pytest.approx((0.1, 0.1, 0.1))


def test_one_seed_draws_the_same_subjects_for_any_scores():
    alone = resample_means(SCORES[:, 1, 0], seed=3)
    together = resample_means(SCORES, seed=3)
    np.testing.assert_allclose(together.draws[:, 1, 0], alone.draws)
    assert together.draws.shape == (2000, 3, 2)
    np.testing.assert_allclose(together.value, SCORES.mean(0))
    assert len(together.intervals()) == 6
    assert together.intervals()[2] == together.then(lambda s: s[..., 1, 0]).interval()


def test_agrees_with_drawing_subjects_one_by_one():
    rng = np.random.default_rng(1)
    plain = [SCORES[rng.integers(9, size=9), 0, 0].mean() for _ in range(20000)]
    found = resample_means(SCORES[:, 0, 0], seed=0, repetitions=20000).interval()
    tail = (1 - widened(0.95, 9)) / 2
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(plain, [tail, 1 - tail])), abs=5e-3)


@pytest.mark.parametrize(("subjects", "share"), [(5, 0.92), (10, 0.94), (24, 0.945)])
def test_holds_the_truth_as_often_as_said(subjects, share):
    """Plain percentiles hold it in 84, 89 and 92 % of studies."""
    scores = np.random.default_rng(subjects).normal(size=(subjects, 4000))
    intervals = resample_means(scores, seed=0, repetitions=1000).intervals()
    held = np.mean([one.low <= 0 <= one.high for one in intervals])
    assert held == pytest.approx(share, abs=0.012)


def test_the_chance_of_a_mean_is_that_of_the_t_test():
    scores = np.random.default_rng(0).normal(0.3, 1, (7, 4))
    found = resample_means(scores, seed=0, repetitions=20_000).chance()
    assert found == pytest.approx(scipy.stats.ttest_1samp(scores, 0).pvalue, rel=0.05, abs=1e-3)
    assert resample_means(np.full((5, 1), 0.1), seed=0).chance() == pytest.approx(2 / 2**5)  # five signs
    assert np.isnan(resample_means(scores[:1], seed=0).chance()).all()


def test_the_level_of_few_subjects_by_hand():
    reach = np.sqrt(10 / 9) * scipy.stats.t.ppf(0.975, 9)
    assert widened(0.95, 10) == pytest.approx(1 - 2 * scipy.stats.norm.sf(reach)) == pytest.approx(0.9829, abs=1e-4)
    assert 0.95 < widened(0.95, 1000) < 0.9505
    assert widened(0.95, 2) < 1


def test_one_subject_has_no_interval():
    found = resample_means(SCORES[:1], seed=0, repetitions=10)
    assert np.isnan(found.draws).all()
    assert found.intervals()[0].note == "not defined in any resample"


def test_a_subject_without_a_score_is_refused():
    scores = SCORES.copy()
    scores[4, 1, 1] = np.nan
    with pytest.raises(DataError, match="subject 4"):
        resample_means(scores, seed=0)
    with pytest.raises(DataError, match="no subject"):
        resample_means(SCORES[:0], seed=0)
    with pytest.raises(ConfigError, match="got 0"):
        resample_means(SCORES, seed=0, repetitions=0)
    with pytest.raises(ShapeError, match="of one score"):
        resample_means(SCORES, seed=0).interval()


@pytest.mark.parametrize("name", ["balanced_accuracy", "auroc", "macro_f1", "ece"])
def test_pooled_metrics_agree_with_the_bootstrap_of_each(name):
    rng = np.random.default_rng(5)
    predictions = rng.dirichlet(np.ones(3), size=(2, 120))
    target, groups = rng.integers(3, size=120).astype(float), rng.integers(8, size=120)
    target[::7] = np.nan
    metric = metrics_of(heads.build("classification", {"classes": list("abc")}))[name]
    found = resample_metric(metric, list(predictions), target, groups, seed=2, repetitions=300)
    for number, prediction in enumerate(predictions):
        alone = bootstrap(metric, prediction, target, groups, seed=2, repetitions=300)
        spread = found.draws[:, number]
        assert percentile_interval(alone.value, spread, 0.95) == alone
        assert found.subjects == 8 and found.intervals()[number].low < alone.low < alone.high
    same = resample_metric(metric, [predictions[0]] * 2, target, groups, seed=2, repetitions=50)
    assert (same.then(lambda s: s[..., 0] - s[..., 1]).draws == 0).all()


def test_predictions_must_have_groups():
    metric = metrics_of(heads.build("classification", {"classes": list("ab")}))["accuracy"]
    with pytest.raises(ShapeError, match="got 0 and"):
        resample_metric(metric, [], np.zeros(3), np.zeros(3), seed=0)
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        resample_metric(metric, [np.full((3, 2), 0.5)], np.zeros(3), np.zeros(2), seed=0)
    alone = resample_metric(metric, [np.full((3, 2), 0.5)], np.zeros(3), np.zeros(3), seed=0, repetitions=4)
    assert alone.value == 1
    assert np.isnan(alone.draws).all()
