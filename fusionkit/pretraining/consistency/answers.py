"""What a model answers to one batch: as it is, and as its augmentations and lost sensors leave it."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fusionkit.augment.mixup import Mixture, mix
from fusionkit.core.levels import Batch
from fusionkit.fusion.model import FusionModel, Output
from fusionkit.pretraining.consistency.quiet import aside, quiet


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
        self._looks: list[Mapping[str, Tensor]] = []  # without gradient
        self._taught: dict[tuple[int, bool], Mapping[str, Tensor]] = {}
        self._mixed: dict[tuple[float, bool], tuple[Mixture, Mapping[str, Tensor]]] = {}

    def noisy(self, task: str, number: int = 0) -> Float[Tensor, "batch *label class_"]:
        """Log-probabilities under noise, with gradient; every number has noise of its own, and 0 that of the step."""
        with aside(self.model):
            while len(self._noisy) <= number:
                self._noisy.append(self.model(self.batch.inputs, self.generator).decisions)
        return self._noisy[number][task].float()

    def clean(self, task: str) -> Float[Tensor, "batch *label class_"]:
        """Log-probabilities for the batch as it is, all sensors there, without dropout and without gradient."""
        if self._clean is None:
            with torch.no_grad(), quiet(self.model):
                self._clean = self.model(self.batch.inputs).decisions
        return self._clean[task].float()

    def looks(self, task: str, count: int) -> Float[Tensor, "look batch *label class_"]:
        """Log-probabilities under several noises, the step's own first, without gradient."""
        known = [*self._noisy, *self._looks]
        with torch.no_grad(), aside(self.model):
            for _ in range(count - len(known)):
                self._looks.append(self.model(self.batch.inputs, self.generator).decisions)
        return torch.stack([look[task].detach().float() for look in [*self._noisy, *self._looks][:count]])

    def taught(self, teacher: Callable[..., Mapping[str, Tensor]], *, augmented: bool = True) -> Mapping[str, Tensor]:
        """What a teacher answers, by task: to the batch as it is, or augmented for it alone."""
        key = (id(teacher), augmented)
        if key not in self._taught:
            self._taught[key] = teacher(self.batch.inputs, self.generator if augmented else None)
        return self._taught[key]

    def mixed(self, alpha: float, *, closer: bool = False) -> tuple[Mixture, Mapping[str, Tensor]]:
        """Every record mixed with another one (see `mix`), and what the model answers to that, with gradient.

        Mixtures of which the record itself is the larger part (``closer``) are augmented.
        """
        key = (alpha, closer)
        if key not in self._mixed:
            mixture = mix(self.batch.inputs, alpha, self.generator, closer=closer)
            with aside(self.model):
                answered = self.model.answer(self.model.look(mixture.inputs, self.generator if closer else None))
            self._mixed[key] = mixture, answered.decisions
        return self._mixed[key]

    def labelled(self, task: str) -> Bool[Tensor, " batch"]:
        """Which records have a label."""
        target = self.batch.targets[task]
        return ~target.isnan().reshape(len(target), -1).any(1)
