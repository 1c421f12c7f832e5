"""Log-probabilities of no and yes."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def yes_or_no(logits: Float[Tensor, "*rows"]) -> Float[Tensor, "*rows 2"]:
    """Logs of the chances of no and yes, in float32 at least: log-odds of 0 give log 1/2 twice."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # log sigma(x) is -softplus(-x): the ONNX exporter takes the logarithm of a sigmoid apart and loses digits
    return -torch.stack([F.softplus(logits), F.softplus(-logits)], dim=-1)
