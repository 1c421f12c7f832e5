"""A trunk per task, held together by a penalty on how their weights differ."""

from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SoftSharing(nn.Module):
    r"""Tasks do not share a layer, they have layers that are alike.

    Task t reads :math:`h_t = h + \mathrm{GELU}(W_t h + b_t)`, and training adds

    .. math:: \lambda \sum_{i<j} \lVert W_i - W_j \rVert_F^2 + \lVert b_i - b_j \rVert^2

    With :math:`\lambda = 0` the trunks are independent; a large one makes them equal. Three tasks whose weights
    differ by 1 in one entry each pair cost 3 lambda. That the trunk is one residual layer on the readout, above
    encoders and fusion which all tasks share, is our choice: the slides draw a whole network per task.

    Args:
        dim: width of the readout.
        tasks: how many tasks there are.
        penalty: lambda.

    Reference:
        Larson, Machine Learning Lecture Notes (multi-task slides); Duong et al., Low Resource Dependency Parsing,
        ACL 2015, with the same penalty for two networks.
    """

    def __init__(self, dim: int, tasks: int, *, penalty: float) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(nn.Linear(dim, dim) for _ in range(tasks))
        self.penalty = penalty

    def forward(self, vector: Float[Tensor, "batch dim"], task: int) -> Float[Tensor, "batch dim"]:
        """What task number ``task`` reads."""
        return vector + nn.functional.gelu(self.trunks[task](vector))

    def distance(self) -> Float[Tensor, ""]:
        """The penalty on what the trunks differ by."""
        total = torch.zeros((), device=next(self.parameters()).device)
        for one, other in combinations(self.trunks, 2):
            for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
                total = total + (mine - theirs).square().sum()
        return self.penalty * total
