"""The subject adversary: its reversal, its schedule, and that it takes the subject out of a readout."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fusionkit.core.errors import ConfigError
from fusionkit.heads.adversary import SubjectAdversary, reverse, strength


def test_the_schedule():
    wanted = {0.0: 0.0, 0.1: 2 / (1 + math.exp(-1)) - 1, 0.5: 0.98661, 1.0: 0.99991}
    for progress, value in wanted.items():
        assert strength(torch.tensor(progress)).item() == pytest.approx(value, abs=5e-6)


def test_reversal_keeps_values_and_turns_gradients():
    x = torch.randn(3, 2, requires_grad=True)
    y = reverse(x, torch.tensor(0.25))
    assert torch.equal(y, x)
    (y * torch.arange(6.0).reshape(3, 2)).sum().backward()
    torch.testing.assert_close(x.grad, -0.25 * torch.arange(6.0).reshape(3, 2))


def test_the_head_itself_learns_forwards():
    adversary = SubjectAdversary(["fused"], 4, ["a", "b"], steps=10)
    adversary.done += 10
    x = torch.randn(6, 4, requires_grad=True)
    guess = adversary({"fused": x})["fused"]
    plain = adversary.heads[0](x).log_softmax(-1)
    torch.testing.assert_close(guess, plain)
    parameters = list(adversary.parameters())
    forwards = torch.autograd.grad(plain[:, 0].sum(), [*parameters, x])
    backwards = torch.autograd.grad(guess[:, 0].sum(), [*parameters, x])
    for one, other in zip(forwards[:-1], backwards[:-1], strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(backwards[-1], -strength(torch.tensor(1.0)) * forwards[-1])


def test_steps_count_in_training_only_and_are_kept():
    adversary = SubjectAdversary(["fused"], 4, ["a", "b"], steps=10)
    adversary.eval()({"fused": torch.randn(2, 4)})
    assert adversary.done == 0
    adversary.train()({"fused": torch.randn(2, 4)})
    assert adversary.state_dict()["done"] == 1


def test_one_subject_is_nobody_to_tell_apart():
    with pytest.raises(ConfigError, match="a task must have 2 classes or more"):
        SubjectAdversary(["fused"], 4, ["a"], steps=10)


def test_while_the_head_learns_the_subject_what_feeds_it_unlearns_it():
    """A step of the head lowers its loss, a step of the trunk raises it, from one backward pass."""
    torch.manual_seed(0)
    subject = torch.arange(64) % 2
    x = torch.randn(64, 3) + 2.0 * subject[:, None]
    trunk, adversary = nn.Linear(3, 4), SubjectAdversary(["fused"], 4, ["a", "b"], steps=1)
    adversary.task.fit(subject.numpy().astype(np.float32), "subject")
    adversary.done += 1

    def loss():
        total, count = adversary.task.loss(adversary({"fused": trunk(x)})["fused"], subject.float())
        return total / count

    before = loss()
    before.backward()
    for part, rises in ((trunk, True), (adversary, False)):
        kept = [parameter.clone() for parameter in part.parameters()]
        with torch.no_grad():
            for parameter in part.parameters():
                parameter -= 0.01 * parameter.grad
            assert (loss() > before) == rises
            for parameter, old in zip(part.parameters(), kept, strict=True):
                parameter.copy_(old)
