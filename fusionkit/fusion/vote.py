"""Vote: merge the branches' decisions by a fixed rule, or by learned weights."""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.registry import fusion
from fusionkit.fusion.operation import LateFusion

FLOOR = -1e4  # a log-probability that is zero in every precision, and still a number


def log_sum_exp(x: Float[Tensor, "branch *rest"]) -> Float[Tensor, "*rest"]:
    """``log(sum(exp(x)))`` over the first axis; of 0 and 0, log 2."""
    top = x.detach().amax(0, keepdim=True)
    return top[0] + (x - top).exp().sum(0).log()


@fusion.register("vote")
class Vote(LateFusion):
    r"""Merge what each branch decides, counting only branches that are present.

    With :math:`p_m` the probabilities of M branches:

    - ``mean`` is :math:`\sum_m p_m / M`, ``learned`` :math:`\sum_m w_m p_m` with :math:`w` a softmax over the present
      branches.
    - ``product`` is :math:`\prod_m p_m`, renormalised (the log-opinion pool). ``bayes`` divides it M - 1 times by the
      classes' shares in training, :math:`\prod_m p_m / \pi^{M-1}`: right where branches are independent given the
      class and know their prior. The two agree for a flat prior. Without any branch ``bayes`` answers the prior.
    - ``max`` is :math:`\max_m p_m`, renormalised.
    - ``majority`` counts a vote a branch for its likeliest class; the mean probability counts as one vote more, so
      that it breaks ties and nothing is impossible: :math:`(v + \bar p) / (M + 1)`. That vote is our choice.

    Of (0.6, 0.4) and (0.7, 0.3) the mean is (0.65, 0.35), the product (0.42, 0.12) / 0.54 = (0.7778, 0.2222), bayes
    after a prior of (0.8, 0.2) (0.525, 0.6) / 1.125 = (0.4667, 0.5333), max (0.7, 0.4) / 1.1 = (0.6364, 0.3636), and
    majority (2.65, 0.35) / 3 = (0.8833, 0.1167). Numbers (a regression) are averaged, with the learned weights where
    there are some.

    Reference:
        Ramachandram and Taylor, "Deep Multimodal Learning", IEEE Signal Processing Magazine 34(6), 2017;
        Kittler et al., "On Combining Classifiers", IEEE TPAMI 20(3), 1998, for bayes, max and majority.
    """

    prior: Tensor | None

    def __init__(
        self,
        inputs: tuple[str, ...],
        *,
        rule: Annotated[
            Literal["mean", "product", "bayes", "max", "majority", "learned"],
            Field(description="how the branches' probabilities are merged"),
        ] = "mean",
    ) -> None:
        super().__init__(inputs)
        self.rule = rule
        self.weight = nn.Parameter(torch.zeros(len(self.inputs))) if rule == "learned" else None
        self.register_buffer("prior", None)

    def bind(self, prior: Float[Tensor, "*outcome"]) -> None:
        """Take the logarithm of the classes' shares in training, which ``bayes`` divides by."""
        if self.rule == "bayes":
            self.prior = prior.clamp_min(FLOOR)

    def _log_weights(self, present: Bool[Tensor, "branch batch"], dtype: torch.dtype) -> Float[Tensor, "branch batch"]:
        """Logarithm of the weights of the present branches, which sum to 1; `FLOOR` or less where absent."""
        raw = torch.zeros_like(present, dtype=dtype)
        if self.weight is not None:
            raw = raw + self.weight.to(dtype)[:, None]
        raw = torch.where(present, raw, torch.full_like(raw, FLOOR))
        return raw - log_sum_exp(raw)

    def merge_log_probabilities(
        self, decisions: Float[Tensor, "branch batch *outcome"], present: Bool[Tensor, "branch batch"]
    ) -> Float[Tensor, "batch *outcome"]:
        """Merge normalised log-probabilities; without a branch uniform, or the prior under ``bayes``."""
        here = present.reshape(*present.shape, *(1 for _ in decisions.shape[2:]))
        clean = torch.where(here, decisions, torch.zeros_like(decisions)).clamp_min(FLOOR)
        if self.rule == "product" or (self.rule == "bayes" and self.prior is None):
            return clean.sum(0).log_softmax(-1)
        if self.rule == "bayes" and self.prior is not None:
            known = here.to(clean.dtype).sum(0) - 1
            return (clean.sum(0) - known * self.prior.to(clean.dtype)).log_softmax(-1)
        if self.rule == "max":
            best = torch.where(here, clean, torch.full_like(clean, 2 * FLOOR)).amax(0)
            return torch.where(here.any(0), best, torch.zeros_like(best)).log_softmax(-1)
        weights = self._log_weights(present, decisions.dtype).reshape(here.shape)
        score = torch.where(here, clean + weights, torch.full_like(clean, 2 * FLOOR))
        merged = torch.where(here.any(0), log_sum_exp(score), torch.zeros_like(score[0])).log_softmax(-1)
        if self.rule == "majority":
            classes = torch.arange(clean.shape[-1], device=clean.device)
            vote = (clean.argmax(-1, keepdim=True) == classes) & here
            return (vote.to(clean.dtype).sum(0) + merged.exp()).log().log_softmax(-1)
        return merged

    def merge_values(
        self, decisions: Float[Tensor, "branch batch value"], present: Bool[Tensor, "branch batch"]
    ) -> Float[Tensor, "batch value"]:
        """Average the present branches' numbers; where none is present, all branches' (those that are numbers)."""
        weights = torch.where(present, self._log_weights(present, decisions.dtype).exp(), 0.0)[..., None]
        clean = torch.where(present[..., None], decisions, torch.zeros_like(decisions))
        anyone = torch.where(decisions.isfinite(), decisions, torch.zeros_like(decisions)).mean(0)
        return torch.where(present.any(0)[:, None], (weights * clean).sum(0), anyone)
