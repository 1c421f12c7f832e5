"""Electrodes by name: what a label means in the 10-05 system, and where that place is on a head."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

ALIASES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
"""The names of 1958 for places of the 10-05 system."""

NEAREST = {"CB1": "PO9", "CB2": "PO10"}
"""Electrodes of the SEED caps that the 10-05 system lacks, and its place next to each."""


def clean_name(channel: str) -> str:
    """An electrode's bare name: ``EEG Fp1-Ref`` and ``Fp1.`` become Fp1; a derivation of two (``A2-A1``) stays."""
    bare = re.sub(r"(?i)^\s*eeg[ _:-]*", "", channel).strip(" ._")
    if re.match(r"(?i)[am][12]\b", bare):
        return bare
    return re.sub(r"(?i)[-_ :](ref|le|avg|ave|ar|car|a1|a2|m1|m2|a1a2)$", "", bare)


def site(channel: str) -> str:
    """The bare name in capitals, by today's system: ``EEG T3-Ref`` and ``t7`` are both T7."""
    name = clean_name(channel).upper()
    return ALIASES.get(name, name)


def electrode_places(channels: Sequence[str]) -> dict[int, str]:
    """The channels whose name has a place in the 10-05 system: index and the system's name, each place once."""
    known = {name.upper(): name for name in montage().ch_names}
    places: dict[int, str] = {}
    for index, channel in enumerate(channels):
        name = clean_name(channel).upper()
        place = known.get(NEAREST.get(name, name))
        if place is not None and place not in places.values():
            places[index] = place
    return places


def positions(channels: Sequence[str]) -> tuple[tuple[float, float, float], ...] | None:
    """Where each channel sits on the template head, in metres, or None where one of them has no place of its own, or there is none.

    x points to the right ear, y to the nose, z up; the origin lies between the ears: Cz is at (0, 0.03, 0.14).
    """
    places = electrode_places(channels)
    if not channels or len(places) < len(channels):
        return None
    found = [_coordinates()[places[index]] for index in range(len(channels))]
    return tuple((float(x), float(y), float(z)) for x, y, z in found)


@cache
def montage() -> Any:
    """The 10-05 system on MNE's template head, which MNE 1.13 renamed."""
    import mne

    names = mne.channels.get_builtin_montages()
    return mne.channels.make_standard_montage("colin27_1005" if "colin27_1005" in names else "standard_1005")


@cache
def _coordinates() -> dict[str, Any]:
    """The system's places in head coordinates."""
    import mne

    return dict(mne.channels.transform_to_head(montage()).get_positions()["ch_pos"])
