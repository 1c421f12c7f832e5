"""Measures of an encoder that forgets what it is given: embeddings that are all alike, or that fill few directions."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

COLLAPSED = 0.02
"""Below this spread embeddings are said to be collapsed: their cosines are above 0.999 on average."""


def spread(embedding: Float[Tensor, "batch dim"], here: Bool[Tensor, " batch"]) -> Float[Tensor, ""]:
    r"""Root mean square deviation of unit vectors from their mean: :math:`\sqrt{\sum_d \mathrm{Var}(\hat z_d)}`.

    1 where embeddings point everywhere alike (a standard deviation of :math:`1/\sqrt{d}` in each of d dimensions), 0 where
    all are one: 1 for the four unit vectors along two axes. Fewer than two records give 0.

    Args:
        embedding: of every record.
        here: records that count.

    Reference:
        Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021, section 4.1 (its measure is the
        standard deviation of one dimension).
    """
    unit, weight = _unit(embedding), here.float()[:, None]
    count = weight.sum().clamp_min(1)
    mean = (unit * weight).sum(0) / count
    return (((unit - mean).square() * weight).sum() / count).sqrt()


def alignment(
    first: Float[Tensor, "batch dim"], second: Float[Tensor, "batch dim"], here: Bool[Tensor, " batch"]
) -> Float[Tensor, ""]:
    r"""Mean :math:`\lVert \hat u - \hat v \rVert^2` between two looks at one record: 0 where they agree, 2 where orthogonal.

    Args:
        first: embeddings of one look.
        second: of the other.
        here: records that count.

    Reference:
        Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
        Hypersphere", ICML 2020.
    """
    distance = (_unit(first) - _unit(second)).square().sum(1)
    return torch.where(here, distance, torch.zeros_like(distance)).sum() / here.sum().clamp_min(1)


def uniformity(embedding: Float[Tensor, "batch dim"], here: Bool[Tensor, " batch"]) -> Float[Tensor, ""]:
    r"""Logarithm of the mean :math:`e^{-2 \lVert \hat z_i - \hat z_j \rVert^2}` over pairs: 0 where all are one, -4 at best.

    Two opposite vectors give -8 (more than two cannot be as far apart); fewer than two records give 0.

    Args:
        embedding: of every record.
        here: records that count.

    Reference:
        Wang and Isola, ICML 2020.
    """
    unit = _unit(embedding)
    pair = here[:, None] & here[None] & ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    exponent = (4 * (unit @ unit.T) - 4).masked_fill(~pair, -math.inf)
    count = pair.sum()
    found = exponent.flatten().logsumexp(0) - count.clamp_min(1).log()
    return torch.where(count > 0, found, torch.zeros_like(found))


def _unit(embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
    return F.normalize(embedding.float(), dim=1)
