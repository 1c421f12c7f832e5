"""The feature cache: what a plain loop gives, computed once, made anew when damaged, never half-written."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import FeatureShape
from fusionkit.core.modality import FrontEnd, Modality, Recording
from fusionkit.core.recording import Stored
from fusionkit.data import features
from fusionkit.data.alignment import Alignment
from fusionkit.data.features import Windows, compute
from fusionkit.data.records import Records
from fusionkit.data.saving import NewSensor, save_study

RATE = 8.0


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
        return np.ascontiguousarray(stored.T)


class Words(Stub):
    """Text whose tokens are words: as ids, their lengths."""

    def window(self, stored):
        return np.array([len(word) for word in bytes(stored).decode().split()], dtype=np.int64)


class Pictures(Stub):
    def window(self, stored):
        return stored[0].astype(np.float32) / 255


class Blocks(FrontEnd):
    """Mean and largest value of every four samples."""

    def __init__(self):
        super().__init__()
        self.register_buffer("gain", torch.tensor(2.0))
        self.shape = FeatureShape(channel=2, subchannel=2)
        self.seen = []

    def __deepcopy__(self, memo):
        other = Blocks()
        other.seen = self.seen
        return other

    def forward(self, values, length):
        assert not self.training and not torch.is_grad_enabled()
        self.seen.append(tuple(values.shape))
        steps = values.shape[-1] // 4
        blocks = values[..., : 4 * steps].unflatten(-1, (steps, 4)).transpose(1, 2) * self.gain
        made = torch.stack([blocks.mean(-1), blocks.amax(-1)], -1)
        return made + 7, 4 * torch.arange(1, steps + 1) <= length[:, None]

    def times(self, steps):
        return (torch.arange(steps) * 4 + 2) / RATE


def recordings(lengths, seed=0):
    generator = np.random.default_rng(seed)
    return [
        None if n is None else Recording(generator.normal(size=(n, 2)).astype(np.float32), RATE, ("a", "b"), "V")
        for n in lengths
    ]


def make_study(tmp_path, sensors, name="study.h5"):
    count = len(next(iter(sensors.values())))
    records = Records.of([{"id": f"r{i}"} for i in range(count)])
    return save_study(tmp_path / name, records, {key: NewSensor.of(values) for key, values in sensors.items()})


LENGTHS = [16, None, 9, 16, 3, None, 12, 5]


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path, {"eeg": recordings(LENGTHS)})


def run(study, tmp_path, front_end=None, key="{}", **more):
    return compute(study, "eeg", Waves(), front_end or Blocks(), tmp_path / "cache", key, **more)


def test_features_are_what_a_plain_loop_gives(study, tmp_path):
    cached = run(study, tmp_path)
    assert cached.values.shape == (8, 4, 2, 2) and cached.values.dtype == np.float32
    assert isinstance(cached.values, np.memmap) and not cached.values.flags.writeable
    for row, count in enumerate(LENGTHS):
        steps = (count or 0) // 4
        assert cached.steps[row] == steps
        for step in range(steps):
            block = 2 * study.sensors["eeg"].slice(row)[4 * step : 4 * step + 4]
            expected = np.stack([block.mean(0), block.max(0)], -1) + 7
            np.testing.assert_allclose(cached.values[row, step], expected, rtol=1e-6)
        assert not cached.values[row, steps:].any()
    np.testing.assert_array_equal(cached.times, [0.25, 0.75, 1.25, 1.75])


def test_a_second_call_reads_and_computes_nothing(study, tmp_path):
    first = run(study, tmp_path)
    again = Blocks()
    second = run(study, tmp_path, again)
    assert not again.seen
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.steps, second.steps)
    np.testing.assert_array_equal(first.times, second.times)


def test_other_matrices_are_another_entry(tmp_path):
    """Which calibration is taken may hang on names of files, which no digest knows."""
    study = make_study(tmp_path, {"eeg": recordings(LENGTHS)})
    channels, records = study.sensors["eeg"].stored.item[0], len(study.records)
    for turn, (gain, fresh) in enumerate(((1.0, True), (1.0, False), (2.0, True))):
        matrix = np.float32(gain) * np.eye(channels, dtype=np.float32)[None]
        alignment = Alignment(np.zeros(records, np.int64), matrix, np.zeros(records, bool), "")
        front_end = Blocks()
        compute(study, "eeg", Waves(), front_end, tmp_path / "cache", "{}", alignment=alignment)
        assert bool(front_end.seen) == fresh, turn


def test_other_settings_sensors_or_records_are_other_entries(tmp_path):
    both = {"eeg": recordings(LENGTHS), "ecg": recordings(LENGTHS, 1)}
    study = make_study(tmp_path, both)
    run(study, tmp_path)
    turned = make_study(tmp_path, {name: values[::-1] for name, values in both.items()}, "turned.h5")
    other = make_study(tmp_path, {name: values[:-1] for name, values in both.items()}, "other.h5")
    for where, sensor, key in (
        (study, "eeg", "{1}"),
        (study, "ecg", "{}"),
        (turned, "eeg", "{}"),
        (other, "eeg", "{}"),
    ):
        front_end = Blocks()
        compute(where, sensor, Waves(), front_end, tmp_path / "cache", key)
        assert front_end.seen


def test_chunks_do_not_change_features_and_bound_memory(study, tmp_path, monkeypatch):
    whole = run(study, tmp_path)
    monkeypatch.setattr(features, "CHUNK_WINDOWS", 3)
    front_end = Blocks()
    np.testing.assert_array_equal(run(study, tmp_path, front_end, "chunks").values, whole.values)
    assert [shape[0] for shape in front_end.seen] == [1, 2, 2, 2]  # the first for the shape; absent ones left out
    monkeypatch.setattr(features, "CHUNK_BYTES", 2 * (2 * 16 * 4))
    front_end = Blocks()
    np.testing.assert_array_equal(run(study, tmp_path, front_end, "bytes").values, whole.values)
    assert max(shape[0] for shape in front_end.seen) == 2


def test_progress_counts_records(study, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK_WINDOWS", 3)
    told = []
    run(study, tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 8), (6, 8), (8, 8)]


def damage_truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def damage_garble(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 0xFF
    path.write_bytes(content)


def damage_empty(path):
    path.write_bytes(b"")


def damage_replace(path):
    path.write_text('{"checksums": 3}')


@pytest.mark.parametrize("suffix", [".npy", ".steps.npy", ".json"])
@pytest.mark.parametrize("damage", [damage_truncate, damage_garble, damage_empty, damage_replace, os.unlink])
def test_a_damaged_file_is_made_anew(study, tmp_path, suffix, damage):
    expected = run(study, tmp_path)
    expected = (expected.values.copy(), expected.steps.copy())
    (json,) = (tmp_path / "cache").glob("*.json")
    damage(json.with_suffix(suffix))
    again = run(study, tmp_path)
    np.testing.assert_array_equal(again.values, expected[0])
    np.testing.assert_array_equal(again.steps, expected[1])
    np.testing.assert_array_equal(again.times, [0.25, 0.75, 1.25, 1.75])
    once_more = Blocks()
    run(study, tmp_path, once_more)
    assert not once_more.seen


def test_several_at_once_compute_once(study, tmp_path):
    front_ends = [Blocks() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda front_end: run(study, tmp_path, front_end), front_ends))
    assert sum(bool(front_end.seen) for front_end in front_ends) == 1
    for one in made[1:]:
        np.testing.assert_array_equal(one.values, made[0].values)


class Failing(Blocks):
    def __deepcopy__(self, memo):
        return self

    def forward(self, values, length):
        if len(self.seen) == 2:
            raise KeyboardInterrupt
        return super().forward(values, length)


def test_an_interrupted_computation_leaves_nothing_under_a_final_name(study, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK_WINDOWS", 2)
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path, Failing())
    assert all(path.suffix == ".lock" for path in (tmp_path / "cache").iterdir())
    assert run(study, tmp_path).steps.tolist() == [4, 0, 2, 4, 0, 0, 3, 1]


def test_the_front_end_is_left_as_it_is(study, tmp_path):
    front_end = Blocks().train()
    run(study, tmp_path, front_end)
    assert front_end.training and front_end.gain.device.type == "cpu"


class Embedding(Blocks):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


class Holes(Blocks):
    def __deepcopy__(self, memo):
        return self

    def forward(self, values, length):
        made, mask = super().forward(values, length)
        return made, mask & (torch.arange(mask.shape[1]) != 0)


class Infinite(Blocks):
    def __deepcopy__(self, memo):
        return self

    def forward(self, values, length):
        made, mask = super().forward(values, length)
        return torch.where(length[:, None, None, None] == 9, torch.inf, made), mask


@pytest.mark.parametrize(
    ("front_end", "error", "message"),
    [
        (Embedding, ConfigError, "must be deterministic to be cached, but that of eeg trains"),
        (Holes, ConfigError, "must mask the last steps alone, but Holes does not"),
        (Infinite, DataError, "must be finite, but those of eeg of record 'r2' are not"),
    ],
)
def test_a_front_end_that_cannot_be_cached_is_refused(study, tmp_path, front_end, error, message):
    with pytest.raises(error, match=message):
        run(study, tmp_path, front_end())
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_windows_without_a_single_step_are_refused(tmp_path):
    with pytest.raises(DataError, match="3 samples of eeg are not"):
        run(make_study(tmp_path, {"eeg": recordings([3, 2])}), tmp_path)


def test_a_folder_that_takes_no_files_is_refused(study, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="cache: features must be written here"):
        run(study, tmp_path)


def test_windows_are_padded_to_the_longest_and_keep_their_type(study):
    windows = Windows("eeg", study.sensors["eeg"], Waves())
    values, length = windows.read(np.array([4, 1, 0]))
    assert values.shape == (3, 2, 16) and values.dtype == np.float32 and length.tolist() == [3, 0, 16]
    np.testing.assert_array_equal(values[0, :, :3], study.sensors["eeg"].slice(4).T)
    assert not values[0, :, 3:].any() and not values[1].any()


def test_text_is_padded_to_the_most_tokens_not_to_the_most_bytes(tmp_path):
    texts = ["incomprehensibilities", "a bc def", "", None, "a b"]
    stored = [None if t is None else Recording(np.frombuffer(t.encode(), np.uint8)) for t in texts]
    windows = Windows("text", make_study(tmp_path, {"text": stored}).sensors["text"], Words())
    values, length = windows.read(np.arange(5))
    assert values.dtype == np.int64
    assert values.tolist() == [[21, 0, 0], [1, 2, 3], [0, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert length.tolist() == [1, 3, 0, 0, 2]


def test_pictures_have_one_shape(tmp_path):
    stored = [Recording(np.full((1, 3, 4, 5), 51 * i, np.uint8)) for i in range(3)]
    windows = Windows("image", make_study(tmp_path, {"image": stored}).sensors["image"], Pictures())
    values, _ = windows.read(np.array([2, 0]))
    assert values.shape == (2, 3, 4, 5) and values[0].min() == pytest.approx(0.4) and not values[1].any()


def test_a_sensor_that_no_record_has_is_all_zeros(study, tmp_path):
    eeg = study.sensors["eeg"]
    nobody = np.full(8, -1)
    study.sensors["eeg"] = replace(eeg, offset=nobody, recording=nobody, count=np.zeros(8, np.int64))
    cached = run(study, tmp_path, key="absent")
    assert cached.values.shape == (8, 4, 2, 2) and not cached.values.any() and not cached.steps.any()
    text = replace(study.sensors["eeg"], stored=Stored(None, (), "", (), "|u1", 9))
    values, length = Windows("text", text, Words()).read(np.arange(8))
    assert values.shape == (8, 1) and not values.any() and not length.any()


class Shrinking(Waves):
    def window(self, stored):
        return stored.T[: 1 + (len(stored) > 10)]


def test_windows_that_do_not_fit_together_are_refused(study):
    with pytest.raises(DataError, match=r"windows of eeg must fit into \(2, 16\), but that of record 2 .* is \(1, 9\)"):
        Windows("eeg", study.sensors["eeg"], Shrinking()).read(np.array([0, 2]))


class Convolution(Blocks):
    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0)))

    def __deepcopy__(self, memo):
        return Convolution()

    def forward(self, values, length):
        made = torch.conv1d(values, self.kernel, stride=4, groups=2).transpose(1, 2)[..., None]
        steps = torch.arange(1, made.shape[1] + 1, device=values.device)
        return made.expand(-1, -1, -1, 2), 4 * steps <= length[:, None]


@pytest.mark.gpu
def test_a_device_computes_what_the_cpu_does(study, tmp_path):
    here = run(study, tmp_path, Convolution(), "cpu")
    there = run(study, tmp_path, Convolution(), "cuda", device=torch.device("cuda"))
    np.testing.assert_array_equal(here.steps, there.steps)
    np.testing.assert_allclose(here.values, there.values, rtol=1e-4, atol=1e-5)


class Filtered(Waves):
    """Windows of a running sum and its negative, which start with the recording."""

    def __init__(self):
        self.seen = 0

    def whole(self, stored):
        def run(values):
            self.seen += 1
            return np.stack([values.cumsum(0), -values.cumsum(0)], -1)

        return run

    def window(self, stored):
        return np.ascontiguousarray(np.moveaxis(stored, 0, -1))


def test_windows_are_cut_of_the_whole_recording_once_it_is_filtered(tmp_path):
    whole = recordings([40, 24])
    made = NewSensor.of(whole)
    starts = [0, 8, 3, 0, 12]
    made = replace(
        made,
        recording=np.array([0, 0, 0, 1, 1]),
        start=np.array(starts),
        count=np.array([8, 8, 5, 8, 8]),
        stored=replace(made.stored, longest=8),
    )
    records = Records.of([{"id": f"r{i}"} for i in range(5)])
    study = save_study(tmp_path / "whole.h5", records, {"eeg": made})
    modality = Filtered()
    windows = Windows("eeg", study.sensors["eeg"], modality)
    assert windows.shape == (2, 2, 8)
    modality.seen = 0
    values, length = windows.read(np.arange(5))
    assert modality.seen == 2 and length.tolist() == [8, 8, 5, 8, 8]
    for row, recording in enumerate([0, 0, 0, 1, 1]):
        total = whole[recording].values.cumsum(0)[starts[row] : starts[row] + length[row]].T
        np.testing.assert_array_equal(values[row, :, 0, : length[row]], total)
        np.testing.assert_array_equal(values[row, :, 1, : length[row]], -total)
        assert not values[row, ..., length[row] :].any()
    np.testing.assert_array_equal(windows.read(np.array([4, 0, 3, 1]))[0], values[[4, 0, 3, 1]])


def test_a_channel_without_signal_stays_zero_whatever_a_filter_rings(tmp_path):
    whole = recordings([16])
    whole[0].values[8:, 1] = 0
    made = replace(
        NewSensor.of([*whole, None]), recording=np.array([0, 0]), start=np.array([4, 8]), count=np.array([8, 8])
    )
    study = save_study(tmp_path / "dead.h5", Records.of([{"id": "a"}, {"id": "b"}]), {"eeg": made})
    values, _ = Windows("eeg", study.sensors["eeg"], Filtered()).read(np.arange(2))
    assert values[0, 1].all() and values[1, 0].all() and not values[1, 1].any()


class Lacking(Blocks):
    """A channel of zeros is not measured; of ones, infinite."""

    lacks = True

    def __deepcopy__(self, memo):
        return type(self)()

    def forward(self, values, length):
        made, mask = super().forward(values, length)
        made = torch.where((values == 0).all(-1)[:, None, :, None], torch.nan, made)
        return torch.where((values == 1).all(-1)[:, None, :, None], torch.inf, made), mask


class Careless(Lacking):
    lacks = False


def test_what_was_not_measured_is_kept_as_nan_where_the_front_end_says_so(tmp_path):
    signals = recordings([16, 16, 16])
    signals[1].values[:, 0] = 0
    study = make_study(tmp_path, {"eeg": signals})
    cached = run(study, tmp_path, Lacking())
    assert np.isnan(cached.values[1, :, 0]).all() and np.isnan(cached.values).sum() == 8
    with pytest.raises(DataError, match="features must be finite, but those of eeg of record 'r1' are not"):
        run(study, tmp_path, Careless(), key="{2}")
    signals[2].values[:] = 1
    with pytest.raises(DataError, match="of record 'r2' are not"):
        run(make_study(tmp_path, {"eeg": signals}, "infinite.h5"), tmp_path, Lacking())
