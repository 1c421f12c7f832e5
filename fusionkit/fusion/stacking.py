"""Stacking: a classifier learns from the branches' decisions about records that they never saw."""

from collections.abc import Callable, Iterable
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from fusionkit.core.registry import fusion
from fusionkit.fusion.operation import LateFusion, TrainingBatch

FLOOR = -9.21  # log 1e-4: a branch that is surer is not believed more


@fusion.register("stacking")
class Stacking(LateFusion):
    r"""Fit a multinomial logistic regression to held-out decisions, and merge by it.

    With log-probabilities :math:`\log p_m` of the M branches that are present (not under log 0.0001),

    .. math:: p = \mathrm{softmax}\left(b + \tfrac1M \sum_m W_m \log p_m\right)

    where the matrices :math:`W_m` (class by class) and b minimise the cross entropy of the decisions and
    :math:`\tfrac12 \mu \sum_m \lVert W_m - I \rVert^2`. A branch that mixes two classes up is thereby corrected, one
    that knows nothing loses its weight. Without data W is the identity: branches (0.6, 0.4) and (0.7, 0.3) give
    their geometric mean (0.6517, 0.3483). Labels of a multi-label task are fitted one by one; numbers are merged by
    ridge regression on their distance from the training mean, :math:`c + b + \tfrac1M \sum_m w_m (y_m - c)` with w
    drawn to 1. Without any branch classes get their share in training.

    The training groups are cut into ``folds`` parts. Branches are trained on all but one and decide about that one;
    W is fitted to these decisions, and then the branches are trained on all. Training takes ``folds`` + 1 times as
    long. No validation or test record is used for W; validation chooses the epoch of every training, as it does
    without stacking. The mean over branches, the floor and the identity are our choices: with them a branch that is
    absent is as if it were not there.

    Args:
        folds: inner folds; as many as there are training groups where those are fewer.
        penalty: mu.

    Reference:
        Wolpert, Stacked Generalization, Neural Networks 5(2), 1992.
    """

    weight: Tensor | None
    bias: Tensor | None
    prior: Tensor | None

    def __init__(
        self,
        inputs: tuple[str, ...],
        *,
        folds: Annotated[int, Field(ge=2, description="inner folds, each with a training of the branches")] = 5,
        penalty: Annotated[
            float, Field(gt=0, allow_inf_nan=False, description="what holds matrices to identity")
        ] = 1.0,
    ) -> None:
        super().__init__(inputs)
        self.held_out = folds
        self.penalty = penalty
        for name in ("weight", "bias", "prior"):
            self.register_buffer(name, None)

    def bind(self, prior: Float[Tensor, "*outcome"]) -> None:
        """Take the shape of decisions, and the shares of classes (or the mean of numbers) in training."""
        self._start(prior.shape, prior.to(torch.float32))

    def fit(self, training_batches: Callable[[], Iterable[TrainingBatch]], generator: torch.Generator) -> None:
        """Fit to decisions about records that the branches have not seen. Nothing is drawn."""
        batches = list(training_batches())
        decisions = torch.cat([torch.stack([batch[n].values for n in self.inputs]) for batch in batches], 1).double()
        present = torch.cat([torch.stack([batch[n].present for n in self.inputs]) for batch in batches], 1)
        target = torch.cat([next(iter(batch.targets.values())) for batch in batches]).double()
        outcome = decisions.shape[2:]
        if self.prior is None:
            uniform = torch.zeros(outcome) if outcome == (1,) else torch.zeros(outcome).log_softmax(-1)
            self._start(outcome, uniform)
        assert self.weight is not None
        assert self.bias is not None
        known = present.any(0) & ~target.reshape(len(target), -1).isnan().any(1)
        decisions, present, target = decisions[:, known], present[:, known], target[known]
        if not len(target):
            return
        if outcome == (1,):
            self._fit_values(decisions[..., 0], present, target.reshape(-1))
            return
        classes = outcome[-1]
        rows = _features(decisions, present).reshape(*present.shape, -1, classes)  # branch row label class
        index = target.reshape(len(target), -1).long()
        weight = self.weight.reshape(len(self.inputs), -1, classes, classes).clone()
        bias = self.bias.reshape(-1, classes).clone()
        for label in range(rows.shape[2]):
            found = fit_logistic(rows[:, :, label], index[:, label], self.penalty)
            weight[:, label], bias[label] = found[0].to(weight), found[1].to(bias)
        self.weight.copy_(weight.reshape(self.weight.shape))
        self.bias.copy_(bias.reshape(self.bias.shape))

    def merge_log_probabilities(
        self, decisions: Float[Tensor, "branch batch *outcome"], present: Bool[Tensor, "branch batch"]
    ) -> Float[Tensor, "batch *outcome"]:
        """Merge normalised log-probabilities; the shares in training where no branch is present."""
        rows = _features(decisions, present)
        if self.weight is None or self.bias is None or self.prior is None:
            return rows.sum(0).log_softmax(-1)
        merged = (self.weight.to(rows.dtype)[:, None] @ rows[..., None])[..., 0].sum(0) + self.bias.to(rows.dtype)
        anyone = present.any(0).reshape(-1, *(1 for _ in decisions.shape[2:]))
        return torch.where(anyone, merged, self.prior.to(rows.dtype)).log_softmax(-1)

    def merge_values(
        self, decisions: Float[Tensor, "branch batch value"], present: Bool[Tensor, "branch batch"]
    ) -> Float[Tensor, "batch value"]:
        """Merge the present branches' numbers; where none is present, the mean of all that are numbers."""
        here = present[..., None]
        count = here.to(decisions.dtype).sum(0).clamp_min(1)
        anyone = torch.where(decisions.isfinite(), decisions, torch.zeros_like(decisions)).mean(0)
        centre = torch.zeros_like(anyone) if self.prior is None else self.prior.to(decisions.dtype).expand_as(anyone)
        apart = torch.where(here, decisions - centre, torch.zeros_like(decisions))
        if self.weight is None or self.bias is None:
            merged = centre + apart.sum(0) / count
        else:
            weighed = self.weight.to(decisions.dtype)[:, None, :, 0] * apart
            merged = centre + self.bias.to(decisions.dtype) + weighed.sum(0) / count
        return torch.where(here.any(0), merged, anyone)

    def _start(self, outcome: torch.Size | tuple[int, ...], prior: Tensor) -> None:
        branches = len(self.inputs)
        identity = torch.eye(outcome[-1]).expand(branches, *outcome[:-1], -1, -1)
        self.weight, self.bias, self.prior = identity.clone(), torch.zeros(tuple(outcome)), prior.clone()

    def _fit_values(
        self, decisions: Float[Tensor, "branch row"], present: Bool[Tensor, "branch row"], target: Float[Tensor, " row"]
    ) -> None:
        """Ridge regression with the offset free; the penalty is in units of the target's variance."""
        assert self.weight is not None
        assert self.bias is not None
        assert self.prior is not None
        centre = self.prior.double()
        count = present.double().sum(0)
        rows = torch.where(present, decisions - centre, 0.0) / count
        rest = target - centre - rows.sum(0)  # what weights of 1 leave
        design = torch.cat([rows, torch.ones_like(rows[:1])]).T
        hold = (
            self.penalty * target.var(correction=0).clamp_min(1e-12) * torch.eye(design.shape[1], dtype=torch.float64)
        )
        hold[-1, -1] = 0
        found = torch.linalg.solve(design.T @ design + hold, design.T @ rest)
        self.weight.copy_((1 + found[:-1]).reshape(self.weight.shape))
        self.bias.copy_(found[-1:])


