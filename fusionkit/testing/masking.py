"""Checks that padding and absent sensors reach nothing."""

import torch
from torch import nn

from fusionkit.testing.case import Answer, Case, compare, compare_answers, loss_of
from fusionkit.testing.result import NotApplicable, require
from fusionkit.testing.streams import Streams, all_padding, each, fill_hidden, lengthen, real_mask, without


def same_bits(case: Case, module: nn.Module, inputs: Streams, what: str, padding: bool = False) -> Answer:
    """Require the same bits, and numbers, whether absent (or padded) values are zeros, noise or NaN; give the answer."""
    clean = case.ask(module, filled(inputs, "zeros", padding))
    for name, values in clean.tensors().items():
        seen = values if case.hides or name not in clean.masks else values[clean.masks[name]]
        bad = int((~seen.isfinite()).sum())
        require(bad == 0, f"{what}: {name} must be finite, but {bad} numbers are not")
    for fill in ("noise", "nan"):
        answer = case.ask(module, filled(inputs, fill, padding))
        compare_answers(_unmasked(answer, case), _unmasked(clean, case), 0.0, f"{what}, {fill} instead of zeros")
    return clean


def filled(inputs: Streams, fill: str, padding: bool = True) -> Streams:
    """Put something else where nothing is real, in every stream; with ``padding`` False only where a sensor is absent."""
    return each(inputs, lambda stream: fill_hidden(stream, fill, padding))


def longer_by(extra: int, case: Case, inputs: Streams) -> Streams:
    """Append padding to every stream whose number of steps is free."""
    return {name: lengthen(stream, extra) if case.free_steps(name) else stream for name, stream in inputs.items()}


def _unmasked(answer: Answer, case: Case) -> Answer:
    """Whoever must hide values must hide them from what is not real, too."""
    return Answer(answer.rows, whole=answer.whole) if case.hides else answer


def padding_invariance(case: Case, module: nn.Module) -> None:
    """What stands in padding changes no bit; more padding changes nothing beyond 1e-5."""
    inputs = case.inputs()
    plain = same_bits(case, module, inputs, "padding", padding=True)
    if not case.lengths:
        return
    for extra in (1, case.growth):
        longer = case.ask(module, longer_by(extra, case, inputs))
        compare_answers(longer, plain, 1e-5, f"{extra} steps of padding more")


def absent_sensor_invariance(case: Case, module: nn.Module) -> None:
    """Where a sensor is absent, its values, and what its mask says, change no bit of any output."""
    if not case.hides:
        raise NotApplicable("absent windows are scrubbed before it")
    inputs = case.inputs()
    some = torch.tensor([True, False, True, False, False, True])
    for name in inputs:
        if len(inputs) == 1:
            same_bits(case, module, without(inputs, name, some), f"{name} absent")
            continue
        answer = same_bits(case, module, without(inputs, name, some), f"{name} absent from some rows")
        same_bits(case, module, without(inputs, name), f"{name} absent from all rows")
        masked = {**inputs, name: all_padding(inputs[name], some)}
        other = case.ask(module, without(masked, name, some))
        compare_answers(other, answer, 0.0, f"{name} absent, with another mask")


def all_but_one_absent(case: Case, module: nn.Module) -> None:
    """Each sensor alone gives an answer, present and finite."""
    inputs = case.inputs()
    if len(inputs) == 1:
        raise NotApplicable("it has one input")
    for kept in inputs:
        alone = inputs
        for name in inputs:
            if name != kept:
                alone = without(alone, name)
        answer = same_bits(case, module, alone, f"{kept} alone")
        case.contract(module, alone, case.ask(module, alone))
        for name, mask in answer.masks.items():
            require(
                bool(mask.any(1).all()), f"{kept} alone: every row must have a real step of {name}, but some have none"
            )


def all_absent(case: Case, module: nn.Module) -> None:
    """A row without any sensor, and one whose sensors are all padding, give numbers and disturb no other row."""
    inputs = case.inputs()
    if not case.hides:
        raise NotApplicable("absent windows are scrubbed before it")
    before = case.ask(module, inputs)
    nowhere = torch.zeros(len(next(iter(inputs.values())).present), dtype=torch.bool)
    nowhere[2] = True
    empty = inputs
    for name in inputs:
        empty = without(empty, name, nowhere)
    others = torch.tensor([0, 1, 3, 4, 5])
    for fill in ("zeros", "noise", "nan") if case.answers_empty else ("zeros", "noise"):
        given = filled(empty, fill)
        answer = case.ask(module, given)
        case.contract(module, given, answer)
        _finite_and_apart(answer, before, others, f"row 2 without any sensor ({fill})")
    padded = each(inputs, lambda stream: all_padding(stream, nowhere))
    answer = case.ask(module, filled(padded, "nan"))
    _finite_and_apart(answer, before, others, "row 2 of padding only")


def _finite_and_apart(answer: Answer, before: Answer, others: torch.Tensor, what: str) -> None:
    for name, values in answer.tensors().items():
        bad = int((~values.isfinite()).sum())
        require(bad == 0, f"{what}: {name} must be finite, but {bad} numbers are not")
    for name, values in answer.rows.items():
        mask = answer.masks.get(name)
        real = values[others] if mask is None else values[others][mask[others]]
        old = before.rows[name][others] if mask is None else before.rows[name][others][before.masks[name][others]]
        compare(real, old, 1e-5, f"{what}: {name} of the other rows")


def hidden_gradient(case: Case, module: nn.Module) -> None:
    """NaN in padding and absent sensors reaches no gradient, and hidden values get none."""
    inputs = case.inputs()
    some = torch.tensor([False, True, False, False, True, False])
    if case.hides:
        for name in list(inputs)[: max(1, len(inputs) - 1)]:
            inputs = without(inputs, name, some)
    found = {fill: _gradients(case, module, filled(inputs, fill)) for fill in ("zeros", "nan")}
    for name, gradient in found["nan"].items():
        bad = int((~gradient.isfinite()).sum())
        require(bad == 0, f"gradient of {name} must be finite, but {bad} numbers are not when hidden values are NaN")
        compare(gradient, found["zeros"][name], 1e-5, f"gradient of {name}, NaN instead of zeros in hidden values")
    for name, stream in inputs.items():
        if f"input {name}" in found["zeros"]:
            hidden = ~real_mask(stream) & (found["zeros"][f"input {name}"] != 0)
            require(not bool(hidden.any()), f"hidden values of {name} must get no gradient, but {int(hidden.sum())} do")


def _gradients(case: Case, module: nn.Module, inputs: Streams) -> dict[str, torch.Tensor]:
    module.zero_grad()
    watched = {
        name: stream._replace(values=stream.values.clone().requires_grad_())
        for name, stream in inputs.items()
        if stream.values.is_floating_point()
    }
    answer = case.answer(module, {**inputs, **watched})
    loss = loss_of(answer)
    found: dict[str, torch.Tensor] = {}
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            found[name] = parameter.grad.clone()
    for name, stream in watched.items():
        if stream.values.grad is not None:
            found[f"input {name}"] = stream.values.grad
    module.zero_grad()
    return found
