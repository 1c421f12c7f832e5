"""Pretraining on a stream: every record comes once, in the order of the study, and steps draw from a replay buffer."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from fusionkit.core.levels import Batch
from fusionkit.fusion.model import FusionModel, Pass
from fusionkit.pretraining.replay.buffer import ReplayBuffer
from fusionkit.training.plan import Step

Load = Callable[[Int[Tensor, " batch"]], Batch]


class StreamPlan:
    """New records for the first of every ``updates`` steps, none for the others, which draw from the buffer alone.

    100 records in parts of about 25 with 4 updates are 16 steps.

    Args:
        rows: the training rows, in the order of the study.
        batch: records that come at a time.
        updates: steps for each of these parts.
    """

    def __init__(self, rows: Int[Tensor, " record"], batch: int, updates: int) -> None:
        self.parts = rows.sort().values.tensor_split(max(1, -(-len(rows) // batch)))
        self.updates = updates

    @property
    def steps(self) -> int:
        """How many steps the stream lasts."""
        return len(self.parts) * self.updates

    def __call__(self, epoch: int) -> list[Step]:
        """All steps, for there is one epoch."""
        del epoch
        return [Step(part if step == 0 else part[:0]) for part in self.parts for step in range(self.updates)]


class ReplayLoader:
    """What makes batches of a stage that learns from a stream: new records into the buffer, a batch out of it.

    Args:
        load: rows to a batch.
        buffer: keeps records.
        batch: records of a step.
        model: its encoders tell how alike records are; they are asked in evaluation mode.
        sensors: whose encoders.
    """

    def __init__(
        self, load: Load, buffer: ReplayBuffer, batch: int, model: FusionModel, sensors: Sequence[str]
    ) -> None:
        self.load, self.buffer, self.batch, self.model, self.sensors = load, buffer, batch, model, list(sensors)
        self._drawn: Int[Tensor, " batch"] | None = None

    def __call__(self, rows: Int[Tensor, " fresh"]) -> Batch:
        """Take in new records, if there are any, and draw."""
        if len(rows):
            embedding = None
            if self.buffer.compares:
                modes = {part: part.training for part in self.model.modules()}
                self.model.eval()
                with torch.no_grad():
                    embedding = self.embed(self.model.look(self.load(rows).inputs))
                for part, mode in modes.items():
                    part.training = mode
            self.buffer.insert(rows, embedding)
        self._drawn = self.buffer.sample(self.batch)
        return self.load(self.buffer.rows[self._drawn])

    def refresh(self, look: Callable[[], Pass]) -> None:
        """Tell the buffer what the drawn records look like now; ``look`` is asked where the buffer compares."""
        if self.buffer.compares and self._drawn is not None:
            with torch.no_grad():
                self.buffer.refresh(self._drawn, self.embed(look()))

    def embed(self, seen: Pass) -> Float[Tensor, "batch dim"]:
        """Embeddings of all sensors, each of unit length and zeros where it is absent, side by side."""
        parts = [F.normalize(seen.readout(name).detach().float(), dim=1) for name in self.sensors]
        here = [seen.stream(name).present[:, None] for name in self.sensors]
        return torch.cat([torch.where(is_here, part, 0.0) for part, is_here in zip(parts, here, strict=True)], 1)
