"""Losses weighed by how uncertain the model is about each task."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusionkit.core.registry import balancing
from fusionkit.losses.balancing.balance import Balance, Outcome


@balancing.register("uncertainty")
class Uncertainty(Balance):
    r"""Learn one log-variance a task; a task that stays hard counts less, and pays for that.

    With :math:`s_k = \log \sigma_k^2`, a regression (squared error) adds
    :math:`\tfrac12 e^{-s_k} L_k + \tfrac12 s_k`, a classification :math:`e^{-s_k} L_k + \tfrac12 s_k`. Best are
    :math:`\sigma^2 = L` and :math:`\sigma^2 = 2L`: a regression with loss 4 settles at :math:`s = \log 4`, where its
    term is 1.19315. Ordinal and multi-label tasks count as classifications. The variances train with the weights of
    the model, without decay; terms may fall under 0, so validation goes on to use the recipe's weights.

    Reference:
        Kendall, Gal, Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018. They start near
        s = 0 and find the start without effect.
    """

    scale: Tensor

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        super().__init__(outcomes)
        self.log_variance = nn.Parameter(torch.zeros(len(self.outcomes)))
        scale = torch.tensor([0.5 if outcome == "value" else 1.0 for outcome in self.outcomes])
        self.register_buffer("scale", scale, persistent=False)
        self._before: tuple[Tensor, Tensor] | None = None

    def forward(self, losses: Float[Tensor, " task"], labelled: Bool[Tensor, " task"]) -> Float[Tensor, " task"]:
        """The terms, which train the log-variances too."""
        if self.training:
            self._before = self.log_variance.detach().clone(), labelled
        terms = self.scale * (-self.log_variance).exp() * losses + self.log_variance / 2
        return torch.where(labelled, terms, torch.zeros_like(terms))

    def weights(self) -> Float[Tensor, " task"]:
        """``exp(-s)``, half of it for values."""
        return self.scale * (-self.log_variance.detach()).exp()

    @torch.no_grad()
    def settle(self) -> None:
        """Undo what an optimiser's momentum did to a task without a label in the batch."""
        if self._before is not None:
            before, labelled = self._before
            self.log_variance.copy_(torch.where(labelled, self.log_variance, before))
            self._before = None
