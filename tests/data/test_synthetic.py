"""The made study: its law against closed forms, its signals against simple readers, its promises of repeatability."""

import math
import time
from itertools import pairwise

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.recording import Recording
from fusionkit.core.registry import sources
from fusionkit.data.sources.source import SensorColumn
from fusionkit.data.sources.synthetic import Synthetic
from fusionkit.data.synthetic import PAIR, SENSORS, Cues, Law, make_eeg, make_text
from fusionkit.data.synthetic.eeg import CHANNELS, SAMPLE_RATE, positions

FOLDS = GroupKFold(4)


class Keeps:
    """A modality that gives back what it gets."""

    kind = "keeps"

    def from_array(self, values, sample_rate=None, channels=()):
        return Recording(values, sample_rate, channels)

    def from_cell(self, cell):
        return Recording(np.frombuffer(cell.encode(), np.uint8))


def load(source, row, sensor):
    cell = source.cell(row, SensorColumn(sensor, Keeps(), sensor))
    return None if cell is None else cell.load(Keeps())


def eeg_features(values):
    power = np.abs(np.fft.rfft(values * np.hanning(values.shape[-1]), axis=-1)) ** 2
    hertz = np.fft.rfftfreq(values.shape[-1], 1 / SAMPLE_RATE)
    bands = [(1, 4), (4, 8), (8, 14), (14, 31), (31, 50)]
    return np.log(np.stack([power[:, (hertz >= a) & (hertz < b)].mean(1) for a, b in bands])).ravel()


def audio_features(values):
    frames = values.reshape(-1, 400) * np.hanning(400)
    power = np.abs(np.fft.rfft(frames, axis=-1)) ** 2
    edges = np.unique(np.round(np.geomspace(2, 100, 28)).astype(int))
    bands = np.log(np.stack([power[:, a:b].mean(1) for a, b in pairwise(edges)]) + 1e-4)
    return np.concatenate([bands.mean(1), bands.std(1)])


def image_features(values):
    colour = values.mean((1, 2)) / values.mean()
    light = values.mean(0, dtype=float)
    across, down = light[1:-1, 2:] - light[1:-1, :-2], light[2:, 1:-1] - light[:-2, 1:-1]
    turn = np.array([(across**2 - down**2).mean(), (2 * across * down).mean()]) / (across**2 + down**2).mean()
    return np.concatenate([colour, turn])


def study(**options):
    """Truths, groups and simple features of every sensor; EEG is centred per subject, which takes out its gain."""
    source = Synthetic(missing=0.0, **options)
    rows = range(source.subjects * source.records)
    groups = np.array([row.subject for row in source.rows()])
    truths = [source.truth(row) for row in rows]
    eeg = np.stack([eeg_features(load(source, row, "eeg").values) for row in rows])
    for subject in set(groups):
        eeg[groups == subject] -= eeg[groups == subject].mean(0)
    sentences = [row.labels["text"] for row in source.rows()]
    features = {
        "eeg": eeg,
        "audio": np.stack([audio_features(load(source, row, "audio").values) for row in rows]),
        "image": np.stack([image_features(load(source, row, "image").values) for row in rows]),
        "text": CountVectorizer().fit_transform(sentences).toarray().astype(float),
    }
    return source, truths, np.array([truth.target for truth in truths]), groups, features


def score(features, target, groups):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
    return cross_val_score(model, features, target, groups=groups, cv=FOLDS).mean()


def read(features, cue, groups):
    """A cue as a linear reader on other subjects' records reads it."""
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13)))
    return cross_val_predict(model, features, cue, groups=groups, cv=FOLDS)


@pytest.fixture(scope="module")
def made():
    """Signals depend on the noise alone, not on the other dials, so one set serves all tests of signals."""
    return study(subjects=12, records=25, redundant=1.0, unique=0.0, noise=0.3)


def relabelled(**dials):
    """The labels of the same records under other dials."""
    source = Synthetic(subjects=12, records=25, missing=0.0, noise=0.3, **dials)
    return source.law, np.array([source.truth(row).target for row in range(300)])


def test_every_cue_can_be_read_from_its_signal(made):
    _, truths, _, groups, features = made
    for sensor in SENSORS:
        for name in ("shared", "own", *(["symbol"] if sensor in PAIR else [])):
            cue = np.array([getattr(truth.cues[sensor], name) for truth in truths])
            found = np.corrcoef(read(features[sensor], cue, groups), cue)[0, 1]
            assert found > 0.8, (sensor, name, found)


def test_redundant_each_sensor_alone_beats_chance(made):
    _, _, target, groups, features = made
    law, again = relabelled(redundant=1.0, unique=0.0)
    np.testing.assert_array_equal(again, target)
    for sensor in SENSORS:
        assert 0.70 < score(features[sensor], target, groups) < law.best_accuracy([sensor]) + 0.06, sensor


