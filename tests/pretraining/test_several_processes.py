"""Objectives whose records lie in two processes: losses, gradients and what they keep are those of one process."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fusionkit.training.checkpoint import load_tensors

WORK = '''
import sys

import torch
from pathlib import Path

from torch import distributed, nn

from fusionkit.core import registry
from fusionkit.core.levels import Batch
from fusionkit.core.processes import gathered
from fusionkit.fusion.model import FusionModel
from fusionkit.testing.objectives import ObjectiveCase
from fusionkit.training.checkpoint import save_tensors
from fusionkit.training.parallel import is_leader, joined, processes

CASES = {
    "nt_xent": ("several", {}),
    "info_nce": ("several", {}),
    "contrastive": ("several", {"task": "target"}),
    "supcon": ("several", {}),
    "moco": ("several", {"size": 16}),
    "triplet": ("several", {"task": "target", "mining": "batch_hard"}),
    "masked_sensor": ("several", {}),
    "latent_transfer": ("several", {"match": "moments"}),
    "rotation": ("image", {}),
    "colorization": ("image", {}),
    "next_token": ("words", {}),
}


def part(batch):
    """Every second record; of an odd number one process has one more."""
    mine = slice(distributed.get_rank(), None, 2) if processes() > 1 else slice(None)
    inputs = {
        name: window._replace(values=window.values[mine], length=window.length[mine], present=window.present[mine])
        for name, window in batch.inputs.items()
    }
    return Batch(inputs, {name: target[mine] for name, target in batch.targets.items()}, batch.index[mine])


torch.set_num_threads(1)
found = {}
with joined():
    for kind, (label, options) in CASES.items():
        case = ObjectiveCase(registry.objectives.get(kind), options, label)
        made = case.build()
        for module in list(made.modules()):  # each process draws its own noise
            if isinstance(module, FusionModel):
                module.augmentations.clear()
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        call = nn.parallel.DistributedDataParallel(made, find_unused_parameters=True) if processes() > 1 else made
        for step in (0, 1):
            absent = [("series", 1), ("series", 3), ("series", 5), ("image", 0), ("image", 3), ("words", 1)]
            batch = part(case.batch(rows=7, seed=step, absent=absent))
            loss = call(batch, torch.Generator().manual_seed(0))
            loss.backward()
            mean = loss.detach().clone()
            if processes() > 1:
                distributed.all_reduce(mean)
                mean /= processes()
            found[f"{kind}.{step}.loss"] = mean
            for name, parameter in made.named_parameters():
                if parameter.grad is not None:
                    found[f"{kind}.{step}.{name}"] = parameter.grad.clone()
            made.zero_grad(set_to_none=True)
            made.settle()
        if kind == "moco":
            for name, queue in made.objectives[0].queues.items():
                keys = queue.keys[queue.filled]
                found[f"{kind}.queue.{name}"] = keys[keys[:, 0].argsort()]
        if kind == "colorization":
            found[f"{kind}.prior"] = made.objectives[0].priors["image"]().clone()
    x = torch.arange(6.0).reshape(3, 2)[: 3 - distributed.get_rank() if processes() > 1 else 3].requires_grad_()
    rows, here = gathered(x, x[:, 0] > 1)
    (rows.square().sum() * (distributed.get_rank() + 1 if processes() > 1 else 1)).backward()
    found |= {"gathered.rows": rows.detach(), "gathered.here": here, "gathered.gradient": x.grad}
    if is_leader():
        save_tensors(Path(sys.argv[1]), {name: value.contiguous() for name, value in found.items()}, {})
'''


@pytest.mark.slow
def test_two_processes_are_one(tmp_path, two_processes):
    script = tmp_path / "work.py"
    script.write_text(WORK)
    two_processes(script, tmp_path / "two", 120)
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, script, tmp_path / "one"], check=True, env={"PYTHONPATH": root}, timeout=120)
    (one, _), (two, _) = load_tensors(tmp_path / "one"), load_tensors(tmp_path / "two")
    gathered = {name: two.pop(name) for name in list(two) if name.startswith("gathered")}
    assert gathered["gathered.rows"].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]]
    assert gathered["gathered.here"].tolist() == [False, True, True, False, True]
    x = torch.arange(6.0).reshape(3, 2)
    torch.testing.assert_close(gathered["gathered.gradient"], 6 * x)  # 2 x of the one process, 4 x of the other
    assert set(two) == {name for name in one if not name.startswith("gathered")}
    for kind in {name.split(".")[0] for name in two}:
        assert one[f"{kind}.1.loss"] > 0  # the queue of moco is empty at first
    for name, value in two.items():
        torch.testing.assert_close(
            value, one[name], atol=1e-5, rtol=1e-5, msg=lambda said, name=name: f"{name}: {said}"
        )
