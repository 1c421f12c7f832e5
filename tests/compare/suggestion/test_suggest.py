"""Suggesting a graph: on studies whose structure is known it is found."""

import numpy as np
import pytest
import torch

from fusionkit.cli import main
from fusionkit.compare.suggestion.probe import Material, mean_loss, probe
from fusionkit.compare.suggestion.proposal import propose
from fusionkit.compare.suggestion.suggest import best_late, measure
from fusionkit.compare.suggestion.vectors import clock, cut
from fusionkit.core.levels import Features
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


def test_known_structure_is_found(monkeypatch):
    monkeypatch.setattr("fusionkit.compare.suggestion.suggest.PAIRS", 2)
    heard = []
    found = measure(made(0), NAMES, report=lambda *count: heard.append(count))
    graph = propose(found)
    assert right(graph), graph
    assert graph["merged"]["kind"] == "vote"
    assert heard[-1] == (50, 50) and heard == sorted(heard)
    assert found.pairs[0] == (1, 4) and found.crossing_excess[0, 1] > 1  # what adds is no crossing for XOR


@pytest.mark.study
def test_known_structure_is_found_in_nine_of_ten_seeds():
    found = [propose(measure(made(seed, seeds=5), NAMES)) for seed in range(10)]
    assert sum(map(right, found)) >= 9, found


def test_groups_stay_whole_and_every_seed_has_all_parts():
    group = np.repeat(np.arange(7), [3, 1, 4, 1, 5, 9, 2])
    parts = cut(group, 4, np.random.default_rng(0))
    for row in parts.numpy():
        assert set(row) == {0, 1, 2}
        assert all(len(set(row[group == one])) == 1 for one in range(7))


def test_the_clock_of_a_sensor():
    def features(steps, timed=True):
        real = torch.arange(20) < torch.tensor([[steps]])
        time = torch.arange(20.0)[None] if timed else None
        return Features(torch.zeros(1, 20, 1, 1), real, torch.tensor([True]), time)

    assert [clock(features(steps)) for steps in (20, 16, 10, 4, 3, 1)] == [16, 16, 8, 4, None, None]
    assert clock(features(20, timed=False)) is None


def test_rows_of_a_part_are_filled_up():
    material = made(0, records=60, groups=7)
    rows, real = material.rows(2)
    for seed in range(3):
        assert set(rows[seed][real[seed]].tolist()) == set(torch.nonzero(material.parts[seed] == 2)[:, 0].tolist())
        assert not (material.parts[seed][rows[seed][~real[seed]]] == 2).any()


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
