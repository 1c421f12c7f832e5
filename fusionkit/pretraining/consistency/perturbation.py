"""Small changes of what encoders take, in units that mean the same to every sensor."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fusionkit.core.levels import Batch, Window, valid
from fusionkit.fusion.model import FusionModel, Pass


class Ground(NamedTuple):
    """What of one sensor can be changed.

    ``real`` says which numbers are measured and not padding, ``unit`` is their root mean square over the batch.
    """

    values: Float[Tensor, "batch *rest"]
    real: Bool[Tensor, "batch *rest"]
    unit: Float[Tensor, ""]


class Perturbation:
    """Answers of a model to a batch whose sensors are changed where their encoders take them: windows, or features.

    Windows of ids (text) have no small change; where their encoder takes features, these have.

    Args:
        model: the model.
        batch: the batch as it is.
    """

    def __init__(self, model: FusionModel, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.windows: set[str] = set()
        self.grounds: dict[str, Ground] = {}
        with torch.no_grad():
            passing = model.look(batch.inputs)
            for name in model.graph.modalities:
                level = passing.levels[name]
                if name in model.encoders and model.encoders[name].level == "window":
                    if isinstance(level, Window) and level.values.is_floating_point():
                        self.windows.add(name)
                        self.grounds[name] = _ground(level.values, _real(level))
                else:
                    features = passing.feature(name)
                    self.grounds[name] = _ground(features.values, valid(features)[:, :, None, None])

    def __call__(self, change: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Log-probabilities by task after a change, each sensor's in its own unit."""
        moved = {n: (change[n] * ground.unit).to(ground.values.dtype) for n, ground in self.grounds.items()}
        clean = self.model.look(self.batch.inputs)
        levels = {
            name: level._replace(values=level.values + moved[name]) if name in self.windows else level
            for name, level in clean.levels.items()
        }
        passing = Pass(self.model, levels, None)
        for name in moved.keys() - self.windows:
            features = passing.feature(name)
            passing.features[name] = features._replace(values=features.values + moved[name])
        return self.model.answer(passing).decisions


def unit_length(change: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The change of every record, all of its sensors together, as a vector of length 1; none stays none."""
    largest = torch.stack([x.detach().flatten(1).abs().amax(1) for x in change.values()]).amax(0).clamp_min(1e-30)
    scaled = {name: x / _along(largest, x) for name, x in change.items()}  # squares of tiny gradients would vanish
    length = torch.stack([x.flatten(1).square().sum(1) for x in scaled.values()]).sum(0).sqrt().clamp_min(1e-12)
    return {name: x / _along(length, x) for name, x in scaled.items()}


def _along(per_record: Tensor, like: Tensor) -> Tensor:
    return per_record.reshape(-1, *(1 for _ in like.shape[1:]))


def _ground(values: Tensor, real: Tensor) -> Ground:
    real = real.expand(values.shape)
    squares = torch.where(real, values.float(), torch.zeros_like(values, dtype=torch.float32)).square().sum()
    return Ground(values, real, (squares / real.sum().clamp_min(1)).sqrt())


def _real(window: Window) -> Tensor:
    """Which samples are measured; an image has no length."""
    here = _along(window.present, window.values)
    if window.values.ndim == 4:
        return here
    index = torch.arange(window.values.shape[-1], device=here.device)
    return here & (index < _along(window.length, window.values))
