"""Text: reading, BPE vocabulary, embeddings, token dropping."""

from .augment import TokenDrop as TokenDrop
from .front_end import WordEmbedding as WordEmbedding
from .reader import Text as Text
