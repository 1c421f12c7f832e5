"""Self-attention: the tokens of all sensors in one row."""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from fusionkit.core.levels import Tokens, scrub
from fusionkit.core.registry import fusion
from fusionkit.encoders.transformer import TransformerBlock
from fusionkit.fusion.branches import in_one_row
from fusionkit.fusion.operation import IntermediateFusion
from fusionkit.fusion.position import TimeCode


@fusion.register("self_attention")
class SelfAttention(IntermediateFusion):
    r"""One transformer over the tokens of all sensors, each of which looks at every real one.

    Token t of sensor m enters as :math:`P_m x_{m,t} + e_m + p(t)` with a projection and a learned vector for each
    sensor and `TimeCode` for its time; pre-norm blocks and a layer norm follow. Heads read the mean over all real
    tokens, in which a sensor counts by how many it has. The cost grows with the square of the number of all tokens:
    four sensors of 10 tokens make rows of 40 and 1600 scores a head.

    What the paper puts in one row are words and image regions; the code of time and the defaults are ours.

    Args:
        inputs: width of each token stream.
        dim: width of the stream that comes out.
        duration: length of the window in seconds; None where no stream has time.

    Raises:
        ConfigError: ``heads`` does not divide ``dim``.

    Reference:
        Single-stream fusion: Chen et al., "UNITER: UNiversal Image-TExt Representation Learning", ECCV 2020.
    """

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        layers: Annotated[int, Field(ge=1, description="blocks")] = 2,
        heads: Annotated[int, Field(ge=1, description="attention heads, a divisor of dim")] = 4,
        dropout: Annotated[
            float, Field(ge=0, lt=1, description="on attention weights, feed-forward layers and what is added")
        ] = 0.1,
    ) -> None:
        super().__init__(inputs, dim, duration)
        self.project = nn.ModuleList(
            nn.Identity() if width == dim else nn.Linear(width, dim) for width in self.inputs.values()
        )
        self.sensor = nn.Parameter(0.02 * torch.randn(len(self.inputs), dim))
        self.time = TimeCode(dim, duration)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens:
        """Join one batch: all tokens, those of the first sensor first."""
        clean = [scrub(inputs[name]) for name in self.inputs]
        row = in_one_row(
            tokens._replace(values=project(tokens.values) + self.sensor[i] + self.time(tokens))
            for i, (project, tokens) in enumerate(zip(self.project, clean, strict=True))
        )
        states = row.values
        for block in self.blocks:
            states = block(states, row.mask)
        return scrub(row._replace(values=self.norm(states)))
