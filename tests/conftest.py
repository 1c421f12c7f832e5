"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest
import torch


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