def _features(
    decisions: Float[Tensor, "branch batch *outcome"], present: Bool[Tensor, "branch batch"]
) -> Float[Tensor, "branch batch *outcome"]:
    """Log-probabilities over the number of branches that are present; 0 where absent."""
    here = present.reshape(*present.shape, *(1 for _ in decisions.shape[2:]))
    clean = torch.where(here, decisions, torch.zeros_like(decisions)).clamp_min(FLOOR)
    return clean / here.to(clean.dtype).sum(0).clamp_min(1)


@torch.enable_grad()
def fit_logistic(
    rows: Float[Tensor, "branch row class_"], target: Tensor, penalty: float
) -> tuple[Float[Tensor, "branch class_ class_"], Float[Tensor, " class_"]]:
    """Weights and offsets of the regression; convex, so that any start ends there."""
    classes = rows.shape[-1]
    identity = torch.eye(classes, dtype=rows.dtype).expand(len(rows), -1, -1)
    weight, bias = identity.clone().requires_grad_(), torch.zeros(classes, dtype=rows.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        answer = torch.einsum("mij,mrj->ri", weight, rows) + bias
        hold = (weight - identity).square().sum() + 1e-6 * bias.square().sum()  # offsets are known up to a constant
        total = F.cross_entropy(answer, target, reduction="sum") + penalty / 2 * hold
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
