"""A model without dropout, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, each part's own mode again afterwards.

    Recurrent layers stay as they are: CUDA has no gradient through them in evaluation mode.
    """
    training = [part for part in model.modules() if part.training and not isinstance(part, nn.RNNBase)]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
