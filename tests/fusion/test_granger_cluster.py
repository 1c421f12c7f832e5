"""Granger cluster: groups across sensors, an encoder a group, sensors without time, refusals."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import Features, FeatureShape
from fusionkit.fusion.granger_cluster import GrangerCluster
from fusionkit.fusion.operation import TrainingBatch

STEPS = 12
SHAPES = {"eeg": FeatureShape(3, 2), "image": FeatureShape(2, 1, steps=2, timed=False), "heart": FeatureShape(2, 1)}


def stream(values, present=None, timed=True):
    rows, steps = values.shape[:2]
    here = torch.ones(rows, dtype=torch.bool) if present is None else present
    time = ((torch.arange(steps) + 0.5) / steps * 6.0).expand(rows, -1) if timed else None
    return Features(values, torch.ones(rows, steps, dtype=torch.bool), here, time)


def records(rows=60, seed=0):
    """EEG channel 0 drives heart channel 1, EEG 2 drives EEG 1; heart 0 is alone."""
    rng = np.random.default_rng(seed)
    source = rng.standard_normal((rows, STEPS + 1, 5))
    series = source[:, 1:].copy()
    series[..., 4] += 1.2 * source[:, :-1, 0]
    series[..., 1] += 1.2 * source[:, :-1, 2]
    values = torch.from_numpy(series).float()
    eeg = torch.stack([values[..., :3] + 0.5, values[..., :3] - 0.5], -1)
    image = torch.from_numpy(rng.standard_normal((rows, 2, 2, 1))).float()
    return {"eeg": stream(eeg), "image": stream(image, timed=False), "heart": stream(values[..., 3:, None])}


def fitted(batches, **options):
    torch.manual_seed(0)
    made = GrangerCluster(SHAPES, 6.0, **{"steps": STEPS, "rate": 0.001, "hidden": 3, **options})
    with torch.no_grad():
        made.fit(lambda: [TrainingBatch(batch, {}) for batch in batches], torch.Generator())
    return made


def test_groups_reach_across_sensors():
    made = fitted([records(seed=1), records(seed=2)])
    columns = [group.nonzero().flatten().tolist() for group in made.member]
    # 0-5: EEG, two numbers a channel; 6-9: the image; 10, 11: heart
    assert columns == [[0, 1, 11], [2, 3, 4, 5], [10], [], [], [6, 7, 8, 9]]
    linked = (made.strength > 0).nonzero().tolist()
    assert linked == [[0, 4], [2, 1]]


def test_a_plain_loop_over_groups():
    batch = records(rows=4)
    made = fitted([records()])
    with torch.no_grad():
        made.bias.normal_()
    joint = made(batch)
    blocks = [
        batch["eeg"].values.flatten(2),
        batch["image"].values.reshape(4, 1, 4).expand(-1, STEPS, -1),
        batch["heart"].values.flatten(2),
    ]
    x = torch.cat(blocks, -1)
    for group, columns in enumerate(made.member):
        wanted = F.gelu(x[..., columns] @ made.weight[columns] + made.bias[group])
        if not columns.any():
            wanted = torch.zeros_like(wanted)
        torch.testing.assert_close(joint.values[:, :, group], wanted)
    assert joint.values.shape[1:] == (STEPS, 6, 3) == (made.shape.steps, made.shape.channel, made.shape.subchannel)
    assert made.shape.trains and made.shape.timed


def test_weights_start_by_the_size_of_their_group():
    made = fitted([records()])
    for columns in made.member:
        if columns.any():
            bound = (6 / (int(columns.sum()) + 3)) ** 0.5
            assert 0.5 * bound < made.weight[columns].abs().max() <= bound


def test_too_many_groups_share_the_last():
    made = fitted([records()], clusters=2)
    columns = [group.nonzero().flatten().tolist() for group in made.member]
    assert columns == [[0, 1, 11], [2, 3, 4, 5, 10], [6, 7, 8, 9]]


def test_only_records_that_have_every_sensor_with_time_are_tested():
    batch = records(rows=60)
    here = torch.arange(60) < 40
    spoilt = batch["heart"].values.clone()
    spoilt[40:] = torch.nan
    some = {**batch, "heart": stream(spoilt, here)}
    first = {name: type(one)(*(None if part is None else part[:40] for part in one)) for name, one in batch.items()}
    assert torch.equal(fitted([some]).strength, fitted([first]).strength)
    with pytest.raises(DataError, match=r"all of \['eeg', 'heart'\], but none"):
        fitted([{**some, "eeg": some["eeg"]._replace(present=~here)}])


def once(batch, name):
    """The sensor measured at one moment of every record."""
    one = batch[name]
    return {**batch, name: one._replace(mask=(torch.arange(STEPS) == 3).expand(len(one.values), -1))}


def test_a_sensor_with_one_step_is_a_group_and_does_not_keep_others_from_tests():
    made = fitted([once(records(), "heart")])
    columns = [group.nonzero().flatten().tolist() for group in made.member]
    assert columns == [[2, 3, 4, 5], [0, 1], [10, 11], [], [], [6, 7, 8, 9]]  # heart's two channels are one group
    assert (made.strength > 0).nonzero().tolist() == [[2, 1]]
    assert [group.nonzero().flatten().tolist() for group in fitted([once(records(), "heart")], clusters=1).member] == [
        [0, 1, 2, 3, 4, 5, 10, 11],
        [6, 7, 8, 9],
    ]


def test_a_single_channel_with_a_past_has_nobody_to_be_linked_with():
    torch.manual_seed(0)
    made = GrangerCluster({"heart": FeatureShape(1, 1), "once": FeatureShape(1, 1)}, 6.0, steps=STEPS, hidden=3)
    batch = once({name: stream(torch.randn(20, STEPS, 1, 1)) for name in ("heart", "once")}, "once")
    with torch.no_grad():
        made.fit(lambda: [TrainingBatch(batch, {})], torch.Generator())
    assert not made.strength.any() and made.member.int().tolist()[:2] == [[1, 0], [0, 1]]


def test_records_of_one_step_are_passed_over():
    whole, single = records(seed=1), once(once(records(seed=2), "heart"), "eeg")
    assert torch.equal(fitted([whole, single]).member, fitted([whole]).member)
    assert (fitted([whole, single]).strength > 0).equal(fitted([whole]).strength > 0)


def test_nothing_with_a_past_is_refused():
    with pytest.raises(DataError, match=r"a past, but none has any of \['eeg', 'heart'\] in two of 12 bins"):
        fitted([once(once(records(), "heart"), "eeg")])


def test_gaps_on_the_clock_are_told():
    with pytest.raises(DataError, match=r"fewer bins \(steps\) have fewer gaps"):
        fitted([records()], steps=40)


def test_the_groups_lie_in_the_checkpoint():
    made = fitted([records()])
    other = GrangerCluster(SHAPES, 6.0, steps=STEPS, hidden=3)
    other.load_state_dict(made.state_dict())
    assert torch.equal(other(records(seed=5)).values, made(records(seed=5)).values)


def test_without_time_every_sensor_is_a_group():
    shapes = {"image": SHAPES["image"], "text": FeatureShape(3, 1, timed=False, trains=True)}
    made = GrangerCluster(shapes, None)
    assert made.member.int().tolist() == [[1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1]]
    assert made.shape.steps == 1 and not made.shape.timed


def test_refusals():
    with pytest.raises(ConfigError, match=r"steps must be at least lags \+ 2, but 4 is less than 7"):
        GrangerCluster(SHAPES, 6.0, lags=5)
    with pytest.raises(ConfigError, match="those of 'words' do"):
        GrangerCluster({"words": FeatureShape(2, 1, trains=True)}, 6.0)
