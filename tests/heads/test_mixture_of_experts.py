"""The mixture of experts, against plain loops."""

import torch
from torch import nn

from fusionkit.core.registry import heads
from fusionkit.heads.gate import TaskHeads
from fusionkit.heads.mixture_of_experts import MixtureOfExperts


def made(tasks=2, experts=3):
    module = MixtureOfExperts(4, tasks, experts=experts)
    for gate in module.gates:
        nn.init.normal_(gate)
    return module


def test_matches_plain_loops():
    module, x = made(), torch.randn(5, 4)
    answers = module.answers(x)
    for task in range(2):
        got = module(x, answers, task)
        for row in range(5):
            scores = torch.stack([x[row] @ module.gates[task][:, i] for i in range(3)]).exp()
            wanted = torch.zeros(4)
            for i in range(3):
                expert = torch.relu(x[row] @ module.experts.weight[i] + module.experts.bias[i])
                wanted = wanted + scores[i] / scores.sum() * expert
            torch.testing.assert_close(got[row], wanted)


def test_shares_sum_to_one_and_start_equal():
    x = torch.randn(5, 4)
    torch.testing.assert_close(made().shares(x, 1).sum(1), torch.ones(5))
    torch.testing.assert_close(MixtureOfExperts(4, 2, experts=4).shares(x, 0), torch.full((5, 4), 0.25))


def test_a_quarter_of_four_and_three_quarters_of_eight_are_seven():
    module = MixtureOfExperts(1, 1, experts=2)
    nn.init.zeros_(module.experts.weight)
    module.experts.bias.data = torch.tensor([[4.0], [8.0]])
    module.gates[0].data = torch.tensor([[1.0, 3.0]]).log()
    x = torch.ones(1, 1)
    torch.testing.assert_close(module(x, module.answers(x), 0), torch.tensor([[7.0]]))


def test_a_certain_gate_picks_an_expert():
    module, x = made(), torch.ones(1, 4)
    nn.init.zeros_(module.gates[0])
    module.gates[0].data[:, 1] = 100.0
    torch.testing.assert_close(module(x, module.answers(x), 0), module.answers(x)[1])


def test_one_expert_is_hard_sharing():
    """Every task reads the same, whatever its gate."""
    module, x = made(experts=1), torch.randn(3, 4)
    answers = module.answers(x)
    torch.testing.assert_close(module(x, answers, 0), answers[0])
    torch.testing.assert_close(module(x, answers, 1), answers[0])
    task = {name: heads.build("classification", {"classes": ["a", "b"]}) for name in ("one", "two")}
    shared = TaskHeads(4, task, gate=False, sharing="mixture_of_experts", experts=1)
    read = torch.relu(x @ shared.mixture.experts.weight[0] + shared.mixture.experts.bias[0])
    for number, decision in enumerate(shared(x).values()):
        torch.testing.assert_close(decision, shared.heads[number](read))


def test_a_task_moves_its_own_gate_and_all_experts():
    module, x = made(), torch.randn(5, 4)
    module(x, module.answers(x), 1).square().sum().backward()
    assert module.gates[0].grad is None and module.gates[1].grad.abs().sum() > 0
    assert (module.experts.weight.grad.abs().sum((1, 2)) > 0).all()
