"""Text: sentences in the cells of a table or in files, as ids of a vocabulary learned from training records."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.modality import Modality
from fusionkit.core.recording import Array, Recording, Stored
from fusionkit.core.registry import modalities

from .front_end import WordEmbedding
from .vocabulary import Counts, count_tokens, train_vocabulary

if TYPE_CHECKING:
    from tokenizers import Encoding

FILE = "tokenizer.json"
COUNTS = "counts.json"


@modalities.register("text")
class Text(Modality):
    """A sentence or a short document. An empty cell means that the record has no text.

    Tokens are those of a byte-level BPE vocabulary, learned anew from the training records of every fold and kept
    with the run as ``tokenizer.json``, beside how often these records have each token, ``counts.json``. The features are
    their embeddings, which train with the model.

    Args:
        vocab_size: most tokens of the vocabulary; the first 258 are padding, dropped, and the bytes.
        min_frequency: how often a pair of tokens must occur to be joined into a new one.
        max_tokens: what follows in a longer text is not read.
        width: numbers of an embedding.
        lowercase: fold upper case, which a small vocabulary gains from.

    Example:
        ``text: {kind: text, column: comment, vocab_size: 2000, max_tokens: 48}``
    """

    kind: ClassVar[str] = "text"
    holds = "text"
    suffixes: ClassVar[frozenset[str]] = frozenset({".txt"})
    encoder: ClassVar[str] = "transformer"
    fitted: ClassVar[bool] = True
    in_cells: ClassVar[bool] = True

    def __init__(
        self,
        *,
        vocab_size: Annotated[int, Field(ge=258, description="most tokens of the vocabulary")] = 4000,
        min_frequency: Annotated[int, Field(ge=1, description="occurrences that make a pair a token")] = 2,
        max_tokens: Annotated[int, Field(ge=1, description="tokens after which a text is cut")] = 64,
        width: Annotated[int, Field(ge=1, description="numbers of an embedding")] = 64,
        lowercase: Annotated[bool, Field(description="fold upper case")] = True,
    ) -> None:
        self.vocab_size = vocab_size
        self.min_frequency = min_frequency
        self.max_tokens = max_tokens
        self.width = width
        self.lowercase = lowercase
        self._tokenizer: Tokenizer | None = None
        self.counts: Counts | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The fitted tokenizer.

        Raises:
            ConfigError: nothing is fitted yet.
        """
        if self._tokenizer is None:
            raise ConfigError("a text sensor must be fitted to training records before it is used, but it is not")
        return self._tokenizer

    def read(self, path: Path) -> Recording:
        """Read one file of UTF-8 text.

        Raises:
            DataError: it is missing, empty or no UTF-8; the message names it.
        """
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # a byte-order mark is no text
        try:
            return self.from_cell(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: text must be UTF-8, but byte {error.start} is not") from None
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def from_cell(self, cell: str) -> Recording:
        """Take one sentence.

        Raises:
            DataError: it holds nothing but blanks.
        """
        if not cell.strip():
            raise DataError("a text must hold characters, but it is blank")
        try:
            return Recording(np.frombuffer(cell.encode("utf-8"), dtype=np.uint8))
        except UnicodeEncodeError:
            raise DataError(
                f"a text must be valid Unicode, but it holds half a surrogate pair: {cell[:40]!r}"
            ) from None

    def from_array(self, values: Array, sample_rate: float | None = None, channels: Sequence[str] = ()) -> Recording:
        """Take a text array without axes, or UTF-8 bytes ``(byte,)``.

        Raises:
            DataError: it is neither.
        """
        del sample_rate, channels
        values = np.asarray(values)
        if values.ndim == 0 and values.dtype.kind == "U":
            return self.from_cell(str(values))
        if values.ndim == 1 and values.dtype == np.uint8:
            try:
                return self.from_cell(values.tobytes().decode("utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(f"text must be UTF-8, but byte {error.start} is not") from None
        raise DataError(f"text must be a string or UTF-8 bytes, but it is {values.dtype} of shape {values.shape}")

    def window(self, stored: Array) -> Array:
        """UTF-8 bytes to ids ``(token,)``, at most ``max_tokens``."""
        encoding: Encoding = self.tokenizer.encode(stored.tobytes().decode("utf-8", errors="replace"))
        return np.asarray(encoding.ids, dtype=np.int64)

    def front_end(self, stored: Stored) -> WordEmbedding:
        """Embeddings of the fitted vocabulary."""
        return WordEmbedding(self.tokenizer.get_vocab_size(), self.width)

    def fit(self, stored: Iterable[Array], generator: np.random.Generator) -> None:
        """Learn the vocabulary and count its tokens; nothing is drawn."""
        sentences = [text.tobytes().decode("utf-8", errors="replace") for text in stored]
        self._tokenizer = train_vocabulary(
            sentences,
            size=self.vocab_size,
            min_frequency=self.min_frequency,
            max_tokens=self.max_tokens,
            lowercase=self.lowercase,
        )
        self.counts = count_tokens(self._tokenizer, sentences)

    def files(self) -> Mapping[str, bytes]:
        """The vocabulary, as the `tokenizers` library reads it, and counts, as far as they are known."""
        counts = {} if self.counts is None else {COUNTS: json.dumps(asdict(self.counts)).encode()}
        return {FILE: self.tokenizer.to_str().encode(), **counts}

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Take back the vocabulary, and counts where they were kept.

        Raises:
            DataError: the file is missing or is no tokenizer, or counts are not of its tokens.
        """
        if FILE not in files:
            raise DataError(f"a fitted text sensor must come with {FILE}, but got {sorted(files)}")
        try:
            self._tokenizer = Tokenizer.from_buffer(files[FILE])
        except Exception as error:  # noqa: BLE001 - the library raises nothing else
            raise DataError(f"{FILE} must be a tokenizer, but {str(error).splitlines()[0]}") from None
        self.counts = _read_counts(files[COUNTS], self._tokenizer.get_vocab_size()) if COUNTS in files else None


def _read_counts(content: bytes, size: int) -> Counts:
    try:
        counts = Counts(**json.loads(content))
        right = isinstance(counts.total, int) and all(
            len(numbers) == size and all(isinstance(number, kind) for number in numbers)
            for numbers, kind in ((counts.sentences, int), (counts.shares, float))
        )
    except (ValueError, TypeError):
        right = False
    if not right:
        raise DataError(f"{COUNTS} must have a count for each of {size} tokens, but it has not")
    return counts
