"""A recurrent network through the steps of one sensor."""

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.levels import Features, FeatureShape, Tokens, scrub
from fusionkit.core.registry import encoders

from .encoder import PastEncoder


@encoders.register("gru")
class GRUEncoder(PastEncoder):
    """One token per step that knows all earlier steps and no later one: a gated recurrent unit.

    Steps that are not real enter as zeros and leave as zeros; padding at the end changes nothing before it.

    Args:
        shape: what is known of the features.
        dim: width of a token and of the state.
        layers: units on top of each other.
        dropout: share dropped between layers and at the end, in training.

    Reference:
        Cho et al., EMNLP 2014.
    """

    def __init__(
        self,
        shape: FeatureShape,
        dim: int,
        *,
        layers: Annotated[int, Field(ge=1, description="units on top of each other")] = 1,
        dropout: Annotated[float, Field(ge=0, lt=1, description="share dropped in training")] = 0.1,
    ) -> None:
        super().__init__(shape, dim)
        self.gru = nn.GRU(shape.width, dim, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Features) -> Tokens:
        """Encode one batch."""
        clean = scrub(features)
        flat = clean.values.flatten(2)
        states = self._unrolled(flat) if torch.compiler.is_exporting() else self.gru(flat)[0]
        return scrub(Tokens(self.norm(self.dropout(states)), clean.mask, clean.present, clean.time))

    def empty_state(self, batch: int) -> Float[Tensor, "{batch} layer dim"]:
        """Zeros: hidden states of every layer."""
        return self.norm.weight.new_zeros(batch, self.gru.num_layers, self.dim)

    def step(
        self, features: Features, state: Float[Tensor, "batch layer dim"], entered: Bool[Tensor, " time"]
    ) -> tuple[Tokens, Float[Tensor, "batch layer dim"]]:
        """Encode some more steps; as many updates in a row as there are."""
        clean = scrub(features)
        states = clean.values.flatten(2)
        left = []
        for layer in range(self.gru.num_layers):
            into, into_bias, over, over_bias = self._weights(layer)
            driven, hidden, passed = F.linear(states, into, into_bias), state[:, layer], []
            for time in range(states.shape[1]):
                updated = _update(hidden, driven[:, time], over, over_bias)
                hidden = torch.where(entered[time], updated, hidden)
                passed.append(hidden)
            states = torch.stack(passed, 1)
            left.append(hidden)
        tokens = Tokens(self.norm(self.dropout(states)), clean.mask, clean.present, clean.time)
        return scrub(tokens), torch.stack(left, 1)

    def _weights(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of a layer: from its input with a bias, and from its state with a bias."""
        names = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
        into, into_bias, over, over_bias = (getattr(self.gru, f"{name}_l{layer}") for name in names)
        return into, into_bias, over, over_bias

    def _unrolled(self, values: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time dim"]:
        """The same numbers by a scan, for inference alone: an exporter would fix the number of steps of `nn.GRU`."""
        from torch._higher_order_ops.scan import scan

        states = values.transpose(0, 1)
        start = values.new_zeros(values.shape[0], self.dim)
        for layer in range(self.gru.num_layers):
            into, into_bias, over, over_bias = self._weights(layer)

            def step(
                state: Tensor, entry: Tensor, over: Tensor = over, bias: Tensor = over_bias
            ) -> tuple[Tensor, Tensor]:
                state = _update(state, entry, over, bias)
                return state, state.clone()

            _, states = scan(step, start, F.linear(states, into, into_bias).detach())
        return states.transpose(0, 1)


def _update(
    state: Float[Tensor, "batch dim"],
    entry: Float[Tensor, "batch gates"],
    over: Float[Tensor, "gates dim"],
    bias: Float[Tensor, " gates"],
) -> Float[Tensor, "batch dim"]:
    """The next state; ``entry`` is the step behind its own linear map."""
    from_entry, from_state = entry.chunk(3, -1), F.linear(state, over, bias).chunk(3, -1)
    reset = torch.sigmoid(from_entry[0] + from_state[0])
    update = torch.sigmoid(from_entry[1] + from_state[1])
    candidate = torch.tanh(from_entry[2] + reset * from_state[2])
    return (1 - update) * candidate + update * state
