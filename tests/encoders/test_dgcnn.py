"""The graph over electrodes: against eigenvectors of its Laplacian, its ties from places, its ties that learn."""

import math

import numpy as np
import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features, FeatureShape
from fusionkit.core.recording import Stored
from fusionkit.core.registry import encoders, modalities
from fusionkit.encoders.dgcnn import DGCNNEncoder, GraphConvolution, initial_adjacency
from fusionkit.testing import check_encoder

LINE = tuple((0.03 * i, 0.0, 0.0) for i in range(3))


def features(*shape):
    everywhere = torch.ones(shape[:2], dtype=torch.bool)
    return Features(torch.randn(*shape), everywhere, everywhere[:, 0])


def spectral(x, adjacency, coefficients, bias):
    """The filter as the paper defines it, node by node: polynomials of eigenvalues, in the basis of eigenvectors."""
    nodes = len(adjacency)
    ties = np.zeros((nodes, nodes))
    for i in range(nodes):
        for j in range(nodes):
            if i != j:
                ties[i, j] = (max(adjacency[i, j], 0) + max(adjacency[j, i], 0)) / 2
    laplacian = np.zeros((nodes, nodes))
    for i in range(nodes):
        for j in range(nodes):
            share = ties[i, j] / math.sqrt(ties[i].sum() * ties[j].sum()) if ties[i, j] else 0.0
            laplacian[i, j] = float(i == j) - share
    values, vectors = np.linalg.eigh(laplacian)
    assert values.min() >= -1e-9 and values.max() <= 2 + 1e-9
    total = np.zeros((nodes, coefficients.shape[2]))
    for k, theta in enumerate(coefficients):
        polynomial = np.cos(k * np.arccos(np.clip(2 * values / 2 - 1, -1, 1)))
        total += vectors @ np.diag(polynomial) @ vectors.T @ x @ theta
    return total + bias


@pytest.mark.parametrize("order", [1, 2, 5])
def test_the_convolution_matches_eigenvectors(order):
    adjacency = torch.randn(6, 6)  # negative ties and asymmetric ones
    adjacency[4], adjacency[:, 4] = -1.0, -1.0  # tied to none
    module = GraphConvolution(adjacency, 3, 4, order).double()
    x = torch.randn(2, 5, 6, 3, dtype=torch.float64)
    theta = module.mix.weight.detach().numpy().T.reshape(order + 1, 3, 4)
    found = module(x).detach().numpy()
    for row in range(2):
        for step in range(5):
            wanted = spectral(x[row, step].numpy(), adjacency.numpy(), theta, module.mix.bias.detach().numpy())
            np.testing.assert_allclose(found[row, step], wanted, atol=1e-7)  # arccos near 1 costs digits


def test_the_token_is_all_nodes_through_one_map():
    module = DGCNNEncoder(FeatureShape(4, 2), 5, width=3).eval()
    given = features(2, 3, 4, 2)
    hidden = module.graph(given.values).clamp_min(0)
    out = torch.stack([module.project.weight @ node.flatten() for node in hidden.flatten(0, 1)]) + module.project.bias
    wanted = (out - out.mean(1, keepdim=True)) / (out.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(module(given).values, wanted.unflatten(0, (2, 3)))


def test_two_electrodes_hear_each_other_with_the_opposite_sign():
    laplacian = GraphConvolution(torch.tensor([[9.0, 0.2], [0.3, 9.0]]), 1, 1, 1).laplacian()
    torch.testing.assert_close(laplacian, torch.tensor([[0.0, -1.0], [-1.0, 0.0]]))


def test_electrodes_in_a_line_start_with_known_ties():
    ties = initial_adjacency(3, LINE)
    near, far = math.exp(-0.5), math.exp(-2)
    torch.testing.assert_close(ties, torch.tensor([[1, near, far], [near, 1, near], [far, near, 1]]))
    assert torch.equal(initial_adjacency(3, None), torch.ones(3, 3))
    assert initial_adjacency(2, ((0.0, 0.0, 0.1),) * 2).tolist() == [[1, 1], [1, 1]]


def test_near_electrodes_are_tied_stronger():
    generator = np.random.default_rng(0)
    directions = generator.normal(size=(20, 3))
    places = directions / np.linalg.norm(directions, axis=1, keepdims=True) * 0.095
    build = DGCNNEncoder(FeatureShape(20, 5, places=tuple(map(tuple, places.tolist()))), 8)
    ties = build.graph.adjacency.detach()
    distance = np.linalg.norm(places[:, None] - places, axis=2)
    pairs = np.triu_indices(20, 1)
    order = np.argsort(distance[pairs])
    assert (np.diff(ties.numpy()[pairs][order]) <= 0).all() and (ties > 0).all()
    assert not torch.equal(ties, DGCNNEncoder(FeatureShape(20, 5), 8).graph.adjacency)


def test_electrodes_of_a_recording_bring_their_places():
    stored = Stored(128.0, ("Fp1", "Fp2", "O1", "O2"), "V", (4,), "float32", 256)
    ties = DGCNNEncoder(modalities.build("eeg").front_end(stored).shape, 8).graph.adjacency
    assert ties[0, 1] == ties[1, 0] > ties[0, 2] > ties[0, 3] > 0  # Fp1 with Fp2, O1 and O2


def test_ties_learn_and_one_that_is_cut_stays():
    module = DGCNNEncoder(FeatureShape(4, 1), 8, order=1, dropout=0.0)
    with torch.no_grad():
        module.graph.adjacency[2:, :2] = module.graph.adjacency[:2, 2:] = -0.1
    head = torch.nn.Linear(8, 1)
    optimiser = torch.optim.Adam([*module.parameters(), *head.parameters()], lr=1e-2)
    before = module.graph.adjacency.detach().clone()
    for _ in range(20):
        given = features(32, 1, 4, 1)
        target = (given.values[:, 0, 0] * given.values[:, 0, 1]).sign()
        loss = torch.nn.functional.soft_margin_loss(head(module(given).values[:, 0]), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    moved = (module.graph.adjacency.detach() - before).abs()
    assert (moved[:2, 2:] == 0).all() and (moved[2:, :2] == 0).all()
    assert moved[0, 1] > 1e-3 and moved[2, 3] > 0
    assert (moved.diagonal() == 0).all()


def test_steps_do_not_meet():
    module = DGCNNEncoder(FeatureShape(3, 2), 4).eval()
    given = features(1, 7, 3, 2)
    other = given.values.clone()
    other[0, 3] += 1
    changed = module(given._replace(values=other)).values != module(given).values
    assert changed.any(-1).nonzero().tolist() == [[0, 3]]


@pytest.mark.parametrize("options", [{}, {"order": 4, "width": 5, "dropout": 0.0}], ids=str)
def test_conforms(options):
    check_encoder(DGCNNEncoder, **options)


@pytest.mark.slow
def test_exports():
    check_encoder(DGCNNEncoder, export=True)


def test_one_electrode_is_no_graph():
    with pytest.raises(ConfigError, match="two electrodes or more, but there is 1"):
        encoders.build("dgcnn", {}, FeatureShape(1, 5), 8)
