"""The small image encoder: shapes, absent images, independence of the batch, and that it learns."""

import pytest
import torch
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window, pool
from fusionkit.core.registry import encoders
from fusionkit.encoders.image_cnn import ImageCNN


def window(batch=3, height=16, width=20) -> Window:
    present = torch.arange(batch) != 1
    return Window(torch.rand(batch, 3, height, width), torch.ones(batch).long(), present)


@pytest.fixture
def encoder() -> ImageCNN:
    return ImageCNN((3, 16, 20), 6, width=8, blocks=2).eval()


def test_it_is_registered():
    assert encoders.get("image_cnn") is ImageCNN


@pytest.mark.parametrize(
    ("shape", "tokens"), [((3, 28, 28), 16), ((3, 32, 32), 16), ((3, 64, 64), 16), ((3, 96, 128), 24), ((3, 6, 5), 1)]
)
def test_the_last_grid_is_about_4_by_4(shape, tokens):
    encoder = ImageCNN(shape, 6)
    given = Window(torch.rand(2, *shape), torch.ones(2).long(), torch.ones(2, dtype=torch.bool))
    found = encoder(given)
    assert found.values.shape == (2, tokens, 6) and found.mask.all() and found.time is None


def test_rows_do_not_meet_in_training_either(encoder):
    given = window()
    encoder.train()
    encoder.dropout.p = 0.0
    together = encoder(given).values
    alone = encoder(Window(given.values[2:], given.length[2:], given.present[2:])).values
    torch.testing.assert_close(alone, together[2:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("filler", [0.0, 9.0, float("nan")])
def test_an_absent_images_values_change_nothing(encoder, filler):
    given = window()
    expected = encoder(given)
    values = given.values.clone()
    values[1] = filler
    values.requires_grad_()
    tokens = encoder(given._replace(values=values))
    assert torch.equal(tokens.values, expected.values)
    assert (tokens.values[1] == 0).all() and not tokens.mask[1].any() and tokens.mask[[0, 2]].all()
    tokens.values.sum().backward()
    assert (values.grad[1] == 0).all() and (values.grad[0] != 0).any()


def test_a_cell_sees_the_part_of_the_image_above_it(encoder):
    given = window(1)._replace(present=torch.ones(1, dtype=torch.bool))
    changed = given.values.clone()
    changed[0, :, -1, -1] += 1
    encoder.norm = torch.nn.Identity()  # norms see the whole image
    for block in encoder.blocks:
        block.norm = block.norm_add = torch.nn.Identity()
    before = encoder(given).values
    after = encoder(given._replace(values=changed)).values
    differs = (before != after).any(-1)[0].reshape(4, 5)
    assert differs[3, 4] and not differs[:1].any() and not differs[:, :2].any()  # 11 pixels either way


def test_learns_to_tell_shapes_apart():
    encoder = ImageCNN((3, 12, 12), 8, width=8, blocks=2, dropout=0.0)
    head = torch.nn.Linear(8, 2)
    label = torch.arange(40) % 2
    values = 0.05 * torch.rand(40, 3, 12, 12)
    place = torch.randint(1, 8, (40, 2))
    for row, (y, x) in enumerate(place.tolist()):  # a bar lying or standing, anywhere
        if label[row]:
            values[row, :, y, x : x + 4] = 1
        else:
            values[row, :, y : y + 4, x] = 1
    given = Window(values, torch.ones(40).long(), torch.ones(40, dtype=torch.bool))
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.01)
    for _ in range(40):
        loss = F.cross_entropy(head(pool(encoder(given))), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("shape", [(4, 256), (512,), (1, 8, 8)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ConfigError, match="images"):
        ImageCNN(shape, 8)


def test_width_is_a_multiple_of_the_groups():
    with pytest.raises(ConfigError, match="multiple of 8"):
        encoders.build("image_cnn", {"width": 12}, (3, 8, 8), 4)
