import numpy as np
import pytest

from fusionkit.data.synthetic.eeg import CHANNELS
from fusionkit.data.synthetic.eeg import positions as sphere
from fusionkit.modalities.eeg.places import clean_name, electrode_places, positions, site


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("EEG Fp1-Ref", "Fp1"),
        ("EEG Fp1", "Fp1"),
        ("eeg FCz-LE", "FCz"),
        ("Cz..", "Cz"),
        ("A2-A1", "A2-A1"),
        ("C3-A2", "C3"),
        ("EEG AF3-Ref", "AF3"),
    ],
)
def test_names_are_cleaned(label, name):
    assert clean_name(label) == name


def test_old_names_are_the_new_sites():
    assert [site(name) for name in ("EEG T3-Ref", "t7", "T6", "Fpz")] == ["T7", "T7", "P8", "FPZ"]


def test_what_has_no_place_has_none():
    channels = ("EEG Fp1-Ref", "C3", "T3", "A2-A1", "E7")
    assert electrode_places(channels) == {0: "Fp1", 1: "C3", 2: "T3"}
    assert electrode_places(["Cz", "EEG Cz"]) == {0: "Cz"}
    assert electrode_places(["CB1", "CB2"]) == {0: "PO9", 1: "PO10"}


def test_positions_are_those_of_a_head():
    found = np.array(positions(CHANNELS))
    directions = found - (found.max(0) + found.min(0)) * [0.5, 0.5, 0]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    assert (directions * sphere()).sum(1).min() > 0.85  # the angles of the 10-20 system
    assert 0.05 < np.ptp(found[:, 0]) / 2 < 0.1  # half a head, in metres


def test_one_channel_without_a_place_leaves_none():
    assert positions(["Cz", "E7"]) is None
    assert positions(["Cz", "Cz"]) is None
    assert positions([]) is None
