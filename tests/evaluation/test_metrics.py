"""Metrics against scikit-learn and values by hand; resamples against plain repetition of records."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from fusionkit.core.errors import DataError, ShapeError
from fusionkit.core.registry import heads
from fusionkit.evaluation.auroc import over_pairs, over_records
from fusionkit.evaluation.metrics import confusion_matrix, metrics_of, primary_metric, score

KINDS = ["classification", "ordinal", "multi_label", "regression"]


def task_of(kind, classes=3):
    return heads.build(kind, {} if kind == "regression" else {"classes": [f"c{n}" for n in range(classes)]})


def made(kind, records=60, classes=3, seed=0, digits=None):
    """Predictions with ties (rounded), targets that follow them."""
    rng = np.random.default_rng(seed)
    if kind == "regression":
        target = rng.normal(3, 2, records)
        return target + rng.normal(0, 1, records), target
    if kind == "multi_label":
        yes = np.round(rng.random((records, classes)), digits or 9)
        return np.stack([1 - yes, yes], axis=-1), (rng.random((records, classes)) < yes).astype(float)
    probabilities = rng.dirichlet(np.ones(classes), size=records)
    if digits:
        probabilities = np.round(probabilities, digits) + 1e-9
        probabilities /= probabilities.sum(1, keepdims=True)
    return probabilities, np.array([rng.choice(classes, p=p) for p in probabilities]).astype(float)


def by_sklearn(kind, prediction, target):
    if kind == "regression":
        return {
            "mae": sk.mean_absolute_error(target, prediction),
            "rmse": sk.root_mean_squared_error(target, prediction),
            "r2": sk.r2_score(target, prediction),
            "pearson": stats.pearsonr(target, prediction).statistic,
        }
    if kind == "multi_label":
        answer = prediction.argmax(2)
        return {
            "macro_f1": sk.f1_score(target, answer, average="macro", zero_division=np.nan),
            "subset_accuracy": sk.accuracy_score(target, answer),
            "auroc": sk.roc_auc_score(target, prediction[..., 1]),
        }
    answer, classes = prediction.argmax(1), prediction.shape[1]
    labels = np.arange(classes)
    positive = prediction[:, 1] if classes == 2 else prediction
    scores = {
        "accuracy": sk.accuracy_score(target, answer),
        "balanced_accuracy": sk.balanced_accuracy_score(target, answer),
        "macro_f1": sk.f1_score(target, answer, average="macro"),
        "auroc": sk.roc_auc_score(target, positive, multi_class="ovr", labels=None if classes == 2 else labels),
        "nll": sk.log_loss(target, prediction, labels=labels),
        "brier": sk.brier_score_loss(target, prediction, labels=labels, scale_by_half=False),
        "ece": plain_ece(prediction, target),
    }
    if kind == "ordinal":
        scores["mae"] = np.abs(answer - target).mean()
        scores["quadratic_kappa"] = sk.cohen_kappa_score(target, answer, weights="quadratic")
    return scores


def plain_ece(prediction, target, bins=15):
    total = 0.0
    for b in range(bins):
        rows = [
            i for i in range(len(target)) if b / bins < prediction[i].max() <= (b + 1) / bins + 1e-15 * (b + 1 == bins)
        ]
        if rows:
            right = np.mean([prediction[i].argmax() == target[i] for i in rows])
            total += len(rows) / len(target) * abs(right - np.mean([prediction[i].max() for i in rows]))
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("digits", [None, 1])
def test_every_metric_is_that_of_scikit_learn(kind, classes, digits):
    for seed in range(5):
        prediction, target = made(kind, 80, classes, seed, digits)
        scores = score(task_of(kind, classes), prediction, target)
        expected = by_sklearn(kind, prediction, target)
        assert scores.keys() == expected.keys()
        assert scores == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000), groups=st.integers(2, 12), records=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_a_resample_is_the_metric_of_repeated_records(kind, seed, groups, records):
    prediction, target = made(kind, records, 3, seed, digits=1)
    rng = np.random.default_rng(seed)
    group = rng.integers(groups, size=records)
    draws = rng.multinomial(groups, np.full(groups, 1 / groups), size=4)
    for name, metric in metrics_of(task_of(kind)).items():
        fast = metric.resampler(prediction, target, group, groups)(draws.astype(float))
        for times, value in zip(draws, fast, strict=True):
            row = np.repeat(np.arange(records), times[group])
            slow = metric(prediction[row], target[row])
            assert value == pytest.approx(slow, nan_ok=True, rel=1e-7, abs=1e-7), name


@given(seed=st.integers(0, 1000), groups=st.integers(1, 9), records=st.integers(0, 30))
@settings(max_examples=50, deadline=None)
def test_both_ways_to_the_area_agree(seed, groups, records):
    rng = np.random.default_rng(seed)
    value, positive = rng.integers(5, size=records).astype(float), rng.random(records) < 0.4
    group, draws = rng.integers(groups, size=records), rng.integers(4, size=(3, groups)).astype(float)
    pairs = over_pairs(value, positive, group, groups)(draws)
    np.testing.assert_allclose(pairs, over_records(value, positive, group)(draws))


def test_values_by_hand():
    """Right 0, 0, 1 answered 0, 1, 1."""
    prediction = np.array([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]])
    scores = score(task_of("ordinal", 2), prediction, np.array([0, 0, 1.0]))
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["balanced_accuracy"] == pytest.approx(3 / 4)
    assert scores["macro_f1"] == pytest.approx(2 / 3)
    assert scores["auroc"] == 1
    assert scores["brier"] == pytest.approx((0.08 + 0.72 + 0.02) / 3)
    assert scores["nll"] == pytest.approx(-(np.log(0.8) + np.log(0.4) + np.log(0.9)) / 3)
    assert scores["mae"] == pytest.approx(1 / 3)
    assert scores["quadratic_kappa"] == pytest.approx(0.4)
    np.testing.assert_array_equal(confusion_matrix(prediction, np.array([0, 0, 1.0])), [[1, 1], [0, 1]])
    numbers = score(task_of("regression"), np.array([[1.0], [2], [4]]), np.array([1.0, 2, 3]))
    assert numbers == pytest.approx({"mae": 1 / 3, "rmse": 3**-0.5, "r2": 0.5, "pearson": 0.98198}, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_targets_are_left_out_whatever_was_answered(kind):
    prediction, target = made(kind, 30)
    spoiled, gaps = prediction.copy(), target.copy()
    spoiled[::3], gaps[::3] = np.nan, np.nan
    keep = np.arange(30) % 3 > 0
    assert score(task_of(kind), spoiled, gaps) == score(task_of(kind), prediction[keep], target[keep])


@pytest.mark.parametrize("kind", KINDS)
def test_no_labelled_record_is_nan_everywhere_and_warns_nothing(kind):
    prediction, target = made(kind, 5)
    scores = score(task_of(kind), prediction, np.full_like(target, np.nan))
    assert all(np.isnan(value) for value in scores.values())
    assert all(np.isnan(value) for value in score(task_of(kind), prediction[:0], target[:0]).values())


def test_one_class_only_leaves_undefined_what_compares_classes():
    prediction, _ = made("ordinal", 20, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score(task_of("ordinal"), prediction, np.ones(20))
    assert np.isnan(scores["auroc"])
    assert scores["balanced_accuracy"] == scores["accuracy"]
    sure = np.tile([0.1, 0.8, 0.1], (20, 1))
    assert np.isnan(score(task_of("ordinal"), sure, np.ones(20))["quadratic_kappa"])


def test_a_class_that_does_not_occur_is_left_out_of_means_over_classes():
    prediction, target = made("classification", 60, 4)
    keep = target != 3
    scores = score(task_of("classification", 4), prediction[keep], target[keep])
    target, prediction = target[keep], prediction[keep]
    each = [sk.roc_auc_score(target == c, prediction[:, c]) for c in range(3)]
    assert scores["auroc"] == pytest.approx(np.mean(each))
    recall = sk.recall_score(target, prediction.argmax(1), labels=[0, 1, 2], average="macro")
    assert scores["balanced_accuracy"] == pytest.approx(recall)


@pytest.mark.parametrize("level", [0.0, 0.1, 1e6])
def test_a_constant_number_has_neither_r2_nor_correlation(level):
    rng = np.random.default_rng(0)
    scores = score(task_of("regression"), rng.normal(level, 1, 9), np.full(9, level))
    assert np.isnan([scores["r2"], scores["pearson"]]).all()
    assert np.isfinite([scores["mae"], scores["rmse"]]).all()
    scores = score(task_of("regression"), np.full(9, level), rng.normal(level, 1, 9))
    assert np.isnan(scores["pearson"])
    assert scores["r2"] < 0.01


def test_a_number_that_is_constant_in_a_resample_has_neither_there():
    target = np.repeat([0.1, 0.7, 1.3], 3)
    prediction = np.random.default_rng(0).normal(size=9)
    metrics = metrics_of(task_of("regression"))
    draws = np.array([[3.0, 0, 0], [0, 3, 0], [1, 2, 0]])
    for name in ("r2", "pearson"):
        values = metrics[name].resampler(prediction, target, np.repeat(np.arange(3), 3), 3)(draws)
        assert np.isnan(values).tolist() == [True, True, False]


def test_large_offsets_cost_no_digits():
    prediction, target = made("regression", 40)
    near, far = (score(task_of("regression"), prediction + s, target + s) for s in (0, 1e7))
    assert far == pytest.approx(near, rel=1e-6)


def test_a_sure_mistake_is_costly_but_finite():
    scores = score(task_of("classification", 2), np.array([[1.0, 0.0]]), np.array([1.0]))
    assert scores["nll"] == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize(
    ("kind", "name", "better"),
    [
        ("classification", "accuracy", "higher"),
        ("ordinal", "mae", "lower"),
        ("multi_label", "macro_f1", "higher"),
        ("regression", "mae", "lower"),
    ],
)
def test_the_metric_to_choose_by(kind, name, better):
    metric = primary_metric(task_of(kind))
    assert (metric.name, metric.better) == (name, better)


@pytest.mark.parametrize("kind", KINDS)
def test_the_direction_of_every_metric_is_right(kind):
    """Answers near the truth score better than the same answers shuffled."""
    _, target = made(kind, 200)
    if kind == "regression":
        good = target + np.random.default_rng(1).normal(0, 0.3, 200)
    elif kind == "multi_label":
        good = np.where((np.arange(2) == target[..., None]), 0.9, 0.1)
    else:
        good = np.where(np.arange(3) == target[:, None], 0.9, 0.05)
    bad = np.random.default_rng(2).permutation(good)
    for name, metric in metrics_of(task_of(kind)).items():
        gain = metric(good, target) - metric(bad, target)
        assert gain > 0 if metric.better == "higher" else gain < 0, name


@pytest.mark.parametrize(
    ("prediction", "target", "error", "message"),
    [
        (np.full((3, 2), -0.7), np.zeros(3), DataError, "between 0 and 1 .no logarithms., but got -0.7"),
        (np.array([[0.5, 0.5], [np.nan, 0.5]]), np.zeros(2), DataError, "finite, but record 1 has"),
        (np.full((2, 2), 0.5), np.array([0.0, 2.0]), DataError, "class numbers below 2, but got"),
        (np.full((2, 2), 0.5), np.zeros(3), ShapeError, r"got \(2, 2\) and \(3,\)"),
        (np.full((2, 2), 0.5), np.zeros((2, 2)), ShapeError, r"got \(2, 2\) and \(2, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused(prediction, target, error, message):
    with pytest.raises(error, match=message):
        score(task_of("classification", 2), prediction, target)
