"""Trusted evidence: branches give evidence for classes, and doubt; Dempster's rule merges both."""

import math
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fusionkit.core.registry import fusion
from fusionkit.fusion.operation import LateFusion


@fusion.register("trusted")
class Trusted(LateFusion):
    r"""Merge opinions that know how much they know.

    A branch answers a number a class, whose softplus is evidence :math:`e`. With K classes, :math:`\alpha = e + 1`
    and :math:`S = \sum \alpha`, its belief is :math:`b = e / S`, its doubt :math:`u = K / S`. Two opinions merge by

    .. math:: b = \frac{b^1 b^2 + b^1 u^2 + b^2 u^1}{C}, \quad u = \frac{u^1 u^2}{C}, \quad
              C = 1 - \sum_{i \ne j} b^1_i b^2_j

    In evidence this is :math:`1 + e / K = \prod_m (1 + e^m / K)` for every class, whatever the order, and so it is
    computed. An absent branch has no evidence, which changes nothing. The decision is the logarithm of the expected
    probabilities :math:`\alpha / S`: evidence (2, 0) twice, of 2 classes, gives (6, 0) and 0.875.

    Training takes, of every branch present and of the merged opinion, the expected cross entropy and what remains of
    a wrong class's evidence,

    .. math:: \sum_k y_k (\psi(S) - \psi(\alpha_k)) + \lambda\, KL(D(\tilde\alpha) \,\|\, D(1)), \quad
              \tilde\alpha = y + (1 - y) \alpha

    with :math:`\lambda` from 0 to 1 over the first epochs. Validation scores the merged decision alone. A
    regression's numbers have no evidence: recipes may merge classification tasks only.

    Args:
        anneal: epochs over which lambda rises.

    Reference:
        Han, Zhang, Fu, Zhou, Trusted Multi-View Classification, ICLR 2021; the loss is that of Sensoy, Kaplan,
        Kandemir, Evidential Deep Learning to Quantify Classification Uncertainty, NeurIPS 2018.
    """

    takes_evidence: ClassVar[bool] = True
    own_loss: ClassVar[bool] = True
    epoch: Tensor

    def __init__(
        self,
        inputs: tuple[str, ...],
        *,
        anneal: Annotated[int, Field(ge=1, description="epochs over which wrong evidence becomes costly")] = 10,
    ) -> None:
        super().__init__(inputs)
        self.anneal = anneal
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    def merge_log_probabilities(
        self, decisions: Float[Tensor, "branch batch *outcome"], present: Bool[Tensor, "branch batch"]
    ) -> Float[Tensor, "batch *outcome"]:
        """Logarithm of the expected probabilities; uniform where no branch is present."""
        return merge_evidence(evidence(decisions, present)).log_softmax(-1)

    def merge_values(
        self, decisions: Float[Tensor, "branch batch value"], present: Bool[Tensor, "branch batch"]
    ) -> Float[Tensor, "batch value"]:
        """Average the present branches' numbers; where none is present, all branches' (those that are numbers)."""
        here = present[..., None]
        clean = torch.where(here, decisions, torch.zeros_like(decisions))
        anyone = torch.where(decisions.isfinite(), decisions, torch.zeros_like(decisions)).mean(0)
        mean = clean.sum(0) / here.to(clean.dtype).sum(0).clamp_min(1)
        return torch.where(here.any(0), mean, anyone)

    def loss(
        self,
        decisions: Float[Tensor, "branch batch class_"],
        present: Bool[Tensor, "branch batch"],
        target: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Sum over labelled records of the losses of their branches and of the merged opinion, and their number."""
        known = ~torch.isnan(target) & present.any(0)
        index = torch.where(known, target, torch.zeros_like(target)).long()
        share = (self.epoch.to(decisions.dtype) / self.anneal).clamp_max(1)
        single = evidence(decisions, present)
        branches = evidential_loss(single + 1, index.expand(len(decisions), -1), share)
        merged = evidential_loss(merge_evidence(single).exp(), index, share)
        total = torch.where(present, branches, torch.zeros_like(branches)).sum(0) + merged
        return torch.where(known, total, torch.zeros_like(total)).sum(), known.to(total.dtype).sum()

    def close_epoch(self) -> None:
        """Count epochs of training."""
        self.epoch += 1


def evidence(
    decisions: Float[Tensor, "branch batch *outcome"], present: Bool[Tensor, "branch batch"]
) -> Float[Tensor, "branch batch *outcome"]:
    """Softplus of the numbers; 0 where the branch is absent."""
    here = present.reshape(*present.shape, *(1 for _ in decisions.shape[2:]))
    clean = torch.where(here, decisions, torch.zeros_like(decisions))
    return torch.where(here, F.softplus(clean), torch.zeros_like(clean))


def merge_evidence(single: Float[Tensor, "branch batch *outcome"]) -> Float[Tensor, "batch *outcome"]:
    r"""Logarithm of the merged alpha.

    With :math:`L = \sum_m \log(1 + e^m / K)`, :math:`\alpha = K e^L - K + 1`; it is written so that nothing overflows.
    """
    classes = single.shape[-1]
    total = (single / classes).log1p().sum(0)
    return math.log(classes) + total + torch.log1p(-(1 - 1 / classes) * (-total).exp())


def evidential_loss(
    alpha: Float[Tensor, "*batch class_"], target: Tensor, share: Float[Tensor, ""]
) -> Float[Tensor, "*batch"]:
    r"""Expected cross entropy under the Dirichlet, and :math:`\lambda` times the evidence against wrong classes.

    Alpha (1, 1) and any target cost :math:`\psi(2) - \psi(1) = 1`.
    """
    right = target[..., None] == torch.arange(alpha.shape[-1], device=alpha.device)
    fit = torch.where(right, torch.digamma(alpha.sum(-1, keepdim=True)) - torch.digamma(alpha), 0.0).sum(-1)
    wrong = torch.where(right, torch.ones_like(alpha), alpha)
    total = wrong.sum(-1)
    divergence = (
        torch.lgamma(total)
        - math.lgamma(alpha.shape[-1])
        - torch.lgamma(wrong).sum(-1)
        + ((wrong - 1) * (torch.digamma(wrong) - torch.digamma(total)[..., None])).sum(-1)
    )
    return fit + share * divergence
