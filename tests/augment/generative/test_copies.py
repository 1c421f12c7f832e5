"""Copies of training records: whose, how noisy, how mixed, how far turned."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from fusionkit.augment.generative import rotation
from fusionkit.augment.generative.generator import Item
from fusionkit.augment.generative.geometric_copies import GeometricCopies
from fusionkit.augment.generative.mixup_copies import MixupCopies
from fusionkit.augment.generative.noise_copies import NoiseCopies
from fusionkit.augment.pixels import move_pixels
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import WindowShape
from fusionkit.modalities.eeg.places import positions

SEED = [
    "FP1",
    "FPZ",
    "FP2",
    "AF3",
    "AF4",
    "F7",
    "F5",
    "F3",
    "F1",
    "FZ",
    "F2",
    "F4",
    "F6",
    "F8",
    "FT7",
    "FC5",
    "FC3",
    "FC1",
    "FCZ",
    "FC2",
    "FC4",
    "FC6",
    "FT8",
    "T7",
    "C5",
    "C3",
    "C1",
    "CZ",
    "C2",
    "C4",
    "C6",
    "T8",
    "TP7",
    "CP5",
    "CP3",
    "CP1",
    "CPZ",
    "CP2",
    "CP4",
    "CP6",
    "TP8",
    "P7",
    "P5",
    "P3",
    "P1",
    "PZ",
    "P2",
    "P4",
    "P6",
    "P8",
    "PO7",
    "PO5",
    "PO3",
    "POZ",
    "PO4",
    "PO6",
    "PO8",
    "O1",
    "OZ",
    "O2",
]
ITEM = Item("features", WindowShape((1, 2, 1)), 3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def prepared(cls, values, label, item=ITEM, **options):
    made = cls(item, **options)
    made.prepare(values, label)
    return made


def records(rows=30):
    label = torch.arange(rows) % 3
    return 100.0 * label[:, None, None, None] + torch.randn(rows, 1, 2, 1, generator=seeded(1)), label


def test_copies_are_of_the_wanted_class_all_records_alike():
    made = prepared(NoiseCopies, *records())
    rows = made.draw(torch.full((9000,), 1), seeded())
    assert set(made.label[rows].tolist()) == {1}
    count = torch.bincount(rows, minlength=30)[made.label == 1]
    assert stats.chisquare(count.numpy()).pvalue > 1e-3
    order = torch.tensor([2, 0, 1, 1, 0])
    assert torch.equal(made.label[made.draw(order, seeded())], order)


def test_a_class_without_training_records_cannot_be_copied():
    values, label = records()
    made = prepared(NoiseCopies, values[label != 1], label[label != 1])
    with pytest.raises(
        DataError, match=r"noise_copies copies training records, but there are none of the classes \[1\]"
    ):
        made.sample(torch.tensor([0, 1, 1]), seeded())


def test_the_noise_is_as_large_as_is_said():
    values = torch.randn(400, 1, 2, 1) * torch.tensor([1.0, 50.0]).reshape(1, 1, 2, 1)
    made = prepared(NoiseCopies, values, torch.zeros(400, dtype=torch.long), spread=0.3)
    label = torch.zeros(20000, dtype=torch.long)
    noise = made.sample(label, seeded(2)).values - made.values[made.draw(label, seeded(2))]
    wanted = 0.3 * values.std(0, correction=0)
    torch.testing.assert_close(noise.std(0), wanted, rtol=0.03, atol=0)
    share = (noise / wanted).flatten()[:4000].numpy()
    assert stats.kstest(share, "norm").pvalue > 1e-3


def test_what_never_varies_gets_no_noise():
    values, label = records()
    values[:, :, 1] = 7.0
    found = prepared(NoiseCopies, values, label).sample(label, seeded()).values
    assert torch.equal(found[:, :, 1], values[:, :, 1])
    assert not torch.equal(found[:, :, 0], values[:, :, 0])


def test_copies_hold_training_records_outside_their_saved_state():
    made = prepared(NoiseCopies, *records())
    assert made.keeps_records
    assert set(made.state_dict()) == {"shift", "scale"}
    assert {"values", "label"} <= {name for name, _ in made.named_buffers()}, "they move with it"


def test_a_mixture_is_there_twice_with_shares_of_both_classes():
    made = prepared(MixupCopies, *records(), alpha=1.0)
    wanted = torch.tensor([0, 1, 2, 1])
    values, label, share = made.sample(wanted, seeded(3))
    assert torch.equal(values[:4], values[4:])
    assert torch.equal(label[:4], wanted)
    torch.testing.assert_close(share[:4] + share[4:], torch.ones(4))
    level = 100 * (label[:4] * share[:4] + label[4:] * share[4:])
    torch.testing.assert_close(values[:4].mean((1, 2, 3)), level, atol=4.0, rtol=0)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_beta(alpha):
    made = prepared(MixupCopies, *records(), alpha=alpha)
    share = made.sample(torch.zeros(3000, dtype=torch.long), seeded(4)).share[:3000].double().numpy()
    assert stats.kstest(share, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert len(np.unique(share)) > 1000, "a share a mixture"


def test_partners_are_any_records():
    made = prepared(MixupCopies, *records())
    label = made.sample(torch.zeros(9000, dtype=torch.long), seeded(5)).label[9000:]
    assert stats.chisquare(torch.bincount(label).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("angle", [-0.26, 0.1])
def test_weights_are_mnes(monkeypatch, axis, angle):
    from mne.channels.interpolation import _make_interpolation_matrix
    from scipy.spatial.transform import Rotation

    monkeypatch.setattr(rotation, "STIFFNESS", 4)
    monkeypatch.setattr(rotation, "SMOOTHING", 1e-5)
    places = torch.tensor(positions(SEED), dtype=torch.float64)
    found = rotation.turned_electrodes(places, torch.tensor([axis]), torch.tensor([angle], dtype=torch.float64))[0]
    unit = (places - rotation.centre_of(places)).numpy()
    turned = Rotation.from_euler("xyz"[axis], angle).apply(unit)
    np.testing.assert_allclose(found, _make_interpolation_matrix(unit, turned), atol=1e-8)


def test_the_spline_is_its_series():
    cosine = torch.linspace(-1, 1, 41, dtype=torch.float64)
    series = [0.0] + [(2 * n + 1) / (n * (n + 1)) ** 2 / (4 * math.pi) for n in range(1, 51)]
    np.testing.assert_allclose(rotation.spline(cosine), np.polynomial.legendre.legval(cosine, series), atol=1e-12)


def test_an_unturned_cap_measures_what_it_measured():
    places = torch.tensor(positions(SEED))
    found = rotation.turned_electrodes(places, torch.arange(3), torch.zeros(3))
    torch.testing.assert_close(found, torch.eye(60, dtype=torch.float64).expand(3, -1, -1), atol=1e-6, rtol=0)


def test_a_field_that_is_the_same_everywhere_stays():
    places = torch.tensor(positions(SEED))
    found = rotation.turned_electrodes(places, torch.arange(3), torch.full((3,), 0.26))
    torch.testing.assert_close(found.sum(2), torch.ones(3, 60, dtype=torch.float64), atol=1e-8, rtol=0)


def test_a_smooth_field_is_read_where_the_electrodes_have_gone():
    """A dipole's field ``z`` about x: turned by a, an electrode at y reads ``z cos a + y sin a``."""
    places = torch.tensor(positions(SEED), dtype=torch.float64)
    unit = torch.nn.functional.normalize(places - rotation.centre_of(places), dim=1)
    angle = torch.tensor([0.2], dtype=torch.float64)
    found = rotation.turned_electrodes(places, torch.tensor([0]), angle)[0] @ unit[:, 2]
    wanted = unit[:, 2] * math.cos(0.2) + unit[:, 1] * math.sin(0.2)
    inside = unit[:, 2] > 0.2
    assert (found - wanted)[inside].abs().max() < 0.03


