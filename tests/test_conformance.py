"""The public suites over everything that is registered: a new component is tested by being there."""

from typing import Any

import pytest

from fusionkit.cli.conform import LIBRARIES, missing_library
from fusionkit.core import registry
from fusionkit.recipe.catalogue import load_sensors
from fusionkit.testing import (
    check_component,
    check_encoder,
    check_fusion,
    check_generator,
    check_loss,
    check_modality,
    check_objective,
)

SUITES = {"fusion": check_fusion, "encoders": check_encoder, "losses": check_loss, "modalities": check_modality}

# Options that change what is computed; each component is also checked as its signature has it.
VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("fusion", "concat", {"reduce": "linear", "components": 4}),
    ("fusion", "concat", {"reduce": "pca", "components": 4}),
    ("fusion", "concat", {"steps": 2, "indicate": False}),
    ("fusion", "rcft", {"layers": 2, "temporal": "lstm"}),
    ("fusion", "rcft", {"layers": 2, "tie_layers": True, "positions": "sinusoidal", "kv_groups": 1}),
    ("fusion", "rcft", {"layers": 1, "residual": "input", "temporal_residual": False, "positions": "none", "steps": 3}),
    ("fusion", "additive", {"rule": "sum", "steps": 2}),
    ("fusion", "tensor", {"width": 4}),
    ("fusion", "low_rank", {"init": "paper"}),
    ("fusion", "multiplicative", {"form": "vector"}),
    ("fusion", "multiplicative", {"form": "scalar"}),
    ("fusion", "gated", {"steps": 3}),
    ("fusion", "film", {"condition": "second"}),
    ("fusion", "central_net", {"steps": 3, "layers": 1}),
    ("fusion", "central_net", {"sensor_weight": 0.0}),
    (
        "fusion",
        "stacked_autoencoder",
        {"layers": 2, "tied": True, "activation": "sigmoid", "sparsity": 0.1, "epochs": 2},
    ),
    ("fusion", "stacked_autoencoder", {"layers": 1, "activation": "linear", "corruption": 0.3, "epochs": 2}),
    ("fusion", "bimodal_dbn", {"hidden": 5, "gibbs": 2, "epochs": 2, "finetune": 1}),
    ("fusion", "correlated_first", {"hold": 0.0, "ramp": 0.0, "components": 2, "epochs": 2}),
    ("fusion", "similarity_merge", {"layers": 3, "threshold": 0.01, "epochs": 2}),
    ("fusion", "granger_cluster", {"clusters": 2, "rate": 0.5, "hidden": 4}),
    ("fusion", "multi_scale", {"scales": 1}),
    ("fusion", "mult", {"layers": 1, "heads": 2}),
    ("fusion", "bottleneck", {"readout": "token", "share": True}),
    ("fusion", "bottleneck", {"layers": 2, "fusion_layer": 0, "readout": "token", "bottlenecks": 1}),
    ("fusion", "perceiver", {"layers": 2, "latents": 3}),
    ("encoders", "transformer", {"over": "channels"}),
    ("fusion", "vote", {"rule": "mean"}),
    ("fusion", "vote", {"rule": "product"}),
    ("fusion", "vote", {"rule": "learned"}),
    ("fusion", "vote", {"rule": "bayes"}),
    ("fusion", "vote", {"rule": "max"}),
    ("fusion", "vote", {"rule": "majority"}),
    ("modalities", "eeg", {"features": {"kind": "raw"}}),
    ("modalities", "eeg", {"features": {"kind": "dft", "step": 0.25, "measure": "relative_power"}}),
    ("modalities", "eeg", {"features": {"kind": "bandpass", "measure": "power"}}),
    ("modalities", "eeg", {"features": {"kind": "seed"}}),
    ("modalities", "eeg", {"features": {"kind": "ready"}}),
    ("modalities", "eeg", {"features": {"kind": "dft", "asymmetry": "dcau"}}),
    ("modalities", "eeg", {"features": {"kind": "ready", "asymmetry": "dcau"}}),
    ("losses", "negative_log_likelihood", {"label_smoothing": 0.2}),
]


