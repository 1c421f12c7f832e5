import os

import numpy as np
import pytest

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.recording import Stored
from fusionkit.core.registry import modalities
from fusionkit.data.recordings import at_rate, describe, pick, read_recording
from fusionkit.modalities.eeg import EEG


def write_edf(path, signals, rate=50, width=2, promised=None):
    """A plain EDF (or BDF, ``width`` 3): label to microvolts, one record a second, 1 digital step is 0.1 uV."""
    count, seconds = len(signals), len(next(iter(signals.values()))) // rate
    limit = 32767 if width == 2 else 8_000_000
    top = f"{limit / 10:g}"

    def text(value, size):
        return str(value).encode("latin-1").ljust(size)[:size]

    head = (b"0".ljust(8) if width == 2 else b"\xffBIOSEMI") + text("X", 80) + text("X", 80)
    head += b"01.01.2501.00.00" + text(256 * (count + 1), 8) + text("", 44)
    head += text(seconds if promised is None else promised, 8) + text(1, 8) + text(count, 4)
    columns = [
        (list(signals), 16), (["electrode"] * count, 80), (["uV"] * count, 8), ([f"-{top}"] * count, 8),
        ([top] * count, 8), ([-limit] * count, 8), ([limit] * count, 8), (["none"] * count, 80),
        ([rate] * count, 8), ([""] * count, 32),
    ]  # fmt: skip
    head += b"".join(text(value, size) for values, size in columns for value in values)
    digital = np.stack([np.round(np.asarray(x) * 10) for x in signals.values()]).astype("<i4")
    digital = digital.reshape(count, seconds, rate).transpose(1, 0, 2)
    raw = digital.reshape(-1, 1).view("u1").reshape(-1, 4)[:, :width].tobytes()
    path.write_bytes(head + raw)
    return path


@pytest.fixture
def signals():
    noise = np.random.default_rng(0)
    labels = ["EEG Fp1-Ref", "EEG Cz-Ref", "EEG O1-Ref", "ECG ECG", "EOG left"]
    return {label: noise.normal(0, 50, 200).round(1) for label in labels}


@pytest.mark.parametrize(("suffix", "width"), [("edf", 2), ("bdf", 3)])
def test_reads_volts_of_the_eeg_channels(tmp_path, signals, suffix, width):
    recording = EEG().read(write_edf(tmp_path / f"a.{suffix}", signals, width=width))
    assert recording.channels == ("Fp1-Ref", "Cz-Ref", "O1-Ref")
    assert (recording.sample_rate, recording.unit, recording.values.dtype) == (50.0, "V", np.float32)
    want = np.stack([signals[label] for label in list(signals)[:3]], 1) * 1e-6
    np.testing.assert_allclose(recording.values, want, atol=1e-9)


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        (["o1", "FP1"], ("O1-Ref", "Fp1-Ref")),
        (["EEG Cz-Ref", "EEG *"], ("Cz-Ref", "Fp1-Ref", "O1-Ref")),
        (["ECG"], ("ECG",)),
        (["e?g *"], ("Fp1-Ref", "Cz-Ref", "O1-Ref", "ECG", "left")),
        (["*"], ("Fp1-Ref", "Cz-Ref", "O1-Ref", "ECG", "left")),
    ],
)
def test_channels_are_picked_by_name_and_glob_in_order(tmp_path, signals, wanted, got):
    path = write_edf(tmp_path / "a.edf", signals)
    recording = EEG(channels=wanted).read(path)
    assert recording.channels == got
    every = EEG(channels=["*"]).read(path)
    np.testing.assert_array_equal(recording.values, every.values[:, [every.channels.index(x) for x in got]])


def test_an_unknown_channel_is_refused_with_the_nearest(tmp_path, signals):
    path = write_edf(tmp_path / "a.edf", signals)
    with pytest.raises(DataError, match=r"a\.edf: there must be a channel 'Fp2-Ref'.*did you mean 'Fp1-Ref'"):
        EEG(channels=["Fp2-Ref"]).read(path)
    with pytest.raises(DataError, match=r"'P\*'.*known: \['Fp1-Ref'"):
        EEG(channels=["P*"]).read(path)
    with pytest.raises(DataError, match=r"a channel of type eeg, but got .*ECG"):
        EEG().read(write_edf(tmp_path / "b.edf", {"ECG": np.zeros(100)}))


