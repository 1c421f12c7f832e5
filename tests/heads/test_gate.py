"""The task gate, and all heads on one readout, exported too."""

import io

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from fusionkit.core.levels import Tokens, pool
from fusionkit.core.registry import heads
from fusionkit.heads.gate import TaskGate, TaskHeads


def four_tasks():
    number = heads.build("regression")
    number.fit(np.array([3.0, 5.0, 9.0]), "values")
    return {
        "state": heads.build("classification", {"classes": ["a", "b", "c"]}),
        "pain": heads.build("ordinal", {"classes": ["x", "y"]}),
        "level": heads.build("ordinal", {"classes": ["low", "mid", "high", "top"]}),
        "values": number,  # a name that modules have for themselves
        "feel.ings": heads.build("multi_label", {"classes": ["p", "q"]}),
    }


def test_a_linear_head_behind_a_gate_is_a_head_per_task_with_factorised_weights():
    r"""y = w^T (h * g) = (w * g)^T h."""
    gate = TaskGate(6, 3)
    for row in gate.embedding:
        nn.init.normal_(row)
    w, h = torch.randn(6), torch.randn(4, 6)
    for task in range(3):
        g = torch.sigmoid(gate.embedding[task])
        torch.testing.assert_close(gate(h, task) @ w, h @ (w * g))


def test_gates_start_open():
    for row in TaskGate(100, 2).embedding:
        assert ((row.sigmoid() > 0.87) & (row.sigmoid() < 0.89)).all()


def test_an_embedding_of_zero_lets_half_through():
    gate = TaskGate(3, 1)
    nn.init.zeros_(gate.embedding[0])
    torch.testing.assert_close(gate(torch.ones(1, 3), 0), torch.full((1, 3), 0.5))


def test_every_task_answers_in_its_form():
    decisions = TaskHeads(8, four_tasks())(torch.randn(5, 8))
    shapes = {name: tuple(decision.shape) for name, decision in decisions.items()}
    assert shapes == {"state": (5, 3), "pain": (5, 2), "level": (5, 4), "values": (5, 1), "feel.ings": (5, 2, 2)}


def test_tasks_have_gates_of_their_own():
    """The gradient of one task's answer reaches its own gate and head, and no other."""
    module = TaskHeads(8, four_tasks())
    module(torch.randn(5, 8))["level"][:, 0].sum().backward()
    assert [row.grad is not None for row in module.gate.embedding] == [False, False, True, False, False]
    reached = [any(p.grad is not None for p in head.parameters()) for head in module.heads]
    assert reached == [False, False, True, False, False]


def test_the_notebooks_gate_has_its_sigmoid_on_the_features():
    gate = TaskGate(6, 3, "notebook")
    assert all((row.abs() < 0.05).all() for row in gate.embedding)
    h = torch.randn(4, 6)
    for task, row in enumerate(gate.embedding):
        nn.init.normal_(row)
        squashed = torch.sigmoid(h @ gate.features.weight.T + gate.features.bias)
        torch.testing.assert_close(gate(h, task), row * squashed)
    nn.init.zeros_(gate.features.weight)
    nn.init.zeros_(gate.features.bias)
    nn.init.ones_(gate.embedding[0])
    torch.testing.assert_close(gate(h, 0), torch.full((4, 6), 0.5))


@pytest.mark.parametrize(("said", "meant"), [(True, "sigmoid"), (False, "none"), ("none", "none")])
def test_true_and_false_name_forms_of_the_gate(said, meant):
    torch.manual_seed(1)
    one = TaskHeads(8, four_tasks(), gate=said)
    torch.manual_seed(1)
    other = TaskHeads(8, four_tasks(), gate=meant)
    assert one.state_dict().keys() == other.state_dict().keys() and (one.gate is None) == (meant == "none")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_without_the_gate_there_are_plain_heads():
    torch.manual_seed(3)
    module = TaskHeads(8, four_tasks(), gate=False)
    assert not any("gate" in name for name, _ in module.named_parameters())
    readout = torch.randn(5, 8)
    for number, (name, decision) in enumerate(module(readout).items()):
        assert name == module.tasks[number]
        assert torch.equal(decision, module.heads[number](readout))


