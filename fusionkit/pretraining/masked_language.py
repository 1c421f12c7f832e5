"""Masked language: some words of a sentence are hidden, and told from the others."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from fusionkit.augment.augmentation import uniform
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.registry import objectives
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.guess import guess_loss
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.places import choose_some
from fusionkit.pretraining.sight import require_each, text_sensors

PADDING, DROPPED = 0, 1
"""Ids that every text keeps free: no word has them."""
AS_DROPPED, AS_ANOTHER = 0.8, 0.1
"""Share of hidden words that become the dropped id, and that become any other; the rest stay as they are."""


def real_words(window: Window) -> Bool[Tensor, "batch token"]:
    """Which ids are words of a sentence that is there."""
    inside = torch.arange(window.values.shape[1], device=window.values.device) < window.length[:, None]
    return inside & (window.values != PADDING) & window.present[:, None]


def hide_words(
    ids: Int[Tensor, "batch token"], chosen: Bool[Tensor, "batch token"], vocabulary: int, generator: torch.Generator
) -> Int[Tensor, "batch token"]:
    """Of the chosen words 8 in 10 become the dropped id, 1 in 10 any word, and 1 in 10 stays."""
    draw = uniform(tuple(ids.shape), ids, generator)
    words = vocabulary - DROPPED - 1
    another = (uniform(tuple(ids.shape), ids, generator) * words).to(ids.dtype).clamp_max(words - 1) + DROPPED + 1
    changed = torch.where(draw < AS_DROPPED, torch.full_like(ids, DROPPED), another)
    return torch.where(chosen & (draw < AS_DROPPED + AS_ANOTHER), changed, ids)


@objectives.register("masked_language")
class MaskedLanguage(PretrainingObjective):
    r"""Choose 15 % of the words of a text, hide most of them, and tell each from its token: mean :math:`-\log p(\text{word})`.

    Of the chosen 80 % become an id that no text holds, 10 % any word and 10 % stay, so that an encoder cannot
    tell which words are asked for. The loss is that of chosen words alone. At least one word of a text is chosen and
    one is not; a text of one word teaches nothing. One linear map from token to vocabulary (the paper: one layer more,
    and the embedding's own weights). Embeddings train, too. Of sensors that are no text nothing is learned.

    Args:
        given: what the builder knows.
        share: of words that are chosen.

    Raises:
        ConfigError: the stage has no text, or the text's encoder has not a token a word that knows of other words.

    Reference:
        Devlin et al., "BERT", NAACL 2019.
    """

    learns_from: ClassVar[frozenset[str]] = frozenset({"text"})
    early: ClassVar[bool] = True

    def __init__(
        self, given: Given, *, share: Annotated[float, Field(gt=0, lt=1, description="share of words chosen")] = 0.15
    ) -> None:
        super().__init__(given)
        self.share = share
        names = text_sensors(given, "masked_language")
        self.heads = nn.ModuleDict({name: nn.Linear(given.dim, given.vocabularies[name]) for name in names})

    def bind(self, model: FusionModel) -> None:
        """Try whether tokens know of other words.

        Raises:
            ConfigError: they do not.
        """
        for name in self.heads:
            self.check_encoder(name, model.encoders[name])

    def check_encoder(self, name: str, encoder: nn.Module) -> None:
        """Refuse an encoder whose tokens know nothing of other words."""
        sight = require_each(encoder, name, "masked_language")
        if not (sight.back or sight.ahead):
            raise ConfigError(
                f"masked_language must have tokens that know of other words, but {name} has {encoder.kind}"
            )

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        losses = []
        for name, head in self.heads.items():
            window = looks.batch.inputs[name]
            assert isinstance(window, Window)  # embeddings train, and are never computed before
            size = self.given.vocabularies[name]
            chosen = choose_some(real_words(window), self.share, generator)
            hidden = window._replace(values=hide_words(window.values, chosen, size, generator))
            tokens = looks.model.look({**looks.batch.inputs, name: hidden}).stream(name)
            losses.append(guess_loss(head(tokens.values), window.values.clamp(0, size - 1), chosen))
        return torch.stack(losses).mean()
