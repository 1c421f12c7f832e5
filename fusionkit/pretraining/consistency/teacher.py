"""A teacher: a copy of the whole model that follows it slowly and never trains."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusionkit.core.levels import Features, Window
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.consistency.quiet import quiet
from fusionkit.pretraining.momentum import follow


class Teacher(nn.Module):
    r"""Weights :math:`\theta' \leftarrow \alpha_t \theta' + (1 - \alpha_t) \theta` after every step t.

    :math:`\alpha_t = \min(\alpha, 1 - 1/(t + 1))`, so that the first steps, from random weights, are soon forgotten: at
    :math:`\alpha = 0.9`, weights that are 0 and follow 1 are 0.5, 0.6667, 0.75 after the first three steps.

    Args:
        decay: :math:`\alpha`.

    Reference:
        Tarvainen and Valpola, "Mean Teachers Are Better Role Models", NeurIPS 2017.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.model: FusionModel | None = None

    def bind(self, model: FusionModel) -> None:
        """Begin as a copy."""
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def forward(
        self, inputs: Mapping[str, Window | Features], generator: torch.Generator | None = None
    ) -> Mapping[str, Tensor]:
        """Log-probabilities by task, without dropout; augmented where there is a generator, never short of a sensor."""
        assert self.model is not None  # bound before the first step
        with quiet(self.model):
            return self.model.answer(self.model.look(inputs, generator)).decisions

    def settle(self, model: FusionModel, step: Tensor) -> None:
        """Follow; ``step`` counts the steps that were made, this one included."""
        assert self.model is not None
        momentum = torch.clamp(1 - 1 / (step.float() + 1), max=self.decay)
        follow(self.model, model, momentum)
