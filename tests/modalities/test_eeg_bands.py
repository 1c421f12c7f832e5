import numpy as np
import pytest
import scipy.signal
import torch

from fusionkit.modalities.eeg.bands import BANDS, MICRO, dft_matrices, excess_gain, filter_bank, rising, seed_matrices

SEED = BANDS["seed"]


def test_bands_rise():
    assert list(rising({"b": (8, 13), "c": (8, 14), "a": (4, 8)})) == ["a", "b", "c"]


def test_rows_are_blind_to_an_offset_and_have_unit_gain():
    rows, share = dft_matrices(200, 200.0, SEED)
    assert rows.shape == (200, 98) and share.sum(0).tolist() == [6, 8, 12, 34, 38]  # two a frequency: [1, 4) has 3
    assert rows.sum(0).abs().max() < 1e-9 * MICRO
    torch.testing.assert_close(rows.square().sum(0), torch.full((98,), MICRO**2 / 200, dtype=torch.float64))
    assert (share.sum(1) == 1).all()  # no frequency counts twice


def test_a_band_up_to_half_the_rate_leaves_out_the_sine_that_is_nothing():
    rows, _ = dft_matrices(100, 100.0, {"top": (0, 50)})
    assert rows.shape[1] == 1 + 2 * 49  # no sine at 0 Hz; 50 Hz is outside


def test_seed_bands_lie_one_frequency_low_and_share_an_edge():
    rows, share = seed_matrices(200, 200.0, 200, SEED)
    cosines = share[: len(share) // 2]
    assert [band.nonzero().flatten().tolist() for band in cosines.T][:2] == [[0, 1, 2, 3], [3, 4, 5, 6, 7]]
    assert cosines.sum(0).tolist() == pytest.approx([1] * 5)
    np.testing.assert_allclose(rows[:, 0] / MICRO, scipy.signal.windows.hann(202)[1:-1], atol=1e-12)


@pytest.mark.parametrize("order", [3, 5])
def test_filters_are_3_db_down_at_their_edges(order):
    for sections, edges in zip(filter_bank(200.0, SEED, order), SEED.values(), strict=True):
        _, response = scipy.signal.sosfreqz(sections, edges, fs=200.0)
        np.testing.assert_allclose(np.abs(response) ** 2, 0.5, rtol=1e-6)


def test_the_excess_gain_is_the_energy_of_the_impulse_response():
    impulse = np.zeros(20_000)
    impulse[0] = 1
    for order in (2, 5):
        for gain, sections, (low, high) in zip(
            excess_gain(200.0, SEED, order), filter_bank(200.0, SEED, order), SEED.values(), strict=True
        ):
            energy = (scipy.signal.sosfilt(sections, impulse) ** 2).sum()
            assert gain == pytest.approx(energy * 100 / (high - low), rel=1e-6)
