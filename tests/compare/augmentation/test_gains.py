"""What is said of single results, by hand."""

import csv
import io

import pytest

from fusionkit.compare.augmentation.gains import Found, Measure, choose, compare, say, warnings
from fusionkit.compare.augmentation.scores import Score, read_scores, table
from fusionkit.evaluation.paired import Gain

MEASURE = Measure("accuracy", "higher", 1 / 3)


def score(strategy: str, amount: float, fold: int, value: float, part: str = "test", seed: int = 0) -> Score:
    appended = round(10 * amount)
    metrics = {"accuracy": value, "nll": 1 - value}
    return Score("eeg", fold, seed, "svm", strategy, amount, part, 40, appended, appended, metrics)  # type: ignore[arg-type]


def made() -> list[Score]:
    """Four folds; full at 1 gives .02 to .08 on test, full at 2 spoils it; validation likes 2 in fold 0 and 1 elsewhere."""
    scores = []
    for fold in range(4):
        scores.append(score("none", 0, fold, 0.5))
        scores.append(score("none", 0, fold, 0.5, "validation"))
        scores.append(score("full", 1, fold, 0.52 + 0.02 * fold))
        scores.append(score("full", 1, fold, 0.6, "validation"))
        scores.append(score("full", 2, fold, (0.4, 0.39, 0.41, 0.4)[fold]))
        scores.append(score("full", 2, fold, 0.7 if fold == 0 else 0.5, "validation"))
    return scores


def test_means_counts_and_gains() -> None:
    none, one, two = compare(made(), MEASURE)
    assert (none.strategy, none.score, none.appended, none.gain.value) == ("none", 0.5, 0, 0)
    assert [one.score, one.validation, one.appended] == pytest.approx([0.55, 0.6, 10])
    found = (one.gain.value, one.gain.low, one.gain.high)
    assert found == pytest.approx((0.05, -0.012758, 0.112758), abs=1e-6) and one.gain.finding == "no gain"
    assert two.gain.finding == "loss" and two.gain.value == pytest.approx(-0.1)


def test_a_seed_that_is_not_done_counts_in_no_pair() -> None:
    scores = [*made(), score("none", 0, 0, 0.9, seed=1)]  # its other strategies are still to come
    assert compare(scores, MEASURE)[1].gain.value == pytest.approx(0.05)


def test_where_lower_is_better_a_gain_is_a_fall() -> None:
    found = compare(made(), Measure("nll", "lower", 1 / 3))
    assert found[1].gain.value == pytest.approx(0.05) and found[2].gain.finding == "loss"


def test_every_fold_chooses_by_its_own_validation_and_test_has_no_say() -> None:
    (found,) = choose(made(), MEASURE)
    assert found.by_fold == (2, 1, 1, 1) and found.amount == 1
    assert found.gain.each == pytest.approx((-0.1, 0.04, 0.06, 0.08))
    better = [score("full", 2, one.fold, 0.99) if (one.amount, one.part) == (2, "test") else one for one in made()]
    assert choose(better, MEASURE)[0].by_fold == (2, 1, 1, 1)  # test records that like 2 change nothing


def test_appending_nothing_is_chosen_where_validation_likes_it_best() -> None:
    worse = [
        score("none", 0, o.fold, 0.8, "validation") if o.strategy == "none" and o.part != "test" else o for o in made()
    ]
    (found,) = choose(worse, MEASURE)
    assert found.by_fold == (0, 0, 0, 0) and found.amount == 0 and found.gain.value == 0


def test_without_validation_nothing_is_chosen() -> None:
    assert choose([one for one in made() if one.part == "test"], MEASURE) == []


def test_one_amount_leaves_no_choice() -> None:
    assert choose([one for one in made() if one.amount < 2], MEASURE) == []


def test_sentences_claim_no_more_than_intervals_do() -> None:
    nan = float("nan")
    said = [
        say(gain, "noise", "macro_f1")
        for gain in (
            Gain(0.05, -0.01, 0.11, 4, ()),
            Gain(0.05, 0.01, 0.09, 4, ()),
            Gain(-0.05, -0.09, -0.01, 4, ()),
            Gain(0.3, nan, nan, 1, (), "no interval: one fold only"),
            Gain(nan, nan, nan, 0, (), "no pair"),
            Gain(0.05, 0.05, 0.05, 2, (), "no spread to tell by: all folds alike"),
        )
    ]
    assert said[0] == "noise brings no gain in macro f1: +0.050 (95 % interval -0.010 to +0.110, 4 folds)"
    assert said[1].startswith("noise brings a gain in macro f1: +0.050")
    assert said[2].startswith("noise harms macro f1: -0.050")
    assert "nothing can be said of other data" in said[3] and "gain" not in said[3]
    assert said[4] == "noise could not be compared"
    assert said[5].startswith("noise changes macro f1 by +0.050; no spread to tell by") and "gain" not in said[5]


def test_the_recipe_s_own_use_is_what_the_verdict_is_of() -> None:
    found = Found("eeg", "cwgan_gp", "full", 2, "accuracy", compare(made(), MEASURE), choose(made(), MEASURE))
    (sentence,) = found.sentences
    assert sentence.startswith("eeg, linear SVM: cwgan_gp (full, 2 times) harms accuracy: -0.100")
    plain = found.as_dict()
    assert plain["compared"][2]["gain"]["finding"] == "loss" and plain["chosen"][0]["by_fold"] == [2, 1, 1, 1]


def test_many_comparisons_are_warned_of() -> None:
    (line,) = warnings(compare(made(), MEASURE))
    assert line.startswith(
        "1 of 2 comparisons have an interval without 0; if nothing helped or harmed, about 0.1 would"
    )
    assert warnings(compare(made(), MEASURE)[:2]) == []


def test_the_table_has_every_single_result_to_the_bit() -> None:
    scores = [score("full", 0.5, 0, 1 / 3), Score("ecg", 1, 2, "model", "none", 0, "test", 7, 0, 0, {"mae": 0.1})]
    rows = list(csv.DictReader(io.StringIO(table(scores))))
    assert float(rows[0]["accuracy"]) == 1 / 3 and rows[0]["mae"] == "" and rows[1]["mae"] == "0.1"
    assert (rows[1]["sensor"], rows[1]["seed"], rows[1]["judge"], rows[0]["wanted"]) == ("ecg", "2", "model", "5")
    assert read_scores([one.as_dict() for one in scores]) == scores


def test_what_is_not_defined_is_null_in_json_and_nan_again() -> None:
    (found,) = read_scores([{**score("full", 1, 0, 0.5).as_dict(), "metrics": {"accuracy": 0.5, "auroc": None}}])
    assert found.metrics["accuracy"] == 0.5 and found.metrics["auroc"] != found.metrics["auroc"]
