"""Augmenters of two networks that learn against each other."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fusionkit.augment.augmentation import normal, uniform

from .contest import Contest
from .generator import GenerativeAugmenter, Item, Made, Turn
from .networks import average, batches, evaluating, frozen, own_rows

Loss = tuple[Float[Tensor, ""], dict[str, Tensor]]


class _Pair(NamedTuple):
    """A maker and a judge, and what of the batch is theirs; ``counts`` is 0 where that is nothing."""

    maker: nn.Module
    judge: nn.Module
    values: Tensor
    beside: Tensor
    counts: Tensor


class AdversarialAugmenter(GenerativeAugmenter):
    """Make records from noise with a network that another one judges.

    Networks that know classes are one pair; networks that do not are a pair a class, which learn of as many records a
    batch each, and their losses are averaged.

    Args:
        item: what a record looks like.
        networks: makes a maker ``(noise, classes one-hot) -> (record, width)`` and a judge ``(records, classes one-hot)
            -> (record, 1)``.
        contest: what they minimise.
        conditional: whether the networks know classes; otherwise what is one-hot has width 0.
        latent: numbers of noise.
        noise: standard normal, or alike in (-1, 1).
        critic_steps: updates of the judge a step, each on a batch of its own.
        learning_rate: of Adam.
        betas: of Adam.
        average: decay of the averaged maker that samples, 0 for the maker itself.
    """

    def __init__(
        self,
        item: Item,
        networks: Callable[[], tuple[nn.Module, nn.Module]],
        contest: Contest,
        *,
        conditional: bool,
        latent: int,
        critic_steps: int,
        learning_rate: float,
        betas: tuple[float, float],
        average: float,
        noise: Literal["normal", "uniform"] = "normal",
    ) -> None:
        super().__init__(item)
        self.contest, self.conditional, self.latent = contest, conditional, latent
        self.critic_steps, self.learning_rate, self.betas, self.decay = critic_steps, learning_rate, betas, average
        self.noise = noise
        made = [networks() for _ in range(1 if conditional else item.classes)]
        self.makers = nn.ModuleList([maker for maker, _ in made])
        self.judges = nn.ModuleList([judge for _, judge in made])
        self.averaged = copy.deepcopy(self.makers).requires_grad_(False) if average else None
        self.register_buffer(
            "codes", torch.eye(item.classes)[:, : item.classes if conditional else 0], persistent=False
        )

    codes: Float[Tensor, "class_ beside"]

    def turns(self) -> Sequence[Turn]:
        """The judge, so many times, then the maker."""
        judges, makers = list(self.judges.parameters()), list(self.makers.parameters())
        return (
            Turn(self.contest.judge, judges, self._judging, self._adam, self.critic_steps),
            Turn("generator", makers, self._making, self._adam),
        )

    def settle(self) -> None:
        """Move the averaged maker."""
        if self.averaged is not None:
            average(self.averaged, self.makers, self.decay)

    def sample(self, label: Int[Tensor, " record"], generator: torch.Generator) -> Made:
        """Make records of the wanted classes by the averaged maker, where there is one."""
        makers = self.makers if self.averaged is None else self.averaged
        label = label.to(self.shift.device)
        with evaluating(self):
            noise = self._noise(len(label), generator)
            values = self.shift.new_empty(len(label), *self.item.shape)
            for part in batches(len(label)):
                beside, drawn = self.codes[label[part]], noise[part]
                for class_, maker in enumerate(makers):
                    own = slice(None) if self.conditional else label[part] == class_
                    made = maker(drawn[own], beside[own])
                    values[part][own] = made.reshape(-1, *self.item.shape)
            return Made(self.restore(values), label, torch.ones_like(label, dtype=values.dtype))

    def _judging(self, values: Tensor, label: Tensor, generator: torch.Generator) -> Loss:
        def one(pair: _Pair) -> Loss:
            with torch.no_grad():
                made = self._made(pair, generator)
            return self.contest.judging(lambda it: pair.judge(it, pair.beside)[:, 0], pair.values, made, generator)

        return self._mean(values, label, one)

    def _making(self, values: Tensor, label: Tensor, generator: torch.Generator) -> Loss:
        def one(pair: _Pair) -> Loss:
            with frozen(pair.judge):
                made = self._made(pair, generator)
                return self.contest.making(lambda it: pair.judge(it, pair.beside)[:, 0], made), {}

        return self._mean(values, label, one)

    def _made(self, pair: _Pair, generator: torch.Generator) -> Tensor:
        made: Tensor = pair.maker(self._noise(len(pair.values), generator), pair.beside)
        return made.reshape(pair.values.shape)

    def _mean(self, values: Tensor, label: Tensor, loss: Callable[[_Pair], Loss]) -> Loss:
        """The loss over all pairs; one without records counts nothing."""
        pairs = list(self._pairs(values, label))
        found = [loss(pair) for pair in pairs]
        if len(found) == 1:
            return found[0]
        weight = torch.stack([pair.counts for pair in pairs])
        weight = weight / weight.sum().clamp_min(1)
        logged = {name: (torch.stack([seen[name] for _, seen in found]) * weight).sum() for name in found[0][1]}
        return (torch.stack([one for one, _ in found]) * weight).sum(), logged

    def _pairs(self, values: Tensor, label: Tensor) -> Iterator[_Pair]:
        take = -(-len(values) // len(self.makers))
        for class_, (maker, judge) in enumerate(zip(self.makers, self.judges, strict=True)):
            if len(self.makers) == 1:
                yield _Pair(maker, judge, values, self.codes[label], values.new_ones(()))
            else:
                rows, counts = own_rows(label, class_, take)
                yield _Pair(maker, judge, values[rows], self.codes[label[rows]], counts)

    def _noise(self, count: int, generator: torch.Generator) -> Tensor:
        shape = (count, self.latent)
        if self.noise == "uniform":
            return 2 * uniform(shape, self.shift, generator) - 1
        return normal(shape, self.shift, generator)

    def _adam(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.learning_rate, betas=self.betas)
