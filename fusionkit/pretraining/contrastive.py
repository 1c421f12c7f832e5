"""Margin contrast: what is alike comes near, what is not goes beyond a margin."""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusionkit.core.registry import objectives
from fusionkit.pretraining.identity import class_task
from fusionkit.pretraining.metric import Embedded, MetricObjective, distances, mean_where
from fusionkit.pretraining.objective import Given

Form = Literal["hadsell", "lecture"]


def contrastive(
    distance: Float[Tensor, "*pair"], alike: Bool[Tensor, "*pair"], margin: float, form: Form
) -> Float[Tensor, "*pair"]:
    r"""The loss of every pair: :math:`D` if alike, else :math:`\max(0, m - D)`; of Hadsell, half the square of these.

    At a distance of 5 and margin 6, the lecture's form gives 5 and 1, Hadsell's 12.5 and 0.5. Pairs that are not alike
    and farther apart than the margin have no gradient.

    Args:
        distance: Euclidean.
        alike: which pairs should be near.
        margin: how far the others should be.
        form: ``hadsell`` or ``lecture``.

    Reference:
        Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006.
    """
    size = torch.where(alike, distance, (margin - distance).clamp_min(0))
    return size if form == "lecture" else size.square() / 2


@objectives.register("contrastive")
class Contrastive(MetricObjective):
    """`contrastive` between all pairs of two augmented looks at every record.

    The sum over pairs that are alike is divided by their number, and so is that over the others, which are many more;
    dividing is ours.

    Args:
        given: what the builder knows.

    Raises:
        ConfigError: the named task has no classes.

    Reference:
        Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006.
    """

    def __init__(
        self,
        given: Given,
        *,
        task: Annotated[
            str | None, Field(description="whose classes are alike; by default a record is alike to itself alone")
        ] = None,
        margin: Annotated[float, Field(gt=0, description="between unit vectors, whose distance is at most 2")] = 1.0,
        form: Annotated[Form, Field(description="half of squares, or the distances themselves")] = "hadsell",
        hidden: Annotated[int, Field(ge=0, description="width of the projection's layer; 0 leaves it out")] = 128,
        out: Annotated[int, Field(ge=2, description="numbers that are compared")] = 64,
    ) -> None:
        super().__init__(given, None if task is None else class_task(given.classes, task), hidden, out)
        self.margin = margin
        self.form: Form = form

    def compare(self, sensor: str, embedded: Embedded, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one sensor."""
        del sensor, generator
        alike = embedded.alike
        loss = contrastive(distances(embedded.values, embedded.values), alike, self.margin, self.form)
        return mean_where(loss, alike) + mean_where(loss, embedded.unlike)
