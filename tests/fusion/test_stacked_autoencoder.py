"""Stacked auto-encoder: greedy layers, the principal subspace, missing sensors, sparse units."""

import math

import pytest
import torch

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Tokens
from fusionkit.fusion.operation import TrainingBatch
from fusionkit.fusion.stacked_autoencoder import StackedAutoEncoder, sparsity_penalty
from fusionkit.fusion.vectors import pool_streams


def stream(values, present=None):
    here = torch.ones(len(values), dtype=torch.bool) if present is None else present
    return Tokens(values[:, None], torch.ones(len(values), 1, dtype=torch.bool), here)


def latent_records(rows=200, widths=(6, 4), latent=2, seed=0):
    """Sensors that see one latent vector through mixtures of their own, with little noise."""
    g = torch.Generator().manual_seed(seed)
    mixes = [
        torch.randn(latent, width, generator=torch.Generator().manual_seed(7 + i)) for i, width in enumerate(widths)
    ]
    hidden = torch.randn(rows, latent, generator=g)
    return {f"s{i}": hidden @ mix + 0.05 * torch.randn(rows, mix.shape[1], generator=g) for i, mix in enumerate(mixes)}


def fitted(values, dim=3, **options):
    torch.manual_seed(0)
    made = StackedAutoEncoder({name: x.shape[1] for name, x in values.items()}, dim, None, **options)
    batch = TrainingBatch({name: stream(x) for name, x in values.items()}, {})
    with torch.no_grad():
        made.fit(lambda: [batch], torch.Generator().manual_seed(1))
    return made


def joint_of(made, values):
    return torch.cat(made.scale(pool_streams({name: stream(x) for name, x in values.items()}, values)), 1)


def test_widths_fall_geometrically_as_in_the_paper():
    made = StackedAutoEncoder({str(i): 512 for i in range(8)}, 512, None)
    assert [layer.encode.weight.shape[::-1] for layer in made.layers] == [(4096, 2048), (2048, 1024), (1024, 512)]


def test_matches_the_plain_formula():
    values = latent_records(rows=5)
    made = fitted(values, layers=2, epochs=2)
    out = made({name: stream(x) for name, x in values.items()})
    error = 0.0
    for row in range(5):
        blocks = []
        for x in values.values():
            spread = x.std(0, correction=0)
            blocks.append((x[row] - x.mean(0)) / spread / math.sqrt(x.shape[1]))
        wanted = torch.cat(blocks)
        code = wanted
        for layer in made.layers:
            code = torch.tanh(layer.encode.weight @ code + layer.encode.bias)
        torch.testing.assert_close(out.tokens.values[row, 0], code)
        for layer in list(made.layers)[::-1]:
            code = layer.back @ code + layer.offset
        error += ((code - wanted) ** 2).sum() / 2  # two sensors
    torch.testing.assert_close(out.auxiliary, 0.1 * error / 5)


def test_the_fit_of_every_layer_lowers_its_error_and_leaves_earlier_layers_alone(monkeypatch):
    seen = []
    real = StackedAutoEncoder._fit_layer

    def spied(self, layer, states, here, generator):
        def error():
            return (layer.decode(layer(states)) - states).square().mean().item()

        def weights():
            return [torch.cat([p.flatten() for p in one.parameters()]) for one in self.layers]

        before, first = weights(), error()
        real(self, layer, states, here, generator)
        changed = [not torch.equal(a, b) for a, b in zip(before, weights(), strict=True)]
        seen.append((error() / first, changed))

    monkeypatch.setattr(StackedAutoEncoder, "_fit_layer", spied)
    fitted(latent_records(), layers=3)
    assert [changed for _, changed in seen] == [[True, False, False], [False, True, False], [False, False, True]]
    assert all(ratio < 0.6 for ratio, _ in seen), seen


