"""Images: anything Pillow reads, as red, green and blue bytes."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError
from pydantic import Field

from fusionkit.core.errors import DataError
from fusionkit.core.modality import Modality
from fusionkit.core.recording import Array, Recording, Stored
from fusionkit.core.registry import modalities

from .figures import draw_mean_images
from .front_end import Patches

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@modalities.register("image")
class Image(Modality):
    """One picture a record: three colours, turned as its EXIF data say, transparency dropped.

    As features, patches of it (see `Patches`); an encoder such as ``image_cnn`` or ``vit`` takes the picture itself.

    Args:
        size: height and width that every picture is stretched to (bilinear, antialiased); None keeps them, and they
            must then all be equal.
        patch: side of a patch in pixels.

    Example:
        ``image: {kind: image, size: 32, encoder: {kind: vit, size: tiny, patch: 4}}``
    """

    kind: ClassVar[str] = "image"
    holds = "image"
    suffixes: ClassVar[frozenset[str]] = frozenset(
        {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
    )
    encoder: ClassVar[str] = "image_cnn"
    limits: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    def __init__(
        self,
        *,
        size: Annotated[int | None, Field(ge=1, le=4096, description="stretch to this height and width")] = None,
        patch: Annotated[int, Field(ge=1, description="side of a patch in pixels")] = 4,
    ) -> None:
        self.size = size
        self.patch = patch

    def read(self, path: Path) -> Recording:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Pillow.DecompressionBombWarning)
                with Pillow.open(path) as picture:
                    picture.verify()  # checksums; a verified image must be opened anew
                with Pillow.open(path) as picture:
                    pixels = self._pixels(ImageOps.exif_transpose(picture))
        except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError):
            limit = Pillow.MAX_IMAGE_PIXELS
            raise DataError(f"{path}: an image may hold {limit} pixels, but its header says more") from None
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        except Exception as error:  # noqa: BLE001 - Pillow's plugins raise whatever a broken file makes them
            raise DataError(f"{path}: must be an image that Pillow reads, but: {_reason(error)}") from None
        return Recording(pixels)

    def from_array(self, values: Array, sample_rate: float | None = None, channels: Sequence[str] = ()) -> Recording:
        values = np.asarray(values)
        if values.ndim == 2:
            values = np.broadcast_to(values, (3, *values.shape))
        elif values.ndim == 3 and values.shape[0] == 3:
            pass
        elif values.ndim == 3 and values.shape[2] == 3:
            values = values.transpose(2, 0, 1)
        else:
            raise DataError(
                f"an image must be (height, width), (height, width, 3) or (3, height, width), but it is {values.shape}"
            )
        if 0 in values.shape:
            raise DataError(f"an image must hold pixels, but its shape is {values.shape}")
        pixels = to_bytes(values)
        if self.size is None or pixels.shape[1:] == (self.size, self.size):
            return Recording(np.ascontiguousarray(pixels)[None])
        return Recording(self._pixels(Pillow.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))))

    def window(self, stored: Array) -> Array:
        """One stored image, ``(1, 3, height, width)`` bytes, as numbers from 0 to 1."""
        if len(stored) != 1:
            raise DataError(f"a record must have one image, but it has {len(stored)}")
        return np.asarray(stored[0], dtype=np.float32) / 255

    def front_end(self, stored: Stored) -> Patches:
        return Patches(stored.item[1], stored.item[2], patch=self.patch)

    def window_shape(self, stored: Stored) -> tuple[int, ...]:
        return stored.item

    def figures(self, features: Array, labels: Array, classes: Sequence[str], stored: Stored) -> "Mapping[str, Figure]":
        return draw_mean_images(features, labels, classes, self.front_end(stored))

    def _pixels(self, picture: Pillow.Image) -> UInt8[np.ndarray, "1 3 height width"]:
        """Decode, bring to red, green, blue and to ``size``."""
        if picture.mode in ("I", "F", "I;16", "I;16L", "I;16B", "I;16N"):
            values = np.asarray(picture)
            if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
                raise DataError(f"an image must have 8 or 16 bits a colour, but its mode is {picture.mode}")
            picture = Pillow.fromarray((values.astype(np.uint32) // 257).astype(np.uint8))
        picture = picture.convert("RGB")
        if self.size is not None and picture.size != (self.size, self.size):
            picture = picture.resize((self.size, self.size), Pillow.Resampling.BILINEAR)
        return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))[None]


def to_bytes(values: Array) -> UInt8[np.ndarray, "..."]:
    """Integers from 0 to 255, or numbers from 0 to 1, as bytes: 1.0 is 255, 0.5 is 128.

    Raises:
        DataError: a value is outside, or is no number.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise DataError(
                f"an image of floats must lie in [0, 1], but it reaches from {np.min(values):g} to {np.max(values):g}"
            )
        return np.floor(values.astype(np.float64) * 255 + 0.5).astype(np.uint8)
    if values.dtype.kind in "iu":
        if values.min() < 0 or values.max() > 255:
            raise DataError(
                f"an image of integers must lie in [0, 255], but it reaches from {values.min()} to {values.max()}"
            )
        return values.astype(np.uint8)
    raise DataError(f"an image must be integers or floats, but it is {values.dtype}")


def _reason(error: Exception) -> str:
    """The first line of what Pillow says, without a file name that is already named."""
    if isinstance(error, UnidentifiedImageError):
        return "no format that it knows"
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
