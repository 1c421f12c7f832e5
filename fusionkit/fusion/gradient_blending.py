"""Gradient blending: the joint answer and every sensor's own learn side by side, each by what it gains for what it overfits."""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.levels import Fused, Tokens
from fusionkit.core.registry import fusion
from fusionkit.fusion.pooled import VectorFusion

LEAST = 0.1  # of the median squared change of the gap, a floor for every one


@fusion.register("gradient_blending")
class GradientBlending(VectorFusion):
    r"""The sensors' vectors side by side through two layers; own heads for every sensor; losses weighed by blending.

    .. math:: y = W_2\, \mathrm{relu}(W_1 [h_1; \dots; h_M] + b_1) + b_2, \qquad L = \sum_{k=1}^{M+1} w_k L_k

    with one loss a sensor and that of the joint answer, the last. The weights come from `blend`: between two times
    each loss is trained alone, from the weights as they are, and the one counts most that gained most on held-out
    records while its gap to the training records grew least. This is estimated once before training, or with
    ``online`` again after every ``epochs`` epochs. It costs M + 1 trainings of ``epochs`` epochs each time.

    Held-out records are whole groups of the training part, one part in ``parts`` of them: never validation, which
    chooses the epoch, and never test. Estimated once, nothing has seen them yet, and training then takes them, too;
    ``online``, where the weights at later times must not know them, training goes without. Scalers and other fitted
    parts know all training records. Validation judges an epoch by the joint answer alone, so that epochs compare.

    Of ours, besides: what `blend` does where the paper's formula has no finite or no positive value; an absent sensor is
    zeros to the joint layers, and its own heads learn nothing from that sample; several tasks are blended as one.

    Args:
        inputs: width of each token stream.
        dim: width of the stream that comes out.
        duration: length of the window in seconds.

    Reference:
        Wang, Tran and Feiszli, "What Makes Training Multi-modal Classification Networks Hard?", CVPR 2020.
    """

    weight: Tensor

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        epochs: Annotated[int, Field(ge=1, description="epochs between the two times of an estimate")] = 5,
        online: Annotated[bool, Field(description="estimate again after every so many epochs")] = False,
        parts: Annotated[int, Field(ge=2, description="one in so many parts of the training groups is held out")] = 5,
        cap: Annotated[float, Field(ge=0.5, le=1, description="largest weight of a loss; all sum to 1")] = 0.9,
    ) -> None:
        super().__init__(inputs, dim, duration)
        self.epochs, self.online, self.parts, self.cap = epochs, online, parts, cap
        losses = len(self.inputs) + 1
        self.inner = nn.Linear(len(self.inputs) * dim, dim)
        self.out = nn.Linear(dim, dim)
        self.register_buffer("weight", torch.full((losses,), 1 / losses))

    @property
    def streams(self) -> Mapping[str, float]:
        """Every sensor's own vector; ``weight`` says what its loss counts in training."""
        return dict.fromkeys(self.inputs, 1.0)

    def join(
        self, vectors: Float[Tensor, "branch row dim"], real: Bool[Tensor, "branch row"]
    ) -> Float[Tensor, "row dim"]:
        """Join the vectors of every row."""
        joined: Tensor = self.out(self.inner(vectors.transpose(0, 1).flatten(1)).relu())
        return joined

    def forward(self, inputs: Mapping[str, Tokens]) -> Fused:
        """Join one batch, and hand out the sensors' own vectors."""
        vectors, real = self.vectors(inputs)
        streams = {
            name: self.tokens(vectors[i], real[i], inputs[name].present & real[i]) for i, name in enumerate(self.inputs)
        }
        tokens = self.tokens(self.join(vectors, real), real.any(0), self.present(inputs))
        return Fused(tokens, vectors.new_zeros(()), streams)


def blend(before: Float[Tensor, "2 loss"], after: Float[Tensor, "2 loss"], cap: float = 1.0) -> Float[Tensor, " loss"]:
    r"""Weights of losses from their means on training (row 0) and held-out records (row 1) at two times.

    .. math:: w_k = \frac{1}{Z} \frac{G_k}{\Delta O_k^2}, \qquad
              G = L^V_{before} - L^V_{after}, \quad \Delta O = (L^V - L^T)_{after} - (L^V - L^T)_{before}

    so that the ratio of overfitting to generalising of the blend is least, where the losses' gradients are
    uncorrelated. Held-out losses that fell by 0.3 and 0.1, with gaps that grew by 0.2 and 0.1, get 7.5 : 10.

    Of ours: a loss that gained nothing has weight 0, and if none gained all weigh alike; :math:`\Delta O_k^2` is at
    least a tenth of its median over losses (or an estimate near 0 would take all); no weight is above ``cap``, and
    the others share the rest as they were (alike where all are 0).
    """
    gain = (before[1] - after[1]).clamp_min(0)
    squares = ((after[1] - after[0]) - (before[1] - before[0])).square()
    floor = (LEAST * squares.quantile(0.5)).clamp_min(1e-12)
    scores = gain / squares.maximum(floor)
    if not bool(scores.any()):
        return torch.full_like(gain, 1 / len(gain))
    weights = scores / scores.sum()
    largest = int(weights.argmax())
    if float(weights[largest]) <= cap:
        return weights
    others = torch.arange(len(weights)) != largest
    rest = weights[others].sum()
    share = weights[others] / rest if float(rest) > 0 else torch.full_like(weights[others], 1 / (len(weights) - 1))
    weights[largest], weights[others] = cap, (1 - cap) * share
    return weights
