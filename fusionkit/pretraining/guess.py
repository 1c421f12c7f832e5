"""What a wrong guess among some answers costs, over what counts."""

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from fusionkit.pretraining.metric import mean_where


def guess_loss(
    logits: Float[Tensor, "*rows answer"], right: Int[Tensor, "*rows"], counts: Bool[Tensor, "*rows"]
) -> Float[Tensor, ""]:
    r"""Mean of :math:`-\log \mathrm{softmax}(\text{logits})_\text{right}` over the rows that count, 0 where none does.

    Equal logits of four answers give log 4 = 1.3863. What does not count gets no gradient.
    """
    loss = F.cross_entropy(logits.float().flatten(0, -2), right.flatten(), reduction="none")
    return mean_where(loss, counts.flatten())
