"""Suggesting a graph: on studies whose structure is known it is found."""

import numpy as np
import pytest
import torch

from fusionkit.cli import main
from fusionkit.compare.probe import Material, mean_loss, probe
from fusionkit.compare.suggest import Findings, best_late, measure, propose
from fusionkit.compare.transfer import Estimate, estimate, heterogeneity
from fusionkit.compare.vectors import cut
from fusionkit.recipe.load import load_recipe

NAMES = ("twin", "half", "noise", "brother", "other_half")


def made(seed, records=600, seeds=3, groups=20, width=6, error=0.5):
    """Two sensors that see one cause, two that see a bit of an XOR each, and noise; numbers are rotated."""
    draw = np.random.default_rng(seed)
    shared, bits = draw.standard_normal(records), draw.integers(0, 2, (2, records))
    score = shared + 2.0 * (bits[0] ^ bits[1]) - 1.0
    causes = (shared, 2 * bits[0] - 1, draw.standard_normal(records), shared, 2 * bits[1] - 1)
    values = []
    for cause in causes:
        seen = draw.standard_normal((records, width))
        seen[:, 0] = cause + error * seen[:, 0]
        values.append(seen @ np.linalg.qr(draw.standard_normal((width, width)))[0])
    parts = cut(np.arange(records) % groups, seeds, draw)
    here = torch.ones(len(causes), records, dtype=torch.bool)
    return Material(torch.tensor(np.stack(values)).float(), here, torch.tensor(score > 0).float(), 2, parts)


def right(graph):
    """Twins share a node, the halves of the XOR an intermediate one, and noise is left out."""
    inputs = {frozenset(entry["inputs"]): entry["kind"] for entry in graph.values()}
    pairs = inputs.get(frozenset({"half", "other_half"})), inputs.get(frozenset({"twin", "brother"}))
    return pairs == ("tensor", "similarity_merge") and not any("noise" in group for group in inputs)


def test_known_structure_is_found():
    graph = propose(measure(made(0), NAMES))
    assert right(graph), graph
    assert graph["merged"]["kind"] == "vote"


@pytest.mark.study
def test_known_structure_is_found_in_nine_of_ten_seeds():
    found = [propose(measure(made(seed, seeds=5), NAMES)) for seed in range(10)]
    assert sum(map(right, found)) >= 9, found


