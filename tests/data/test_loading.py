"""Loading: the records that were asked for, the same bits resident and streamed, and nothing to be done per record."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.core.levels import Features, Window
from fusionkit.core.modality import Modality
from fusionkit.core.recording import Stored
from fusionkit.data import loading
from fusionkit.data.features import CachedFeatures
from fusionkit.data.loading import Loader, LoaderInput, free_memory
from fusionkit.data.normalisation import Statistics
from fusionkit.data.records import Records
from fusionkit.data.study import StoredSensor, Study

CPU = torch.device("cpu")
COUNT = 7
PRESENT = [True, False, True, True, True, False, True]
STEPS = [3, 0, 2, 3, 0, 0, 1]


class Stub(Modality):
    kind = "stub"

    def read(self, path):
        raise NotImplementedError

    def from_array(self, values, sample_rate=None, channels=()):
        raise NotImplementedError

    def front_end(self, stored):
        raise NotImplementedError


class Waves(Stub):
    def window(self, stored):
        return stored.T


class Words(Stub):
    def window(self, stored):
        return np.array([len(word) for word in bytes(stored).decode().split()], dtype=np.int64)


def sensor(values, offset, count, rate=4.0):
    offset = np.array(offset)
    made = StoredSensor(
        stored=Stored(rate, (), "", values.shape[1:], values.dtype.str, int(max(count))),
        offset=offset,
        count=np.array(count),
        recording=np.where(offset >= 0, 0, -1),
        recording_name=("one",),
        recording_offset=np.array([0]),
        recording_count=np.array([len(values)]),
        recording_digest=("d",),
        place=(Path("none"), 0, values.shape, values.dtype.str),
    )
    made.__dict__["values"] = values
    return made


def here(values, absent=-1):
    return [value if present else absent for value, present in zip(values, PRESENT, strict=True)]


@pytest.fixture(scope="module")
def study():
    generator = np.random.default_rng(0)
    text = np.frombuffer(b"a bc def ghij kl mno pqrst", np.uint8)
    sensors = {
        "eeg": sensor(
            generator.normal(size=(30, 2)).astype(np.float32),
            here([0, 0, 4, 8, 11, 0, 2]),
            here([5, 0, 3, 5, 4, 0, 1], 0),
        ),
        "text": sensor(text, [0, 2, -1, 5, 9, 14, 0], [4, 3, 0, 8, 4, 3, 26], None),
    }
    return Study(Path("none"), Records.of([{"id": f"r{i}"} for i in range(COUNT)]), sensors, "d")


def cached(times=True, steps=STEPS):
    values = np.random.default_rng(1).normal(size=(COUNT, 3, 2, 2)).astype(np.float32)
    values[np.arange(3) >= np.array(steps)[:, None]] = 0
    return CachedFeatures(values, np.array(steps), np.array([0.5, 1.5, 2.5], np.float32) if times else None)


def group_statistics():
    generator = np.random.default_rng(2)
    shift, scale = generator.normal(size=(3, 2, 2)), generator.uniform(0.5, 2, (3, 2, 2))
    shift[-1], scale[-1] = 0, 1
    group = np.array([0, 2, 1, 0, 1, 2, 1])
    return Statistics(group, shift.astype(np.float32), scale.astype(np.float32), np.zeros(COUNT, bool))


TARGETS = {
    "state": np.array([0, 1, np.nan, 1, 0, 2, 1]),
    "tags": np.arange(14.0).reshape(COUNT, 2),
}


def make(study, resident, device=CPU):
    inputs = {
        "eeg": LoaderInput(cached(), group_statistics()),
        "plain": LoaderInput(cached(times=False), sensor="eeg"),
        "raw": LoaderInput(Waves(), group_statistics(), sensor="eeg"),
        "text": LoaderInput(Words()),
    }
    return Loader(study, inputs, TARGETS, device, resident)


rows_strategy = st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(rows=rows_strategy, resident=st.booleans())
def test_a_batch_is_what_a_plain_loop_gathers(study, rows, resident):
    batch = make(study, resident).batch(np.array(rows))
    made, statistics, stored = cached(), group_statistics(), study.sensors["eeg"]
    eeg, plain, raw, text = (batch.inputs[name] for name in ("eeg", "plain", "raw", "text"))
    assert isinstance(eeg, Features) and isinstance(raw, Window)
    for index, row in enumerate(rows):
        steps = STEPS[row]
        assert eeg.mask[index].tolist() == [True] * steps + [False] * (3 - steps)
        expected = (made.values[row, :steps] - statistics.shift[row]) / statistics.scale[row]
        np.testing.assert_array_equal(eeg.values[index, :steps].numpy(), expected)
        assert not eeg.values[index, steps:].any()
        assert eeg.time[index].tolist() == [0.5, 1.5, 2.5]
        np.testing.assert_array_equal(plain.values[index].numpy(), made.values[row])
        assert plain.time is None
        assert bool(eeg.present[index]) == bool(raw.present[index]) == PRESENT[row]
        length = int(stored.count[row])
        assert raw.length[index] == length
        if PRESENT[row]:
            np.testing.assert_array_equal(raw.values[index, :, :length].numpy(), stored.slice(row).T)
        assert not raw.values[index, :, length:].any()
        np.testing.assert_array_equal(raw.shift[index].numpy(), statistics.shift[row])
        np.testing.assert_array_equal(raw.scale[index].numpy(), statistics.scale[row])
        words = Words().window(study.sensors["text"].slice(row)) if row != 2 else np.zeros(0)
        assert text.values[index].tolist() == [*words, *[0] * (7 - len(words))]
        assert text.length[index] == len(words) and bool(text.present[index]) == (row != 2)
    assert batch.index.tolist() == rows
    for name, values in TARGETS.items():
        np.testing.assert_array_equal(batch.targets[name].numpy(), values[rows].astype(np.float32))


def parts(batch):
    for level in batch.inputs.values():
        yield from (part for part in level if part is not None)
    yield from batch.targets.values()


@settings(max_examples=40, deadline=None)
@given(rows=rows_strategy)
def test_resident_and_streamed_batches_are_equal_bit_for_bit(study, rows):
    resident, streamed = (make(study, choice).batch(torch.tensor(rows)) for choice in (True, False))
    assert list(resident.inputs) == list(streamed.inputs)
    for one, other in zip(parts(resident), parts(streamed), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes()


def test_types_are_kept(study):
    batch = make(study, True).batch(torch.arange(3))
    assert batch.inputs["text"].values.dtype == torch.int64
    assert batch.inputs["raw"].values.dtype == batch.inputs["eeg"].values.dtype == torch.float32
    assert batch.inputs["raw"].length.dtype == torch.int64
    assert batch.inputs["eeg"].mask.dtype == batch.inputs["raw"].present.dtype == torch.bool
    assert batch.targets["state"].dtype == torch.float32


def test_chunks_do_not_change_what_is_held(study, monkeypatch):
    whole = make(study, True).batch(torch.arange(COUNT))
    monkeypatch.setattr(loading, "CHUNK_BYTES", 1)
    for one, other in zip(parts(whole), parts(make(study, True).batch(torch.arange(COUNT))), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_batches_of_one_size_share_flags_that_cannot_be_written_to(study):
    full = {"eeg": LoaderInput(cached(steps=[3] * COUNT))}
    everyone = Study(study.path, study.records, {"eeg": sensor(np.zeros((9, 2), np.float32), [0] * 7, [1] * 7)}, "d")
    loader = Loader(everyone, full, {}, CPU, True)
    one, other = loader.batch(torch.tensor([1, 2])), loader.batch(torch.tensor([4, 0]))
    assert one.inputs["eeg"].mask is other.inputs["eeg"].mask
    assert one.inputs["eeg"].mask.all() and one.inputs["eeg"].mask.shape == (2, 3)
    with pytest.raises(RuntimeError):
        one.inputs["eeg"].present.logical_not_()
    assert loader.batch(torch.tensor([4])).inputs["eeg"].present.shape == (1,)


def test_auto_holds_what_fits_into_half_of_the_free_memory(study, monkeypatch):
    need = make(study, False).nbytes
    assert need == 2 * cached().values.nbytes + COUNT * (2 * 5 * 4 + 7 * 8)
    for free, expected in ((2 * need, True), (2 * need - 1, False)):
        monkeypatch.setattr(loading, "free_memory", lambda device, free=free: free)
        assert make(study, "auto").resident is expected
    assert make(study, True).resident is True


def test_free_memory_is_plausible_and_survives_a_system_without_proc(monkeypatch):
    assert 2**20 < free_memory(CPU) < 2**50

    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert 2**20 < free_memory(CPU) < 2**50
    monkeypatch.setattr(loading.os, "sysconf", missing)
    assert free_memory(CPU) == 2**31


def test_a_containers_limit_counts(monkeypatch):
    files = {
        "memory.max": "3000000\n",
        "memory.current": "1000000\n",
        "meminfo": "MemFree: 1 kB\nMemAvailable: 4000 kB\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda self, **_: files[self.name])
    assert free_memory(CPU) == 2_000_000
    files["memory.max"] = "max\n"
    assert free_memory(CPU) == 4_096_000


def test_what_does_not_fit_the_study_is_refused(study):
    with pytest.raises(ConfigError, match="one per record, but state has 3 for 7 records"):
        Loader(study, {}, {"state": np.zeros(3)}, CPU)
    short = CachedFeatures(np.zeros((3, 1, 1, 1), np.float32), np.ones(3, np.int64), None)
    with pytest.raises(ConfigError, match="one per record, but eeg has 3 for 7 records"):
        Loader(study, {"eeg": LoaderInput(short)}, {}, CPU)
    with pytest.raises(UnknownNameError, match="sonar"):
        Loader(study, {"sonar": LoaderInput(Waves())}, {}, CPU)


def test_a_resident_batch_does_nothing_per_record(study):
    loader = make(study, True)
    counts = []
    for rows in (torch.arange(COUNT), torch.arange(1)):
        loader.batch(rows)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            loader.batch(rows)
        events = {event.key: event.count for event in profile.key_averages()}
        assert not {"aten::to", "aten::copy_", "aten::item", "aten::nonzero"} & set(events)
        counts.append(sum(events.values()))
    assert counts[0] == counts[1]


def test_streaming_reads_only_the_rows_it_is_asked_for(study):
    read = []

    class Watched(Waves):
        def window(self, stored):
            read.append(len(stored))
            return super().window(stored)

    loader = Loader(study, {"eeg": LoaderInput(Watched())}, {}, CPU, False)
    read.clear()
    loader.batch(np.array([2, 5, 6]))
    assert read == [3, 1]


@pytest.mark.gpu
def test_a_device_gets_the_same_bits_and_no_host_copy(study):
    device = torch.device("cuda")
    here_, there, streamed = make(study, True), make(study, True, device), make(study, False, device)
    rows = torch.tensor([4, 1, 1, 6])
    on_device = rows.to(device)
    expected = list(parts(here_.batch(rows)))
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = there.batch(on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for got in (batch, streamed.batch(on_device)):
        for one, other in zip(expected, parts(got), strict=True):
            assert other.device.type == "cuda"
            torch.testing.assert_close(one, other.cpu(), rtol=0, atol=0, equal_nan=True)
