"""Bottleneck: sensors talk only through a few shared tokens."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Fused, Tokens, scrub
from fusionkit.core.registry import fusion
from fusionkit.fusion.branches import BranchBlock, in_one_row, stack_streams
from fusionkit.fusion.operation import IntermediateFusion
from fusionkit.fusion.position import TimeCode


@fusion.register("bottleneck")
class Bottleneck(IntermediateFusion):
    r"""Multimodal Bottleneck Transformer: late layers exchange through ``bottlenecks`` shared tokens.

    Layers before ``fusion_layer`` see one sensor each. From there on, every sensor m sees its own tokens and the
    same shared tokens F, which become the mean of what the sensors made of them:

    .. math:: [X_m; F_m] = \mathrm{Enc}_m([X_m; F]), \qquad F = \frac{1}{M} \sum_m F_m

    ``Enc`` is a pre-norm block with GELU; a layer norm ends the stack. ``gap`` gives all tokens of all sensors, whose
    mean heads read; ``token`` gives one learned token a sensor that has seen the rest, and the mean over them (the
    paper averages the logits of one shared linear layer: the same number). There the heads learn from every sensor's
    token by itself, too, by the mean of its losses, as in the authors' code, which learns from that alone. All sensors
    are computed as one; the cost grows with their number.

    Of ours: the mean runs over the sensors that have something; tokens know their time by `TimeCode` and their sensor
    by a learned vector, in place of the paper's learned positions, which need a fixed length; there is no stochastic
    depth; the default numbers.

    Args:
        inputs: width of each token stream.
        dim: width of the stream that comes out.
        duration: length of the window in seconds; None where no stream has time.

    Raises:
        ConfigError: ``fusion_layer`` is not below ``layers``, or ``heads`` does not divide ``dim``.

    Reference:
        Nagrani et al., "Attention Bottlenecks for Multimodal Fusion", NeurIPS 2021.
    """

    shares_heads = True

    def __init__(
        self,
        inputs: Mapping[str, int],
        dim: int,
        duration: float | None,
        *,
        layers: Annotated[int, Field(ge=1, description="blocks")] = 4,
        fusion_layer: Annotated[
            int, Field(ge=0, description="the first block, counted from 0, that sees the shared tokens")
        ] = 2,
        bottlenecks: Annotated[int, Field(ge=1, description="shared tokens")] = 4,
        heads: Annotated[int, Field(ge=1, description="attention heads, a divisor of dim")] = 4,
        dropout: Annotated[
            float, Field(ge=0, lt=1, description="on attention weights, feed-forward layers and what is added")
        ] = 0.1,
        readout: Annotated[
            Literal["gap", "token"], Field(description="all tokens, or one learned token a sensor")
        ] = "gap",
        share: Annotated[bool, Field(description="one set of weights for all sensors")] = False,
    ) -> None:
        super().__init__(inputs, dim, duration)
        if fusion_layer >= layers:
            raise ConfigError(f"fusion_layer must be below layers, but {fusion_layer} is not below {layers}")
        count = len(self.inputs)
        self.fusion_layer, self.share = fusion_layer, share
        self.project = nn.ModuleList(
            nn.Identity() if width == dim else nn.Linear(width, dim) for width in self.inputs.values()
        )
        self.time = TimeCode(dim, duration)
        self.sensor = nn.Parameter(0.02 * torch.randn(count, dim))
        self.shared = nn.Parameter(0.02 * torch.randn(bottlenecks, dim))
        self.reader = nn.Parameter(0.02 * torch.randn(count, dim)) if readout == "token" else None
        self.blocks = nn.ModuleList(
            BranchBlock(1 if share else count, dim, heads, dropout=dropout, activation=F.gelu) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    @property
    def streams(self) -> Mapping[str, float]:
        """Every sensor's learned token, where heads read these."""
        return {} if self.reader is None else dict.fromkeys(self.inputs, 1 / len(self.inputs))

    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens | Fused:
        """Join one batch; hand out the learned tokens of the sensors, where there are any."""
        clean = [scrub(inputs[name]) for name in self.inputs]
        embedded = [
            tokens._replace(values=project(tokens.values) + self.sensor[i] + self.time(tokens))
            for i, (project, tokens) in enumerate(zip(self.project, clean, strict=True))
        ]
        states, mask = stack_streams(embedded)
        some = mask.any(2)
        if self.reader is not None:
            reader = self.reader[:, None, None].expand(-1, states.shape[1], -1, -1)
            states, mask = torch.cat([reader, states], 2), F.pad(mask, (1, 0), value=True)
        normed: Tensor = self.norm(self._exchange(states, mask, some))
        row = in_one_row(tokens._replace(values=normed[i, :, : tokens.mask.shape[1]]) for i, tokens in enumerate(clean))
        if self.reader is not None:
            row = scrub(Tokens(normed[:, :, 0].transpose(0, 1), some.transpose(0, 1), row.present))
            own = {
                name: Tokens(row.values[:, i, None], row.mask[:, i, None], some[i])
                for i, name in enumerate(self.inputs)
            }
            return Fused(row, normed.new_zeros(()), own)
        return scrub(row)

    def _exchange(
        self,
        states: Float[Tensor, "branch batch token dim"],
        mask: Bool[Tensor, "branch batch token"],
        some: Bool[Tensor, "branch batch"],
    ) -> Float[Tensor, "branch batch token dim"]:
        """Run every block."""
        count, own = len(self.shared), states.shape[2]
        shared = self.shared.expand(states.shape[1], -1, -1)
        wide = F.pad(mask, (0, count), value=True)
        here = some.to(states.dtype)[..., None, None]
        for i, block in enumerate(self.blocks):
            if i < self.fusion_layer:
                states = self._pass(block, states, mask)
                continue
            both = torch.cat([states, shared.expand(states.shape[0], -1, -1, -1)], 2)
            both = self._pass(block, both, wide)
            states = both[:, :, :own]
            mean = (both[:, :, own:] * here).sum(0) / here.sum(0).clamp_min(1)
            shared = torch.where(some.any(0)[:, None, None], mean, shared)
        return states

    def _pass(
        self, block: nn.Module, x: Float[Tensor, "branch batch token dim"], mask: Bool[Tensor, "branch batch token"]
    ) -> Float[Tensor, "branch batch token dim"]:
        """One block; with shared weights the sensors are rows of one branch."""
        if self.share:
            out: Tensor = block(x.flatten(0, 1)[None], mask.flatten(0, 1)[None])
            return out.reshape(x.shape)
        out = block(x, mask)
        return out
