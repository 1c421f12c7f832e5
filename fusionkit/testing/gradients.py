"""Checks that training can reach everything it should."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit.testing.case import Case, holed, loss_of, step, warm_up
from fusionkit.testing.result import IdleParameters, NotApplicable, require


def parameters_registered(case: Case, module: nn.Module) -> None:
    """Every tensor and module that it holds, in lists and mappings too, is registered, so that it moves and trains with it."""
    known = {id(part) for part in (*module.parameters(), *module.buffers(), *module.modules())}
    stray = [name for name, part in _held(module) if id(part) not in known]
    require(not stray, f"tensors and modules must be registered, but these are not: {', '.join(stray)}")


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Tensors and modules in plain attributes, to any depth of lists and mappings."""
    own = {"_parameters", "_buffers", "_modules"}
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if name not in own:
                yield from _inside(f"{prefix}.{name}".lstrip("."), value)


def _inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Tensor | nn.Module):
        yield name, value
        if isinstance(value, nn.Module):
            yield from ((f"{name}.{inner}", parameter) for inner, parameter in value.named_parameters())
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _inside(f"{name}[{key!r}]", part)
    elif isinstance(value, list | tuple | set):
        for i, part in enumerate(value):
            yield from _inside(f"{name}[{i}]", part)


def gradient_reaches_parameters(case: Case, module: nn.Module) -> None:
    """After one warm-up step, every parameter gets a gradient that is finite and not all zero."""
    _trained(case, module)
    idle = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            if parameter.grad is None or not bool(parameter.grad.any()):
                idle.append(name)
            else:
                finite = bool(parameter.grad.isfinite().all())
                require(finite, f"gradients must be finite, but that of {name} is not")
    if idle:
        raise IdleParameters(idle, f"every parameter must get a gradient, but these get none: {', '.join(idle)}")


def optimiser_moves_parameters(case: Case, module: nn.Module) -> None:
    """After one warm-up step, one more moves every parameter."""
    warmed = warm_up(case, module)
    if warmed is None:
        raise NotApplicable("it has no parameters")
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    step(case, module, warmed)
    idle = [
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and torch.equal(parameter.detach(), before[name])
    ]
    if idle:
        raise IdleParameters(idle, f"an optimiser step must move every parameter, but these stay: {', '.join(idle)}")


def _trained(case: Case, module: nn.Module) -> None:
    warmed = warm_up(case, module)
    if warmed is None:
        raise NotApplicable("it has no parameters")
    step(case, module, warmed)


def gradient_reaches_inputs(case: Case, module: nn.Module) -> None:
    """After one warm-up step, a gradient reaches every sensor that is present, and no absent one."""
    warm_up(case, module)
    inputs = {
        name: stream._replace(values=stream.values.requires_grad_())
        for name, stream in holed(case.inputs()).items()
        if stream.values.is_floating_point()
    }
    if not inputs:
        raise NotApplicable("its inputs are whole numbers")
    module.zero_grad()
    loss = loss_of(case.answer(module, inputs))
    require(loss.requires_grad, "a gradient must reach the inputs, but the answer depends on none")
    loss.backward()  # type: ignore[no-untyped-call]
    for name, stream in inputs.items():
        gradient = stream.values.grad
        require(gradient is not None and bool(gradient.any()), f"a gradient must reach {name}, but none does")
        assert gradient is not None
        require(bool(gradient.isfinite().all()), f"the gradient that reaches {name} must be finite, but is not")
        leak = float(gradient[~stream.present].abs().sum())
        if case.hides:
            require(leak == 0, f"no gradient may reach {name} where it is absent, but {leak:.3g} does")
    module.zero_grad()


def fit_is_seeded(case: Case, module: nn.Module) -> None:
    """Built and fitted twice from one seed, its state is the same to the bit."""
    first, second = case.build(seed=7).state_dict(), case.build(seed=7).state_dict()
    for name, values in first.items():
        require(torch.equal(values, second[name]), f"two builds from one seed must agree, but {name} differs")
