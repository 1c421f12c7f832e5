"""What electrodes would measure, had the cap been turned about the head."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

TERMS, STIFFNESS, SMOOTHING = 50, 2, 0.0
"""Of the splines. MNE smooths those of stiffness 4 by 1e-5, which leaves 39 % of an electrode's own value of 60 where nothing
is turned; unsmoothed they make noise 21 times as strong at the edge of the cap. These change nothing there, and noise never
grows by more than a third, turned by 15 degrees."""


def turned_electrodes(
    places: Float[Tensor, "channel 3"], axis: Int[Tensor, " turn"], angle: Float[Tensor, " turn"]
) -> Float[Tensor, "turn channel channel"]:
    """Weights of every electrode for what each of them would measure elsewhere, by spherical splines.

    The head is the sphere that fits the places best. A turn by 0 is the identity, and a field that is the same everywhere
    stays what it is.

    Args:
        places: in metres.
        axis: 0 to the right ear, 1 to the nose, 2 upward.
        angle: radians, counterclockwise seen from the axis' tip.

    Reference:
        Perrin et al., Spherical splines for scalp potential and current density mapping, 1989.
    """
    unit = torch.nn.functional.normalize(places.double() - centre_of(places.double()), dim=1)
    count = len(unit)
    system = unit.new_zeros(count + 1, count + 1)
    system[:count, :count] = spline(unit @ unit.T) + SMOOTHING * torch.eye(count, dtype=unit.dtype, device=unit.device)
    system[:count, count] = system[count, :count] = 1
    solved = torch.linalg.pinv(system, hermitian=True)[:, :count]
    there = spline((unit @ turns(axis, angle.double()).mT) @ unit.T)
    weights: Tensor = there @ solved[:count] + solved[count]
    return weights


def centre_of(places: Float[Tensor, "channel 3"]) -> Float[Tensor, " 3"]:
    """Centre of the sphere that fits best by least squares: ``2 c p + (r^2 - c^2) = p^2``; the nearest where many do."""
    ones = torch.ones_like(places[:, :1])
    found: Tensor = torch.linalg.pinv(torch.cat([2 * places, ones], 1)) @ places.square().sum(1)
    return found[:3]


def turns(axis: Int[Tensor, " turn"], angle: Float[Tensor, " turn"]) -> Float[Tensor, "turn 3 3"]:
    """Matrices of rotation about a coordinate axis: a quarter about z (2) takes x to y."""
    unit = torch.eye(3, dtype=angle.dtype, device=angle.device)[axis]
    x, y, z = unit.unbind(1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    sine, cosine = angle.sin()[:, None, None], angle.cos()[:, None, None]
    return torch.eye(3, dtype=angle.dtype, device=angle.device) + sine * cross + (1 - cosine) * cross @ cross


def spline(cosine: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r""":math:`\frac{1}{4\pi} \sum_n \frac{2n + 1}{n^4 (n + 1)^4} P_n(\cos)`, with Legendre's polynomials by recurrence."""
    before, here = torch.ones_like(cosine), cosine
    total = torch.zeros_like(cosine)
    for n in range(1, TERMS + 1):
        total = total + (2 * n + 1) / (n**STIFFNESS * (n + 1) ** STIFFNESS * 4 * math.pi) * here
        before, here = here, ((2 * n + 1) * cosine * here - n * before) / (n + 1)
    return total
