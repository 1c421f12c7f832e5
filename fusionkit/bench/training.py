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
    """Microseconds of processor time a step (of the clock on a GPU), least of all rounds, and what the engine adds.

    Attributes:
        bare_us: a loop of plain torch that does the same arithmetic.
        engine_us: our engine.
        overhead: median over rounds of engine over bare, less 1; the two of a round follow each other at once.
    """

    bare_us: float
    engine_us: float
    overhead: float


class _Perceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return F.cross_entropy(self.layers(batch.targets["x"]), batch.targets["y"])


def bench_training(rounds: int = 30, epochs: int = 2, device: str = "cpu") -> TrainingBench:
    """Time both loops in turn, one thread, the same batches, optimiser (fused AdamW that spares vectors from decay), schedule
    and clipping (off) in each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times: dict[str, list[float]] = {"bare": [], "engine": []}
        where = torch.device(device)
        x, y = torch.randn(RECORDS, WIDTH, device=where), torch.randint(CLASSES, (RECORDS,), device=where)
        loops = {"bare": _bare, "engine": _engine}
        clock = time.process_time if where.type == "cpu" else time.perf_counter
        for number in range(rounds + 1):
            for name in sorted(loops, reverse=bool(number % 2)):
                torch.manual_seed(0)
                model = _Perceptron().to(where)
                began = clock()
                loops[name](model, x, y, epochs)
                if where.type == "cuda":
                    torch.cuda.synchronize()
                if number:  # the first round warms up
                    times[name].append((clock() - began) / (epochs * (RECORDS // BATCH)))
        bare, engine = (np.array(times[name]) for name in ("bare", "engine"))
        return TrainingBench(float(bare.min()) * 1e6, float(engine.min()) * 1e6, float(np.median(engine / bare)) - 1)
    finally:
        torch.set_num_threads(threads)


def _bare(model: _Perceptron, x: Tensor, y: Tensor, epochs: int) -> None:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, fused=True)
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
