"""A montage is found by name, in its own order; what lacks is refused, masked or interpolated as MNE does."""

import mne
import numpy as np
import pytest

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.data.recordings import Channel
from fusionkit.data.synthetic.eeg import CHANNELS
from fusionkit.modalities.eeg import EEG
from fusionkit.modalities.eeg.montage import MONTAGES, find_electrodes, interpolation
from fusionkit.modalities.eeg.places import electrode_places, montage


def known(*labels):
    return [Channel(label, label, "eeg") for label in labels]


def test_the_montages_are_those_of_the_data_sets():
    assert {name: len(x) for name, x in MONTAGES.items()} == {
        "seed_62": 62, "deap_32": 32, "dreamer_14": 14, "ten_twenty": 19
    }  # fmt: skip
    for names in MONTAGES.values():
        assert len(set(names)) == len(names)
        assert len(electrode_places(names)) == len(names)
    seed = MONTAGES["seed_62"]
    assert [seed[i] for i in (0, 9, 23, 31, 57, 58, 61)] == ["Fp1", "Fz", "T7", "T8", "CB1", "O1", "CB2"]
    assert [MONTAGES["deap_32"][i] for i in (0, 7, 15, 16, 31)] == ["Fp1", "T7", "Pz", "Fp2", "O2"]
    assert set(MONTAGES["ten_twenty"]) == set(CHANNELS)


@pytest.mark.parametrize(
    ("labels", "wanted", "found"),
    [
        (("EEG T4-Ref", "EEG T3-Ref", "ECG"), ["T7", "T8"], [1, 0]),
        (("Fc5.", "C3..", "Fp1."), ["FP1", "FC5", "C3"], [2, 0, 1]),
        (("EEG AF3-LE", "t6", "P7-A2"), ["AF3", "T5", "P8"], [0, 2, 1]),
        (("P7", "P8"), ["T6", "T5"], [1, 0]),
        (("Fp1-F7", "Fp1-Ref"), ["Fp1"], [1]),
        (("A1", "M1", "X", "X"), ["M1", "A1"], [1, 0]),
    ],
)
def test_electrodes_are_found_by_place(labels, wanted, found):
    assert find_electrodes(known(*labels), wanted, "a.edf") == found


def test_lacking_electrodes_are_named_or_allowed_up_to_half():
    there = known("Fp1", "Cz", "ECG")
    with pytest.raises(DataError, match=r"a\.edf: a montage must find all its electrodes .*but 1 of 3 lack: O1; known"):
        find_electrodes(there, ["O1", "Cz", "Fp1"], "a.edf")
    assert find_electrodes(there, ["O1", "Cz", "Fp1"], "a.edf", lacking=True) == [None, 1, 0]
    assert find_electrodes(there, ["O1", "Cz", "Fp1", "T3"], "a.edf", lacking=True) == [None, 1, 0, None]
    with pytest.raises(DataError, match="at least 50% of its electrodes, but 3 of 5 lack: O1, T3, Pz"):
        find_electrodes(there, ["O1", "Cz", "Fp1", "T3", "Pz"], "a.edf", lacking=True)


def test_two_channels_of_one_electrode_are_refused():
    with pytest.raises(DataError, match="an electrode must be one channel, but T7 is both 'T3' and 'EEG T7'"):
        find_electrodes(known("T3", "Cz", "EEG T7"), ["Cz", "T7"], "x")
    assert find_electrodes(known("T3", "Cz", "EEG T7"), ["Cz"], "x") == [1]


@pytest.mark.parametrize("names", [MONTAGES["seed_62"], MONTAGES["ten_twenty"]])
def test_interpolation_is_that_of_mne(names):
    targets = [3, 7]
    sources = [i for i in range(len(names)) if i not in targets]
    values = np.random.default_rng(0).normal(0, 1e-5, (len(names), 50))
    places = electrode_places(names)
    info = mne.create_info([places[i] for i in range(len(names))], 100.0, "eeg")
    info.set_montage(montage())
    info["bads"] = [places[i] for i in targets]
    raw = mne.io.RawArray(values, info, verbose="error").interpolate_bads(verbose="error")
    want = raw.get_data()[targets]
    got = interpolation(names, sources, targets, "x") @ values
    np.testing.assert_allclose(got, want, atol=1e-6 * want.std())


