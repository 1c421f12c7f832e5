"""What every encoder of features must keep: rows apart, padding and absence without effect, gradients everywhere."""

import numpy as np
import pytest
import torch

from fusionkit.core.levels import Features, FeatureShape
from fusionkit.core.registry import encoders

KINDS = [
    ("shie", {}),
    ("shie", {"share_subchannel": False, "residual": False}),
    ("mlp", {"hidden": 12}),
    ("transformer", {"inner": 3}),
    ("transformer", {"embedding": "linear", "causal": True, "layers": 1}),
    ("gru", {}),
    ("gru", {"layers": 2}),
]
SHAPE = FeatureShape(channel=3, subchannel=2)


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join([kind[0], *kind[1]]))
def encoder(request):
    kind, options = request.param
    return encoders.build(kind, options, SHAPE, 8).eval()


def features(batch=4, time=6):
    mask = torch.ones(batch, time, dtype=torch.bool)
    mask[1, 4:] = False
    present = torch.ones(batch, dtype=torch.bool)
    present[2] = False
    seconds = torch.arange(time, dtype=torch.float32).expand(batch, time)
    return Features(torch.randn(batch, time, 3, 2), mask, present, seconds)


def rows(stream, index):
    return Features(*(None if x is None else x[index] for x in stream))


def test_a_token_per_step(encoder):
    batch = features()
    tokens = encoder(batch)
    assert tokens.values.shape == (4, 6, 8)
    assert torch.equal(tokens.time, batch.time)
    assert tokens.mask.sum(1).tolist() == [6, 4, 0, 6]
    assert (tokens.values[~tokens.mask] == 0).all()
    assert (tokens.values[tokens.mask] != 0).any(-1).all()
    assert encoder(batch._replace(time=None)).time is None


def test_rows_do_not_meet(encoder):
    batch = features()
    together = encoder(batch).values
    for i in range(4):
        torch.testing.assert_close(encoder(rows(batch, slice(i, i + 1))).values, together[i : i + 1], atol=1e-5, rtol=0)
    turned = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(encoder(rows(batch, turned)).values, together[turned], atol=1e-5, rtol=0)


def test_padding_changes_nothing(encoder):
    batch = features()
    short = encoder(rows(batch, slice(1, 2))).values[:, :4]
    cut = Features(batch.values[1:2, :4], batch.mask[1:2, :4], batch.present[1:2], batch.time[1:2, :4])
    torch.testing.assert_close(encoder(cut).values, short, atol=1e-5, rtol=0)


@pytest.mark.parametrize("garbage", [0.0, 1e4, float("nan"), float("inf")])
def test_what_is_not_real_changes_no_bit(encoder, garbage):
    batch = features()
    real = (batch.mask & batch.present[:, None])[..., None, None]
    dirty = batch._replace(values=torch.where(real, batch.values, garbage))
    assert torch.equal(encoder(dirty).values, encoder(batch).values)


def test_gradients_reach_every_parameter_and_every_real_value(encoder):
    batch = features()
    real = batch.mask & batch.present[:, None]
    values = torch.where(real[..., None, None], batch.values, torch.nan).requires_grad_()
    encoder.train()
    for dropout in encoder.modules():
        if isinstance(dropout, torch.nn.Dropout):
            dropout.p = 0.0
    (encoder(batch._replace(values=values)).values * torch.randn(4, 6, 8)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 1e-6, name
    assert (values.grad[~real] == 0).all()
    assert (values.grad[real] != 0).all()


def test_nothing_present_is_zeros(encoder):
    batch = features()._replace(present=torch.zeros(4, dtype=torch.bool))
    tokens = encoder(batch)
    assert (tokens.values == 0).all() and not tokens.mask.any()


def test_dropout_is_for_training(encoder):
    batch = features()
    encoder.train()
    assert not torch.equal(encoder(batch).values, encoder(batch).values)
    encoder.eval()
    assert torch.equal(encoder(batch).values, encoder(batch).values)


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in KINDS}))
def test_weights_come_from_torchs_generator(kind):
    made = []
    for _ in range(2):
        torch.manual_seed(7)
        made.append(encoders.build(kind, {}, SHAPE, 8).state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(encoder, dtype):
    batch = features()
    want = encoder(batch).values
    got = encoder.to(dtype)(batch._replace(values=batch.values.to(dtype))).values
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), want, atol=0.1 if dtype == torch.bfloat16 else 1e-5, rtol=0.1)


class Flat(torch.nn.Module):
    """Exporters take tensors."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, values, mask, present):
        tokens = self.encoder(Features(values, mask, present))
        return tokens.values, tokens.mask


@pytest.mark.slow
def test_exports_with_free_batch_and_time(encoder, tmp_path):
    import onnxruntime

    module, batch = Flat(encoder), features(3, 6)
    example = (batch.values, batch.mask, batch.present)
    free = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("time", min=2)}
    program = torch.export.export(module, example, dynamic_shapes=(free, free, {0: free[0]}))
    path = tmp_path / "encoder.onnx"
    torch.onnx.export(program, dynamo=True, opset_version=20, verbose=False).save(path)
    session = onnxruntime.InferenceSession(path)
    for size in ((5, 9), (3, 2)):
        other = features(*size)
        other = (other.values, other.mask, other.present)
        want = [x.detach() for x in module(*other)]
        for got in (program.module()(*other), session.run(None, _feed(session, other))):
            np.testing.assert_allclose(torch.as_tensor(got[0]).detach(), want[0], atol=1e-5)
            assert (np.asarray(got[1]) == want[1].numpy()).all()


def _feed(session, values):
    return dict(zip([x.name for x in session.get_inputs()], (x.numpy() for x in values), strict=True))


STEPWISE = [
    *(kind for kind in KINDS if kind[0] in ("shie", "mlp")),
    ("dgcnn", {}),
    ("transformer", {"over": "channels"}),
]


@pytest.mark.parametrize(("kind", "options"), STEPWISE)
def test_stepwise_encoders_make_the_same_token_of_a_step_alone(kind, options):
    encoder, batch = encoders.build(kind, options, SHAPE, 8).eval(), features()
    assert encoder.stepwise
    whole = encoder(batch).values
    for step in range(6):
        here = slice(step, step + 1)
        alone = Features(batch.values[:, here], batch.mask[:, here], batch.present, None)
        torch.testing.assert_close(encoder(alone).values, whole[:, here], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("kind", "options"), [("transformer", {}), ("transformer", {"causal": True}), ("cnn", {})])
def test_encoders_whose_steps_see_each_other_are_not_stepwise(kind, options):
    assert not encoders.build(kind, options, SHAPE, 8).stepwise
