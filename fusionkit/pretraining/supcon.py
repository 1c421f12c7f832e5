"""Supervised contrast: looks at records of one class are nearer to each other than to looks at other classes."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusionkit.core.registry import objectives
from fusionkit.pretraining.identity import class_task
from fusionkit.pretraining.metric import Embedded, MetricObjective, mean_where, products
from fusionkit.pretraining.objective import Given


def supcon(embedded: Embedded, temperature: float) -> Float[Tensor, ""]:
    r"""Mean over looks of :math:`\frac{-1}{|P(i)|} \sum_{p \in P(i)} \log \frac{e^{z_i \cdot z_p / \tau}}{\sum_{k \neq i}
    e^{z_i \cdot z_k / \tau}}`.

    :math:`P(i)` are the other looks that are alike; a look without any gives 0. Where all are one, N looks give
    log(N - 1). The paper's code multiplies by :math:`\tau` over a base temperature, which is 1 by default: use ``weight``.
    """
    values = embedded.values
    cosine = products(values, values) / temperature
    itself = torch.eye(len(values), dtype=torch.bool, device=values.device)
    cosine = cosine.masked_fill(itself | ~embedded.here[None], torch.finfo(cosine.dtype).min)
    alike = embedded.alike
    share = torch.where(alike, cosine.log_softmax(1), torch.zeros_like(cosine)).sum(1)
    return mean_where(-share / alike.sum(1).clamp_min(1), embedded.here)


@objectives.register("supcon")
class SupCon(MetricObjective):
    """`supcon` between two augmented looks at every record; a record without a label is alike to itself alone.

    Without any label it is NT-Xent.

    Args:
        given: what the builder knows.

    Raises:
        ConfigError: no task has classes, or the named one has none.

    Reference:
        Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, L_out.
    """

    compares_looks: ClassVar[bool] = False  # classes tell what is alike

    def __init__(
        self,
        given: Given,
        *,
        task: Annotated[str | None, Field(description="whose classes are alike; by default the first with any")] = None,
        temperature: Annotated[float, Field(gt=0, description="divides the cosines")] = 0.07,
        hidden: Annotated[int, Field(ge=0, description="width of the projection's layer; 0 leaves it out")] = 128,
        out: Annotated[int, Field(ge=2, description="numbers that are compared")] = 64,
    ) -> None:
        super().__init__(given, class_task(given.classes, task), hidden, out)
        self.temperature = temperature

    def compare(self, sensor: str, embedded: Embedded, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one sensor."""
        del sensor, generator
        return supcon(embedded, self.temperature)
