"""Jigsaw: orders that are far from each other, tiles where they belong, and a loss by a loop."""

import pytest
import torch

from fusionkit.core.registry import objectives
from fusionkit.pretraining import jigsaw
from fusionkit.pretraining.jigsaw import cut_tiles, far_orders
from fusionkit.pretraining.picture import Picture


@pytest.mark.parametrize(("count", "least"), [(2, 9), (10, 8), (100, 6)])
def test_orders_differ_from_each_other_in_as_many_places_as_is_said(count, least):
    orders = far_orders(count)
    distance = (orders[:, None] != orders[None]).sum(2)
    assert int(distance[~torch.eye(count, dtype=torch.bool)].min()) == least
    assert torch.equal(orders.sort(1).values, torch.arange(9).expand(count, 9))
    assert torch.equal(orders[0], torch.arange(9))
    inverse = orders.argsort(1)
    assert torch.equal(orders.gather(1, inverse), torch.arange(9).expand(count, 9))


def test_a_tile_lies_in_its_cell(monkeypatch):
    monkeypatch.setattr(jigsaw, "KEPT", 1.0)
    image = torch.arange(9.0).reshape(1, 1, 3, 3).repeat(2, 3, 1, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    tiles = cut_tiles(Picture("image", 12, 12, None), image, torch.Generator().manual_seed(0)).unflatten(0, (9, 2))
    for number in range(9):
        torch.testing.assert_close(tiles[number][..., 2:-2, 2:-2], torch.full((2, 3, 8, 8), float(number)))


def test_tiles_move_within_their_cells_and_differ_between_images():
    ramp = torch.arange(12.0).expand(12, 12)
    image = torch.stack([ramp, ramp.T, ramp])[None].repeat(6, 1, 1, 1)
    tiles = cut_tiles(Picture("image", 12, 12, None), image, torch.Generator().manual_seed(0)).unflatten(0, (9, 6))
    assert float(tiles[0, :, 0].max()) <= 3.5 and float(tiles[8, :, 0].min()) >= 7.5
    assert len(tiles[0, :, 0].mean((1, 2)).unique()) == 6


@pytest.mark.parametrize("kind", ["image_cnn", "transformer"])
def test_equals_a_loop_over_images(stage, kind, monkeypatch):
    made = stage(image=kind)
    made.model.eval()
    objective = objectives.build("jigsaw", {"orders": 5, "hidden": 8}, made.given)
    batch = made.batch(absent={("image", 1)})
    encoded = []
    stream = Picture.stream
    monkeypatch.setattr(Picture, "stream", lambda *taken: encoded.append(stream(*taken)) or encoded[-1])
    loss = made.loss(objective, batch, seed=3)
    draw = torch.rand(5, generator=torch.Generator().manual_seed(3))
    total = []
    for record in (0, 2, 3, 4):
        order = int(draw[record] * 5)
        tiles = [encoded[0].values[tile * 5 + record].mean(0) for tile in objective.orders[order].tolist()]
        total.append(-objective.heads["image"](torch.cat(tiles)[None]).log_softmax(1)[0, order])
    torch.testing.assert_close(loss, torch.stack(total).mean())


def test_absent_images_get_no_gradient_and_others_reach_the_encoder(stage):
    made = stage(image="image_cnn")
    objective = objectives.build("jigsaw", {"orders": 4}, made.given)
    made.loss(objective, made.batch(absent={("image", 0)})).backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in made.model.encoders.parameters())
    made.model.zero_grad()
    loss = made.loss(objective, made.batch(absent={("image", record) for record in range(5)}))
    loss.backward()
    assert float(loss.detach()) == 0.0 and not any(p.grad.any() for p in made.model.encoders.parameters())
