"""Experts that all tasks share, mixed by a gate per task."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.fusion.branches import BranchLinear


class MixtureOfExperts(nn.Module):
    r"""Every task reads its own mixture of the same experts.

    .. math:: h_k = \sum_{i=1}^n g_k(x)_i f_i(x), \qquad g_k(x) = \mathrm{softmax}(W_k x)

    with experts :math:`f_i(x) = \mathrm{ReLU}(V_i x + c_i)` as wide as the readout. The shares sum to 1, and start
    equal; one expert is hard sharing through that layer. With shares (0.25, 0.75) and experts that answer 4 and 8, a
    task reads 7.

    Args:
        dim: width of the readout.
        tasks: how many tasks there are.
        experts: n.

    Reference:
        Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018.
    """

    def __init__(self, dim: int, tasks: int, *, experts: int) -> None:
        super().__init__()
        self.experts = BranchLinear(experts, dim, dim)
        self.gates = nn.ParameterList(torch.zeros(dim, experts) for _ in range(tasks))

    def answers(self, vector: Float[Tensor, "batch dim"]) -> Float[Tensor, "expert batch dim"]:
        """What every expert makes of the readout, computed once for all tasks."""
        spread = vector[None, :, None].expand(len(self.experts.weight), -1, -1, -1)
        answers: Tensor = self.experts(spread)
        return F.relu(answers[:, :, 0])

    def shares(self, vector: Float[Tensor, "batch dim"], task: int) -> Float[Tensor, "batch expert"]:
        """How much each expert counts for task number ``task``."""
        shares: Tensor = (vector @ self.gates[task]).softmax(-1)
        return shares

    def forward(
        self, vector: Float[Tensor, "batch dim"], answers: Float[Tensor, "expert batch dim"], task: int
    ) -> Float[Tensor, "batch dim"]:
        """What task number ``task`` reads of the experts' answers."""
        return (self.shares(vector, task).T[..., None] * answers).sum(0)
