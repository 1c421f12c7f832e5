"""Interpolation consistency: the answer to a mixture of two records is the mixture of their answers."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from fusionkit.core.registry import consistency
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.consistency import Consistency, Ramp, Ratio, Weight
from fusionkit.pretraining.consistency.mean_teacher import Decay
from fusionkit.pretraining.consistency.teacher import Teacher

Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False, description="of the Beta distribution of the shares")]


def interpolation(
    taught: Float[Tensor, "batch *label class_"],
    mixed: Float[Tensor, "batch *label class_"],
    partner: Int[Tensor, " batch"],
    share: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    r"""Mean of :math:`\lVert q(\lambda x_i + (1 - \lambda) x_j) - (\lambda p_i + (1 - \lambda) p_j) \rVert^2 / C`.

    It is 0 for answers that are linear in the record. Halves of (1, 0) and (0, 1) that are answered by (1, 0) cost
    0.25.

    Args:
        taught: p, log-probabilities of every record; no gradient reaches them.
        mixed: q, log-probabilities of every mixture.
        partner: j of every record i.
        share: :math:`\lambda`.
    """
    target = taught.detach().exp()
    target = torch.lerp(target[partner], target, share.to(target.dtype))
    return (mixed.exp() - target).square().mean()


@consistency.register("interpolation")
class Interpolation(Consistency):
    """The answer to a mixture of two records is the mixture of a teacher's answers to them (ICT).

    The loss is `interpolation`, with a `Teacher`. All sensors of two records are mixed by one share, see `mix`; records with different sensors stay as they are. What
    is mixed are the windows, or the features where the encoder takes them from the cache; nothing is augmented and no
    sensor is dropped in this pass.

    Reference:
        Verma et al., "Interpolation Consistency Training for Semi-Supervised Learning", IJCAI 2019.
    """

    def __init__(
        self,
        tasks: Mapping[str, float],
        steps: int,
        *,
        weight: Weight = 10.0,
        ratio: Ratio = 3,
        ramp: Ramp = 0.3,
        alpha: Alpha = 1.0,
        decay: Decay = 0.99,
    ) -> None:
        super().__init__(tasks, steps, weight, ratio, ramp)
        self.alpha = alpha
        self.teacher = Teacher(decay)

    def loss(self, task: str, answers: Answers) -> Float[Tensor, ""]:
        taught = answers.taught(self.teacher, augmented=False)[task].float()
        mixture, mixed = answers.mixed(self.alpha)
        return interpolation(taught, mixed[task].float(), mixture.partner, mixture.share)

    def bind(self, model: FusionModel) -> None:
        self.teacher.bind(model)

    def settle(self, model: FusionModel) -> None:
        super().settle(model)
        self.teacher.settle(model, self.step)
