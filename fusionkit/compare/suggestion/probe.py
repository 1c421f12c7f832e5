"""Many small networks of one shape, trained side by side: one for each choice of sensors and each way to cut records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

WIDTH = 64
STEPS = 100
RATE = 1e-2
DECAY = 10.0
BESIDE = 4
"""Networks of a seed in memory at a time."""

Count = Callable[[int], None]
"""Hears of how many choices the networks have been trained."""


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

    def loss(
        self, answer: Float[Tensor, "*some record outcome"], rows: Int[Tensor, "seed row"] | None = None
    ) -> Float[Tensor, "*some record"]:
        """Cross-entropy of every record in nats, or the squared error; answers of classes are logits.

        With ``rows`` the answers are of some records only, others in each seed: ``(seed, choice, row, outcome)``.
        """
        target = self.target if rows is None else self.target[rows][:, None]
        if not self.classes:
            return (answer[..., 0] - target).square()
        index = target.long().expand(answer.shape[:-1])[..., None]
        return -answer.log_softmax(-1).gather(-1, index)[..., 0]

    def rows(self, part: int) -> tuple[Int[Tensor, "seed row"], Bool[Tensor, "seed row"]]:
        """The records of a part, and which of them are: seeds with fewer are filled up with others."""
        is_of = self.parts == part
        most = int(is_of.sum(1).max())
        rows = is_of.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        return rows, is_of.gather(1, rows)


class Body(NamedTuple):
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

    def of(self, choices: Sequence[int]) -> "Probed":
        """Some of the networks, by number."""
        index = list(choices)
        body = Body(*(weight[:, index] for weight in self.body))
        return Probed(self.answer[:, index], self.state[:, index], body, self.counted[index])


def probe(
    material: Material,
    choices: Sequence[Sequence[int]],
    *,
    body: Body | None = None,
    partial: bool = False,
    count: Count = lambda number: None,
) -> Probed:
    r"""Train one network for every choice of sensors and every seed.

    :math:`\mathrm{head}(\mathrm{relu}(W\, \mathrm{relu}(\sum_m E_m x_m + c) + b))`, all records in a step, AdamW. The
    head begins as the prior, and step 0 counts: of noise a network learns to say the prior. The first layers of a seed
    begin alike whatever the body, so that a difference of losses is the body's.

    Args:
        material: sensors and task.
        choices: sensors by number, all choices of one length.
        body: held as it is, one a choice, so that only the first layers learn; None learns all.
        partial: take records that lack some of the sensors, too.
        count: see `Count`.
    """
    made = []
    for start in range(0, len(choices), BESIDE):
        some = slice(start, start + BESIDE)
        held = None if body is None else Body(*(weight[:, some] for weight in body))
        made.append(_probe(material, choices[some], held, partial))
        count(len(choices[some]))
    return Probed(
        torch.cat([one.answer for one in made], 1),
        torch.cat([one.state for one in made], 1),
        Body(*(torch.cat(parts, 1) for parts in zip(*(one.body for one in made), strict=True))),
        torch.cat([one.counted for one in made]),
    )


def _probe(material: Material, choices: Sequence[Sequence[int]], held: Body | None, partial: bool) -> Probed:
    seeds, width = len(material.parts), material.values.shape[-1]
    length = len(choices[0])
    index = torch.tensor([list(choice) for choice in choices])
    entering = material.values[index].permute(0, 2, 1, 3).flatten(2)  # choice, record, sensors' numbers
    counted = material.here[index].any(1) if partial else material.here[index].all(1)
    prior = material.prior()[:, None, None]
    first, second = [], []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        enter = torch.randn(length * width, WIDTH, generator=generator) * (length * width) ** -0.5
        first.append(enter.expand(len(choices), -1, -1))
        second.append(
            (torch.randn(WIDTH, WIDTH, generator=generator) * (2 / WIDTH) ** 0.5).expand(len(choices), -1, -1)
        )
    shape = (seeds, len(choices), 1)
    weights = [torch.stack(first), torch.zeros(*shape, WIDTH)]
    begun = Body(
        torch.stack(second),
        torch.zeros(*shape, WIDTH),
        torch.zeros(seeds, len(choices), WIDTH, material.outcomes),
        prior.expand(*shape, -1),
    )
    if held is None:
        weights += begun
    weights = [weight.clone().contiguous().requires_grad_() for weight in weights]

    def run(entering: Tensor) -> tuple[Tensor, Tensor]:
        enter, start, *rest = weights
        body = Body(*rest) if held is None else held
        state = torch.relu(torch.relu(entering @ enter + start) @ body.layer + body.shift)
        return state, state @ body.head + body.bias

    (train, train_shares), (choose, choose_shares) = (_part(material, part, counted) for part in (0, 1))
    train_entering, choose_entering = (entering[:, rows].transpose(0, 1) for rows in (train, choose))
    groups = [{"params": weights[:5], "weight_decay": DECAY}, {"params": weights[5:], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE)  # the prior does not decay
    best = torch.full((seeds, len(choices)), torch.inf)
    kept = [weight.detach().clone() for weight in weights]
    for step in range(STEPS + 1):
        if step % 5 == 0:
            with torch.no_grad():
                now = (material.loss(run(choose_entering)[1], choose) * choose_shares).sum(-1)
            better = now < best
            best = torch.where(better, now, best)
            for old, new in zip(kept, weights, strict=True):
                old.copy_(torch.where(better[..., None, None], new.detach(), old))
        optimiser.zero_grad()
        loss = material.loss(run(train_entering)[1], train)
        (loss * train_shares).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    with torch.no_grad():
        for weight, old in zip(weights, kept, strict=True):
            weight.copy_(old)
        state, answer = run(entering)
    if material.classes:
        answer = answer.log_softmax(-1)
    return Probed(answer, state, Body(*kept[2:]) if held is None else held, counted)


def mean_loss(
    material: Material, answer: Float[Tensor, "seed choice record outcome"], counted: Bool[Tensor, "choice record"]
) -> Float[Tensor, "seed choice"]:
    """Loss on records that score."""
    shares = _shares((material.parts == 2)[:, None] & counted)
    return (material.loss(answer) * shares).sum(-1)


def _part(
    material: Material, part: int, counted: Bool[Tensor, "choice record"]
) -> tuple[Int[Tensor, "seed row"], Float[Tensor, "seed choice row"]]:
    """The records of a part by seed, and the share of each in a choice's mean."""
    rows, real = material.rows(part)
    return rows, _shares(counted[:, rows].transpose(0, 1) & real[:, None])


def _shares(counted: Bool[Tensor, "*some record"]) -> Float[Tensor, "*some record"]:
    return counted / counted.sum(-1, keepdim=True).clamp_min(1)
