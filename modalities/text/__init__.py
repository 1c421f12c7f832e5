"""Text: reading, BPE vocabulary, embeddings, augmentations."""

from .augment import TokenDrop as TokenDrop
from .back_translation import BackTranslation as BackTranslation
from .front_end import WordEmbedding as WordEmbedding
from .reader import Text as Text
from .switch_out import SwitchOut as SwitchOut
from .synonym import Synonym as Synonym
from .tf_idf import TfIdf as TfIdf
