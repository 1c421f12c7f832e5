"""The proportional-odds head against its definition, in float64 and at extremes."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import heads
from fusionkit.heads.ordinal import Ordinal, OrdinalHead


def exact(score, thresholds, mp):
    """Log-probabilities by differences of cumulative logits, with 60 digits."""
    cumulative = [mp.mpf(0), *[1 / (1 + mp.exp(score - t)) for t in thresholds], mp.mpf(1)]
    return [float(mp.log(high - low)) for low, high in pairwise(cumulative)]


def reference(head, readout):
    """The definition in plain float64: fine where nothing is extreme."""
    score = readout.double() @ head.linear.weight.double()[0]
    gaps = torch.log1p(torch.exp(head.increments.double()))
    cuts = torch.cat([head.first.double(), gaps]).cumsum(0)
    cumulative = torch.sigmoid(cuts - score[:, None])
    ends = torch.ones(len(score), 1, dtype=torch.float64)
    cumulative = torch.cat([0 * ends, cumulative, ends], 1)
    return cumulative.diff(dim=1).log()


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_matches_the_definition(classes):
    head = OrdinalHead(6, classes)
    with torch.no_grad():
        head.increments += torch.randn(classes - 2)
    readout = torch.randn(7, 6)
    torch.testing.assert_close(head(readout).double(), reference(head, readout), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3, 1e6])
def test_float32_is_as_good_as_float64_at_extreme_scores(scale):
    head = OrdinalHead(1, 4)
    with torch.no_grad():
        head.linear.weight.fill_(1.0)
        head.increments.copy_(torch.tensor([-12.0, 3.0]))
    readout = torch.tensor([[-1.0], [-0.5], [0.0], [0.25], [1.0]]) * scale
    single = head(readout)
    single.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())
    double = OrdinalHead(1, 4).double()
    double.load_state_dict({k: v.double() for k, v in head.state_dict().items()})
    torch.testing.assert_close(single.double(), double(readout.double()), atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(single.exp().sum(1), torch.ones(5))


def test_values_by_sixty_digits_where_plain_differences_lose_everything():
    mpmath = pytest.importorskip("mpmath")  # comes with torch
    mpmath.mp.dps = 60
    head = OrdinalHead(1, 4)
    with torch.no_grad():
        head.linear.weight.fill_(1.0)
        head.increments.copy_(torch.tensor([-20.0, 2.0]))
    first = mpmath.mpf(head.first.item())
    gaps = [mpmath.log(1 + mpmath.exp(mpmath.mpf(d))) for d in head.increments.tolist()]
    cuts = [first, first + gaps[0], first + gaps[0] + gaps[1]]
    for score in (-80.0, -3.0, 0.0, 50.0, 90.0):
        ours = head(torch.tensor([[score]]))[0].tolist()
        assert ours == pytest.approx(exact(mpmath.mpf(score), cuts, mpmath), rel=1e-5, abs=1e-6)


def test_a_zero_readout_makes_all_classes_equally_likely_at_the_start():
    for classes in (2, 3, 7):
        decision = OrdinalHead(4, classes)(torch.zeros(1, 4))
        torch.testing.assert_close(decision.exp(), torch.full((1, classes), 1 / classes))
    torch.testing.assert_close(OrdinalHead(4, 3).thresholds.detach(), torch.tensor([-math.log(2), math.log(2)]))


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_thresholds_are_in_order_whatever_the_increments(increments):
    head = OrdinalHead(2, len(increments) + 2)
    with torch.no_grad():
        head.increments.copy_(torch.tensor(increments))
        head.linear.weight.normal_(generator=torch.Generator().manual_seed(0))
    assert (head.thresholds.diff() >= 0).all()
    torch.testing.assert_close(head(torch.randn(3, 2)).exp().sum(1), torch.ones(3))


def test_odds_are_proportional():
    """A step in the score shifts every cumulative logit by the same amount."""
    head = OrdinalHead(1, 5).double()
    with torch.no_grad():
        head.linear.weight.fill_(1.0)
    cumulative = head(torch.tensor([[0.3], [1.0]], dtype=torch.float64)).exp().cumsum(1)[:, :-1]
    torch.testing.assert_close(
        cumulative.logit()[0] - cumulative.logit()[1], torch.full((4,), 0.7, dtype=torch.float64)
    )


def test_the_head_learns_ordered_classes():
    """Made data from the model itself: weights and thresholds come back."""
    generator = torch.Generator().manual_seed(5)
    readout = torch.randn(4000, 2, generator=generator)
    noise = torch.rand(4000, generator=generator).logit()
    latent = readout @ torch.tensor([2.0, -1.0]) + noise
    truth = torch.bucketize(latent, torch.tensor([-1.0, 0.5, 2.0]))
    task = Ordinal(classes=["a", "b", "c", "d"])
    task.fit(truth.numpy().astype(float), "level")
    head = task.head(2)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=60)

    def closure():
        optimiser.zero_grad()
        loss, weight = task.loss(head(readout), truth.float())
        (loss / weight).backward()
        return loss / weight

    optimiser.step(closure)
    torch.testing.assert_close(head.linear.weight.detach()[0], torch.tensor([2.0, -1.0]), atol=0.15, rtol=0)
    torch.testing.assert_close(head.thresholds.detach(), torch.tensor([-1.0, 0.5, 2.0]), atol=0.15, rtol=0)


def test_classes_must_be_listed():
    with pytest.raises(ConfigError, match=r"heads\.ordinal\.classes: must be given"):
        heads.build("ordinal", {})


def test_labels_keep_the_listed_order():
    task = Ordinal(classes=["mild", "strong", "awful"])
    task.learn(["strong", None], "pain")
    np.testing.assert_array_equal(task.encode(["awful", "mild", None], "pain"), [2, 0, np.nan])


def test_missing_labels_contribute_exactly_nothing():
    task = Ordinal(classes=["a", "b", "c"])
    task.fit(np.array([0, 1, 2.0]), "level")
    head = task.head(3)
    loss, weight = task.loss(head(torch.randn(4, 3)), torch.full((4,), torch.nan))
    loss.backward()
    assert (loss.item(), weight.item()) == (0, 0)
    assert all((p.grad == 0).all() for p in head.parameters())
