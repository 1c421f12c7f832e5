"""What a sensor must say of itself: how it is read, what its window is, which front end makes features of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from fusionkit.core.errors import DataError
from fusionkit.core.framing import Frames
from fusionkit.core.levels import FeatureShape
from fusionkit.core.recording import Array, Recording, Stored

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Array", "FrontEnd", "Modality", "Recording", "Stored"]


class FrontEnd(nn.Module, ABC):
    """Make features of a batch of windows, on any device, inside the exported graph.

    A front end without parameters is deterministic: its features are computed once a study and cached.

    Attributes:
        shape: what is known of the features.
        lacks: whether channels may be NaN, which is to say not measured.
        vocabulary: how many ids a window may hold; 0 where it holds no ids.
    """

    shape: FeatureShape
    lacks: ClassVar[bool] = False
    vocabulary: int = 0

    @abstractmethod
    def forward(
        self, values: Shaped[Tensor, "batch *rest"], length: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch time channel subchannel"], Bool[Tensor, "batch time"]]:
        """Features of every step, and which steps lie wholly inside the real ``length`` samples."""

    @abstractmethod
    def times(self, steps: int) -> Float[Tensor, " time"] | None:
        """Centres of ``steps`` steps in seconds, on CPU; None when the features have no time."""

    def stepwise(self) -> Frames | str:
        """How steps are cut, where each is made of its own samples alone; else why not, by the option that forbids it.

        What says whether a channel was measured may look at all samples of the window that is given.
        """
        return "its features are made of whole windows"


class Modality(ABC):
    """One sensor. Its keyword-only arguments are its recipe options.

    Attributes:
        suffixes: file endings it reads (lower case, with the dot), for `fusionkit init`.
        encoder: kind of its default encoder.
        fitted: whether `fit` must see training records (a vocabulary); then windows are made per fold.
        holds: what its windows are, where that is so of every study; None where only data tell.
        pictures: whether `figures` draws something.
        limits: least and greatest number of any window; None where there is no such bound.
    """

    kind: ClassVar[str]
    suffixes: ClassVar[frozenset[str]] = frozenset()
    encoder: ClassVar[str] = "transformer"
    fitted: ClassVar[bool] = False
    limits: ClassVar[tuple[float, float] | None] = None
    holds: ClassVar[Literal["image", "signal", "text"] | None] = None

    @abstractmethod
    def read(self, path: Path) -> Recording:
        """Read one file.

        Raises:
            DataError: the file is missing, truncated, empty or of another kind; the message names it.
        """

    @abstractmethod
    def from_array(self, values: Array, sample_rate: float | None = None, channels: Sequence[str] = ()) -> Recording:
        """Take one record from an array in the layout of a window (see `fusionkit.core.levels.Window`)."""

    def from_cell(self, cell: str) -> Recording:
        """Take one record from the cell of a table itself (a sentence).

        Raises:
            DataError: this sensor is not written in cells.
        """
        raise DataError(f"a {self.kind} sensor is read from files, but the cell holds {cell[:40]!r}")

    in_cells: ClassVar[bool] = False  # True where the cell is the value and no path

    def whole(self, stored: Stored) -> Callable[[Array], Array] | None:
        """What must see a recording from its first sample on, before windows are cut of it (a causal filter bank).

        It takes all stored samples ``(time, *item)`` and gives as many, of any item; None where there is no such step.
        """
        del stored
        return None

    def chain(self, stored: Stored) -> list[dict[str, Any]] | None:
        """Causal steps from the channels of a stream to windows, as `fusionkit.runtime.filters.Chain` takes them.

        None where a stream cannot have what the recordings had.
        """
        del stored
        return []

    def hertz(self) -> Mapping[str, tuple[float, float]]:
        """Bands of frequency that its features are made of, by name: lower and upper edge in hertz."""
        return {}

    def ahead(self) -> list[str]:
        """What of its options looks ahead in time, a line each; a stream cannot do that."""
        return []

    def window(self, stored: Array) -> Array:
        """One record's stored slice as a window without its batch axis."""
        return stored

    @abstractmethod
    def front_end(self, stored: Stored) -> FrontEnd:
        """The module that makes features of batched windows."""

    def window_shape(self, stored: Stored) -> tuple[int, ...]:
        """Shape of a window without batch: what an encoder that takes windows is built for."""
        raise DataError(f"a {self.kind} sensor has no encoder that takes windows")

    def fit(self, stored: Iterable[Array], generator: np.random.Generator) -> None:
        """See the stored slices of the training records, once a fold (only where ``fitted``)."""
        del stored, generator

    def files(self) -> Mapping[str, bytes]:
        """What `fit` learned, as files that go with the run and the bundle: name and content."""
        return {}

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Take back what `files` gave."""
        del files

    def figures(self, features: Array, labels: Array, classes: Sequence[str], stored: Stored) -> "Mapping[str, Figure]":
        """Draw what a reader of a report wants to see of this sensor's features ``(record, time, channel, sub)``."""
        return {}
