import math

import pytest
import torch

from fusionkit.modalities.eeg.measure import Entropy, Power, RelativePower, SeedEntropy


def one(module, *values):
    return module(torch.tensor(values)).tolist()


def test_a_variance_of_one_has_these_entropies():
    assert one(Entropy("e", "uV", 1e-6), 1.0) == pytest.approx([1.4189], abs=1e-4)
    assert one(Entropy(2, "uV", 1e-6), 1.0) == pytest.approx([2.0471], abs=1e-4)
    assert one(Entropy("e", "V", 1e-6), 1.0) == pytest.approx([1.4189 - math.log(1e6)], abs=1e-4)
    assert one(Entropy(2, "V", 1e-6), 1e12) == pytest.approx([2.0471], abs=1e-4)


def test_twice_the_amplitude_is_one_bit():
    low, high = one(Entropy(2, "uV", 1e-6), 3.0, 12.0)
    assert high - low == pytest.approx(1)


def test_the_seed_entropy_is_its_formula():
    assert one(SeedEntropy(1e-6), 1.0, 0.01, 0.0) == pytest.approx([math.log2(100), 0, math.log2(1e-4)], abs=1e-5)


def test_power_is_the_variance_in_the_unit():
    assert one(Power("uV", 1e-6), 4.0, 0.0) == pytest.approx([4, 1e-6])
    assert one(Power("V", 1e-6), 4.0) == pytest.approx([4e-12])


def test_shares_are_of_all_bands():
    assert one(RelativePower(1e-6), 1.0, 3.0) == [0.25, 0.75]
    assert one(RelativePower(1e-6), 0.0, 0.0) == [0.5, 0.5]


def test_nothing_hides_nan():
    for module in (Entropy("e", "uV", 1e-6), SeedEntropy(1e-6), Power("uV", 1e-6)):
        low, lost = one(module, 0.0, math.nan)
        assert math.isfinite(low) and math.isnan(lost)
