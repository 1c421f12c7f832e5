"""The subject adversary: its reversal, its schedule, and that it takes the subject out of a readout."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Batch
from fusionkit.fusion.model import Output
from fusionkit.heads.adversary import SUBJECT, SubjectAdversary, reverse, strength
from fusionkit.heads.classification import Classification
from fusionkit.training.engine import Engine, Settings
from fusionkit.training.objective import TaskObjective


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


def test_its_heads_alone_learn_by_their_own_rate():
    adversary = SubjectAdversary(["fused"], 4, ["a", "b"], steps=1, pace=7.0)
    objective = TaskObjective(Trunk(), {}, {}, adversary=adversary)
    own = {id(parameter) for parameter in adversary.parameters()}
    assert objective.scales() == dict.fromkeys(own, 7.0)
    assert SubjectAdversary(["fused"], 4, ["a", "b"], steps=1, pace=1.0).scales() == {}


class Trunk(nn.Module):
    """A hidden layer and a readout that a task and the adversary read, as `TaskObjective` wants a model."""

    def __init__(self):
        super().__init__()
        self.merges, self.operations = nn.ModuleDict(), nn.ModuleDict()
        self.layers = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32))
        self.head = nn.Linear(32, 2)

    def forward(self, inputs, generator=None):
        readout = self.layers(inputs["x"])
        decisions = {"state": self.head(readout).log_softmax(1)}
        return Output(decisions, {}, {}, torch.zeros(()), readouts={"fused": readout})


def recorded(generator):
    """Records of two subjects, who differ in six numbers; the state shows in the other four."""
    subject, state = torch.arange(480) % 2, torch.randint(2, (480,), generator=generator)
    x = torch.randn(480, 10, generator=generator)
    x[:, :4] += 1.5 * state[:, None] - 0.75
    x[:, 4:] += 2.0 * subject[:, None] - 1.0
    return x, state.float(), subject.float()


def trained(seed, with_adversary):
    """How well the state is answered on new records, and how well a fresh linear probe of the readout finds who it is."""
    g = torch.Generator().manual_seed(seed)
    x, state, subject = recorded(g)
    task = Classification(classes=["calm", "tense"])
    task.fit(state.numpy(), "state")
    torch.manual_seed(seed)
    adversary = None
    if with_adversary:
        adversary = SubjectAdversary(["fused"], 32, ["a", "b"], steps=60 * 8)
        adversary.task.fit(subject.numpy(), SUBJECT)
    model = Trunk()
    Engine(
        TaskObjective(model, {"state": task}, {"state": 1.0}, adversary=adversary),
        lambda rows: Batch({"x": x[rows]}, {"state": state[rows], SUBJECT: subject[rows]}),
        torch.arange(480),
        Settings(epochs=60, batch=60, lr=3e-3),
        seed=seed,
        device=torch.device("cpu"),
    ).run()
    model.eval()
    (seen, _, who), (new, right, them) = recorded(g), recorded(g)
    with torch.no_grad():
        answer = (model({"x": new}).decisions["state"].argmax(1) == right).float().mean().item()
        fit, test = model.layers(seen).numpy(), model.layers(new).numpy()
    scale = StandardScaler().fit(fit)
    probe = LogisticRegression(max_iter=500).fit(scale.transform(fit), who)
    return answer, probe.score(scale.transform(test), them)


def test_after_training_with_it_a_fresh_probe_finds_the_subject_less_well():
    """One in two is chance. Heads no faster than the trunk hide nothing here: 0.98 is found without them and with them."""
    plain, hidden = (np.mean([trained(seed, choice) for seed in range(3)], axis=0) for choice in (False, True))
    assert plain[1] > 0.95 and hidden[1] < 0.82
    assert plain[0] > 0.9 and hidden[0] > plain[0] - 0.02