def test_another_rate_is_refused_or_resampled(tmp_path):
    t = np.arange(200) / 50
    path = write_edf(tmp_path / "a.edf", {"Cz": 100 * np.sin(2 * np.pi * 2 * t) + 300})
    with pytest.raises(DataError, match=r"a\.edf: sample_rate must be 128 Hz .*but got 50 Hz"):
        EEG(sample_rate=128.0).read(path)
    assert EEG(sample_rate=50.0).read(path).sample_rate == 50
    recording = EEG(sample_rate=128.0, resample=True).read(path)
    assert (recording.values.shape, recording.sample_rate) == ((512, 1), 128)
    want = (100 * np.sin(2 * np.pi * 2 * np.arange(512) / 128) + 300) * 1e-6
    assert np.abs(recording.values[:, 0] - want)[64:-64].max() < 1e-6  # a hundredth of the sine, offset and all
    with pytest.raises(ConfigError, match="resample needs a sample_rate"):
        EEG(resample=True)


@pytest.mark.parametrize("lost", [1, 300, 1000])
@pytest.mark.parametrize(("suffix", "width"), [("edf", 2), ("bdf", 3)])
def test_a_truncated_file_is_refused_by_name(tmp_path, signals, suffix, width, lost):
    path = write_edf(tmp_path / f"a.{suffix}", signals, width=width)
    os.truncate(path, path.stat().st_size - lost)
    with pytest.raises(DataError, match=rf"a\.{suffix}: the header promises 4 records .* it is truncated"):
        EEG().read(path)


def test_a_file_cut_in_its_header_or_of_another_kind_is_refused(tmp_path, signals):
    path = write_edf(tmp_path / "a.edf", signals)
    for size in (0, 100, 300, 1500):
        os.truncate(write_edf(tmp_path / "a.edf", signals), size)
        with pytest.raises(DataError, match=r"a\.edf: "):
            EEG().read(path)
    path.write_bytes(b"RIFF" + bytes(4000))
    with pytest.raises(DataError, match=r"a\.edf: an EDF or BDF file must begin with its header"):
        EEG().read(path)
    with pytest.raises(DataError, match=r"none\.edf: there must be a file"):
        EEG().read(tmp_path / "none.edf")
    (tmp_path / "a.set").write_bytes(b"nonsense" * 100)
    with pytest.raises(DataError, match=r"a\.set: must be a recording that MNE reads, but \w+"):
        EEG().read(tmp_path / "a.set")
    (tmp_path / "a.xyz").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"a\.xyz: must be a recording that MNE reads"):
        EEG().read(tmp_path / "a.xyz")


def test_a_recording_of_unknown_length_is_read_to_its_end(tmp_path, signals):
    path = write_edf(tmp_path / "a.edf", signals, promised=-1)
    assert EEG().read(path).values.shape == (200, 3)


def test_labels_say_name_and_type():
    labels = [
        "Fp1",
        "EEG F3-LE",
        "ECG ECG1",
        "EKG",
        "EOG1",
        "HEOG",
        "EMG chin",
        "Resp oro-nasal",
        "SaO2 X9",
        "Status",
        "EMG1-EMG2",
    ]
    found = describe([*labels, "Temporal", "Central", "EEG 001", "REF_EEG"], ["eeg"] * (len(labels) + 4))
    assert [x.name for x in found[:4]] == ["Fp1", "F3-LE", "ECG1", "EKG"]
    assert [x.type for x in found] == [
        "eeg", "eeg", "ecg", "ecg", "eog", "eog", "emg", "resp", "misc", "stim", "emg", "eeg", "eeg", "eeg", "eeg"
    ]  # fmt: skip
    assert found[13].name == "EEG 001"
    assert [x.name for x in describe(["EEG Fp1", "Fp1"], ["eeg", "eeg"])] == ["EEG Fp1", "Fp1"]
    assert pick(found, ["f3"], "") == [1]


