"""Latent-space transfer: a new sensor's encoder learns to say what an old sensor's encoder says of the same moment."""

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusionkit.core.errors import ConfigError, UnknownNameError
from fusionkit.core.processes import gathered
from fusionkit.core.registry import objectives
from fusionkit.pretraining.metric import mean_where, products
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective


def same_place(
    new: Float[Tensor, "batch dim"], old: Float[Tensor, "batch dim"], here: Bool[Tensor, " batch"]
) -> Float[Tensor, ""]:
    r"""Mean over records of :math:`\lVert E_\text{new}(x') - E_\text{old}(x) \rVert^2`; no gradient reaches the old.

    (1, 2) that should be (1, 0) gives 4. No record gives 0.

    Args:
        new: embeddings that learn.
        old: where they should be.
        here: records that have both sensors.
    """
    return mean_where((new.float() - old.detach().float()).square().sum(1), here)


def same_moments(
    new: Float[Tensor, "batch dim"],
    old: Float[Tensor, "batch dim"],
    here: Bool[Tensor, " batch"],
    there: Bool[Tensor, " batch"],
) -> Float[Tensor, ""]:
    r"""Of records without a partner: :math:`\lVert \mu_n - \mu_o \rVert^2 + \lVert C_n - C_o \rVert_F^2`.

    Means and covariances (of n records, divided by n) over a batch, that of all processes together. Embeddings 0 and 2 in one dimension, whose mean and
    variance are 1, against two of 1 give 0 + 1. Fewer than two records on either side give 0.

    Args:
        new: embeddings that learn.
        old: what they should be spread as.
        here: records that have the new sensor.
        there: records that have the old one.

    Reference:
        Sun and Saenko, Deep CORAL, ECCV workshops 2016; the means and the plain sum are ours.
    """
    (mean, spread), (wanted, shape) = _moments(new.float(), here), _moments(old.detach().float(), there)
    loss = (mean - wanted).square().sum() + (spread - shape).square().sum()
    return torch.where((here.sum() > 1) & (there.sum() > 1), loss, 0.0)


@objectives.register("latent_transfer")
class LatentTransfer(PretrainingObjective):
    """A new sensor is brought into the latent space of one that is well understood, whose head then serves both.

    The stage trains the new sensors' encoders; the old one's, which `init.from` brings and the stage leaves as it is to
    the bit, says where the embedding of a record that has both should be. The new sensors are augmented, the old one is
    not. What reads the mean of an encoder's tokens (a late node's branch) can read the new sensor's afterwards:
    ``init: {from: OLD_RUN, freeze: encoders, heads: {audio: image, image: image}}`` has the head that answered for the
    image answer for both, and nothing trains any more.

    Args:
        given: what the builder knows.
        teacher: the old sensor; by default the one that the stage does not train.
        match: ``records`` compares both sensors of a record; ``moments`` the spread of a batch, where no record has both.

    Raises:
        ConfigError: there is no old sensor, or the stage trains it.

    Reference:
        No paper is known to us; the loss is that of feature distillation, Romero et al., FitNets, ICLR 2015.
    """

    early: ClassVar[bool] = True

    def __init__(
        self,
        given: Given,
        *,
        teacher: Annotated[
            str | None, Field(description="the old sensor; by default the one that the stage does not train")
        ] = None,
        match: Annotated[
            Literal["records", "moments"], Field(description="what is compared: records, or a batch's moments")
        ] = "records",
    ) -> None:
        super().__init__(given)
        others = [name for name in given.levels if name not in given.sensors]
        if teacher in given.sensors:
            raise ConfigError(f"teacher must not be trained itself, but encoders has {teacher!r}")
        if teacher is not None and teacher not in others:
            raise UnknownNameError("sensor with an encoder", teacher, others)
        if teacher is None and len(others) != 1:
            raise ConfigError(f"teacher must be named unless one sensor is left that does not train, but got {others}")
        self.teacher = teacher or others[0]
        self.match = match

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        del generator
        with torch.no_grad():
            old, there = looks.clean.readout(self.teacher), looks.present(self.teacher)
        losses = []
        for name in self.given.sensors:
            new, here = looks.view(0).readout(name), looks.present(name)
            if self.match == "records":
                losses.append(same_place(new, old, here & there))
            else:
                losses.append(same_moments(*gathered(new.float(), old.float(), here, there)))
        return torch.stack(losses).mean()


def _moments(
    values: Float[Tensor, "batch dim"], here: Bool[Tensor, " batch"]
) -> tuple[Float[Tensor, " dim"], Float[Tensor, "dim dim"]]:
    """Mean and covariance of the records that count."""
    count, real = here.sum().clamp_min(1), here[:, None]
    mean = torch.where(real, values, 0.0).sum(0) / count
    centred = torch.where(real, values - mean, 0.0)
    return mean, products(centred.T, centred.T) / count
