"""A stage of made sensors: a model of real front ends and encoders, what an objective is built with, and batches."""

from dataclasses import dataclass

import pytest
import torch

from fusionkit.core.levels import Batch, FeatureShape, Window, WindowShape
from fusionkit.core.modality import FrontEnd
from fusionkit.core.registry import encoders
from fusionkit.fusion.graph import Graph, Node
from fusionkit.fusion.model import FusionModel
from fusionkit.modalities.image import Patches
from fusionkit.modalities.text import WordEmbedding
from fusionkit.pretraining.objective import Given, Looks

DIM, RECORDS, VOCABULARY = 16, 5, 30
SHAPES = {"image": (3, 12, 12), "photo": (3, 12, 12), "wide": (3, 8, 12), "eeg": (4, 40), "sound": (64,), "text": None}


class Bands(FrontEnd):
    """Every sample of a series as a step, its channels as they are: a spectrogram that needs no transform."""

    def __init__(self, channels):
        super().__init__()
        self.shape = FeatureShape(channels, 1)

    def forward(self, values, length):
        steps = torch.arange(values.shape[2], device=values.device)
        return values.transpose(1, 2)[..., None], steps < length[:, None]

    def times(self, steps):
        return torch.arange(steps, dtype=torch.float32)


@dataclass
class Stage:
    model: FusionModel
    given: Given

    def batch(self, seed=0, records=RECORDS, absent=()):
        """Records with every sensor but those (sensor, record) that are absent, whose values are NaN or nonsense."""
        generator = torch.Generator().manual_seed(seed)
        inputs = {}
        for name in self.given.sensors:
            here = torch.tensor([(name, record) not in absent for record in range(records)])
            if name == "text":
                values = torch.randint(2, VOCABULARY, (records, 9), generator=generator)
                length = 9 - torch.arange(records) % 3
            else:
                values = torch.rand(records, *SHAPES[name], generator=generator)
                values = torch.where(here.reshape(-1, *[1] * (values.ndim - 1)), values, torch.nan)
                length = torch.full((records,), values.shape[-1]) - torch.arange(records) % 3 * (values.ndim < 4)
            inputs[name] = Window(values, length, here)
        return Batch(inputs)

    def looks(self, batch=None, seed=0):
        return Looks(self.model, self.batch() if batch is None else batch, torch.Generator().manual_seed(seed))

    def loss(self, objective, batch=None, seed=0):
        """The loss of a batch; draws start from the seed."""
        return objective(self.looks(batch, seed), torch.Generator().manual_seed(seed))


@pytest.fixture
def stage():
    """Build a stage: each sensor with the kind of its encoder, and that one's options."""

    def build(**kinds):
        front_ends, made, levels, windows = {}, {}, {}, {}
        for name, choice in kinds.items():
            kind, options = (choice, {}) if isinstance(choice, str) else (choice[0], choice[1])
            shape = SHAPES[name]
            levels[name] = encoders.get(kind).level
            windows[name] = None if shape is None else WindowShape(shape)
            if name == "text":
                front_ends[name] = WordEmbedding(VOCABULARY, 8)
            elif len(shape) == 3:
                front_ends[name] = Patches(*shape[1:], patch=4)
            elif len(shape) == 2:
                front_ends[name] = Bands(shape[0])
            takes = windows[name] if levels[name] == "window" else front_ends[name].shape
            made[name] = encoders.build(kind, options, takes, DIM)
        graph = Graph((Node("joint", "concat", "intermediate", tuple(kinds)),), tuple(kinds), DIM)
        model = FusionModel(
            graph,
            front_ends=front_ends,
            encoders=made,
            operations={},
            merges={},
            branch_heads={},
            heads={},
            standardise=list(kinds),
        )
        given = Given(
            tuple(kinds),
            DIM,
            {name: front_end.shape for name, front_end in front_ends.items()},
            levels,
            windows,
            {"text": VOCABULARY} if "text" in kinds else {},
        )
        return Stage(model, given)

    return build
