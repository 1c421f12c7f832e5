"""Faults at test: as strong as they say, the same for everyone, and only where they strike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionkit.compare.cells.cell import make_cell, open_run, run_cell
from fusionkit.compare.conditions import corruption
from fusionkit.compare.conditions.asked_again import ask_again
from fusionkit.compare.conditions.corruption import (
    Condition,
    Faults,
    answer_faults,
    bursts,
    conditions,
    keep_faults,
    late_by,
    parse_faults,
)
from fusionkit.compare.conditions.corruption import read_faults as read
from fusionkit.compare.conditions.subsets import answer_subsets
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features, Window
from fusionkit.recipe.load import load_recipe

SMALL = ["data.subjects=6", "data.records=6", "train.epochs=1", "train.single_sensors=false"]
NONE = Faults(noise=(), channels=(), bursts=(), offset=(), drift=())


def ask(folder: Path, *changes: str):
    recipe = load_recipe("quickstart", [*SMALL, f"run.dir={folder}", f"data.cache={folder}/cache", *changes])
    cell = make_cell("one", recipe, 0, 0, study="", split="", cells=folder / "cells")
    ended = run_cell(cell)
    assert ended.problem == ""
    return ask_again(open_run(ended), 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("asked")


@pytest.fixture(scope="module")
def asked(folder):
    return ask(folder)


def window(rows=3, channels=2, time=40, lengths=None):
    values = torch.randn(rows, channels, time, generator=torch.Generator().manual_seed(0))
    length = torch.tensor(lengths or [time] * rows)
    values = torch.where(torch.arange(time) < length[:, None, None], values, torch.zeros(()))
    return Window(values, length, torch.ones(rows, dtype=torch.bool))


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.75, 0.95])
def test_bursts_miss_the_share_that_they_say_in_bursts(share):
    found = bursts(20_000, 20, share, np.random.default_rng(0))
    assert found.mean() == pytest.approx(share, abs=0.01)
    assert found[:, 0].mean() == pytest.approx(share, abs=0.015) and found[:, -1].mean() == pytest.approx(
        share, abs=0.015
    )
    stays = (found[:, 1:] & found[:, :-1]).sum() / found[:, :-1].sum()
    assert 1 / (1 - stays) == pytest.approx(max(3.0, share / (1 - share)), rel=0.05)  # mean length of a burst


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"noise": (2.0, 1.0)}, r"levels of noise must ascend between 0 and 1e\+06, but got \[2.0, 1.0\]"),
        ({"channels": (0.5, 1.0)}, r"levels of channels must ascend between 0 and 1"),
        ({"bursts": (0.0,)}, "levels of bursts"),
        ({"offset": (0.1, 0.1)}, "levels of offset"),
        ({"drift": (float("nan"),)}, "levels of drift"),
    ],
)
def test_levels_that_are_none_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Faults(**given)


def test_levels_are_read_from_words_and_the_others_stay():
    found = parse_faults(["noise=0.5, 2", "bursts=none", "seed=3"])
    assert found == replace(Faults(), noise=(0.5, 2.0), bursts=(), seed=3)
    assert parse_faults([]) == Faults()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["noise"], r"--faults: must be KIND=LEVEL,LEVEL with a kind of \['noise', .*'seed'\], but got 'noise'"),
        (["nois=1"], r"--faults: must be KIND=LEVEL.*but got 'nois=1'"),
        (["noise=1", "noise=2"], r"--faults: must name every kind once, but noise is there twice"),
        (["noise=1,x"], r"--faults: noise must be numbers or none, but got '1,x'"),
        (["noise="], r"--faults: noise must be numbers or none, but got ''"),
        (["noise=3,1"], r"--faults: levels of noise must ascend between 0 and 1e\+06, but got \[3.0, 1.0\]"),
        (["bursts=1"], r"--faults: levels of bursts must ascend between 0 and 1, but got \[1.0\]"),
        (["offset=inf"], r"--faults: levels of offset must ascend"),
        (["drift=nan"], r"--faults: levels of drift must ascend"),
        (["seed=0.5"], r"--faults: seed must be a whole number, but got '0.5'"),
    ],
)
def test_words_that_are_no_levels_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_faults(given)


def test_every_sensor_suffers_what_it_can(asked):
    found = {(one.kind, one.sensor) for one in conditions(asked, Faults())}
    assert found == {
        *(("noise", name) for name in ("eeg", "audio", "image")),
        ("channels", "eeg"),
        *(("offset", name) for name in ("eeg", "audio")),
        ("bursts", ""),
    }  # text is no numbers; every record is a recording of its own, so that no clock drifts


def test_answers_are_the_same_again_finite_and_of_every_condition(asked, tmp_path):
    faults = Faults()
    one, two = answer_faults(asked, faults), answer_faults(asked, faults)
    assert one.conditions == two.conditions and len(one.conditions) == len(conditions(asked, faults))
    np.testing.assert_array_equal(one.predictions["target"], two.predictions["target"])
    assert one.predictions["target"].shape == (len(one.conditions), len(asked.rows), 2)
    np.testing.assert_allclose(one.predictions["target"].sum(-1), 1, rtol=1e-5)
    other = answer_faults(asked, replace(faults, seed=1)).predictions["target"]
    same = [np.array_equal(a, b) for a, b in zip(one.predictions["target"], other, strict=True)]
    drawn = [c["kind"] in ("noise", "channels", "bursts") for c in one.conditions]
    assert [not s for s, d in zip(same, drawn, strict=True) if d].count(True) >= sum(
        drawn
    ) - 3  # some strike nothing here
    assert all(s for s, d in zip(same, drawn, strict=True) if not d)
    keep_faults(asked, tmp_path, faults)
    kept = read(tmp_path, faults)
    np.testing.assert_array_equal(kept.predictions["target"], one.predictions["target"])
    assert kept.conditions == one.conditions and read(tmp_path, replace(faults, seed=1)) is None


def test_a_model_that_no_fault_strikes_has_no_answers(asked, tmp_path):
    found = answer_faults(asked, NONE)
    assert found.conditions == [] and found.predictions["target"].shape == (0, len(asked.rows), 2)
    keep_faults(asked, tmp_path, NONE)
    assert read(tmp_path, NONE).predictions["target"].shape == found.predictions["target"].shape


def test_faults_of_no_strength_change_nothing_though_windows_take_the_place_of_features(asked):
    clean = answer_subsets(asked).predictions["target"][-1]
    faint = replace(NONE, noise=(1e-9,), channels=(1e-9,), bursts=(1e-9,), offset=(1e-9,))
    found = answer_faults(asked, faint)
    assert len(found.conditions) == 3 + 1 + 1 + 2
    for condition, said in zip(found.conditions, found.predictions["target"], strict=True):
        np.testing.assert_allclose(said, clean, atol=2e-5, err_msg=str(condition))


def test_all_strategies_meet_the_same_noise_and_a_sensor_alone_suffers_only_its_own(asked, folder, monkeypatch):
    seen: dict[str, list[torch.Tensor]] = {"fused": [], "alone": []}
    original = corruption._noisy
    for label, other in (("fused", asked), ("alone", ask(folder, "modalities=eeg"))):
        eeg = corruption._windows(other, "eeg").batch(other.rows[:1]).inputs["eeg"].values.shape[1:]

        def spy(level, spread, own, limits, label=label, eeg=eeg):
            noisy = original(level, spread, own, limits)
            if level.values.shape[1:] == eeg:
                seen[label].append(noisy.values)
            return noisy

        monkeypatch.setattr(corruption, "_noisy", spy)
        assert {one.sensor for one in conditions(other, Faults())} - {""} <= set(other.sensors)
        answer_faults(other, replace(NONE, noise=(1.0, 2.0)))
    assert len(seen["fused"]) == len(seen["alone"]) == 2
    for fused, alone in zip(seen["fused"], seen["alone"], strict=True):
        torch.testing.assert_close(fused, alone, rtol=0, atol=0)
    clean = corruption._windows(asked, "eeg").batch(asked.rows).inputs["eeg"].values
    weak, strong = (noisy - clean for noisy in seen["fused"])
    torch.testing.assert_close(strong, 2 * weak, rtol=1e-3, atol=1e-3 * float(strong.abs().max()))  # the same, larger


def generators(rows):
    return [torch.Generator().manual_seed(row) for row in range(rows)]


def test_a_model_that_answers_fewer_records_meets_the_same_faults_in_those(asked):
    """One whose sensor needs the first seconds of a recording leaves these out."""
    faults = replace(Faults(), offset=())
    fewer = replace(asked, rows=asked.rows[[1, *range(3, len(asked.rows))]])
    whole, part = answer_faults(asked, faults), answer_faults(fewer, faults)
    assert whole.conditions == part.conditions
    same = np.isin(asked.rows, fewer.rows)
    np.testing.assert_allclose(part.predictions["target"], whole.predictions["target"][:, same], rtol=0, atol=1e-6)


@pytest.mark.parametrize("longest", [40, 55])
def test_noise_of_a_record_does_not_depend_on_how_long_the_others_are(longest):
    given, one = window(2, 2, longest, [30, longest]), torch.tensor([[[1.0], [1.0]]])
    found = corruption._noisy(given, one, generators(2), None).values
    assert (found[0, :, 30:] == 0).all()
    drawn = torch.randn(1, 2, 30, generator=generators(1)[0])
    torch.testing.assert_close(found[:1, :, :30] - given.values[:1, :, :30], drawn)
    mask = torch.arange(longest) < torch.tensor([[3], [longest]])
    features = Features(torch.zeros(2, longest, 2, 1), mask, torch.ones(2, dtype=torch.bool))
    drawn = torch.randn(1, 3, 2, 1, generator=generators(1)[0])
    torch.testing.assert_close(
        corruption._noisy(features, torch.ones(1, 1, 2, 1), generators(2), None).values[:1, :3], drawn
    )


def test_noise_of_one_deviation_is_as_strong_as_the_signal(asked):
    loader = corruption._windows(asked, "eeg")
    level = loader.batch(asked.rows).inputs["eeg"]
    values = level.values[level.present].double()
    assert not level.present.all()
    deviation = corruption._deviation(loader, "eeg", asked.rows)
    expected = values.transpose(0, 1).flatten(1).std(1, correction=0)
    np.testing.assert_allclose(deviation.flatten(), expected, rtol=1e-4)
    noisy = corruption._noisy(window(50, 2, 400), torch.tensor([[[1.0], [3.0]]]), generators(50), None)
    noise = noisy.values - window(50, 2, 400).values
    np.testing.assert_allclose(noise.transpose(0, 1).flatten(1).std(1), [1, 3], rtol=0.02)


def test_deviation_of_features_counts_real_steps_alone():
    values = torch.tensor([[1.0, 3.0, 99.0], [5.0, 99.0, 99.0]])[..., None, None]
    mask = torch.tensor([[True, True, False], [True, False, False]])
    there = torch.tensor([True, True])

    class One:
        def batch(self, rows):
            return type("Batch", (), {"inputs": {"x": Features(values, mask, there)}})

    found = corruption._deviation(One(), "x", np.arange(2))
    assert found.item() == pytest.approx(np.std([1, 3, 5]))


def test_lost_channels_are_silent_in_a_share_of_records_and_more_are_lost_where_more_are_asked():
    given = window(4000, 5, 3)
    some, more = (corruption._fewer_channels(given, share, generators(4000)).values == 0 for share in (0.3, 0.6))
    whole = some.all(-1)
    assert (whole == some.any(-1)).all() and whole.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (more | ~some).all() and more.float().mean().item() == pytest.approx(0.6, abs=0.02)
    features = Features(torch.ones(2, 3, 4, 1), torch.ones(2, 3, dtype=torch.bool), torch.ones(2, dtype=torch.bool))
    lost = corruption._fewer_channels(features, 0.5, generators(2)).values
    assert (
        (lost.isnan() | (lost == 1)).all() and (lost.isnan().all(1) == lost.isnan().any(1)).all() and lost.isnan().any()
    )


def test_gaps_silence_their_blocks_and_a_sensor_without_anything_is_absent():
    given = window(3, 2, 40, [40, 20, 40])
    missing = torch.zeros(3, 4, dtype=torch.bool)
    missing[0, 1], missing[1, 0], missing[2] = True, True, True
    found = corruption._with_gaps(given, missing)
    expected = given.values.clone()
    expected[0, :, 10:20] = 0
    expected[1, :, 0:5] = 0
    expected[2] = 0
    torch.testing.assert_close(found.values, expected, rtol=0, atol=0)
    assert found.present.tolist() == [True, True, False]
    picture = Window(torch.ones(2, 3, 4, 4), torch.ones(2, dtype=torch.int64), torch.tensor([True, True]))
    gone = corruption._with_gaps(picture, torch.tensor([[True], [False]]))
    assert gone.present.tolist() == [False, True] and (gone.values == 1).all()
    features = Features(torch.ones(1, 4, 1, 1), torch.ones(1, 4, dtype=torch.bool), torch.tensor([True]))
    assert corruption._with_gaps(features, torch.tensor([[False, True]])).mask.tolist() == [[True, True, False, False]]


def test_a_late_sensor_shows_what_came_before_and_nothing_before_the_recording(asked):
    study = asked.material.study
    original = study.sensors["audio"]
    rate = original.stored.sample_rate
    second = int(asked.rows[1])
    # the second test record's window, cut again as the last half of a recording that holds both
    count = int(original.count[second]) // 2
    offset, counts = np.array(original.offset), np.array(original.count)
    offset[second], counts[second] = offset[second] + count, count
    sensor = replace(original, offset=offset, count=counts)
    other = replace(
        asked, material=_with_study(asked.material, replace(study, sensors={**study.sensors, "audio": sensor}))
    )
    late = 0.3
    lag = round(late * rate)
    assert lag < count
    loader, rest = corruption._late(other, Condition("offset", "audio", late))
    got = loader.batch(other.rows[:2]).inputs["audio"]
    moved = corruption._delayed(got, torch.from_numpy(rest[other.rows[:2]]))
    modality = other.trained.modalities["audio"]
    first = modality.window(sensor.slice(int(other.rows[0])))
    expected = np.zeros_like(first)
    expected[lag:] = first[:-lag]  # the record begins its recording: silence, then what it was
    np.testing.assert_allclose(moved.values[0, : len(first)], expected)
    recording = original.values[int(original.offset[second]) :]
    np.testing.assert_allclose(
        moved.values[1, :count], modality.window(recording[count - lag : 2 * count - lag]), rtol=1e-6
    )


def _with_study(material, study):
    other = object.__new__(type(material))
    other.__dict__.update(material.__dict__)
    other.study = study
    return other


def test_clocks_lose_what_they_say(asked):
    sensor = asked.material.study.sensors["eeg"]
    rate = sensor.stored.sample_rate
    late = late_by(sensor, "offset", 0.5)
    assert set(late[sensor.present]) == {round(0.5 * rate)} and set(late[~sensor.present]) == {0}
    recording = np.zeros(len(sensor.offset), dtype=np.int64)
    offset = np.arange(len(recording)) * 60 * int(rate)  # a record a minute, in one recording
    offset[3] = -1
    one = replace(sensor, recording=recording, offset=offset, recording_offset=np.zeros(1, dtype=np.int64))
    minutes = np.arange(len(offset))
    minutes[3] = 0  # absent
    np.testing.assert_array_equal(late_by(one, "drift", 0.1), np.rint(minutes * 0.1 * rate))


def test_a_window_that_is_moved_is_what_a_loop_makes_of_it():
    given = window(3, 2, 10, [10, 6, 10])
    found = corruption._delayed(given, torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)).values
    expected = torch.zeros_like(found)
    for row, lag in enumerate([0, 3, 20]):
        for step in range(int(given.length[row])):
            if step - lag >= 0:
                expected[row, :, step] = given.values[row, :, step - lag]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
