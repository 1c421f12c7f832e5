"""Words in place of which another one may stand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor

from fusionkit.augment.augmentation import WindowAugmentation, choose, uniform
from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.modality import Modality
from fusionkit.core.registry import augment

from .reader import Text
from .vocabulary import PADDING, continues

NONE = -1
FACTOR = 6364136223846793005  # of the hash of a word's ids; a hash that fits is looked at again, id by id


@augment.register("synonym")
class Synonym(WindowAugmentation):
    """Replace words by their synonyms, each word that has any with a probability of its own.

    Words are whole words of the sentence, not tokens: with ``{big: [large, huge]}``, "a big dog" may become "a huge
    dog", and "a bigger dog" stays. A sentence that grows beyond the longest window of its batch is cut. Stop-words are
    left alone by having no synonyms. A word beside a dropped token is no longer known and stays.

    Args:
        thesaurus: synonyms by word; or a file of UTF-8 lines such as ``big: large, huge``, # starting a comment.
        rate: probability of a word that has synonyms.
        probability: of changing a sentence at all.

    Raises:
        ConfigError: the file is missing or has another form, a word has a blank in it or no synonyms, or (`meet`) the
            sensor is no text.

    Reference:
        Zhang, Zhao, LeCun, Character-level Convolutional Networks for Text Classification, NeurIPS 2015.
    """

    axes: ClassVar[int] = 1
    ids: ClassVar[bool] = True

    def __init__(
        self,
        *,
        thesaurus: Annotated[str | dict[str, list[str]], Field(description="synonyms by word, or a file of them")],
        rate: Annotated[float, Field(ge=0, le=1, description="share of words that are replaced")] = 0.2,
        probability: Annotated[float, Field(ge=0, le=1, description="of changing a sentence")] = 1.0,
    ) -> None:
        super().__init__()
        self.thesaurus = _checked(read_thesaurus(Path(thesaurus)) if isinstance(thesaurus, str) else thesaurus)
        self.rate = rate
        self.probability = probability
        for name in ("going_on", "hash", "entry", "known", "first", "count", "other"):
            self.register_buffer(name, None, persistent=False)

    going_on: Tensor
    hash: Tensor
    entry: Tensor
    known: Tensor
    first: Tensor
    count: Tensor
    other: Tensor

    def meet(self, modality: Modality) -> None:
        if not isinstance(modality, Text):
            raise ConfigError(f"{self.kind} must be of a text sensor, but got {modality.kind}")
        tokenizer = Tokenizer.from_str(modality.tokenizer.to_str())
        tokenizer.no_truncation()
        heads: dict[tuple[int, ...], list[list[int]]] = {}
        for word, others in self.thesaurus.items():
            heads.setdefault(tuple(_ids(tokenizer, word)), []).extend(_ids(tokenizer, other) for other in others)
        others_ids = [ids for said in heads.values() for ids in said]
        pieces = [tokenizer.id_to_token(number) or "" for number in range(tokenizer.get_vocab_size())]
        self.going_on = torch.tensor([bool(piece) and continues(piece) for piece in pieces])
        self.known = _table([list(ids) for ids in heads])
        self.other = _table(others_ids)
        self.count = torch.tensor([len(said) for said in heads.values()])
        self.first = self.count.cumsum(0) - self.count
        self.hash, self.entry = _hash(self.known).sort()

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Change one batch of ids."""
        ids, width = stream.values, stream.values.shape[1]
        if self.going_on is None:
            raise ConfigError(f"{self.kind} must meet its sensor first, for its vocabulary")
        place = torch.arange(width, device=ids.device).expand_as(ids)
        real = place < stream.length[:, None]
        starts = real & ((place == 0) | ~self.going_on[ids.clamp(0, len(self.going_on) - 1)])
        word = torch.where(real, starts.cumsum(1) - 1, width)  # number of each token's word in its sentence
        chosen = choose(len(ids), self.probability, ids, generator)
        draw = uniform((2, *ids.shape), ids, generator)
        entry = self._look_up(ids, word)
        replaced = starts & (entry != NONE) & (draw[0] < self.rate) & chosen[:, None]
        entry = entry.clamp_min(0)
        synonym = self.first[entry] + torch.floor(draw[1] * self.count[entry]).long()
        synonym = torch.where(replaced, synonym, NONE)

        # by word of the sentence: where it starts, what replaces it, how many tokens it has then
        spare = torch.where(starts, word, width)
        begin = torch.zeros(len(ids), width + 1, dtype=torch.long, device=ids.device).scatter(1, spare, place)
        taken = torch.full_like(begin, NONE).scatter(1, spare, synonym)[:, :width]
        own = torch.zeros_like(begin).scatter_add(1, word, torch.ones_like(word))[:, :width]
        size = torch.where(taken == NONE, own, (self.other != NONE).sum(1)[taken.clamp_min(0)])
        end = size.cumsum(1)

        # by token of the new sentence: its word, and its place in there
        which = torch.searchsorted(end, place.contiguous(), right=True).clamp_max(width - 1)
        inside = place - (end - size).gather(1, which)
        kept = ids.gather(1, (begin[:, :width].gather(1, which) + inside).clamp(0, width - 1))
        source = taken.gather(1, which)
        said = self.other[source.clamp_min(0), inside.clamp(0, self.other.shape[1] - 1)]
        length = end[:, -1].clamp_max(width)
        values = torch.where(source == NONE, kept, said.to(ids.dtype))
        values = torch.where(place < length[:, None], values, torch.full_like(values, PADDING))
        changed = replaced.any(1)
        return stream._replace(
            values=torch.where(changed[:, None], values, ids), length=torch.where(changed, length, stream.length)
        )

    def _look_up(self, ids: Tensor, word: Tensor) -> Tensor:
        """By token: which of the thesaurus's words starts there and is the whole word; NONE where none does."""
        span = self.known.shape[1]
        after = torch.nn.functional.pad(ids, (0, span), value=PADDING).unfold(1, span + 1, 1)
        same = torch.nn.functional.pad(word, (0, span), value=NONE).unfold(1, span + 1, 1) == word[..., None]
        whole = torch.where(same, after, NONE)  # one place more than any known word has
        found = torch.searchsorted(self.hash, _hash(whole[..., :span].contiguous())).clamp_max(len(self.hash) - 1)
        entry = self.entry[found]
        fits = (self.known[entry] == whole[..., :span]).all(-1) & (whole[..., span] == NONE)
        return torch.where(fits, entry, NONE)


