import numpy as np

from fusionkit.core.recording import Stored
from fusionkit.modalities.eeg import EEG
from fusionkit.modalities.eeg.features import RawFeatures
from fusionkit.modalities.eeg.figures import class_means

CHANNELS = ("EEG Fp1-Ref", "EEG Fp2-Ref", "C3", "C4", "O1", "O2", "T3", "A2-A1", "E7")


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
    assert "A2-A1, E7" in figure.get_supxlabel()


def test_without_places_or_bands_there_is_no_figure():
    features = np.zeros((2, 1, 2, 5))
    stored = Stored(125.0, ("a", "b"), "V", (2,), "float32", 500)
    assert EEG().figures(features, np.array([0, 1]), ["x", "y"], stored) == {}
    assert EEG(features=RawFeatures()).figures(features, np.array([0, 1]), ["x", "y"], stored) == {}
