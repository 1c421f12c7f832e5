"""Concat: hand values, the PCA against its definition, and what absence, padding and batches may not change."""

import copy
import io

import pytest
import torch

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import Features, FeatureShape
from fusionkit.fusion.concat import Concat, PrincipalComponents, Scatter

NAN = float("nan")
SHAPES = {
    "eeg": FeatureShape(3, 2),
    "image": FeatureShape(1, 2, steps=4, timed=False),
    "text": FeatureShape(5, 1, timed=False),
}
VARIANTS = [{}, {"reduce": "linear", "components": 3}, {"reduce": "pca", "components": 3}, {"indicate": False}]


def stream(values, time=None, mask=None, present=None):
    batch, steps = values.shape[:2]
    return Features(
        values,
        torch.ones(batch, steps, dtype=torch.bool) if mask is None else mask,
        torch.ones(batch, dtype=torch.bool) if present is None else present,
        None if time is None else time.expand(batch, -1),
    )


def make_batch(batch=5, seed=0, steps=7, words=3):
    g = torch.Generator().manual_seed(seed)
    time = (torch.arange(steps) + 0.5) / steps * 2.0
    return {
        "eeg": stream(torch.randn(batch, steps, 3, 2, generator=g), time),
        "image": stream(torch.randn(batch, 4, 1, 2, generator=g)),
        "text": stream(torch.randn(batch, words, 5, 1, generator=g)),
    }


def make(options, shapes=SHAPES, duration=2.0):
    torch.manual_seed(1)
    made = Concat(shapes, duration, steps=3, **options)
    made.fit(lambda: (make_batch(seed=seed) for seed in range(10, 14)), torch.Generator())
    return made.eval()


def test_values_by_hand():
    """Two sensors, two bins: means of bins, a repeated vector, then one indicator per sensor."""
    eeg = stream(torch.tensor([[[[1.0]], [[3.0]], [[7.0]]]]), torch.tensor([[0.1, 0.2, 0.9]]))
    vector = stream(torch.tensor([[[[5.0], [6.0]]]]))
    shapes = {"eeg": FeatureShape(1, 1), "vector": FeatureShape(2, 1, timed=False)}
    made = Concat(shapes, 1.0, steps=2)
    joint = made({"eeg": eeg, "vector": vector})
    assert joint.values[..., 0].tolist() == [[[2.0, 5.0, 6.0, 1.0, 1.0], [7.0, 5.0, 6.0, 1.0, 1.0]]]
    assert joint.time.tolist() == [[0.25, 0.75]]
    assert made.shape == FeatureShape(5, 1, steps=2, timed=True, trains=False)
    gone = made({"eeg": eeg._replace(present=torch.tensor([False])), "vector": vector})
    assert gone.values[..., 0].tolist() == [[[0.0, 5.0, 6.0, 0.0, 1.0]] * 2]
    assert gone.present.all()


def test_without_a_clock_there_is_one_step():
    shapes = {"image": SHAPES["image"], "text": SHAPES["text"]}
    made = Concat(shapes, None, steps=3)
    batch = make_batch()
    joint = made({name: batch[name] for name in shapes})
    assert joint.values.shape == (5, 1, 8 + 5 + 2, 1)
    assert joint.time is None
    assert made.shape == FeatureShape(15, 1, steps=1, timed=False)


@pytest.mark.parametrize("options", VARIANTS)
def test_what_comes_out_has_the_announced_shape(options):
    made = make(options)
    joint = made(make_batch())
    assert joint.values.shape == (5, made.shape.steps, made.shape.channel, made.shape.subchannel)
    assert made.shape.trains == (options.get("reduce") == "linear")


def test_pca_of_rank_k_data_gives_the_data_back():
    g = torch.Generator().manual_seed(0)
    data = torch.randn(60, 3, generator=g) @ torch.randn(3, 9, generator=g) + 5.0
    pca = PrincipalComponents(9, 3)
    rows = Scatter(9)
    for part in data.split(7):
        rows.add(part)
    pca.fit(rows)
    pca.double()
    back = pca(data.double()) @ pca.components.T + pca.mean
    torch.testing.assert_close(back, data.double(), atol=1e-6 * data.abs().max().item(), rtol=0)
    smaller = PrincipalComponents(9, 2)
    smaller.fit(rows)
    assert (smaller(data) @ smaller.components.T + smaller.mean - data).abs().max() > 0.1


