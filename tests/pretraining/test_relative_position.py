"""Relative position: pieces on the side that is said, one colour of each, and a loss by a loop."""

import pytest
import torch

from fusionkit.core.registry import objectives
from fusionkit.pretraining.picture import Picture
from fusionkit.pretraining.relative_position import cut_pair, keep_one_colour

STEPS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def test_the_second_piece_lies_on_the_drawn_side_and_touches_neither_the_first_nor_the_edge():
    side = torch.arange(8)
    ramp = torch.arange(83.0).expand(83, 83)  # about 20 pixels a piece, 10 between
    image = torch.stack([ramp.T, ramp, ramp])[None].repeat(8, 1, 1, 1)
    first, second = cut_pair(Picture("image", 83, 83, None), image, side, torch.Generator().manual_seed(0)).chunk(2)
    piece = 83 / (4 + 14 / 96)
    for row, (down, right) in enumerate(STEPS):
        moved = (second[row, :2] - first[row, :2]).mean((1, 2))
        assert moved.tolist() == pytest.approx([down * 1.5 * piece, right * 1.5 * piece], abs=2 * 7 / 96 * piece + 0.1)
    assert float(first[:, 0].mean((1, 2)).sub(41).abs().max()) <= 7 / 96 * piece + 0.1
    assert len(first[:, 0].mean((1, 2)).unique()) == 8
    heights = second[:, 0].amax((1, 2)) - second[:, 0].amin((1, 2))
    assert heights.tolist() == pytest.approx([piece - 1] * 8, abs=1.2)


def test_one_colour_stays_and_the_others_are_nearly_its_mean():
    pieces = torch.rand(40, 3, 6, 6)
    made = keep_one_colour(pieces, torch.Generator().manual_seed(0))
    same = (made == pieces).flatten(2).all(2)
    assert same.sum(1).tolist() == [1] * 40
    assert same.any(0).all()
    for row in range(40):
        kept = pieces[row, int(same[row].int().argmax())]
        lost = made[row][~same[row]]
        assert float((lost - kept.mean()).abs().max()) < 0.05 * float(kept.std()) * 1.2


@pytest.mark.parametrize("kind", ["image_cnn", "transformer"])
def test_equals_a_loop_over_images(stage, kind, monkeypatch):
    made = stage(image=kind)
    made.model.eval()
    objective = objectives.build("relative_position", {"hidden": 8}, made.given)
    encoded = []
    stream = Picture.stream
    monkeypatch.setattr(Picture, "stream", lambda *taken: encoded.append(stream(*taken)) or encoded[-1])
    loss = made.loss(objective, made.batch(absent={("image", 1)}), seed=3)
    draw = torch.rand(5, generator=torch.Generator().manual_seed(3))
    total = []
    for record in (0, 2, 3, 4):
        pair = torch.cat([encoded[0].values[record].mean(0), encoded[0].values[5 + record].mean(0)])
        total.append(-objective.heads["image"](pair[None]).log_softmax(1)[0, int(draw[record] * 8)])
    torch.testing.assert_close(loss, torch.stack(total).mean())


def test_absent_images_get_no_gradient_and_others_reach_the_encoder(stage):
    made = stage(image="image_cnn")
    objective = objectives.build("relative_position", {}, made.given)
    made.loss(objective, made.batch(absent={("image", 0)})).backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in made.model.encoders.parameters())
    made.model.zero_grad()
    loss = made.loss(objective, made.batch(absent={("image", record) for record in range(5)}))
    loss.backward()
    assert float(loss.detach()) == 0.0 and not any(p.grad.any() for p in made.model.encoders.parameters())
