"""What is drawn of generated records: maps, distances, a sensor's own figures, and curves."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from fusionkit.core import registry
from fusionkit.core.recording import Array, Stored
from fusionkit.evaluation import plots
from fusionkit.evaluation.generation.drawings import draw_learning
from fusionkit.evaluation.generation.maps import neighbour_map, principal_map
from fusionkit.evaluation.generation.pictures import draw_by_class, draw_samples
from fusionkit.evaluation.generation.samples import Samples
from fusionkit.recipe.catalogue import load_sensors

NAMES = ["calm", "glad"]


def samples(training: int = 60, held_out: int = 30, made: int = 60, item: tuple[int, ...] = (1, 4, 5)) -> Samples:
    generator = np.random.default_rng(0)
    counts = (training, held_out, made)
    parts = [(generator.normal(size=(count, *item)).astype(np.float32), np.arange(count) % 2) for count in counts]
    return Samples(*parts[0], *parts[1], *parts[2])


def test_the_first_map_is_that_of_training_records_alone() -> None:
    training, shown = np.random.default_rng(0).normal(size=(2, 30, 6)) * [5, 3, 1, 1, 1, 1]
    np.testing.assert_allclose(principal_map(training, shown), PCA(2).fit(training).transform(shown), atol=1e-9)
    assert not principal_map(training[:, :1], shown[:, :1])[:, 1].any()


def test_the_second_map_keeps_groups_apart_and_is_the_same_for_a_seed() -> None:
    generator = np.random.default_rng(0)
    shown = np.concatenate([generator.normal(size=(30, 8)), generator.normal(size=(30, 8)) + 20])
    placed = neighbour_map(shown, 2**62)
    near = np.linalg.norm(placed[:, None] - placed, axis=2) + 1e9 * np.eye(60)
    assert np.array_equal(near.argmin(1) < 30, np.arange(60) < 30)
    assert np.array_equal(placed, neighbour_map(shown, 2**62))
    assert neighbour_map(shown[:4, :1], 0).shape == (4, 2)


def test_maps_and_distances_are_drawn_of_what_there_is() -> None:
    both = draw_samples(samples(), NAMES, 0)
    assert list(both) == ["maps of the records", "how far each number is moved"]
    text = plots.svg_text(both["maps of the records"])
    assert all(word in text for word in ("training", "held-out", "generated", "calm", "glad", "t-SNE, by class"))
    assert len(both["how far each number is moved"].axes[0].lines) == 4
    without = draw_samples(samples(held_out=0), NAMES, 0)
    assert "held-out" not in plots.svg_text(without["maps of the records"])
    assert len(without["how far each number is moved"].axes[0].lines) == 2
    assert draw_samples(samples(made=3), NAMES, 0) == {}


@pytest.mark.parametrize("constant", ["training", "made", "all"])
def test_records_that_are_all_alike_are_drawn(constant: str) -> None:
    given = samples()
    for name, values in given.values.items():
        if constant in (name, "all"):
            values[:] = 3
    figures = draw_samples(given, NAMES, 0)
    assert len(figures) == 2
    assert all(plots.svg_text(figure) for figure in figures.values())


class Spy:
    """A sensor that keeps what it is asked to draw."""

    def figures(self, features: Array, labels: Array, classes: Sequence[str], stored: Stored) -> Mapping[str, Figure]:
        self.features, self.labels, self.classes = features, labels, list(classes)
        return {}


class Double(torch.nn.Module):
    def forward(self, values: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert (length == values.shape[-1]).all()
        return 2 * values.mean(-1)[:, None, :, None], torch.ones(len(values), 1, dtype=torch.bool)


def test_a_sensor_sees_real_and_generated_records_as_classes_of_their_own() -> None:
    given, spy = samples(), Spy()
    draw_by_class(spy, None, given, NAMES)  # type: ignore[arg-type]
    assert spy.classes == ["calm\nreal", "calm\ngenerated", "glad\nreal", "glad\ngenerated"]
    for number, (values, label, class_) in enumerate(
        [(values, label, class_) for class_ in (0, 1) for values, label in (given[:2], given[4:])]
    ):
        shown = spy.features[spy.labels == number]
        np.testing.assert_allclose(shown.mean(0), values[label == class_].mean(0), atol=1e-5)
        assert len(shown) == 30


def test_windows_are_shown_by_their_features() -> None:
    given, spy = samples(item=(3, 20)), Spy()
    draw_by_class(spy, None, given, NAMES, Double())  # type: ignore[arg-type]
    assert spy.features.shape == (120, 1, 3, 1)
    shown = spy.features[spy.labels == 1].mean(0)[0, :, 0]
    np.testing.assert_allclose(shown, 2 * given.made[given.made_label == 0].mean((0, 2)), atol=1e-5)


def test_an_eeg_draws_topographies() -> None:
    load_sensors()
    names = ("Fp1", "Fp2", "O1", "O2")
    stored = Stored(128.0, names, "V", (4,), "float32", 128)
    found = draw_by_class(registry.modalities.build("eeg"), stored, samples(), NAMES)
    assert [axes.get_ylabel() for axes in found["band topographies"].axes if "glad\ngenerated" in axes.get_ylabel()]


def test_every_logged_number_has_a_panel_with_a_line_for_each_fold() -> None:
    history = [
        {"epoch": float(epoch), "loss_critic": 0.5, "critic_wasserstein": 0.1, "spread": 1.0} for epoch in range(4)
    ]
    figure = draw_learning({"fold 0": history, "fold 1": history[:1]})
    assert figure is not None
    titled = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(titled) == ["loss critic", "critic wasserstein", "spread"]
    assert [line.get_xdata().tolist() for line in titled["spread"].lines] == [[1, 2, 3, 4], [1]]  # type: ignore[union-attr]
    assert draw_learning({}) is None
    assert draw_learning({"fold 0": []}) is None


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_any_number_of_panels_is_drawn(count: int) -> None:
    figure = draw_learning({"fold 0": [{"epoch": 0.0, **{f"n{number}": 1.0 for number in range(count)}}]})
    assert figure is not None
    assert plots.svg_text(figure).count("epoch") >= 1