def test_interpolation_rebuilds_a_smooth_field():
    names = [*MONTAGES["seed_62"], "ECG"]
    head = montage().get_positions()["ch_pos"]
    places = electrode_places(names)
    field = np.array([head[places[i]] for i in range(62)] + [[9, 9, 9]]) @ [1.0, 2.0, 3.0]
    targets = [names.index("Cz"), names.index("P3")]
    matrix = interpolation(names, [i for i in range(63) if i not in targets], targets, "x")
    assert matrix.shape == (2, 63) and not matrix[:, [*targets, 62]].any()
    np.testing.assert_allclose(matrix.sum(1), 1, atol=0.05)
    assert np.abs(matrix @ field - field[targets]).max() < 0.05 * np.ptp(field[:62])


def test_what_cannot_be_interpolated_is_refused():
    with pytest.raises(
        DataError, match=r"an electrode to interpolate must have a place in the 10-05 system \(.*\), but 'E7'"
    ):
        interpolation(["Cz", "E7", "C3", "C4", "Pz"], [0, 2, 3, 4], [1], "a.edf")
    with pytest.raises(DataError, match="four electrodes with a place must be there, but 2 are"):
        interpolation(["Cz", "E7", "C3", "C4"], [0, 1, 3], [2], "a.edf")


def test_the_order_of_a_sensor_is_the_montages():
    names = list(CHANNELS)
    values = np.random.default_rng(0).normal(0, 1e-5, (19, 100)).astype(np.float32)
    shuffled = np.random.default_rng(1).permutation(19)
    old = {"T7": "T3", "T8": "EEG T4-Ref", "P7": "t5", "P8": "T6.."}
    sensor = EEG(montage="ten_twenty")
    got = sensor.from_array(values[shuffled], 100.0, [old.get(names[i], names[i]) for i in shuffled])
    assert got.channels == MONTAGES["ten_twenty"]
    for index, name in enumerate(MONTAGES["ten_twenty"]):
        np.testing.assert_array_equal(got.values[:, index], values[names.index(name)])
    assert EEG(montage=["O2", "T3"]).from_array(values, 100.0, names).channels == ("O2", "T3")


def test_what_lacks_is_masked_by_zeros_or_interpolated():
    names = [name for name in MONTAGES["ten_twenty"] if name not in ("Cz", "O1")]
    values = np.random.default_rng(0).normal(0, 1e-5, (17, 100)).astype(np.float32)
    with pytest.raises(DataError, match=r"array: a montage must find all its electrodes.*2 of 19 lack: Cz, O1"):
        EEG(montage="ten_twenty").from_array(values, 100.0, names)
    masked = EEG(montage="ten_twenty", missing="mask").from_array(values, 100.0, names)
    lost = [MONTAGES["ten_twenty"].index(name) for name in ("Cz", "O1")]
    assert masked.values.shape == (100, 19) and not masked.values[:, lost].any()
    here = [i for i in range(19) if i not in lost]
    np.testing.assert_array_equal(masked.values[:, here], values.T)
    filled = EEG(montage="ten_twenty", missing="interpolate").from_array(values, 100.0, names)
    np.testing.assert_array_equal(filled.values[:, here], values.T)
    weights = interpolation(MONTAGES["ten_twenty"], here, lost, "x")
    np.testing.assert_allclose(filled.values[:, lost].T, weights[:, here] @ values, atol=1e-11)


def test_nothing_lacks_in_the_lab_recordings_but_what_does(real_data):
    path = real_data / "lab" / "eeg" / "S00_arithmetic.edf"
    plain = EEG(channels=["EEG *"]).read(path)
    placed = EEG(montage="ten_twenty").read(path)
    assert placed.channels == MONTAGES["ten_twenty"]
    old = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
    for index, name in enumerate(placed.channels):
        column = plain.channels.index(old.get(name, name))
        np.testing.assert_array_equal(placed.values[:, index], plain.values[:, column])
    with pytest.raises(DataError, match=r"S00_arithmetic\.edf: a montage must find at least 50% .* 43 of 62 lack"):
        EEG(montage="seed_62", missing="mask").read(path)
    assert EEG(channels=["T7", "P8"]).read(path).channels == ("T3", "T6")


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="channels and montage both say which channels"):
        EEG(channels=["Cz"], montage="ten_twenty")
    with pytest.raises(ConfigError, match="missing: mask needs a montage"):
        EEG(missing="mask")
    with pytest.raises(ConfigError, match="montage must name each electrode once, but T7 is named twice"):
        EEG(montage=["T3", "Cz", "T7"])
