"""What is said of scores: means and ranks by hand, every number from its test, and nothing of what failed."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from fusionkit.compare.experiment.results import Scores
from fusionkit.compare.findings.verdict import judge
from fusionkit.core.errors import ConfigError
from fusionkit.evaluation.statistics.holm import holm
from fusionkit.evaluation.statistics.trained_t import trained_t

FOUR = np.array([0.5, 0.6, 0.7, 0.8])


def made(by_subject, strategies, *, fold=None, sensors=(), better="higher", chosen=()):
    """Scores of subjects that weigh the same, a fold a subject if not said otherwise."""
    by_subject = np.asarray(by_subject, dtype=float)
    fold = np.arange(by_subject.shape[2]) if fold is None else np.asarray(fold)
    folds = np.stack([by_subject[:, :, fold == k].mean(-1) for k in np.unique(fold)], axis=-1)
    return Scores(
        task="state",
        metric="accuracy",
        better=better,
        strategies=tuple(strategies),
        sensors=tuple(sensors),
        by="subject",
        subjects=tuple(f"s{n}" for n in range(by_subject.shape[2])),
        fold=fold,
        pooled=by_subject.mean(2),
        folds=folds,
        by_subject=by_subject,
        test_share=1 / len(np.unique(fold)),
        chosen=tuple(chosen),
    )


def two(difference, seeds=2):
    """Two strategies whose subjects differ by so much, alike at every seed."""
    return np.repeat(np.stack([FOUR + difference, FOUR])[:, None], seeds, axis=1)


def test_means_intervals_and_differences_by_hand():
    judged = judge(made(two([0.01, 0.02, 0.03, 0.04]), ["rcft", "concat"]))
    first, second = judged.lines
    assert (first.name, second.name) == ("rcft", "concat")
    assert (first.mean, second.mean) == pytest.approx((0.675, 0.65))
    theirs = scipy.stats.ttest_1samp(FOUR, 0).confidence_interval()
    assert (second.low, second.high) == pytest.approx((theirs.low, theirs.high))
    (pair,) = judged.pairs
    reach = scipy.stats.t.ppf(0.975, 3) * np.std([0.01, 0.02, 0.03, 0.04], ddof=1) / 2
    assert pair.comparison.difference == pytest.approx(0.025)
    assert (pair.comparison.low, pair.comparison.high) == pytest.approx((0.025 - reach, 0.025 + reach))
    assert pair.comparison.p == pytest.approx(scipy.stats.ttest_1samp([0.01, 0.02, 0.03, 0.04], 0).pvalue)
    assert pair.comparison.units == "4 subjects in 4 folds"
    assert judged.headline == "rcft is the best of 2: it beats concat."
    assert len(judged.sentences) == 1 and judged.sentences[0].startswith("rcft beats concat by 0.025 [")


def test_seeds_are_no_replicates():
    noise = np.random.default_rng(0).normal(0, 0.02, 4)
    few, many = (judge(made(two(noise, seeds), ["a", "b"])) for seeds in (2, 50))
    assert few.pairs[0].comparison.p == pytest.approx(many.pairs[0].comparison.p)
    assert few.lines[0].seeds == 0


def test_the_spread_over_seeds_is_that_of_their_means():
    by_subject = two(0.1)
    by_subject[0, 1] += 0.2
    line = judge(made(by_subject, ["a", "b"])).lines[0]
    assert line.seeds == pytest.approx(np.std([0.75, 0.95], ddof=1))


def test_all_pairs_are_one_family_and_sensors_alone_are_not_in_it():
    scores = np.random.default_rng(1).normal(0.7, 0.05, (5, 3, 12))
    names = ["rcft", "concat", "eeg alone", "best single", "majority"]
    fold = np.arange(12) % 4
    judged = judge(made(scores, names, fold=fold, sensors=["eeg alone"], chosen=[("eeg alone",) * 4] * 3))
    kept = [0, 1, 3, 4]
    raw = [float(trained_t((scores[i] - scores[j]).T, fold).p) for n, i in enumerate(kept) for j in kept[n + 1 :]]
    np.testing.assert_allclose([pair.comparison.p for pair in judged.pairs], holm(np.array(raw)))
    assert {line.name for line in judged.lines if not line.compared} == {"eeg alone"}
    assert len(judged.lines) == 5 and judged.chosen == {"eeg alone": 12}


def test_ranks_are_within_subjects():
    """Best, second and third for all but one subject, who turns the first two."""
    by_subject = np.stack([FOUR + 0.3, FOUR + 0.2, FOUR])[:, None].repeat(2, axis=1)
    by_subject[0, :, 3] -= 0.2
    judged = judge(made(by_subject, ["a", "b", "c"]))
    assert {line.name: line.rank for line in judged.lines} == {"a": 1.25, "b": 1.75, "c": 3.0}
    assert judged.friedman == pytest.approx(54 / 6**4)  # of all ways to rank; F's limit would say 0.007
    assert judged.critical == pytest.approx(2.343 * np.sqrt(12 / 24), abs=1e-3)


def test_less_is_better_where_the_metric_says_so():
    judged = judge(made(two([0.01, 0.02, 0.03, 0.04]), ["rcft", "concat"], better="lower"))
    assert [line.name for line in judged.lines] == ["concat", "rcft"]
    assert judged.headline == "concat is the best of 2: it beats rcft."
    assert judged.comparisons[0].first == "concat" and judged.comparisons[0].difference == pytest.approx(0.025)


def test_what_failed_is_named_and_compared_with_nothing():
    by_subject = np.stack([FOUR + 0.1, FOUR, FOUR + 0.3])[:, None].repeat(2, axis=1)
    scores = made(by_subject, ["a", "b", "broken"])
    scores.folds[2, 1, 3] = np.nan
    scores.pooled[2, 1] = np.nan
    scores.by_subject[2, 1, :] = np.nan
    judged = judge(scores)
    assert judged.left_out == {"broken": "no score in 1 of 8 trainings"}
    assert "broken" in judged.notes[0] and {line.name for line in judged.lines} == {"a", "b"}
    assert judged.subjects == 4 and len(judged.pairs) == 1


def test_a_fold_without_labels_takes_nobody_out():
    """Of four subjects, each a fold of its own, one has no label for this task."""
    scores = made(two([0.01, 0.02, 0.03, 9.0]), ["a", "b"])
    scores.folds[:, :, 3] = np.nan
    scores.by_subject[:, :, 3] = np.nan
    judged = judge(scores)
    assert judged.left_out == {} and judged.subjects == 3
    assert judged.pairs[0].comparison.difference == pytest.approx(0.02)
    assert "no label among the test records of 1 of 4 folds: they say nothing here" in judged.notes
    scores.folds[1, 0, 0] = np.nan  # and one training failed
    scores.pooled[1, 0] = np.nan
    scores.by_subject[1, 0, :] = np.nan
    assert judge(scores).left_out == {"b": "no score in 1 of 8 trainings"}


def test_a_subject_without_a_score_is_left_out_of_all():
    scores = made(two([0.01, 0.02, 0.03, 9.0]), ["a", "b"], fold=[0, 0, 1, 1])
    scores.by_subject[1, 0, 3] = np.nan
    judged = judge(scores)
    assert judged.pairs[0].comparison.difference == pytest.approx(0.02)
    assert any("score: 1 of 4 subjects" in note for note in judged.notes)


def test_an_interval_ends_where_scores_do():
    scores = np.stack([[0.9, 0.1, 0.95, 0.99], [0.02, 0.9, 0.01, 0.05]])[:, None].repeat(2, axis=1)
    first, second = judge(made(scores, ["a", "b"])).lines
    assert (first.high, second.low) == (1, 0) and first.low > 0 and second.high < 1
    assert judge(made(scores * 10, ["a", "b"], better="lower")).lines[1].high > 1


def test_groups_of_one_subject_are_said_to_be_so():
    scores = made(two(0.1), ["a", "b"])
    assert not any("others would" in note for note in judge(scores).notes)
    assert any("others would" in note for note in judge(replace(scores, within=True)).notes)


def test_one_training_concludes_nothing():
    judged = judge(made(two(0.1, seeds=1), ["a", "b"], fold=[0, 0, 0, 0]))
    assert judged.headline == "a has the best mean of 2, but is not shown to differ from any of the others: b."
    assert np.isnan(judged.lines[0].low) and any("--seeds 3" in note for note in judged.notes)


def test_two_trainings_show_hardly_anything_and_it_says_why():
    luck = np.array([[[0.0], [0.01]], [[0.0], [0.0]]])
    judged = judge(made(np.add(two([0.09, 0.1, 0.11, 0.1]), luck), ["a", "b"], fold=[0] * 4))
    assert judged.pairs[0].comparison.p > 0.02 and any(note.startswith("two trainings") for note in judged.notes)
    assert not any(note.startswith("two trainings") for note in judge(made(two(0.1), ["a", "b"])).notes)


def test_nothing_scored_says_so():
    judged = judge(made(np.full((2, 1, 4), np.nan), ["a", "b"]))
    assert judged.headline == "Nothing was scored." and len(judged.left_out) == 2 and judged.pairs == ()


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_a_margin_must_be_above_0(margin):
    with pytest.raises(ConfigError, match="--rope must be a number above 0"):
        judge(made(two(0.1), ["a", "b"]), margin=margin)


def test_the_margin_is_what_equivalence_and_probabilities_are_by():
    difference = np.array([0.001, -0.001, 0.002, -0.002])
    narrow, wide = (judge(made(two(difference), ["a", "b"]), margin=margin) for margin in (0.0001, 0.1))
    assert "equivalence within ±0.1 is shown" in wide.sentences[0]
    assert "is not shown either" in narrow.sentences[0]
    assert wide.pairs[0].posterior.same > 0.99 > narrow.pairs[0].posterior.same


def test_a_difference_by_rounding_alone_is_none():
    judged = judge(made(two([1e-17, 0.1, -0.1, 0.0]), ["a", "b"]))
    assert "(0.000 [" in judged.sentences[0]


def test_frozen_scores_stay_as_they_are():
    scores = made(two(0.1), ["a", "b"])
    before = replace(scores, by_subject=scores.by_subject.copy())
    judge(scores)
    np.testing.assert_array_equal(before.by_subject, scores.by_subject)
