"""Fixtures that many tests share, and a recipe small enough to train in a second, on made-up EEG and text."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fusionkit.recipe.load import parse_recipe

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _seeded():
    """Every test starts from the same random numbers, on one thread."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real recordings for development, where they lie beside the checkout (or at FUSIONKIT_DATA)."""
    folder = Path(os.environ.get("FUSIONKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


TINY = """
name: tiny
seed: 3
data:
  kind: synthetic
  subjects: 6
  records: 8
  seconds: 1.0
  redundant: 2.0
  split: {kind: k_fold, by: subject, folds: 2, validation: 0.34}
modalities:
  eeg: {kind: eeg}
  text: {kind: text, vocab_size: 300, width: 8, encoder: {kind: mlp}}
fusion: {kind: rcft, dim: 8, layers: 1, heads: 2, kv_groups: 1, steps: 2}
tasks:
  target: {kind: classification}
train: {epochs: 2, batch: 8, single_sensors: false, device: cpu}
"""


@pytest.fixture
def tiny(tmp_path):
    """The recipe, with any overrides; everything it writes lies in the test's folder."""

    def read(*overrides):
        return parse_recipe(TINY, "tiny.yaml", [f"run.dir={tmp_path / 'runs'}", *overrides])

    return read


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A finished run of the tiny recipe, EEG normalised by subject, with a bundle; read only."""
    from fusionkit.export.run import export_run
    from fusionkit.training.run import train

    folder = tmp_path_factory.mktemp("tiny")
    recipe = parse_recipe(TINY, "tiny.yaml", [f"run.dir={folder}", "modalities.eeg.normalise.kind=subject"])
    run = train(recipe, fold=0)
    export_run(run, run.folder / "model.fusion")
    return run


@pytest.fixture
def two_processes():
    """Run a script in two processes that share a training; neither may fail or hang."""

    def run(script: Path, folder: Path, seconds: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        shared |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        pair = [
            subprocess.Popen([sys.executable, script, folder], env={**shared, "RANK": rank, "LOCAL_RANK": rank})
            for rank in ("0", "1")
        ]
        try:
            assert [process.wait(timeout=seconds) for process in pair] == [0, 0]
        finally:
            for process in pair:
                process.kill()

    return run


WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "item"}
"""Operations whose result, or its size, the host must know: on a device they wait for all that was asked before."""


class Watch(TorchDispatchMode):
    """Note every operation that would wait; an index of truth values has as many rows as are true."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        chosen = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        if name in WAITING or any(part is not None and part.dtype in (torch.bool, torch.uint8) for part in chosen):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def watch():
    """``with watch() as seen: ...`` notes in ``seen.found`` what would wait for a device."""
    return Watch
