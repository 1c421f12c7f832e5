"""What a comparison sets side by side."""

import pytest

from fusionkit.compare.experiment.strategy import LATE_MEAN, notes_of_alone, parse_axis, settings
from fusionkit.core.errors import ConfigError
from fusionkit.recipe.load import parse_recipe
from fusionkit.recipe.write import dump_recipe

TINY = ["data.subjects=6", "data.records=4"]


def reads(strategy):
    """Whether a cell reads the recipe from its text as it is."""
    return dump_recipe(parse_recipe(dump_recipe(strategy.recipe), strategy.label)) == dump_recipe(strategy.recipe)


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


@pytest.mark.parametrize(
    ("objectives", "encoders", "left"),
    [
        ("[{kind: info_nce}]", "eeg, audio", {"eeg": [], "audio": []}),
        ("[{kind: info_nce}, {kind: masked_autoencoder}]", "eeg, audio", {"eeg": [["masked_autoencoder"]], "audio": [["masked_autoencoder"]]}),
        ("[{kind: masked_autoencoder}]", "eeg", {"eeg": [["masked_autoencoder"]], "audio": []}),
    ],
)  # fmt: skip
def test_a_sensor_alone_is_pretrained_by_what_it_can_learn_from_alone_and_that_is_said(objectives, encoders, left):
    stage = f"pretrain={{objectives: {objectives}, encoders: [{encoders}], epochs: 1}}"
    changes = [*TINY, "modalities=eeg,audio", stage, "init={freeze: until(2), lr_scale: 0.1}"]
    (setting,) = settings(["quickstart"], changes, [])
    assert len(setting.strategies) == 4
    for one in setting.strategies:
        assert reads(one)
        if one.role == "sensor":
            (sensor,) = one.recipe.modalities
            assert [[own.kind for own in part.objectives] for part in one.recipe.pretrain] == left[sensor]
            assert all(part.encoders == (sensor,) for part in one.recipe.pretrain)
            assert (one.recipe.init.freeze == "until(2)") == bool(left[sensor])
    notes = notes_of_alone(setting)
    assert len(notes) == sum("info_nce" in objectives or not kinds for kinds in left.values())
    assert all("begins without" in note for note in notes)


def test_a_sensor_alone_takes_the_head_of_its_own_branch():
    heads = "init={from: runs/before, heads: {eeg: eeg, audio: audio}}"
    (setting,) = settings(
        ["quickstart"], [*TINY, "modalities=eeg,audio", "fusion={kind: vote, rule: product}", heads], []
    )
    found = {one.label: dict(one.recipe.init.heads) for one in setting.strategies}
    assert found["eeg alone"] == {"eeg": "eeg"} and found["audio alone"] == {"audio": "audio"}
    assert found[LATE_MEAN] == {"eeg": "eeg", "audio": "audio"}
    assert all(map(reads, setting.strategies))
