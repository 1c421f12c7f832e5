"""The same answers on a CUDA device and on the CPU, for every registered component."""

import pytest
import torch

from fusionkit.core import registry
from fusionkit.core.errors import DataError
from fusionkit.recipe.catalogue import load_sensors
from fusionkit.testing import cases_of
from fusionkit.testing.case import Answer, compare, holed
from fusionkit.testing.losses import LossCase
from fusionkit.testing.sensors import FrontEndCase, Sensor
from fusionkit.testing.streams import each, over_tensors

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
TOLERANCE = 1e-4


def kinds(*families):
    load_sensors()
    return [(family, kind) for family in families for kind in registry.families[family].kinds()]


def cases(family, kind):
    cls = registry.families[family].get(kind)
    if family == "losses":
        return [LossCase(cls, {})]
    if family == "modalities":
        return [FrontEndCase(Sensor(cls, {}))]
    return cases_of(cls)


@pytest.fixture(autouse=True)
def _single_precision(monkeypatch):
    """Without TF32, which keeps ten bits of a product."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


@pytest.mark.parametrize(("family", "kind"), kinds("fusion", "encoders", "losses", "modalities"))
def test_device_and_cpu_agree(family, kind):
    device = torch.device("cuda")
    for case in cases(family, kind):
        module = case.build()
        for inputs in (case.inputs(), case.inputs(unequal=True), holed(case.inputs())):
            wanted = case.ask(module, inputs)
            moved = each(inputs, lambda stream: over_tensors(stream, lambda part: part.to(device)))
            found = case.ask(module.to(device), moved)
            assert all(values.device.type == "cuda" for values in found.tensors().values())
            match(found, wanted, f"{kind}, {case.label}")
            module = module.cpu()


def match(found: Answer, wanted: Answer, what: str) -> None:
    for name, values in wanted.tensors().items():
        other, mask = found.tensors()[name].cpu(), wanted.masks.get(name)
        if mask is not None:
            assert torch.equal(found.masks[name].cpu(), mask), what
            values, other = values[mask], other[mask]
        compare(other, values, TOLERANCE, f"{what}: {name}")


LABELS = (["a", "b", "c", "a", "b", "c"], ["1", "2", "3", "4", "5", "6"], ["a;b", "b", "a", "c", "a;c", "b;c"])
NEEDED = {"ordinal": {"classes": ["a", "b", "c"]}}


@pytest.mark.parametrize(("family", "kind"), kinds("heads"))
def test_heads_and_their_losses_agree(family, kind):
    for labels in LABELS:
        task = registry.heads.build(kind, NEEDED.get(kind, {}))
        try:
            task.learn(labels, "task")
            targets = task.encode(labels, "task")
        except DataError:
            continue  # labels of another kind of task
        task.fit(targets, "task")
        head, readout, target = task.head(8).eval(), torch.randn(6, 8), torch.from_numpy(targets).float()
        with torch.no_grad():
            wanted = head(readout)
            score = task.loss(wanted, target)
            found = head.cuda()(readout.cuda())
            others = task.loss(found, target.cuda())
        compare(found.cpu(), wanted, TOLERANCE, kind)
        for other, part in zip(others, score, strict=True):
            compare(other.cpu(), part, TOLERANCE, f"loss of {kind}")
        return
    pytest.fail(f"{kind} takes none of the made labels")
