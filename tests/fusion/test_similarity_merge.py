"""Similarity merge: rotations of one latent share a network, noise stays apart, and what merging may not change."""

import math

import pytest
import torch

from fusionkit.core.errors import DataError
from fusionkit.core.levels import Tokens
from fusionkit.fusion.operation import TrainingBatch
from fusionkit.fusion.similarity_merge import SimilarityMerge, leaders, procrustes
from fusionkit.fusion.vectors import pool_streams


def stream(values, present=None):
    here = torch.ones(len(values), dtype=torch.bool) if present is None else present
    return Tokens(values[:, None], torch.ones(len(values), 1, dtype=torch.bool), here)


def rotations(rows=400, seed=0):
    """Two sensors that see one latent vector from two sides, and noise; the label is the latent's quadrant."""
    g = torch.Generator().manual_seed(seed)
    latent = torch.randn(rows, 6, generator=g)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(5)))[0]
    values = {"one": latent, "noise": torch.randn(rows, 6, generator=g), "two": latent @ turn}
    label = (latent[:, 0] > 0).float() + 2 * (latent[:, 1] > 0).float()
    return values, label


def fitted(values, label, dim=8, seed=0, **options):
    torch.manual_seed(seed)
    made = SimilarityMerge({name: x.shape[1] for name, x in values.items()}, dim, None, **options)
    batch = TrainingBatch({name: stream(x) for name, x in values.items()}, {"task": label})
    with torch.no_grad():
        made.fit(lambda: [batch], torch.Generator().manual_seed(1))
    return made


def test_rotations_are_merged_and_noise_stays_apart():
    for seed in range(3):
        made = fitted(*rotations(seed=seed), seed=seed)
        assert made.leader[-1].tolist() == [0, 1, 0], made.similarity
        assert made.similarity[-1, 0, 2] > 0.5 and made.similarity[-1, 0, 1].abs() < 0.15


def test_a_threshold_that_nothing_reaches_leaves_separate_networks():
    values, label = rotations(rows=100)
    made = fitted(values, label, threshold=1.0, epochs=3).eval()
    assert made.leader.tolist() == [[0, 1, 2]] * 2
    x = {name: stream(one[:5]) for name, one in values.items()}
    blocks = made.scale(pool_streams(x, made.inputs))
    apart = []
    for number, block in enumerate(blocks):
        state = made.enter[number](block)
        for layer in made.layers:
            state = torch.relu(state @ layer.weight[number] + layer.bias[number])
        apart.append(state)
    torch.testing.assert_close(made(x).values[:, 0], made.join(torch.cat(apart, 1)))


def test_merged_sensors_run_as_one_network():
    """A plain loop: turned onto the leader's states, averaged, then through the leader's layer alone."""
    values, label = rotations(rows=200)
    made = fitted(values, label, epochs=10, threshold=0.3).eval()
    made.leader.copy_(torch.tensor([[0, 1, 0], [0, 1, 0]]))
    x = {name: stream(one[:5]) for name, one in values.items()}
    blocks = made.scale(pool_streams(x, made.inputs))
    first = [
        torch.relu(enter(b) @ w + c)
        for enter, b, w, c in zip(made.enter, blocks, made.layers[0].weight, made.layers[0].bias, strict=True)
    ]
    turned = [s @ r + c for s, r, c in zip(first, made.rotation[0], made.shift[0], strict=True)]
    second = [
        torch.relu(s @ made.layers[1].weight[i] + made.layers[1].bias[i])
        for i, s in ((0, (turned[0] + turned[2]) / 2), (1, first[1]))
    ]
    group = second[0] @ made.rotation[1, 0] / 2 + (second[0] @ made.rotation[1, 2] + made.shift[1, 2]) / 2
    wanted = made.join(torch.cat([group, second[1], torch.zeros(5, 8)], 1))
    torch.testing.assert_close(made(x).values[:, 0], wanted)


def test_either_of_two_merged_sensors_stands_in_for_the_other():
    values, label = rotations()
    made = fitted(values, label)
    assert made.leader[-1].tolist() == [0, 1, 0]
    nobody = torch.zeros(400, dtype=torch.bool)
    whole = made({name: stream(x) for name, x in values.items()}).values
    centre = (whole - whole.mean(0)).square().mean()
    for gone in ("one", "two"):
        some = {name: stream(x, nobody if name == gone else None) for name, x in values.items()}
        assert (made(some).values - whole).square().mean() < 0.35 * centre


def test_groups_grow_from_layer_to_layer_and_agreement_is_passed_on():
    similarity = torch.eye(4).repeat(3, 1, 1)
    similarity[0, 1, 2] = similarity[0, 2, 1] = 0.9
    similarity[1, 2, 3] = similarity[1, 3, 2] = 0.6
    assert leaders(similarity, 0.5).tolist() == [[0, 1, 1, 3], [0, 1, 1, 1], [0, 1, 1, 1]]
    assert leaders(similarity, 0.7).tolist() == [[0, 1, 1, 3]] * 3


def test_procrustes_by_hand():
    circle = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    turn, shift = procrustes(circle + 3, 2 * circle @ quarter - 1)
    torch.testing.assert_close(turn, 2 * quarter)
    torch.testing.assert_close((circle + 3) @ turn + shift, 2 * circle @ quarter - 1)


def test_the_decision_lies_in_the_checkpoint():
    values, label = rotations(rows=150)
    made = fitted(values, label, epochs=5, threshold=0.2)
    other = SimilarityMerge(dict.fromkeys(values, 6), 8, None)
    other.load_state_dict(made.state_dict())
    x = {name: stream(one) for name, one in values.items()}
    assert torch.equal(other(x).values, made(x).values)


def test_labels_are_needed():
    values, label = rotations(rows=20)
    with pytest.raises(DataError, match="needs labels"):
        fitted(values, torch.full_like(label, math.nan))
