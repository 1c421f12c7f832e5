"""What the page says of how it came about, and numbers that mislead nobody."""

import numpy as np

from fusionkit.compare.conditions.corruption import Faults
from fusionkit.compare.experiment.grid import Asked
from fusionkit.compare.findings.verdict import judge
from fusionkit.compare.report import calibration_section, page
from fusionkit.evaluation.intervals import Interval
from tests.compare.findings.test_verdict import made


def test_the_command_that_is_shown_is_the_one_that_was_given():
    asked = Asked(("quickstart",), ("train.epochs=2",), ("fusion.kind=concat,vote",), 2)
    given = ["quickstart", "train.epochs=2", "--vary", "fusion.kind=concat,vote", "--seeds", "2"]
    assert list(page._words(asked, {})) == given
    more = Asked(
        ("quickstart",), (), ("fusion.kind=concat,vote",), 2, Faults(noise=(0.5, 2.0), drift=()), "parameters", 20
    )
    judged = judge(made(np.random.default_rng(0).random((2, 2, 4)), ["a", "b"]), margin=0.05)
    assert list(page._words(more, {"": [(None, judged)]}))[5:] == [
        "--match", "parameters", "--tune", "20", "--robustness", "--faults", "noise=0.5,2", "--faults", "drift=none",
        "--rope", "state=0.05",
    ]  # fmt: skip
    assert list(page._words(Asked(("a",), (), (), 1, Faults()), {}))[3:] == ["--robustness"]


def test_a_difference_larger_than_scores_can_have_is_detectable_by_nobody():
    scores = np.stack([[[0.1, 0.9, 0.5]] * 2, [[0.9, 0.2, 0.1]] * 2])
    (pair,) = judge(made(scores, ["a", "b"])).pairs
    assert pair.detectable > 1
    assert "<td>none</td>" in page._pairs(judge(made(scores, ["a", "b"]))).replace(' class="number"', "")
    errors = page._pairs(judge(made(scores, ["a", "b"], better="lower")))
    assert f"{pair.detectable:.3f}" in errors


def test_nothing_is_less_than_0_by_rounding():
    assert page._number(-0.0004) == "0.000" == calibration_section._number(-0.0004)
    assert page._number(-0.0006) == "-0.001" and page._number(float("nan")) == "–"
    assert calibration_section._span(Interval(-0.0001, 0.2, 0.1)) == "0.100\n[0.000, 0.200]"
