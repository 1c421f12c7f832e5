"""Triplets: an anchor is nearer to what is alike than to what is not, by a margin."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from fusionkit.augment.augmentation import uniform
from fusionkit.core.registry import objectives
from fusionkit.pretraining.hard_list import HardList
from fusionkit.pretraining.identity import class_task
from fusionkit.pretraining.metric import Embedded, MetricObjective, distances, mean_where
from fusionkit.pretraining.objective import Given

Mining = Literal["random", "semi_hard", "hard", "batch_hard", "online"]


def triplet(
    positive: Float[Tensor, " some"], negative: Float[Tensor, " some"], margin: float, hinge: bool
) -> Float[Tensor, " some"]:
    r"""The loss of every triplet: :math:`[d(a, p) - d(a, n) + \alpha]_+`, without the brackets if not ``hinge``.

    With a = (0, 0), p = (1, 0), n = (0, 1.2) and margin 0.5, distances give 0.3 and their squares 0.06; with margin 0.2
    and hinge, both give 0. Without hinge it has no lower bound.

    Args:
        positive: distances, or their squares, between anchor and positive.
        negative: between anchor and negative.
        margin: by which the second should be larger.
        hinge: whether what is far enough counts no more.
    """
    loss = positive - negative + margin
    return loss.clamp_min(0) if hinge else loss


class Mined(NamedTuple):
    """For every anchor its positive and its negative by number, and whether it has both."""

    positive: Int[Tensor, " anchor"]
    negative: Int[Tensor, " anchor"]
    found: Bool[Tensor, " anchor"]


def mine(
    squared: Float[Tensor, "anchor other"],
    alike: Bool[Tensor, "anchor other"],
    unlike: Bool[Tensor, "anchor other"],
    mining: Mining,
    margin: float,
    generator: torch.Generator,
) -> Mined:
    r"""One triplet for every anchor.

    - ``random``: any positive, any negative.
    - ``semi_hard``: any positive, and of the negatives with :math:`d_{ap} < d_{an} < d_{ap} + \alpha` the nearest.
    - ``hard``: any positive, and any negative with :math:`d_{an} < d_{ap}`.
    - ``batch_hard``: the farthest positive, the nearest negative.
    - ``online``: any positive, the nearest negative; the others have a list of hard ones among them.

    For a positive at 1 and negatives at 0.9, 1.1, 1.15 and 3 (squared), margin 0.2: hard takes 0.9, semi-hard 1.1.

    Args:
        squared: squared distances.
        alike: pairs that may be anchor and positive.
        unlike: pairs that may be anchor and negative.
        mining: which.
        margin: :math:`\alpha`, of squared distances.
        generator: draws.

    Reference:
        Schroff et al., "FaceNet", CVPR 2015; batch_hard: Hermans et al., "In Defense of the Triplet Loss for Person
        Re-Identification", 2017.
    """
    draw = uniform((2, *squared.shape), squared, generator)
    positive = _most(squared if mining == "batch_hard" else draw[0], alike)
    to_positive = squared.gather(1, positive[:, None])
    wanted, wish = unlike, -squared
    if mining == "semi_hard":
        wanted = unlike & (squared > to_positive) & (squared < to_positive + margin)
    elif mining == "hard":
        wanted, wish = unlike & (squared < to_positive), draw[1]
    elif mining == "random":
        wish = draw[1]
    return Mined(positive, _most(wish, wanted), alike.any(1) & wanted.any(1))


def _most(wish: Float[Tensor, "anchor other"], may: Bool[Tensor, "anchor other"]) -> Int[Tensor, " anchor"]:
    return wish.detach().masked_fill(~may, -torch.inf).argmax(1)


@objectives.register("triplet")
class Triplet(MetricObjective):
    """`triplet` of two augmented looks at every record: each look is an anchor once, its triplet is by `mine`.

    Args:
        given: what the builder knows.

    Raises:
        ConfigError: the named task has no classes.

    Reference:
        Schroff et al., "FaceNet: A Unified Embedding for Face Recognition and Clustering", CVPR 2015.
    """

    exempt: ClassVar[Mapping[str, str]] = {"gradient_reaches_encoders": "triplets that keep their margin have none"}

    def __init__(
        self,
        given: Given,
        *,
        task: Annotated[
            str | None, Field(description="whose classes are alike; by default a record is alike to itself alone")
        ] = None,
        mining: Annotated[Mining, Field(description="which triplets")] = "semi_hard",
        margin: Annotated[float, Field(gt=0, description="by which a negative should be farther")] = 0.2,
        squared: Annotated[bool, Field(description="whether squares of distances are compared")] = True,
        hinge: Annotated[bool, Field(description="whether a triplet that keeps the margin counts no more")] = True,
        list_size: Annotated[int, Field(ge=1, description="online: hard examples of each sensor that are kept")] = 256,
        hidden: Annotated[int, Field(ge=0, description="width of the projection's layer; 0 leaves it out")] = 128,
        out: Annotated[int, Field(ge=2, description="numbers that are compared")] = 64,
    ) -> None:
        super().__init__(given, None if task is None else class_task(given.classes, task), hidden, out)
        self.mining: Mining = mining
        self.margin, self.squared, self.hinge = margin, squared, hinge
        online = given.sensors if mining == "online" else ()
        self.lists = nn.ModuleDict({name: HardList(list_size, out) for name in online})

    def compare(self, sensor: str, embedded: Embedded, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one sensor."""
        values, alike, unlike = embedded.values, embedded.alike, embedded.unlike
        listed = cast(HardList, self.lists[sensor]) if sensor in self.lists else None
        if listed is not None:
            values = torch.cat([values, listed.values.to(values.dtype)])
            other = (embedded.identity[:, None] != listed.identity[None]) & (listed.hardness > 0)[None]
            unlike = torch.cat([unlike, other & embedded.here[:, None]], 1)
            alike = torch.cat([alike, torch.zeros_like(other)], 1)
        distance = distances(embedded.values, values)
        mined = mine(distance.square(), alike, unlike, self.mining, self.margin, generator)
        compared = distance.square() if self.squared else distance
        positive, negative = (compared.gather(1, chosen[:, None])[:, 0] for chosen in mined[:2])
        loss = triplet(positive, negative, self.margin, self.hinge)
        if listed is not None and self.training:
            broken = torch.where(mined.found, loss.detach(), torch.zeros_like(loss)).clamp_min(0)
            hardness = broken.new_zeros(len(values)).scatter_reduce(0, mined.negative, broken, "amax")
            count = len(embedded.here)
            listed.meet(embedded.values.detach(), embedded.identity, hardness[:count], hardness[count:])
        return mean_where(loss, mined.found)
