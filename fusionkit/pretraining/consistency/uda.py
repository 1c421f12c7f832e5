"""Unsupervised data augmentation: the answer to a changed record follows the answer to the record as it is."""

from collections.abc import Mapping
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusionkit.core.registry import consistency
from fusionkit.pretraining.consistency.annealing import hold_back, threshold
from fusionkit.pretraining.consistency.answers import Answers
from fusionkit.pretraining.consistency.consistency import Consistency, Ramp, Ratio, Weight
from fusionkit.pretraining.consistency.divergence import divergence
from fusionkit.pretraining.consistency.sharpen import sharpen


def uda(
    clean: Float[Tensor, "batch *label class_"],
    noisy: Float[Tensor, "batch *label class_"],
    temperature: float,
    confidence: float,
) -> Float[Tensor, ""]:
    r"""Mean over all records of :math:`[\max_c p_c > \beta] \, \mathrm{KL}(p^{1/T} / \textstyle\sum \,\|\, q)`.

    p is the answer as it is, without gradient, q the one under noise; p is as it was, not sharpened, where it is
    compared with the confidence. Records that are not sure enough count 0 in the mean. (0.7, 0.3) against (0.5, 0.5)
    costs 0.0823 at temperature 1 and confidence 0.6, nothing at confidence 0.7.

    Args:
        clean: log-probabilities of records as they are.
        noisy: of the same records changed.
        temperature: below 1, the target is surer than the answer was.
        confidence: the probability that the likeliest class must exceed.
    """
    clean = clean.detach()
    sure = clean.amax(-1).exp() > confidence
    return (divergence(sharpen(clean, temperature), noisy) * sure).mean()


@consistency.register("uda")
class UDA(Consistency):
    """The answer to an augmented record follows the answer to the record as it is; labels may be annealed.

    The loss is `uda` between that and the step's own answer. The recipe's augmentations and ``modality_dropout`` are the noise: what is learned with strong ones is worth most.
    With several sensors, the whole record teaches the record that lost one. Our reading: the target is computed without
    dropout.

    Args:
        annealing: holds labels back from records whose true class has more probability than a threshold that rises
            over training (see `threshold`): ``exp`` rises late, for few labels that are soon learned by heart.

    Reference:
        Xie, Dai, Hovy, Luong and Le, "Unsupervised Data Augmentation for Consistency Training", NeurIPS 2020.
    """

    def __init__(
        self,
        tasks: Mapping[str, float],
        steps: int,
        *,
        weight: Weight = 1.0,
        ratio: Ratio = 7,
        ramp: Ramp = 0.0,
        temperature: Annotated[float, Field(gt=0, le=1, description="sharpens the target")] = 0.4,
        confidence: Annotated[float, Field(ge=0, le=1, description="below it, a record counts nothing")] = 0.8,
        annealing: Annotated[
            Literal["none", "linear", "log", "exp"], Field(description="how labels are released over training")
        ] = "none",
    ) -> None:
        super().__init__(tasks, steps, weight, ratio, ramp)
        self.temperature, self.confidence, self.annealing = temperature, confidence, annealing

    def loss(self, task: str, answers: Answers) -> Float[Tensor, ""]:
        return uda(answers.clean(task), answers.noisy(task), self.temperature, self.confidence)

    def release(
        self, answer: Float[Tensor, "batch *label class_"], target: Float[Tensor, "batch *label"]
    ) -> Float[Tensor, "batch *label"]:
        if self.annealing == "none":
            return target
        return hold_back(answer, target, threshold(self.progress(), answer.shape[-1], self.annealing))
