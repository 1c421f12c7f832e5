"""Files of other people's making: read through a sensor they give what MNE gave, or one line that says why not."""

import hashlib
import importlib.util
import json
import shutil

import numpy as np
import pytest

from fusionkit.core.errors import DataError
from fusionkit.data.recordings import RecordingFile
from fusionkit.modalities.eeg import EEG
from fusionkit.modalities.signal import Signal

REFUSED = {
    "SC4001EC-Hypnogram.edf": "a recording must hold signals, but it holds annotations alone",
    "Analyzer_nV_Export.vhdr": "the header promises 64 samples, but the data hold 2: it is truncated",
    "test_epochs.set": "a recording must be continuous, but this file holds 4 epochs",
    "test_raw_h5.set": "an EEGLAB header must have its .fdt file beside it, but there is none",
    "test_CNT_events_mne_JWoess_clipped.cnt": "samples must fill a CNT file as its header says, but they do not",
}
if importlib.util.find_spec("pymatreader") is None:
    REFUSED["test_raw_h5.set"] = "must be a recording that MNE reads, but"


def digest(recording):
    return hashlib.sha1(np.ascontiguousarray(recording.values.T).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def formats(real_data):
    folder = real_data / "eeg_formats"
    return folder, json.loads((folder / "manifest.json").read_text())["files"]


def test_every_whole_file_gives_the_samples_that_mne_gave(formats):
    folder, files = formats
    read = 0
    for file in files:
        path = folder / file["path"]
        if path.name in REFUSED:
            continue
        recording = EEG(channels=["*"]).read(path)
        assert digest(recording) == file["sha1_f32"], path
        assert recording.values.shape == (file["nsamp"], file["nch"]) and recording.sample_rate == file["sfreq"]
        labels = [channel.label for channel in RecordingFile(path).channels]
        assert len(labels) == file["nch"] and labels[: len(file["ch_names"])] == file["ch_names"]  # 80 at most
        np.testing.assert_allclose(recording.values.T[:3, :3], np.array(file["first3"])[:, :3], rtol=1e-6, atol=1e-30)
        read += 1
    assert read == 22


def test_the_other_files_are_refused_in_one_line(formats):
    folder, files = formats
    assert {file["path"].rpartition("/")[2] for file in files} >= set(REFUSED)
    for file in files:
        path = folder / file["path"]
        if path.name in REFUSED:
            with pytest.raises(DataError) as raised:
                EEG(channels=["*"]).read(path)
            message = str(raised.value)
            assert message.startswith(f"{path}: {REFUSED[path.name]}") and "\n" not in message and len(message) < 400


def test_by_default_a_sensor_takes_eeg_and_a_signal_all_but_triggers(formats):
    folder, files = formats
    for file in files:
        path = folder / file["path"]
        if path.name in REFUSED or path.stat().st_size > 3_000_000:
            continue
        known = RecordingFile(path).channels
        eeg = [channel.name for channel in known if channel.type == "eeg"]
        other = [channel.name for channel in known if channel.type != "stim"]
        if eeg:
            assert list(EEG().read(path).channels) == eeg
        else:
            with pytest.raises(DataError, match="there must be a channel of type eeg"):
                EEG().read(path)
        assert list(Signal().read(path).channels) == other


def test_matlab_7_3_is_read_once_its_samples_lie_beside_it(formats, tmp_path):
    pytest.importorskip("pymatreader")
    folder, files = formats
    known = {file["path"].rpartition("/")[2]: file for file in files}
    shutil.copy(folder / "mne-testing/EEGLAB/test_raw_h5.set", tmp_path / "a.set")
    shutil.copy(folder / "eeglab/eeglab_data.fdt", tmp_path / "test_raw.fdt")  # the same experiment
    recording = EEG().read(tmp_path / "a.set")
    assert recording.values.shape == (30504, 32) and recording.sample_rate == 128
    assert digest(recording) == known["test_raw_h5.set"]["sha1_f32"] == known["eeglab_data.set"]["sha1_f32"]
