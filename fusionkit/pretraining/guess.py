"""What a wrong guess among some answers costs, over what counts."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def guess_loss(
    logits: Float[Tensor, "*rows answer"], right: Int[Tensor, "*rows"], counts: Bool[Tensor, "*rows"]
) -> Float[Tensor, ""]:
    r"""Mean of :math:`-\log \mathrm{softmax}(\text{logits})_\text{right}` over the rows that count, 0 where none does.

    Equal logits of four answers give log 4 = 1.3863. What does not count gets no gradient.
    """
    loss = F.cross_entropy(logits.float().flatten(0, -2), right.flatten(), reduction="none")
    counted = counts.flatten()
    return torch.where(counted, loss, torch.zeros_like(loss)).sum() / counted.sum().clamp_min(1)