def test_pca_equals_the_singular_vectors_of_all_rows_at_once():
    data = torch.randn(50, 6, dtype=torch.float64) * torch.arange(1, 7) + 100
    rows = Scatter(6)
    for part in data.split([1, 20, 0, 29]):
        rows.add(part)
    pca = PrincipalComponents(6, 4).double()
    pca.fit(rows)
    _, _, v = torch.linalg.svd(data - data.mean(0))
    signs = v[:4].gather(1, v[:4].abs().argmax(1, keepdim=True)).sign()
    torch.testing.assert_close(pca.components, (v[:4] * signs).T)
    torch.testing.assert_close(pca.mean, data.mean(0))
    assert rows.count == int(pca.count) == 50


def test_pca_by_hand():
    rows = Scatter(2)
    rows.add(torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    pca = PrincipalComponents(2, 1)
    pca.fit(rows)
    torch.testing.assert_close(
        pca(torch.tensor([[0.0, 0.0], [2.0, 2.0]])).flatten(), torch.tensor([-1.0, 1.0]) * 2**0.5
    )


def test_the_fused_pca_sees_real_bins_of_training_records_only():
    made = make({"reduce": "pca", "components": 6})
    batches = [make_batch(seed=seed) for seed in range(10, 14)]
    text = torch.cat([batch["text"].values.mean(1)[..., 0] for batch in batches])
    torch.testing.assert_close(made.reducers[2].mean, text.mean(0))
    assert int(made.reducers[2].count) == 20
    assert int(made.reducers[0].count) == 60

    def spoilt():
        for batch in batches:
            eeg = batch["eeg"]
            more = torch.full_like(eeg.values[:2], NAN)
            values = torch.cat([eeg.values, more])
            present = torch.tensor([True] * 5 + [False] * 2)
            rest = {name: stream(torch.cat([batch[name].values, batch[name].values[:2]])) for name in ("image", "text")}
            yield {"eeg": stream(values, eeg.time[:1], present=present), **rest}

    other = Concat(SHAPES, 2.0, steps=3, reduce="pca", components=6)
    other.fit(spoilt, torch.Generator())
    assert torch.equal(other.reducers[0].components, made.reducers[0].components)


def test_a_pca_refuses_features_that_train_and_names_the_sensor():
    shapes = {**SHAPES, "text": FeatureShape(5, 1, timed=False, trains=True)}
    with pytest.raises(ConfigError, match="'text'"):
        Concat(shapes, 2.0, reduce="pca")
    assert Concat(shapes, 2.0).shape.trains


def test_a_pca_must_be_fitted_first_and_a_state_brings_its_fit():
    fresh = Concat(SHAPES, 2.0, steps=3, reduce="pca", components=3)
    with pytest.raises(ConfigError, match="fitted"):
        fresh(make_batch())
    fitted = make({"reduce": "pca", "components": 3})
    file = io.BytesIO()
    torch.save(fitted.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file))
    batch = make_batch()
    assert torch.equal(fresh(batch).values, fitted(batch).values)
    assert torch.equal(copy.deepcopy(fitted)(batch).values, fitted(batch).values)
    fresh.load_state_dict(Concat(SHAPES, 2.0, steps=3, reduce="pca", components=3).state_dict())
    with pytest.raises(ConfigError, match="fitted"):
        fresh(batch)


def test_a_sensor_that_no_training_record_has_is_named():
    batch = make_batch()
    batch["text"] = batch["text"]._replace(present=torch.zeros(5, dtype=torch.bool))
    with pytest.raises(DataError, match="'text'"):
        Concat(SHAPES, 2.0, reduce="pca").fit(lambda: [batch], torch.Generator())


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("gone", [("eeg",), ("image", "text"), ("eeg", "image", "text")])
def test_absent_values_change_no_bit(options, gone):
    made = make(options)
    outcomes = []
    for filling in (0.0, 7.0, NAN):
        batch = make_batch()
        for name in gone:
            values = batch[name].values.clone()
            values[2] = filling
            batch[name] = batch[name]._replace(values=values, present=torch.arange(5) != 2)
        outcomes.append(made(batch))
    for other in outcomes[1:]:
        assert torch.equal(outcomes[0].values, other.values)
        assert torch.equal(outcomes[0].mask, other.mask)
    assert outcomes[0].values.isfinite().all()
    assert outcomes[0].present[2] == (len(gone) < 3)
    if len(gone) == 3:
        assert outcomes[0].values[2].abs().sum() == 0
        assert not outcomes[0].mask[2].any()


