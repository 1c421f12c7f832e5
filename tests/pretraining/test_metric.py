"""What objectives that compare embeddings share, and that half precision does not reach their cosines."""

import pytest
import torch
from torch.nn import functional as F

from fusionkit.pretraining.info_nce import info_nce
from fusionkit.pretraining.latent_transfer import same_moments
from fusionkit.pretraining.metric import Embedded, distances, mean_where, products
from fusionkit.pretraining.moco import moco
from fusionkit.pretraining.nt_xent import nt_xent
from fusionkit.pretraining.projection import Projection
from fusionkit.pretraining.supcon import supcon

HERE = torch.ones(32, dtype=torch.bool)


def pair() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = F.normalize(torch.randn(32, 16, generator=generator), dim=1)
    return [first, F.normalize(first + 0.1 * torch.randn(32, 16, generator=generator), dim=1)]


def test_the_mean_is_of_what_counts() -> None:
    values, counts = torch.tensor([1.0, torch.nan, 5.0]), torch.tensor([True, False, True])
    assert mean_where(values, counts) == 3 and mean_where(values, torch.zeros(3, dtype=torch.bool)) == 0


def test_products_are_those_of_double_precision() -> None:
    first, second = pair()
    with torch.autocast("cpu", torch.bfloat16):
        found = products(first, second)
    torch.testing.assert_close(found.double(), first.double() @ second.double().T, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: nt_xent(a, b, HERE, 0.05),
        lambda a, b: info_nce(a, b, HERE, 50.0),
        lambda a, b: moco(a, b, a.flip(0), HERE, HERE, 0.05),
        lambda a, b: supcon(Embedded(torch.cat([a, b]), (torch.arange(64) % 8), HERE.repeat(2)), 0.05),
        lambda a, b: same_moments(50 * a, 50 * b, HERE, HERE),
        lambda a, b: distances(a, b).square().mean(),
    ],
    ids=["nt_xent", "info_nce", "moco", "supcon", "moments", "distances"],
)
def test_losses_are_as_exact_under_autocast(loss) -> None:
    wanted = loss(*pair())
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(*pair())
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def test_a_projection_has_unit_length_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        made = Projection(16, 8, 4)(pair()[0])
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.norm(dim=1), torch.ones(32), atol=1e-6, rtol=0)
