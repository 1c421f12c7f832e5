"""Mixtures of a batch: what is mixed with what, and by how much."""

import numpy as np
import pytest
import torch
from scipy import stats

from fusionkit.augment.mixup import mix, symmetric_beta
from fusionkit.core.levels import Features, Window

BATCH = 64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def window(*item, length=None, present=None, **statistics):
    generator = seeded(1)
    length = torch.full((BATCH,), item[-1]) if length is None else length
    present = torch.ones(BATCH, dtype=torch.bool) if present is None else present
    return Window(torch.randn(BATCH, *item, generator=generator), length, present, **statistics)


def features():
    mask = torch.ones(BATCH, 5, dtype=torch.bool)
    values = torch.randn(BATCH, 5, 3, 2, generator=seeded(2))
    return Features(values, mask, torch.ones(BATCH, dtype=torch.bool), torch.arange(5.0).expand(BATCH, 5))


def text():
    ids = torch.randint(2, 50, (BATCH, 6), generator=seeded(3))
    return Window(ids, torch.randint(1, 7, (BATCH,), generator=seeded(4)), torch.ones(BATCH, dtype=torch.bool))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_shares_are_of_the_beta_distribution(alpha):
    generator = seeded()
    drawn = [float(symmetric_beta(alpha, torch.zeros(1), generator)) for _ in range(2000)]
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_a_small_alpha_gives_shares_near_0_and_1_that_are_numbers():
    generator = seeded()
    drawn = np.array([float(symmetric_beta(0.01, torch.zeros(1), generator)) for _ in range(500)])
    assert ((drawn >= 0) & (drawn <= 1)).all() and 0.45 < drawn.mean() < 0.55
    assert (np.minimum(drawn, 1 - drawn) < 0.01).mean() > 0.9


def test_all_sensors_of_a_record_meet_the_same_partner():
    shift = torch.randn(BATCH, 4, 1, generator=seeded(5))
    inputs = {"eeg": window(4, 9, shift=shift, scale=shift.exp()), "image": features(), "words": text()}
    mixture = mix(inputs, 1.0, seeded())
    partner, share = mixture.partner, mixture.share.item()
    assert sorted(partner.tolist()) == list(range(BATCH)) and (partner != torch.arange(BATCH)).sum() > BATCH - 5
    for name in ("eeg", "image"):
        for field in ("values", "shift", "scale"):
            whole = getattr(inputs[name], field, None)
            if whole is not None:
                wanted = share * whole + (1 - share) * whole[partner]
                torch.testing.assert_close(getattr(mixture.inputs[name], field), wanted)
    assert mixture.inputs["image"][1:] == inputs["image"][1:]


def test_ids_are_those_of_the_larger_share():
    words = text()
    seen = set()
    for seed in range(8):
        mixture = mix({"words": words}, 1.0, seeded(seed))
        rows = torch.arange(BATCH) if mixture.share >= 0.5 else mixture.partner
        seen.add(bool(mixture.share >= 0.5))
        assert torch.equal(mixture.inputs["words"].values, words.values[rows])
        assert torch.equal(mixture.inputs["words"].length, words.length[rows])
    assert seen == {True, False}


def test_records_of_other_sensors_or_lengths_are_left_alone():
    present = torch.rand(BATCH, generator=seeded(6)) < 0.5
    length = torch.where(torch.rand(BATCH, generator=seeded(7)) < 0.5, 9, 7)
    step = torch.rand(BATCH, generator=seeded(8)) < 0.5
    stream = features()
    mask = stream.mask.clone()
    mask[step, 4] = False
    inputs = {
        "eeg": window(4, 9, length=length),
        "ecg": window(2, 9, present=present),
        "eye": stream._replace(mask=mask),
    }
    mixture = mix(inputs, 1.0, seeded())
    partner, alone = mixture.partner, mixture.partner == torch.arange(BATCH)
    assert 0.7 < alone.float().mean() < 0.98
    for kind in (present, length, step):
        assert torch.equal(kind[partner], kind)
    for name, level in inputs.items():
        assert torch.equal(mixture.inputs[name].values[alone], level.values[alone])
        assert (mixture.inputs[name].values[~alone] != level.values[~alone]).any()


def test_what_one_of_two_lacks_the_mixture_lacks():
    stream = features()
    stream.values[3, :, 1] = torch.nan
    mixture = mix({"eeg": stream}, 1.0, seeded())
    lacking = torch.zeros(BATCH, 3, dtype=torch.bool)
    lacking[[3, int((mixture.partner == 3).nonzero())], 1] = True
    assert torch.equal(mixture.inputs["eeg"].values.isnan().any(-1).any(1), lacking)


def test_the_seed_decides():
    inputs = {"eeg": window(4, 9)}
    one, same, other = (mix(inputs, 0.4, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.inputs["eeg"].values, same.inputs["eeg"].values) and one.share == same.share
    assert not torch.equal(one.partner, other.partner)
