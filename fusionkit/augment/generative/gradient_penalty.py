"""The penalty that keeps a critic's slope at 1 between real and made records."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from fusionkit.augment.augmentation import uniform


def gradient_penalty(
    critic: Callable[[Float[Tensor, "batch *item"]], Float[Tensor, " batch"]],
    real: Float[Tensor, "batch *item"],
    made: Float[Tensor, "batch *item"],
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    r"""Mean of :math:`(\lVert\nabla_{\hat x} D(\hat x)\rVert_2 - 1)^2`, with one :math:`\hat x` drawn alike on the line
    between each real record and the made one of its row.

    A linear critic with weights (3, 4) has the slope 5 everywhere: 16, and 160 with the paper's weight 10.

    Reference:
        Gulrajani et al., Improved Training of Wasserstein GANs, NeurIPS 2017, equation 3.
    """
    share = uniform((len(real), *(1,) * (real.ndim - 1)), real, generator).to(real.dtype)
    between = torch.lerp(made, real, share).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    length: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return (length - 1).square().mean()
