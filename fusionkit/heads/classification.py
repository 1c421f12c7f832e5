"""One of several classes without order."""

from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.registry import heads
from fusionkit.heads.single_label import ClassName, ClassWeights, SingleLabelTask
from fusionkit.losses.loss import chosen


class ClassificationHead(nn.Module):
    """A linear layer and a log-softmax, in float32 at least.

    Args:
        dim: width of the readout.
        classes: how many classes there are.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, classes)

    def forward(self, readout: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch class_"]:
        """Normalised log-probabilities of one batch."""
        logits: Tensor = self.linear(readout)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


class EvidenceHead(nn.Module):
    """A linear layer, in float32 at least; what follows makes evidence of its numbers.

    Args:
        dim: width of the readout.
        classes: how many classes there are.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, classes)

    def forward(self, readout: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch class_"]:
        """A number a class."""
        logits: Tensor = self.linear(readout)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


@heads.register("classification")
class Classification(SingleLabelTask):
    """Which of several classes a record is.

    Args:
        classes: in the order that probabilities come in; by default the sorted labels of the study.
        class_weights: ``none`` counts records alike; ``balanced`` counts classes alike, which helps rare classes
            and shifts every probability towards them; or a weight per class, 1 where none is given.
        label_smoothing: the share of a target spread over all classes, a remedy for over-confidence.
        loss: a loss of log-probabilities.

    Raises:
        ConfigError: a class is listed twice, only one is, or a weight names no class.

    Example:
        ``tasks: {emotion: {kind: classification, class_weights: balanced}}``
    """

    def __init__(
        self,
        *,
        classes: Annotated[list[ClassName] | None, Field(description="default: the study's, sorted")] = None,
        class_weights: Annotated[ClassWeights, Field(description="none, balanced, or a weight per class")] = "none",
        label_smoothing: Annotated[float, Field(ge=0, lt=1, description="share spread over all classes")] = 0.0,
        loss: Annotated[
            str | dict[str, Any], chosen("class"), Field(description="a kind, or {kind: ..., option: ...}")
        ] = "negative_log_likelihood",
    ) -> None:
        defaults = {"label_smoothing": label_smoothing} if label_smoothing else {}
        super().__init__(classes, class_weights, loss, **defaults)

    def head(self, dim: int) -> ClassificationHead:
        return ClassificationHead(dim, len(self.classes))

    def evidence_head(self, dim: int) -> EvidenceHead:
        return EvidenceHead(dim, len(self.classes))
