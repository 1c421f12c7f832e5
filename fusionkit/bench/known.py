"""Do fusions find what they must, and only they? Studies with a known answer, and each fusion's accuracy on them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusionkit.core.levels import Batch, Features, Window
from fusionkit.core.recording import Stored
from fusionkit.data.synthetic.law import SENSORS, Law
from fusionkit.recipe.build import build_modalities, build_model, build_tasks
from fusionkit.recipe.load import parse_recipe
from fusionkit.training.engine import Engine, Settings
from fusionkit.training.objective import TaskObjective
from fusionkit.training.order import derive_seed

NAMES = SENSORS[:3]  # two that share a secret, and one that does not know it
TRAIN, TEST = 2048, 1000
EPOCHS, BATCH, RATE = 20, 64, 5e-3
DROPOUT, CORRUPTION = 0.2, 0.7
WIDTH = 12  # numbers that each sensor mixes its three cues into
SPOILT = 3.0  # deviation of the noise that takes a sensor's place at test; signals have about 1
STRONGEST = 5.0  # of the noise that covers sensors in training, in deviations of the sensor
NEAR_CHANCE, SOLVED, LOST = 0.6, 0.95, 0.03
STUDIES = {
    "redundant": Law(2, redundant=1.0, unique=0.0, synergy=0.0, noise=0.5),
    "unique": Law(2, redundant=0.0, unique=1.0, synergy=0.0, noise=0.3),
    "xor": Law(2, redundant=0.0, unique=0.0, synergy=1.0, noise=0.3),
}
FUSIONS: dict[str, dict[str, Any]] = {
    "vote mean": {"kind": "vote", "rule": "mean"},
    "vote product": {"kind": "vote", "rule": "product"},
    "vote learned": {"kind": "vote", "rule": "learned"},
    "concat": {"kind": "concat", "encoder": {"kind": "transformer"}},  # one hidden layer cannot tell noise: 0.78
    "tensor": {"kind": "tensor", "width": 8},
    "low_rank": {"kind": "low_rank"},
    "multiplicative": {"kind": "multiplicative"},
    "gated": {"kind": "gated"},
    "mult": {"kind": "mult", "layers": 1},
    "bottleneck": {"kind": "bottleneck", "layers": 2, "fusion_layer": 0},
    "perceiver": {"kind": "perceiver", "latents": 4},
    "self_attention": {"kind": "self_attention"},
    "rcft": {"kind": "rcft", "layers": 2},
}
ADDING = ("vote mean", "vote product", "vote learned")
JOINING = ("concat", "tensor", "multiplicative", "mult", "bottleneck", "perceiver", "self_attention", "rcft")


@dataclass(frozen=True)
class KnownAnswers:
    """Accuracies of one fusion on records that never trained.

    Attributes:
        fusion: its name in the table.
        redundant: every sensor knows the answer, with errors of its own.
        unique: each sensor knows a part of a sum.
        xor: two sensors hold a bit each, and the answer is whether they differ.
        noise: as redundant, but one sensor gives noise at test.
        guarded: likewise, after training with modality dropout and sensor corruption.
    """

    fusion: str
    redundant: float
    unique: float
    xor: float
    noise: float
    guarded: float

    def faults(self, remaining: float) -> list[str]:
        """What is not as it must be, where one sensor alone that gives no noise has ``remaining``."""
        found = []
        if self.fusion in ADDING and self.xor > NEAR_CHANCE:
            found.append(f"xor must stay near chance ({NEAR_CHANCE:g}), but is {self.xor:.3f}")
        if self.fusion in JOINING and self.xor < SOLVED:
            found.append(f"xor must be solved ({SOLVED:g}), but is {self.xor:.3f}")
        if self.guarded < remaining - LOST:
            found.append(f"with noise it must keep {remaining - LOST:.3f}, but has {self.guarded:.3f}")
        return found


def best_possible() -> KnownAnswers:
    """What no classifier can exceed; with noise, what the remaining sensors allow."""
    best = {name: law.best_accuracy(NAMES) for name, law in STUDIES.items()}
    rest = STUDIES["redundant"].best_accuracy(NAMES[1:])
    return KnownAnswers("best possible", best["redundant"], best["unique"], best["xor"], rest, rest)


def sensor_alone(seed: int = 0) -> float:
    """Accuracy of a sensor alone on the redundant study: of the best one that gives no noise at test."""
    study = Drawn("redundant", seed)
    return max(study.accuracy({"kind": "vote"}, [name]) for name in NAMES[1:])


def bench_known(fusions: Sequence[str] | None = None, seed: int = 0) -> Iterator[KnownAnswers]:
    """Train every fusion on every study, on vectors of 12 numbers a sensor (seconds each).

    Args:
        fusions: which of `FUSIONS`; None takes all.
        seed: of studies and weights.

    Yields:
        A row a fusion.
    """
    studies = {name: Drawn(name, seed) for name in STUDIES}
    for name in FUSIONS if fusions is None else fusions:
        found = {study: drawn.accuracy(FUSIONS[name]) for study, drawn in studies.items() if study != "redundant"}
        plain, noise = studies["redundant"].accuracies(FUSIONS[name])
        _, guarded = studies["redundant"].accuracies(FUSIONS[name], guard=True)
        yield KnownAnswers(name, plain, found["unique"], found["xor"], noise, guarded)


class Drawn:
    """Records of one study, in memory.

    Args:
        name: of `STUDIES`.
        seed: of the records.
    """

    def __init__(self, name: str, seed: int) -> None:
        generator = np.random.default_rng([seed, list(STUDIES).index(name)])
        truths = [STUDIES[name].draw(generator) for _ in range(TRAIN + TEST)]
        self.seed = seed
        self.target = torch.tensor([truth.target for truth in truths]).float()
        self.vectors = {}
        for sensor in NAMES:
            cues = np.array([[t.cues[sensor].shared, t.cues[sensor].own, t.cues[sensor].symbol] for t in truths])
            mixing = generator.standard_normal((3, WIDTH)) / np.sqrt(3)
            self.vectors[sensor] = torch.from_numpy(cues @ mixing).float()

    def accuracy(self, fusion: Mapping[str, Any], sensors: Sequence[str] = NAMES) -> float:
        """Accuracy of one fusion on the test records."""
        return self.accuracies(fusion, sensors)[0]

    def accuracies(
        self, fusion: Mapping[str, Any], sensors: Sequence[str] = NAMES, *, guard: bool = False
    ) -> tuple[float, float]:
        """Accuracies as the records are, and with noise in place of the first sensor.

        Args:
            fusion: the recipe's section.
            sensors: that are used.
            guard: train with modality dropout and sensor corruption.
        """
        entry = {"kind": "signal", "normalise": {"kind": "none"}, "encoder": {"kind": "mlp", "hidden": 64}}
        said = {
            "name": "known",
            "data": {"kind": "npz", "path": "known.npz"},
            "modalities": dict.fromkeys(sensors, entry),
            "fusion": {**fusion, "dim": 16},
            "tasks": {"target": {"kind": "classification", "classes": ["0", "1"]}},
            "train": {
                "modality_dropout": DROPOUT if guard else 0.0,
                "sensor_corruption": CORRUPTION if guard else 0.0,
                "corruption_strength": STRONGEST,
            },
        }
        recipe = parse_recipe(json.dumps(said), "known")
        tasks = build_tasks(recipe)
        tasks["target"].fit(self.target[:TRAIN].double().numpy(), "target")
        stored = dict.fromkeys(sensors, Stored(None, tuple(map(str, range(WIDTH))), "", (WIDTH,), "float32", 1))
        torch.manual_seed(derive_seed("known", self.seed))
        model = build_model(recipe, build_modalities(recipe), stored, tasks)

        def load(rows: Tensor) -> Batch:
            return self.batch(rows, sensors)

        rows = torch.arange(TRAIN)
        fitting = torch.Generator().manual_seed(derive_seed("fit", self.seed))
        model.fit(lambda: (load(chunk) for chunk in torch.split(rows, BATCH)), fitting)
        objective = TaskObjective(model, tasks, {"target": 1.0})
        settings = Settings(epochs=EPOCHS, batch=BATCH, lr=RATE)
        Engine(objective, load, rows, settings, seed=self.seed, device=torch.device("cpu")).run()
        model.eval()
        clean = self.batch(torch.arange(TRAIN, TRAIN + TEST), sensors)
        spoilt = dict(clean.inputs)
        values = spoilt[sensors[0]].values
        spoilt[sensors[0]] = spoilt[sensors[0]]._replace(
            values=SPOILT * torch.randn(values.shape, generator=torch.Generator().manual_seed(self.seed))
        )
        with torch.no_grad():
            answers = [model(inputs).decisions["target"].argmax(-1) for inputs in (clean.inputs, spoilt)]
        right = [float((answer == clean.targets["target"]).float().mean()) for answer in answers]
        return right[0], right[1]

    def batch(self, rows: Tensor, sensors: Sequence[str]) -> Batch:
        """Some records as they are."""
        length, present = torch.ones(len(rows), dtype=torch.long), torch.ones(len(rows), dtype=torch.bool)
        inputs: dict[str, Window | Features] = {
            name: Window(self.vectors[name][rows][..., None], length, present) for name in sensors
        }
        return Batch(inputs, {"target": self.target[rows]})
