"""Images as pixels: there and back through patches, pieces cut as slices, and what is no image."""

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features
from fusionkit.modalities.image import Patches
from fusionkit.pretraining.picture import Picture, alike, crop, pictures


def test_patches_become_the_image_and_the_image_those_patches():
    image = torch.rand(2, 3, 6, 9)
    values, mask = Patches(6, 9, patch=4)(image, torch.full((2,), 9))
    features = Features(values, mask, torch.tensor([True, True]))
    picture = Picture("image", 6, 9, 4)
    assert torch.equal(picture.pixels(features), image)
    again = picture.level(features, torch.cat([image, image.flip(2)]))
    assert torch.equal(again.values[:2], values) and again.mask.shape == (4, 6) and len(again.present) == 4
    assert torch.equal(picture.pixels(again)[2:], image.flip(2))


@pytest.mark.parametrize("kind", ["image_cnn", "mlp"])
def test_tokens_of_the_unchanged_image_are_the_sensors_own(stage, kind):
    made = stage(image=kind)
    made.model.eval()
    looks = made.looks(made.batch(absent={("image", 1)}))
    picture = pictures(made.given, "rotation")["image"]
    ours = picture.stream(looks, picture.pixels(looks.batch.inputs["image"]))
    torch.testing.assert_close(ours.values, looks.clean.stream("image").values)
    if kind == "mlp":  # features that were computed before
        values, mask = made.model.front_end("image")(*looks.clean.levels["image"][:2])
        looks.batch.inputs["image"] = Features(values, mask, looks.present("image"))
        stored = picture.stream(looks, picture.pixels(looks.batch.inputs["image"]))
        torch.testing.assert_close(stored.values, ours.values)


def test_a_piece_on_whole_pixels_is_a_slice_and_the_whole_is_the_image():
    image = torch.rand(2, 3, 8, 12)
    zero = torch.zeros(2)
    torch.testing.assert_close(crop(image, zero, zero, 8.0, 12.0), image)
    piece = crop(image, torch.tensor([2.0, 4.0]), torch.tensor([6.0, 0.0]), 4.0, 6.0)
    small = torch.nn.functional.interpolate(
        torch.stack([image[0, :, 2:6, 6:], image[1, :, 4:, :6]]), (8, 12), mode="bilinear"
    )
    torch.testing.assert_close(piece[:, :, 1:-1, 1:-1], small[:, :, 1:-1, 1:-1])  # at its border it sees beyond it


def test_pieces_get_the_mean_and_spread_of_their_image():
    tiles, whole = torch.rand(4, 3, 5, 5), torch.rand(2, 3, 5, 5) * 3 + 1
    made = alike(tiles, whole)
    for row in range(4):
        assert float(made[row].mean()) == pytest.approx(float(whole[row % 2].mean()), rel=1e-5)
        assert float(made[row].std()) == pytest.approx(float(whole[row % 2].std()), rel=1e-4)
    assert torch.isfinite(alike(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))).all()


def test_a_stage_without_images_is_refused_and_others_are_passed_over(stage):
    with pytest.raises(ConfigError, match=r"rotation learns from images .* none of \['eeg', 'text'\] is one"):
        pictures(stage(eeg="transformer", text="transformer").given, "rotation")
    assert list(pictures(stage(eeg="transformer", image="mlp").given, "rotation")) == ["image"]
