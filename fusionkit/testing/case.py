"""One component under test: how it is built, what it is given, what it answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit.testing.result import CheckFailed, require
from fusionkit.testing.streams import Streams, each, fill_hidden, take

ROWS = 6


@dataclass
class Answer:
    """What a component answers, by name: ``rows`` are batch first, ``whole`` is about the batch.

    ``masks`` says which of a batch-first tensor's second axis is real; where it names none, all is. ``level`` is the
    answer as it came.
    """

    rows: dict[str, Tensor]
    masks: dict[str, Tensor] = field(default_factory=dict)
    whole: dict[str, Tensor] = field(default_factory=dict)
    level: Any = None

    def tensors(self) -> dict[str, Tensor]:
        """Everything under its name."""
        return {**self.rows, **self.whole}


class Case(ABC):
    """A component with options and made inputs.

    Attributes:
        label: tells the cases of one component apart.
        lengths: whether inputs may have another number of steps than the made ones.
        hides: whether an absent sensor's values must not matter (a front end has its window scrubbed before it).
        half: whether it must work in bfloat16 (front ends run in single precision).
        answers_empty: whether a row without any sensor must not look at any value.
        growth: how many steps a longer input has more.
        exempt: checks that the component declares itself exempt from, with the reason.
        program: what the export checks share.
    """

    label: str = ""
    lengths: bool = True
    hides: bool = True
    half: bool = True
    answers_empty: bool = True
    growth: int = 5
    exempt: Mapping[str, str] = {}
    program: torch.export.ExportedProgram | None = None

    @abstractmethod
    def make(self) -> nn.Module:
        """A fresh component from torch's random state, fitted where it must be."""

    @abstractmethod
    def inputs(self, rows: int = ROWS, steps: int = 6, seed: int = 0, unequal: bool = False) -> Streams:
        """Made inputs: all sensors present, rows of different lengths.

        Args:
            rows: how many.
            steps: of every stream whose number of steps is free.
            seed: of the values.
            unequal: whether streams differ in their number of steps.
        """

    @abstractmethod
    def answer(self, module: nn.Module, inputs: Streams) -> Answer:
        """Run the component."""

    @abstractmethod
    def contract(self, module: nn.Module, inputs: Streams, answer: Answer) -> None:
        """Check shapes, types and masks of an answer.

        Raises:
            CheckFailed: one breaks the contract of the component's kind.
        """

    def free_steps(self, name: str) -> bool:
        """Whether one input may have another number of steps."""
        return self.lengths

    def build(self, seed: int = 0) -> nn.Module:
        """A component in evaluation mode, from a seed; the caller's random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.make().eval()

    def ask(self, module: nn.Module, inputs: Streams) -> Answer:
        """Run without gradients."""
        with torch.no_grad():
            return self.answer(module, inputs)


def loss_of(answer: Answer) -> Tensor:
    """A number that depends on every real output: a fixed random weighting of each, and what is about the batch."""
    total = torch.zeros((), dtype=torch.float64)
    for name, values in answer.rows.items():
        if values.is_floating_point():
            weight = torch.randn(values.shape, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
            mask = answer.masks.get(name)
            if mask is not None:
                weight = weight * mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)).double()
            total = total + (values.double() * weight).sum()
    for value in answer.whole.values():
        total = total + value.double().sum()
    return total


def warm_up(case: Case, module: nn.Module) -> torch.optim.Optimizer | None:
    """One optimiser step in training mode, so that what starts at zero has left it; None without parameters."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not parameters:
        return None
    optimiser = torch.optim.Adam(parameters, lr=1e-2, eps=1e-12)
    step(case, module, optimiser)
    return optimiser


def step(case: Case, module: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """One optimiser step on inputs in which each sensor is absent from one row; gradients stay."""
    module.train()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        optimiser.zero_grad()
        loss_of(case.answer(module, holed(case.inputs()))).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    module.eval()


def holed(inputs: Streams) -> Streams:
    """Each sensor is absent from one row: the first from row 1, the second from row 2 ...; hidden values are zeros."""
    holes = dict(inputs)
    if len(inputs) > 1:
        for i, (name, stream) in enumerate(inputs.items(), 1):
            present = stream.present.clone()
            present[i % len(present)] = False
            holes[name] = stream._replace(present=present)
    return each(holes, lambda stream: fill_hidden(stream, "zeros"))


def compare(found: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    """Require two tensors to be the same to ``tolerance``, absolute and relative; 0 compares bits.

    Raises:
        CheckFailed: they are not; the message says where and by how much.
    """
    require(found.shape == wanted.shape, f"{what}: shapes must be equal, but {[*found.shape]} is not {[*wanted.shape]}")
    if torch.equal(found, wanted):
        return
    if not found.is_floating_point():
        raise CheckFailed(f"{what}: {int((found != wanted).sum())} of {found.numel()} entries differ")
    found, wanted = found.double(), wanted.double()
    apart = (found - wanted).abs()
    worst = float("nan") if apart.isnan().any() else float(apart.max())
    if tolerance == 0:
        raise CheckFailed(f"{what}: must be equal to the bit, but differ by up to {worst:.3g}")
    within = apart <= tolerance * (1 + wanted.abs())
    require(bool(within.all()), f"{what}: must be equal to {tolerance:g}, but differ by up to {worst:.3g}")


def compare_answers(found: Answer, wanted: Answer, tolerance: float, what: str, whole: bool = True) -> None:
    """Require two answers to be the same in everything that is real.

    Raises:
        CheckFailed: they are not.
    """
    require(
        set(found.rows) == set(wanted.rows), f"{what}: answers differ in kind, {[*found.rows]} and {[*wanted.rows]}"
    )
    for name, values in found.rows.items():
        other, mask = wanted.rows[name], found.masks.get(name)
        if mask is None:
            compare(values, other, tolerance, f"{what}: {name}")
            continue
        count, others = mask.sum(1), wanted.masks[name].sum(1)
        require(
            torch.equal(count, others),
            f"{what}: {name} must have {others.tolist()} real steps, but has {count.tolist()}",
        )
        compare(values[mask], other[wanted.masks[name]], tolerance, f"{what}: {name}")
    if whole:
        for name, values in found.whole.items():
            compare(values, wanted.whole[name], tolerance, f"{what}: {name}")


def rows_of(answer: Answer, rows: Tensor) -> Answer:
    """Some rows of an answer, without what is about the batch."""
    return Answer({k: v[rows] for k, v in answer.rows.items()}, {k: v[rows] for k, v in answer.masks.items()})


def single(inputs: Streams, row: int) -> Streams:
    """One row as a batch of its own."""
    return take(inputs, torch.tensor([row]))
