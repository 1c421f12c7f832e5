"""FiLM: one sensor scales and shifts every feature of the others."""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.core.levels import Tokens, any_present, pool, scrub
from fusionkit.core.registry import fusion
from fusionkit.fusion.branches import BranchLinear
from fusionkit.fusion.operation import IntermediateFusion
from fusionkit.fusion.pooled import one_at_least


@fusion.register("film")
class FiLM(IntermediateFusion):
    r"""Feature-wise linear modulation: one sensor c conditions the tokens of every other.

    .. math:: y_{m,t} = \gamma_m(h_c) \odot x_{m,t} + \beta_m(h_c), \qquad \gamma_m = 1 + A_m h_c + a_m,\;
              \beta_m = B_m h_c + b_m

    with :math:`h_c` the mean of c's tokens. The conditioned tokens of all other sensors come out side by side; they
    keep their times if all have some. With :math:`\gamma = 2`, :math:`\beta = 1` a token (3, 4) becomes (7, 9).

    That :math:`\gamma` starts about 1 is the paper's; the rest on absence is ours. Where c is absent, the others
    pass as they are. Where only c is there, one token of zeros stands for the first of the others, so that
    :math:`\beta` of it comes out.

    Args:
        inputs: width of each token stream; one that is not ``dim`` wide is projected first.
        dim: width of the stream that comes out.
        duration: length of the window in seconds, in whose middle such a token lies.

    Raises:
        ConfigError: there is one input only.
        UnknownNameError: ``condition`` is none of the inputs.

    Reference:
        Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        condition: Annotated[
            str | None, Field(description="the input that conditions the others; None takes the first")
        ] = None,
    ) -> None:
        super().__init__(inputs, dim, duration)
        if len(self.inputs) < 2:
            raise ConfigError(f"needs at least 2 inputs, but has {list(self.inputs)}")
        self.condition = next(iter(self.inputs)) if condition is None else condition
        if self.condition not in self.inputs:
            raise UnknownNameError("input", self.condition, self.inputs)
        self.others = tuple(name for name in self.inputs if name != self.condition)
        self.project = nn.ModuleList(
            nn.Identity() if self.inputs[name] == dim else nn.Linear(self.inputs[name], dim, bias=False)
            for name in (self.condition, *self.others)
        )
        self.modulate = BranchLinear(len(self.others), dim, 2 * dim)

    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens:
        """Join one batch; a token is real where that of a conditioned sensor is, or one where only c has any."""
        first, *layers = self.project
        given = scrub(inputs[self.condition])
        vector, there = first(pool(given)), given.mask.any(1)
        scale, shift = self.modulate(vector.expand(len(self.others), 1, *vector.shape).transpose(1, 2)).chunk(2, -1)
        parts = []
        streams = [scrub(inputs[name]) for name in self.others]
        for i, (project, tokens) in enumerate(zip(layers, streams, strict=True)):
            values = project(tokens.values)
            parts.append(torch.where(there[:, None, None], (1 + scale[i]) * values + shift[i], values))
        times = [tokens.time for tokens in streams if tokens.time is not None]
        fused = Tokens(
            torch.cat(parts, 1),
            torch.cat([tokens.mask for tokens in streams], 1),
            any_present(inputs[name] for name in self.inputs),
            torch.cat(times, 1) if len(times) == len(streams) else None,
        )
        return one_at_least(fused, there, self.duration)
