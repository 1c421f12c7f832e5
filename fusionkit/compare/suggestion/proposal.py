"""The graph that follows from what was found: who meets whom, where, and through whose parameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from fusionkit.compare.suggestion.suggest import ALIKE, Findings

APART = 1e6
"""Distance of what must not be in one cluster."""


def cluster(distance: Float[np.ndarray, "one one"]) -> Float[np.ndarray, "merge 4"]:
    """Average-linkage merges in the form of scipy, for a dendrogram."""
    return np.asarray(linkage(squareform(distance, checks=False), "average"))


def clusters(distance: Float[np.ndarray, "one one"], cut: float) -> list[list[int]]:
    """Clusters by average linkage whose mean distance is at most ``cut``, by their first member.

    Distances of 0.1 between the first two and 0.9 to a third, cut at 0.5, give ``[[0, 1], [2]]``.
    """
    if len(distance) < 2:
        return [[one] for one in range(len(distance))]
    labels = fcluster(cluster(distance), cut, "distance")
    return sorted([one for one in range(len(labels)) if labels[one] == label] for label in set(labels))


def propose(found: Findings) -> dict[str, Any]:
    """The ``fusion.graph`` that follows from what was found; empty where one sensor is left.

    Sensors that only together say something meet in an intermediate node (`_joint`). Of the others, those that see
    the same and whose layers cost each other nothing (clusters of the heterogeneity by transfer) share layers in a
    `similarity_merge` node, whose threshold is half their CKA, so that it merges them. What stands apart after that is
    merged late, by the mean. Idle sensors are left out, unless all are: then nothing is known, and a late mean of all
    is proposed.
    """
    kept = [one for one in range(len(found.names)) if one not in found.idle] or list(range(len(found.names)))
    graph: dict[str, Any] = {}
    for group in linked_groups(found.synergies):
        for options, sensors in _joint(found, group):
            graph["_".join(["joint", *sensors])] = {**options, "inputs": sensors}
    taken = {one for pair in found.synergies for one in pair}
    rest = [one for one in kept if one not in taken]
    for group in sharing_groups(found, rest):
        least = min(float(found.alike.mean[i, j]) for i, j in found.sharing if i in group and j in group)
        sensors = [found.names[one] for one in group]
        threshold = round(max(ALIKE, least) / 2, 3)
        graph["_".join(["shared", *sensors])] = {"kind": "similarity_merge", "threshold": threshold, "inputs": sensors}
        taken |= set(group)
    tops = [*graph, *(found.names[one] for one in kept if one not in taken)]
    if len(tops) > 1:
        graph["merged"] = {"kind": "vote", "inputs": tops}
    return graph


def _joint(found: Findings, group: Sequence[int]) -> list[tuple[dict[str, Any], list[str]]]:
    """The nodes, with their sensors, of a group that pairs with synergy hold together.

    Where the past of one of them foretells another they meet on one clock (`rcft`). Else pairs whose crossings cost
    each other nothing (clusters of the heterogeneity of pairs) go through one crossing, the same for all
    (`perceiver`), and every other pair through one of its own (`tensor`).
    """
    names = [found.names[one] for one in group]
    if any(source in group and target in group for source, target in found.linked):
        return [({"kind": "rcft"}, names)]
    nodes: list[tuple[dict[str, Any], list[str]]] = []
    for pairs in crossing_groups(found, [pair for pair in found.synergies if pair[0] in group]):
        sensors = [found.names[one] for one in sorted({one for pair in pairs for one in pair})]
        nodes.append(({"kind": "tensor" if len(pairs) == 1 else "perceiver"}, sensors))
    return nodes


def crossing_groups(found: Findings, pairs: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Pairs that may go through one crossing; one whose crossing was not compared is by itself."""
    apart = np.full((len(pairs), len(pairs)), APART)
    np.fill_diagonal(apart, 0)
    place = {pair: number for number, pair in enumerate(found.pairs)}
    for i, first in enumerate(pairs):
        for j, second in enumerate(pairs):
            if first in place and second in place:
                apart[i, j] = found.crossing_excess[place[first], place[second]]
    return [[pairs[one] for one in group] for group in clusters(apart, 1.0)]


def sharing_groups(found: Findings, sensors: Sequence[int]) -> list[list[int]]:
    """Two sensors or more that may share layers: clusters of heterogeneity of those that see the same."""
    apart = np.full((len(found.names),) * 2, APART)
    np.fill_diagonal(apart, 0)
    for i, j in found.sharing:
        apart[i, j] = apart[j, i] = found.excess[i, j]
    groups = clusters(apart[np.ix_(sensors, sensors)], 1.0)
    return [[sensors[one] for one in group] for group in groups if len(group) > 1]


def linked_groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """What pairs hold together: those of (0, 1), (1, 2) and (3, 4) are 0, 1, 2 and 3, 4."""
    groups: list[set[int]] = []
    for pair in pairs:
        met = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if group not in met] + [set(pair).union(*met)]
    return sorted(sorted(group) for group in groups)
