"""Files of biosignals, read by MNE: channels picked, truncation refused, one sampling rate."""

import re
import warnings
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from math import isclose
from pathlib import Path
from typing import Any, NamedTuple

import mne
import numpy as np

from fusionkit.core.errors import DataError, did_you_mean
from fusionkit.core.recording import Array, Recording

SUFFIXES = frozenset({".edf", ".bdf", ".gdf", ".fif", ".vhdr", ".ahdr", ".set", ".cnt", ".mff", ".lay", ".nxe"})
_VOLTAGE = frozenset({"eeg", "ecg", "eog", "emg", "seeg", "ecog", "dbs", "bio"})
_TRIGGERS = frozenset({"stim", "syst", "exci", "ias"})
# what a label says of its channel, where the file's format does not: word -> MNE's type
_WORDS = {
    "eeg": r"eeg",
    "ecg": r"ecg|ekg",
    "eog": r"[hv]?eog[hvlr]?|eog[ _]?[hvlr]|veo|heo",
    "emg": r"emg",
    "resp": r"resp|respiration|airflow",
    "temperature": r"temp|temperature",
    "gsr": r"gsr|eda|scl|scr",
    "misc": r"sao2|spo2|ppg|pleth|plethysmograph|dc",
    "stim": r"status|trigger|trig|dtrig|dig|sti|event[ _]marker|marker",
}
_MISSING = re.compile(r"invalid tag with only|truncat|corrupt|incomplete|incorrect number of samples", re.IGNORECASE)

# what MNE says of files that are no whole recording, and the rule that they break
_RULES = (
    (r"number of trials is (\d+)", r"a recording must be continuous, but this file holds \1 epochs"),
    (r"Could not find the \.fdt data file", "an EEGLAB header must have its .fdt file beside it, but there is none"),
    (r"number of bytes per sample", "samples must fill a CNT file as its header says, but they do not: it was cut"),
)


class Channel(NamedTuple):
    """One channel: its label in the file, the name we give it, and its type (``eeg``, ``ecg`` ...)."""

    label: str
    name: str
    type: str


class RecordingFile:
    """A file that MNE reads, opened and checked, its samples not yet read.

    Args:
        path: any file that MNE reads.

    Attributes:
        channels: all that it has, in its own order.

    Raises:
        DataError: the file is missing, empty, truncated or not readable by MNE; the message names it.
    """

    def __init__(self, path: Path) -> None:
        header = _check_file(path)
        self.path = path
        self._raw = _open(path, preload=header.mixed)
        _check_complete(path, header, self._raw)
        self.channels = describe([str(x) for x in self._raw.ch_names], [str(x) for x in self._raw.get_channel_types()])

    def of_types(self, types: Sequence[str] | None) -> list[int]:
        """All channels of these types; None: all but triggers.

        Raises:
            DataError: there is none.
        """
        picked = [i for i, x in enumerate(self.channels) if (x.type in types if types else x.type not in _TRIGGERS)]
        if not picked:
            wanted = f"a channel of type {' or '.join(types)}" if types else "a channel that is not a trigger"
            raise DataError(f"{self.path}: there must be {wanted}, but got {_brief([x.name for x in self.channels])}")
        return picked

    def read(self, picked: Sequence[int]) -> Recording:
        """Samples of some channels ``(time, channel)`` float32, in volts where all are voltages.

        Raises:
            DataError: they cannot be read to the end.
        """
        values = _values(self.path, self._raw, picked)
        unit = "V" if all(self.channels[i].type in _VOLTAGE for i in picked) else ""
        return Recording(values, float(self._raw.info["sfreq"]), tuple(self.channels[i].name for i in picked), unit)


def read_recording(
    path: Path,
    channels: Sequence[str] | None = None,
    *,
    sample_rate: float | None = None,
    resample: bool = False,
) -> Recording:
    """Read the wanted channels of one file as ``(time, channel)`` float32; volts where all are voltages.

    Args:
        path: any file that MNE reads.
        channels: names or globs, in the order wanted (see `pick`); None: all but triggers.
        sample_rate: the rate that the recording must have, in hertz; None: whatever it has.
        resample: bring another rate to ``sample_rate`` instead of refusing it.

    Raises:
        DataError: the file is missing, empty, truncated, not readable by MNE, without the wanted channels or
            of another rate; the message names it.
    """
    file = RecordingFile(path)
    picked = file.of_types(None) if channels is None else pick(file.channels, channels, str(path))
    return at_rate(file.read(picked), sample_rate, resample, str(path))


