"""Checks of what rows of a batch may have to do with each other: nothing."""

import torch
from torch import nn

from fusionkit.testing.case import ROWS, Case, compare, compare_answers, holed, rows_of, single
from fusionkit.testing.result import NotApplicable, require
from fusionkit.testing.streams import over_tensors, take


def runs(case: Case, module: nn.Module) -> None:
    """It runs, with all sensors and with some absent."""
    case.ask(module, case.inputs())
    case.ask(module, holed(case.inputs()))


def output_contract(case: Case, module: nn.Module) -> None:
    """Shapes, types and masks of the answer are what its kind promises."""
    inputs = case.inputs()
    answer = case.ask(module, inputs)
    case.contract(module, inputs, answer)
    for name, values in answer.tensors().items():
        require(bool(values.isfinite().all()), f"{name} must be finite, but {int((~values.isfinite()).sum())} are not")
    inputs = holed(inputs)
    case.contract(module, inputs, case.ask(module, inputs))


def deterministic_in_eval(case: Case, module: nn.Module) -> None:
    """Two runs in evaluation mode agree to the bit, whatever the random state."""
    inputs = case.inputs()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = case.ask(module, inputs)
        torch.manual_seed(2)
        compare_answers(case.ask(module, inputs), first, 0.0, "two runs in eval")


def inputs_untouched(case: Case, module: nn.Module) -> None:
    """It does not write into its inputs."""
    inputs = case.inputs()
    before = {name: over_tensors(stream, torch.clone) for name, stream in inputs.items()}
    case.ask(module, inputs)
    for name, stream in inputs.items():
        for field, part, old in zip(stream._fields, stream, before[name], strict=True):
            if part is not None and old is not None:
                compare(part, old, 0.0, f"input {name}.{field} after the run")


def row_independence(case: Case, module: nn.Module) -> None:
    """A row in a batch of 1 and in a batch of N gives the same to 1e-5."""
    for inputs in (case.inputs(), holed(case.inputs())):
        together = case.ask(module, inputs)
        for row in range(ROWS):
            alone = case.ask(module, single(inputs, row))
            compare_answers(
                alone, rows_of(together, torch.tensor([row])), 1e-5, f"batch 1 and {ROWS}, row {row}", False
            )


def batch_permutation(case: Case, module: nn.Module) -> None:
    """Another order of the rows gives the same rows in that order."""
    inputs = holed(case.inputs())
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    moved = case.ask(module, take(inputs, order))
    compare_answers(moved, rows_of(case.ask(module, inputs), order), 1e-5, "rows in another order", False)


def unequal_lengths(case: Case, module: nn.Module) -> None:
    """Streams may differ in their number of steps."""
    if not case.lengths:
        raise NotApplicable("its inputs have no free number of steps")
    inputs = case.inputs(unequal=True)
    answer = case.ask(module, inputs)
    case.contract(module, inputs, answer)
    for name, values in answer.tensors().items():
        require(bool(values.isfinite().all()), f"{name} must be finite, but {int((~values.isfinite()).sum())} are not")
