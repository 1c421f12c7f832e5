"""A step near the mean gradient that helps the task which it helps least."""

import math
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusionkit.core.registry import surgery
from fusionkit.losses.balancing.surgery import Surgery

STEPS = 1000


@surgery.register("cagrad")
class CAGrad(Surgery):
    r"""Go where the worst-off task gains most, within a ball around the mean gradient.

    With the mean :math:`g_0` of the K tasks' gradients,

    .. math:: \max_d \min_k \langle g_k, d \rangle \quad \text{where} \quad \lVert d - g_0 \rVert \le c \lVert g_0 \rVert

    whose dual is :math:`\min_w g_w \cdot g_0 + c \lVert g_0 \rVert \lVert g_w \rVert` over mixtures
    :math:`g_w = \sum_k w_k g_k`, and :math:`d = g_0 + c \lVert g_0 \rVert g_w / \lVert g_w \rVert`. For (1, 0) and
    (-1, 1), c = 0.5 gives d = (0.25, 0.5), c = 0 the mean (0, 0.5). What training gets is K d, as large as a sum.
    Where the best mixture vanishes no step helps every task, and the mean is taken: our choice.

    The dual is solved on the K x K products of the gradients, by exact steps along the pair of tasks that gains most.

    Args:
        c: radius of the ball, as a share of the mean gradient.

    Reference:
        Liu, Liu, Jin, Stone, Liu, Conflict-Averse Gradient Descent for Multi-task Learning, NeurIPS 2021.
    """

    def __init__(
        self, *, c: Annotated[float, Field(ge=0, lt=1, description="how far from the mean gradient, as a share")] = 0.4
    ) -> None:
        self.c = c

    def __call__(
        self, gradients: Float[Tensor, "task parameter"], generator: torch.Generator | None = None
    ) -> Float[Tensor, " parameter"]:
        """The step, times the number of tasks."""
        tasks = len(gradients)
        wide = gradients.double()
        products = (wide @ wide.T).cpu().numpy()
        weights = solve(products, self.c)
        radius = self.c * math.sqrt(max(products.mean(), 0.0))
        length = math.sqrt(max(weights @ products @ weights, 0.0))
        share = radius / length if length > 1e-9 * math.sqrt(products.diagonal().max()) else 0.0
        mixture = torch.as_tensor(1 / tasks + share * weights).to(wide)
        return (tasks * (mixture @ wide)).to(gradients)


def solve(products: Float[np.ndarray, "task task"], c: float) -> Float[np.ndarray, " task"]:
    """Weights of the mixture that is best in the dual, from the products of the gradients."""
    tasks = len(products)
    weights = np.full(tasks, 1 / tasks)
    size = products.diagonal().max()
    if size <= 0:
        return weights
    products = products / size
    linear = products.mean(1)  # g_k . g_0
    radius = c * math.sqrt(max(products.mean(), 0.0))
    for _ in range(STEPS):
        mixed = products @ weights
        length = math.sqrt(max(weights @ mixed, 1e-30))
        slope = linear + radius * mixed / length
        low = int(slope.argmin())
        high = int(np.where(weights > 0, slope, -np.inf).argmax())
        if slope[high] - slope[low] < 1e-12:
            break
        step = _along(linear[low] - linear[high], radius, products, mixed, length, low, high)
        step = min(step, weights[high])
        if step <= 0:
            break
        weights[low] += step
        weights[high] = 0.0 if step >= weights[high] else weights[high] - step
    normalised: Float[np.ndarray, " task"] = weights / weights.sum()
    return normalised


def _along(
    linear: float,
    radius: float,
    products: Float[np.ndarray, "task task"],
    mixed: Float[np.ndarray, " task"],
    length: float,
    low: int,
    high: int,
) -> float:
    """How much weight should go from ``high`` to ``low``: where the slope along that line is 0, without bounds.

    Along it the squared length is ``length^2 + 2 q t + r t^2``; the slope vanishes where ``u = q + r t`` is
    ``k sqrt(D / (1 - k^2))``, with D = r length^2 - q^2 and k = -linear / (radius sqrt(r)).
    """
    q = mixed[low] - mixed[high]
    r = products[low, low] - 2 * products[low, high] + products[high, high]
    if r <= 1e-15 or radius == 0:
        return math.inf
    k = -linear / (radius * math.sqrt(r))
    if abs(k) >= 1:
        return math.inf if k > 0 else 0.0
    u = k * math.sqrt(max(r * length**2 - q**2, 0.0) / (1 - k**2))
    return float((u - q) / r)
