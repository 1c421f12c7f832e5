"""Corruption of sensors: at most one a record, as often and as strong as asked for, and nothing that is not there."""

import pytest
import torch
from scipy import stats

from fusionkit.augment.sensor_corruption import SensorCorruption
from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.core.levels import Features, Window
from fusionkit.core.registry import modalities
from fusionkit.recipe.build import build_modalities, needs_window
from fusionkit.training.run import train
from fusionkit.training.trained import load_trained

BATCH = 4000
LIMITS = {"image": (0.0, 1.0)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def window(values, length=None, present=None):
    length = torch.full((len(values),), values.shape[-1]) if length is None else length
    return Window(values, length, torch.ones(len(values), dtype=torch.bool) if present is None else present)


def sensors(batch=BATCH):
    """A series of two channels whose deviations are 1e-5 and 10, a vector, sound, pictures and sentences."""
    draw = seeded(1)
    series = torch.randn(batch, 2, 6, generator=draw) * torch.tensor([1e-5, 10.0])[:, None]
    return {
        "series": window(series),
        "vector": window(100 + 2 * torch.randn(batch, 3, 1, generator=draw)),
        "audio": window(0.1 * torch.randn(batch, 8, generator=draw)),
        "image": window(torch.rand(batch, 3, 4, 4, generator=draw)),
        "text": window(torch.randint(2, 1000, (batch, 5), generator=draw)),
    }


def changed(before, after):
    """(sensor, batch): whether any value of a record's sensor is another one."""
    return torch.stack([(before[n].values != after[n].values).flatten(1).any(1) for n in before])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_records_has_one_noisy_sensor_and_never_two(share):
    before = sensors()
    noisy = changed(before, SensorCorruption(share, 3.0, LIMITS)(before, seeded()))
    assert noisy.sum(0).max() <= 1
    kept = share / 5 * 1 / 3 / 6  # a sentence of five ids with s ~ U[0, 1] keeps all of them once in six
    assert noisy.any(0).float().mean().item() == pytest.approx(share - kept, abs=0.03)
    assert torch.allclose(noisy[:4].float().mean(1), torch.full((4,), share / 5), atol=0.03)


def test_noise_is_up_to_strength_deviations_of_the_channel_evenly():
    before = sensors()
    after = SensorCorruption(1.0, 3.0, LIMITS)(before, seeded())
    for name, deviation in (("series", (1e-5, 10.0)), ("audio", (0.1,)), ("vector", (2.0, 2.0, 2.0))):
        noise = (after[name].values - before[name].values).reshape(BATCH, len(deviation), -1)
        hit = noise.flatten(1).any(1)
        noise = noise[hit] / torch.tensor(deviation)[:, None]
        # with s ~ U[0, 3] the noise has variance 3 and, as a mixture, excess kurtosis 3 (9/5) - 3
        assert noise.square().mean().item() == pytest.approx(3.0, rel=0.15)
        assert stats.kurtosis(noise.flatten().double().numpy()) == pytest.approx(2.4, abs=0.8)
    per_row = (after["audio"].values - before["audio"].values).square().mean(1).sqrt() / 0.1
    spread = per_row[per_row > 0]
    assert spread.quantile(0.1) < 0.6 and 2.2 < spread.quantile(0.9) < 3.5


def test_pictures_stay_within_their_limits_and_sounds_have_none():
    before = sensors()
    after = SensorCorruption(1.0, 30.0, LIMITS)(before, seeded())
    assert after["image"].values.min() == 0 and after["image"].values.max() == 1
    assert after["audio"].values.abs().max() > 5


def test_ids_become_real_ids_of_other_sentences_and_padding_stays():
    count = 600
    ids = torch.arange(2, 2 + count * 6).reshape(count, 6)
    length, present = torch.arange(count) % 7, torch.arange(count) % 5 > 0
    real = (torch.arange(6) < length[:, None]) & present[:, None]
    ids = torch.where(torch.arange(6) < length[:, None], ids, torch.zeros_like(ids))
    before = {"text": window(ids, length, present), "vector": window(torch.zeros(count, 2, 1))}
    after = SensorCorruption(1.0, 2.0, {})(before, seeded())["text"].values
    new = after[after != ids].tolist()
    assert torch.equal(after[~real], ids[~real]) and set(new) <= set(ids[real].tolist())
    wanted = 0.5 * (0.5 + 0.5 * 0.5)  # the text is hit in half of the records, and half of these have s of at least 1
    assert len(new) / real.sum().item() == pytest.approx(wanted, abs=0.04)
    assert stats.kstest(new, ids[real].numpy()).pvalue > 0.01


def test_a_record_keeps_one_sensor_clean_and_absent_ones_untouched():
    before = sensors(500)
    names = list(before)
    count = torch.arange(500) % 6  # sensor k is there in records with more than k
    before = {n: w._replace(present=count > k) for k, (n, w) in enumerate(before.items())}
    after = SensorCorruption(1.0, 3.0, LIMITS)(before, seeded())
    noisy = changed(before, after)
    there = torch.stack([before[n].present for n in names])
    assert not (noisy & ~there).any() and not noisy[:, count < 2].any()
    assert (there & ~noisy)[:, count > 0].any(0).all() and noisy[:, count == 2].any(0).all()
    assert all(torch.equal(after[n].present, before[n].present) for n in names)


def test_padding_and_absent_values_that_are_no_numbers_reach_nothing():
    values = torch.randn(40, 2, 9, generator=seeded(2))
    length, present = torch.full((40,), 6), torch.arange(40) % 4 > 0
    spoilt = values.clone()
    spoilt[:, :, 6:] = float("nan")
    spoilt[~present] = float("inf")
    other = window(torch.zeros(40, 1, 1))
    one, two = (
        SensorCorruption(1.0, 3.0, {})({"a": window(x, length, present), "b": other}, seeded())["a"].values
        for x in (values, spoilt)
    )
    assert torch.equal(one[present][:, :, :6], two[present][:, :, :6]) and two[present][:, :, 6:].isnan().all()


def test_the_seed_decides():
    before = sensors(60)
    one, two, three = (SensorCorruption(0.5, 3.0, LIMITS)(before, seeded(seed)) for seed in (7, 7, 8))
    assert all(torch.equal(one[n].values, two[n].values) for n in before)
    assert any(not torch.equal(one[n].values, three[n].values) for n in before)


def test_features_are_refused_by_name():
    mask, there = torch.ones(2, 3, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"corruption takes windows, but \['eeg'\] come as features"):
        SensorCorruption(0.5, 3.0, {})({"eeg": Features(torch.zeros(2, 3, 1, 1), mask, there)}, seeded())


def test_a_recipe_corrupts_what_is_left_after_dropout_in_training_alone(tiny, monkeypatch):
    calls = []
    corrupt = SensorCorruption.__call__

    def watch(self, levels, generator):
        calls.append({name: level.present.clone() for name, level in levels.items()})
        assert all(isinstance(level, Window) for level in levels.values())
        return corrupt(self, levels, generator)

    monkeypatch.setattr(SensorCorruption, "__call__", watch)
    options = ["train.sensor_corruption=0.5", "train.corruption_strength=2", "train.modality_dropout=0.5"]
    recipe = tiny(*options, "train.single_sensors=true", "data.split.folds=2")
    run = train(recipe, fold=0)
    trained = load_trained(run, 0)
    assert trained.model.corruption.share == 0.5 and trained.model.corruption.strength == 2
    assert load_trained(run, 0, "eeg").model.corruption is None  # a sensor alone has nothing to be told from
    records = len(run.results("fused")[0].rows["test"])  # as many train as test, but for those that validate
    rows = sum(len(call["eeg"]) for call in calls)
    assert rows < 2 * 2 * records and min(len(call) for call in calls) == 2  # two epochs of fused training, no more
    assert any((call["eeg"] != call["text"]).any() for call in calls)  # dropout was before


def test_a_recipe_knows_the_limits_of_its_sensors_and_loads_windows(tiny):
    recipe = tiny("train.sensor_corruption=0.5")
    assert needs_window(recipe, "eeg") and not needs_window(tiny(), "eeg")
    assert build_modalities(recipe)["eeg"].limits is None and modalities.get("image").limits == (0.0, 1.0)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("train.sensor_corruption=1.5", "train.sensor_corruption: input should be less than or equal to 1, got 1.5"),
        ("train.corruption_strength=0", "train.corruption_strength: input should be greater than 0, got 0"),
    ],
)
def test_shares_and_strengths_out_of_bounds_are_refused(tiny, option, said):
    with pytest.raises(ConfigError, match=said):
        tiny(option)
