"""What an XDF file is made of: numbered chunks, each behind its length."""

import struct
from typing import Any

import numpy as np

MAGIC = b"XDF:"
FILE, STREAM, SAMPLES, OFFSET, BOUNDARY, FOOTER = range(1, 7)
MARK = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
"""What a boundary holds, so that a reader finds its way again in a spoiled file."""

WRITER = "fusionkit"


def timed_samples(kind: np.dtype[Any], channels: int) -> np.dtype[Any]:
    """Samples that each carry their time."""
    return np.dtype([("size", "u1"), ("time", "<f8"), ("values", kind, (channels,))])


def write_size(number: int) -> bytes:
    """A length of 1, 4 or 8 bytes, which the first byte says."""
    if number < 2**8:
        return struct.pack("<BB", 1, number)
    return struct.pack("<BI", 4, number) if number < 2**32 else struct.pack("<BQ", 8, number)


def read_size(content: bytes, at: int) -> tuple[int, int]:
    """A length, and where what follows it begins.

    Raises:
        IndexError: there is none.
    """
    width = content[at]
    if width not in (1, 4, 8) or at + 1 + width > len(content):
        raise IndexError
    return int.from_bytes(content[at + 1 : at + 1 + width], "little"), at + 1 + width
