"""RandAugment: each operation against what it is defined to do, and how they are drawn."""

import math
from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from fusionkit.core.levels import Window
from fusionkit.modalities.image import RandAugment, tone
from fusionkit.modalities.image.rand_augment import CHANGES, PAPER, Draws, Operation


def images(batch=64, height=12, width=16) -> Window:
    values = 0.1 + 0.8 * torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    return Window(values, torch.ones(batch, dtype=torch.long), torch.ones(batch, dtype=torch.bool))


def seeded(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one(name: Operation, magnitude: float = 10.0, given: Window | None = None) -> torch.Tensor:
    changed: Window = RandAugment(operations=1, magnitude=magnitude, among=(name,))(given or images(), seeded())
    return changed.values


@pytest.mark.parametrize(
    "name", [name for name in get_args(Operation) if name not in ("autocontrast", "equalize", "invert")]
)
def test_magnitude_0_is_the_image(name) -> None:
    close = 2e-3 if name == "posterize" else 1e-5  # which has 256 levels
    torch.testing.assert_close(one(name, 0.0), images().values, atol=close, rtol=0)


@pytest.mark.parametrize("name", [name for name in PAPER if name != "identity"])
def test_every_operation_changes_images_and_stays_in_range(name) -> None:
    changed = one(name, given=images(height=24, width=24))
    assert (changed != images(height=24, width=24).values).flatten(1).any(1).all()
    assert changed.min() >= 0 and changed.max() <= 1


def test_the_list_is_the_papers_14_and_what_is_listed_is_made() -> None:
    made = {name for names, _ in CHANGES for name in names}
    assert len(PAPER) == 14 and made == set(get_args(Operation)) - {"identity"}


@pytest.mark.parametrize(
    ("name", "least"), [("brightness", 0.1), ("contrast", 0.1), ("color", 0.1), ("sharpness", 0.1)]
)
def test_factors_reach_as_far_as_the_magnitude_says(name, least) -> None:
    values = 0.4 + 0.2 * images(40).values  # nothing is cut
    dull = {
        "brightness": torch.zeros_like(values),
        "contrast": tone.grey(values).mean((2, 3), keepdim=True).expand_as(values),
        "color": tone.grey(values).expand_as(values),
        "sharpness": tone.smooth(values),
    }[name]
    changed = one(name, 10.0, Window(values, *images(40)[1:]))
    seen = set()
    for before, after, other in zip(values, changed, dull, strict=True):
        fits = [f for f in (least, 2 - least) if torch.allclose(other + f * (before - other), after, atol=1e-5)]
        cut = name == "brightness" and torch.allclose((1.9 * before).clamp(0, 1), after, atol=1e-5)
        assert len(fits) == 1 or cut
        seen.update(fits or [2 - least])
    assert seen == {least, 2 - least}


def spot(row: int, column: int, side=41) -> Window:
    image = torch.zeros(100, 3, side, side)
    image[:, :, row - 1 : row + 2, column - 1 : column + 2] = 1
    return Window(image, torch.ones(100, dtype=torch.long), torch.ones(100, dtype=torch.bool))


def centre_of_mass(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    weight = values[:, 0] / values[:, 0].sum((1, 2), keepdim=True)
    place = torch.arange(values.shape[-1], dtype=values.dtype) - (values.shape[-1] - 1) / 2
    return (weight.sum(2) * place).sum(1), (weight.sum(1) * place).sum(1)


def test_turns_slants_and_moves_are_as_large_as_the_magnitude_says() -> None:
    rows, columns = centre_of_mass(one("rotate", given=spot(20, 32)))
    angle = torch.rad2deg(torch.atan2(rows, columns)).abs()
    torch.testing.assert_close(angle, torch.full((100,), 30.0), atol=0.5, rtol=0)
    torch.testing.assert_close((rows**2 + columns**2).sqrt(), torch.full((100,), 12.0), atol=0.05, rtol=0)
    for name, axis in (("translate_x", 1), ("translate_y", 0)):
        moved = centre_of_mass(one(name, 5.0, spot(20, 20)))
        torch.testing.assert_close(moved[axis].abs(), torch.full((100,), 0.15 * 41), atol=0.05, rtol=0)
        assert moved[1 - axis].abs().max() < 1e-3 and moved[axis].unique().numel() >= 2
    for name, place, axis in (("shear_x", (32, 20), 1), ("shear_y", (20, 32), 0)):
        slanted = centre_of_mass(one(name, given=spot(*place)))
        torch.testing.assert_close(slanted[axis].abs(), torch.full((100,), 0.3 * 12), atol=0.05, rtol=0)
        torch.testing.assert_close(slanted[1 - axis].abs(), torch.full((100,), 12.0), atol=0.05, rtol=0)


def test_a_turn_of_a_wide_image_stays_a_turn() -> None:
    values = torch.zeros(8, 3, 41, 81)
    values[:, :, 19:22, 55:58] = 1
    given = Window(values, torch.ones(8, dtype=torch.long), torch.ones(8, dtype=torch.bool))
    turned = one("rotate", given=given)[:, 0]
    weight = turned / turned.sum((1, 2), keepdim=True)
    row = (weight.sum(2) * (torch.arange(41) - 20.0)).sum(1)
    column = (weight.sum(1) * (torch.arange(81) - 40.0)).sum(1)
    torch.testing.assert_close((row**2 + column**2).sqrt(), torch.full((8,), 16.0), atol=0.05, rtol=0)
    torch.testing.assert_close(torch.atan2(row, column).abs(), torch.full((8,), math.pi / 6), atol=0.01, rtol=0)


def test_every_image_draws_its_own_operation_each_as_often() -> None:
    given = images(3000, 4, 4)
    changed = RandAugment(operations=1, among=("identity", "invert", "solarize"), magnitude=10.0)(
        given, seeded()
    ).values
    inverted = torch.isclose(changed, 1 - given.values).flatten(1).all(1)
    assert ((changed == given.values).flatten(1).all(1) | inverted).all()
    assert inverted.float().mean().item() == pytest.approx(2 / 3, abs=3 * (2 / 9 / 3000) ** 0.5)


def test_operations_follow_each_other_and_chance_leaves_some_out() -> None:
    given = images(2000, 4, 4)
    twice = RandAugment(operations=2, among=("invert",))(given, seeded()).values
    torch.testing.assert_close(twice, given.values, atol=1e-6, rtol=0)
    half = RandAugment(operations=2, among=("invert",), chance=0.5)(given, seeded()).values
    inverted = torch.isclose(half, 1 - given.values, atol=1e-6).flatten(1).all(1).float().mean().item()
    assert inverted == pytest.approx(0.5, abs=0.04)  # made once of twice


def test_a_drawn_magnitude_reaches_from_0_to_10() -> None:
    given = Window(torch.full((800, 3, 4, 4), 0.5), *images(800)[1:])
    factor = RandAugment(operations=1, magnitude=None, among=("brightness",))(given, seeded()).values[:, 0, 0, 0] / 0.5
    assert factor.min() < 0.15 and factor.max() > 1.85
    assert ((factor - 1).abs() / 0.9).mean().item() == pytest.approx(0.5, abs=0.04)


def test_rows_changed_by_themselves_are_what_the_whole_batch_gives() -> None:
    """The way of the CPU, which changes chosen rows, against that of a device, which changes all and picks."""
    given = images(60, 20, 20).values
    augment = RandAugment(magnitude=7.0, among=(*PAPER, "invert"))
    number = torch.arange(60) % 16
    size = torch.full((60,), 0.7)
    signed = torch.where(torch.arange(60) % 2 == 0, size, -size)
    found = augment.change(given, number, size, signed)
    for row in range(60):
        alone = augment.change(given[row : row + 1], number[row : row + 1], size[:1], signed[row : row + 1])
        torch.testing.assert_close(found[row : row + 1], alone, atol=1e-6, rtol=0)
    assert torch.equal(found[number == 15], given[number == 15])
    whole = given
    for names, change in CHANGES:
        draws = Draws({name: number == augment.among.index(name) for name in names}, size, signed)
        whole = tone.pick(torch.stack(list(draws.rows.values())).any(0), change(whole, draws), whole)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=0)


def test_absent_images_stay_black() -> None:
    present = torch.arange(64) % 2 == 0
    given = images()._replace(values=torch.zeros(64, 3, 12, 16), present=present)
    changed = RandAugment(among=("invert",), operations=1)(given, seeded()).values
    assert not changed[~present].any() and (changed[present] == 1).all()


def test_gradients_pass_where_the_change_has_any() -> None:
    values = images(30).values.requires_grad_()
    moved = RandAugment(among=("rotate", "contrast", "color"))(Window(values, *images(30)[1:]), seeded()).values
    F.mse_loss(moved, torch.zeros_like(moved)).backward()
    assert values.grad is not None and values.grad.isfinite().all() and values.grad.any()
