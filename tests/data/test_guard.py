"""The guard: it finds what a comparison of all pairs finds, names it, and lets through what is no leak."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.recording import Stored
from fusionkit.data.guard import check_straddling
from fusionkit.data.records import Records
from fusionkit.data.splits import PARTS, Fold, Split, SplitOptions
from fusionkit.data.study import StoredSensor, Study

TIMED = Stored(sample_rate=100.0, channels=("a",), unit="V", item=(1,), dtype="<f4", longest=10)
TEXT = Stored(sample_rate=None, channels=(), unit="", item=(), dtype="|u1", longest=10)
IMAGE = Stored(sample_rate=None, channels=(), unit="", item=(3, 2, 2), dtype="|u1", longest=1)


def sensor(windows, stored=TIMED, digests=None, length=100):
    """Windows (recording, start, count), or None where the record lacks the sensor."""
    recordings = 1 + max(window[0] for window in windows if window)
    return StoredSensor(
        stored=stored,
        offset=np.array([-1 if w is None else w[0] * length + w[1] for w in windows], dtype=np.int64),
        count=np.array([0 if w is None else w[2] for w in windows], dtype=np.int64),
        recording=np.array([-1 if w is None else w[0] for w in windows], dtype=np.int64),
        recording_name=tuple(f"file{i}.edf" for i in range(recordings)),
        recording_offset=np.arange(recordings) * length,
        recording_count=np.full(recordings, length),
        recording_digest=tuple(digests or [f"d{i}" for i in range(recordings)]),
        place=(Path("none"), 0, (recordings * length,), stored.dtype),
    )


def study(sensors, **roles):
    count = len(next(iter(sensors.values())).offset)
    rows = [{"id": f"r{i}", **{name: values[i] for name, values in roles.items()}} for i in range(count)]
    return Study(Path("none"), Records.of(rows), sensors, "digest")


def split(study, *folds, by="record"):
    """Each fold a string, one letter a record: t(rain), v(alidation), x (test), c(alibration), - (left out)."""
    made = [Fold(*(np.flatnonzero(np.array(list(letters)) == letter) for letter in "tvxc")) for letters in folds]
    return Split(SplitOptions(kind="holdout", by=by), tuple(made), study.records.id, "")


def test_a_split_without_shared_signal_passes():
    apart = study({"eeg": sensor([(0, 0, 10), (0, 5, 10), (1, 0, 10), (2, 0, 10), None])})
    assert check_straddling(split(apart, "ttvxx", "xxtvt"), apart) == []


def test_overlapping_windows_on_two_sides_are_refused_by_name():
    overlapping = study({"eeg": sensor([(0, 0, 10), (0, 8, 10), (1, 0, 10)])})
    message = (
        r"windows that share samples may not straddle a split, but records 'r0' \(train\) and 'r1' \(test\) of fold 1 "
        r"share samples 8 to 10 of 'file0.edf' \(eeg\)"
    )
    with pytest.raises(DataError, match=message):
        check_straddling(split(overlapping, "ttv", "txv"), overlapping)


def test_windows_shared_with_calibration_are_refused():
    overlapping = study({"eeg": sensor([(0, 0, 10), (1, 0, 10), (2, 0, 10), (0, 8, 10)])})
    with pytest.raises(
        DataError, match=r"records 'r0' \(train\) and 'r3' \(calibration\) of fold 0 share samples 8 to 10"
    ):
        check_straddling(split(overlapping, "tvxc"), overlapping)


def test_windows_that_only_touch_share_nothing():
    touching = study({"image": sensor([(0, 0, 5), (0, 5, 5), (1, 0, 1)], IMAGE)})
    assert check_straddling(split(touching, "txv"), touching) == []


def test_a_long_window_is_remembered_past_short_ones():
    nested = study({"image": sensor([(0, 0, 50), (0, 5, 2), (0, 40, 5), (1, 0, 1)], IMAGE)})
    with pytest.raises(DataError, match=r"'r0' \(train\) and 'r2' \(test\) of fold 0 share samples 40 to 45"):
        check_straddling(split(nested, "ttxv"), nested)


def test_any_sensor_is_enough_to_refuse():
    mixed = study(
        {"eeg": sensor([(0, 0, 1), (1, 0, 1), (2, 0, 1)]), "image": sensor([(0, 0, 1), (1, 0, 1), (0, 0, 1)])}
    )
    with pytest.raises(DataError, match=r"'r0' \(train\) and 'r2' \(test\).*\(image\)"):
        check_straddling(split(mixed, "tvx"), mixed)


@pytest.mark.parametrize("stored", [TIMED, TEXT, IMAGE])
def test_a_shared_static_item_is_shared_signal(stored):
    shared = study({"s": sensor([(0, 0, 1), (0, 0, 1), (1, 0, 1)], stored)})
    with pytest.raises(DataError, match=r"share samples 0 to 1 of 'file0\.edf'"):
        check_straddling(split(shared, "tvx"), shared)


def test_records_left_out_of_a_fold_cannot_leak():
    overlapping = study({"eeg": sensor([(0, 0, 10), (0, 5, 10), (1, 0, 1), (2, 0, 1)])})
    assert check_straddling(split(overlapping, "t-vx"), overlapping) == []


@pytest.mark.parametrize("level", ["trial", "recording"])
def test_one_trial_or_recording_on_two_sides_is_refused(level):
    windows = sensor([(i, 0, 1) for i in range(4)])
    named = study({"eeg": windows}, subject="aabb", **{level: ["one", "one", "one", ""]})
    with pytest.raises(DataError, match=rf"a {level} may not straddle .* 'r0' \(train\) and 'r1' \(test\).*'one'"):
        check_straddling(split(named, "txvv"), named)
    assert check_straddling(split(named, "ttxv"), named) == []  # 'one' of another subject is another


def test_records_without_a_trial_are_not_one_trial():
    unnamed = study({"eeg": sensor([(i, 0, 1) for i in range(3)])}, subject="aaa")
    assert check_straddling(split(unnamed, "tvx"), unnamed) == []


def test_a_stored_recording_counts_where_none_is_named_and_only_for_signals_in_time():
    windows = [(0, 0, 10), (0, 50, 10), (1, 0, 10)]
    timed = study({"eeg": sensor(windows)})
    with pytest.raises(DataError, match=r"a recording may not straddle .*are both cut from 'file0.edf' \(eeg\)"):
        check_straddling(split(timed, "txv"), timed)
    pictures = study({"image": sensor(windows, IMAGE)})
    assert check_straddling(split(pictures, "txv"), pictures) == []
    named = study({"eeg": sensor(windows)}, recording=["a", "b", "c"])
    assert check_straddling(split(named, "txv"), named) == []


def test_trials_of_one_recording_may_part_in_a_split_by_trial():
    windows = [(0, 0, 10), (0, 50, 10), (1, 0, 10)]
    run = study({"eeg": sensor(windows)}, subject="aaa", trial="xyz", recording=["one"] * 3)
    assert check_straddling(split(run, "txv", by="trial"), run) == []
    with pytest.raises(DataError, match="a recording may not straddle"):
        check_straddling(split(run, "txv", by="record"), run)


def test_one_signal_under_two_names_is_refused():
    copies = study({"eeg": sensor([(0, 0, 5), (1, 20, 5), (2, 0, 5)], digests=["same", "same", "other"])})
    with pytest.raises(DataError, match=r"one signal under two names .*'file0.edf' and 'file1.edf' \(eeg\)"):
        check_straddling(split(copies, "txv"), copies)
    assert check_straddling(split(copies, "ttx"), copies) == []


def test_equal_sentences_are_mentioned_and_not_refused():
    copies = study({"text": sensor([(0, 0, 5), (1, 0, 5), (2, 0, 5)], TEXT, digests=["same", "same", "other"])})
    assert check_straddling(split(copies, "txv", "ttv"), copies) == [
        "text has equal values on two sides: records 'r0' (train) and 'r1' (test) of fold 0, for one (in 1 of 2 folds)"
    ]
    pictures = study({"image": sensor([(0, 0, 1), (1, 0, 1), (2, 0, 1)], IMAGE, digests=["same", "same", "other"])})
    with pytest.raises(DataError, match="one signal under two names"):
        check_straddling(split(pictures, "txv"), pictures)


def test_with_a_reason_every_finding_is_a_warning_that_says_it():
    bad = study({"eeg": sensor([(0, 0, 10), (0, 5, 10), (1, 0, 10)])}, subject="aab", trial=["t"] * 3)
    warnings = check_straddling(split(bad, "txv", "ttx"), bad, "a demonstration")
    assert len(warnings) == 3
    assert all(warning.endswith("(in 1 of 2 folds); allowed: a demonstration") for warning in warnings)
    assert [warning.split(" may not")[0] for warning in warnings] == [
        "windows that share samples",
        "a trial",
        "a recording",
    ]


def test_an_empty_reason_is_no_reason():
    fine = study({"eeg": sensor([(0, 0, 1), (1, 0, 1), (2, 0, 1)])})
    with pytest.raises(ConfigError, match="must give a reason, but got ' '"):
        check_straddling(split(fine, "tvx"), fine, " ")


def leaks(study, fold):
    """Every pair of records, one rule after the other."""
    side = {row: part for part, rows in fold.parts().items() for row in rows.tolist()}
    assert set(side.values()) <= set(PARTS)
    rules = set()
    for a, b in itertools.combinations(sorted(side), 2):
        if side[a] == side[b]:
            continue
        for name, one in study.sensors.items():
            if one.offset[a] < 0 or one.offset[b] < 0:
                continue
            if max(one.offset[a], one.offset[b]) < min(one.offset[a] + one.count[a], one.offset[b] + one.count[b]):
                rules.add(("windows that share samples", name))
            x, y = one.recording[a], one.recording[b]
            if x == y:
                rules.add(("a recording", name))
            elif one.recording_digest[x] == one.recording_digest[y]:
                rules.add(("one signal under two names", name))
    return rules


window = st.one_of(st.none(), st.tuples(st.integers(0, 5), st.integers(0, 12), st.integers(1, 6)))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), count=st.integers(3, 12))
def test_it_finds_exactly_what_a_comparison_of_all_pairs_finds(data, count):
    sensors = {}
    for name in ("eeg", "ecg"):
        windows = [(5, 0, 1), *data.draw(st.lists(window, min_size=count - 1, max_size=count - 1))]
        digests = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=6, max_size=6))
        sensors[name] = sensor(windows, digests=digests)
    letters = "".join(data.draw(st.lists(st.sampled_from("tvx-"), min_size=count, max_size=count)))
    drawn = study(sensors)
    made = split(drawn, letters)
    expected = leaks(drawn, made.folds[0])
    event(f"{len(expected)} rules broken")
    found = check_straddling(made, drawn, "to look")
    seen = {(message.split(" may not")[0], "eeg" if "(eeg)" in message else "ecg") for message in found}
    assert len(found) == len(seen)
    assert seen == expected
    if expected:
        with pytest.raises(DataError):
            check_straddling(made, drawn)


def test_a_hundred_thousand_windows_take_no_time():
    count = 100_000
    generator = np.random.default_rng(0)
    windows = [
        (int(r), int(s), 20) for r, s in zip(np.arange(count) // 100, generator.integers(0, 80, count), strict=True)
    ]
    big = study({"eeg": sensor(windows)}, subject=[f"S{r}" for r, _, _ in windows])
    letters = "".join("txv"[r % 3] for r, _, _ in windows)
    made = split(big, *[letters] * 5)
    began = time.perf_counter()
    assert check_straddling(made, big) == []
    assert time.perf_counter() - began < 5


def test_records_that_are_smoothed_together_may_not_part():
    apart = study({"eeg": sensor([(0, 0, 10), (0, 20, 10), (1, 0, 10), (1, 20, 10)])}, recording="abcd")
    groups = {"eeg": np.array([0, 0, 1, -1])}
    assert check_straddling(split(apart, "ttxx"), apart, smoothed=groups) == []
    message = (
        r"smoothed as one sequence may not straddle a split, but records 'r0' \(train\) and 'r1' \(test\) of fold 0 are "
        r"smoothed together \(eeg\)"
    )
    with pytest.raises(DataError, match=message):
        check_straddling(split(apart, "txtx"), apart, smoothed=groups)
    (warning,) = check_straddling(split(apart, "txtx"), apart, "a demonstration", smoothed=groups)
    assert "are smoothed together (eeg) (in 1 of 1 folds); allowed: a demonstration" in warning
    assert check_straddling(split(apart, "t-vx"), apart, smoothed=groups) == []  # left out, -1: no sides


def test_trials_of_one_recording_may_part_only_unless_smoothed_together():
    apart = study({"eeg": sensor([(0, 0, 10), (0, 20, 10), (0, 40, 10)])}, trial="abc", recording="xxx")
    made = split(apart, "tvx", by="trial")
    assert check_straddling(made, apart) == []
    with pytest.raises(DataError, match="are smoothed together"):
        check_straddling(made, apart, smoothed={"eeg": np.array([0, 0, 0])})
