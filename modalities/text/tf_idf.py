"""Words that say little become other words that say little; those that a sentence is about stay."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from fusionkit.augment.augmentation import WindowAugmentation, choose, uniform
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.modality import Modality
from fusionkit.core.registry import augment

from .reader import Text
from .vocabulary import DROPPED, PADDING


def inverse_frequency(frequency: Int[Tensor, " word"], documents: int) -> Float[Tensor, " word"]:
    r""":math:`\log(N / n_w)` where :math:`n_w` of N sentences have a word: of four, one that is in all has 0, in one 1.3863.

    A word that was never seen counts as seen once.
    """
    return (documents / frequency.clamp_min(1).double()).log()


def replacement(
    ids: Int[Tensor, "batch token"],
    real: Bool[Tensor, "batch token"],
    idf: Float[Tensor, " word"],
    rate: float,
) -> Float[Tensor, "batch token"]:
    r"""How probably each word of a sentence is replaced: :math:`p_i = \rho n \frac{m - s_i}{\sum_j (m - s_j)}`, at most 1.

    :math:`s_i` is the word's share of the sentence's n words times its `inverse_frequency`, and m the largest of them, so
    that the word that says most always stays, and :math:`\rho n` words are replaced on average. Four words that score 0,
    0.25, 0.25 and 0.5 have 0.4, 0.2, 0.2 and 0 at a rate of 0.2. Words that all score alike stay.

    Args:
        ids: of each sentence.
        real: which of them are words.
        idf: of every word.
        rate: :math:`\rho`.
    """
    count = real.sum(1, keepdim=True)
    weight = real.to(idf.dtype)
    often = weight.new_zeros(len(ids), len(idf)).scatter_add(1, ids, weight).gather(1, ids)
    score = torch.where(real, often / count.clamp_min(1) * idf[ids], 0.0)
    room = torch.where(real, score.amax(1, keepdim=True) - score, 0.0)
    total = room.sum(1, keepdim=True)
    spared = torch.where(total > 0, rate * count * room / total.clamp_min(1e-12), 0.0)
    return spared.clamp_max(1.0)


def replacements(score: Float[Tensor, " word"], seen: Bool[Tensor, " word"]) -> Float[Tensor, " word"]:
    r"""With which probability each word is what another one becomes: :math:`\propto m - S_w` of the words that were seen.

    :math:`S_w` is the word's score, summed over all sentences, and m the largest. Three words of 0, 1 and 2 have 2/3, 1/3
    and 0; where all score alike, every word is as probable.
    """
    room = torch.where(seen, score.masked_fill(~seen, -torch.inf).max() - score, 0.0)
    room = torch.where(room.sum() > 0, room, seen.to(score.dtype))
    return room / room.sum()


@augment.register("tf_idf")
class TfIdf(WindowAugmentation):
    """Replace words that tell little of what a sentence is about, by words that tell little of any.

    Each word is replaced by itself with the probability of `replacement`, by a word drawn as `replacements` says. All counts
    are those of the training sentences, which the sensor kept when it learned its vocabulary. A word is a token of that
    vocabulary (the paper: a whole word), so that pieces of a rare word go one by one: enlarge ``vocab_size`` where that
    hurts. Dropped tokens stay, and so does the length.

    Args:
        rate: how many words of a sentence are replaced on average.
        probability: of changing a sentence at all.

    Raises:
        ConfigError: (`meet`) the sensor is no text, or was fitted before counts were kept.

    Reference:
        Xie et al., "Unsupervised Data Augmentation for Consistency Training", NeurIPS 2020, appendix, whose code sums
        scores over sentences and shares a sentence's probabilities out as here.
    """

    axes: ClassVar[int] = 1
    ids: ClassVar[bool] = True
    idf: Tensor
    below: Tensor

    def __init__(
        self,
        *,
        rate: Annotated[float, Field(ge=0, le=1, description="share of words that are replaced on average")] = 0.1,
        probability: Annotated[float, Field(ge=0, le=1, description="of changing a sentence")] = 1.0,
    ) -> None:
        super().__init__()
        self.rate = rate
        self.probability = probability
        for name in ("idf", "below"):
            self.register_buffer(name, None, persistent=False)

    def meet(self, modality: Modality) -> None:
        if not isinstance(modality, Text):
            raise ConfigError(f"{self.kind} must be of a text sensor, but got {modality.kind}")
        counts = modality.counts
        if counts is None:
            raise ConfigError(f"{self.kind} must have counts of words, but the sensor was fitted before any were kept")
        frequency = torch.tensor(counts.sentences)
        idf = inverse_frequency(frequency, counts.total)
        self.idf = idf.float()
        seen = frequency > 0
        if not seen.any():
            raise ConfigError(f"{self.kind} must have training sentences to count words of, but there are none")
        self.below = replacements(torch.tensor(counts.shares, dtype=torch.float64) * idf, seen).cumsum(0).float()

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Change one batch of ids."""
        if self.idf is None:
            raise ConfigError(f"{self.kind} must meet its sensor first, for its vocabulary")
        ids = stream.values
        inside = torch.arange(ids.shape[1], device=ids.device) < stream.length[:, None]
        real = inside & (ids != PADDING) & (ids != DROPPED)
        chosen = choose(len(ids), self.probability, ids, generator)
        draw = uniform((2, *ids.shape), ids, generator)
        known = ids.clamp(0, len(self.idf) - 1)
        replaced = (draw[0] < replacement(known, real, self.idf, self.rate)) & real & chosen[:, None]
        other = torch.searchsorted(self.below, draw[1].contiguous(), right=True).clamp_max(len(self.below) - 1)
        return stream._replace(values=torch.where(replaced, other.to(ids.dtype), ids))
