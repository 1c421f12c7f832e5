"""Where no strategy is better, tests must not find one: and where one is, they should."""

import numpy as np
import pytest
import scipy.stats

from fusionkit.evaluation.statistics.null_study import (
    DECIDES,
    TESTS,
    Design,
    false_positives,
    simulate,
    upper_bound,
    usual_designs,
)

SUBJECTS = [5, 8, 12, 15]
PRIMARY = TESTS[DECIDES]


def test_the_bound_by_hand():
    assert upper_bound(2000) == 0.0615
    assert scipy.stats.binom.cdf(123, 2000, 0.05) >= 0.99 > scipy.stats.binom.cdf(122, 2000, 0.05)


@pytest.mark.parametrize(
    ("name", "subjects"), [(name, n) for name in TESTS for n in SUBJECTS if n < 12 or name != "sign flips, subjects"]
)
def test_all_tests_keep_the_level_where_subjects_share_nothing(name, subjects):
    assert false_positives(TESTS[name], Design(subjects=subjects)) <= upper_bound(2000)


@pytest.mark.parametrize("subjects", SUBJECTS)
@pytest.mark.parametrize("luck", [0.02, 0.04])
@pytest.mark.parametrize("name", ["corrected t, folds", "t, subjects and trainings"])
def test_the_tests_of_a_comparison_keep_it_where_subjects_share_a_lucky_model(name, luck, subjects):
    assert false_positives(TESTS[name], Design(subjects=subjects, luck=luck)) <= upper_bound(2000)


@pytest.mark.parametrize(
    ("name", "subjects"),
    [("t, subjects", 15), ("Wilcoxon, subjects", 15), ("Friedman-Nemenyi, subjects", 15), ("sign flips, subjects", 12)],
)
def test_tests_over_subjects_alone_do_not(name, subjects):
    assert false_positives(TESTS[name], Design(subjects=subjects, luck=0.04)) > 0.07


@pytest.mark.parametrize("subjects", SUBJECTS)
def test_only_the_corrected_test_keeps_it_where_all_seeds_share_a_training_set(subjects):
    design = Design(subjects=subjects, luck=0.04, bias=0.03)
    assert false_positives(TESTS["corrected t, folds"], design) <= upper_bound(2000)


@pytest.mark.parametrize(("luck", "records"), [(0.0, None), (0.02, None), (0.04, None), (0.04, 10)])
def test_what_decides_keeps_the_level_on_all_comparisons_as_they_are_made(luck, records):
    """2000 studies each of 4 to 8 strategies, 8 to 30 subjects, one fold or 4 to 10, three seeds, after Holm."""
    designs = [one for one in usual_designs() if (one.luck, one.records) == (luck, records)]
    assert len(designs) == 33 and {one.seeds for one in designs} == {3}
    assert max(false_positives(PRIMARY, design) for design in designs) <= 0.0615


def test_scores_of_few_records_are_shares_of_them():
    scores = simulate(Design(records=10), 50, 0)
    np.testing.assert_allclose(scores * 10, np.rint(scores * 10))
    assert 0 <= scores.min() < scores.max() <= 1 and scores.mean() == pytest.approx(0.7, abs=0.02)


def test_the_first_test_finds_what_is_there_and_the_corrected_one_hardly_ever():
    design = Design(subjects=15, luck=0.02, advantage=0.1)
    first = [number for number, pair in enumerate(design.pairs) if 0 in pair]
    scores = simulate(design, 1000, 0)
    found = {
        name: TESTS[name](design, scores)[:, first].mean()
        for name in ("t, subjects and trainings", "corrected t, folds")
    }
    assert found["t, subjects and trainings"] > 0.65
    assert found["corrected t, folds"] < 0.15


def test_a_subject_a_fold_keeps_the_level_without_help():
    design = Design(subjects=12, folds=12, luck=0.04, bias=0.02)
    assert false_positives(PRIMARY, design) <= upper_bound(2000)


def test_scores_have_the_spread_and_the_correlations_that_the_design_says():
    design = Design(subjects=8, subject=0.3, fold=0.2, taste=0.1, noise=0.4, luck=0.5, bias=0.6, advantage=2.0)
    scores = simulate(design, 20_000, 3)
    assert scores.shape == (20_000, 8, 6, 3)
    scores[:, :, 0] -= 2.0
    assert scores.mean() == pytest.approx(0, abs=0.01)
    member = design.member
    together, apart = np.flatnonzero(member == 0)[1], np.flatnonzero(member == 1)[0]

    def shared(first, second):
        return float((scores[:, *first] * scores[:, *second]).mean())

    assert shared((0, 0, 0), (0, 0, 0)) == pytest.approx(0.09 + 0.04 + 0.01 + 0.16 + 0.25 + 0.36, rel=0.03)
    assert shared((0, 0, 0), (0, 0, 1)) == pytest.approx(0.09 + 0.04 + 0.01 + 0.36, rel=0.04)
    assert shared((0, 0, 0), (0, 1, 0)) == pytest.approx(0.09 + 0.04, rel=0.1)
    assert shared((0, 0, 0), (together, 0, 0)) == pytest.approx(0.04 + 0.25 + 0.36, rel=0.04)
    over_folds = (scores[:, 0] * scores[:, apart]).mean()  # of all strategies and seeds: it is small
    assert over_folds == pytest.approx(0.36 / 4, rel=0.06)


def test_one_seed_is_one_study():
    np.testing.assert_array_equal(simulate(Design(), 3, 1), simulate(Design(), 3, 1))
