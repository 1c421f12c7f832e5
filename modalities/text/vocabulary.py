"""A byte-level BPE vocabulary, learned from training sentences and kept as one JSON file."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

RESERVED = ("[pad]", "[drop]")
PADDING, DROPPED = 0, 1


def train_vocabulary(
    sentences: Iterable[str], *, size: int, min_frequency: int, max_tokens: int, lowercase: bool
) -> Tokenizer:
    """Learn merges of bytes into tokens; the same sentences in the same order give the same file.

    Every byte is a token, so nothing is unknown. Ids 0 (padding) and 1 (dropped, see `TokenDrop`) are kept free: no
    sentence can hold them, not even one that spells them out. The tokenizer cuts after ``max_tokens`` itself, so that
    whoever loads the file alone gets the ids that the model was trained on.

    Args:
        sentences: what to learn from.
        size: most tokens, the 258 for bytes and reserved ids included.
        min_frequency: how often a pair must occur to become a token.
        max_tokens: where a sentence is cut.
        lowercase: whether upper case is folded.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=list(RESERVED),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.enable_truncation(max_tokens)
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = []  # or "[pad]" in a sentence would become padding
    return Tokenizer.from_str(json.dumps(document))


@dataclass(frozen=True)
class Counts:
    """How often training sentences have each token.

    Attributes:
        total: how many sentences there are.
        sentences: by id, how many have the token.
        shares: by id, the token's share of every sentence, summed: 0.75 of "a b" and "a a b c" for b.
    """

    total: int
    sentences: list[int]
    shares: list[float]


def count_tokens(tokenizer: Tokenizer, sentences: Iterable[str]) -> Counts:
    """Count the tokens of every sentence, as far as it is read."""
    size = tokenizer.get_vocab_size()
    counts = Counts(0, [0] * size, [0.0] * size)
    total = 0
    for sentence in sentences:
        total += 1
        ids = tokenizer.encode(sentence).ids
        for number, often in Counter(ids).items():
            counts.sentences[number] += 1
            counts.shares[number] += often / len(ids)
    return Counts(total, counts.sentences, counts.shares)


def spell(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text that ids stand for; what is padding or dropped is left out."""
    pieces = [tokenizer.id_to_token(number) for number in ids if number not in (PADDING, DROPPED)]
    return str(decoders.ByteLevel().decode([piece for piece in pieces if piece is not None])).strip()


def continues(piece: str) -> bool:
    """Whether a token goes on with the word before it: it starts with a letter, a digit or a byte of one."""
    first = ord(piece[0])
    return piece[0].isalnum() if first < 128 else not 0x100 <= first <= 0x120  # those are blanks and control bytes
