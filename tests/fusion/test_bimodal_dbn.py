"""Bimodal DBN: what the stages leave behind, reconstruction with a sensor missing, any number of sensors."""

import pytest
import torch

from fusionkit.core.levels import Tokens
from fusionkit.fusion.bimodal_dbn import BimodalDBN
from fusionkit.fusion.operation import TrainingBatch
from fusionkit.fusion.vectors import pool_streams


def stream(values, present=None):
    here = torch.ones(len(values), dtype=torch.bool) if present is None else present
    return Tokens(values[:, None], torch.ones(len(values), 1, dtype=torch.bool), here)


def records(seed=0, rows=300, widths=(5, 4)):
    """One hidden vector of three numbers seen by every sensor."""
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, 3, generator=g)
    mixes = [torch.randn(3, width, generator=torch.Generator().manual_seed(3 + i)) for i, width in enumerate(widths)]
    return {f"s{i}": hidden @ mix + 0.1 * torch.randn(rows, mix.shape[1], generator=g) for i, mix in enumerate(mixes)}


def fitted(values, dim=6, seed=0, fit=True, **options):
    torch.manual_seed(seed)
    made = BimodalDBN({name: x.shape[1] for name, x in values.items()}, dim, None, hidden=8, **options)
    if fit:
        batch = TrainingBatch({name: stream(x) for name, x in values.items()}, {})
        with torch.no_grad():
            made.fit(lambda: [batch], torch.Generator().manual_seed(1))
    return made


def blocks_of(made, values):
    vectors = pool_streams({name: stream(x) for name, x in values.items()}, values)
    return made.standardise(vectors), vectors.here


def errors(made, values, hide=None):
    """Mean square error of each sensor's standardised vector; 1 is what the mean would do."""
    blocks, here = blocks_of(made, values)
    kept = here.clone()
    if hide is not None:
        kept[:, hide] = False
    with torch.no_grad():
        found = made.decode(made.encode(blocks, kept))
    return [(a - b).square().mean().item() for a, b in zip(found, blocks, strict=True)]


def test_decoders_start_as_the_transposed_encoders():
    made = fitted(records(), finetune=0, epochs=3)
    for encoder, decoder in zip(made.encoders, made.decoders, strict=True):
        assert torch.equal(encoder.weight, decoder.weight.T)
    assert torch.equal(made.top.weight, made.unfold.weight.T)
    tuned = fitted(records(), finetune=2, epochs=3)
    assert not torch.equal(tuned.top.weight, tuned.unfold.weight.T)


def test_fine_tuning_lowers_the_error():
    values, fresh = records(), records(seed=8)
    before = sum(errors(fitted(values, finetune=0), fresh))
    after = sum(errors(fitted(values, finetune=40), fresh))
    assert after < 0.8 * before, (before, after)


def test_an_absent_sensor_is_rebuilt_from_the_other():
    values, fresh = records(), records(seed=8)
    made = fitted(values, finetune=150, corruption=0.4)
    assert errors(made, fresh, hide=0)[0] < 0.5
    assert errors(made, fresh, hide=1)[1] < 0.5


def test_matches_the_plain_formula():
    values = records(rows=4)
    made = fitted(values, epochs=2, finetune=1)
    out = made({name: stream(x) for name, x in values.items()})
    error = torch.zeros(())
    for row in range(4):
        x = [(one[row] - one.mean(0)) / one.std(0, correction=0) for one in values.values()]
        h = [torch.sigmoid(e.weight @ part + e.bias) for e, part in zip(made.encoders, x, strict=True)]
        z = torch.sigmoid(made.top.weight @ torch.cat(h) + made.top.bias)
        torch.testing.assert_close(out.tokens.values[row, 0], z)
        back = torch.sigmoid(made.unfold.weight @ z + made.unfold.bias).split(8)
        for decoder, part, wanted in zip(made.decoders, back, x, strict=True):
            error = error + (decoder.weight @ part + decoder.bias - wanted).square().mean() / 2
    torch.testing.assert_close(out.auxiliary, 0.1 * error / 4)


@pytest.mark.parametrize("widths", [(3,), (3, 4, 5, 2)])
def test_any_number_of_sensors(widths):
    values = records(rows=40, widths=widths)
    made = fitted(values, epochs=2, finetune=1)
    nobody = torch.zeros(40, dtype=torch.bool)
    out = made({name: stream(x * torch.nan, nobody) if i else stream(x) for i, (name, x) in enumerate(values.items())})
    assert out.tokens.values.shape == (40, 1, 6) and out.tokens.values.isfinite().all()


def test_a_record_without_a_sensor_does_not_teach_its_machine():
    values = records(rows=60)
    whole = fitted({name: x[:30] for name, x in values.items()}, epochs=2, finetune=0)
    torch.manual_seed(0)
    partial = BimodalDBN({name: x.shape[1] for name, x in values.items()}, 6, None, hidden=8, epochs=2, finetune=0)
    here = torch.arange(60) < 30
    batch = TrainingBatch({"s0": stream(values["s0"] * 1.0, here), "s1": stream(values["s1"])}, {})
    with torch.no_grad():
        partial.fit(lambda: [batch], torch.Generator().manual_seed(1))
    torch.testing.assert_close(partial.encoders[0].weight, whole.encoders[0].weight)
