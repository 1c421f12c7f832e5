"""Pseudo-label: a record without a label gets the likeliest class for one."""

from collections.abc import Mapping
from typing import Annotated

from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import consistency
from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.consistency import Consistency, Ratio, Weight
from fusionkit.pretraining.consistency.ramp import climb
from fusionkit.pretraining.metric import mean_where


def pseudo_label(
    clean: Float[Tensor, "batch *label class_"],
    noisy: Float[Tensor, "batch *label class_"],
    unlabelled: Bool[Tensor, " batch"],
) -> Float[Tensor, ""]:
    r"""Mean over unlabelled records of :math:`-\log q_k` with :math:`k = \arg\max_c p_c`; 0 where there are none.

    p is the answer as it is, without gradient, q the one under noise: (0.7, 0.3) against (0.5, 0.5) costs log 2.

    Args:
        clean: log-probabilities of records as they are.
        noisy: of the same records changed.
        unlabelled: records that count.
    """
    loss = -noisy.gather(-1, clean.detach().argmax(-1, keepdim=True))[..., 0]
    return mean_where(loss.reshape(len(loss), -1).mean(1), unlabelled)


@consistency.register("pseudo_label")
class PseudoLabel(Consistency):
    """Every record without a label takes the likeliest class for one, once training has come some way.

    The weight of `pseudo_label` stays 0 at first and then climbs in a straight line. The labels are given anew in every step. A class that is wrong at first is learned as if it were right: begin late.

    Args:
        begin: :math:`T_1` of the paper, as a share of training.
        full: :math:`T_2`, likewise.

    Raises:
        ConfigError: it is full before it begins.

    Reference:
        Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method", ICML 2013 workshop.
    """

    def __init__(
        self,
        tasks: Mapping[str, float],
        steps: int,
        *,
        weight: Weight = 3.0,
        ratio: Ratio = 3,
        begin: Annotated[float, Field(ge=0, lt=1, description="share of training without it")] = 0.15,
        full: Annotated[float, Field(gt=0, le=1, description="share of training after which it counts in full")] = 0.8,
    ) -> None:
        super().__init__(tasks, steps, weight, ratio, 0.0)
        if begin >= full:
            raise ConfigError(f"begin must come before full, but {begin:g} does not come before {full:g}")
        self.begin, self.full = begin, full

    def loss(self, task: str, answers: Answers) -> Float[Tensor, ""]:
        return pseudo_label(answers.clean(task), answers.noisy(task), ~answers.labelled(task))

    def strength(self) -> Float[Tensor, ""]:
        return self.weight * climb(self.progress(), self.begin, self.full)
