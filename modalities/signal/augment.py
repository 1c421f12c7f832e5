"""Changes of a time series that leave its label true; on the batch's device."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from fusionkit.augment.augmentation import WindowAugmentation, choose, uniform
from fusionkit.core.levels import Window
from fusionkit.core.registry import augment

Probability = Annotated[float, Field(ge=0, le=1, description="share of samples that are changed")]


@augment.register("signal_scale")
class SignalScale(WindowAugmentation):
    """Multiply a sample by one factor for all its channels, as another amplifier would.

    Args:
        most: the factor lies between 1 / (1 + most) and 1 + most, evenly in its logarithm.
        probability: share of samples that are changed.
    """

    axes: ClassVar[int] = 2

    def __init__(
        self,
        *,
        most: Annotated[float, Field(gt=0, description="largest change, 0.2 is up to a fifth more")] = 0.2,
        probability: Probability = 0.5,
    ) -> None:
        super().__init__()
        self.most = most
        self.probability = probability

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Scale some samples of one batch."""
        values = stream.values
        chosen = choose(values.shape[0], self.probability, values, generator)
        exponent = torch.where(chosen, uniform((values.shape[0],), values, generator) * 2 - 1, 0.0)
        factor = (1 + self.most) ** exponent
        return stream._replace(values=values * factor.to(values.dtype)[:, None, None])
