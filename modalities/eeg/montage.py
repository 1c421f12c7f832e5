"""Which electrodes a sensor has, in which order: found by name, those that lack left out or interpolated."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Array
from fusionkit.data.recordings import Channel

from .places import electrode_places, montage, site

_NAMES = {
    "seed_62": "Fp1 Fpz Fp2 AF3 AF4 F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 FT8 T7 C5 C3 C1 Cz C2 C4 "
    "C6 T8 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO5 PO3 POz PO4 PO6 PO8 CB1 O1 Oz O2 CB2",
    "deap_32": "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 "
    "PO4 O2",
    "dreamer_14": "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4",
    "ten_twenty": "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2",
}
MONTAGES = {name: tuple(names.split()) for name, names in _NAMES.items()}
LEAST = 0.5
"""Share of a montage's electrodes that a recording must have for the others to be masked or interpolated."""


def find_electrodes(
    known: Sequence[Channel], wanted: Sequence[str], where: str, *, lacking: bool = False
) -> list[int | None]:
    """Where each electrode of a montage is among the channels of a recording; None where it is not.

    Labels are compared as places of the 10-05 system: ``EEG T3-Ref`` and ``T7..`` are both T7.

    Args:
        known: the channels there are.
        wanted: names of the montage's electrodes, in its order.
        where: how errors call the recording.
        lacking: whether electrodes may lack, up to half of them.

    Raises:
        DataError: an electrode lacks and may not, more than half of them lack, or two channels are one electrode.
    """
    at: dict[str, int] = {}
    sites = {site(name) for name in wanted}
    for index, channel in enumerate(known):
        name = site(channel.label)
        if name in at and name in sites:
            raise DataError(
                f"{where}: an electrode must be one channel, but {name} is both {known[at[name]].label!r} "
                f"and {channel.label!r}"
            )
        at.setdefault(name, index)
    found = [at.get(site(name)) for name in wanted]
    lost = [name for name, index in zip(wanted, found, strict=True) if index is None]
    if lost and (not lacking or len(lost) > len(wanted) * (1 - LEAST)):
        rule = f"at least {LEAST:.0%} of its electrodes" if lacking else "all its electrodes (or set missing: mask)"
        raise DataError(
            f"{where}: a montage must find {rule}, but {len(lost)} of {len(wanted)} lack: {', '.join(lost[:12])}"
            f"{' ...' if len(lost) > 12 else ''}; known: {[x.name for x in known[:70]]}"
        )
    return found


@lru_cache(maxsize=64)
def _interpolation(sources: tuple[str, ...], targets: tuple[str, ...]) -> Array:
    """MNE's spherical splines as a matrix ``(target, source)``, for places of the 10-05 system.

    MNE interpolates a recording of which every sample is one source alone: what it gives are the weights.
    """
    import mne

    names = [*sources, *targets]
    info = mne.create_info(names, 1.0, "eeg", verbose="ERROR")
    info.set_montage(montage(), verbose="ERROR")
    info["bads"] = list(targets)
    raw = mne.io.RawArray(np.eye(len(names), len(sources)), info, verbose="ERROR")
    raw.interpolate_bads(reset_bads=False, verbose="ERROR")
    weights: Array = raw.get_data()[len(sources) :]
    return weights


def interpolation(channels: Sequence[str], sources: Sequence[int], targets: Sequence[int], where: str) -> Array:
    """Spherical splines as a matrix ``(target, channel)``: each row makes one electrode of those in ``sources``.

    The weights are MNE's (``interpolate_bads``) for the places of the template head. They add up to about 1: a field
    that is the same everywhere is interpolated as it is. Sources without a place count for nothing.

    Args:
        channels: names of all electrodes.
        sources: which of them were measured.
        targets: which are to be interpolated.
        where: how errors call the recording.

    Raises:
        DataError: a target has no place in the 10-05 system, or fewer than four sources have one.

    Reference:
        Perrin et al., Electroencephalography and Clinical Neurophysiology 72, 1989.
    """
    places = electrode_places(channels)
    unknown = [channels[i] for i in targets if i not in places]
    if unknown:
        raise DataError(
            f"{where}: an electrode to interpolate must have a place in the 10-05 system (else mask it, or set "
            f"interpolate_bad: false), but {unknown[0]!r} has none"
        )
    placed = [i for i in sources if i in places]
    if len(placed) < 4:
        raise DataError(f"{where}: to interpolate, four electrodes with a place must be there, but {len(placed)} are")
    matrix = np.zeros((len(targets), len(channels)))
    matrix[:, placed] = _interpolation(tuple(places[i] for i in placed), tuple(places[i] for i in targets))
    return matrix
