"""The graph that follows from findings: who meets whom, and what transfer lets share parameters."""

import numpy as np
import pytest
import torch

from fusionkit.compare.suggestion.links import Links
from fusionkit.compare.suggestion.proposal import clusters, linked_groups, propose
from fusionkit.compare.suggestion.recommendation import explain, seen_by_others
from fusionkit.compare.suggestion.suggest import Findings
from fusionkit.compare.suggestion.transfer import Estimate
from fusionkit.data.splits import Fold
from fusionkit.recipe.load import load_recipe


def known(alone, alike=(), synergy=(), costly=(), crossings=(), links=()):
    """Findings without doubt; ``costly`` are sensors and ``crossings`` pairs that transfer badly."""
    count = len(alone)
    pairs = tuple(synergy)
    matrices = [torch.zeros(count, count) for _ in range(3)]
    for matrix, given in zip(matrices, (alike, synergy, costly), strict=True):
        for i, j in given:
            matrix[i, j] = matrix[j, i] = 0.5
    crossing = torch.zeros(len(pairs), len(pairs))
    for one, other in crossings:
        crossing[pairs.index(one), pairs.index(other)] = 0.3
    p = np.where(np.eye(count), np.nan, 1.0)
    for source, target in links:
        p[source, target] = 1e-9

    def sure(mean):
        return Estimate(mean, torch.full_like(mean, 1e-3), 5)

    zero = torch.zeros(count)
    return Findings(
        names=tuple("abcdef"[:count]),
        prior=0.7,
        alone=sure(torch.tensor(alone)),
        addition=sure(zero),
        benefit=sure(matrices[1]),
        synergy=sure(matrices[1]),
        alike=sure(matrices[0]),
        transfer=sure(matrices[2]),
        pairs=pairs,
        crossing=sure(crossing),
        links=Links(p, np.full_like(p, 0.5)),
    )


def test_graphs_that_follow():
    assert propose(known([0.3, 0.3])) == {"merged": {"kind": "vote", "inputs": ["a", "b"]}}
    assert propose(known([0.3, 0.0])) == {}
    assert propose(known([0.0, 0.0]))["merged"]["inputs"] == ["a", "b"]  # nothing is known: all
    both = propose(known([0.3, 0.3, 0.3], alike=[(0, 1), (1, 2), (0, 2)], synergy=[(0, 1)]))
    assert both["joint_a_b"]["kind"] == "tensor"
    assert both["merged"]["inputs"] == ["joint_a_b", "c"]


def test_only_layers_that_cost_nothing_are_shared():
    three = [(0, 1), (1, 2), (0, 2)]
    shared = propose(known([0.3, 0.3, 0.3], alike=three))
    assert shared == {"shared_a_b_c": {"kind": "similarity_merge", "threshold": 0.25, "inputs": ["a", "b", "c"]}}
    apart = propose(known([0.3, 0.3, 0.3], alike=three, costly=[(0, 2), (1, 2)]))
    assert apart["shared_a_b"]["inputs"] == ["a", "b"]
    assert apart["merged"]["inputs"] == ["shared_a_b", "c"]
    assert set(propose(known([0.3, 0.3], alike=[(0, 1)], costly=[(0, 1)]))) == {"merged"}


def test_pairs_share_a_crossing_where_it_costs_nothing():
    chain = [(0, 1), (1, 2)]
    one = propose(known([0.0, 0.0, 0.0, 0.3], synergy=chain))
    assert one["joint_a_b_c"] == {"kind": "perceiver", "inputs": ["a", "b", "c"]}
    assert one["merged"]["inputs"] == ["joint_a_b_c", "d"]
    two = propose(known([0.0, 0.0, 0.0, 0.3], synergy=chain, crossings=[chain]))
    assert two["joint_a_b"] == {"kind": "tensor", "inputs": ["a", "b"]}
    assert two["joint_b_c"] == {"kind": "tensor", "inputs": ["b", "c"]}
    assert two["merged"]["inputs"] == ["joint_a_b", "joint_b_c", "d"]


def test_linked_sensors_meet_on_one_clock():
    found = known([0.0, 0.0, 0.3], synergy=[(0, 1)], links=[(1, 0), (2, 0)])
    assert propose(found)["joint_a_b"] == {"kind": "rcft", "inputs": ["a", "b"]}
    assert "the past of b foretells a (50% of what its own past leaves)" in explain(found, "nats")


def test_what_is_said():
    alike = [(0, 1), (1, 2), (0, 2)]
    said = explain(known([0.3] * 3 + [0.0], alike=alike, costly=[(0, 2), (1, 2)]), "nats")
    assert said == [
        "a and b see the same (CKA 0.50) and may share layers (heterogeneity 0.000 nats)",
        "a and c see the same (CKA 0.50) but need layers of their own (heterogeneity 1.000 nats)",
        "b and c see the same (CKA 0.50) but need layers of their own (heterogeneity 1.000 nats)",
        "d adds nothing that could be measured: left out",
    ]
    chain = [(0, 1), (1, 2)]
    assert "one crossing may serve these pairs: a and b; b and c" in explain(known([0.0] * 3, synergy=chain), "nats")
    assert "b and c need a crossing of their own" in explain(known([0.0] * 3, synergy=chain, crossings=[chain]), "nats")


@pytest.mark.parametrize("crossings", [[], [[(0, 1), (1, 2)]]])
def test_proposals_are_recipes(crossings):
    """A sensor in two nodes, and every kind with its options."""
    found = known([0.0, 0.0, 0.0, 0.3], synergy=[(0, 1), (1, 2)], crossings=crossings, links=[(3, 0)])
    names = dict(zip("abcd", load_recipe("quickstart").modalities, strict=True))
    graph = {
        "_".join(names.get(part, part) for part in name.split("_")): {
            **node,
            "inputs": ["_".join(names.get(part, part) for part in one.split("_")) for one in node["inputs"]],
        }
        for name, node in propose(found).items()
    }
    recipe = load_recipe("quickstart", [f"fusion={{dim: 8, graph: {graph}}}"])
    assert [node.kind for node in recipe.graph.nodes][-1] == "vote"


def test_clusters_by_mean_distance():
    distance = np.array([[0, 0.1, 0.9], [0.1, 0, 0.9], [0.9, 0.9, 0]])
    assert clusters(distance, 0.5) == [[0, 1], [2]]
    assert clusters(distance, 0.95) == [[0, 1, 2]]
    assert clusters(np.zeros((1, 1)), 0.5) == [[0]] and clusters(np.zeros((0, 0)), 0.5) == []


def test_what_pairs_hold_together():
    assert linked_groups([(0, 1), (3, 4), (1, 2)]) == [[0, 1, 2], [3, 4]]


def test_a_graph_says_where_folds_test_on_what_chose_it():
    def fold(train, test):
        return Fold(np.array(train), np.array([2]), np.array(test))

    first = fold([0, 1], [3, 4])
    assert seen_by_others([first]) == seen_by_others([first, fold([0, 1], [3])]) == []
    (said,) = seen_by_others([first, fold([3, 4], [0, 1]), fold([0, 3], [2]), fold([0], [4])])
    assert said == "chosen on records that 2 of 4 folds test on: only fold 0 may be scored with this graph"
