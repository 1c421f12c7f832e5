"""Stacked auto-encoder: vectors side by side, compressed by layers that were trained one after the other."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Fused, Tokens
from fusionkit.core.registry import fusion
from fusionkit.fusion.modality_dropout import drop_modalities
from fusionkit.fusion.operation import IntermediateFusion, TrainingBatch
from fusionkit.fusion.vectors import SensorScale, block_error, minibatches, one_token, pool_streams, pool_training

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "linear": lambda x: x,
}


class AutoEncoderLayer(nn.Module):
    r"""One layer and its way back: :math:`a = \sigma(W x + b)`, :math:`\hat x = V a + c`; tied means :math:`V = W^T`.

    The decoder is linear, since what it rebuilds is not bounded.
    """

    def __init__(self, width: int, out: int, *, activation: str, tied: bool) -> None:
        super().__init__()
        self.activation = activation
        self.encode = nn.Linear(width, out)
        self.back = None if tied else nn.Parameter(torch.empty(width, out))
        self.offset = nn.Parameter(torch.zeros(width))
        for weight in (self.encode.weight, self.back):
            if weight is not None:
                nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.encode.bias)

    def forward(self, x: Float[Tensor, "batch width"]) -> Float[Tensor, "batch out"]:
        """What the layer makes of its input."""
        return ACTIVATIONS[self.activation](self.encode(x))

    def decode(self, code: Float[Tensor, "batch out"]) -> Float[Tensor, "batch width"]:
        """Its input again."""
        return F.linear(code, self.encode.weight.T if self.back is None else self.back, self.offset)


def sparsity_penalty(code: Float[Tensor, "batch unit"], target: float) -> Float[Tensor, ""]:
    r"""How far the units' mean activities are from a small one: :math:`\sum_j KL(\rho \| \hat\rho_j)`.

    With :math:`\rho = 0.05` a unit that is on half of the time costs 0.05 log 0.1 + 0.95 log 1.9 = 0.4946.
    """
    active = code.mean(0).clamp(1e-6, 1 - 1e-6)
    return (target * (target / active).log() + (1 - target) * ((1 - target) / (1 - active)).log()).sum()


@fusion.register("stacked_autoencoder")
class StackedAutoEncoder(IntermediateFusion):
    r"""Compress the sensors' vectors, side by side, by layers that learn to rebuild what they are given.

    Each stream is pooled, standardised by training records and divided by the root of its width. Before gradient
    training layer l learns :math:`\min \| h_{l-1} - D_l(\sigma(E_l h_{l-1})) \|^2` on training records, then is
    frozen while the next one learns; widths fall geometrically from all sensors' to ``dim`` (4096, 2048, 1024, 512
    as in the paper). Then all layers train with the rest of the model, and the unrolled decoder goes on rebuilding:
    its squared error, per sensor that is there, is added to the loss with the weight ``reconstruction``.

    The denoising variant (``corruption``) hides whole sensors from the first layer and single units from later
    ones, never all sensors, and asks for all of them, so that an absent sensor is filled in. The sparse variant
    (``sparsity``) adds the KL divergence of the units' mean activity from 0.05. That encoders of sensors are as
    they start while the layers are fitted, the scales, the optimiser and all default numbers are our reconstruction;
    the paper has pretrained CNNs and tanh units. A linear, tied, single layer spans the principal subspace.

    Args:
        inputs: width of each token stream.
        dim: width of the token that comes out.
        duration: not used; vectors have no time.

    Raises:
        ConfigError: ``sparsity`` is asked for units that are not between 0 and 1.

    Reference:
        Ding and Tao, "Robust Face Recognition via Multimodal Deep Face Representation", IEEE TMM 17(11), 2015;
        Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        layers: Annotated[int, Field(ge=1, description="how many layers compress")] = 3,
        activation: Annotated[
            Literal["tanh", "sigmoid", "relu", "linear"], Field(description="of every layer's units")
        ] = "tanh",
        tied: Annotated[bool, Field(description="decoders are the transposed encoders")] = False,
        corruption: Annotated[
            float, Field(ge=0, lt=1, description="probability that fitting hides a sensor, or a unit of a later layer")
        ] = 0.0,
        sparsity: Annotated[
            float, Field(ge=0, description="weight of the mean activities' divergence from 0.05; sigmoid units only")
        ] = 0.0,
        reconstruction: Annotated[
            float, Field(gt=0, description="weight of the unrolled reconstruction's error in training")
        ] = 0.1,
        epochs: Annotated[int, Field(ge=1, description="passes over the training records for each layer")] = 50,
        lr: Annotated[float, Field(gt=0, description="learning rate at the start of fitting; it falls to zero")] = 1e-2,
    ) -> None:
        super().__init__(inputs, dim, duration)
        if sparsity and activation != "sigmoid":
            raise ConfigError(f"sparsity needs units between 0 and 1 (sigmoid), but activation is {activation!r}")
        self.corruption, self.sparsity, self.reconstruction = corruption, sparsity, reconstruction
        self.epochs, self.lr = epochs, lr
        self.scale = SensorScale(self.inputs.values())
        total = sum(self.inputs.values())
        widths = [round(total * (dim / total) ** (step / layers)) for step in range(layers + 1)]
        self.layers = nn.ModuleList(
            AutoEncoderLayer(before, after, activation=activation, tied=tied)
            for before, after in zip(widths[:-1], [*widths[1:-1], dim], strict=True)
        )

    def encode(self, joint: Float[Tensor, "batch total"]) -> Float[Tensor, "batch dim"]:
        """All layers over standardised vectors side by side."""
        for layer in self.layers:
            joint = layer(joint)
        return joint

    def decode(self, code: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch total"]:
        """The standardised vectors again, absent sensors filled in; `SensorScale.widths` splits them."""
        for layer in reversed(self.layers):
            assert isinstance(layer, AutoEncoderLayer)
            code = layer.decode(code)
        return code

    def forward(self, inputs: Mapping[str, Tokens]) -> Fused:
        """Join one batch into one token; the objective is the reconstruction of the sensors that are there."""
        vectors = pool_streams(inputs, self.inputs)
        joint = torch.cat(self.scale(vectors), 1)
        code = self.encode(joint)
        error = block_error(self.decode(code), joint.detach(), vectors.here, self.scale.widths)
        return Fused(one_token(code, inputs, vectors.here.any(1)), self.reconstruction * error)

    def fit(self, training_batches: Callable[[], Iterable[TrainingBatch]], generator: torch.Generator) -> None:
        """Train the layers one after the other, each with the earlier ones frozen."""
        vectors = pool_training(training_batches, self.inputs)
        self.scale.fit(vectors)
        blocks, here = self.scale(vectors), vectors.here
        states = torch.cat(blocks, 1)
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, AutoEncoderLayer)
            self._fit_layer(layer, states, here if number == 0 else None, generator)
            states = layer(states)

    def _fit_layer(
        self,
        layer: AutoEncoderLayer,
        states: Float[Tensor, "record width"],
        here: Bool[Tensor, "record sensor"] | None,
        generator: torch.Generator,
    ) -> None:
        optimiser = torch.optim.Adam(layer.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: 1 - epoch / self.epochs)
        for _ in range(self.epochs):
            for rows in minibatches(len(states), 128, generator):
                wanted = states[rows.to(states.device)]
                there = wanted.new_ones(len(rows), 1, dtype=torch.bool) if here is None else here[rows.to(here.device)]
                widths = [wanted.shape[1]] if here is None else self.scale.widths
                with torch.enable_grad():
                    code = layer(self._corrupt(wanted, None if here is None else there, generator))
                    loss = block_error(layer.decode(code), wanted, there, widths)
                    if self.sparsity:
                        loss = loss + self.sparsity * sparsity_penalty(code, 0.05)
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            schedule.step()

    def _corrupt(
        self,
        states: Float[Tensor, "batch width"],
        here: Bool[Tensor, "batch sensor"] | None,
        generator: torch.Generator,
    ) -> Float[Tensor, "batch width"]:
        """Hide sensors (where ``here`` says which there are) or units."""
        if not self.corruption:
            return states
        if here is None:
            kept = torch.rand(states.shape, generator=generator) >= self.corruption
            return states * kept.to(states.device)
        there = {str(place): column for place, column in enumerate(here.cpu().T)}
        kept = torch.stack(list(drop_modalities(there, self.corruption, generator).values()), 1)
        wide = [kept[:, i, None].expand(-1, width) for i, width in enumerate(self.scale.widths)]
        return states * torch.cat(wide, 1).to(states.device)
