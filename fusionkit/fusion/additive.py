"""Additive: early fusion, every sensor's features mapped to one width and averaged on one clock."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from fusionkit.core.levels import Features, FeatureShape, any_present
from fusionkit.core.registry import fusion
from fusionkit.fusion.align import align_features, aligned_width, bin_times
from fusionkit.fusion.operation import EarlyFusion


@fusion.register("additive")
class Additive(EarlyFusion):
    r"""Add the features of every sensor, step by step, for one joint encoder.

    On the window's clock each sensor's features go through a linear map of its own to one width, and

    .. math:: y_t = \frac{1}{M_t} \sum_{m\ \mathrm{there\ at}\ t} (W_m x_{m,t} + b_m)

    with :math:`M_t` how many sensors have something in bin t; ``sum`` leaves the division out. The mean is the
    default since its size does not change when a sensor is missing; the sum says by its size how many there are.
    Streams with time are averaged into ``steps`` bins of the window, others repeated. The joint stream is as wide
    with ten sensors as with two. Maps to 3 and to 5 give 4, or 8 as a sum; without the second sensor 3.

    Args:
        inputs: what is known of each feature stream.
        duration: length of the window in seconds; None where no stream has time, and then there is one step.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureShape],
        duration: float | None,
        *,
        width: Annotated[int, Field(ge=1, description="numbers per step that every sensor is mapped to")] = 64,
        steps: Annotated[int, Field(ge=1, description="equal bins of the window, the common clock")] = 4,
        rule: Annotated[Literal["mean", "sum"], Field(description="over the sensors that are there")] = "mean",
    ) -> None:
        super().__init__(inputs, duration)
        self.width, self.rule = width, rule
        self.steps = 1 if duration is None else steps
        self.maps = nn.ModuleList(nn.Linear(aligned_width(shape), width) for shape in self.inputs.values())

    @property
    def shape(self) -> FeatureShape:
        """One width, whatever comes in."""
        return FeatureShape(self.width, 1, steps=self.steps, timed=self.duration is not None, trains=True)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Join one batch; a step is real where any sensor has something in it."""
        blocks, real = align_features(inputs, self.inputs, self.steps, self.duration)
        mapped = torch.stack([layer(block) for layer, block in zip(self.maps, blocks, strict=True)], 2)
        weight = real.to(mapped.dtype)
        if self.rule == "mean":
            weight = weight / weight.sum(2, keepdim=True).clamp_min(1)
        values = (mapped * weight[..., None]).sum(2)[..., None]
        present = any_present(inputs[name] for name in self.inputs)
        return Features(values, real.any(2), present, bin_times(self.steps, self.duration, values))
