"""Dials: what is drawn is as the law says, what counts as found, and that the known best is found."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fusionkit.bench import dials
from fusionkit.bench.dials import DIALS, PRIOR, Ranked, enough, rank, write_study
from fusionkit.cli import main
from fusionkit.compare.cells.executor import LocalExecutor
from fusionkit.compare.experiment.results import BEST_SINGLE
from fusionkit.compare.experiment.strategy import LATE_MEAN
from fusionkit.compare.findings.verdict import judge
from tests.compare.findings.test_verdict import made

SUBJECTS = np.linspace(0.6, 0.7, 6)
GOOD = Ranked("xor", 0, "multiplicative", {"multiplicative": 1.0, "product": 0.5}, True, 0.4, True, ())


def drawn(name, tmp_path, seed=0):
    write_study(DIALS[name], seed, tmp_path / "study.npz")
    return dict(np.load(tmp_path / "study.npz"))


def linear(columns, target):
    """How often the best line through all columns is right, on the second half."""
    x = np.column_stack([*columns, np.ones(len(target))])
    half = len(target) // 2
    weights = np.linalg.lstsq(x[:half], 2.0 * target[:half] - 1, rcond=None)[0]
    return ((x[half:] @ weights > 0) == target[half:]).mean()


def test_studies_are_what_their_law_says(tmp_path, monkeypatch):
    monkeypatch.setattr(dials, "RECORDS", 500)
    xor = drawn("xor", tmp_path)
    target = xor["target"] == "1"
    assert len(target) == 6000 and len(set(xor["subject"])) == 12 and abs(target.mean() - 0.5) < 0.02
    assert linear([xor["eeg"], xor["audio"]], target) < 0.55  # nothing to add up
    product = [xor["eeg"][:, i : i + 1] * xor["audio"] for i in range(12)]
    assert linear(product, target) > 0.97  # and yet it is all there
    redundant = drawn("redundant", tmp_path)
    target = redundant["target"] == "1"
    three = [redundant[name] for name in ("eeg", "audio", "image")]
    assert linear(three, target) == pytest.approx(1 / 2 + np.arcsin(np.sqrt(3 / 4)) / np.pi, abs=0.02)
    assert linear(three[:1], target) == pytest.approx(0.75, abs=0.02)
    useless = drawn("useless", tmp_path)
    target = useless["target"] == "1"
    assert linear([useless["eeg"]], target) == pytest.approx(0.852, abs=0.02)
    assert linear([useless["useless_0"], useless["useless_1"]], target) == pytest.approx(0.5, abs=0.03)


def test_another_seed_is_another_study_and_the_same_is_the_same(tmp_path):
    first, again, other = (drawn("xor", tmp_path, seed)["eeg"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def ranked(name, **advantages):
    """A verdict on six subjects whose strategies differ by so much, with some noise."""
    rng = np.random.default_rng(0)
    scores = [SUBJECTS + more + rng.normal(0, 0.01, (2, 6)) for more in advantages.values()]
    labels = {"asked": "multiplicative" if name == "xor" else "product"}
    names = [key.replace("_", " ") for key in advantages]
    return rank(name, 3, judge(made(np.stack(scores), names)), labels)


def test_the_known_best_is_found_where_it_is_first_and_all_intervals_leave_out_0():
    row = ranked("xor", asked=0.2, product=0.0, late_mean=0.0, best_single=0.0, majority=-0.1)
    assert (row.dial, row.seed, row.first) == ("xor", 3, "multiplicative")
    assert row.found and row.shown and row.untrue == () and row.least > 0.15
    assert set(row.means) == {"multiplicative", "product", LATE_MEAN, BEST_SINGLE, PRIOR}


def test_it_is_not_found_where_one_interval_covers_0_or_another_is_first():
    row = ranked("xor", asked=0.2, product=0.199, late_mean=0.0, best_single=0.0, majority=0.0)
    assert row.known_first and row.least < 0 and not row.found and not row.shown
    row = ranked("xor", asked=0.2, product=0.4, late_mean=0.0, best_single=0.0, majority=0.0)
    assert not row.known_first and not row.found and row.untrue == ("product beats multiplicative",)


def test_one_that_is_as_good_may_be_first():
    row = ranked("redundant", asked=0.1, late_mean=0.101, best_single=0.0, majority=-0.1)
    assert row.known_first and row.found
    assert ranked("redundant", asked=0.1, late_mean=0.2, best_single=0.0, majority=-0.1).untrue == ()


def test_nine_of_ten_are_enough_but_nothing_untrue_is():
    missed, untrue = replace(GOOD, least=-0.1), replace(GOOD, untrue=("product beats multiplicative",))
    assert enough([GOOD] * 9 + [missed])
    assert not enough([GOOD] * 8 + [missed] * 2)
    assert not enough([GOOD] * 9 + [untrue])
    assert not replace(GOOD, least=float("nan")).found


def test_the_command_prints_every_study_and_ends_with_1_where_a_dial_fails(monkeypatch, capsys):
    bad = replace(GOOD, seed=1, known_first=False, first="product")
    monkeypatch.setattr(dials, "bench_dials", lambda *given, **more: iter([GOOD, bad]))
    assert main(["bench", "dials", "--only", "xor", "--studies", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["xor", "0", "multiplicative"] and lines[1].endswith("yes")
    assert lines[2].endswith("NO") and lines[3] == "FAIL  xor: 1 of 2"
    monkeypatch.setattr(dials, "bench_dials", lambda *given, **more: iter([GOOD]))
    assert main(["bench", "dials", "--only", "xor", "--studies", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["found"] is True
    assert main(["bench", "dials", "--only", "xr"]) == 2


@pytest.mark.study
@pytest.mark.parametrize("name", DIALS)
def test_the_known_best_is_first_in_nine_of_ten_studies(name, tmp_path):
    rows = list(dials.bench_dials(tmp_path, LocalExecutor(2), dials=[name]))
    assert len(rows) == 10 and enough(rows)
