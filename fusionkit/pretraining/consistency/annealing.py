"""Training signal annealing: labels are held back from records that are answered well enough already."""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Shape = Literal["linear", "log", "exp"]


def threshold(progress: Float[Tensor, ""], classes: int, shape: Shape) -> Float[Tensor, ""]:
    r""":math:`\eta_t = \alpha_t (1 - 1/K) + 1/K`, where t is the share of training that is over.

    :math:`\alpha_t` is t (``linear``), :math:`1 - e^{-5t}` (``log``) or :math:`e^{5(t-1)}` (``exp``): with ten classes,
    half-way, 0.55, 0.9261 and 0.1739.

    Reference:
        Xie et al., "Unsupervised Data Augmentation for Consistency Training", NeurIPS 2020.
    """
    passed = {
        "linear": lambda: progress,
        "log": lambda: 1 - torch.exp(-5 * progress),
        "exp": lambda: torch.exp(5 * (progress - 1)),
    }[shape]()
    return passed * (1 - 1 / classes) + 1 / classes


def hold_back(
    answer: Float[Tensor, "batch *label class_"], target: Float[Tensor, "batch *label"], limit: Float[Tensor, ""]
) -> Float[Tensor, "batch *label"]:
    """Targets without those of records whose true class has more probability than ``limit``.

    A record with several labels is held back where that is so of every one. NaN stands for no label, as everywhere.
    """
    known = ~target.isnan()
    index = torch.where(known, target, torch.zeros_like(target)).long()
    sure = answer.detach().gather(-1, index[..., None])[..., 0] > torch.log(limit)
    sure = sure.reshape(len(sure), -1).all(1).reshape(-1, *(1 for _ in target.shape[1:]))
    return torch.where(sure, torch.full_like(target, math.nan), target)
