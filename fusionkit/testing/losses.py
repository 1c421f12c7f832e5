"""The case of a loss, and the checks that only losses have."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit.core.registry import check_options
from fusionkit.losses.loss import Loss
from fusionkit.testing.case import ROWS, Answer, Case, compare
from fusionkit.testing.result import NotApplicable, require
from fusionkit.testing.streams import Scored, Streams, everywhere

CLASSES, LABELS = 3, 4


class LossCase(Case):
    """A loss over decisions of the form that it takes."""

    lengths = False
    hides = False

    def __init__(self, cls: type[Loss], options: Mapping[str, Any]) -> None:
        self.cls, self.options = cls, check_options(cls, options, getattr(cls, "kind", cls.__name__))
        self.label = cls.takes
        self.exempt = getattr(cls, "exempt", {})

    def make(self) -> nn.Module:
        return self.cls(**self.options)

    def inputs(self, rows: int = ROWS, steps: int = 6, seed: int = 0, unequal: bool = False) -> Streams:
        generator = torch.Generator().manual_seed(seed)
        if self.cls.takes == "value":
            values, target = torch.randn(2, rows, generator=generator)
            return {"decision": Scored(values, target, everywhere(rows))}
        outcome = (CLASSES,) if self.cls.takes == "class" else (LABELS, 2)
        values = torch.randn(rows, *outcome, generator=generator).log_softmax(-1)
        target = torch.randint(outcome[-1], (rows, *outcome[:-1]), generator=generator)
        return {"decision": Scored(values, target, everywhere(rows))}

    def answer(self, module: nn.Module, inputs: Streams) -> Answer:
        return Answer({"loss": self.score(module, inputs, None)})

    def score(self, module: nn.Module, inputs: Streams, weights: Tensor | None) -> Tensor:
        """The loss of every record."""
        scored = inputs["decision"]
        assert isinstance(scored, Scored)
        target = scored.target.to(scored.values.dtype) if scored.target.is_floating_point() else scored.target
        found: Tensor = module(scored.values, target, weights)
        return found

    def contract(self, module: nn.Module, inputs: Streams, answer: Answer) -> None:
        loss, given = answer.rows["loss"], inputs["decision"].values
        require(tuple(loss.shape) == (len(given),), f"a loss must be one number per record, but is {[*loss.shape]}")
        require(loss.dtype == given.dtype, f"a loss must keep {given.dtype}, but is {loss.dtype}")


def right_beats_wrong(case: Case, module: nn.Module) -> None:
    """A right answer scores lower than a wrong one, in every record."""
    assert isinstance(case, LossCase)
    scored = case.inputs()["decision"]
    assert isinstance(scored, Scored)
    if case.cls.takes == "value":
        right, wrong = scored.target, scored.target + 3
    else:
        outcomes = scored.values.shape[-1]
        right = (8.0 * torch.nn.functional.one_hot(scored.target, outcomes)).log_softmax(-1)
        wrong = (8.0 * torch.nn.functional.one_hot((scored.target + 1) % outcomes, outcomes)).log_softmax(-1)
    low, high = (case.score(module, {"decision": scored._replace(values=values)}, None) for values in (right, wrong))
    require(
        bool((low < high).all()), f"a right answer must score lower, but {low.tolist()} is not below {high.tolist()}"
    )


def unit_weights(case: Case, module: nn.Module) -> None:
    """Weights of 1 change nothing."""
    assert isinstance(case, LossCase)
    if case.cls.takes == "value":
        raise NotApplicable("numbers have no class weights")
    inputs = case.inputs()
    shape = (CLASSES,) if case.cls.takes == "class" else (LABELS, 2)
    weighted = case.score(module, inputs, torch.ones(shape))
    compare(weighted, case.score(module, inputs, None), 1e-6, "weights of 1 instead of none")
