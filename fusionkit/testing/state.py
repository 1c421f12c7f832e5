"""Checks of what a component keeps, and of the precisions it runs in."""

import io

import torch
from torch import nn

from fusionkit.testing.case import Answer, Case, compare_answers, holed
from fusionkit.testing.result import require
from fusionkit.testing.streams import cast


def state_dict_round_trip(case: Case, module: nn.Module) -> None:
    """A component of other weights that loads its saved state answers the same bits."""
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = case.build(seed=1)
    other.load_state_dict(torch.load(file, weights_only=True))
    inputs = holed(case.inputs())
    compare_answers(case.ask(other, inputs), case.ask(module, inputs), 0.0, "after loading the state of the other")


def dtypes(case: Case, module: nn.Module) -> None:
    """float32 agrees with float64 to 1e-4, bfloat16 to a tenth of the answer's size, and each keeps its type."""
    answers: dict[torch.dtype, Answer] = {}
    kinds = [torch.float64, torch.float32, *([torch.bfloat16] if case.half else [])]
    for kind in kinds:
        inputs = cast(holed(case.inputs()), kind)
        other = case.build(seed=0).to(kind)
        other.load_state_dict(module.state_dict())
        answers[kind] = case.ask(other, inputs)
        case.contract(other, inputs, answers[kind])
    for kind, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        if kind in answers:
            for name, values in answers[kind].rows.items():
                found, wanted = values.double(), answers[torch.float64].rows[name].double()
                mask = answers[kind].masks.get(name)
                if mask is not None:
                    found, wanted = found[mask], wanted[mask]
                size = float(wanted.square().mean().sqrt()) + 1e-6
                off = float((found - wanted).square().mean().sqrt()) / size
                require(
                    off <= tolerance,
                    f"{name} in {kind} must agree with float64 to {tolerance:g} of its size, but is {off:.3g} off",
                )
