"""Trees in the formats of the SEED family, written by this project's tool where it lies beside the checkout."""

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2].parent / "shared" / "tools" / "make_public_eeg_trees.py"


@pytest.fixture(scope="session")
def tree_tool():
    """The tool as a module: its tables and writers."""
    if not TOOL.is_file():
        pytest.skip(f"no tool at {TOOL}")
    spec = importlib.util.spec_from_file_location("make_public_eeg_trees", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture(scope="session")
def seed_trees(tree_tool, tmp_path_factory):
    """All four data sets; trials a hundredth as long as they are. SEED-IV of one person, whose raw trials are long."""
    folder = tmp_path_factory.mktemp("trees")
    for write in (tree_tool.seed, tree_tool.seed_v, tree_tool.seed_multimodal):
        write(str(folder), [1, 2], 0.01)
    tree_tool.seed_iv(str(folder), [1], 0.01)
    return folder


@pytest.fixture(scope="session")
def longer_trees(tree_tool, tmp_path_factory):
    """The two sets of pickled features, long enough for trials to differ in length."""
    folder = tmp_path_factory.mktemp("longer")
    for write in (tree_tool.seed_v, tree_tool.seed_multimodal):
        write(str(folder), [1, 2], 0.2)
    return folder
