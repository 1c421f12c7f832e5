"""Runs of one recipe with several seeds: the gain over untrained encoders, paired by seed."""

import json
import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from fusionkit.cli import main
from fusionkit.core.errors import ConfigError
from fusionkit.evaluation.repeated import check_repetitions, paired
from fusionkit.training.run import pretrain

STAGE = "pretrain={objectives: [{kind: nt_xent}], epochs: 1, batch: 16}"


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    gain = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (gain.value, gain.low, gain.high) == pytest.approx((2.0, 2 - 2.4841, 2 + 2.4841), abs=1e-4)
    draw = np.random.default_rng(0)
    ours, others = draw.standard_normal((2, 7))
    expected = ttest_rel(ours, others).confidence_interval(0.95)
    gain = paired(list(ours), list(others))
    assert (gain.low, gain.high) == pytest.approx((expected.low, expected.high))
    assert math.isnan(paired([1.0], [0.5]).low) and paired([1.0], [0.5]).value == 0.5


def test_runs_must_be_of_one_recipe_with_a_seed_each(tiny) -> None:
    check_repetitions([tiny(STAGE)])
    check_repetitions([tiny(STAGE), tiny(STAGE, "seed=4", "name=other", "run.dir=elsewhere")])
    with pytest.raises(ConfigError, match="must differ in their seeds alone, but differ in train"):
        check_repetitions([tiny(STAGE), tiny(STAGE, "seed=4", "train.lr=0.1")])
    with pytest.raises(ConfigError, match=r"must each have a seed of their own, but have \[3, 3\]"):
        check_repetitions([tiny(STAGE), tiny(STAGE)])


def test_the_verb_takes_several_runs_and_says_what_is_gained(tiny, capsys) -> None:
    folders = [str(pretrain(tiny(STAGE, f"seed={seed}"), fold=0).folder) for seed in (3, 4)]
    asked = ["probe", *folders, "--labels", "0", "--sensor", "eeg", "--on", "validation"]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["runs"]) == folders and len(found["gains"]) == 4
    linear = found["gains"][3]
    runs = [run["measured"][3] for run in found["runs"].values()]
    assert linear["measure"] == "linear"
    assert linear["learned"] == [run["learned"]["value"] for run in runs]
    assert linear["gain"]["value"] == pytest.approx(
        np.mean([run["learned"]["value"] - run["untrained"]["value"] for run in runs])
    )
    assert main(asked) == 0
    printed = capsys.readouterr().out
    assert "encoders on validation records" in printed and "seeds 3, 4: means, and the gain" in printed
    assert main(["probe", folders[0], folders[0]]) == 2
    assert "error: runs that are compared must each have a seed of their own" in capsys.readouterr().err
