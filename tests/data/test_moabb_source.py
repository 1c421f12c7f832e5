"""The MOABB source, on MOABB's made data set: every event is a record, and holds the samples that MOABB cuts there."""

import numpy as np
import pytest

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError, UnknownNameError
from fusionkit.data.ingest import ingest
from fusionkit.data.sources import moabb as source_module
from fusionkit.data.sources.moabb import Moabb
from fusionkit.data.sources.source import SensorColumn

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
EEG = registry.modalities.build("eeg")
COLUMN = SensorColumn("eeg", EEG, "eeg")


@pytest.fixture
def made(monkeypatch):
    """Make MOABB list one small made data set, the same whenever it is asked; give a maker of it."""
    moabb = pytest.importorskip("moabb")
    from moabb.datasets.fake import FakeDataset

    def list_one(**options):
        class Made(FakeDataset):
            def __init__(self):
                super().__init__(
                    **{"n_subjects": 2, "n_sessions": 2, "n_runs": 2, "duration": 24.0, "n_events": 6, "seed": 1}
                    | options
                )

        monkeypatch.setattr(moabb.datasets, "Made", Made, raising=False)
        source_module._runs.cache_clear()
        source_module._described.cache_clear()
        return Made()

    return list_one


@pytest.mark.parametrize("form", ["stim", "annotations"])
def test_records_are_the_events_of_runs_and_hold_their_samples(made, tmp_path, form):
    import mne

    dataset = made(stim=form == "stim", annotations=form == "annotations")
    source = Moabb(dataset="Made", window=(0.5, 1.5))
    study = ingest(source, {"eeg": COLUMN}, ["event", "run"], tmp_path / "made.h5")
    records, sensor = study.records, study.sensors["eeg"]
    assert set(records.subject) == {"1", "2"}
    assert set(records.session) == {"0", "1"}
    assert len(records) == 2 * 2 * 2 * 6
    assert sensor.stored.channels == ("C3", "Cz", "C4")
    assert (sensor.stored.sample_rate, sensor.stored.unit) == (128.0, "V")
    assert len(sensor.recording_name) == 8  # a run is stored once
    data = dataset.get_data()
    row = 0
    for subject, sessions in data.items():
        for session, runs in sessions.items():
            trial = 0
            for run, raw in runs.items():
                if form == "stim":
                    events = mne.find_events(raw, shortest_event=0, verbose=False)
                else:
                    events, _ = mne.events_from_annotations(raw, event_id=dataset.event_id, verbose=False)
                epochs = mne.Epochs(
                    raw,
                    events,
                    dataset.event_id,
                    0.5,
                    1.5 - 1 / 128,
                    baseline=None,
                    picks="eeg",
                    preload=True,
                    verbose=False,
                )
                cut = epochs.get_data()
                name = {code: name for name, code in dataset.event_id.items()}
                assert len(cut) == 6
                for values, code in zip(cut, epochs.events[:, 2], strict=True):
                    trial += 1
                    first = int(sensor.offset[row])
                    stored = np.asarray(sensor.values[first : first + int(sensor.count[row])])
                    np.testing.assert_array_equal(stored, values.T.astype(np.float32))
                    assert records.id[row] == f"{subject}_{session}_{trial}"
                    assert (records.trial[row], records.recording[row]) == (str(trial), run)
                    assert records.labels["event"][row] == name[int(code)]
                    assert records.labels["run"][row] == run
                    row += 1
    assert row == len(records)


@pytest.mark.parametrize("form", ["stim", "annotations"])
def test_events_are_where_moabb_finds_them_when_the_interval_starts_later(made, form):
    from moabb.datasets.preprocessing import RawToEvents

    dataset = made(stim=form == "stim", annotations=form == "annotations")
    dataset.interval = [1, 3]
    raw = dataset.get_data(subjects=[1])[1]["0"]["0"]
    expected = RawToEvents(dataset.event_id, dataset.interval).transform(raw)
    found = source_module._events(raw, dataset)
    assert [round(event.second * 128) for event in found] == expected[:, 0].tolist()
    assert [dataset.event_id[event.name] for event in found] == expected[:, 2].tolist()


def test_people_and_events_are_chosen_and_the_interval_is_the_data_set_s(made):
    made()
    source = Moabb(dataset="Made", subjects=[2], events=["fake1", "fake3"])
    rows = source.rows()
    assert {row.subject for row in rows} == {"2"}
    assert {row.labels["event"] for row in rows} == {"fake1", "fake3"}
    assert len(rows) == 2 * 2 * 4
    cell = source.cell(0, COLUMN)
    assert cell.stop - cell.start == pytest.approx(3.0)  # FakeDataset's interval is 0 to 3 s
    assert source.fingerprint() != Moabb(dataset="Made", subjects=[1]).fingerprint()


def test_an_event_whose_stretch_leaves_the_run_is_left_out(made):
    made()
    whole, long = (Moabb(dataset="Made", subjects=[1], window=window).rows() for window in ((0, 3), (0, 4)))
    assert len(whole) == 24
    assert len(long) == 24 - 4  # the last of each run is 3 s and a sample before its end
    with pytest.raises(DataError, match="there must be events in its runs"):
        Moabb(dataset="Made", window=(0, 100)).rows()


def test_what_is_not_there_is_named(made):
    made()
    with pytest.raises(UnknownNameError, match="no MOABB data set named 'BNCI2014_01'; did you mean 'BNCI2014_0"):
        Moabb(dataset="BNCI2014_01").rows()
    with pytest.raises(ConfigError, match=r"subjects: Made has no 7; known: \[1, 2\]"):
        Moabb(dataset="Made", subjects=[7]).rows()
    with pytest.raises(ConfigError, match="events: Made has no 'left'"):
        Moabb(dataset="Made", events=["left"]).rows()
    with pytest.raises(ConfigError, match="window must rise"):
        Moabb(dataset="Made", window=(1, 1))
    with pytest.raises(DataError, match="'event' is a label"):
        Moabb(dataset="Made").cell(0, SensorColumn("x", EEG, "event"))


def test_a_missing_extra_is_said_in_a_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "moabb", None)
    with pytest.raises(ConfigError, match=r"pip install 'fusionkit-torch\[eeg\]'"):
        Moabb(dataset="BNCI2014_001").rows()


def test_a_failing_download_is_told_in_a_line(made, monkeypatch):
    dataset = type(made())

    def fail(self, subject):
        raise OSError("no network\nat all")

    monkeypatch.setattr(dataset, "_get_single_subject_data", fail)
    with pytest.raises(DataError, match=r"^Made: MOABB cannot get subject 1: no network$"):
        Moabb(dataset="Made").rows()
