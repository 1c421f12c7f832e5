"""A recipe small enough to train in a second, on made-up EEG and text."""

import pytest

from fusionkit.recipe.load import parse_recipe

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
