"""What a model answers to one batch: as it is, and as its augmentations and lost sensors leave it."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fusionkit.core.levels import Batch
from fusionkit.fusion.model import FusionModel, Output
from fusionkit.pretraining.consistency.quiet import quiet


class Answers:
    """One batch as consistency methods see it. What one of them has had computed the others share.

    Args:
        model: the model in training.
        batch: labelled and unlabelled records, NaN for a label that is missing.
        noisy: what the model answered to the batch in the step itself: augmented, some sensors dropped, with dropout.
        generator: draws everything.
    """

    def __init__(self, model: FusionModel, batch: Batch, noisy: Output, generator: torch.Generator) -> None:
        self.model, self.batch, self.generator = model, batch, generator
        self._noisy: list[Mapping[str, Tensor]] = [noisy.decisions]
        self._clean: Mapping[str, Tensor] | None = None

    def noisy(self, task: str, number: int = 0) -> Float[Tensor, "batch *label class_"]:
        """Log-probabilities under noise, with gradient; every number has noise of its own, and 0 that of the step."""
        while len(self._noisy) <= number:
            self._noisy.append(self.model(self.batch.inputs, self.generator).decisions)
        return self._noisy[number][task].float()

    def clean(self, task: str) -> Float[Tensor, "batch *label class_"]:
        """Log-probabilities for the batch as it is, all sensors there, without dropout and without gradient."""
        if self._clean is None:
            with torch.no_grad(), quiet(self.model):
                self._clean = self.model(self.batch.inputs).decisions
        return self._clean[task].float()

    def labelled(self, task: str) -> Bool[Tensor, " batch"]:
        """Which records have a label."""
        target = self.batch.targets[task]
        return ~target.isnan().reshape(len(target), -1).any(1)