def read_thesaurus(path: Path) -> dict[str, list[str]]:
    """Synonyms by word, of lines such as ``big: large, huge``.

    Raises:
        ConfigError: the file cannot be read or a line has another form; the message names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ConfigError(f"thesaurus must be a file of UTF-8 text, but {path}: {reason}") from None
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        said = line.partition("#")[0].strip()
        word, colon, others = (part.strip() for part in said.partition(":"))
        if said and not (word and colon and others):
            raise ConfigError(
                f"thesaurus: a line must be a word, a colon and synonyms, but {path}:{number} is {line!r}"
            )
        if word in found:
            raise ConfigError(f"thesaurus: a word must have one line, but {path}:{number} has {word!r} again")
        if said:
            found[word] = [other.strip() for other in others.split(",") if other.strip()]
    return found


def _checked(thesaurus: Mapping[str, list[str]]) -> dict[str, list[str]]:
    if not thesaurus:
        raise ConfigError("thesaurus must have a word, but is empty")
    for word, others in thesaurus.items():
        if not others:
            raise ConfigError(f"thesaurus: a word must have synonyms, but {word!r} has none")
        for said in (word, *others):
            if not said.isalnum():
                raise ConfigError(f"thesaurus: a word must be of letters and digits, but got {said!r}")
    return dict(thesaurus)


def _ids(tokenizer: Tokenizer, word: str) -> list[int]:
    return list(tokenizer.encode(word).ids)


def _table(rows: list[list[int]]) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[NONE] * (longest - len(row))] for row in rows])


def _hash(ids: Tensor) -> Tensor:
    """One number of each row of ids, modulo two to the power of 64."""
    hashed = torch.zeros_like(ids[..., 0])
    for place in range(ids.shape[-1]):
        hashed = (hashed + ids[..., place] + 2) * FACTOR
    return hashed
