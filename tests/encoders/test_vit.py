"""Vision transformer: counts from the paper, patches as one linear map, positions, and the encoder's contract."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError, ShapeError
from fusionkit.core.levels import Window
from fusionkit.core.registry import encoders
from fusionkit.encoders.vit import SIZES, Size, VisionTransformer, ViTEncoder, interpolate_positions


@pytest.mark.parametrize(
    ("size", "patch", "count"),
    [
        ("tiny", 16, 5_524_416),
        ("small", 16, 21_665_664),
        ("base", 16, 85_798_656),
        ("large", 16, 303_301_632),
        ("huge", 14, 630_764_800),
    ],
)
def test_has_as_many_parameters_as_the_paper_counts(size, patch, count):
    with torch.device("meta"):
        backbone = VisionTransformer(224, 224, patch=patch, size=SIZES[size])
    width, layers, _ = SIZES[size]
    patches = (224 // patch) ** 2
    formula = patch**2 * 3 * width + 2 * width + (patches + 1) * width
    formula += layers * (12 * width**2 + 13 * width) + 2 * width
    assert sum(parameter.numel() for parameter in backbone.parameters()) == count == formula


def small(height=8, width=12, patch=4) -> VisionTransformer:
    return VisionTransformer(height, width, patch=patch, size=Size(12, 2, 3))


def test_patches_are_cut_and_mapped_linearly():
    backbone = small()
    images = torch.rand(2, 3, 8, 12)
    patches = F.unfold(images, 4, stride=4).transpose(1, 2)
    expected = patches @ backbone.embed.weight.flatten(1).T + backbone.embed.bias
    torch.testing.assert_close(backbone.embed(images).flatten(2).transpose(1, 2), expected)


def test_a_block_is_what_the_paper_writes():
    block = small().blocks[0]
    z = torch.randn(2, 5, 12)
    normed = F.layer_norm(z, (12,), eps=1e-6)
    query, key, value = F.linear(normed, block.query_key_value.weight, block.query_key_value.bias).split(12, 2)
    heads = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        score = query[..., part] @ key[..., part].transpose(1, 2) / 2  # the root of 4
        heads.append(score.softmax(-1) @ value[..., part])
    middle = z + block.out(torch.cat(heads, 2))
    hidden = F.gelu(block.hidden(F.layer_norm(middle, (12,), eps=1e-6)))
    torch.testing.assert_close(block(z), middle + block.shrink(hidden))


def test_moving_patches_with_their_positions_leaves_the_class_token():
    backbone = small()
    images = torch.rand(1, 3, 8, 12)
    order = torch.randperm(6)
    cells = images.unflatten(3, (3, 4)).unflatten(2, (2, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    moved = cells[:, order].unflatten(1, (2, 3)).permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3)
    before = backbone(images)
    with torch.no_grad():
        backbone.positions[:, 1:] = backbone.positions[:, 1 + order].clone()
    after = backbone(moved)
    torch.testing.assert_close(after[:, 0], before[:, 0])
    torch.testing.assert_close(after[:, 1:], before[:, 1 + order])


def test_interpolation_to_the_same_grid_is_the_identity():
    positions = torch.randn(1, 7, 5)
    assert interpolate_positions(positions, (2, 3), (2, 3)) is positions


def test_interpolation_keeps_the_class_token_and_what_is_constant():
    positions = torch.randn(1, 7, 5)
    stretched = interpolate_positions(positions, (2, 3), (4, 5))
    assert stretched.shape == (1, 21, 5) and torch.equal(stretched[:, 0], positions[:, 0])
    flat = positions[:, :1].expand(-1, 7, -1)
    torch.testing.assert_close(interpolate_positions(flat, (2, 3), (5, 4)), flat[:, :1].expand(-1, 21, -1))
    rows = torch.arange(4.0).repeat_interleave(4)[None, :, None]
    ramp = interpolate_positions(torch.cat([rows[:, :1], rows], 1), (4, 4), (8, 8))[0, 1:, 0].reshape(8, 8)
    assert (ramp.diff(dim=0) > 0).all() and torch.allclose(ramp, ramp[:, :1].expand(8, 8), atol=1e-5)  # rows stay rows
    with pytest.raises(ShapeError, match="5 positions, got 7"):
        interpolate_positions(positions, (2, 2), (4, 4))


def test_images_of_another_size_are_taken():
    assert small()(torch.rand(2, 3, 16, 8)).shape == (2, 9, 12)
    with pytest.raises(ShapeError, match="9 x 12"):
        small()(torch.rand(2, 3, 9, 12))


def window(batch=3, side=8) -> Window:
    return Window(torch.rand(batch, 3, side, side), torch.ones(batch).long(), torch.tensor([True, False, True][:batch]))


@pytest.fixture(scope="module")
def encoder() -> ViTEncoder:
    torch.manual_seed(0)
    return ViTEncoder((3, 8, 8), 6).eval()


def test_gives_the_class_token_and_one_token_a_patch(encoder):
    tokens = encoder(window())
    assert tokens.values.shape == (3, 5, 6) and tokens.time is None
    assert tokens.mask.tolist() == [[True] * 5, [False] * 5, [True] * 5]


def test_an_absent_images_values_change_nothing(encoder):
    given = window()
    expected = encoder(given)
    for filler in (0.0, 9.0, float("nan")):
        values = given.values.clone()
        values[1] = filler
        tokens = encoder(given._replace(values=values))
        assert torch.equal(tokens.values, expected.values) and (tokens.values[1] == 0).all()


def test_no_map_follows_where_the_width_is_right_already():
    assert isinstance(ViTEncoder((3, 8, 8), 192).project, nn.Identity)


def test_it_is_registered():
    assert encoders.get("vit") is ViTEncoder


def test_patches_default_to_the_size_of_the_image():
    with torch.device("meta"):
        assert ViTEncoder((3, 224, 224), 192).backbone.patch == 16
        assert ViTEncoder((3, 32, 32), 192).backbone.patch == 4


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        ((3, 9, 8), {"patch": 4}, "4 does not divide 9 x 8"),
        ((4, 256), {}, "images"),
        ((512,), {}, "images"),
        ((1, 8, 8), {}, "images"),
    ],
)
def test_what_is_no_image_or_does_not_divide_is_refused(shape, options, said):
    with pytest.raises(ConfigError, match=said):
        ViTEncoder(shape, 8, **options)
