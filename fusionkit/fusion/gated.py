"""Gated multimodal unit (GMU): every number of the answer is a mixture of the sensors, by gates that see them all."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.registry import fusion
from fusionkit.fusion.branches import BranchLinear, masked_softmax
from fusionkit.fusion.pooled import VectorFusion


@fusion.register("gated")
class GatedFusion(VectorFusion):
    r"""Gated Multimodal Unit: :math:`h_m = \tanh(W_m x_m)`, mixed number by number.

    For two sensors :math:`z = \sigma(W_z [x_1; x_2])` and :math:`h = z \odot h_1 + (1 - z) \odot h_2`, as in the
    paper. For more, each has a gate score :math:`W_{z,m} [x_1; \dots; x_M]`, and the weights are the softmax of the
    scores over the sensors that are present (ours: the paper's gates of more than two are not normalised; a softmax
    over two scores is the sigmoid of their difference). A gate sees an absent sensor as zeros, and the weights of
    the others sum to 1, so a sensor alone gives :math:`\tanh(W_m x_m)`. By definition every gate sees all sensors:
    the gates' cost grows with the square of their number. With ``steps`` above 1 a gate opens anew in every bin.

    Args:
        inputs: width of each token stream.
        dim: width of the stream that comes out.
        duration: length of the window in seconds; None where no stream has time, and then there is one step.

    Reference:
        Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR workshop 2017.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        steps: Annotated[
            int, Field(ge=1, description="equal bins of the window, each gated by itself; 1 averages over the window")
        ] = 1,
    ) -> None:
        super().__init__(inputs, dim, duration, steps)
        sensors = len(self.inputs)
        self.features = BranchLinear(sensors, dim, dim, bias=False)
        scores = sensors if sensors > 2 else sensors - 1  # of two, the second's score is 0
        self.gates = nn.Linear(sensors * dim, scores * dim, bias=False) if scores else None

    def join(
        self, vectors: Float[Tensor, "branch row dim"], real: Bool[Tensor, "branch row"]
    ) -> Float[Tensor, "row dim"]:
        """Join the vectors of every row."""
        features: Tensor = self.features(vectors[:, :, None])[:, :, 0].tanh()
        if self.gates is None:
            return features[0]
        scores = self.gates(vectors.transpose(0, 1).flatten(1)).reshape(vectors.shape[1], -1, self.dim)
        if len(self.inputs) == 2:
            scores = torch.cat([scores, torch.zeros_like(scores)], 1)
        weights = masked_softmax(scores.transpose(1, 2), real.T[:, None])  # row dim branch
        mixed: Tensor = (weights * features.permute(1, 2, 0)).sum(2)
        return mixed
