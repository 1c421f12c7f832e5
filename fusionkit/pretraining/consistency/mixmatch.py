"""MixMatch: guessed labels, sharpened, and mixtures of everything with everything."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import consistency
from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.consistency import Consistency, Ramp, Ratio, Weight
from fusionkit.pretraining.consistency.interpolation import Alpha
from fusionkit.pretraining.consistency.sharpen import sharpen
from fusionkit.pretraining.metric import mean_where


def guess(
    answers: Float[Tensor, "look batch *label class_"], temperature: float
) -> Float[Tensor, "batch *label class_"]:
    r"""Sharpened mean :math:`\bar p^{1/T} / \sum_k \bar p_k^{1/T}` of what was answered to several looks at a record.

    Of the looks (0.6, 0.4) and (0.8, 0.2), at T = 0.5, it is (0.8448, 0.1552). No gradient comes back.

    Args:
        answers: log-probabilities of every look.
        temperature: T.
    """
    answers = answers.detach()
    return sharpen(answers.logsumexp(0), temperature).exp()


def mixmatch(
    target: Float[Tensor, "batch *label class_"],
    mixed: Float[Tensor, "batch *label class_"],
    labelled: Bool[Tensor, " batch"],
    partner: Int[Tensor, " batch"],
    share: Float[Tensor, ""],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    r"""Mean cross entropy :math:`-\sum_c y_c \log q_c` over labelled, :math:`\lVert y - q \rVert^2 / C` over other records.

    y is the mixture of a record's target and its partner's, q the answer to the mixture of the two. Either is 0 where
    it has no records.

    Args:
        target: labels, and guesses where there are none, as probabilities.
        mixed: log-probabilities of the mixtures.
        labelled: records with a label.
        partner: of every record.
        share: of the record itself.
    """
    target = torch.lerp(target[partner], target, share.to(target.dtype))
    cross = -(target * mixed).sum(-1).reshape(len(target), -1).mean(1)
    squared = (target - mixed.exp()).square().mean(-1).reshape(len(target), -1).mean(1)
    return mean_where(cross, labelled), mean_where(squared, ~labelled)


@consistency.register("mixmatch")
class MixMatch(Consistency):
    """Labels, and sharpened guesses where there are none, hold for mixtures of records with each other.

    The cross entropy of `mixmatch` replaces the task's loss. A record is mixed before it is augmented, as `train.mixup` does (the paper augments first), all of its sensors by
    one share; each stays the larger part of its mixture. Class weights and label smoothing of a task do not apply.

    Args:
        looks: K of the paper, the noisy answers that a guess is the mean of.

    Raises:
        ConfigError: a task answers more than its labels say (``quantity`` of several labels), in the first step.

    Reference:
        Berthelot et al., "MixMatch: A Holistic Approach to Semi-Supervised Learning", NeurIPS 2019.
    """

    def __init__(
        self,
        tasks: Mapping[str, float],
        steps: int,
        *,
        weight: Weight = 10.0,
        ratio: Ratio = 1,
        ramp: Ramp = 0.3,
        temperature: Annotated[float, Field(gt=0, le=1, description="sharpens guesses")] = 0.5,
        looks: Annotated[int, Field(ge=1, le=8, description="noisy answers that make a guess")] = 2,
        alpha: Alpha = 0.75,
    ) -> None:
        super().__init__(tasks, steps, weight, ratio, ramp)
        self.temperature, self.looks, self.alpha = temperature, looks, alpha

    def supervised(self, task: str, answers: Answers) -> Float[Tensor, ""]:
        return self._losses(task, answers)[0]

    def loss(self, task: str, answers: Answers) -> Float[Tensor, ""]:
        return self._losses(task, answers)[1]

    def release(
        self, answer: Float[Tensor, "batch *label class_"], target: Float[Tensor, "batch *label"]
    ) -> Float[Tensor, "batch *label"]:
        return torch.full_like(target, torch.nan)

    def _losses(self, task: str, answers: Answers) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        guessed = guess(answers.looks(task, self.looks), self.temperature)
        label = answers.batch.targets[task]
        if guessed.shape[1:-1] != label.shape[1:]:
            raise ConfigError(
                f"mixmatch must have an answer for each label, but {task} guesses their number, too (quantity)"
            )
        classes = torch.arange(guessed.shape[-1], device=label.device)
        labelled = answers.labelled(task)
        known = labelled.reshape(-1, *(1 for _ in guessed.shape[1:]))
        target = torch.where(known, (label[..., None] == classes).to(guessed.dtype), guessed)
        mixture, mixed = answers.mixed(self.alpha, closer=True)
        return mixmatch(target, mixed[task].float(), labelled, mixture.partner, mixture.share)