def test_noise_hardly_grows():
    places = torch.tensor(positions(SEED))
    turn = torch.deg2rad(torch.tensor([15.0] * 3 + [-15.0] * 3))
    gain = rotation.turned_electrodes(places, torch.arange(3).repeat(2), turn).square().sum(2)
    assert gain.max() < 1.35


def test_the_centre_of_a_sphere():
    around = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=1)
    torch.testing.assert_close(
        rotation.centre_of(0.09 * around + torch.tensor([0.01, 0.02, 0.03])),
        torch.tensor([0.01, 0.02, 0.03], dtype=torch.float64),
    )


@pytest.mark.parametrize(("level", "shape"), [("features", (2, 5, 3)), ("window", (5, 7))])
def test_every_copy_is_one_of_the_turns_along_channels_alone(level, shape):
    names = ["FP1", "FP2", "CZ", "O1", "T8"]
    item = Item(level, WindowShape(shape), 1, positions(names))
    values = torch.randn(3, *shape)
    made = prepared(GeometricCopies, values, torch.zeros(3, dtype=torch.long), item)
    found = made.sample(torch.zeros(400, dtype=torch.long), seeded(6)).values
    channel = 2 if level == "features" else 1
    flat = values.movedim(channel, -1).reshape(3, -1, 5)
    turned = found.movedim(channel, -1).reshape(400, -1, 5)
    residual = []
    for record in flat.double():
        weights = torch.linalg.pinv(record) @ turned.double()
        residual.append((record @ weights - turned).abs().amax((1, 2)))
    assert (torch.stack(residual).amin(0) < 1e-3).all(), "each copy is a linear map of one record's channels"
    assert 30 <= len({tuple(it.flatten().round(decimals=4).tolist()) for it in turned}) <= 3 * 64
    assert not (turned[:, None] == flat[None]).all((2, 3)).any()


