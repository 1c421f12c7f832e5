"""Losses weighed by how fast each has been falling."""

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusionkit.core.registry import balancing
from fusionkit.losses.balancing.balance import Balance, Norms, Outcome


@balancing.register("dwa")
class DynamicWeightAverage(Balance):
    r"""Give more to the task whose loss fell least between the last two epochs.

    With mean training losses :math:`L_k` of the last epochs, K tasks and temperature T,

    .. math:: w_k(t) = K \, \mathrm{softmax}_k(r_k / T), \qquad r_k = L_k(t-1) / L_k(t-2)

    The first two epochs count all alike. Losses that went from 1 to 0.5 and from 1 to 1 give, at temperature 2,
    weights 0.8756 and 1.1244. A task without a label in an epoch keeps the ratio it had (1 where it had none).

    Args:
        temperature: a large one makes weights equal.

    Reference:
        Liu, Johns, Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019.
    """

    total: Tensor
    batches: Tensor
    means: Tensor
    weight: Tensor

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        *,
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False, description="large: weights equal")] = 2.0,
    ) -> None:
        super().__init__(outcomes)
        self.temperature = temperature
        tasks = len(self.outcomes)
        self.register_buffer("total", torch.zeros(tasks))
        self.register_buffer("batches", torch.zeros(tasks))
        self.register_buffer("means", torch.full((2, tasks), torch.nan))  # of the last epoch, and of the one before
        self.register_buffer("weight", torch.ones(tasks))

    def forward(self, losses: Float[Tensor, " task"], labelled: Bool[Tensor, " task"]) -> Float[Tensor, " task"]:
        """Weight times loss."""
        return torch.where(labelled, self.weight * losses, torch.zeros_like(losses))

    def weights(self) -> Float[Tensor, " task"]:
        """The weights of this epoch; they sum to the number of tasks."""
        return self.weight.clone()

    @torch.no_grad()
    def learn(self, losses: Float[Tensor, " task"], labelled: Bool[Tensor, " task"], norms: Norms) -> None:
        """Add a batch to the means of this epoch."""
        self.total += torch.where(labelled, losses.detach(), torch.zeros_like(losses))
        self.batches += labelled

    @torch.no_grad()
    def close_epoch(self) -> None:
        """Take the means of this epoch, and weights for the next."""
        known = self.batches > 0
        mean = self.total / self.batches.clamp_min(1)
        self.means.copy_(torch.where(known, torch.stack([mean, self.means[0]]), self.means))
        ratio = self.means[0] / self.means[1].clamp_min(torch.finfo(mean.dtype).tiny)
        ratio = torch.where(ratio.isnan(), torch.ones_like(ratio), ratio)
        if not bool(self.means[1].isnan().all()):
            self.weight.copy_(len(ratio) * (ratio / self.temperature).softmax(0))
        self.total.zero_()
        self.batches.zero_()
