"""Latent-space transfer against hand values and naive formulas; no gradient reaches what teaches."""

import numpy as np
import pytest
import torch

from fusionkit.core.errors import FusionkitError
from fusionkit.core.levels import Batch
from fusionkit.core.registry import objectives
from fusionkit.pretraining.latent_transfer import LatentTransfer, same_moments, same_place
from fusionkit.pretraining.objective import Given
from fusionkit.training.stage import StageObjective
from fusionkit.training.update import JointUpdate

ALL = torch.ones(2, dtype=torch.bool)


def test_hand_values() -> None:
    assert float(same_place(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]]), ALL[:1])) == 4
    spread, still = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]])
    assert float(same_moments(spread, still, ALL, ALL)) == 1
    assert float(same_moments(spread, still, ~ALL, ALL)) == 0 == float(same_place(spread, still, ~ALL))
    assert float(same_moments(spread, still, torch.tensor([True, False]), ALL)) == 0


def test_equals_naive_formulas_over_the_records_that_count() -> None:
    new, old = torch.randn(9, 4), torch.randn(9, 4)
    here, there = torch.rand(9) < 0.6, torch.rand(9) < 0.7
    both = [row for row in range(9) if here[row] and there[row]]
    plain = sum(float(((new[row] - old[row]) ** 2).sum()) for row in both) / len(both)
    assert float(same_place(new, old, here & there)) == pytest.approx(plain, rel=1e-5)
    one, other = new[here].numpy().astype(float), old[there].numpy().astype(float)
    covariances = [np.cov(part, rowvar=False, bias=True) for part in (one, other)]
    plain = ((one.mean(0) - other.mean(0)) ** 2).sum() + ((covariances[0] - covariances[1]) ** 2).sum()
    assert float(same_moments(new, old, here, there)) == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("loss", [same_place, same_moments])
def test_no_gradient_reaches_the_old_or_records_that_do_not_count(loss) -> None:
    new, old = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    here = torch.tensor([True, True, False, True, True])
    (loss(new, old, here) if loss is same_place else loss(new, old, here, here)).backward()
    assert old.grad is None and new.grad is not None
    assert not new.grad[2].any() and new.grad[here].any(1).all() and new.grad.isfinite().all()


def given(stage, *trained: str) -> Given:
    found = stage.given
    return Given(trained, found.dim, found.features, found.levels, found.windows)


def test_who_teaches_must_be_known_and_not_train(stage) -> None:
    picture = ("image_cnn", {"width": 8})
    made = stage(image=picture, eeg=("transformer", {"heads": 2}), photo=picture)
    assert LatentTransfer(given(made, "image", "photo")).teacher == "eeg"
    for trained, options, message in (
        (("image", "photo", "eeg"), {}, r"does not train, but got \[\]"),
        (("image",), {}, r"but got \['eeg', 'photo'\]"),
        (("image",), {"teacher": "image"}, "encoders has 'image'"),
        (("image",), {"teacher": "egg"}, "no sensor with an encoder named 'egg'"),
    ):
        with pytest.raises(FusionkitError, match=message):
            objectives.build("latent_transfer", options, given(made, *trained))


@pytest.mark.parametrize("match", ["records", "moments"])
def test_the_new_embedding_comes_to_the_old_one_which_keeps_every_bit(stage, match) -> None:
    made = stage(eeg=("transformer", {"heads": 2}), image=("image_cnn", {"width": 8}))
    transfer = StageObjective(made.model, {"t": LatentTransfer(given(made, "image"), match=match)}, [1.0], ["image"])
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    batch: Batch = made.batch(records=4)
    update = JointUpdate(transfer, transfer, weight_decay=0.0, clip=None, precision=None, device=torch.device("cpu"))
    transfer.train()
    losses = [float(update(batch, torch.Generator().manual_seed(0), 3e-3)) for _ in range(150)]
    assert losses[-1] < 0.1 * losses[0]
    after = made.model.state_dict()
    moved = {name.split(".")[1] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"image"}