def describe(labels: Sequence[str], types: Sequence[str]) -> list[Channel]:
    """Say name and type of every channel: ``EEG Fp1`` is Fp1 of type eeg, ``ECG ECG`` is ECG of type ecg.

    MNE's type stands unless it is the default ``eeg`` and the label says otherwise.
    """
    found = []
    for label, given in zip(labels, types, strict=True):
        kind, name = given, label.strip()
        for word, pattern in _WORDS.items():
            if given == "eeg" and re.fullmatch(rf"({pattern})[ _-]?[a-z]?\d*([ _:-].*)?", name, re.IGNORECASE):
                kind = word
                prefix = re.match(rf"({pattern})[ :]+(?=\S)", name, re.IGNORECASE)
                name = name[prefix.end() :] if prefix and not name[prefix.end() :].isdigit() else name
                break
        found.append(Channel(label, name, kind))
    names = [x.name for x in found]
    return [x if names.count(x.name) == 1 else x._replace(name=x.label) for x in found]


def pick(
    known: Sequence[Channel], wanted: Sequence[str], where: str, same: Callable[[str], str] | None = None
) -> list[int]:
    """Find channels by name or glob, without regard to case, in the order of ``wanted``, each once.

    A pattern may be a name (``Fp1``), the file's label (``EEG Fp1-Ref``), a label without its reference
    (``EEG Fp1``) or type and name (``EEG *`` is every EEG channel, ``ECG *`` every ECG channel).

    Args:
        known: the channels there are.
        wanted: patterns.
        where: how errors call the recording.
        same: gives one name to all labels of one channel (``T3`` and ``EEG T7-Ref``); looked at where no label is
            the pattern itself.

    Raises:
        DataError: a pattern matches no channel; the message has the nearest and all known names.
    """
    aliases = [_aliases(channel) for channel in known]
    picked: list[int] = []
    for pattern in wanted:
        low = pattern.strip().lower()
        hits = [i for i, x in enumerate(aliases) if low in x]
        if same is not None and not hits:
            hits = [i for i, x in enumerate(known) if same(x.label) == same(pattern)]
        hits = hits or [i for i, x in enumerate(aliases) if any(fnmatchcase(y, low) for y in x)]
        if not hits:
            names = [x.name for x in known]
            raise DataError(
                f"{where}: there must be a channel {pattern!r}, but there is none"
                f"{did_you_mean(pattern, names)}; known: {_brief(names)}"
            )
        picked += [i for i in hits if i not in picked]
    return picked


def at_rate(recording: Recording, sample_rate: float | None, resample: bool, where: str) -> Recording:
    """Hold a recording to a rate: as it is, resampled by a polyphase filter, or refused.

    Raises:
        DataError: the recording has another rate and ``resample`` is False.
    """
    got = recording.sample_rate
    if sample_rate is None or got is None or isclose(got, sample_rate, rel_tol=1e-5):
        return recording
    if not resample:
        raise DataError(f"{where}: sample_rate must be {sample_rate:g} Hz (or set resample: true), but got {got:g} Hz")
    from scipy.signal import resample_poly  # a second to import

    ratio = (Fraction(sample_rate) / Fraction(got)).limit_denominator(10_000)
    values = resample_poly(
        recording.values.astype(np.float64), ratio.numerator, ratio.denominator, axis=0, padtype="line"
    )
    return Recording(values.astype(np.float32), sample_rate, recording.channels, recording.unit)


class _Header(NamedTuple):
    """What a file promises: samples of the whole recording (None: it does not say), and several rates in one file."""

    samples: int | None
    mixed: bool


def _check_file(path: Path) -> _Header:
    """Look at the file before MNE does, which silently shortens a truncated EDF or BrainVision recording."""
    if not path.exists():
        raise DataError(f"{path}: there must be a file here, but there is none")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: a recording must hold samples, but the file is empty")
    suffix = path.suffix.lower()
    if suffix in (".edf", ".bdf"):
        return _edf_header(path, 2 if suffix == ".edf" else 3)
    if suffix in (".vhdr", ".ahdr"):
        points = re.search(rb"(?im)^\s*DataPoints\s*=\s*(\d+)", path.read_bytes())
        return _Header(int(points[1]) if points else None, False)
    return _Header(None, suffix == ".gdf")


