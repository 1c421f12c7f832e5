import numpy as np
import pytest

from fusionkit.core.recording import Stored
from fusionkit.modalities.eeg import EEG
from fusionkit.modalities.eeg.figures import class_means, clean_name, electrode_places
from fusionkit.modalities.eeg.front_end import RawFeatures

CHANNELS = ("EEG Fp1-Ref", "EEG Fp2-Ref", "C3", "C4", "O1", "O2", "T3", "A2-A1", "CB1")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("EEG Fp1-Ref", "Fp1"),
        ("EEG Fp1", "Fp1"),
        ("eeg FCz-LE", "FCz"),
        ("Cz..", "Cz"),
        ("A2-A1", "A2-A1"),
        ("C3-A2", "C3"),
    ],
)
def test_names_are_cleaned(label, name):
    assert clean_name(label) == name


def test_what_has_no_place_has_none():
    assert electrode_places(CHANNELS) == {0: "Fp1", 1: "Fp2", 2: "C3", 3: "C4", 4: "O1", 5: "O2", 6: "T3"}
    assert electrode_places(["Cz", "EEG Cz"]) == {0: "Cz"}


def test_a_record_counts_once_however_many_steps_it_has():
    features = np.full((4, 3, 2, 1), np.nan)
    features[0, :] = 1
    features[1, :1] = 3
    features[2, :] = 9
    features[3, :] = 100
    means = class_means(features, np.array([0, 0, 1, np.nan]), 3)
    assert means[0].ravel().tolist() == [2, 2] and means[1].ravel().tolist() == [9, 9]
    assert np.isnan(means[2]).all()


def test_topographies_show_a_map_per_class_and_band():
    stored = Stored(125.0, CHANNELS, "V", (len(CHANNELS),), "float32", 500)
    features = np.random.default_rng(0).normal(size=(6, 4, len(CHANNELS), 5))
    figures = EEG().figures(features, np.array([0, 1, 0, 1, -1, 0]), ["rest", "work", "never"], stored)
    figure = figures["band topographies"]
    titles = [axis.get_title() for axis in figure.axes]
    assert [x for x in titles if x] == ["delta", "theta", "alpha", "beta", "gamma"]
    assert [x for axis in figure.axes if (x := axis.get_ylabel())] == [
        "all classes",
        "rest\nminus all",
        "work\nminus all",
    ]
    assert "A2-A1, CB1" in figure.get_supxlabel()


def test_without_places_or_bands_there_is_no_figure():
    features = np.zeros((2, 1, 2, 5))
    stored = Stored(125.0, ("a", "b"), "V", (2,), "float32", 500)
    assert EEG().figures(features, np.array([0, 1]), ["x", "y"], stored) == {}
    assert EEG(features=RawFeatures()).figures(features, np.array([0, 1]), ["x", "y"], stored) == {}
