import numpy as np
import pytest
from matplotlib.figure import Figure

from fusionkit.core.recording import Stored
from fusionkit.evaluation.spectra import RECORDS, class_spectra, draw_spectra

RATE = 100.0
NOISE = np.random.default_rng(0)


def stored(channels=3, unit="V"):
    return Stored(RATE, tuple("abc"[:channels]), unit, (channels,), "<f4", 1000)


def test_white_noise_has_its_variance_spread_over_all_frequencies():
    signal = NOISE.normal(0, 3e-6, (20_000, 3))
    hertz, density = class_spectra(lambda row: signal, [[0], []], stored())
    assert hertz[-1] == RATE / 2 and np.isnan(density[1]).all()
    assert density[0, 1:-1].mean() == pytest.approx(2 * 9 / RATE, rel=0.05)  # microvolts squared per hertz
    assert density[0, 1:-1].std() < 0.02


def test_a_sine_is_where_it_is_and_flat_channels_do_not_count():
    seconds = np.arange(1000) / RATE
    wave = 10 * np.sin(2 * np.pi * 12 * seconds)
    lively = np.stack([wave, wave, wave], 1)
    dead = np.stack([wave, np.zeros(1000), np.full(1000, np.nan)], 1)
    hertz, density = class_spectra(lambda row: (lively, dead)[row], [[0], [1]], stored(unit=""))
    assert (hertz[density.argmax(1)] == 12).all()
    np.testing.assert_allclose(density[0], density[1], rtol=1e-6, atol=1e-12)
    assert density[0].sum() * (hertz[1] - hertz[0]) == pytest.approx(50, rel=0.02)  # its power


def test_of_many_records_some_are_read_from_first_to_last():
    read = []

    def signal(row):
        read.append(row)
        return NOISE.normal(size=(64, 3))

    class_spectra(signal, [list(range(1000))], stored())
    assert len(read) == RECORDS and read[0] == 0 and read[-1] == 999


def test_records_too_short_or_dead_have_no_spectrum():
    assert class_spectra(lambda row: NOISE.normal(size=(20, 3)), [[0]], stored()) is None
    assert class_spectra(lambda row: np.zeros((200, 3)), [[0]], stored()) is None
    assert class_spectra(lambda row: np.zeros((200, 3)), [[], []], stored()) is None


def test_bands_are_shaded_and_classes_named():
    hertz, density = class_spectra(lambda row: NOISE.normal(size=(1000, 3)), [[0], [], [1]], stored())
    figure = Figure(layout="constrained")
    bands = {"alpha": (8.0, 12.0), "high": (20.0, 30.0), "beyond": (60.0, 80.0)}
    draw_spectra(figure, hertz, density, ["$x", "never", "y"], stored(), bands)
    figure.canvas.draw()
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["$x", "y"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["$x", "y"]
    assert {text.get_text() for text in axes.texts} == {"alpha", "high"}
    assert axes.get_ylabel() == "µV² per hertz" and axes.get_xlim() == (0, 50)
