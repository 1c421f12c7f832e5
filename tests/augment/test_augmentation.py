"""The base of all augmentations, and what every registered one must keep."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from fusionkit.augment.augmentation import choose, normal, uniform
from fusionkit.core import registry
from fusionkit.core.levels import Features, Window
from fusionkit.core.recording import Stored
from fusionkit.modalities.text import Text

BATCH = 6
STORED = Stored(100.0, ("F3", "F4", "Cz", "Pz"), "V", (4,), "float32", 20)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
OPTIONS: dict[str, dict[str, Any]] = {
    "back_translation": {"function": f"{__name__}:backwards"},
    "tf_idf": {"rate": 0.5},
    "synonym": {"thesaurus": {"big": ["large", "huge"], "cat": ["puss"]}, "rate": 0.5},
}
LENGTHS = ("time_crop", "synonym", "back_translation")  # may change how much of a window is real
FACTORS = ("audio_gain", "eeg_sign_flip", "signal_scale")  # change the whole window, padding too


@pytest.fixture(scope="module")
def kinds():
    for sensor in ("audio", "eeg", "image", "signal", "text"):
        registry.modalities.get(sensor)  # importing a sensor registers its augmentations
    return registry.augment.kinds()


def backwards(sentences: list[str], variant: int) -> list[str]:
    """A translator that nobody needs."""
    return [sentence[::-1] for sentence in sentences]


@cache
def text() -> Text:
    made = Text(vocab_size=270)
    made.fit(
        [np.frombuffer(said, dtype=np.uint8) for said in [b"a big cat"] * 4 + [b"a cat", b"a dog"]],
        np.random.default_rng(0),
    )
    return made


def window(kind: str) -> Window:
    """A batch that the augmentation is made for; row 2 is absent, row 1 is shorter."""
    generator = torch.Generator().manual_seed(3)
    sensor = registry.augment.get(kind).__module__.rsplit(".", 2)[-2]
    length = torch.full((BATCH,), 20)
    length[1] = 12
    if sensor == "text":
        ids = torch.tensor(text().tokenizer.encode("a big cat").ids * 20)
        values = ids[torch.randint(0, 9, (BATCH, 1), generator=generator) + torch.arange(20)]
        values[1, 12:] = 0
    elif sensor == "audio":
        values = torch.randn(BATCH, 20, generator=generator)
    elif sensor == "image":
        values = torch.rand(BATCH, 3, 8, 10, generator=generator)
    else:
        values = torch.randn(BATCH, 4, 20, generator=generator)
    present = torch.ones(BATCH, dtype=torch.bool)
    present[2] = False
    values[2] = 0
    return Window(values, length, present)


def features() -> Features:
    generator = torch.Generator().manual_seed(3)
    mask = torch.ones(BATCH, 20, dtype=torch.bool)
    mask[1, 12:] = False
    present = torch.ones(BATCH, dtype=torch.bool)
    present[2] = False
    return Features(
        torch.randn(BATCH, 20, 4, 2, generator=generator), mask, present, torch.arange(20.0).expand(BATCH, 20)
    )


def stream(kind: str) -> Window | Features:
    return features() if registry.augment.get(kind).level == "features" else window(kind)


def build(kind: str, **options):
    augmentation = registry.augment.build(kind, {**OPTIONS.get(kind, {}), **options})
    augmentation.bind(STORED)
    if getattr(augmentation, "ids", False):
        augmentation.meet(text())
    return augmentation


def each_kind(kinds):
    for kind in kinds:
        yield kind, build(kind)


def same(left, right) -> bool:
    return all(a is b or torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_the_same_seed_gives_the_same_batch_and_another_seed_another(kinds):
    for kind, augmentation in each_kind(kinds):
        made = [augmentation(stream(kind), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2, 3, 4)]
        assert same(made[0], made[1]), kind
        assert not all(same(made[0], other) for other in made[2:]), kind


def test_only_the_generator_is_drawn_from(kinds):
    for kind, augmentation in each_kind(kinds):
        before = torch.get_rng_state()
        augmentation(stream(kind), torch.Generator().manual_seed(1))
        assert torch.equal(torch.get_rng_state(), before), kind


def test_without_a_generator_torchs_own_is_drawn_from(kinds):
    for kind, augmentation in each_kind(kinds):
        torch.manual_seed(5)
        first = augmentation(stream(kind), None)
        torch.manual_seed(5)
        assert same(augmentation(stream(kind), None), first), kind


def test_shape_type_mask_and_presence_stay_and_the_input_is_untouched(kinds):
    for kind, augmentation in each_kind(kinds):
        given, copy = stream(kind), stream(kind)
        changed = augmentation(given, torch.Generator().manual_seed(1))
        assert type(changed) is type(given), kind
        assert same(given, copy), kind
        assert changed.values.shape == given.values.shape and changed.values.dtype == given.values.dtype, kind
        if kind not in LENGTHS:
            assert same(changed[1:], given[1:]), kind


def test_padding_of_a_record_stays_what_it_was(kinds):
    for kind, augmentation in each_kind(kinds):
        given = stream(kind)
        if (isinstance(given, Window) and given.values.ndim == 4) or kind in ("synonym", "back_translation"):
            continue
        changed = augmentation(given, torch.Generator().manual_seed(1))
        axis = (1, slice(12, None)) if isinstance(given, Features) else (1, ..., slice(12, None))
        if kind in FACTORS:
            continue
        assert torch.equal(changed.values[axis], given.values[axis]), kind


def test_probability_0_changes_nothing(kinds):
    for kind in kinds:
        if "probability" not in registry.augment.schema(kind).model_fields:
            continue
        given = stream(kind)
        assert same(build(kind, probability=0.0)(given, torch.Generator().manual_seed(1)), given), kind


def test_absent_rows_stay_empty(kinds):
    for kind, augmentation in each_kind(kinds):
        given = stream(kind)
        if isinstance(given, Window) and given.values.is_floating_point() and given.values.ndim == 3:
            assert not augmentation(given, torch.Generator().manual_seed(1)).values[2].any(), kind


def test_what_was_not_measured_stays_so(kinds):
    for kind, augmentation in each_kind(kinds):
        given = stream(kind)
        if not isinstance(given, Window) or given.values.ndim != 3:
            continue
        given.values[:, 2] = 0  # Cz has no mirror
        changed = augmentation(given, torch.Generator().manual_seed(1))
        assert not changed.values[:, 2].any(), kind
        assert changed.values[:, :2].isfinite().all(), kind


def test_double_precision_and_bands_beside_channels_are_taken(kinds):
    for kind, augmentation in each_kind(kinds):
        given = stream(kind)
        if not isinstance(given, Window) or given.values.ndim != 3 or kind == "signal_scale":
            continue
        wide = given._replace(values=torch.stack([given.values, 2 * given.values], 2).double())
        once = augmentation(given._replace(values=given.values.double()), torch.Generator().manual_seed(1))
        both = augmentation(wide, torch.Generator().manual_seed(1))
        assert both.values.dtype == torch.float64 and both.values.shape == wide.values.shape, kind
        if kind != "channel_noise":
            torch.testing.assert_close(both.values, torch.stack([once.values, 2 * once.values], 2)), kind


@pytest.mark.parametrize("device", DEVICES)
def test_devices_agree_where_the_generator_is_the_same(kinds, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for kind, augmentation in each_kind(kinds):
        given = stream(kind)
        moved = type(given)(*(None if part is None else part.to(device) for part in given))
        wanted = augmentation(given, torch.Generator().manual_seed(1))
        found = augmentation.to(device)(moved, torch.Generator().manual_seed(1))
        assert found.values.device.type == device, kind
        torch.testing.assert_close(found.values.cpu(), wanted.values, rtol=1e-4, atol=1e-5, msg=kind)


def test_each_sample_is_chosen_by_itself():
    like = torch.zeros(1)
    share = choose(4000, 0.3, like, torch.Generator().manual_seed(0)).float().mean().item()
    assert share == pytest.approx(0.3, abs=3 * (0.21 / 4000) ** 0.5)
    assert choose(50, 1.0, like).all() and not choose(50, 0.0, like).any()


def test_draws_have_the_shape_and_the_range_asked_for():
    like = torch.zeros(2, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    flat = uniform((1000, 3), like, generator)
    assert flat.shape == (1000, 3) and flat.dtype == torch.float32
    assert flat.min() >= 0 and flat.max() < 1 and flat.mean().item() == pytest.approx(0.5, abs=0.02)
    bell = normal((3000,), like, generator)
    assert bell.dtype == torch.float64
    assert bell.mean().item() == pytest.approx(0, abs=0.06) and bell.std().item() == pytest.approx(1, abs=0.05)
