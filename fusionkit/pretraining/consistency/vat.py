"""Virtual adversarial training: the answer holds in the direction in which it would change most."""

from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusionkit.augment.augmentation import normal
from fusionkit.core.registry import consistency
from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.consistency import Consistency, Ramp, Ratio, Weight
from fusionkit.pretraining.consistency.divergence import divergence
from fusionkit.pretraining.consistency.perturbation import Perturbation, unit_length
from fusionkit.pretraining.consistency.quiet import quiet

Answer = Callable[[Mapping[str, Tensor]], Tensor]


def adversarial(
    answer: Answer, clean: Float[Tensor, "batch *label class_"], draw: Mapping[str, Tensor], xi: float, iterations: int
) -> dict[str, Tensor]:
    r"""Directions of length 1, a record, in which :math:`\mathrm{KL}(p(x) \,\|\, p(x + r))` grows fastest.

    Power iteration: :math:`d \leftarrow \nabla_r \mathrm{KL}` at :math:`r = \xi d / \lVert d \rVert`. Only the gradient
    of the change is taken, none of any weight.

    Args:
        answer: log-probabilities after a change.
        clean: without one.
        draw: random directions to begin with, by sensor; zeros stay zeros.
        xi: length of the step that the gradient is taken at.
        iterations: how often.
    """
    direction = unit_length(draw)
    for _ in range(iterations):
        leaves = {name: (xi * part).detach().requires_grad_() for name, part in direction.items()}
        with torch.enable_grad():
            far = divergence(clean.detach(), answer(leaves)).sum()
        found = torch.autograd.grad(far, list(leaves.values()), allow_unused=True, materialize_grads=True)
        still = {name: (draw[name] != 0).to(part.dtype) for name, part in direction.items()}
        direction = unit_length({name: part * still[name] for name, part in zip(leaves, found, strict=True)})
    return {name: part.detach() for name, part in direction.items()}


@consistency.register("vat")
class VAT(Consistency):
    r"""The answer to every record holds where a small change would alter it most.

    The loss is the mean of :math:`\mathrm{KL}(p(x) \,\|\, p(x + r))`, with r of length :math:`\epsilon`. p(x) gets no gradient. The direction is one of all sensors of a record together, each in units of its own root mean
    square over the batch (volts and pixels do not compare), where its encoder takes it: a window, or normalised features
    (of text, its embeddings). Dropout is off in all of it. Needs no augmentation; costs three passes more.

    Args:
        epsilon: of a record with n numbers, whose length is about the root of n in these units.

    Reference:
        Miyato et al., "Virtual Adversarial Training", IEEE TPAMI 41(8), 2019.
    """

    def __init__(
        self,
        tasks: Mapping[str, float],
        steps: int,
        *,
        weight: Weight = 1.0,
        ratio: Ratio = 3,
        ramp: Ramp = 0.0,
        epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False, description="length of the change")] = 6.0,
        xi: Annotated[
            float, Field(gt=0, allow_inf_nan=False, description="length of the step that looks for it")
        ] = 0.1,
        iterations: Annotated[int, Field(ge=1, le=10, description="of the search for the worst direction")] = 1,
    ) -> None:
        super().__init__(tasks, steps, weight, ratio, ramp)
        self.epsilon, self.xi, self.iterations = epsilon, xi, iterations

    def loss(self, task: str, answers: Answers) -> Float[Tensor, ""]:
        clean = answers.clean(task)
        with quiet(answers.model):
            perturbed = Perturbation(answers.model, answers.batch)
            draw = {
                name: torch.where(ground.real, normal(tuple(ground.real.shape), clean, answers.generator), 0.0)
                for name, ground in perturbed.grounds.items()
            }
            if not draw:
                return clean.new_zeros(())

            def answer(change: Mapping[str, Tensor]) -> Tensor:
                return perturbed(change)[task].float()

            worst = adversarial(answer, clean, draw, self.xi, self.iterations)
            return divergence(clean, answer({name: self.epsilon * part for name, part in worst.items()})).mean()
