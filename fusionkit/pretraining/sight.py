"""Which steps an encoder's tokens know of, found out by trying."""

from typing import NamedTuple

import torch
from torch import nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features
from fusionkit.encoders.encoder import Encoder, FeatureEncoder
from fusionkit.pretraining.objective import Given

STEPS = 5


class Sight(NamedTuple):
    """What an encoder's tokens know.

    Attributes:
        each: every step has a token of its own.
        back: tokens know of earlier steps.
        ahead: tokens know of later steps.
    """

    each: bool
    back: bool
    ahead: bool


@torch.no_grad()
def find_sight(encoder: Encoder) -> Sight:
    """Encode made features, and again with the first and with the last step changed; nothing is left of it."""
    if not isinstance(encoder, FeatureEncoder):
        return Sight(False, False, False)
    training, generator = encoder.training, torch.Generator().manual_seed(0)
    size = (STEPS, encoder.shape.channel, encoder.shape.subchannel)
    values = torch.randn(size, generator=generator).repeat(3, 1, 1, 1)
    values[1, 0] += torch.randn(size[1:], generator=generator)
    values[2, -1] += torch.randn(size[1:], generator=generator)
    here = torch.ones(3, STEPS, dtype=torch.bool)
    features = Features(
        values, here, here[:, 0], torch.arange(float(STEPS)).expand(3, -1) if encoder.shape.timed else None
    )
    like = next(encoder.parameters(), values)
    parts = [
        None if x is None else x.to(like.device, like.dtype if x.is_floating_point() else x.dtype) for x in features
    ]
    tokens = encoder.eval()(Features(*parts)).values  # type: ignore[arg-type]
    encoder.train(training)
    changed = ~torch.isclose(tokens[1:], tokens[:1], atol=1e-5).all(2)
    return Sight(tokens.shape[1] == STEPS, bool(changed[0, 1:].any()), bool(changed[1, :-1].any()))


def text_sensors(given: Given, kind: str) -> list[str]:
    """The sensors of a stage that are ids of a vocabulary.

    Raises:
        ConfigError: there is none.
    """
    found = [name for name in given.sensors if given.vocabularies.get(name)]
    if not found:
        raise ConfigError(f"{kind} learns from text, but none of {list(given.sensors)} is text")
    return found


def require_each(encoder: nn.Module, name: str, kind: str) -> Sight:
    """What the tokens of a text know, one a word.

    Raises:
        ConfigError: a token stands for several words, or for none.
    """
    assert isinstance(encoder, Encoder)
    found = find_sight(encoder)
    if not found.each:
        raise ConfigError(f"{kind} must have an encoder with a token a word, but {name} has {encoder.kind}")
    return found