def registered() -> list[tuple[str, str, dict[str, Any]]]:
    load_sensors()
    plain: list[tuple[str, str, dict[str, Any]]] = [
        (family, kind, {}) for family in SUITES for kind in registry.families[family].kinds()
    ]
    return plain + VARIANTS


def name(part: object) -> str:
    return ",".join(f"{key}={value}" for key, value in part.items()) if isinstance(part, dict) else str(part)


COMPONENTS = registered()


def skip_without_extra(family: str, kind: str) -> None:
    if missing_library(f"{family}.{kind}"):
        pytest.skip(f"{LIBRARIES[f'{family}.{kind}']} is not installed")


@pytest.mark.parametrize(("family", "kind", "options"), COMPONENTS, ids=name)
def test_conforms(family, kind, options):
    skip_without_extra(family, kind)
    results = SUITES[family](registry.families[family].get(kind), **options)
    passed = {result.name for result in results if result.outcome == "passed"}
    assert "runs" in passed and "row_independence" in passed
    exempt = {result.name: result.detail for result in results if result.outcome == "exempt"}
    assert all(exempt.values()), exempt


@pytest.mark.parametrize("kind", registry.objectives.kinds())
def test_objectives_conform(kind):
    results = check_objective(registry.objectives.get(kind))
    passed = {result.name for result in results if result.outcome == "passed"}
    assert {"trains_nothing_else", "absent_values_change_nothing", "state_is_whole"} <= passed
    exempt = {result.name: result.detail for result in results if result.outcome == "exempt"}
    assert all(exempt.values()), exempt


SMALL = {"hidden": 16, "width": 8}  # options that change how long a check takes and nothing else
GENERATORS: list[tuple[str, dict[str, Any]]] = [
    *(
        (kind, {option: SMALL[option] for option in SMALL if option in registry.generators.schema(kind).model_fields})
        for kind in registry.generators.kinds()
    ),
    ("gan", {"loss": "minimax", "critic_steps": 2, "hidden": 16, "average": 0.9}),
    ("cgan", {"spectral": True, "average": 0.9}),
    ("dcgan", {"width": 8, "spectral": True, "average": 0.9}),
    ("wgan_gp", {"hidden": 16, "spectral": True, "average": 0.9}),
    ("cwgan_gp", {"hidden": 16, "layers": 1, "spectral": True, "average": 0.9}),
    ("cvae", {"hidden": 16, "average": 0.9}),
    ("geometric_copies", {"mirror": True}),
]


@pytest.mark.parametrize(("kind", "options"), GENERATORS, ids=name)
def test_generators_conform(kind, options):
    results = check_generator(registry.generators.get(kind), **options)
    passed = {result.name for result in results if result.outcome == "passed"}
    assert {"makes_what_is_wanted", "repeats_by_seed", "state_is_whole", "heeds_classes"} <= passed
    trained = not registry.generators.get(kind).keeps_records
    assert ({"gradients_stay_home", "learns"} <= passed) is trained
    assert not [result for result in results if result.outcome == "exempt"]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind", "options"), [c for c in COMPONENTS if c[0] != "losses"], ids=name)
def test_exports(family, kind, options):
    skip_without_extra(family, kind)
    results = check_component(registry.families[family].get(kind), export=True, **options)
    done = {result.name for result in results if result.outcome in ("passed", "exempt")}
    assert {"torch_export", "onnx_export"} <= done


def test_every_registered_kind_is_its_classs_kind():
    for family, known in registry.families.items():
        for kind in known.kinds():
            assert known.get(kind).kind == kind, (family, kind)
            assert known.schema(kind) is not None
            assert (known.get(kind).__doc__ or "").strip(), f"{family}.{kind} has no docstring"
