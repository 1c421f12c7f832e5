"""What a comparison sets side by side."""

import pytest

from fusionkit.compare.experiment.strategy import LATE_MEAN, parse_axis, settings
from fusionkit.core.errors import ConfigError

TINY = ["data.subjects=6", "data.records=4"]


def test_an_axis_keeps_commas_within_brackets_and_quotes_together():
    axis = parse_axis("fusion={kind: vote, rule: mean},{kind: rcft, layers: 1}")
    assert axis.values == ("{kind: vote, rule: mean}", "{kind: rcft, layers: 1}")
    assert parse_axis("name='a,b',c").values == ("'a,b'", "c")


@pytest.mark.parametrize("text", ["fusion.kind", "fusion.kind=rcft", "=a,b", "fusion.kind=a,", "fusion.kind=a,a"])
def test_an_axis_of_fewer_than_two_values_is_refused(text):
    with pytest.raises(ConfigError, match="--vary must be"):
        parse_axis(text)


def test_every_sensor_alone_and_the_late_mean_stand_beside_the_strategies():
    (setting,) = settings(["quickstart"], TINY, ["fusion.kind=concat,rcft"])
    assert [one.label for one in setting.strategies if one.role == "strategy"] == ["concat", "rcft"]
    alone = [one for one in setting.strategies if one.role == "sensor"]
    assert [one.label for one in alone] == [f"{name} alone" for name in setting.recipe.modalities]
    for one in alone:
        (sensor,) = one.recipe.modalities
        assert one.recipe.modalities[sensor] == setting.recipe.modalities[sensor]  # the encoder it is fused with
    (mean,) = [one for one in setting.strategies if one.role == "late mean"]
    assert (mean.label, mean.recipe.fusion["kind"], mean.recipe.fusion["rule"]) == (LATE_MEAN, "vote", "mean")
    assert not any(one.recipe.train.single_sensors for one in setting.strategies)


def test_a_late_mean_that_was_asked_for_is_not_trained_twice():
    (setting,) = settings(["quickstart"], TINY, ["fusion={kind: vote, rule: mean},{kind: concat}"])
    assert [one.role for one in setting.strategies].count("late mean") == 0


def test_varied_data_are_settings_that_are_not_compared():
    found = settings(["quickstart"], TINY, ["data.split.kind=holdout,k_fold", "fusion.kind=concat,vote"])
    assert [one.label for one in found] == ["holdout", "k_fold"]
    assert [one.label for one in found[0].strategies[:2]] == ["concat", "vote"]


def test_several_keys_are_named_in_labels():
    (setting,) = settings(["quickstart"], TINY, ["fusion.kind=concat,vote", "train.lr=1e-3,1e-2"])
    assert setting.strategies[1].label == "kind=concat lr=1e-2"


def test_all_seeds_of_all_strategies_share_the_recipes_split():
    (setting,) = settings(["quickstart"], [*TINY, "seed=7"], ["fusion.kind=concat,vote"])
    assert {one.recipe.data.split.seed for one in setting.strategies} == {7}


def test_strategies_of_other_tasks_or_equal_ones_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="same recipe"):
        settings(["quickstart", "quickstart"], TINY, [])
    with pytest.raises(ConfigError, match="same tasks"):
        settings(["quickstart"], TINY, ["tasks.target.kind=classification,regression"])
    with pytest.raises(ConfigError, match="every key once"):
        settings(["quickstart"], TINY, ["train.lr=1,2", "train.lr=3,4"])


def test_strategies_that_differ_in_nothing_that_changes_a_result_are_one(tmp_path):
    with pytest.raises(ConfigError, match="same recipe"):
        settings(["quickstart"], TINY, ["expect={target: {accuracy: 0.5}},{target: {accuracy: 0.6}}"])
    with pytest.raises(ConfigError, match="same recipe"):
        settings(["quickstart"], TINY, [f"run.dir={tmp_path}/a,{tmp_path}/b"])


def test_strategies_of_other_seeds_are_refused_for_their_trainings_would_overlap():
    with pytest.raises(
        ConfigError, match=r"must have the same seed to be paired, but those of '1' and '0' are 1 and 0"
    ):
        settings(["quickstart"], [*TINY, "data.split.seed=0"], ["seed=0,1"])
