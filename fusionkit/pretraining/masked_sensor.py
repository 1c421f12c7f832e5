"""Masked sensor: what a sensor's encoder says is predicted from what the other sensors say."""

from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Tokens, scrub
from fusionkit.core.processes import summed
from fusionkit.core.registry import objectives
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.decoder import PlaceDecoder, place_codes, token_codes
from fusionkit.pretraining.masked_autoencoder import Heads, Layers
from fusionkit.pretraining.metric import mean_where
from fusionkit.pretraining.momentum import encoding_copy, follow
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective


def unexplained(
    predicted: Float[Tensor, "batch token dim"],
    target: Float[Tensor, "batch token dim"],
    counts: Bool[Tensor, "batch token"],
) -> Float[Tensor, ""]:
    r"""Share of the targets' variance that predictions miss, a mean over the numbers of a token: :math:`1 - R^2`.

    .. math:: \frac{1}{d} \sum_d \frac{\sum_i (\hat t_{id} - z_{id})^2}{n}, \quad z_{id} = \frac{t_{id} - \mu_d}{\sigma_d}

    over the n tokens that count, in all processes, whose mean and standard deviation are taken without gradient.
    Predicting 0 costs 1; predicting z, 0. What does not vary has z = 0.
    """
    weight = counts[:, :, None].float()
    count = summed(weight.sum()).clamp_min(1)
    clean = torch.where(counts[:, :, None], target.detach().float(), torch.zeros_like(weight))
    deviation = (clean - summed(clean.sum((0, 1))) / count) * weight
    spread = (summed(deviation.square().sum((0, 1))) / count).sqrt()
    wanted = torch.where(spread > 1e-6, deviation / spread.clamp_min(1e-6), torch.zeros_like(deviation))
    return mean_where((predicted.float() - wanted).square().mean(2), counts)


@objectives.register("masked_sensor")
class MaskedSensor(PretrainingObjective):
    r"""Hide each sensor in turn and predict its tokens from those of the others that a record has: `unexplained`, mean.

    Targets are the tokens of a slow copy of the model (:math:`k \leftarrow m k + (1 - m) q` after each step) in
    evaluation mode, and get no gradient: the hidden sensor's encoder learns when another one is hidden. Predictions
    are read by a `PlaceDecoder` from all other tokens at once, each with a code of its sensor and of its place; places
    of all sensors are taken to cover the same span. A record counts for a sensor that it has if it has another one.
    A loss near 1 says that the others know nothing of it. Targets in standard deviations of the batch are ours, so that
    what all records share is no gain; so is the rest, after data2vec's slow copy.

    Args:
        given: what the builder knows.
        momentum: m of the slow copy.
        layers: blocks of the decoders.
        heads: their attention heads; must divide ``dim``.

    Raises:
        ConfigError: the stage has one sensor.

    Reference:
        Baevski et al., "data2vec", ICML 2022, for targets that a slow copy makes.
    """

    early: ClassVar[bool] = True

    def __init__(
        self,
        given: Given,
        *,
        momentum: Annotated[float, Field(ge=0, lt=1, description="of the copy that makes targets")] = 0.99,
        layers: Layers = 2,
        heads: Heads = 4,
    ) -> None:
        super().__init__(given)
        if len(given.sensors) < 2:
            raise ConfigError(f"masked_sensor must have two sensors or more, but the stage has {list(given.sensors)}")
        self.momentum = momentum
        self.codes = nn.ParameterDict({name: torch.randn(given.dim) * 0.02 for name in given.sensors})
        self.decoders = nn.ModuleDict({name: PlaceDecoder(given.dim, layers, heads) for name in given.sensors})
        self.outs = nn.ModuleDict({name: nn.Linear(given.dim, given.dim) for name in given.sensors})
        self.teacher: FusionModel | None = None

    def bind(self, model: FusionModel) -> None:
        """Copy what makes tokens."""
        self.teacher = encoding_copy(model)

    def train(self, mode: bool = True) -> "MaskedSensor":
        """Targets are always made in evaluation mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        del generator
        assert self.teacher is not None
        with torch.no_grad():
            taught = self.teacher.look(looks.batch.inputs)
            targets = {name: scrub(taught.stream(name)) for name in self.given.sensors}
        losses = []
        for name, target in targets.items():
            others = [other for other in self.given.sensors if other != name]
            predicted = self._predict(looks, name, others, target.values.shape[1])
            seen = torch.stack([looks.present(other) for other in others]).any(0)
            losses.append(unexplained(predicted, target.values, target.mask & seen[:, None]))
        return torch.stack(losses).mean()

    def settle(self, model: FusionModel) -> None:
        """Move the copy."""
        assert self.teacher is not None
        follow(self.teacher, model, self.momentum)

    def _predict(self, looks: Looks, name: str, others: list[str], count: int) -> Float[Tensor, "batch token dim"]:
        """Tokens of one sensor from those of the others."""
        streams = [scrub(looks.clean.stream(other)) for other in others]
        line = place_codes((1, count), streams[0].values)
        where = torch.cat([token_codes(line, (1, count), stream.values.shape[1]) for stream in streams])
        coded = [stream.values + self.codes[other] for other, stream in zip(others, streams, strict=True)]
        mask = torch.cat([stream.mask for stream in streams], 1)
        joint = Tokens(torch.cat(coded, 1), mask, mask.any(1))
        predicted: Tensor = self.outs[name](self.decoders[name](joint, (1, count), where))
        return predicted
