"""Losses weighed so that tasks pull on the shared layers with gradients of matching size."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusionkit.core.registry import balancing
from fusionkit.losses.balancing.balance import Balance, Norms, Outcome

LEAST = 1e-3  # a weight stays above 0: a task that counts nothing could never come back


@balancing.register("gradnorm")
class GradNorm(Balance):
    r"""Move the weights until the tasks' gradients in the last shared layer have sizes that fit their pace.

    With :math:`G_k = \lVert \nabla_W w_k L_k \rVert`, its mean :math:`\bar G`, and the pace :math:`r_k`, a task's
    loss as a share of its first one over the mean of these shares, the weights descend

    .. math:: L_{grad} = \sum_k \lvert G_k - \bar G r_k^\alpha \rvert

    where the target :math:`\bar G r_k^\alpha` is held fixed, and are then scaled to sum to the number of tasks. Norms
    2 and 4, weights 1 and 1, losses 0.5 and 0.8 of first ones 1 and 1, and alpha 1.5 give targets 2.02398 and
    4.09625, and :math:`L_{grad} = 0.12023`.

    W is the last weight matrix of what the heads read: the operation (or encoder) that makes each readout. The paper
    leaves the step to the optimiser of the network; ours is plain descent on :math:`L_{grad} / \bar G`, so that
    ``lr`` means the same whatever the scale of losses, and no weight falls under 0.001. Both are our choice.

    Args:
        alpha: how much more a slow task gets; 0 makes all gradients equally large.
        lr: step of the weights.

    Reference:
        Chen, Badrinarayanan, Lee, Rabinovich, GradNorm, ICML 2018 (alpha 1.5 and 0.025 on NYUv2).
    """

    compares_norms: ClassVar[bool] = True
    weight: Tensor
    first: Tensor

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        *,
        alpha: Annotated[float, Field(ge=0, allow_inf_nan=False, description="how much more a slow task gets")] = 1.5,
        lr: Annotated[float, Field(gt=0, allow_inf_nan=False, description="step of the weights")] = 0.025,
    ) -> None:
        super().__init__(outcomes)
        self.alpha, self.lr = alpha, lr
        self.register_buffer("weight", torch.ones(len(self.outcomes)))
        self.register_buffer("first", torch.full((len(self.outcomes),), torch.nan))

    def forward(self, losses: Float[Tensor, " task"], labelled: Bool[Tensor, " task"]) -> Float[Tensor, " task"]:
        """Weight times loss; the weight has no gradient from here."""
        return torch.where(labelled, self.weight.clone() * losses, torch.zeros_like(losses))

    def weights(self) -> Float[Tensor, " task"]:
        """The weights as they are; they sum to the number of tasks."""
        return self.weight.clone()

    def targets(
        self, norms: Float[Tensor, " task"], losses: Float[Tensor, " task"], labelled: Bool[Tensor, " task"]
    ) -> Float[Tensor, " task"]:
        r"""Sizes :math:`\bar G r_k^\alpha` that the gradients should have; ``norms`` are those of unweighted losses."""
        share = losses / self.first.clamp_min(torch.finfo(losses.dtype).tiny)
        pace = share / _mean(share, labelled).clamp_min(torch.finfo(losses.dtype).tiny)
        return _mean(self.weight * norms, labelled) * pace**self.alpha

    @torch.no_grad()
    def learn(self, losses: Float[Tensor, " task"], labelled: Bool[Tensor, " task"], norms: Norms) -> None:
        """One step of the weights of tasks that have labels; the others keep theirs."""
        with torch.enable_grad():
            norm = norms(losses).detach()
        losses = losses.detach()
        self.first.copy_(torch.where(labelled & self.first.isnan(), losses, self.first))
        actual = self.weight * norm
        mean = _mean(actual, labelled).clamp_min(torch.finfo(losses.dtype).tiny)
        slope = torch.sign(actual - self.targets(norm, losses, labelled)) * norm / mean
        moved = (self.weight - self.lr * slope).clamp_min(LEAST)
        here = labelled.to(losses.dtype)
        moved = moved * (self.weight * here).sum() / (moved * here).sum().clamp_min(LEAST)
        self.weight.copy_(torch.where(labelled, moved, self.weight))


def _mean(values: Float[Tensor, " task"], labelled: Bool[Tensor, " task"]) -> Float[Tensor, ""]:
    """Over tasks that have labels."""
    return torch.where(labelled, values, torch.zeros_like(values)).sum() / labelled.sum().clamp_min(1)
