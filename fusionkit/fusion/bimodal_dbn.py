"""Bimodal DBN: a Boltzmann machine a sensor, one on top of all, unfolded into a deep auto-encoder."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.levels import Fused, Tokens
from fusionkit.core.registry import fusion
from fusionkit.fusion.modality_dropout import drop_modalities
from fusionkit.fusion.operation import IntermediateFusion, TrainingBatch
from fusionkit.fusion.rbm import RBM
from fusionkit.fusion.vectors import (
    SensorScale,
    Vectors,
    block_error,
    minibatches,
    one_token,
    pool_streams,
    pool_training,
)


@fusion.register("bimodal_dbn")
class BimodalDBN(IntermediateFusion):
    r"""A deep belief network over any number of sensors, unfolded into a deep auto-encoder.

    With :math:`x_m` the pooled and standardised vector of a sensor:

    .. math:: h_m = \sigma(W_m^T x_m + a_m), \quad z = \sigma(U^T [h_1; \ldots; h_M] + a), \quad
              \hat h = \sigma(U' z + b), \quad \hat x_m = W'_m \hat h_m + b_m

    Before gradient training each sensor's Gaussian-Bernoulli machine learns by CD-k, then the Bernoulli machine on
    their hidden probabilities side by side. Unfolded, decoders start as the transposed encoders (:math:`W' = W`),
    and ``finetune`` passes of gradient descent lower the error of the reconstruction; there, sensors are hidden with
    the probability ``corruption`` and still asked for, so that one can be rebuilt from the others. Then everything
    trains with the rest of the model, and the reconstruction's squared error, per sensor that is there, is added to
    the loss. An absent sensor's hidden units are zero. The token that comes out is z.

    The paper has two sensors (EEG and eye movements), features scaled to [0, 1] and a linear SVM on z. Gaussian
    visible units, any number of sensors, absent ones, the heads and all default numbers are our reconstruction, as
    is that encoders of sensors are as they start while this is fitted.

    Args:
        inputs: width of each token stream.
        dim: width of the token that comes out: how many hidden units the top has.
        duration: not used; vectors have no time.

    Reference:
        Liu, Zheng and Lu, "Emotion Recognition Using Multimodal Deep Learning", ICONIP 2016;
        Ngiam et al., "Multimodal Deep Learning", ICML 2011;
        Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313, 2006.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        hidden: Annotated[int, Field(ge=1, description="hidden units of each sensor's machine")] = 64,
        gibbs: Annotated[int, Field(ge=1, description="k of contrastive divergence: steps of the chain")] = 1,
        epochs: Annotated[int, Field(ge=1, description="passes over the training records for each machine")] = 50,
        finetune: Annotated[int, Field(ge=0, description="passes of the unfolded network, before training")] = 20,
        corruption: Annotated[
            float, Field(ge=0, lt=1, description="probability that these passes hide a sensor that they ask for")
        ] = 0.2,
        reconstruction: Annotated[
            float, Field(gt=0, description="weight of the reconstruction's error in training")
        ] = 0.1,
    ) -> None:
        super().__init__(inputs, dim, duration)
        self.hidden, self.gibbs, self.epochs, self.finetune = hidden, gibbs, epochs, finetune
        self.corruption, self.reconstruction = corruption, reconstruction
        self.scale = SensorScale(self.inputs.values())
        widths = self.scale.widths
        self.encoders = nn.ModuleList(nn.Linear(width, hidden) for width in widths)
        self.top = nn.Linear(hidden * len(widths), dim)
        self.unfold = nn.Linear(dim, hidden * len(widths))
        self.decoders = nn.ModuleList(nn.Linear(hidden, width) for width in widths)

    def standardise(self, vectors: Vectors) -> list[Float[Tensor, "batch _"]]:
        """Vectors of zero mean and unit variance per entry, for unit Gaussians; zero where a sensor is absent."""
        return [block * block.shape[1] ** 0.5 for block in self.scale(vectors)]

    def encode(
        self, blocks: list[Float[Tensor, "batch _"]], here: Bool[Tensor, "batch sensor"]
    ) -> Float[Tensor, "batch dim"]:
        """Probabilities of the top's hidden units."""
        hidden = [encoder(block).sigmoid() for encoder, block in zip(self.encoders, blocks, strict=True)]
        kept = [torch.where(here[:, i, None], part, torch.zeros_like(part)) for i, part in enumerate(hidden)]
        return torch.sigmoid(self.top(torch.cat(kept, 1)))

    def decode(self, code: Float[Tensor, "batch dim"]) -> list[Float[Tensor, "batch _"]]:
        """The standardised vectors of every sensor again."""
        hidden = self.unfold(code).sigmoid().split(self.hidden, 1)
        return [decoder(part) for decoder, part in zip(self.decoders, hidden, strict=True)]

    def forward(self, inputs: Mapping[str, Tokens]) -> Fused:
        """Join one batch into one token; the objective is the reconstruction of the sensors that are there."""
        vectors = pool_streams(inputs, self.inputs)
        blocks = self.standardise(vectors)
        code = self.encode(blocks, vectors.here)
        error = self._error(code, [block.detach() for block in blocks], vectors.here)
        return Fused(one_token(code, inputs, vectors.here.any(1)), self.reconstruction * error)

    def fit(self, training_batches: Callable[[], Iterable[TrainingBatch]], generator: torch.Generator) -> None:
        """Train the machines one after the other, unfold them, lower the reconstruction's error."""
        vectors = pool_training(training_batches, self.inputs)
        self.scale.fit(vectors)
        blocks, here = self.standardise(vectors), vectors.here
        hidden = []
        for block, there, encoder, decoder in zip(blocks, here.T, self.encoders, self.decoders, strict=True):
            machine = RBM(block.shape[1], self.hidden, gaussian=True, generator=generator)
            machine.fit(block[there], epochs=self.epochs, steps=self.gibbs, lr=1e-2)
            _unfold(machine, encoder, decoder)
            hidden.append(machine.hide(block) * there[:, None])
        machine = RBM(self.top.in_features, self.dim, gaussian=False, generator=generator)
        machine.fit(torch.cat(hidden, 1), epochs=self.epochs, steps=self.gibbs, lr=5e-2)
        _unfold(machine, self.top, self.unfold)
        self._descend(blocks, here, generator)

    def _descend(self, blocks: list[Tensor], here: Bool[Tensor, "record sensor"], generator: torch.Generator) -> None:
        optimiser = torch.optim.Adam(self.parameters(), lr=1e-2)
        for _ in range(self.finetune):
            for rows in minibatches(len(here), 100, generator):
                part, there = [block[rows.to(block.device)] for block in blocks], here[rows.to(here.device)]
                named = {str(place): column for place, column in enumerate(there.cpu().T)}
                kept = torch.stack(list(drop_modalities(named, self.corruption, generator).values()), 1).to(
                    there.device
                )
                with torch.enable_grad():
                    loss = self._error(self.encode(part, kept), part, there)
                    optimiser.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        optimiser.zero_grad()

    def _error(
        self, code: Float[Tensor, "batch dim"], blocks: list[Tensor], here: Bool[Tensor, "batch sensor"]
    ) -> Float[Tensor, ""]:
        """Squared error of the standardised vectors, per entry."""
        root = [width**-0.5 for width in self.scale.widths]
        found, wanted = (
            torch.cat([block * factor for block, factor in zip(part, root, strict=True)], 1)
            for part in (self.decode(code), blocks)
        )
        return block_error(found, wanted, here, self.scale.widths)


def _unfold(machine: RBM, encoder: nn.Module, decoder: nn.Module) -> None:
    """Put a machine's weights into a layer, and their transpose into the layer that goes back."""
    assert isinstance(encoder, nn.Linear) and isinstance(decoder, nn.Linear)
    encoder.weight.copy_(machine.weight.T)
    encoder.bias.copy_(machine.hidden)
    decoder.weight.copy_(machine.weight)
    decoder.bias.copy_(machine.visible)
