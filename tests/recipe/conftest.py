"""Stub components, so that reading recipes is tested without the real ones."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError
from fusionkit.fusion.operation import EarlyFusion, IntermediateFusion, LateFusion
from fusionkit.recipe.yaml import read_text


class Bands(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["bands"] = "bands"
    window: Annotated[float, Field(gt=0)] = 1.0


class Raw(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["raw"] = "raw"
    factor: int = 1


class Brain:
    """Waves of a brain.

    Args:
        channels: which ones.
    """

    suffixes = frozenset({".edf"})
    in_cells = False
    encoder = "plain"

    def __init__(
        self,
        *,
        channels: Annotated[list[str] | None, Field(description="which ones")] = None,
        rate: Annotated[float | None, Field(gt=0)] = None,
        resample: bool = False,
        features: Annotated[Bands | Raw, Field(discriminator="kind")] = Bands(),  # noqa: B008
    ) -> None:
        if resample and rate is None:
            raise ConfigError("resample needs a rate")


class Sound:
    suffixes = frozenset({".wav", ".flac"})
    in_cells = False
    encoder = "plain"

    def __init__(self, *, mels: Annotated[int, Field(ge=1)] = 40) -> None: ...


class Plain(nn.Module):
    level = "features"

    def __init__(self, shape, dim, *, layers: Annotated[int, Field(ge=1, description="how deep")] = 2) -> None: ...


class Other(nn.Module):
    level = "features"

    def __init__(self, shape, dim, *, width: int) -> None: ...


class Join(EarlyFusion):
    def __init__(self, inputs, duration, *, steps: Annotated[int, Field(ge=1)] = 8) -> None: ...


class Mix(IntermediateFusion):
    def __init__(self, inputs, dim, duration, *, slots: int = 4, layers: Annotated[int, Field(ge=1)] = 3) -> None: ...

    def forward(self, inputs): ...


class Poll(LateFusion):
    def __init__(self, inputs, *, rule: Literal["mean", "product"] = "mean") -> None: ...

    def merge_log_probabilities(self, decisions, present): ...

    def merge_values(self, decisions, present): ...


class Classes:
    mergeable = True

    def __init__(self, *, classes: list[str] | None = None) -> None:
        if classes is not None and len(classes) < 2:
            raise ConfigError(f"there must be two classes, but got {classes}")


class Number:
    mergeable = True

    def __init__(self) -> None: ...


class Mask(nn.Module):
    level = "features"

    def __init__(self, *, share: Annotated[float, Field(gt=0, lt=1)] = 0.5) -> None: ...


class Table:
    def __init__(self, *, path: str, columns: dict[str, str] | None = None) -> None: ...


class Made:
    def __init__(self, *, records: int = 10) -> None: ...


STUBS: dict[str, dict[str, type]] = {
    "modalities": {"brain": Brain, "sound": Sound},
    "encoders": {"plain": Plain, "other": Other, "mlp": Plain},
    "fusion": {"join": Join, "mix": Mix, "vote": Poll},
    "heads": {"classes": Classes, "number": Number},
    "augment": {"mask": Mask},
    "sources": {"table": Table, "made": Made},
    "losses": {},
}

RECIPE = """\
# A recipe of stubs
name: tiny
seed: 3
data:
  kind: table
  path: t.csv
  split: {kind: k_fold, folds: 4, by: subject}
modalities:
  eeg: {kind: brain, channels: [C3, C4], features: {kind: bands, window: 2}}
  ecg: {kind: brain, column: eeg, encoder: {kind: other, width: 8}}
  voice: {kind: sound}
fusion:
  dim: 32
  graph:
    body: {kind: join, inputs: [eeg, ecg]}
    all: {kind: mix, inputs: [body, voice], layers: 2}
tasks:
  state: {kind: classes, classes: [rest, work]}
  score: {kind: number, from: body}
augment:
  voice: [{kind: mask}, {kind: mask, share: 0.25}]
  eeg: [{kind: mask}]
train: {epochs: 5, lr: 1e-3}
"""


@pytest.fixture(autouse=True)
def stubs(monkeypatch):
    """Only stub components are known while a test runs."""
    for family, classes in STUBS.items():
        known = registry.families[family]
        monkeypatch.setattr(known, "_classes", dict(classes))
        monkeypatch.setattr(known, "_targets", {})
        monkeypatch.setattr(known, "_loaded", True)


@pytest.fixture
def recipe_text():
    """A whole recipe."""
    return RECIPE


@pytest.fixture
def recipe_file(tmp_path):
    """Write a recipe and give its path; replacements are (old, new) pairs in the whole recipe."""

    def write(*replacements, text=RECIPE):
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "tiny.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def parsed():
    """The whole recipe as plain data."""
    return read_text(RECIPE, "tiny.yaml").data
