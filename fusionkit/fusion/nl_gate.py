"""Non-local gate: the first sensor's tokens gather from the others' by attention without scale."""

from collections.abc import Mapping

import torch
from torch import nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Tokens, any_present, scrub
from fusionkit.core.registry import fusion
from fusionkit.fusion.branches import masked_softmax
from fusionkit.fusion.operation import IntermediateFusion
from fusionkit.fusion.pooled import one_at_least


@fusion.register("nl_gate")
class NonLocalGate(IntermediateFusion):
    r"""Non-local gate: every token of the first sensor looks at all tokens of the others.

    .. math:: y = q + \mathrm{softmax}(q k^T)\, v, \qquad q = L_q h_1,\; k = L_k h_2,\; v = L_v h_2

    There is no division by the root of the width and no map after it, and the skip carries the *projected* q; what
    comes out are the first sensor's tokens, with their times. Sensors are not alike: put the one whose tokens should
    be kept first. With two equal keys the mean of their values is added.

    What follows is ours. With more than two sensors the second to the last are looked at together, each through maps
    of its own, all their tokens in one softmax (public code ignores the third). Where the others are absent, y = q.
    Where the first is absent, one token of zeros stands for it, so that its q is the bias of :math:`L_q`.

    Args:
        inputs: width of each token stream; the first asks.
        dim: width of the stream that comes out.
        duration: length of the window in seconds, in whose middle the token of an absent first sensor lies.

    Raises:
        ConfigError: there is one input only.

    Reference:
        Wang et al., "Non-local Neural Networks", CVPR 2018; the gate as in Liang et al., "MultiBench", NeurIPS 2021.
    """

    def __init__(self, inputs: Mapping[str, int], dim: int, duration: float | None) -> None:
        super().__init__(inputs, dim, duration)
        if len(self.inputs) < 2:
            raise ConfigError(f"needs at least 2 inputs, but has {list(self.inputs)}")
        first, *others = self.inputs.values()
        self.query = nn.Linear(first, dim)
        self.keys = nn.ModuleList(nn.Linear(width, dim) for width in others)
        self.values = nn.ModuleList(nn.Linear(width, dim) for width in others)

    def forward(self, inputs: Mapping[str, Tokens]) -> Tokens:
        """Join one batch; a token is real where the first sensor's is, and one where only others have any."""
        first, *others = (scrub(inputs[name]) for name in self.inputs)
        key = torch.cat([layer(tokens.values) for layer, tokens in zip(self.keys, others, strict=True)], 1)
        value = torch.cat([layer(tokens.values) for layer, tokens in zip(self.values, others, strict=True)], 1)
        mask = torch.cat([tokens.mask for tokens in others], 1)
        query = self.query(first.values)
        weights = masked_softmax(query @ key.transpose(1, 2), mask[:, None])
        present = any_present(inputs[name] for name in self.inputs)
        fused = Tokens(query + weights @ value, first.mask, present, first.time)
        return one_at_least(fused, mask.any(1), self.duration)