def test_a_linear_tied_layer_spans_the_principal_subspace():
    g = torch.Generator().manual_seed(3)
    values = {
        "s0": torch.randn(300, 5, generator=g) @ torch.randn(5, 5, generator=g),
        "s1": torch.randn(300, 3, generator=g),
    }
    made = fitted(values, dim=3, layers=1, activation="linear", tied=True, epochs=300, lr=5e-2)
    joint = joint_of(made, values).detach()
    principal = torch.linalg.svd(joint - joint.mean(0), full_matrices=False)[2][:3]
    learned = torch.linalg.qr(made.layers[0].encode.weight.T.detach())[0]
    cosines = torch.linalg.svdvals((principal @ learned).double()).clamp(max=1)
    assert cosines.min().arccos().item() < 1e-2


def test_the_denoising_variant_fills_in_an_absent_sensor():
    values, fresh = latent_records(), latent_records(seed=5)
    errors = {}
    for corruption in (0.0, 0.4):
        made = fitted(values, dim=3, layers=1, corruption=corruption, epochs=150, lr=0.03)
        wanted = joint_of(made, fresh)
        half = torch.cat([torch.zeros_like(wanted[:, :6]), wanted[:, 6:]], 1)
        rebuilt = made.decode(made.encode(half))
        errors[corruption] = (rebuilt - wanted)[:, :6].square().sum(1).mean().item()
    assert errors[0.4] < 0.1 and errors[0.0] > 0.2, errors  # the sensor's own mean square is 1


def test_more_sparsity_means_quieter_units_and_none_is_the_plain_auto_encoder():
    values = latent_records()
    activity, weights = [], []
    for weight in (0.0, 0.02, 0.2, 4.0):
        made = fitted(values, layers=1, activation="sigmoid", sparsity=weight, epochs=100, lr=0.05)
        activity.append(made.encode(joint_of(made, values)).mean().item())
        weights.append(made.layers[0].encode.weight.detach())
    assert activity == sorted(activity, reverse=True) and activity[-1] < 0.12 and activity[0] > 0.4
    torch.testing.assert_close(
        weights[0], fitted(values, layers=1, activation="sigmoid", epochs=100, lr=0.05).layers[0].encode.weight
    )


def test_sparsity_penalty_by_hand():
    assert sparsity_penalty(torch.full((4, 2), 0.5), 0.05).item() == pytest.approx(2 * 0.4946, abs=1e-3)
    assert sparsity_penalty(torch.full((4, 2), 0.05), 0.05).item() == pytest.approx(0, abs=1e-6)


def test_an_absent_sensor_is_zero_and_nothing_at_all_is_finite():
    values = latent_records(rows=3)
    made = fitted(values)
    nobody = torch.zeros(3, dtype=torch.bool)
    alone = made({"s0": stream(values["s0"]), "s1": stream(values["s1"] * torch.nan, nobody)})
    joint = joint_of(made, values)
    wanted = made.encode(torch.cat([joint[:, :6], torch.zeros(3, 4)], 1))
    torch.testing.assert_close(alone.tokens.values[:, 0], wanted)
    nothing = made({name: stream(x * torch.nan, nobody) for name, x in values.items()})
    assert nothing.auxiliary.item() == 0 and not nothing.tokens.values.any() and not nothing.tokens.present.any()


def test_the_target_of_the_reconstruction_gets_no_gradient():
    """Otherwise encoders could shrink what they are asked to keep."""
    values = {name: x.requires_grad_() for name, x in latent_records(rows=4).items()}
    made = fitted({name: x.detach() for name, x in values.items()}, layers=1, activation="linear", epochs=2)
    with torch.no_grad():
        for layer in made.layers:
            layer.encode.weight.zero_()
    made({name: stream(x) for name, x in values.items()}).auxiliary.backward()
    assert all(not x.grad.any() for x in values.values())


def test_sparsity_needs_units_between_zero_and_one():
    with pytest.raises(ConfigError, match="activation is 'tanh'"):
        StackedAutoEncoder({"a": 2}, 2, None, sparsity=0.1)