def test_unique_each_sensor_holds_a_part(made):
    _, truths, _, groups, features = made
    law, target = relabelled(redundant=0.0, unique=1.0)
    parts = [
        read(features[sensor], np.array([truth.cues[sensor].own for truth in truths]), groups) for sensor in SENSORS
    ]
    alone = [score(part[:, None], target, groups) for part in parts]
    for sensor, found in zip(SENSORS, alone, strict=True):
        assert found == pytest.approx(law.best_accuracy([sensor]), abs=0.08)  # partial: 0.66
    assert 0.8 < score(np.stack(parts, 1), target, groups) < law.best_accuracy(SENSORS) + 0.02


def test_synergy_alone_at_chance_but_the_pair_solves_it(made):
    _, truths, _, groups, features = made
    _, target = relabelled(redundant=0.0, unique=0.0, synergy=1.0)
    for sensor in SENSORS:
        assert 0.38 < score(features[sensor], target, groups) < 0.62, sensor
    first, second = (np.array([truth.symbols[i] for truth in truths]) for i in (0, 1))
    np.testing.assert_array_equal(first ^ second, target)  # the known bits
    bits = [
        read(features[sensor], 2.0 * hidden - 1, groups) > 0
        for sensor, hidden in zip(PAIR, (first, second), strict=True)
    ]
    assert np.mean((bits[0] ^ bits[1]) == target) > 0.85
    linear = score(np.concatenate([features[sensor] for sensor in PAIR], 1), target, groups)
    assert linear < 0.62  # no sum of evidence finds an XOR


@given(
    st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0, 2),
    st.lists(st.sampled_from(SENSORS), min_size=1, max_size=4, unique=True),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_best_accuracy_equals_the_arcsine(redundant, unique, noise, sensors):
    """Two jointly normal numbers of correlation r agree in sign with probability 1/2 + asin(r) / pi."""
    law = Law(2, redundant=redundant, unique=unique, synergy=0.0, noise=noise)
    count = len(sensors)
    seen = redundant**2 / (1 + noise**2 / count) + count / 4 * unique**2 / (1 + noise**2)
    correlation = min(1.0, math.sqrt(seen / (redundant**2 + unique**2)))
    assert law.best_accuracy(sensors) == pytest.approx(0.5 + math.asin(correlation) / math.pi, abs=0.02)


def test_best_accuracy_of_an_xor():
    law = Law(2, redundant=0.0, unique=0.0, synergy=1.0, noise=0.5)
    wrong = 0.5 * math.erfc(1 / 0.5 / math.sqrt(2))
    assert law.best_accuracy(PAIR) == pytest.approx((1 - wrong) ** 2 + wrong**2, abs=0.005)
    assert law.best_accuracy(["eeg"]) == pytest.approx(0.5, abs=0.005)
    assert law.best_accuracy(["image", "text"]) == pytest.approx(0.5, abs=0.005)


def test_quoted_accuracies_of_the_defaults():
    law = Synthetic().law
    assert round(law.best_accuracy(["text"]), 2) == 0.75
    assert round(law.best_accuracy(SENSORS), 2) == 0.85
    lone = Law(2, redundant=0.0, unique=1.0, synergy=0.0, noise=0.0).best_accuracy(["eeg"])
    assert lone == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("dials", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 1, 2), (0, 0, 0)])
def test_classes_are_balanced_and_never_beat_the_best(classes, dials):
    redundant, unique, synergy = map(float, dials)
    law = Law(classes, redundant=redundant, unique=unique, synergy=synergy, noise=0.3)
    generator = np.random.default_rng(0)
    drawn = [law.draw(generator) for _ in range(3000)]
    share = np.bincount([truth.target for truth in drawn], minlength=classes) / len(drawn)
    np.testing.assert_allclose(share, 1 / classes, atol=0.04)
    assert np.std([truth.score for truth in drawn]) == pytest.approx(1, abs=0.05)
    best = [law.best_accuracy(SENSORS[:count]) for count in range(5)]
    assert best[0] == pytest.approx(1 / classes, abs=0.01)
    assert all(more >= less - 0.01 for less, more in pairwise(best))
    assert dials != (0, 0, 0) or best[4] == pytest.approx(1 / classes, abs=0.01)


def test_without_noise_a_class_follows_from_what_the_sensors_see():
    law = Law(3, redundant=0.7, unique=1.0, synergy=0.5, noise=0.0)
    generator = np.random.default_rng(1)
    symbols = math.sqrt(1.5) * np.array([-1.0, 0.0, 1.0])
    for _ in range(50):
        truth = law.draw(generator)
        cues = truth.cues
        total = 0.7 * cues["text"].shared + sum(cues[sensor].own for sensor in SENSORS) / 2
        total += 0.5 * symbols[sum(truth.symbols) % 3]
        assert truth.score == pytest.approx(total / law.deviation)
        assert truth.target == int(np.searchsorted(law.edges, total))
    assert law.best_accuracy(SENSORS) == pytest.approx(1, abs=1e-3)