def test_a_small_turn_changes_little_and_a_large_one_more():
    item = Item("features", WindowShape((1, 60, 1)), 1, positions(SEED))
    values = torch.tensor(positions(SEED))[:, 2].reshape(1, 1, 60, 1) * 10
    label = torch.zeros(300, dtype=torch.long)
    off = [
        (prepared(GeometricCopies, values, label[:1], item, degrees=degrees).sample(label, seeded()).values - values)
        .square()
        .mean()
        .item()
        for degrees in (0.01, 3.0, 15.0)
    ]
    assert off[0] < 1e-6 < off[1] < off[2] / 4


def test_images_are_moved_by_whole_pixels_and_mirrored_where_that_is_asked_for():
    item = Item("window", WindowShape((1, 10, 20)), 1)
    image = torch.rand(1, 1, 10, 20, generator=seeded(7))
    label = torch.zeros(300, dtype=torch.long)
    moves = {(down, right): _naive(image[0], down, right) for down in (-1, 0, 1) for right in (-2, -1, 0, 1, 2)}
    for mirror in (False, True):
        found = prepared(GeometricCopies, image, label[:1], item, mirror=mirror).sample(label, seeded(8)).values
        whole = {place: (found == moved).flatten(1).all(1) for place, moved in moves.items()}
        turned = {place: (found == moved.flip(2)).flatten(1).all(1) for place, moved in moves.items()}
        assert all(rows.any() for rows in whole.values())
        plain = torch.stack(list(whole.values())).any(0)
        assert (plain | torch.stack(list(turned.values())).any(0)).all()
        assert plain.float().mean() == 1 if not mirror else 0.35 < plain.float().mean() < 0.65


def _naive(image, down, right):
    moved = torch.empty_like(image)
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            moved[:, row, column] = image[:, min(max(row - down, 0), 9), min(max(column - right, 0), 19)]
    return moved


def test_black_comes_in_where_the_edge_is_not_repeated():
    image = torch.ones(2, 3, 4, 5)
    moved = move_pixels(image, torch.tensor([1, 0]), torch.tensor([0, -2]), fill="zero")
    assert moved[0, :, 0].eq(0).all() and moved[0, :, 1:].eq(1).all()
    assert moved[1, :, :, 3:].eq(0).all() and moved[1, :, :, :3].eq(1).all()


def test_what_has_no_places_is_refused():
    with pytest.raises(
        ConfigError, match=r"channels whose places are known, but got features \(1, 2, 1\) without places"
    ):
        GeometricCopies(ITEM)
