"""Bottleneck: sensors talk only through a few shared tokens."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Fused, Tokens, any_present, scrub
from fusionkit.core.registry import fusion
from fusionkit.fusion.branches import BranchBlock, Group, group_streams, in_one_row, some_branches
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
    of about one length are computed as one; the cost grows with their number.

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
        normed = self._exchange(group_streams(embedded))
        if self.reader is None:
            parts = [tokens._replace(values=normed[i][:, : tokens.mask.shape[1]]) for i, tokens in enumerate(clean)]
            return scrub(in_one_row(parts))
        some = torch.stack([tokens.mask.any(1) for tokens in clean])
        read = torch.stack([normed[i][:, 0] for i in range(len(clean))], 1)
        row = scrub(Tokens(read, some.transpose(0, 1), any_present(clean)))
        own = {
            name: Tokens(row.values[:, i, None], row.mask[:, i, None], some[i]) for i, name in enumerate(self.inputs)
        }
        return Fused(row, row.values.new_zeros(()), own)

    def _exchange(self, groups: Sequence[Group]) -> dict[int, Float[Tensor, "batch token dim"]]:
        """Every stream behind every block and the last norm, by its number; learned tokens come first."""
        here = torch.cat([group.mask.any(2) for group in groups])
        if self.reader is not None:
            groups = [self._add_reader(self.reader, group) for group in groups]
        share = here.to(groups[0].values.dtype)[..., None, None]
        shared, count = self.shared.expand(here.shape[1], -1, -1), len(self.shared)
        for i, block in enumerate(self.blocks):
            if i < self.fusion_layer:
                groups = [group._replace(values=self._pass(block, group)) for group in groups]
                continue
            passed = [self._pass(block, self._add_shared(shared, group)) for group in groups]
            groups = [group._replace(values=both[:, :, :-count]) for group, both in zip(groups, passed, strict=True)]
            told = torch.cat([both[:, :, -count:] for both in passed])
            mean = (told * share).sum(0) / share.sum(0).clamp_min(1)
            shared = torch.where(here.any(0)[:, None, None], mean, shared)
        return {
            stream: one for group in groups for stream, one in zip(group.streams, self.norm(group.values), strict=True)
        }

    @staticmethod
    def _add_reader(reader: Float[Tensor, "sensor dim"], group: Group) -> Group:
        own = torch.stack([reader[stream] for stream in group.streams])[:, None, None]
        values = torch.cat([own.expand(-1, group.values.shape[1], -1, -1), group.values], 2)
        return Group(group.streams, values, F.pad(group.mask, (1, 0), value=True))

    @staticmethod
    def _add_shared(shared: Float[Tensor, "batch bottleneck dim"], group: Group) -> Group:
        values = torch.cat([group.values, shared.expand(len(group.streams), -1, -1, -1)], 2)
        return Group(group.streams, values, F.pad(group.mask, (0, shared.shape[1]), value=True))

    def _pass(self, block: nn.Module, group: Group) -> Float[Tensor, "stream batch token dim"]:
        """One block; with shared weights the sensors are rows of one branch."""
        streams, x, mask = group
        if self.share:
            out: Tensor = block(x.flatten(0, 1)[None], mask.flatten(0, 1)[None])
            return out.reshape(x.shape)
        return some_branches(block, streams, x, mask)
