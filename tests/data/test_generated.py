"""Generated records in a loader: behind those of the study, of one sensor each, and unknown to what loads real ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features, Window
from fusionkit.core.modality import Modality
from fusionkit.core.recording import Stored
from fusionkit.data.features import CachedFeatures
from fusionkit.data.generated import Generated
from fusionkit.data.loading import Loader, LoaderInput
from fusionkit.data.records import Records
from fusionkit.data.study import StoredSensor, Study

CPU = torch.device("cpu")
COUNT, MADE = 5, (3, 2)  # records of the study; generated ones of eeg, then of imu


class Waves(Modality):
    kind = "waves"

    def read(self, path):
        raise NotImplementedError

    def from_array(self, values, sample_rate=None, channels=()):
        raise NotImplementedError

    def front_end(self, stored):
        raise NotImplementedError

    def window(self, stored):
        return stored.T


def sensor(values, offset, count):
    made = StoredSensor(
        stored=Stored(4.0, (), "", values.shape[1:], values.dtype.str, max(count)),
        offset=np.array(offset),
        count=np.array(count),
        recording=np.where(np.array(offset) >= 0, 0, -1),
        recording_name=("one",),
        recording_offset=np.array([0]),
        recording_count=np.array([len(values)]),
        recording_digest=("d",),
        place=(Path("none"), 0, values.shape, values.dtype.str),
    )
    made.__dict__["values"] = values
    return made


@pytest.fixture
def study():
    draw = np.random.default_rng(0)
    records = Records.of([{"id": f"r{n}"} for n in range(COUNT)])
    sensors = {
        "eeg": sensor(draw.normal(size=(20, 2)).astype(np.float32), [0, 4, -1, 8, 12], [4, 4, 0, 4, 4]),
        "imu": sensor(draw.normal(size=(20, 3)).astype(np.float32), [0, -1, 4, 8, 12], [4, 0, 3, 4, 4]),
    }
    return Study(Path("none"), records, sensors, "digest")


@pytest.fixture
def inputs():
    draw = np.random.default_rng(1)
    features = CachedFeatures(
        draw.normal(size=(COUNT, 2, 2, 1)).astype(np.float32),
        np.array([2, 2, 0, 2, 1]),
        np.array([0.25, 0.75], np.float32),
    )
    return {"eeg": LoaderInput(features), "imu": LoaderInput(Waves())}


@pytest.fixture
def generated():
    draw = torch.Generator().manual_seed(2)
    eeg = Generated("eeg", "features", torch.randn(MADE[0], 2, 2, 1, generator=draw), {"state": np.array([0.0, 1, 0])})
    imu = Generated("imu", "window", torch.randn(MADE[1], 3, 4, generator=draw), {"state": np.array([1.0, 1])})
    return [eeg, imu]


TARGETS = {"state": np.array([0, 1, np.nan, 1, 0]), "tags": np.ones((COUNT, 2)), "score": np.arange(5.0)}


@pytest.fixture(params=[True, False], ids=["resident", "streamed"])
def pair(request, study, inputs, generated):
    """A loader without generated records, and one with them."""
    return [Loader(study, inputs, TARGETS, CPU, request.param, made) for made in ([], generated)]


def same(one, other):
    for name, stream in one.inputs.items():
        for part, its in zip(stream, other.inputs[name], strict=True):
            assert (part is None and its is None) or torch.equal(part, its)
    for task, values in one.targets.items():
        assert torch.equal(values.nan_to_num(-1), other.targets[task].nan_to_num(-1))


def test_real_records_are_the_same_bits(pair):
    plain, both = pair
    rows = torch.tensor([3, 0, 2, 4, 1])
    same(plain.batch(rows), both.batch(rows))
    same(plain.batch(rows), both.real.batch(rows))
    mixed = both.batch(torch.tensor([3, 6, 0, 9, 2, 4, 1]))
    for name, stream in plain.batch(rows).inputs.items():
        assert torch.equal(mixed.inputs[name].values[[0, 2, 4, 5, 6]], stream.values)
        assert torch.equal(mixed.inputs[name].present[[0, 2, 4, 5, 6]], stream.present)


def test_generated_records_have_their_own_sensor_and_no_other(pair, generated):
    batch = pair[1].batch(torch.tensor([5, 1, 9, 7, 8]))
    eeg, imu = batch.inputs["eeg"], batch.inputs["imu"]
    assert isinstance(eeg, Features) and isinstance(imu, Window)
    assert eeg.present.tolist() == [True, True, False, True, False]
    assert imu.present.tolist() == [False, False, True, False, True]
    assert torch.equal(eeg.values[[0, 3]], generated[0].values[[0, 2]])
    assert torch.equal(imu.values[[2, 4]], generated[1].values[[1, 0]])
    assert eeg.mask[[0, 3]].all() and not eeg.mask[[2, 4]].any()
    assert imu.length.tolist() == [0, 0, 4, 0, 4]
    assert not eeg.values[[2, 4]].any() and not imu.values[[0, 1, 3]].any()
    assert torch.equal(eeg.time, torch.tensor([0.25, 0.75]).expand(5, 2))


def test_labels_are_those_of_their_task_and_no_other(pair):
    targets = pair[1].batch(torch.tensor([5, 6, 7, 8, 9, 1])).targets
    assert targets["state"].tolist() == [0, 1, 0, 1, 1, 1]
    assert targets["score"][:5].isnan().all() and targets["score"][5] == 1
    assert targets["tags"][:5].isnan().all() and targets["tags"].shape == (6, 2)


def test_what_loads_real_records_knows_no_other(pair):
    with pytest.raises(IndexError):
        pair[1].real.batch(torch.tensor([5]))
    assert pair[0].real is pair[0] and pair[1].real.real is pair[1].real


def test_records_of_another_level_are_refused(study, inputs, generated):
    wrong = Generated("imu", "features", generated[0].values, {})
    loader = Loader(study, inputs, TARGETS, CPU, generated=[wrong])
    with pytest.raises(ConfigError, match="generated records of imu must be windows, but are features"):
        loader.batch(torch.tensor([0]))


def test_they_are_called_by_sensor_and_number(generated):
    assert generated[0].ids == ("generated/eeg/0", "generated/eeg/1", "generated/eeg/2") and len(generated[1]) == 2
