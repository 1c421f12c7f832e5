"""Which channels a file of biosignals has, without reading its signal."""

import warnings
from pathlib import Path

_NO_SENSOR = frozenset({"stim", "syst", "exci", "ias", "misc"})


def peek_channels(path: Path) -> dict[str, list[str]]:
    """Names of channels by type (``eeg``, ``ecg``, ``eog`` ...), EEG first; empty where the file cannot be read."""
    import mne

    from fusionkit.data.recordings import describe

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = mne.io.read_raw(path, preload=False, verbose="error")
    except Exception:  # noqa: BLE001 - MNE raises whatever it meets; training will say what is wrong
        return {}
    found: dict[str, list[str]] = {}
    for channel in describe([str(name) for name in raw.ch_names], [str(kind) for kind in raw.get_channel_types()]):
        if channel.type not in _NO_SENSOR:
            found.setdefault(channel.type, []).append(channel.name)
    return dict(sorted(found.items(), key=lambda item: item[0] != "eeg"))
