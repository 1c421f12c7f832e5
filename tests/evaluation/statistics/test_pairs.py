"""A whole comparison: each number from its own test, the best found on easy data and nobody on null data."""

import numpy as np
import pytest

from fusionkit.core.errors import ShapeError, UnknownNameError
from fusionkit.evaluation.statistics.conclude import Verdict, conclude, headline
from fusionkit.evaluation.statistics.corrected_t import corrected_t
from fusionkit.evaluation.statistics.correlated_t import correlated_t
from fusionkit.evaluation.statistics.effect_size import cohen_dz
from fusionkit.evaluation.statistics.holm import holm
from fusionkit.evaluation.statistics.null_study import Design, simulate
from fusionkit.evaluation.statistics.pairs import compare_pairs
from fusionkit.evaluation.statistics.signed_rank import signed_rank
from fusionkit.evaluation.statistics.trained_t import trained_t

NAMES = ["rcft", "concat", "vote", "mean"]


def study(advantage=0.1, seed=0, **more):
    """Scores by subject, by fold, and the folds."""
    design = Design(strategies=4, luck=0.02, advantage=advantage, **more)
    by_subject = simulate(design, 1, seed)[0].transpose(1, 2, 0)
    by_fold = np.stack([by_subject[:, :, design.member == k].mean(-1) for k in range(design.folds)], axis=-1)
    return by_subject, by_fold, design.member


def compared(*scores, **more):
    return compare_pairs(*scores, NAMES[: len(scores[0])], **{"test_share": 0.25, "margin": 0.01, **more})


def test_every_number_comes_from_its_test():
    by_subject, by_fold, fold = study()
    found = compared(by_subject, by_fold, fold)
    assert [(one.comparison.first, one.comparison.second) for one in found][:3] == [
        ("rcft", "concat"), ("rcft", "vote"), ("rcft", "mean"),
    ]  # fmt: skip
    d = [by_subject[i] - by_subject[j] for i in range(4) for j in range(i + 1, 4)]
    plain = [trained_t(one.T, fold) for one in d]
    np.testing.assert_allclose([one.comparison.p for one in found], holm(np.array([float(one.p) for one in plain])))
    np.testing.assert_allclose(
        [one.signed_rank for one in found], holm(np.array([float(signed_rank(one.mean(0)).p) for one in d]))
    )
    folds = [(by_fold[i] - by_fold[j]).mean(0) for i in range(4) for j in range(i + 1, 4)]
    np.testing.assert_allclose(
        [one.corrected for one in found],
        holm(np.array([float(corrected_t(one, test_share=0.25).p) for one in folds])),
    )
    first = found[0]
    assert [first.comparison.low, first.comparison.high] == pytest.approx([float(end) for end in plain[0].interval()])
    assert first.comparison.difference == pytest.approx(d[0].mean())
    assert first.cohen_dz == pytest.approx(cohen_dz(d[0].mean(0)))
    assert first.posterior == correlated_t(folds[0], test_share=0.25, rope=0.01)
    assert (first.subjects, first.comparison.units) == (12, "12 subjects")
    assert first.detectable > 2.8 * float(plain[0].error)


def test_less_is_better_turns_every_sign():
    scores = study()
    higher, lower = compared(*scores)[0], compared(-scores[0], -scores[1], scores[2], better="lower")[0]
    assert lower == higher


def test_one_against_the_others_is_named_first_and_pays_for_fewer_pairs():
    scores = study()
    found = compared(*scores, against="vote")
    assert [one.comparison.first for one in found] == ["vote"] * 3
    every = {frozenset((o.comparison.first, o.comparison.second)): o for o in compared(*scores)}
    for one in found:
        same = every[frozenset(("vote", one.comparison.second))]
        assert one.comparison.p <= same.comparison.p + 1e-12
        assert one.detectable < same.detectable


def test_a_subject_without_a_score_and_a_failed_strategy_cost_only_their_pairs():
    by_subject, by_fold, fold = study()
    by_subject[1, 0, 3] = np.nan
    by_subject[2], by_fold[2] = np.nan, np.nan
    found = compared(by_subject, by_fold, fold)
    assert [one.subjects for one in found] == [11, 0, 12, 0, 11, 0]
    lost = found[1]
    assert lost.comparison.verdict is Verdict.UNKNOWN
    assert lost.posterior is None
    assert np.isnan([lost.signed_rank, lost.corrected, lost.cliffs_delta, lost.detectable]).all()
    three = compare_pairs(by_subject[[0, 1, 3]], by_fold[[0, 1, 3]], fold, NAMES[:3], test_share=0.25, margin=0.01)
    assert [one.comparison.p for one in three] == [found[k].comparison.p for k in (0, 2, 4)]


@pytest.mark.parametrize(("seeds", "folds", "known"), [(1, 4, True), (3, 1, True), (1, 1, False)])
def test_one_seed_or_one_fold_will_do_but_not_both(seeds, folds, known):
    found = compared(*study(seeds=seeds, folds=folds))
    assert np.isfinite(found[0].comparison.p) == known
    assert np.isnan(found[0].corrected) == (folds == 1)


def test_the_best_is_found_first_and_its_interval_leaves_out_0_in_nine_of_ten_studies():
    first = beats = 0
    for seed in range(10):
        by_subject, by_fold, fold = study(advantage=0.15, seed=seed)
        found = compared(by_subject, by_fold, fold)
        means = dict(zip(NAMES, by_subject.mean((1, 2)).tolist(), strict=True))
        said = headline([one.comparison for one in found], means)
        first += said.startswith("rcft")
        beats += said == "rcft is the best of 4: it beats concat, vote and mean."
    assert first >= 9
    assert beats >= 7


def test_on_null_studies_hardly_ever_does_anybody_beat_anybody():
    wrong = 0
    for seed in range(60):
        found = compared(*study(advantage=0.0, seed=seed))
        wrong += any("beats" in conclude(one.comparison, margin=0.01) for one in found)
    assert wrong <= 5


def test_one_strategy_has_no_pair():
    by_subject, by_fold, fold = study()
    assert compared(by_subject[:1], by_fold[:1], fold) == []


def test_what_does_not_fit_is_refused():
    by_subject, by_fold, fold = study()
    with pytest.raises(UnknownNameError, match="vot"):
        compared(by_subject, by_fold, fold, against="vot")
    with pytest.raises(ShapeError, match="11 subjects"):
        compared(by_subject, by_fold, fold[:11])
    with pytest.raises(ShapeError, match="by fold"):
        compared(by_subject, by_fold[:3], fold)
