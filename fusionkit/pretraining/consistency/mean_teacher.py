"""Mean teacher: the answer under noise follows that of the mean of the weights so far."""

from collections.abc import Mapping
from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusionkit.core.registry import consistency
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.consistency import Consistency, Ramp, Ratio, Weight
from fusionkit.pretraining.consistency.divergence import squared_distance
from fusionkit.pretraining.consistency.teacher import Teacher

Decay = Annotated[float, Field(ge=0, lt=1, description="of the teacher's weights, once it has begun")]


@consistency.register("mean_teacher")
class MeanTeacher(Consistency):
    r"""The answer to every record follows that of the mean of the weights so far.

    The loss is the mean of :math:`\lVert p_{\theta'}(x, \xi') - p_\theta(x, \xi) \rVert^2 / C`. The `Teacher` :math:`\theta'` gets no gradient. It sees an augmentation of its own, but all sensors of a record and
    no dropout (our choice); the student answers in the end.

    Reference:
        Tarvainen and Valpola, "Mean Teachers Are Better Role Models", NeurIPS 2017.
    """

    def __init__(
        self,
        tasks: Mapping[str, float],
        steps: int,
        *,
        weight: Weight = 10.0,
        ratio: Ratio = 3,
        ramp: Ramp = 0.3,
        decay: Decay = 0.99,
    ) -> None:
        super().__init__(tasks, steps, weight, ratio, ramp)
        self.teacher = Teacher(decay)

    def loss(self, task: str, answers: Answers) -> Float[Tensor, ""]:
        target = answers.taught(self.teacher)[task].float()
        return squared_distance(target, answers.noisy(task)).mean()

    def bind(self, model: FusionModel) -> None:
        self.teacher.bind(model)

    def settle(self, model: FusionModel) -> None:
        super().settle(model)
        self.teacher.settle(model, self.step)
