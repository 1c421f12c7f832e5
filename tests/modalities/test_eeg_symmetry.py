import re

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Window
from fusionkit.core.recording import Stored
from fusionkit.modalities.eeg import Symmetry
from fusionkit.modalities.eeg.places import montage
from fusionkit.modalities.eeg.symmetry import mirrors

SEED = re.findall(
    r"\w+",
    """FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 T7 C5 C3 C1 CZ C2 C4 C6 T8
TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2""",
)


def bound(channels, probability=1.0):
    made = Symmetry(probability=probability)
    made.bind(Stored(200.0, tuple(channels), "V", (len(channels),), "float32", 10))
    return made


def test_every_electrode_meets_its_mirror():
    found = mirrors(SEED)
    assert [SEED[i] for i in found[:5]] == ["FP2", "FPZ", "FP1", "AF4", "AF3"]
    assert sorted(found) == list(range(62)) and [found[i] for i in found] == list(range(62))
    assert [SEED[i] for i in range(62) if found[i] == i] == ["FPZ", "FZ", "FCZ", "CZ", "CPZ", "PZ", "POZ", "OZ"]
    assert SEED[found[SEED.index("CB1")]] == "CB2"
    assert mirrors(["EEG T3-Ref", "Cz", "EEG T4-Ref", "AFF5h", "aff6h"]) == [2, 1, 0, 4, 3]


def test_the_mirror_is_that_of_places_on_the_head():
    places = montage().get_positions()["ch_pos"]
    names = list(places)
    for name, other in zip(names, mirrors(names), strict=True):
        x, y, z = places[name]
        assert abs(places[names[other]] - (-x, y, z)).max() < 0.015, (name, names[other])


def test_twice_is_identity_and_once_swaps():
    values = torch.randn(4, 62, 10, generator=torch.Generator().manual_seed(0))
    stream = Window(values, torch.full((4,), 10), torch.ones(4, dtype=torch.bool))
    symmetry = bound(SEED)
    once = symmetry(stream)
    assert torch.equal(once.values[:, SEED.index("F4")], values[:, SEED.index("F3")])
    assert torch.equal(symmetry(once).values, values) and not torch.equal(once.values, values)


def test_each_sample_is_chosen_by_itself():
    values = torch.arange(3.0)[None, :, None].expand(1000, 3, 2)
    stream = Window(values, torch.full((1000,), 2), torch.ones(1000, dtype=torch.bool))
    out = bound(["C3", "C4", "Cz"], 0.3)(stream, torch.Generator().manual_seed(0)).values
    assert (out[:, 0, 0] == 1).float().mean().item() == pytest.approx(0.3, abs=0.05)


def test_names_without_a_mirror_are_refused():
    with pytest.raises(ConfigError, match="'F3' has no F4"):
        bound(["F3", "Fz"])
    with pytest.raises(ConfigError, match="10-05 system, but 'E12' is none"):
        bound(["E12", "E13"])
    with pytest.raises(ConfigError, match="bound to a sensor first"):
        Symmetry()(Window(torch.zeros(1, 2, 3), torch.tensor([3]), torch.tensor([True])))
