"""CentralNet: a central network beside the sensors' own, which takes a learned share of every layer of theirs."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.levels import Fused, Tokens
from fusionkit.core.registry import fusion
from fusionkit.fusion.branches import BranchLinear
from fusionkit.fusion.pooled import VectorFusion


@fusion.register("central_net")
class CentralNet(VectorFusion):
    r"""A central stream that adds up, layer by layer, what the sensors' own streams have become.

    With :math:`h_k^0` the sensors' vectors and :math:`h_k^{l+1} = \mathrm{relu}(W_k^l h_k^l + b_k^l)`,

    .. math:: s^l = \alpha_C^l h_C^l + \sum_k \alpha_k^l h_k^l, \qquad h_C^{l+1} = \mathrm{relu}(W_C^l s^l + b_C^l)

    from :math:`h_C^0 = 0` to the answer :math:`s^L`. The :math:`\alpha` are single numbers that train, not
    normalised. Each sensor's last :math:`h_k^L` gets heads of its own, whose losses are added:
    :math:`L = L_C + \sum_k \beta L_k`. With all :math:`\alpha_k` but the last at 0 this is fusion of what the sensors have
    made of themselves alone; with only those of layer 0, early fusion of their vectors.

    That the :math:`\alpha` start at :math:`1 / (M + 1)`, and that layers are linear ones on vectors, is ours. An
    absent sensor adds nothing to any sum, and its own heads learn nothing from that sample.

    Args:
        inputs: width of each token stream.
        dim: width of the stream that comes out.
        duration: length of the window in seconds; None where no stream has time, and then there is one step.

    Reference:
        Vielzeuf et al., "CentralNet: a Multilayer Approach for Multimodal Fusion", ECCV workshops 2018.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        layers: Annotated[int, Field(ge=1, description="layers of the central and of every sensor's stream")] = 2,
        sensor_weight: Annotated[
            float, Field(ge=0, description="weight of each sensor's own loss; 0 leaves it without heads")
        ] = 1.0,
        steps: Annotated[
            int, Field(ge=1, description="equal bins of the window, each joined by itself; 1 averages over the window")
        ] = 1,
    ) -> None:
        super().__init__(inputs, dim, duration, steps)
        sensors = len(self.inputs)
        self.sensor_weight = sensor_weight
        self.sensors = nn.ModuleList(BranchLinear(sensors, dim, dim) for _ in range(layers))
        self.centre = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))
        self.sensor_share = nn.Parameter(torch.full((layers + 1, sensors), 1 / (sensors + 1)))
        self.centre_share = nn.Parameter(torch.full((layers,), 1 / (sensors + 1)))

    @property
    def streams(self) -> Mapping[str, float]:
        """Every sensor's own stream."""
        return dict.fromkeys(self.inputs, self.sensor_weight) if self.sensor_weight else {}

    def run(
        self, vectors: Float[Tensor, "branch row dim"], real: Bool[Tensor, "branch row"]
    ) -> tuple[Float[Tensor, "row dim"], Float[Tensor, "branch row dim"]]:
        """The last central sum, and the sensors' last states."""
        here = real[..., None].to(vectors.dtype)
        joined = (self.sensor_share[0, :, None, None] * vectors).sum(0)
        for layer, (own, centre) in enumerate(zip(self.sensors, self.centre, strict=True)):
            vectors = own(vectors[:, :, None])[:, :, 0].relu() * here
            joined = self.centre_share[layer] * centre(joined).relu()
            joined = joined + (self.sensor_share[layer + 1, :, None, None] * vectors).sum(0)
        return joined, vectors

    def join(
        self, vectors: Float[Tensor, "branch row dim"], real: Bool[Tensor, "branch row"]
    ) -> Float[Tensor, "row dim"]:
        """Join the vectors of every row."""
        return self.run(vectors, real)[0]

    def forward(self, inputs: Mapping[str, Tokens]) -> Fused:
        """Join one batch, and hand out the sensors' own streams."""
        vectors, real = self.vectors(inputs)
        joined, own = self.run(vectors, real)
        streams = {name: self.tokens(own[i], real[i], inputs[name].present) for i, name in enumerate(self.inputs)}
        tokens = self.tokens(joined, real.any(0), self.present(inputs))
        return Fused(tokens, joined.new_zeros(()), {name: streams[name] for name in self.streams})