def test_arrays_are_channel_by_time_in_volts():
    x = np.arange(12.0).reshape(3, 4)
    recording = EEG(channels=["C", "A"]).from_array(x, 100.0, ("A", "B", "C"))
    assert recording.channels == ("C", "A")
    np.testing.assert_array_equal(recording.values, x[[2, 0]].T.astype(np.float32))
    assert EEG(sample_rate=50.0).from_array(x).channels == ("1", "2", "3")
    np.testing.assert_array_equal(EEG().window(recording.values), x[[2, 0]])
    for bad in (x[0], x[:, :0], x[None]):
        with pytest.raises(DataError, match=r"\(channel, time\)"):
            EEG().from_array(bad, 100.0)
    with pytest.raises(DataError, match="sampling rate"):
        EEG().from_array(x)
    with pytest.raises(DataError, match="sample_rate must be 50 Hz"):
        EEG(sample_rate=50.0).from_array(x, 100.0)
    with pytest.raises(DataError, match="got 2 for 3"):
        EEG().from_array(x, 100.0, ("A", "B"))


@pytest.mark.parametrize("ratio", [(125.0, 128.0), (512.0, 100.0), (256.5, 128.0)])
def test_resampling_keeps_a_slow_sine(ratio):
    old, new = ratio
    recording = EEG().from_array(np.sin(2 * np.pi * 3 * np.arange(round(4 * old)) / old)[None], old)
    out = at_rate(recording, new, True, "x").values[:, 0]
    want = np.sin(2 * np.pi * 3 * np.arange(len(out)) / new)
    assert np.abs(out - want)[64:-64].max() < 0.02


def test_the_registry_builds_it_from_options():
    sensor = modalities.build(
        "eeg", {"channels": ["Cz"], "features": {"kind": "dft", "bands": {"mu": [8, 12]}, "log": 2}}
    )
    assert (sensor.kind, sensor.encoder) == ("eeg", "mlp")
    assert sensor.features.bands == {"mu": (8, 12)} and sensor.features.log == 2
    assert modalities.build("eeg", {"features": {"kind": "raw"}}).features.kind == "raw"
    with pytest.raises(ConfigError, match="no such option"):
        modalities.build("eeg", {"chanels": ["Cz"]})
    with pytest.raises(ConfigError, match="window"):
        modalities.build("eeg", {"features": {"kind": "dft", "window": -1}})


@pytest.mark.parametrize(
    "name",
    ["mne-python/brainvision/test_old_layout_latin1_software_filter.vhdr", "eeglab/eeglab_data.set",
     "mne-testing/GDF/test_1ch.gdf", "mne-testing/EEGLAB/test_raw_2021.set"],
)  # fmt: skip
def test_other_truncated_formats_are_refused(real_data, tmp_path, name):
    source = real_data / "eeg_formats" / name
    for file in source.parent.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / source.name
    data = next((x for s in (".eeg", ".fdt") if (x := path.with_suffix(s)).exists()), path)
    if path.suffix == ".vhdr":  # the data do not say how long they should be, the header may
        path.write_bytes(path.read_bytes().replace(b"DataFile=", b"DataPoints=251\r\nDataFile="))
    assert len(read_recording(path, ["*"]).values) > 0
    os.truncate(data, int(data.stat().st_size * 0.6))
    with pytest.raises(DataError, match=path.name):
        read_recording(path, ["*"])


def test_the_lab_recordings(real_data):
    path = real_data / "lab" / "eeg" / "S00_arithmetic.edf"
    eeg = EEG(channels=["EEG *"], sample_rate=125.0).read(path)
    assert eeg.values.shape == (7500, 20) and eeg.channels[:2] == ("Fp1", "Fp2") and eeg.channels[-1] == "A2-A1"
    assert EEG().read(path).channels == eeg.channels
    assert 5e-6 < eeg.values.std() < 5e-5


def test_a_recording_with_a_pause_is_refused(real_data, tmp_path):
    content = (real_data / "lab" / "eeg" / "S00_arithmetic.edf").read_bytes().replace(b"EDF+C", b"EDF+D", 1)
    path = tmp_path / "a.edf"
    path.write_bytes(content)
    assert EEG().read(path).values.shape == (7500, 20)  # allowed to pause, but does not
    assert content.count(b"+7\x14\x14") == 1
    path.write_bytes(content.replace(b"+7\x14\x14", b"+9\x14\x14"))
    with pytest.raises(DataError, match=r"a\.edf: a recording must be continuous, but before record 7 it pauses"):
        EEG().read(path)


