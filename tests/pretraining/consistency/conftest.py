"""A model of three made sensors, one late and one direct task of classes, and batches of it with few labels."""

import pytest
import torch
from torch import nn

from fusionkit.augment.augmentation import WindowAugmentation, normal
from fusionkit.core.levels import Batch, FeatureShape, Window, WindowShape
from fusionkit.core.modality import FrontEnd
from fusionkit.core.registry import consistency, encoders
from fusionkit.fusion.graph import parse_graph
from fusionkit.fusion.model import FusionModel
from fusionkit.fusion.vote import Vote
from fusionkit.heads.classification import Classification
from fusionkit.heads.multi_label import MultiLabel
from fusionkit.modalities.text import WordEmbedding
from fusionkit.training.objective import TaskObjective

SENSORS, DIM, WORDS = ("image", "eeg", "text"), 8, 20


class Samples(FrontEnd):
    """Every sample of a series as a step."""

    def __init__(self):
        super().__init__()
        self.shape = FeatureShape(4, 1)

    def forward(self, values, length):
        return values.transpose(1, 2)[..., None], torch.arange(values.shape[2]) < length[:, None]

    def times(self, steps):
        return torch.arange(steps, dtype=torch.float32)


class Noise(WindowAugmentation):
    def forward(self, stream, generator=None):
        spread = 0.1 * stream.values.abs().nanmean()
        values = stream.values + spread * normal(tuple(stream.values.shape), stream.values, generator)
        return stream._replace(values=values)


class Heads(nn.Module):
    def __init__(self, tasks):
        super().__init__()
        self.made = nn.ModuleList(task.head(DIM) for task in tasks.values())
        self.names = list(tasks)

    def forward(self, readout):
        return {name: head(readout) for name, head in zip(self.names, self.made, strict=True)}


def make_objective(kinds=(), *, dropout=0.1, modality_dropout=0.3, steps=10, eeg="mlp"):
    """An objective with some methods, as (kind, options); every call gives the same weights."""
    torch.manual_seed(0)
    tasks = {"state": Classification(classes=["a", "b", "c"]), "tags": MultiLabel(classes=["x", "y"])}
    batch = make_batch()
    for name, task in tasks.items():
        task.fit(torch.nan_to_num(batch.targets[name]).numpy(), name)
    front_ends = {"eeg": Samples(), "text": WordEmbedding(WORDS, 6)}
    takes = {"image": WindowShape((3, 12, 12)), **{name: part.shape for name, part in front_ends.items()}}
    made = {
        name: encoders.build({"image": "image_cnn", "eeg": eeg}.get(name, "mlp"), {"dropout": dropout}, shape, DIM)
        for name, shape in takes.items()
    }
    model = FusionModel(
        parse_graph({"kind": "vote", "dim": DIM}, list(SENSORS)),
        front_ends=front_ends,
        encoders=made,
        operations={},
        merges={name: Vote(SENSORS, rule="product") for name in tasks},
        branch_heads={name: Heads(tasks) for name in SENSORS},
        heads={},
        augmentations={name: [Noise()] for name in ("image", "eeg")},
        modality_dropout=modality_dropout,
        standardise=["eeg"],
    )
    methods = [consistency.build(kind, options, {"state": 1.0, "tags": 0.5}, steps) for kind, options in kinds]
    for method in methods:
        method.bind(model)
    objective = TaskObjective(model, tasks, {"state": 1.0, "tags": 0.5}, consistency=methods)
    return objective.train()


def make_batch(records=8, labelled=3, absent=(), seed=0):
    """Records of which the first have labels; eeg in microvolts, absent values NaN or nonsense."""
    generator = torch.Generator().manual_seed(seed)
    here = {name: torch.tensor([(name, row) not in absent for row in range(records)]) for name in SENSORS}
    image = torch.rand(records, 3, 12, 12, generator=generator)
    eeg = 1e-5 * torch.randn(records, 4, 10, generator=generator)
    eeg = torch.where(here["eeg"][:, None, None], eeg, torch.nan)
    words = torch.randint(2, WORDS, (records, 5), generator=generator)
    inputs = {
        "image": Window(image, torch.full((records,), 12), here["image"]),
        "eeg": Window(eeg, 10 - torch.arange(records) % 3, here["eeg"]),
        "text": Window(words, 5 - torch.arange(records) % 2, here["text"]),
    }
    state = (torch.arange(records) % 3).float()
    tags = (torch.arange(2 * records).reshape(records, 2) % 3 == 0).float()
    state[labelled:], tags[labelled:] = torch.nan, torch.nan
    return Batch(inputs, {"state": state, "tags": tags})


@pytest.fixture
def objective():
    return make_objective


@pytest.fixture
def batch():
    return make_batch


@pytest.fixture
def generator():
    return lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.fixture
def logs():
    """Log-probabilities of some shape, in double precision, that take gradients."""

    def draw(*shape, seed=0):
        made = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        return (2 * made).log_softmax(-1).requires_grad_()

    return draw