def test_a_record_depends_on_its_seed_and_place_alone():
    small, large = Synthetic(subjects=2, records=3), Synthetic(subjects=3, records=7)
    for subject in range(2):
        for record in range(3):
            a, b = subject * 3 + record, subject * 7 + record
            assert small.rows()[a].labels["intensity"] == large.rows()[b].labels["intensity"]
            for sensor in SENSORS:
                one, other = load(small, a, sensor), load(large, b, sensor)
                assert (one is None) == (other is None)
                if one is not None:
                    np.testing.assert_array_equal(one.values, other.values)
    assert Synthetic(seed=1).rows()[0].labels["intensity"] != Synthetic(seed=0).rows()[0].labels["intensity"]
    assert Synthetic(seed=1).fingerprint() != Synthetic().fingerprint() == Synthetic(noise=1.0).fingerprint()


def test_signals_are_in_their_units():
    source = Synthetic(subjects=2, records=4, missing=0.0, seconds=1.5)
    eeg, audio, image = (load(source, 3, sensor) for sensor in SENSORS[:3])
    assert eeg.values.shape == (19, 192) and eeg.sample_rate == 128 and eeg.channels == CHANNELS
    assert 3e-6 < eeg.values.std() < 60e-6
    assert audio.values.shape == (24000,) and audio.sample_rate == 16000 and np.abs(audio.values).max() <= 1
    assert image.values.shape == (3, 32, 32) and image.values.dtype == np.uint8


def test_the_montage_is_the_standard_one():
    known = mne.channels.get_builtin_montages()
    name = "colin27_1020" if "colin27_1020" in known else "standard_1020"  # MNE 1.13 renames it
    montage = mne.channels.make_standard_montage(name).get_positions()["ch_pos"]
    real = np.stack([montage[name] for name in CHANNELS])
    real -= real.mean(0) * [1, 1, 0] + [0, 0, np.median(real[:, 2]) - 0.02]
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    angle = np.rad2deg(np.arccos(np.clip((real * positions()).sum(1), -1, 1)))
    assert angle.max() < 25, dict(zip(CHANNELS, angle.round(), strict=True))


def test_eeg_has_its_sources_where_they_belong():
    generator = np.random.default_rng(0)
    values = make_eeg(Cues(shared=2.0, own=0.0, symbol=0.0), 1.0, 8.0, generator)
    power = np.abs(np.fft.rfft(values, axis=-1)) ** 2
    hertz = np.fft.rfftfreq(values.shape[1], 1 / SAMPLE_RATE)
    theta = power[:, (hertz > 4) & (hertz < 8)].sum(1)
    assert CHANNELS[theta.argmax()] == "Fz"
    quiet = make_eeg(Cues(shared=-9.0, own=-9.0, symbol=-9.0), 1.0, 64.0, generator)
    power = np.abs(np.fft.rfft(quiet, axis=-1)).mean(0) ** 2
    hertz = np.fft.rfftfreq(quiet.shape[1], 1 / SAMPLE_RATE)
    inside = (hertz > 30) & (hertz < 60) | (hertz > 1) & (hertz < 4)  # outside the sources
    slope = np.polyfit(np.log(hertz[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.15)  # 1/f in power


def test_words_grade_with_the_cues():
    generator = np.random.default_rng(0)
    low = make_text(Cues(-9.0, 9.0, 0.0), 0, generator)
    assert "sluggish" in low and "scorching" in low


def test_missing_leaves_at_least_one_sensor():
    source = Synthetic(subjects=10, records=40, missing=0.7)
    here = np.array([[source.present(row, sensor) for sensor in SENSORS] for row in range(400)])
    assert here.any(1).all()
    assert 1 - here.mean() == pytest.approx(0.7, abs=0.07)
    lacking = int(np.argmin(here[:, 3]))
    assert source.cell(lacking, SensorColumn("text", Keeps(), "text")) is None
    assert source.rows()[lacking].labels["text"] is None
    assert all(Synthetic(missing=0.0).present(row, "eeg") for row in range(20))


def test_labels_and_names():
    rows = Synthetic(subjects=4, records=50, classes=3).rows()
    assert len({row.id for row in rows}) == 200 and {row.subject for row in rows} == {"s01", "s02", "s03", "s04"}
    assert {row.session for row in rows} == {"1", "2"}
    assert {row.labels["target"] for row in rows} == {"level_0", "level_1", "level_2"}
    alert = [row.labels["alert"] for row in rows]
    assert set(alert) == {None, "yes", "no"} and 0.5 < np.mean([label is not None for label in alert]) < 0.7
    for row in rows:
        assert row.labels["alert"] in (None, "yes" if float(row.labels["intensity"]) > 0.5 else "no")
        assert set(row.labels) <= set(Synthetic().columns())


def test_errors_name_the_option_and_the_column():
    with pytest.raises(ConfigError, match=r"sources.synthetic.classes: .*2.* got 1"):
        sources.build("synthetic", {"classes": 1})
    with pytest.raises(ConfigError, match="did you mean 'synergy'"):
        sources.build("synthetic", {"sinergy": 1})
    with pytest.raises(DataError, match=r"row 1, column target: .* is a label"):
        Synthetic().cell(0, SensorColumn("eeg", Keeps(), "target"))


def test_240_records_are_made_in_two_seconds():
    source = Synthetic(subjects=12, records=20, seconds=2.0)
    began = time.process_time()
    for row in range(len(source.rows())):
        for sensor in SENSORS:
            load(source, row, sensor)
    assert time.process_time() - began < 2
