"""Pictures of windows: every way in which samples are stored can be drawn."""

import numpy as np
import pytest

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Recording
from fusionkit.data.checks import layout
from fusionkit.data.records import Records
from fusionkit.data.saving import NewSensor, save_study
from fusionkit.data.study import Study
from fusionkit.evaluation.traces import POINTS
from fusionkit.evaluation.windows import TRACES, study_windows, windows_picture

NOISE = np.random.default_rng(0).normal(size=(50_000, 20)).astype(np.float32)


def stored(values, *more):
    recording = Recording(values, *more)
    return recording.values, layout(recording, "x")


def test_each_form_is_drawn_as_what_it_is():
    figure = windows_picture(
        {
            "eeg": stored(NOISE, 100.0, tuple(f"c{i}" for i in range(20)), "V"),
            "sound": stored(NOISE[:, 0], 8000.0),
            "image": stored(np.zeros((1, 3, 4, 5), np.uint8)),
            "text": stored(np.frombuffer(b"costs $5 and $_x", np.uint8)),
            "vector": stored(NOISE[:1, :3], None, ("a", "b$", "c")),
        }
    ).figure()
    figure.canvas.draw()
    eeg, sound, image, text, vector = figure.axes
    assert len(eeg.lines) == TRACES
    assert all(len(line.get_xdata()) <= POINTS for line in eeg.lines)
    assert eeg.lines[0].get_xdata()[-1] == pytest.approx(10, rel=0.01)
    assert eeg.get_title("left") == "eeg: 16 of 20 channels, the first 10 of 500 s"
    assert [label.get_text() for label in eeg.get_yticklabels()] == [f"c{i}" for i in range(TRACES)]
    heights = [line.get_ydata().mean() for line in eeg.lines]
    assert heights == sorted(heights, reverse=True)  # the first channel on top
    assert len(sound.lines) == 1
    assert image.images[0].get_array().shape == (4, 5, 3)
    assert text.texts[0].get_text() == "costs $5 and $_x"
    assert [bar.get_height() for bar in vector.patches] == pytest.approx(NOISE[0, :3])


def test_what_is_no_number_leaves_a_gap():
    values = NOISE[:200, :2].copy()
    values[:, 0] = np.nan
    values[3, 1] = np.inf
    figure = windows_picture({"eeg": stored(values, 100.0)}).figure()
    figure.canvas.draw()
    empty, line = figure.axes[0].lines
    assert np.isnan(empty.get_ydata()).all()
    assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [3]


def test_the_record_with_the_most_sensors_is_shown(tmp_path):
    records = Records.of([{"id": name} for name in "abc"])
    one = Recording(NOISE[:10], 10.0)
    sensors = {"x": NewSensor.of([one, one, None], "signal"), "y": NewSensor.of([None, one, one], "signal")}
    save_study(tmp_path / "s.h5", records, sensors)
    record, windows = study_windows(Study.open(tmp_path / "s.h5"))
    assert record == "b"
    assert sorted(windows) == ["x", "y"]
    np.testing.assert_array_equal(windows["y"][0], NOISE[:10])


def test_a_study_without_samples_is_refused(tmp_path):
    save_study(tmp_path / "s.h5", Records.of([{"id": "a"}]), {})
    with pytest.raises(DataError, match=r"s\.h5: a record must have a sensor to be drawn"):
        study_windows(Study.open(tmp_path / "s.h5"))
