"""Concat: early fusion, features side by side on one clock, with an optional linear or PCA reduction."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.levels import Features, FeatureShape, any_present
from fusionkit.core.registry import fusion
from fusionkit.fusion.align import align_features, aligned_width, bin_times
from fusionkit.fusion.operation import EarlyFusion


class Scatter:
    """Running mean and scatter of rows in float64, so that records need not be in memory together.

    The rows 0 and 2, in one part or in two, give the mean 1 and the scatter (0 - 1)^2 + (2 - 1)^2 = 2.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64)
        self.scatter = torch.zeros(width, width, dtype=torch.float64)

    def add(self, rows: Float[Tensor, "row width"]) -> None:
        """See some more rows."""
        if len(rows) == 0:
            return
        device = torch.device("cpu") if rows.device.type == "mps" else rows.device  # MPS has no float64
        rows = rows.detach().to(device, torch.float64)
        self.mean, self.scatter = self.mean.to(device), self.scatter.to(device)
        total = self.count + len(rows)
        centre = rows.mean(0)
        apart, centred = centre - self.mean, rows - centre
        self.scatter = self.scatter + centred.T @ centred
        self.scatter = self.scatter + torch.outer(apart, apart) * (self.count * len(rows) / total)
        self.mean = self.mean + apart * (len(rows) / total)
        self.count = total


class PrincipalComponents(nn.Module):
    r"""Project onto the directions of largest variance: :math:`(x - \mu) V`.

    :math:`V` holds the eigenvectors of the covariance with the largest eigenvalues, each with its largest entry
    positive. Points (0, 0), (1, 1), (2, 2) give the mean (1, 1), the direction (1, 1) / sqrt(2) and the scores
    -sqrt(2), 0 and sqrt(2).

    Args:
        width: numbers per row.
        components: how many directions are kept; not more than ``width``.
    """

    mean: Tensor
    components: Tensor
    count: Tensor

    def __init__(self, width: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("components", torch.zeros(width, min(components, width)))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.fitted = False
        self.register_load_state_dict_post_hook(_notice_fit)  # type: ignore[no-untyped-call]

    def fit(self, rows: Scatter) -> None:
        """Take mean and directions from what was seen."""
        _, vectors = torch.linalg.eigh(rows.scatter)  # smallest first
        vectors = vectors.flip(1)[:, : self.components.shape[1]]
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        self.mean.copy_(rows.mean)
        self.components.copy_(vectors * largest.sign())
        self.count.fill_(rows.count)
        self.fitted = rows.count > 0

    def forward(self, x: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows component"]:
        """Scores of each row.

        Raises:
            ConfigError: nothing was fitted or loaded yet.
        """
        if not self.fitted:
            raise ConfigError("a PCA must be fitted on training records before it is used, but it is not")
        return (x - self.mean) @ self.components


def _notice_fit(module: nn.Module, _: Any) -> None:
    """After a state is loaded: say whether it is a fitted one. Here, since a graph may not look into a tensor."""
    if isinstance(module, PrincipalComponents):
        module.fitted = int(module.count) > 0


@fusion.register("concat")
class Concat(EarlyFusion):
    """Put the features of every sensor side by side, step by step, for one joint encoder.

    Streams with time are averaged into ``steps`` bins of the window, others repeated; what a sensor lacks in a
    bin is zero. Assumes that sensors depend on one another from the first layer on; its width is the sum of
    theirs, the classical remedy being a PCA per sensor.

    Args:
        inputs: what is known of each feature stream.
        duration: length of the window in seconds; None where no stream has time, and then there is one step.

    Raises:
        ConfigError: a PCA is asked for features whose front end trains.

    Reference:
        Ramachandram and Taylor, "Deep Multimodal Learning", IEEE Signal Processing Magazine 34(6), 2017.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureShape],
        duration: float | None,
        *,
        steps: Annotated[int, Field(ge=1, description="equal bins of the window, the common clock")] = 4,
        reduce: Annotated[
            Literal["none", "linear", "pca"],
            Field(description="reduce each sensor first: by a trained layer, or a PCA of the training records"),
        ] = "none",
        components: Annotated[
            int, Field(ge=1, description="numbers per sensor and step after a reduction, at most the sensor's own")
        ] = 16,
        indicate: Annotated[bool, Field(description="add a channel per sensor that is 1 where it is there")] = True,
    ) -> None:
        super().__init__(inputs, duration)
        self.steps = 1 if duration is None else steps
        self.reduce = reduce
        self.indicate = indicate
        self.widths = {name: aligned_width(shape) for name, shape in self.inputs.items()}
        self.reducers = nn.ModuleList()
        if reduce != "none":
            for name, width in self.widths.items():
                if reduce == "pca" and self.inputs[name].trains:
                    raise ConfigError(f"a PCA needs features that do not train, but those of {name!r} do")
                kept = min(components, width)
                self.reducers.append(nn.Linear(width, kept) if reduce == "linear" else PrincipalComponents(width, kept))
                self.widths[name] = kept

    @property
    def shape(self) -> FeatureShape:
        """All widths in the channel axis, then an indicator per sensor."""
        width = sum(self.widths.values()) + (len(self.widths) if self.indicate else 0)
        trains = self.reduce == "linear" or any(shape.trains for shape in self.inputs.values())
        return FeatureShape(width, 1, steps=self.steps, timed=self.duration is not None, trains=trains)

    def forward(self, inputs: Mapping[str, Features]) -> Features:
        """Join one batch; a step is real where any sensor has something in it."""
        blocks, mask = align_features(inputs, self.inputs, self.steps, self.duration)
        if self.reducers:
            reduced = [reduce(block) for reduce, block in zip(self.reducers, blocks, strict=True)]
            blocks = [
                torch.where(mask[..., i, None], block, torch.zeros_like(block)) for i, block in enumerate(reduced)
            ]
        if self.indicate:
            blocks = [*blocks, mask.to(blocks[0].dtype)]
        values = torch.cat(blocks, -1)[..., None]
        present = any_present(inputs[name] for name in self.inputs)
        return Features(values, mask.any(2), present, bin_times(self.steps, self.duration, values))

    def fit(self, training_batches: Callable[[], Iterable[Mapping[str, Features]]], generator: torch.Generator) -> None:
        """Fit the PCA of each sensor on the bins of the training records; nothing to do without one.

        Raises:
            DataError: no training record has a sensor.
        """
        if self.reduce != "pca":
            return
        seen = [Scatter(aligned_width(shape)) for shape in self.inputs.values()]
        for batch in training_batches():
            blocks, mask = align_features(batch, self.inputs, self.steps, self.duration)
            for i, shape in enumerate(self.inputs.values()):
                last = self.steps if shape.timed else 1  # what is repeated counts once
                seen[i].add(blocks[i][:, :last][mask[:, :last, i]])
        for name, reduce, rows in zip(self.inputs, self.reducers, seen, strict=True):
            if rows.count == 0:
                raise DataError(f"a PCA needs training records that have the sensor, but none has {name!r}")
            assert isinstance(reduce, PrincipalComponents)
            reduce.fit(rows)
