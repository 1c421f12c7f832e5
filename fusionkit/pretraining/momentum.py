"""A slow copy of what makes tokens, which follows the model that trains."""

import copy

import torch
from torch import nn

from fusionkit.fusion.model import FusionModel


def encoding_copy(model: FusionModel) -> FusionModel:
    """A copy that looks at sensors as the model does, in evaluation mode, and never trains; it has no fusion and no heads."""
    made = copy.deepcopy(model)
    for part in ("operations", "merges", "branch_heads", "heads", "stream_heads"):
        setattr(made, part, nn.ModuleDict())
    return made.requires_grad_(False).eval()


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float | torch.Tensor) -> None:
    r"""Move each parameter of a copy, :math:`k \leftarrow m k + (1 - m) q`; buffers become those of ``fast``.

    At momentum 0.9, a 1 that follows a 2 becomes 1.1.

    Args:
        slow: the copy; it may lack parts of the other.
        fast: what it follows.
        momentum: 0 copies, 1 never moves.
    """
    parameters, buffers = dict(fast.named_parameters()), dict(fast.named_buffers())
    for name, parameter in slow.named_parameters():
        parameter.lerp_(parameters[name], 1 - momentum)
    for name, buffer in slow.named_buffers():
        buffer.copy_(buffers[name])
