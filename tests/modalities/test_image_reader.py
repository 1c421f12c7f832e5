"""Reading images: what comes out of good files, and one-line errors for bad ones."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Stored
from fusionkit.core.registry import modalities
from fusionkit.modalities.image import Image


def pixels(height=6, width=9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".ppm", ".webp"])
def test_lossless_files_come_back_to_the_bit(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    Pillow.fromarray(pixels()).save(tmp_path / f"a{suffix}", **options)
    recording = Image().read(tmp_path / f"a{suffix}")
    assert recording.values.dtype == np.uint8 and recording.sample_rate is None
    np.testing.assert_array_equal(recording.values, pixels().transpose(2, 0, 1)[None])


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_lossy_files_come_back_nearly(tmp_path, suffix):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Pillow.fromarray(flat).save(tmp_path / f"a{suffix}")
    values = Image().read(tmp_path / f"a{suffix}").values
    assert np.abs(values[0].transpose(1, 2, 0).astype(int) - flat).max() <= 3


def test_grey_palette_transparent_and_16_bit_images_become_three_colours(tmp_path):
    grey = pixels()[..., 0]
    saved = {
        "L": Pillow.fromarray(grey),
        "P": Pillow.fromarray(grey).convert("P"),
        "LA": Pillow.fromarray(grey).convert("LA"),
        "RGBA": Pillow.fromarray(np.stack([grey] * 3 + [grey], -1)),
        "1": Pillow.fromarray((grey > 127).astype(np.uint8) * 255).convert("1"),
        "I;16": Pillow.fromarray(grey.astype(np.uint16) * 257),
    }
    for mode, picture in saved.items():
        assert picture.mode == mode
        path = tmp_path / f"{mode.replace(';', '')}.png"
        picture.save(path)
        expected = (grey > 127) * np.uint8(255) if mode == "1" else grey
        np.testing.assert_array_equal(Image().read(path).values[0], np.stack([expected] * 3), err_msg=mode)


def test_an_image_is_turned_as_its_camera_says(tmp_path):
    picture = Pillow.fromarray(pixels())
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    picture.save(tmp_path / "a.png", exif=exif)
    values = Image().read(tmp_path / "a.png").values[0]
    np.testing.assert_array_equal(values.transpose(1, 2, 0), np.rot90(pixels(), -1))


def test_size_stretches_files_and_arrays_alike(tmp_path):
    Pillow.fromarray(pixels(40, 20)).save(tmp_path / "a.png")
    image = Image(size=8)
    from_file = image.read(tmp_path / "a.png").values
    assert from_file.shape == (1, 3, 8, 8)
    np.testing.assert_array_equal(from_file, image.from_array(pixels(40, 20)).values)
    flat = np.full((40, 20, 3), 77, np.uint8)
    assert (image.from_array(flat).values == 77).all()
    # antialiased: a fine chequerboard becomes grey, where picking pixels would keep black or white
    board = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    assert np.abs(image.from_array(board).values.astype(int) - 127).max() <= 2


def test_arrays_in_every_layout_and_type_are_the_same_image():
    grey = pixels()[..., 0]
    planes = np.stack([grey] * 3)
    image = Image()
    for values in (
        grey,
        planes,
        planes.transpose(1, 2, 0),
        planes / 255,
        (grey / 255).astype(np.float32),
        grey.astype(int),
    ):
        np.testing.assert_array_equal(image.from_array(values).values, planes[None])
    assert image.from_array(np.array([[True, False]])).values[0, 0].tolist() == [[255, 0]]
    assert image.from_array(np.array([[1.0, 0.5, 0.0]])).values[0, 0].tolist() == [[255, 128, 0]]


def test_a_window_is_numbers_from_0_to_1():
    image = Image()
    stored = image.from_array(pixels()).values
    window = image.window(stored)
    assert window.dtype == np.float32 and window.shape == (3, 6, 9)
    np.testing.assert_allclose(window, pixels().transpose(2, 0, 1) / 255, atol=1e-7)
    with pytest.raises(DataError, match="it has 2"):
        image.window(np.concatenate([stored, stored]))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((4, 4, 4)), r"\(4, 4, 4\)"),
        (np.zeros(4), r"\(4,\)"),
        (np.zeros((0, 4)), r"\(3, 0, 4\)"),
        (np.full((2, 2), 1.5), "1.5"),
        (np.full((2, 2), np.nan), "nan"),
        (np.full((2, 2), 256), "256"),
        (np.full((2, 2), -1), "-1"),
        (np.full((2, 2), "a"), "<U1"),
    ],
)
def test_bad_arrays_are_refused(values, said):
    with pytest.raises(DataError, match=said):
        Image().from_array(values)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def huge_png(side: int) -> bytes:
    """A few bytes that say they are side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def test_bad_files_are_refused_by_name(tmp_path):
    Pillow.fromarray(pixels(64, 64)).save(tmp_path / "good.png")
    Pillow.fromarray(pixels(64, 64)).save(tmp_path / "good.jpg")
    good, photo = (tmp_path / "good.png").read_bytes(), (tmp_path / "good.jpg").read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    Pillow.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "float.tif")
    cases = {
        "nothing.png": (b"", "no format that it knows"),
        "text.png": (b"no picture at all", "no format that it knows"),
        "cut.png": (good[: len(good) // 2], "must be an image"),
        "cut.jpg": (photo[: len(photo) // 2], "must be an image"),
        "corrupt.png": (bytes(flipped), "must be an image"),
        "bomb.png": (huge_png(12000), "may hold"),  # Pillow only warns
        "bigger_bomb.png": (huge_png(60000), "may hold"),  # Pillow raises
        "float.tif": ((tmp_path / "float.tif").read_bytes(), "8 or 16 bits a colour, but its mode is F"),
    }
    for name, (content, said) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=said) as caught:
            Image().read(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value), name
    for missing in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(DataError, match="no such file"):
            Image().read(missing)


def test_options_are_checked_by_the_registry():
    image = modalities.build("image", {"size": 32, "patch": 8})
    stored = Stored(None, (), "", (3, 32, 32), "uint8", 1)
    assert image.front_end(stored).shape.steps == 16
    assert image.window_shape(stored) == (3, 32, 32)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        modalities.build("image", {"size": 0})


def test_draws_the_mean_picture_of_a_class():
    image = Image(patch=4)
    stored = Stored(None, (), "", (3, 6, 9), "uint8", 1)
    front_end = image.front_end(stored)
    import torch

    windows = torch.rand(4, 3, 6, 9)
    features, _ = front_end(windows, torch.ones(4, dtype=torch.long))
    figure = image.figures(features.numpy(), np.array([0.0, 0, 1, np.nan]), ["x", "y", "z"], stored)["mean images"]
    assert [axis.get_title() for axis in figure.axes] == ["x (n = 2)", "y (n = 1)"]
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(drawn, windows[:2].mean(0).permute(1, 2, 0).numpy(), atol=1e-6)
    assert image.figures(features.numpy(), np.full(4, np.nan), ["x"], stored) == {}


def test_reads_real_images(real_data):
    path = min((real_data / "lab" / "image").glob("*.png"))
    assert Image().read(path).values.shape == (1, 3, 32, 32)
