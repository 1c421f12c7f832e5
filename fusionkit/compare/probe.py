"""Many small networks of one shape, trained side by side: one for each choice of sensors and each way to cut records."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

WIDTH = 64
STEPS = 100
RATE = 1e-2
DECAY = 10.0


@dataclass(frozen=True)
class Material:
    """What is compared on: sensors as vectors of one width, and one task.

    Attributes:
        values: zero where a sensor is absent.
        here: which records have which sensors.
        target: class index, or a standardised value.
        classes: how many there are; 0 for a value.
        parts: by seed, what each record is for: 0 trains, 1 chooses the step, 2 scores; whole groups.
    """

    values: Float[Tensor, "sensor record width"]
    here: Bool[Tensor, "sensor record"]
    target: Float[Tensor, " record"]
    classes: int
    parts: Int[Tensor, "seed record"]

    @property
    def outcomes(self) -> int:
        """Numbers that a network answers with."""
        return max(self.classes, 1)

    def prior(self) -> Float[Tensor, "seed outcome"]:
        """What records that train say without any sensor: logarithms of the classes' shares, or the mean."""
        trains = self.parts == 0
        if not self.classes:
            return ((self.target * trains).sum(1) / trains.sum(1))[:, None]
        one_hot = torch.nn.functional.one_hot(self.target.long(), self.classes).float()
        count = trains.float() @ one_hot + 0.5
        return (count / count.sum(1, keepdim=True)).log()

    def loss(self, answer: Float[Tensor, "*some record outcome"]) -> Float[Tensor, "*some record"]:
        """Cross-entropy of every record in nats, or the squared error; answers of classes are logits."""
        if not self.classes:
            return (answer[..., 0] - self.target).square()
        index = self.target.long()[:, None].expand(*answer.shape[:-1], 1)
        return -answer.log_softmax(-1).gather(-1, index)[..., 0]


@dataclass(frozen=True)
class Body:
    """Layers behind a sensor's own first one: all that moves from one sensor to another."""

    layer: Float[Tensor, "seed choice width width"]
    shift: Float[Tensor, "seed choice 1 width"]
    head: Float[Tensor, "seed choice width outcome"]
    bias: Float[Tensor, "seed choice 1 outcome"]


@dataclass(frozen=True)
class Probed:
    """What networks answer, each at the step that does best on records which choose.

    Attributes:
        answer: logarithms of probabilities, or values.
        state: what the head reads.
        body: the layers that move.
        counted: records that have all of a choice's sensors.
    """

    answer: Float[Tensor, "seed choice record outcome"]
    state: Float[Tensor, "seed choice record width"]
    body: Body
    counted: Bool[Tensor, "choice record"]


def probe(
    material: Material, choices: Sequence[Sequence[int]], *, body: Body | None = None, partial: bool = False
) -> Probed:
    r"""Train one network for every choice of sensors and every seed.

    :math:`\mathrm{head}(\mathrm{relu}(W\, \mathrm{relu}(\sum_m E_m x_m + c) + b))`, all records in a step, AdamW. The
    head begins as the prior, and step 0 counts: of noise a network learns to say the prior. The first layers of a seed
    begin alike whatever the body, so that a difference of losses is the body's.

    Args:
        material: sensors and task.
        choices: sensors by number, all choices of one length.
        body: where to begin instead of from scratch.
        partial: take records that lack some of the sensors, too.
    """
    seeds, width = len(material.parts), material.values.shape[-1]
    length = len(choices[0])
    index = torch.tensor([list(choice) for choice in choices])
    entering = material.values[index].permute(0, 2, 1, 3).flatten(2)  # choice, record, sensors' numbers
    counted = material.here[index].any(1) if partial else material.here[index].all(1)
    prior = material.prior()[:, None, None]
    made: dict[str, list[Tensor]] = {"enter": [], "layer": []}
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        first = torch.randn(length * width, WIDTH, generator=generator) * (length * width) ** -0.5
        made["enter"].append(first.expand(len(choices), -1, -1))
        made["layer"].append(
            (torch.randn(WIDTH, WIDTH, generator=generator) * (2 / WIDTH) ** 0.5).expand(len(choices), -1, -1)
        )
    shape = (seeds, len(choices), 1)
    weights = [
        torch.stack(made["enter"]),
        torch.zeros(*shape, WIDTH),
        torch.stack(made["layer"]) if body is None else body.layer,
        torch.zeros(*shape, WIDTH) if body is None else body.shift,
        torch.zeros(seeds, len(choices), WIDTH, material.outcomes) if body is None else body.head,
        prior.expand(*shape, -1) if body is None else body.bias,
    ]
    weights = [weight.clone().contiguous().requires_grad_() for weight in weights]

    def run() -> tuple[Tensor, Tensor]:
        enter, start, layer, shift, head, bias = weights
        state = torch.relu(torch.relu(entering @ enter + start) @ layer + shift)
        return state, state @ head + bias

    trains, chooses = (_shares((material.parts == part)[:, None] & counted) for part in (0, 1))
    groups = [{"params": weights[:5], "weight_decay": DECAY}, {"params": weights[5:], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE)  # the prior does not decay
    best = torch.full((seeds, len(choices)), torch.inf)
    kept = [weight.detach().clone() for weight in weights]
    for step in range(STEPS + 1):
        _, answer = run()
        loss = material.loss(answer)
        if step % 5 == 0:
            now = (loss.detach() * chooses).sum(-1)
            better = now < best
            best = torch.where(better, now, best)
            for old, new in zip(kept, weights, strict=True):
                old.copy_(torch.where(better[..., None, None], new.detach(), old))
        optimiser.zero_grad()
        (loss * trains).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        for weight, old in zip(weights, kept, strict=True):
            weight.copy_(old)
        state, answer = run()
    if material.classes:
        answer = answer.log_softmax(-1)
    return Probed(answer, state, Body(*kept[2:]), counted)


def mean_loss(
    material: Material, answer: Float[Tensor, "seed choice record outcome"], counted: Bool[Tensor, "choice record"]
) -> Float[Tensor, "seed choice"]:
    """Loss on records that score."""
    shares = _shares((material.parts == 2)[:, None] & counted)
    return (material.loss(answer) * shares).sum(-1)


def _shares(counted: Bool[Tensor, "*some record"]) -> Float[Tensor, "*some record"]:
    return counted / counted.sum(-1, keepdim=True).clamp_min(1)
