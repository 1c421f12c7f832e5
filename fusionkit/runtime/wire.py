"""Walk through the bytes of a protocol buffer, which is what an ONNX file is, without trust and without its library."""

from collections.abc import Iterator

from fusionkit.runtime.errors import BundleError

VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5


def walk(content: memoryview, where: str) -> Iterator[tuple[int, int | memoryview]]:
    """Fields of one message in their order: number, and a whole number or the bytes of what has a length.

    A message of bytes ``08 96 01`` has field 1 with 150.

    Raises:
        BundleError: the bytes end within a field, or say something else.

    Reference:
        Protocol Buffers, Encoding, https://protobuf.dev/programming-guides/encoding/
    """
    place, end = 0, len(content)
    while place < end:
        key, place = _varint(content, place, where)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise BundleError(f"{where} must be a graph, but a field has the number 0")
        if kind == VARINT:
            value, place = _varint(content, place, where)
            yield number, value
            continue
        if kind == BYTES:
            size, place = _varint(content, place, where)
        elif kind in (EIGHT, FOUR):
            size = 8 if kind == EIGHT else 4
        else:
            raise BundleError(f"{where} must be a graph, but a field is of no known kind")
        if size > end - place:
            raise BundleError(f"{where} must be a graph, but it ends within a field")
        yield number, content[place : place + size]
        place += size


def numbers(value: int | memoryview, where: str) -> list[int]:
    """Whole numbers of a repeated field, one or a row of them; those below 0 come as they were."""
    if isinstance(value, int):
        return [_signed(value)]
    found, place = [], 0
    while place < len(value):
        one, place = _varint(value, place, where)
        found.append(_signed(one))
    return found


def text(value: int | memoryview, where: str) -> str:
    """A string.

    Raises:
        BundleError: it is none.
    """
    try:
        return bytes(value).decode() if isinstance(value, memoryview) else str(value)
    except UnicodeDecodeError:
        raise BundleError(f"{where} must have names of characters, but one is of other bytes") from None


def _varint(content: memoryview, place: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise BundleError(f"{where} must be a graph, but it ends within a number")
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), place
    raise BundleError(f"{where} must be a graph, but a number in it is too long")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
