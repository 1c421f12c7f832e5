"""Back-translation, by a translator that the user brings."""

import importlib
from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fusionkit.augment.augmentation import WindowAugmentation, choose, uniform
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import Window
from fusionkit.core.modality import Modality
from fusionkit.core.registry import augment

from .reader import Text
from .vocabulary import PADDING, spell

Translate = Callable[[list[str], int], list[str]]


@augment.register("back_translation")
class BackTranslation(WindowAugmentation):
    """Say a sentence in other words, as a function of the user's does: to another language and back, for one.

    ``function(sentences, variant)`` gets a list of sentences and the number of the wording that is wanted, 0 to
    ``variants - 1``, and gives as many sentences; one that comes back blank stays as it was. Equal arguments must give
    equal sentences, or a run that is resumed goes another way. It is asked once for each sentence and variant, and its
    answers are kept in memory. Sentences go through the host's memory: on a GPU the step waits for them.

    Args:
        function: ``module:function``; the module must be importable.
        variants: wordings of each sentence, drawn evenly.
        probability: of changing a sentence.

    Raises:
        ConfigError: there is no such function; (`meet`) the sensor is no text.
        DataError: (call) the function fails or gives anything but as many sentences.

    Reference:
        Xie et al., Unsupervised Data Augmentation for Consistency Training, NeurIPS 2020.
    """

    axes: ClassVar[int] = 1
    ids: ClassVar[bool] = True

    def __init__(
        self,
        *,
        function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$", description="module:function")],
        variants: Annotated[int, Field(ge=1, description="wordings of each sentence")] = 1,
        probability: Annotated[float, Field(ge=0, le=1, description="of changing a sentence")] = 0.5,
    ) -> None:
        super().__init__()
        self.function = function
        self.variants = variants
        self.probability = probability
        self._translate = _find(function)
        self._text: Text | None = None
        self._known: dict[tuple[int, tuple[int, ...]], list[int]] = {}

    def meet(self, modality: Modality) -> None:
        if not isinstance(modality, Text):
            raise ConfigError(f"{self.kind} must be of a text sensor, but got {modality.kind}")
        self._text = modality
        self._known = {}

    def forward(self, stream: Window, generator: torch.Generator | None = None) -> Window:
        """Change one batch of ids."""
        ids = stream.values
        chosen = choose(len(ids), self.probability, ids, generator) & stream.present & (stream.length > 0)
        variant = torch.floor(self.variants * uniform((len(ids),), ids, generator)).long()
        asked = {
            row: (number, tuple(sentence[:length]))
            for row, (taken, number, sentence, length) in enumerate(
                zip(chosen.tolist(), variant.tolist(), ids.tolist(), stream.length.tolist(), strict=True)
            )
            if taken
        }
        self._ask([key for key in dict.fromkeys(asked.values()) if key not in self._known])
        values, length = ids.cpu().clone(), stream.length.cpu().clone()
        for row, key in asked.items():
            said = self._known[key][: ids.shape[1]]
            values[row] = PADDING
            values[row, : len(said)] = torch.tensor(said, dtype=ids.dtype)
            length[row] = len(said)
        return stream._replace(values=_back(values, ids), length=_back(length, stream.length))

    def _ask(self, keys: list[tuple[int, tuple[int, ...]]]) -> None:
        """Have sentences translated that were not before."""
        if self._text is None:
            raise ConfigError(f"{self.kind} must meet its sensor first, for its vocabulary")
        tokenizer = self._text.tokenizer
        for variant in sorted({number for number, _ in keys}):
            mine = [key for key in keys if key[0] == variant]
            given = [spell(tokenizer, ids) for _, ids in mine]
            try:
                said = self._translate(given, variant)
            except Exception as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                raise DataError(f"back_translation: {self.function} must translate, but {reason}") from error
            if not isinstance(said, list) or len(said) != len(given) or not all(isinstance(it, str) for it in said):
                got = f"{len(said)} items" if isinstance(said, list) else type(said).__name__
                raise DataError(
                    f"back_translation: {self.function} must give a list of {len(given)} sentences, but gave {got}"
                )
            for key, sentence in zip(mine, said, strict=True):
                self._known[key] = list(tokenizer.encode(sentence).ids) if sentence.strip() else list(key[1])


def _find(place: str) -> Translate:
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # a user's module may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"function must name a module that imports, but {module}: {reason}") from error
    if not callable(found):
        raise ConfigError(f"function must name a function of {module}, but got {name!r}")
    return found  # type: ignore[no-any-return]


def _back(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device, non_blocking=True)
