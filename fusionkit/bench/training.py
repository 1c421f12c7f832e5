"""What the engine costs over a bare loop: 64 x 310 batches through a two-layer perceptron."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.levels import Batch
from fusionkit.training.engine import Engine, Settings
from fusionkit.training.schedule import learning_rate_factor

RECORDS, WIDTH, HIDDEN, CLASSES, BATCH = 6400, 310, 128, 4, 64


@dataclass(frozen=True)
class TrainingBench:
    """Microseconds a step, least of all rounds, and their ratio.

    Attributes:
        bare_us: a loop of plain torch that does the same arithmetic.
        engine_us: our engine.
    """

    bare_us: float
    engine_us: float

    @property
    def overhead(self) -> float:
        """What the engine adds, as a share of the bare loop."""
        return self.engine_us / self.bare_us - 1


class _Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return F.cross_entropy(self.layers(batch.targets["x"]), batch.targets["y"])


def bench_training(rounds: int = 40, epochs: int = 1, device: str = "cpu") -> TrainingBench:
    """Time both loops in turn, one thread, the same batches, optimiser, schedule and clipping (off) in each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times: dict[str, list[float]] = {"bare": [], "engine": []}
        where = torch.device(device)
        x, y = torch.randn(RECORDS, WIDTH, device=where), torch.randint(CLASSES, (RECORDS,), device=where)
        for number in range(rounds + 1):
            for name, loop in (("bare", _bare), ("engine", _engine)):
                torch.manual_seed(0)
                model = _Perceptron().to(where)
                began = time.perf_counter()
                loop(model, x, y, epochs)
                if where.type == "cuda":
                    torch.cuda.synchronize()
                if number:  # the first round warms up
                    times[name].append((time.perf_counter() - began) / (epochs * (RECORDS // BATCH)))
        return TrainingBench(*(float(np.min(times[name])) * 1e6 for name in ("bare", "engine")))
    finally:
        torch.set_num_threads(threads)


def _bare(model: _Perceptron, x: Tensor, y: Tensor, epochs: int) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    steps = RECORDS // BATCH
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(RECORDS).to(x.device)
        for step, rows in enumerate(torch.split(order, BATCH)):
            loss = F.cross_entropy(model.layers(x[rows]), y[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            for group in optimiser.param_groups:
                group["lr"] = 1e-3 * learning_rate_factor(epoch * steps + step, epochs * steps, 0.1)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)


def _engine(model: _Perceptron, x: Tensor, y: Tensor, epochs: int) -> None:
    Engine(
        model,
        lambda rows: Batch({}, {"x": x[rows], "y": y[rows]}),
        torch.arange(RECORDS),
        Settings(epochs=epochs, batch=BATCH, clip=None),
        seed=0,
        device=x.device,
    ).run()
