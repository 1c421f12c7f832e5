"""The suites: which checks there are, in which order, and what rests on what."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from fusionkit.augment.generative.generator import GenerativeAugmenter
from fusionkit.core.errors import ConfigError
from fusionkit.core.modality import Modality
from fusionkit.encoders.encoder import Encoder
from fusionkit.fusion.operation import FusionOperation
from fusionkit.losses.loss import Loss
from fusionkit.pretraining.objective import PretrainingObjective
from fusionkit.testing import exported, generators, gradients, losses, masking, objectives, rows, sensors, state
from fusionkit.testing.case import Case
from fusionkit.testing.cases import component_cases
from fusionkit.testing.result import CheckFailed, CheckResult, ConformanceError, IdleParameters, NotApplicable

Check = Callable[[Case, nn.Module], None]

# Each check, and the checks without which it says nothing: what differs between two runs differs everywhere.
CHECKS: dict[Check, tuple[str, ...]] = {
    rows.runs: (),
    rows.output_contract: ("runs",),
    rows.deterministic_in_eval: ("runs",),
    rows.inputs_untouched: ("runs",),
    rows.row_independence: ("deterministic_in_eval",),
    rows.batch_permutation: ("deterministic_in_eval",),
    rows.unequal_lengths: ("output_contract",),
    masking.padding_invariance: ("deterministic_in_eval",),
    masking.absent_sensor_invariance: ("deterministic_in_eval",),
    masking.all_but_one_absent: ("output_contract", "deterministic_in_eval", "absent_sensor_invariance"),
    masking.all_absent: ("output_contract", "padding_invariance", "absent_sensor_invariance", "row_independence"),
    masking.hidden_gradient: ("padding_invariance", "absent_sensor_invariance"),
    gradients.parameters_registered: ("runs",),
    gradients.gradient_reaches_parameters: ("parameters_registered",),
    gradients.optimiser_moves_parameters: ("gradient_reaches_parameters",),
    gradients.gradient_reaches_inputs: ("absent_sensor_invariance",),
    gradients.fit_is_seeded: ("parameters_registered",),
    state.state_dict_round_trip: ("deterministic_in_eval", "parameters_registered"),
    state.dtypes: ("output_contract", "deterministic_in_eval", "parameters_registered"),
}
EXPORTED: dict[Check, tuple[str, ...]] = {
    exported.torch_export: ("runs",),
    exported.onnx_export: ("torch_export",),
}
TRAIN = (gradients.gradient_reaches_parameters, gradients.optimiser_moves_parameters, gradients.gradient_reaches_inputs)
LOSS: dict[Check, tuple[str, ...]] = {
    **{check: CHECKS[check] for check in (
        rows.runs, rows.output_contract, rows.deterministic_in_eval, rows.inputs_untouched, rows.row_independence,
        rows.batch_permutation, gradients.parameters_registered, gradients.gradient_reaches_parameters,
        gradients.optimiser_moves_parameters, gradients.gradient_reaches_inputs, state.state_dict_round_trip, state.dtypes,
    )},
    losses.right_beats_wrong: ("runs",),
    losses.unit_weights: ("runs",),
}  # fmt: skip


def check_fusion(cls: type[FusionOperation], *, export: bool = False, **options: Any) -> list[CheckResult]:
    """Check a fusion operation of any level against its contract.

    Args:
        cls: the operation.
        export: also export it to torch.export and ONNX (half a minute).
        options: its keyword-only options; where it has no defaults, it needs them.

    Raises:
        ConformanceError: a check fails; the message names every one, with the numbers.
        ConfigError: it cannot be built from the options, or takes none of the made inputs.

    Example:
        >>> from fusionkit.fusion.vote import Vote
        >>> all(result.outcome != "failed" for result in check_fusion(Vote, rule="product"))
        True
    """
    return _check_streams(cls, export, options)


def check_encoder(cls: type[Encoder], *, export: bool = False, **options: Any) -> list[CheckResult]:
    """Check an encoder of features or windows against its contract.

    Args:
        cls: the encoder.
        export: as in `check_fusion`.
        options: its keyword-only options.

    Raises:
        ConformanceError: a check fails.
        ConfigError: as in `check_fusion`.
    """
    return _check_streams(cls, export, options)


def check_loss(cls: type[Loss], *, export: bool = False, **options: Any) -> list[CheckResult]:
    """Check a loss against its contract.

    Args:
        cls: the loss.
        export: without effect; a loss is not in the exported graph.
        options: its keyword-only options.

    Raises:
        ConformanceError: a check fails.
        ConfigError: an option is wrong.
    """
    case = losses.LossCase(cls, options)
    return _finish(_name(cls), _run(LOSS, case))


def check_modality(cls: type[Modality], *, export: bool = False, **options: Any) -> list[CheckResult]:
    """Check a sensor: its recordings, its windows, its front end, what it refuses.

    Args:
        cls: the modality.
        export: also export its front end.
        options: its keyword-only options.

    Raises:
        ConformanceError: a check fails.
        ConfigError: an option is wrong, or it takes none of the made signals.
    """
    sensor = sensors.Sensor(cls, options)
    results = _run(sensors.CHECKS, sensor)
    if not any(result.outcome == "failed" for result in results):
        results += _run({**CHECKS, **(EXPORTED if export else {})}, sensors.FrontEndCase(sensor))
    return _finish(_name(cls), results)


def check_objective(cls: type[PretrainingObjective], *, export: bool = False, **options: Any) -> list[CheckResult]:
    """Check a pretraining objective over made images, series and text: what it trains, and what may be missing.

    Args:
        cls: the objective.
        export: without effect; an objective is thrown away after its stage.
        options: its keyword-only options.

    Raises:
        ConformanceError: a check fails.
        ConfigError: an option is wrong, or it learns from none of the made sensors.
    """
    cases, refused = objectives.objective_cases(cls, options)
    results = [CheckResult("inputs", "skipped", f"refused: {why}", label) for label, why in refused.items()]
    for case in cases:
        results += _run(objectives.CHECKS, case, fresh=True)
    return _finish(_name(cls), results)


def check_generator(cls: type[GenerativeAugmenter], *, export: bool = False, **options: Any) -> list[CheckResult]:
    """Check a generative augmenter over made features, series, sound and images: what it trains, and what it makes.

    Args:
        cls: the augmenter.
        export: without effect; what it makes is for training alone.
        options: its keyword-only options.

    Raises:
        ConformanceError: a check fails.
        ConfigError: an option is wrong, or it makes none of the made records.
    """
    cases, refused = generators.generator_cases(cls, options)
    results = [CheckResult("inputs", "skipped", f"refused: {why}", label) for label, why in refused.items()]
    for case in cases:
        results += _run(generators.CHECKS, case, fresh=True)
    return _finish(_name(cls), results)


def check_component(cls: type, *, export: bool = False, **options: Any) -> list[CheckResult]:
    """Check a component by the suite of its family.

    Raises:
        ConfigError: no suite is for such a class.
        ConformanceError: a check fails.
    """
    for base, suite in SUITES.items():
        if isinstance(cls, type) and issubclass(cls, base):
            return suite(cls, export=export, **options)
    raise ConfigError(
        f"a component must be one of {sorted(base.__name__ for base in SUITES)} to be checked, but got {_name(cls)}"
    )


SUITES: dict[type, Callable[..., list[CheckResult]]] = {
    FusionOperation: check_fusion,
    Encoder: check_encoder,
    Loss: check_loss,
    Modality: check_modality,
    PretrainingObjective: check_objective,
    GenerativeAugmenter: check_generator,
}


def _name(cls: type) -> str:
    return str(getattr(cls, "kind", getattr(cls, "__name__", cls)))


def _check_streams(cls: Any, export: bool, options: Mapping[str, Any]) -> list[CheckResult]:
    cases, refused = component_cases(cls, **options)
    results = [CheckResult("inputs", "skipped", f"refused: {why}", label) for label, why in refused.items()]
    trained: set[str] = set()
    for case in cases:
        found = _run({**CHECKS, **(EXPORTED if export else {})}, case)
        idle = {name for result in found for name in result.idle}
        trained |= {name for name, _ in case.build().named_parameters()} - idle
        results += found
    return _finish(_name(cls), [_forgive(result, trained) for result in results])


def _forgive(result: CheckResult, trained: set[str]) -> CheckResult:
    """A parameter may be idle in one case (recurrence over a single step) if another trains it."""
    if not result.idle or not set(result.idle) <= trained:
        return result
    detail = f"idle here but trained in another case: {', '.join(result.idle)}"
    return replace(result, outcome="skipped", detail=detail)


def _run(checks: Mapping[Any, tuple[str, ...]], case: Any, fresh: bool = False) -> list[CheckResult]:
    """Run checks in order; those that train get a component of their own, and with ``fresh`` all do."""
    results: list[CheckResult] = []
    shared: list[Any] = []
    bad: dict[str, str] = {}  # what failed or could not be checked, and the failure behind it
    known = (*CHECKS, *EXPORTED, *LOSS, *sensors.CHECKS, *objectives.CHECKS, *generators.CHECKS)
    unknown = sorted(set(case.exempt) - {check.__name__ for check in known})
    if unknown:
        results.append(
            CheckResult("exemptions", "failed", f"an exemption must name a check, but got {unknown}", case.label)
        )
    for check, rests_on in checks.items():
        name = check.__name__
        missing = [other for other in rests_on if other in bad]
        if name in case.exempt:
            results.append(CheckResult(name, "exempt", case.exempt[name], case.label))
        elif missing:
            bad[name] = bad[missing[0]]
            results.append(CheckResult(name, "skipped", f"rests on {bad[name]}, which failed", case.label))
        else:
            result = _attempt(check, case, [] if fresh else shared)
            if result.outcome == "failed":
                bad[name] = name
            results.append(result)
    return results


def _attempt(check: Any, case: Any, shared: list[Any]) -> CheckResult:
    name = check.__name__
    try:
        if check in TRAIN:
            check(case, case.build())
        else:
            shared[:] = shared or [case.build()]
            check(case, shared[0])
    except NotApplicable as reason:
        return CheckResult(name, "skipped", str(reason), case.label)
    except IdleParameters as failure:
        return CheckResult(name, "failed", str(failure), case.label, failure.idle)
    except CheckFailed as failure:
        return CheckResult(name, "failed", str(failure), case.label)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's component throws is its failure, not ours
        lines = str(error).strip().splitlines() or [""]
        return CheckResult(name, "failed", f"raised {type(error).__name__}: {lines[0]}", case.label)
    return CheckResult(name, "passed", "", case.label)


def _finish(component: str, results: Sequence[CheckResult]) -> list[CheckResult]:
    if any(result.outcome == "failed" for result in results):
        raise ConformanceError(component, results)
    return list(results)
