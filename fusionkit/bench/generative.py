"""What training a generator costs over a bare loop: an epoch of cwgan_gp on 310 features, with all that it logs and measures."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.augment.generative.cwgan_gp import CWGANGP
from fusionkit.augment.generative.generator import Item
from fusionkit.core.levels import WindowShape
from fusionkit.training.generator import GeneratorTraining

RECORDS, CHANNELS, BANDS, CLASSES, BATCH = 1280, 62, 5, 3, 128
TARGET = 1.15
"""Most that the trainer may take, as a multiple of the bare loop."""
WIDTH, LATENT, HIDDEN, CRITIC_STEPS = CHANNELS * BANDS, 128, 512, 5


@dataclass(frozen=True)
class GenerativeBench:
    """Milliseconds of processor time an epoch (of the clock on a GPU), medians of all rounds.

    Attributes:
        bare_ms: a loop of plain torch that does the same arithmetic.
        training_ms: our trainer.
        ratio: median over rounds of trainer over bare; the two of a round follow each other at once.
    """

    bare_ms: float
    training_ms: float
    ratio: float


def bench_generative(rounds: int = 7, epochs: int = 2, device: str = "cpu", records: int = RECORDS) -> GenerativeBench:
    """Time both loops in turn, one thread: the published sizes (three layers of 512, five critic updates, batches of 128,
    Adam, double backward for the penalty)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        where = torch.device(device)
        values = torch.randn(records, 1, CHANNELS, BANDS, device=where)
        label = torch.arange(records, device=where) % CLASSES
        loops = {"bare": _bare, "training": _training}
        times: dict[str, list[float]] = {name: [] for name in loops}
        clock = time.process_time if where.type == "cpu" else time.perf_counter
        for number in range(rounds + 1):
            for name in sorted(loops, reverse=bool(number % 2)):
                torch.manual_seed(0)
                run = loops[name](values, label, epochs)
                if where.type == "cuda":
                    torch.cuda.synchronize()
                began = clock()
                run()
                if where.type == "cuda":
                    torch.cuda.synchronize()
                if number:  # the first round warms up
                    times[name].append((clock() - began) / epochs)
        bare, training = (np.array(times[name]) for name in ("bare", "training"))
        return GenerativeBench(
            1e3 * float(np.median(bare)), 1e3 * float(np.median(training)), float(np.median(training / bare))
        )
    finally:
        torch.set_num_threads(threads)


def _training(values: Tensor, label: Tensor, epochs: int) -> Callable[[], None]:
    item = Item("features", WindowShape(values.shape[1:]), CLASSES)
    generator = CWGANGP(item, latent=LATENT, hidden=HIDDEN, layers=3, critic_steps=CRITIC_STEPS).to(values.device)
    generator.prepare(values, label)
    return GeneratorTraining(generator, values, label, epochs=epochs, batch=BATCH, seed=0).run  # type: ignore[return-value]


def _bare(values: Tensor, label: Tensor, epochs: int) -> Callable[[], None]:
    device, real = values.device, (values - values.mean(0)) / values.std(0, correction=0)
    maker = _layers(LATENT + CLASSES, WIDTH, nn.ReLU()).to(device)
    critic = _layers(WIDTH + CLASSES, 1, nn.LeakyReLU(0.2)).to(device)
    adam_of_maker, adam_of_critic = (
        torch.optim.Adam(net.parameters(), 1e-4, betas=(0.0, 0.9)) for net in (maker, critic)
    )
    flat, steps = real.flatten(1), -(-len(real) // BATCH)

    def run() -> None:
        for _ in range(epochs):
            for _ in range(steps):
                for _ in range(CRITIC_STEPS):
                    rows = torch.randint(len(flat), (BATCH,), device=device)
                    x, y = flat[rows], F.one_hot(label[rows], CLASSES).float()
                    with torch.no_grad():
                        made = maker(torch.cat([torch.randn(BATCH, LATENT, device=device), y], 1))
                    between = torch.lerp(made, x, torch.rand(BATCH, 1, device=device)).requires_grad_()
                    scored = critic(torch.cat([between, y], 1)).sum()
                    (slope,) = torch.autograd.grad(scored, between, create_graph=True)
                    penalty = (slope.norm(dim=1) - 1).square().mean()
                    apart = critic(torch.cat([made, y], 1)).mean() - critic(torch.cat([x, y], 1)).mean()
                    adam_of_critic.zero_grad()
                    (apart + 10 * penalty).backward()
                    adam_of_critic.step()
                y = F.one_hot(label[torch.randint(len(flat), (BATCH,), device=device)], CLASSES).float()
                critic.requires_grad_(False)
                made = maker(torch.cat([torch.randn(BATCH, LATENT, device=device), y], 1))
                adam_of_maker.zero_grad()
                (-critic(torch.cat([made, y], 1)).mean()).backward()
                adam_of_maker.step()
                critic.requires_grad_(True)

    return run


def _layers(inputs: int, outputs: int, activation: nn.Module) -> nn.Sequential:
    hidden: list[nn.Module] = [nn.Linear(inputs, HIDDEN), activation]
    for _ in range(2):
        hidden += [nn.Linear(HIDDEN, HIDDEN), activation]
    return nn.Sequential(*hidden, nn.Linear(HIDDEN, outputs))
