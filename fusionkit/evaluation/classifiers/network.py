"""A small fully connected network with shortcut layers."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.evaluation.classifiers.examples import Examples, Probabilities

HIDDEN = 128
BLOCKS = 2
DROPOUT = 0.5
STEPS = 300
BATCH = 128
RATE = 1e-3
DECAY = 1e-2


class ShortcutNetwork(nn.Module):
    r"""Vectors to logits: :math:`h_0 = \mathrm{relu}(W x)`, then :math:`h_{i+1} = h_i + V_i\,\mathrm{relu}(U_i h_i)`.

    Luo et al. (J. Neural Eng. 17, 056021, 2020) judge generated EEG features by "deep neural networks with shortcut
    layers"; their sizes could not be read, so widths, dropout and the number of blocks are a reconstruction of ours.
    The head begins at zero: before training all classes are equally probable.

    Args:
        width: numbers of a record.
        classes: how many there are.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, HIDDEN)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, HIDDEN))
            for _ in range(BLOCKS)
        )
        self.head = nn.Linear(HIDDEN, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, values: Float[Tensor, "batch width"]) -> Float[Tensor, "batch class_"]:
        """Logits."""
        state = torch.relu(self.enter(values))
        for block in self.blocks:
            state = state + block(state)
        logits: Tensor = self.head(state)
        return logits


def fit_network(examples: Examples, seed: int) -> Probabilities:
    """Train for 300 steps of 128 records (AdamW), however many records there are: more data never means more training.

    Args:
        examples: real and generated, standardised as the real ones are.
        seed: of weights, dropout and the order of records; the caller's own random numbers go on as they were.
    """
    standardise = examples.standardiser()
    values, device = standardise(examples.values), examples.values.device
    label, share = examples.label.long(), examples.share
    seen = torch.zeros(examples.classes, dtype=torch.bool, device=device).index_fill(0, label, True)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = ShortcutNetwork(values.shape[1], examples.classes).to(device).train()
        optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY, fused=True)
        for rows in _batches(len(values), torch.Generator().manual_seed(seed)).to(device):
            logits = network(values[rows]).masked_fill(~seen, -torch.inf)
            each = nn.functional.cross_entropy(logits, label[rows], reduction="none")
            loss: Tensor = (each * share[rows]).sum() / share[rows].sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    network.eval()

    @torch.no_grad()
    def answer(values: Float[Tensor, "query width"]) -> Float[Tensor, "query class_"]:
        logits: Tensor = network(standardise(values)).masked_fill(~seen, -torch.inf)
        return logits.softmax(1)

    return answer


def _batches(records: int, generator: torch.Generator) -> Tensor:
    """Records of every step: one random order after another, so that all are seen equally often."""
    passes = -(-STEPS * BATCH // records)
    order = torch.cat([torch.randperm(records, generator=generator) for _ in range(passes)])
    return order[: STEPS * BATCH].view(STEPS, BATCH)
