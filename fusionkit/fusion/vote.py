"""Vote: merge the branches' decisions by their mean, their product or learned weights."""

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

    With :math:`p_m` the probabilities of branch m, ``mean`` is :math:`\sum_m p_m / M`; ``product`` the
    renormalised :math:`\prod_m p_m` (Bayes with independent branches and a flat prior); ``learned`` is
    :math:`\sum_m w_m p_m` with :math:`w` a softmax over the present branches. Of (0.6, 0.4) and (0.7, 0.3) the
    mean is (0.65, 0.35) and the product (0.42, 0.12) / 0.54 = (0.7778, 0.2222). Numbers (a regression) are
    averaged, with the learned weights where there are some.

    Reference:
        Ramachandram and Taylor, "Deep Multimodal Learning", IEEE Signal Processing Magazine 34(6), 2017.
    """

    def __init__(
        self,
        inputs: tuple[str, ...],
        *,
        rule: Annotated[
            Literal["mean", "product", "learned"], Field(description="how the branches' probabilities are merged")
        ] = "mean",
    ) -> None:
        super().__init__(inputs)
        self.rule = rule
        self.weight = nn.Parameter(torch.zeros(len(self.inputs))) if rule == "learned" else None

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
        """Merge normalised log-probabilities; uniform where no branch is present."""
        here = present.reshape(*present.shape, *(1 for _ in decisions.shape[2:]))
        clean = torch.where(here, decisions, torch.zeros_like(decisions)).clamp_min(FLOOR)
        if self.rule == "product":
            return clean.sum(0).log_softmax(-1)
        weights = self._log_weights(present, decisions.dtype).reshape(here.shape)
        score = torch.where(here, clean + weights, torch.full_like(clean, 2 * FLOOR))
        merged = torch.where(here.any(0), log_sum_exp(score), torch.zeros_like(score[0]))
        return merged.log_softmax(-1)

    def merge_values(
        self, decisions: Float[Tensor, "branch batch value"], present: Bool[Tensor, "branch batch"]
    ) -> Float[Tensor, "batch value"]:
        """Average the present branches' numbers; where none is present, all branches' (those that are numbers)."""
        weights = torch.where(present, self._log_weights(present, decisions.dtype).exp(), 0.0)[..., None]
        clean = torch.where(present[..., None], decisions, torch.zeros_like(decisions))
        anyone = torch.where(decisions.isfinite(), decisions, torch.zeros_like(decisions)).mean(0)
        return torch.where(present.any(0)[:, None], (weights * clean).sum(0), anyone)
