"""One of several classes in order."""

import math
from itertools import pairwise
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.registry import heads
from fusionkit.heads.single_label import ClassName, ClassWeights, SingleLabelTask
from fusionkit.losses.loss import chosen


class OrdinalHead(nn.Module):
    r"""The proportional-odds model: one score per record, and ordered thresholds between the classes.

    .. math:: P(y \le k) = \sigma(\theta_k - w^T x), \qquad \theta_{k+1} = \theta_k + \mathrm{softplus}(\delta_k)

    Log-probabilities are sums of log-sigmoids, with no difference of close numbers in them, because

    .. math:: \sigma(a) - \sigma(b) = \sigma(a)\, \sigma(-b)\, \sigma(\delta)
              \quad \text{for} \quad a - b = \mathrm{softplus}(\delta)

    Thresholds start where a readout of 0 makes all classes equally likely: three classes have -log 2 and log 2.

    Args:
        dim: width of the readout.
        classes: how many classes there are, two or more.

    Reference:
        McCullagh, Regression Models for Ordinal Data, JRSS B 1980. The increments are our reconstruction.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1, bias=False)  # the thresholds are the bias
        start = [math.log(k / (classes - k)) for k in range(1, classes)]
        gaps = [math.log(math.expm1(high - low)) for low, high in pairwise(start)]
        self.first = nn.Parameter(torch.tensor(start[:1]))
        self.increments = nn.Parameter(torch.tensor(gaps))

    @property
    def thresholds(self) -> Float[Tensor, " cut"]:
        """Where one class gives way to the next, in order."""
        return torch.cat([self.first, F.softplus(self.increments)]).cumsum(0)

    def forward(self, readout: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch class_"]:
        """Normalised log-probabilities of one batch, in float32 at least."""
        score = self.linear(readout)
        score = score.to(torch.promote_types(score.dtype, torch.float32))
        above = self.thresholds.to(score.dtype) - score
        # log sigma(x) is -softplus(-x): the ONNX exporter takes the logarithm of a sigmoid apart and loses digits
        over_upper = F.pad(F.softplus(-above), (0, 1))  # the last class has no upper threshold
        under_lower = F.pad(F.softplus(above), (1, 0))  # the first class has no lower one
        between = F.pad(F.softplus(-self.increments.to(score.dtype)), (1, 1))
        return -(over_upper + under_lower + between)


@heads.register("ordinal")
class Ordinal(SingleLabelTask):
    """Which of several ordered classes a record is, where a near miss is better than a far one.

    Args:
        classes: from lowest to highest; they must be listed, since no file says their order.
        class_weights: ``none`` counts records alike; ``balanced`` counts classes alike, which helps rare classes
            and shifts every probability towards them; or a weight per class, 1 where none is given.
        loss: a loss of log-probabilities.

    Raises:
        ConfigError: a class is listed twice, only one is, or a weight names no class.

    Example:
        ``tasks: {pain: {kind: ordinal, classes: [none, mild, strong]}}``
    """

    def __init__(
        self,
        *,
        classes: Annotated[list[ClassName], Field(description="from lowest to highest")],
        class_weights: Annotated[ClassWeights, Field(description="none, balanced, or a weight per class")] = "none",
        loss: Annotated[
            str | dict[str, Any], chosen("class"), Field(description="a kind, or {kind: ..., option: ...}")
        ] = "negative_log_likelihood",
    ) -> None:
        super().__init__(classes, class_weights, loss)

    def head(self, dim: int) -> OrdinalHead:
        return OrdinalHead(dim, len(self.classes))
