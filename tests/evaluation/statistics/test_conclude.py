"""Words that never claim what intervals and corrected p-values do not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError
from fusionkit.evaluation.statistics.conclude import Comparison, Verdict, conclude, headline

NUMBER = st.floats(-1, 1) | st.sampled_from([0.0, 1e-5, -1e-5, 4e-4, -4e-4, 1e-9, float("nan")])
COMPARISONS = st.builds(
    Comparison,
    first=st.just("rcft"),
    second=st.just("concat"),
    difference=NUMBER,
    low=NUMBER,
    high=NUMBER,
    p=st.floats(0, 1) | st.sampled_from([0.0, 0.05, 0.0499, float("nan")]),
    units=st.just("24 subjects"),
)


def compared(low, difference, high, p=0.01, second="concat"):
    return Comparison("rcft", second, difference, low, high, p, "24 subjects")


def test_better_in_words():
    assert conclude(compared(0.010, 0.031, 0.052), margin=0.01) == (
        "rcft beats concat by 0.031 [0.010, 0.052] in 24 subjects."
    )


def test_worse_is_said_of_the_other():
    assert conclude(compared(-0.052, -0.031, -0.010), margin=0.01) == (
        "concat beats rcft by 0.031 [0.010, 0.052] in 24 subjects."
    )


def test_an_interval_that_covers_0_shows_nothing():
    assert conclude(compared(-0.010, 0.02, 0.05, p=0.001), margin=0.01) == (
        "No difference between rcft and concat is shown: the interval covers 0 (0.020 [-0.010, 0.050] in 24 "
        "subjects); equivalence within ±0.01 is not shown either."
    )


def test_equivalence_is_said_only_within_the_margin():
    said = conclude(compared(-0.004, 0.001, 0.006, p=0.7), margin=0.01)
    assert said.endswith("equivalence within ±0.01 is shown.")
    assert "too little to matter" in conclude(compared(0.002, 0.004, 0.006), margin=0.01)


def test_a_pair_that_looks_good_alone_is_not_claimed_after_the_correction():
    assert conclude(compared(0.002, 0.02, 0.04, p=0.21), margin=0.01) == (
        "No difference between rcft and concat is shown: p = 0.210 after Holm's correction (0.020 [0.002, 0.040] in 24 "
        "subjects for this pair alone); equivalence within ±0.01 is not shown either."
    )


def test_without_an_interval_nothing_is_said():
    assert conclude(compared(float("nan"), 0.3, 0.4), margin=0.01).startswith("Nothing can be said")
    assert conclude(compared(0.1, 0.3, 0.2), margin=0.01).startswith("Nothing can be said")


@given(COMPARISONS, st.floats(1e-6, 1))
def test_never_claims_more_than_the_numbers(comparison, margin):
    said = conclude(comparison, margin=margin)
    covers = not (comparison.low > 0 or comparison.high < 0)
    if covers or not comparison.p < 0.05:
        assert "beats" not in said
        assert "better" not in said
    else:
        assert ("beats" in said) == (comparison.low <= comparison.difference <= comparison.high)
    if "is shown." in said or "too little" in said:
        assert -margin < comparison.low
        assert comparison.high < margin
    if "beats" in said:
        winner = "rcft" if comparison.low > 0 else "concat"
        assert said.startswith(winner)


@given(COMPARISONS, st.floats(1e-6, 1))
def test_the_numbers_said_lie_on_their_side_of_0(comparison, margin):
    said = conclude(comparison, margin=margin)
    found = re.search(r"(-?[\d.e-]+) \[(-?[\d.e-]+), (-?[\d.e-]+)\]", said)
    if found and "beats" in said:
        assert all(float(number) > 0 for number in found.groups())
    if found and "covers 0" in said:
        assert float(found[2]) <= 0 <= float(found[3])


@given(COMPARISONS, st.floats(1e-6, 1))
def test_says_the_same_from_either_side(comparison, margin):
    if abs(comparison.difference) > 0:
        assert conclude(comparison, margin=margin) == conclude(comparison.turned, margin=margin)
    opposite = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    assert comparison.turned.verdict is opposite.get(comparison.verdict, comparison.verdict)


MEANS = {"concat": 0.70, "rcft": 0.74, "vote": 0.71}


def test_the_headline_names_whom_the_best_is_shown_to_beat():
    beats = [compared(0.01, 0.04, 0.07), compared(0.01, 0.03, 0.05, second="vote")]
    assert headline(beats, MEANS) == "rcft is the best of 3: it beats concat and vote."
    some = [beats[0].turned, compared(-0.01, 0.03, 0.05, second="vote")]
    assert headline(some, MEANS) == (
        "rcft has the best mean of 3: it beats concat, but is not shown to differ from vote."
    )
    none = [compared(-0.01, 0.04, 0.07), compared(0.01, 0.03, 0.05, p=0.06, second="vote")]
    assert headline(none, MEANS) == (
        "rcft has the best mean of 3, but is not shown to differ from any of the others: concat and vote."
    )


def test_what_was_not_compared_is_not_beaten():
    assert headline([], MEANS).endswith("is not shown to differ from any of the others: concat and vote.")
    assert headline([], {"vote": 0.5}) == "vote is the only strategy: it was compared with nothing."
    assert headline([], {"vote": float("nan"), "rcft": 1.0, "concat": 0.5}, better="lower").startswith("concat has")


@given(st.lists(COMPARISONS, max_size=4))
def test_the_headline_says_best_only_if_all_others_are_beaten(comparisons):
    said = headline(comparisons, {"rcft": 0.8, "concat": 0.7})
    wins = {c.verdict for c in comparisons}
    assert ("is the best" in said) <= (Verdict.BETTER in wins)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="got 0"):
        conclude(compared(0, 0, 0), margin=0)
    with pytest.raises(ConfigError, match="got none"):
        headline([], {"vote": float("nan")})
