"""What a stream says of itself: the XML that LSL sends and that XDF files keep."""

from dataclasses import dataclass
from itertools import islice
from typing import Any
from xml.etree import ElementTree

import numpy as np

from fusionkit.runtime.errors import BundleError

FORMATS: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "double64": np.dtype("<f8"),
    "int8": np.dtype("<i1"),
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "string": np.dtype(object),
}
"""Formats of samples by the name that LSL and XDF give them."""

MOST_ABOUT = 1000
"""Remarks of a description that are kept."""
LONGEST = 2**24
"""Bytes of XML that are read at most: 16 MB are descriptions of thousands of channels."""


@dataclass(frozen=True)
class Channel:
    """One channel of a stream, as far as the stream says."""

    label: str = ""
    unit: str = ""
    type: str = ""


@dataclass(frozen=True)
class Description:
    """What a stream says of itself.

    Attributes:
        name: of the stream, such as that of an amplifier.
        type: what is in it: ``EEG``, ``Audio``, ``Markers`` ...
        channels: in the order of its samples; without labels where it gives none.
        sample_rate: hertz; None where samples come when they come.
        format: of its samples, one of `FORMATS`.
        source_id: stays when the source is restarted.
        uid: of this one outlet; another when it is restarted.
        host: the machine it comes from.
        about: more that it says, such as ``manufacturer``.
    """

    name: str
    type: str
    channels: tuple[Channel, ...]
    sample_rate: float | None
    format: str = "float32"
    source_id: str = ""
    uid: str = ""
    host: str = ""
    about: tuple[tuple[str, str], ...] = ()


def read_description(xml: bytes, where: str) -> Description:
    """Read the XML of a stream.

    Raises:
        BundleError: it is none, or says what no stream may be.
    """
    info = read_xml(xml, where)

    def text(key: str) -> str:
        return (info.findtext(key) or "").strip()

    format_ = text("channel_format")
    if format_ not in FORMATS:
        raise BundleError(f"{where}: channel_format must be one of {', '.join(FORMATS)}, but is {format_[:40]!r}")
    count, rate = (_number(where, key, text(key)) for key in ("channel_count", "nominal_srate"))
    if not (1 <= count <= 100_000 and count == int(count)):
        raise BundleError(f"{where}: channel_count must be a whole number from 1 to 100000, but is {count:g}")
    if not 0 <= rate <= 1e9:
        raise BundleError(f"{where}: nominal_srate must be from 0 to 1e9 hertz, but is {rate:g}")
    told = [
        Channel(*((one.findtext(key) or "").strip() for key in ("label", "unit", "type")))
        for one in info.findall("desc/channels/channel")
    ]
    channels = tuple(told) if len(told) == count else (Channel(),) * int(count)
    about = tuple(
        (one.tag, (one.text or "").strip()) for one in islice(info.iterfind("desc/*"), MOST_ABOUT) if len(one) == 0
    )
    return Description(
        text("name"),
        text("type"),
        channels,
        rate or None,
        format_,
        source_id=text("source_id"),
        uid=text("uid"),
        host=text("hostname"),
        about=about,
    )


def write_description(description: Description) -> bytes:
    """The XML that `read_description` reads."""
    info = ElementTree.Element("info")
    for key, value in (
        ("name", description.name),
        ("type", description.type),
        ("channel_count", str(len(description.channels))),
        ("nominal_srate", repr(float(description.sample_rate or 0))),
        ("channel_format", description.format),
        ("source_id", description.source_id),
        ("uid", description.uid),
        ("hostname", description.host),
    ):
        ElementTree.SubElement(info, key).text = printable(value)
    desc = ElementTree.SubElement(info, "desc")
    for key, value in description.about:
        ElementTree.SubElement(desc, key).text = printable(value)
    channels = ElementTree.SubElement(desc, "channels")
    for one in description.channels:
        channel = ElementTree.SubElement(channels, "channel")
        for key, value in (("label", one.label), ("unit", one.unit), ("type", one.type)):
            ElementTree.SubElement(channel, key).text = printable(value)
    body: bytes = ElementTree.tostring(info, encoding="utf-8")
    return body


def read_xml(xml: bytes, where: str) -> ElementTree.Element:
    """Plain XML, without a document type, whose entities could unfold without bound.

    Raises:
        BundleError: it is none.
    """
    if len(xml) > LONGEST or b"<!DOCTYPE" in xml or b"<!ENTITY" in xml:
        raise BundleError(f"{where}: a description must be at most {LONGEST} bytes of XML without a document type")
    try:
        return ElementTree.fromstring(xml.decode("utf-8", "replace"))
    except (ElementTree.ParseError, ValueError) as error:
        raise BundleError(f"{where}: a description must be XML, but {error}") from None


def printable(text: str) -> str:
    """Text without the control characters that XML cannot hold."""
    return "".join(one if one in "\t\n" or ord(one) >= 32 else "?" for one in text)


def shown(text: str) -> str:
    """Text of a file or of the network without what would do something to a terminal: controls, other lines."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _number(where: str, key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BundleError(f"{where}: {key} must be a number, but is {text[:40]!r}") from None
