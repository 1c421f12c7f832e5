"""How far apart classes are, and from which level of a tree on they are one."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

WIDEST = 4.0
"""Squared distance of opposite unit vectors."""


class ClassTree(NamedTuple):
    """Classes that are near are merged level by level; one that is not known is near to none.

    Attributes:
        distance: mean squared distance between members of two classes; on the diagonal, between two members of one.
        known: classes with two members or more.
        merged: the threshold of the level that two classes are first merged at.
        level: the number of that level, from 1.
    """

    distance: Float[Tensor, "class_ class_"]
    known: Bool[Tensor, " class_"]
    merged: Float[Tensor, "class_ class_"]
    level: Int[Tensor, "class_ class_"]


def grow(
    count: Float[Tensor, " class_"],
    total: Float[Tensor, "class_ out"],
    squares: Float[Tensor, " class_"],
    levels: int,
) -> ClassTree:
    r"""The tree of classes, from sums over their members.

    :math:`d(p, q) = \operatorname{mean}_{i \in p, j \in q} \lVert r_i - r_j \rVert^2`; :math:`d_0` is the mean of
    :math:`d(p, p)` over classes, and level l merges all classes nearer than :math:`d_l = l (4 - d_0) / L + d_0`, or joined
    by a chain of such. Two classes on a line around 0 and 1, with members 0.2 apart: d(p, p) = 0.04, d(p, q) = 1.02; with
    16 levels they are merged at level 4, whose threshold is 1.03.

    Args:
        count: members of each class.
        total: sum of their embeddings, which are unit vectors.
        squares: sum of their squared lengths.
        levels: L.

    Reference:
        Ge et al., "Deep Metric Learning with Hierarchical Triplet Loss", ECCV 2018; chains are ours.
    """
    some = count.clamp_min(1)
    mean, length = total / some[:, None], squares / some
    distance = (length[:, None] + length[None] - 2 * mean @ mean.T).clamp_min(0)
    within = 2 * (length - mean.square().sum(1)).clamp_min(0) * count / (count - 1).clamp_min(1)
    distance = distance.diagonal_scatter(within)
    known = count > 1
    first = (within * known).sum() / known.sum().clamp_min(1)
    chain = distance.masked_fill(~(known[:, None] & known[None]), torch.inf).diagonal_scatter(torch.zeros_like(within))
    for link in range(len(count)):
        chain = torch.minimum(chain, torch.maximum(chain[:, link, None], chain[None, link]))
    step = (WIDEST - first) / levels
    level = (torch.floor((chain - first) / step) + 1).clamp(1, levels)
    return ClassTree(distance, known, level * step + first, level.long())
