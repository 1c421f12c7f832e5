import numpy as np
import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.modalities.eeg.asymmetry import LIMIT, Asymmetry, find_pairs

ORDER = (
    "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 T7 C5 C3 C1 CZ C2 C4 C6 T8 "
    "TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2"
)
SEED = ORDER.split()


def names(kind, channels):
    return [f"{channels[first]}-{channels[second]}" for first, second in find_pairs(kind, channels)]


@pytest.mark.parametrize(("kind", "channels"), [("dasm", 27), ("rasm", 27), ("asm", 54), ("dcau", 23)])
def test_the_62_channels_of_seed_give_its_counts(kind, channels):
    pairs = find_pairs(kind, SEED)
    assert Asymmetry(kind, pairs).channels == channels
    used = [index for pair in pairs for index in pair]
    assert len(set(used)) == len(used), "an electrode is in one pair"


def test_left_is_odd_and_its_counterpart_even():
    assert names("dasm", SEED)[:4] == ["FP1-FP2", "AF3-AF4", "F7-F8", "F5-F6"]
    assert names("dasm", SEED)[-2:] == ["CB1-CB2", "O1-O2"]
    midline = {name for name in SEED if name.endswith("Z")}
    paired = {name for pair in names("dasm", SEED) for name in pair.split("-")}
    assert paired == set(SEED) - midline


def test_front_and_back_are_those_of_seed():
    assert names("dcau", SEED)[0] == "FT7-TP7" and names("dcau", SEED)[-1] == "AF4-CB2"


@pytest.mark.parametrize(
    ("channels", "pairs"),
    [
        (["EEG T3-Ref", "EEG T4-Ref"], ["EEG T3-Ref-EEG T4-Ref"]),
        (["T8", "T3"], ["T3-T8"]),
        (["AFF5h", "Cz", "aff6h"], ["AFF5h-aff6h"]),
        (["PO9", "PO10"], ["PO9-PO10"]),
        (["C3", "C4", "F3"], ["C3-C4"]),
    ],
)
def test_pairs_are_found_by_name(channels, pairs):
    assert names("dasm", channels) == pairs


@pytest.mark.parametrize(
    ("kind", "channels", "message"),
    [
        ("dasm", ["Fz", "Pz"], "left and right of the midline, .* among Fz, Pz$"),
        ("asm", ["C3", "F7"], "among C3, F7: C4, F8 missing"),
        ("dcau", ["Fz", "C3", "C4"], "dcau needs electrodes in front and behind, .*: PZ missing"),
    ],
)
def test_without_a_pair_the_message_names_what_is_missing(kind, channels, message):
    with pytest.raises(ConfigError, match=message):
        find_pairs(kind, channels)


def test_three_and_two_differ_by_one_and_have_a_ratio_of_one_and_a_half():
    values = torch.tensor([2.0, 3.0]).reshape(1, 2, 1, 1)
    assert Asymmetry("dasm", [(1, 0)])(values).item() == 1
    assert Asymmetry("rasm", [(1, 0)])(values).item() == 1.5
    assert Asymmetry("asm", [(1, 0)])(values).flatten().tolist() == [1, 1.5]


def test_a_plain_loop_over_the_pairs_agrees():
    values = torch.randn(2, 62, 3, 5)
    found = Asymmetry("asm", find_pairs("asm", SEED))(values)
    for place, (left, right) in enumerate(find_pairs("asm", SEED)):
        torch.testing.assert_close(found[:, place], values[:, left] - values[:, right])
        ratio = (values[:, left] / values[:, right]).clamp(-LIMIT, LIMIT)
        torch.testing.assert_close(found[:, 27 + place], ratio)


def test_a_ratio_is_bounded_where_it_is_undefined():
    pairs = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 1e-30], [1.0, -1e-30], [50.0, 1.0]])
    found = torch.cat([Asymmetry("rasm", [(0, 1)])(pair.reshape(1, 2, 1, 1)) for pair in pairs]).flatten()
    assert found.tolist() == [LIMIT, -LIMIT, 0, LIMIT, -LIMIT, 50]


def test_a_pair_was_measured_where_both_were():
    measured = torch.tensor([[True, True, False], [True, False, False]])
    both = Asymmetry("asm", [(0, 1), (1, 2)]).both(measured)
    assert np.array_equal(both.numpy(), [[True, False] * 2, [False] * 4])
