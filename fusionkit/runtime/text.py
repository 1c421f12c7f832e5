"""Sentences to token ids, with the `tokenizers` library, which gets nothing but the vocabularies that fusionkit writes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusionkit.runtime.errors import BundleError

Array = np.ndarray[Any, Any]

SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "version": ("1.0",),
    "padding": (None,),
    "added_tokens": ([],),
    "normalizer": (
        {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
        {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
    ),
    "pre_tokenizer": ({"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},),
    "post_processor": (None,),
    "decoder": (None,),
}
"""What a ``tokenizer.json`` may say beside its model and where it cuts: no pattern or table of its own."""
CUT = {"direction": "Right", "strategy": "LongestFirst", "stride": 0}
MODEL: Mapping[str, Any] = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}
MOST_TOKENS = 2**20


class Vocabulary:
    """A byte-level BPE vocabulary as it lies in a bundle.

    Args:
        content: of ``tokenizer.json``.
        where: for messages.

    Attributes:
        size: how many ids there are.
        limit: tokens after which a sentence is cut, as it was in training.

    Raises:
        BundleError: it is none that fusionkit writes, or `tokenizers` is not installed.
    """

    def __init__(self, content: bytes, where: str) -> None:
        self.size, self.limit = _check(content, where)
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise BundleError(f"{where}: sentences need the package tokenizers, which is not installed") from None
        try:
            self._tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # noqa: BLE001 - the library raises nothing else
            raise BundleError(f"{where}: must be a vocabulary, but {' '.join(str(error).split())[:100]}") from None

    def __call__(self, name: str, sentences: Sequence[str], size: int | None) -> tuple[Array, Array]:
        """Ids ``(sentence, token)`` with zeros behind, and how many there are of each; a blank sentence has none.

        Args:
            name: of the sensor.
            sentences: as many as the batch has rows.
            size: tokens that a row must have; None: those of the longest sentence.

        Raises:
            BundleError: a sentence is no valid Unicode.
        """
        try:
            found = self._tokenizer.encode_batch([sentence if sentence.strip() else "" for sentence in sentences])
        except Exception:  # noqa: BLE001 - half a surrogate pair is TypeError or UnicodeEncodeError
            raise BundleError(f"{name}: a text must be valid Unicode, but half a surrogate pair is in it") from None
        rows = [one.ids[:size] for one in found]
        real = np.array([len(row) for row in rows], np.int64)
        ids = np.zeros((len(rows), size or max(1, int(real.max(initial=1)))), np.int64)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = tokens
        return ids, real


def _check(content: bytes, where: str) -> tuple[int, int]:
    """Size and limit of a vocabulary; whatever is none of ours never reaches the library."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: must be JSON, but {str(error)[:100]}") from None
    keys = {*SETTINGS, "truncation", "model"}
    if not isinstance(document, dict) or set(document) != keys:
        raise BundleError(f"{where}: must have the keys {sorted(keys)}, but has others")
    for key, allowed in SETTINGS.items():
        if document[key] not in allowed:
            raise BundleError(f"{where}: {key} must be what fusionkit writes, but is {json.dumps(document[key])[:80]}")
    cut, model = document["truncation"], document["model"]
    limit = cut.get("max_length") if isinstance(cut, dict) else None
    if not _is_count(limit, MOST_TOKENS) or cut != {**CUT, "max_length": limit}:
        raise BundleError(f"{where}: truncation must be to the right of so many tokens, but is {json.dumps(cut)[:80]}")
    rest = (
        {key: item for key, item in model.items() if key not in ("vocab", "merges")} if isinstance(model, dict) else 0
    )
    if rest != MODEL:
        raise BundleError(f"{where}: model must be a plain BPE, but is {json.dumps(rest)[:80]}")
    vocabulary, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocabulary, dict) or not 1 <= len(vocabulary) <= MOST_TOKENS:
        raise BundleError(f"{where}: vocab must be an object of 1 to {MOST_TOKENS} tokens")
    if any(not isinstance(number, int) or isinstance(number, bool) for number in vocabulary.values()) or sorted(
        vocabulary.values()
    ) != list(range(len(vocabulary))):
        raise BundleError(f"{where}: ids of vocab must be 0 to {len(vocabulary) - 1}, but are others")
    if not isinstance(merges, list) or len(merges) > MOST_TOKENS or not all(_is_merge(m, vocabulary) for m in merges):
        raise BundleError(f"{where}: merges must be pairs of tokens that make a token, but one is not")
    assert isinstance(limit, int)
    return len(vocabulary), limit


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_merge(merge: Any, vocabulary: Mapping[str, int]) -> bool:
    pair = merge.split(" ") if isinstance(merge, str) else merge  # until tokenizers 0.20 they were strings
    if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        return False
    return pair[0] in vocabulary and pair[1] in vocabulary and pair[0] + pair[1] in vocabulary
