"""Next token: every word of a sentence is told from those before it."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.registry import objectives
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.guess import guess_loss
from fusionkit.pretraining.masked_language import real_words
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.sight import require_each, text_sensors


@objectives.register("next_token")
class NextToken(PretrainingObjective):
    r"""Tell every word from the token of the word before it: mean over words of :math:`-\log p(u_i \mid u_1 \dots u_{i-1})`.

    The encoder must be causal, or it would see the answer: ``{kind: transformer, causal: true}``, ``gru``. One whose
    tokens know their own word alone (``mlp``) learns which word follows which. The first word is told by nothing and is
    not asked for; of sensors that are no text nothing is learned. The mean, where the paper has the sum; one linear map
    from token to vocabulary, where it has the embedding's own weights.

    Args:
        given: what the builder knows.

    Raises:
        ConfigError: the stage has no text, or the text's encoder has not a token a word, or one that looks ahead.

    Reference:
        Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018, equation 1.
    """

    learns_from: ClassVar[frozenset[str]] = frozenset({"text"})
    early: ClassVar[bool] = True

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        names = text_sensors(given, "next_token")
        self.heads = nn.ModuleDict({name: nn.Linear(given.dim, given.vocabularies[name]) for name in names})

    def bind(self, model: FusionModel) -> None:
        """Try whether tokens look ahead.

        Raises:
            ConfigError: they do.
        """
        for name in self.heads:
            self.check_encoder(name, model.encoders[name])

    def check_encoder(self, name: str, encoder: nn.Module) -> None:
        """Refuse an encoder that looks ahead."""
        if require_each(encoder, name, "next_token").ahead:
            raise ConfigError(
                f"next_token must have an encoder that looks at no later word, as causal: true, but {name} has {encoder.kind}"
            )

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        del generator
        losses = []
        for name, head in self.heads.items():
            window = looks.batch.inputs[name]
            assert isinstance(window, Window)  # embeddings train, and are never computed before
            words = window.values.clamp(0, self.given.vocabularies[name] - 1)
            logits = head(looks.clean.stream(name).values[:, :-1])
            losses.append(guess_loss(logits, words[:, 1:], real_words(window)[:, 1:]))
        return torch.stack(losses).mean()