def test_dropout_is_for_training_only():
    module = TaskHeads(64, four_tasks(), dropout=0.5)
    readout = torch.randn(3, 64)
    assert not torch.equal(module(readout)["values"], module(readout)["values"])
    module.eval()
    assert torch.equal(module(readout)["values"], module(readout)["values"])


def test_weights_round_trip_and_every_parameter_learns():
    module, other = TaskHeads(8, four_tasks()), TaskHeads(8, four_tasks())
    other.load_state_dict(module.state_dict())
    readout = torch.randn(5, 8)
    decisions = module(readout)
    assert all(torch.equal(decisions[name], value) for name, value in other(readout).items())
    sum((decision**2).sum() for decision in decisions.values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in module.parameters() if p.numel())


class Answer(nn.Module):
    """Readout and heads as one graph."""

    def __init__(self, **options):
        super().__init__()
        self.heads = TaskHeads(8, four_tasks(), dropout=0.1, **options)

    def forward(self, values, mask, present):
        return self.heads(pool(Tokens(values, mask, present)))


@pytest.mark.filterwarnings("ignore:# The axis name:UserWarning", "ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("options", [{}, {"gate": "notebook", "sharing": "soft"}, {"sharing": "mixture_of_experts"}])
def test_onnx_answers_as_torch_does_for_any_batch_and_length_and_at_extremes(options):
    model = Answer(**options).eval()
    example = (torch.randn(3, 4, 8), torch.rand(3, 4) > 0.5, torch.tensor([True, False, True]))
    batch, token = torch.export.Dim("batch"), torch.export.Dim("token")
    shapes = {"values": {0: batch, 1: token}, "mask": {0: batch, 1: token}, "present": {0: batch}}
    program = torch.onnx.export(model, example, dynamo=True, opset_version=20, dynamic_shapes=shapes, verbose=False)
    buffer = io.BytesIO()
    program.save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue())
    for size, length, scale in ((1, 1, 1.0), (5, 7, 1.0), (4, 2, 300.0)):
        inputs = (torch.randn(size, length, 8) * scale, torch.rand(size, length) > 0.3, torch.rand(size) > 0.3)
        given = {part.name: x.numpy() for part, x in zip(session.get_inputs(), inputs, strict=True)}
        with torch.no_grad():
            decisions = model(*inputs)
        for ours, theirs in zip(decisions.values(), session.run(None, given), strict=True):
            torch.testing.assert_close(torch.from_numpy(theirs), ours, atol=1e-5 * scale, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_heads_and_losses_on_a_device_agree_with_cpu_and_never_wait_for_it():
    tasks = four_tasks()
    targets = {
        "state": torch.tensor([0.0, torch.nan, 2.0]),
        "pain": torch.tensor([0.0, 1.0, torch.nan]),
        "level": torch.tensor([3.0, torch.nan, 1.0]),
        "values": torch.tensor([3.0, torch.nan, 4.0]),
        "feel.ings": torch.tensor([[0.0, 1.0], [torch.nan, torch.nan], [1.0, 1.0]]),
    }
    module, readout = TaskHeads(8, tasks), torch.randn(3, 8)
    cpu = {name: tasks[name].loss(decision, targets[name]) for name, decision in module(readout).items()}
    module, readout = module.cuda(), readout.cuda()
    moved = {name: target.cuda() for name, target in targets.items()}

    def losses():
        return {name: tasks[name].loss(decision, moved[name]) for name, decision in module(readout).items()}

    losses()  # class weights move once
    torch.cuda.set_sync_debug_mode("error")
    try:
        device = losses()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name, pair in cpu.items():
        for ours, theirs in zip(device[name], pair, strict=True):
            torch.testing.assert_close(ours.cpu(), theirs, atol=1e-4, rtol=1e-4)