@pytest.mark.parametrize("options", VARIANTS)
def test_padding_changes_nothing(options):
    made = make(options)
    batch = make_batch()
    plain = made(batch)
    for name in ("eeg", "text"):
        part = batch[name]
        pad = torch.full((5, 2, *part.values.shape[2:]), NAN)
        mask = torch.cat([part.mask, torch.zeros(5, 2, dtype=torch.bool)], 1)
        time = None if part.time is None else torch.cat([part.time, torch.full((5, 2), 1.99)], 1)
        batch[name] = Features(torch.cat([part.values, pad], 1), mask, part.present, time)
    torch.testing.assert_close(made(batch).values, plain.values)
    assert torch.equal(made(batch).mask, plain.mask)


@pytest.mark.parametrize("options", VARIANTS)
def test_rows_do_not_know_each_other(options):
    made = make(options)
    batch = make_batch()
    whole = made(batch)
    order = torch.tensor([3, 0, 4, 2, 1])
    for rows in [order, *torch.arange(5)[:, None]]:
        part = made({name: Features(*(None if x is None else x[rows] for x in f)) for name, f in batch.items()})
        torch.testing.assert_close(part.values, whole.values[rows])


def test_gradients_reach_every_present_input_and_no_absent_one():
    made = make({"reduce": "linear", "components": 3}).train()
    batch = make_batch()
    for name, part in batch.items():
        values = part.values.clone()
        values[0] = NAN
        batch[name] = part._replace(values=values.requires_grad_(), present=torch.arange(5) > 0)
    made(batch).values.square().sum().backward()
    for part in batch.values():
        assert part.values.grad[0].abs().sum() == 0
        assert part.values.grad[1:].abs().sum() > 0
    for parameter in made.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


def test_options_come_from_the_registry():
    made = registry.fusion.build("concat", {"steps": "2", "reduce": "linear"}, SHAPES, 2.0)
    assert made.steps == 2
    with pytest.raises(ConfigError, match="did you mean 'components'"):
        registry.fusion.build("concat", {"component": 2}, SHAPES, 2.0)


class Flat(torch.nn.Module):
    """Positional tensors, as an exported graph has them."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def forward(self, eeg, time, eeg_present, image, text, text_mask):
        everyone = torch.ones_like(eeg_present)
        joint = self.operation(
            {
                "eeg": Features(eeg, torch.ones_like(time, dtype=torch.bool), eeg_present, time),
                "image": Features(image, torch.ones_like(image[:, :, 0, 0], dtype=torch.bool), everyone),
                "text": Features(text, text_mask, everyone),
            }
        )
        return joint.values, joint.mask


def flat(batch):
    eeg, image, text = batch.values()
    present = torch.arange(len(eeg.present)) != 1
    return eeg.values, eeg.time.contiguous(), present, image.values, text.values, text.mask


def dynamic():
    batch, time, token = (torch.export.Dim(name, min=2, max=4096) for name in ("batch", "time", "token"))
    b = {0: batch}
    return ({0: batch, 1: time}, {0: batch, 1: time}, b, b, {0: batch, 1: token}, {0: batch, 1: token})


@pytest.mark.parametrize("options", [{"reduce": "linear"}, {"reduce": "pca"}])
def test_exports_with_any_batch_and_length(options):
    made = Flat(make(options)).eval()
    program = torch.export.export(made, flat(make_batch(4)), dynamic_shapes=dynamic())
    other = flat(make_batch(7, steps=11, words=6))
    for got, expected in zip(program.module()(*other), made(*other), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:# The axis name:UserWarning")
@pytest.mark.parametrize("options", [{"reduce": "linear"}, {"reduce": "pca"}, {}])
def test_onnx_agrees(options):
    onnxruntime = pytest.importorskip("onnxruntime")
    made = Flat(make(options)).eval()
    program = torch.onnx.export(made, flat(make_batch(4)), dynamo=True, opset_version=20, dynamic_shapes=dynamic())
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    other = flat(make_batch(7, steps=11, words=6))
    feed = {slot.name: x.numpy() for slot, x in zip(session.get_inputs(), other, strict=True)}
    for got, expected in zip(session.run(None, feed), made(*other), strict=True):
        torch.testing.assert_close(torch.as_tensor(got), expected, atol=1e-5, rtol=1e-4)
