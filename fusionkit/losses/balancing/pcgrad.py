"""Gradients that conflict lose what they conflict by."""

import torch
from jaxtyping import Float
from torch import Tensor

from fusionkit.core.registry import surgery
from fusionkit.losses.balancing.surgery import Surgery


@surgery.register("pcgrad")
class PCGrad(Surgery):
    r"""Project each task's gradient off those of other tasks that it points against, then add them up.

    For every task i, over the other tasks j in random order: where :math:`g_i' \cdot g_j < 0`,

    .. math:: g_i' \leftarrow g_i' - \frac{g_i' \cdot g_j}{\lVert g_j \rVert^2} g_j

    with the original :math:`g_j`. (1, 0) and (-1, 1) become (0.5, 0.5) and (0, 1), their sum (0.5, 1.5). From three
    tasks on the order matters; it is drawn from the seed of the training.

    Reference:
        Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020.
    """

    def __call__(
        self, gradients: Float[Tensor, "task parameter"], generator: torch.Generator | None = None
    ) -> Float[Tensor, " parameter"]:
        """Sum of the projected gradients. All of it happens in coefficients of the original ones."""
        tasks = len(gradients)
        device = generator.device if generator is not None else torch.device("cpu")
        orders = [torch.randperm(tasks, generator=generator, device=device) for _ in range(tasks)]
        products = (gradients.double() @ gradients.double().T).cpu()
        mixture = torch.eye(tasks, dtype=torch.float64)  # row i: g_i' in the original gradients
        for i, order in enumerate(orders):
            for j in order.tolist():
                conflict = mixture[i] @ products[j]
                if i != j and conflict < 0 < products[j, j]:
                    mixture[i, j] -= conflict / products[j, j]
        return mixture.sum(0).to(gradients) @ gradients