def test_old_names_pick_and_globs_do_not_follow_them():
    values = np.random.default_rng(0).normal(0, 1e-5, (4, 50)).astype(np.float32)
    names = ["T5", "P3", "EEG T4-Ref", "EEG Cz-LE"]
    got = EEG(channels=["T8", "p7", "P*", "Cz"]).from_array(values, 100.0, names)
    assert got.channels == ("EEG T4-Ref", "T5", "P3", "EEG Cz-LE")
    np.testing.assert_array_equal(got.values.T, values[[2, 0, 1, 3]])
    with pytest.raises(DataError, match="there must be a channel 'T7'"):
        EEG(channels=["T7"]).from_array(values, 100.0, names)


READY = {"kind": "ready", "bands": "seed"}


def test_features_that_are_ready_are_stored_time_first():
    values = np.arange(3 * 5 * 7, dtype=np.float64).reshape(3, 5, 7)
    sensor = modalities.build("eeg", {"features": READY, "sample_rate": 0.25})
    got = sensor.from_array(values, channels=["Fz", "Cz", "Pz"])
    assert got.values.shape == (7, 3, 5) and got.values.dtype == np.float32
    assert (got.sample_rate, got.channels, got.unit) == (0.25, ("Fz", "Cz", "Pz"), "")
    np.testing.assert_array_equal(got.values[2], values[:, :, 2])
    np.testing.assert_array_equal(sensor.window(got.values[1:4]), values[:, :, 1:4])
    stored = Stored(0.25, got.channels, "", (3, 5), "<f4", 7)
    assert sensor.window_shape(stored) == (3, 5, 7) == sensor.window(got.values).shape
    assert sensor.chain(stored) is None


def test_features_that_are_ready_obey_the_montage():
    values = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    sensor = modalities.build("eeg", {"features": READY, "montage": ["T7", "Cz", "O1", "Fz"], "missing": "mask"})
    got = sensor.from_array(values, 0.25, ["Cz", "T3", "Fz"])
    assert got.channels == ("T7", "Cz", "O1", "Fz")
    np.testing.assert_array_equal(sensor.window(got.values)[[0, 1, 3]], values[[1, 0, 2]])
    assert not got.values[:, 2].any()


def test_features_that_are_ready_come_as_arrays_of_their_bands(tmp_path, signals):
    sensor = modalities.build("eeg", {"features": READY})
    with pytest.raises(DataError, match=r"must be \(channel, band, time\) with steps in it, but its shape is \(3, 4\)"):
        sensor.from_array(np.zeros((3, 4)), 0.25)
    with pytest.raises(DataError, match=r"must have the 5 bands of features\.bands, but its shape is \(3, 4, 7\)"):
        sensor.from_array(np.zeros((3, 4, 7)), 0.25)
    with pytest.raises(DataError, match=r"an eeg array must be \(channel, time\) .*\(3, 5, 7\)"):
        EEG().from_array(np.zeros((3, 5, 7)), 0.25)
    with pytest.raises(DataError, match=r"a\.edf: features: \{kind: ready\} must come as arrays"):
        sensor.read(write_edf(tmp_path / "a.edf", signals))
    with pytest.raises(DataError, match=r"sample_rate must be 1 Hz .*but got 0.25 Hz"):
        modalities.build("eeg", {"features": READY, "sample_rate": 1}).from_array(np.zeros((3, 5, 7)), 0.25)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"sample_rate": 1, "resample": True}, "resample"),
        ({"preprocess": {"reference": "average"}}, "preprocess"),
        ({"montage": "seed_62", "missing": "interpolate"}, "missing: interpolate"),
    ],
)
def test_what_is_done_to_signals_is_refused_for_features(options, key):
    with pytest.raises(ConfigError, match=f"{key} is for signals, but features"):
        modalities.build("eeg", {"features": READY, **options})


def test_a_filter_bank_adds_an_axis_to_windows():
    sensor = modalities.build("eeg", {"features": {"kind": "bandpass", "bands": {"alpha": [8, 13], "beta": [13, 30]}}})
    recording = sensor.from_array(np.random.default_rng(0).normal(0, 1e-5, (4, 300)), 100.0)
    stored = Stored(100.0, recording.channels, "V", (4,), "<f4", 300)
    whole = sensor.whole(stored)
    assert whole is not None
    assert sensor.window(whole(recording.values)).shape == sensor.window_shape(stored) == (4, 2, 300)
    assert EEG().window_shape(stored) == (4, 300)
