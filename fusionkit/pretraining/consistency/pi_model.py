"""The Pi model: two noisy answers to one record agree."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from fusionkit.core.registry import consistency
from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.consistency import Consistency, Ramp, Ratio, Weight
from fusionkit.pretraining.consistency.divergence import squared_distance


@consistency.register("pi_model")
class PiModel(Consistency):
    r"""Two noisy answers to every record agree, whether it has a label or not.

    The loss is the mean of :math:`\lVert p(x, \xi_1) - p(x, \xi_2) \rVert^2 / C`. Each noise :math:`\xi` is an augmentation, a dropout and a choice of sensors of its own; both answers learn. The
    weight must make up for the mean over C classes and for small differences: papers use 100 times the labelled share.

    Reference:
        Laine and Aila, "Temporal Ensembling for Semi-Supervised Learning", ICLR 2017.
    """

    def __init__(
        self, tasks: Mapping[str, float], steps: int, *, weight: Weight = 10.0, ratio: Ratio = 3, ramp: Ramp = 0.3
    ) -> None:
        super().__init__(tasks, steps, weight, ratio, ramp)

    def loss(self, task: str, answers: Answers) -> Float[Tensor, ""]:
        return squared_distance(answers.noisy(task, 0), answers.noisy(task, 1)).mean()