def test_transfer_within_two_errors_counts_as_nothing():
    """T(1->2) is 0.3 and certain, T(2->1) is -0.1 and certain, T(1->3) is 0.2 with an error of 0.15."""
    mean = torch.tensor([[0.0, 0.3, 0.2], [-0.1, 0.0, 0.0], [0.0, 0.0, 0.0]])
    error = torch.full((3, 3), 0.05)
    error[0, 2] = 0.15
    expected = torch.tensor([[0.0, 0.3, 0.0], [0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.equal(heterogeneity(Estimate(mean, error, 3)), expected)


def test_the_estimate_of_one_two_three():
    found = estimate(torch.tensor([1.0, 2.0, 3.0]))
    assert float(found.mean) == 2
    assert float(found.error) == pytest.approx(3**-0.5)
    assert float(found.low) == pytest.approx(2 - 4.302653 * 3**-0.5, abs=1e-5)


def test_groups_stay_whole_and_every_seed_has_all_parts():
    group = np.repeat(np.arange(7), [3, 1, 4, 1, 5, 9, 2])
    parts = cut(group, 4, np.random.default_rng(0))
    for row in parts.numpy():
        assert set(row) == {0, 1, 2}
        assert all(len(set(row[group == one])) == 1 for one in range(7))


def test_too_few_groups_are_refused():
    with pytest.raises(ValueError, match="four groups or more to compare sensors, but they are of 3"):
        cut(np.array([0, 1, 2, 2]), 3, np.random.default_rng(0))


def test_records_that_score_teach_nothing():
    """Other labels of the records that score change no answer."""
    material = made(1, records=200)
    part = torch.where(torch.arange(200) % 20 < 6, 2, material.parts[0].clamp_max(1))[None]
    first = Material(material.values, material.here, material.target, 2, part)
    turned = torch.where(part[0] == 2, 1 - material.target, material.target)
    second = Material(material.values, material.here, turned, 2, part)
    assert torch.equal(probe(first, [[0, 1]]).answer, probe(second, [[0, 1]]).answer)


def test_late_weights_need_both_sensors():
    """Of two sensors that see one cause with independent errors the best late combination beats both."""
    material = made(2)
    alone = probe(material, [[one] for one in range(5)])
    late = best_late(material, alone, [(0, 3)])[:, 0]
    assert (late < mean_loss(material, alone.answer, alone.counted)[:, [0, 3]].amin(1)).float().mean() > 0.5


def test_values_are_compared_too():
    material = made(3)
    target = material.values[0, :, :2].sum(1)
    found = measure(
        Material(material.values[:3], material.here[:3], target / target.std(), 0, material.parts), NAMES[:3]
    )
    assert found.idle == [1, 2]
    assert propose(found) == {}


def known(alone, alike=(), synergy=()):
    """Findings without doubt."""
    count = len(alone)
    matrices = [torch.zeros(count, count), torch.zeros(count, count)]
    for matrix, pairs in zip(matrices, (alike, synergy), strict=True):
        for i, j in pairs:
            matrix[i, j] = matrix[j, i] = 0.5

    def sure(mean):
        return Estimate(mean, torch.full_like(mean, 1e-3), 5)

    zero = torch.zeros(count)
    gains = torch.tensor(alone)
    return Findings(tuple("abcdef"[:count]), 0.7, sure(gains), sure(zero), sure(matrices[1]), sure(matrices[0]),
                    sure(torch.zeros(count, count)))  # fmt: skip


def test_graphs_that_follow():
    assert propose(known([0.3, 0.3])) == {"merged": {"kind": "vote", "inputs": ["a", "b"]}}
    assert propose(known([0.3, 0.0])) == {}
    assert propose(known([0.0, 0.0]))["merged"]["inputs"] == ["a", "b"]  # nothing is known: all
    chain = propose(known([0.0, 0.0, 0.0, 0.3], synergy=[(0, 1), (1, 2)]))
    assert chain["joint_a_b_c"] == {"kind": "low_rank", "inputs": ["a", "b", "c"]}
    assert chain["merged"]["inputs"] == ["joint_a_b_c", "d"]
    both = propose(known([0.3, 0.3, 0.3], alike=[(0, 1), (1, 2), (0, 2)], synergy=[(0, 1)]))
    assert both["joint_a_b"]["kind"] == "tensor"
    assert both["merged"]["inputs"] == ["joint_a_b", "c"]


def test_the_command_writes_a_recipe_that_loads_and_a_page(tmp_path, capsys):
    recipe, small = tmp_path / "mine.yaml", ["data.subjects=8", "data.records=12", f"data.cache={tmp_path}"]
    assert main(["suggest", "quickstart", *small, "--seeds", "3", "-o", str(recipe)]) == 0
    read = load_recipe(str(recipe))
    assert read.name == "quickstart_suggested"
    assert set(read.graph.modalities) == set(read.modalities)
    page = (tmp_path / "mine.html").read_text()
    assert "Dendrograms" in page
    assert not any(mark in page for mark in ("src=", 'href="http', "@import"))
    assert str(recipe) in capsys.readouterr().out


def test_one_sensor_has_no_graph_to_choose(tmp_path, capsys):
    arguments = [
        "suggest",
        "quickstart",
        "modalities=image",
        f"data.cache={tmp_path}",
        "data.subjects=6",
        "data.records=4",
    ]
    assert main([*arguments, "-o", str(tmp_path / "x.yaml")]) == 2
    assert "two sensors or more" in capsys.readouterr().err
