"""On noise that knows no label every protocol is at chance, and a split by windows of smoothed trials is not."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from fusionkit.bench import leakage
from fusionkit.bench.leakage import LIMIT, PROTOCOLS, WINDOWS, LeakageScore, bench_leakage, score_protocol
from fusionkit.core.errors import DataError
from fusionkit.core.registry import sources
from fusionkit.data.sources.noise import SECONDS
from fusionkit.data.sources.source import SensorColumn
from fusionkit.data.splits import Fold, Split, SplitOptions
from fusionkit.data.study import Study
from fusionkit.evaluation.report import build_report
from fusionkit.evaluation.summary import summarise
from fusionkit.recipe.load import load_recipe
from fusionkit.training.material import open_study
from fusionkit.training.run import train


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("noise")


def study(tmp_path, column, *overrides, kind="signal", features="raw"):
    """Noise as one sensor stores it; by default as a vector a second."""
    sensor = f"modalities.eeg={{kind: {kind}, column: {column}, features: {{kind: {features}}}}}"
    return open_study(load_recipe("noise", [f"data.cache={tmp_path}", sensor, *overrides]))


def test_it_has_the_subjects_sessions_trials_and_labels_of_seed():
    source = sources.build("noise", {"subjects": 2, "sessions": 3, "scale": 1.0})
    rows = source.rows()
    assert len(rows) == 2 * 3 * 3394
    assert len({row.id for row in rows}) == len(rows)
    counts = Counter((row.subject, row.session, row.trial) for row in rows)
    assert counts["2", "3", "1"] == 235 and counts["1", "1", "9"] == 265
    assert [counts["1", "2", str(trial)] for trial in range(1, 16)] == list(SECONDS)
    label = {row.trial: row.labels["emotion"] for row in rows}
    assert [label[str(trial)][:3] for trial in range(1, 16)] == (
        ["pos", "neu", "neg", "neg", "neu", "pos", "neg", "neu", "pos", "pos", "neu", "neg", "neu", "pos", "neg"]
    )
    assert set(source.columns()) >= {"eeg", "features", "vectors", "emotion", "subject"}


def test_a_trial_is_one_recording_of_standard_normal_numbers_and_a_record_a_second_of_it(tmp_path):
    with study(tmp_path, "vectors", "data.scale=0.05") as found:
        sensor = found.sensors["eeg"]
        assert len(sensor.recording_name) == 6 * 2 * 15 and set(sensor.count) == {1}
        assert sensor.stored.item == (310,) and sensor.stored.channels[5] == "FPZ delta"
        values = np.asarray(sensor.values)
        assert abs(values.mean()) < 4 / np.sqrt(values.size) and abs(values.std() - 1) < 0.01
        first = values[sensor.offset[0] : sensor.offset[0] + 12]
        assert abs(np.corrcoef(first)[0, 1:]).max() < 4 / np.sqrt(310)


def test_features_and_vectors_are_the_same_numbers_and_raw_is_white_noise_in_volts(tmp_path):
    ready = study(tmp_path, "features", kind="eeg", features="ready")
    flat = study(tmp_path, "vectors")
    raw = study(tmp_path, "eeg", "data.subjects=1", "data.sessions=1", kind="eeg")
    bands = np.asarray(ready.sensors["eeg"].values)
    assert bands.shape[1:] == (62, 5)
    np.testing.assert_array_equal(bands.reshape(len(bands), 310), flat.sensors["eeg"].values)
    volts = raw.sensors["eeg"]
    assert volts.stored.sample_rate == 200 and volts.stored.unit == "V" and set(volts.count) == {200}
    assert np.asarray(volts.values).std() == pytest.approx(1e-5, rel=0.01)


def test_another_seed_makes_other_noise_and_drift_an_offset_that_a_trial_shares(tmp_path):
    one, same = study(tmp_path, "vectors"), study(tmp_path, "vectors", "seed=5")
    other = study(tmp_path, "vectors", "data.seed=1")
    assert one.digest == same.digest != other.digest
    drifting = study(tmp_path, "vectors", "data.drift=trial", "data.scale=0.05").sensors["eeg"]
    values = np.asarray(drifting.values)
    trial = drifting.recording
    within, across = np.corrcoef(values[:2])[0, 1], np.corrcoef(values[[0, len(values) - 1]])[0, 1]
    assert trial[0] == trial[1] != trial[-1]
    assert 0.35 < within < 0.65 and abs(across) < 0.25


def test_a_longer_study_begins_with_the_shorter_one(tmp_path):
    short, long = study(tmp_path, "vectors", "data.subjects=2"), study(tmp_path, "vectors", "data.subjects=3")
    assert long.records.id[: len(short.records)] == short.records.id
    count = len(short.sensors["eeg"].values)
    np.testing.assert_array_equal(long.sensors["eeg"].values[:count], short.sensors["eeg"].values)


def test_a_label_is_no_sensor():
    source = sources.build("noise", {})
    with pytest.raises(DataError, match=r"noise row 3, column emotion: a sensor must be one of .*'emotion' is none"):
        source.cell(2, SensorColumn("x", None, "emotion"))


@pytest.mark.parametrize("features", ["raw", "smoothed"])
def test_every_protocol_is_at_chance_on_noise(features, cache):
    for protocol in PROTOCOLS:
        score = score_protocol(protocol, features, 3, cache)
        assert score.expected and abs(score.deviation) <= LIMIT, score
        assert score.honest and score.units % 3 == 0


def test_windows_of_smoothed_trials_on_two_sides_are_refused_and_forced_are_found_out(cache):
    with pytest.raises(DataError, match=r"may not straddle a split, but records '1_1_1_\d+' \(\w+\) and '1_1_1_\d+'"):
        score_protocol(replace(WINDOWS, reason=None), "smoothed", 2, cache)
    leaking = score_protocol(WINDOWS, "smoothed", 3, cache)
    assert leaking.accuracy > 0.99 and leaking.deviation > LIMIT and leaking.expected
    assert abs(score_protocol(WINDOWS, "raw", 3, cache).deviation) <= LIMIT
    assert not replace(leaking, honest=True).expected  # an honest protocol may not score so


def test_leaving_a_trial_out_is_below_one_third_and_its_chance_says_so(cache):
    score = score_protocol(PROTOCOLS[-1], "raw", 8, cache)
    naive = (score.accuracy - 1 / 3) / score.sigma
    assert naive < -LIMIT < score.deviation < LIMIT
    assert score.chance == pytest.approx(score.accuracy, abs=3 * score.sigma) and score.chance < 0.27


def folds(*parts):
    """A split of twelve records by lists of (train, validation, test)."""
    rows = [[np.array(part, dtype=np.int64) for part in fold] for fold in parts]
    ids = tuple(map(str, range(12)))
    return Split(SplitOptions(kind="holdout"), tuple(Fold(*fold) for fold in rows), ids, "")


def test_folds_that_share_records_are_one_unit():
    apart = folds(([0], [1], [2]), ([3], [4], [5]), ([6], [7], [8]))
    assert leakage._units(apart).tolist() == [0, 1, 2]
    chained = folds(([0], [1], [2]), ([6], [7], [8]), ([3], [2], [5]), ([5], [9], [10]))
    assert leakage._units(chained).tolist() == [0, 1, 0, 0]


def test_a_protocol_by_subjects_has_as_many_units_as_repetitions_and_one_by_sessions_more(cache):
    units = {protocol.name: score_protocol(protocol, "raw", 2, cache).units for protocol in PROTOCOLS[:6]}
    assert units["leave_one_subject_out"] == units["k_fold by subject"] == units["holdout by subject"] == 2
    assert units["cross_session"] == units["seed_v_3_fold"] == 2 * 6
    assert units["seed_9_6"] == 2 * 6 * 2


def test_few_units_make_a_deviation_less_certain():
    assert (
        leakage._as_normal(3.0, 4) == pytest.approx(stats.norm.isf(stats.t.sf(3.0, 4))) == pytest.approx(2.05, abs=0.01)
    )
    assert leakage._as_normal(-3.0, 10_000) == pytest.approx(-3.0, abs=0.01)
    assert leakage._as_normal(0.0, 3) == 0


def test_what_is_expected_of_a_score():
    def expected(**given):
        score = {"accuracy": 0.3, "chance": 0.3, "sigma": 0.1, "units": 3, "honest": True, "features": "smoothed"}
        return LeakageScore(protocol="p", **(score | given)).expected

    assert expected(deviation=2.9) and expected(deviation=-2.9)
    assert not expected(deviation=3.1) and not expected(deviation=-3.1)
    assert expected(deviation=9.0, honest=False) and not expected(deviation=1.0, honest=False)
    assert expected(deviation=1.0, honest=False, features="raw")
    assert not expected(deviation=9.0, honest=False, features="raw")


def at_chance(run):
    """Summary of a run, and how far its accuracy is from its chance in standard errors over trials.

    Where folds train on what others test, two trials make one error twice, which doubles the variance at most.
    """
    summary = summarise(run).tasks["emotion"]
    answers = summary.answers["fused"]
    with Study.open(run.study) as found:
        trial = found.records.group("trial")[answers.rows]
        split = Split.load(run.folder / "split.json", found.records)
    chosen, truth = answers.prediction.argmax(1), answers.target.astype(int)
    error = np.zeros(len(truth))
    for fold in np.unique(answers.fold):
        mine = answers.fold == fold
        share = np.bincount(chosen[mine], minlength=3) / mine.sum()
        error[mine] = (chosen[mine] == truth[mine]) - share[truth[mine]]
    sums = np.bincount(trial, weights=error)
    traded = leakage._units(split).max() + 1 < len(split.folds)
    return summary, sums.sum() / np.sqrt((1 + traded) * np.square(sums).sum())


def test_the_recipe_trains_to_chance(tmp_path):
    recipe = load_recipe("noise", [f"run.dir={tmp_path}", "train.device=cpu", "data.subjects=3", "train.epochs=5"])
    run = train(recipe)
    _, deviation = at_chance(run)
    assert run.facts["finished"] and len(run.folds()) == 6 and abs(deviation) <= LIMIT
    assert any("smooth" in note for note in run.facts["notes"])


def test_a_report_of_many_folds_says_their_mean_and_deviation(tmp_path):
    options = [f"run.dir={tmp_path}", "train.device=cpu", "data.sessions=1", "data.subjects=12", "train.epochs=1"]
    run = train(load_recipe("noise", options))
    summary = summarise(run)
    row = summary.tasks["emotion"].rows[0]
    assert len(row.folds) == 12
    assert len(summary.tasks["emotion"].answers["fused"].rows) == 12 * sum(round(0.02 * s) for s in SECONDS[9:])
    said = f"{np.mean(row.folds):.3f} +- {np.std(row.folds, ddof=1):.3f}<br><small>mean and deviation of 12"
    assert said in build_report(run, summary)


def test_the_recipe_split_by_windows_is_refused_by_training_too(tmp_path):
    split = ["data.split={kind: k_fold, by: record, folds: 2}", f"run.dir={tmp_path}", "train.device=cpu"]
    with pytest.raises(DataError, match="may not straddle a split"):
        train(load_recipe("noise", split))
    forced = load_recipe("noise", [*split, "data.allow_leakage=to see it", "data.subjects=2", "data.scale=0.05"])
    summary, deviation = at_chance(train(forced))
    rows = {row.name: row.scores["accuracy"].value for row in summary.rows}
    assert rows["fused"] > 0.9 and deviation > LIMIT


@pytest.mark.slow
@pytest.mark.parametrize(
    "split",
    [
        "{kind: leave_one_subject_out}",
        "{kind: k_fold, folds: 3}",
        "{kind: cross_session, per: all}",
        "{kind: seed_9_6}",
        "{kind: seed_v_3_fold}",
        "{kind: within_subject}",
        "{kind: holdout}",
    ],
)
def test_every_protocol_trains_to_chance(split, tmp_path):
    run = train(load_recipe("noise", [f"run.dir={tmp_path}", "train.device=cpu", f"data.split={split}"]))
    assert abs(at_chance(run)[1]) <= LIMIT


@pytest.mark.slow
def test_every_protocol_is_at_chance_over_many_repetitions():
    scores = bench_leakage()
    assert all(score.expected for score in scores), [score for score in scores if not score.expected]
    assert {score.protocol for score in scores} == {protocol.name for protocol in (*PROTOCOLS, WINDOWS)}