def _edf_header(path: Path, width: int) -> _Header:
    """Compare what the header promises with the size of the file; ``width`` is bytes per sample."""
    with path.open("rb") as file:
        fixed = file.read(256)
        try:
            start, records, signals = int(fixed[184:192]), int(fixed[236:244]), int(fixed[252:256])
            seconds = float(fixed[244:252])
            rest = file.read(256 * signals) if signals > 0 else b""
            counts = [int(rest[216 * signals + 8 * i :][:8]) for i in range(signals)]
        except ValueError:
            raise DataError(
                f"{path}: an EDF or BDF file must begin with its header, but it begins with {fixed[:8]!r}"
            ) from None
    block, size = width * sum(counts), path.stat().st_size
    if records >= 0 and size < start + records * block:
        whole = max(0, size - start) // block if block else 0
        raise DataError(
            f"{path}: the header promises {records} records of {block} bytes, but the file holds {whole}: it is truncated"
        )
    labels = [rest[16 * i :][:16].decode("latin-1").strip().lower() for i in range(signals)]
    rates = {count for count, label in zip(counts, labels, strict=True) if not label.endswith("annotations")}
    if fixed[192:197] in (b"EDF+D", b"BDF+D"):
        first = next((i for i, label in enumerate(labels) if label.endswith("annotations")), None)
        if first is not None:
            _check_continuous(path, start + width * sum(counts[:first]), block, width * counts[first], seconds)
    return _Header(None, len(rates) > 1)  # with several rates MNE must see the whole signal to align them


def _check_continuous(path: Path, start: int, block: int, width: int, seconds: float) -> None:
    """Refuse pauses between the records of an EDF+D file: MNE would close them without a word, and shift all after."""
    origin = None
    with path.open("rb") as file:
        for number in range((path.stat().st_size - start) // block):
            file.seek(start + number * block)
            onset = re.match(rb"[+-]\d+(\.\d+)?", file.read(width))
            if onset is None:
                continue
            at = float(onset[0]) - number * seconds
            origin = at if origin is None else origin
            if abs(at - origin) > 1e-3:
                raise DataError(f"{path}: a recording must be continuous, but before record {number} it pauses")


def _open(path: Path, preload: bool) -> Any:
    """Open with MNE; its failures, and its warnings that data are missing, become one line that names the file."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            read = mne.io.read_raw_cnt if _is_neuroscan(path) else mne.io.read_raw
            raw = read(path, preload=preload, verbose="WARNING")
        except Exception as error:  # MNE raises whatever its many readers come upon
            raise DataError(f"{path}: {_rule(error)}") from error
    for warning in heard:
        if _MISSING.search(str(warning.message)):
            raise DataError(f"{path}: the recording must be whole, but MNE says: {_one_line(warning.message)}")
    return raw


def _rule(error: Exception) -> str:
    """The rule that a file breaks, and what MNE got."""
    for pattern, rule in _RULES:
        said = re.search(pattern, str(error))
        if said is not None:
            return said.expand(rule)
    return f"must be a recording that MNE reads, but {_one_line(error)}"


def _is_neuroscan(path: Path) -> bool:
    """Whether a .cnt is Neuroscan's and not ANT's: asked to guess, MNE hides why it could not read it."""
    if path.suffix.lower() != ".cnt":
        return False
    with path.open("rb") as file:
        return file.read(4) != b"RIFF"


def _check_complete(path: Path, header: _Header, raw: Any) -> None:
    if not raw.ch_names:
        raise DataError(f"{path}: a recording must hold signals, but it holds annotations alone")
    if header.samples is not None and raw.n_times < header.samples:
        raise DataError(
            f"{path}: the header promises {header.samples} samples, but the data hold {raw.n_times}: it is truncated"
        )
    if raw.n_times == 0:
        raise DataError(f"{path}: a recording must hold samples, but got none")


def _values(path: Path, raw: Any, picked: Sequence[int]) -> Array:
    """Samples in pieces, so that only the picked channels are ever held, in float32."""
    values = np.empty((raw.n_times, len(picked)), dtype=np.float32)
    piece = max(1, 2**22 // len(raw.ch_names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for start in range(0, raw.n_times, piece):
                stop = min(start + piece, raw.n_times)
                values[start:stop] = raw.get_data(picks=list(picked), start=start, stop=stop, verbose="ERROR").T
        except Exception as error:
            raise DataError(f"{path}: samples must be readable to the end, but {_one_line(error)}") from error
    return values


def _aliases(channel: Channel) -> set[str]:
    names = {channel.label.strip(), channel.name, f"{channel.type} {channel.name}"}
    bare = {re.sub(r"(?i)[-_ ](ref|le|avg|ave|ar|car)$", "", name) for name in names}
    return {name.lower() for name in names | bare}


def _one_line(error: object) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text[:200]}" if text else name


def _brief(names: Sequence[str]) -> str:
    return str(list(names)) if len(names) <= 40 else f"{list(names[:40])} and {len(names) - 40} more"
