"""Passes of a model in training beside the step's own: they leave nothing behind."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def aside(model: nn.Module) -> Iterator[None]:
    """What a pass learns of its batch inside (running means of norms) is forgotten afterwards.

    Mixtures, and records that were changed on purpose, are not what the model will be asked about.
    """
    kept = [(part, name, buffer) for part in model.modules() for name, buffer in part._buffers.items()]
    for part, name, buffer in kept:
        part._buffers[name] = None if buffer is None else buffer.clone()
    try:
        yield
    finally:
        for part, name, buffer in kept:
            part._buffers[name] = buffer


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """No dropout inside; otherwise as in training, and aside.

    Norms go on by the statistics of their batch: with running ones, which lag behind, it would be another model, and
    nothing would hold that to the labels. Recurrent layers stay as they are, for CUDA has no gradient through them in
    evaluation mode.
    """
    training = [
        part for part in model.modules() if part.training and not part._buffers and not isinstance(part, nn.RNNBase)
    ]
    for part in training:
        part.training = False
    try:
        with aside(model):
            yield
    finally:
        for part in training:
            part.training = True
