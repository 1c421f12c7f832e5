"""Hierarchical triplets: the margin between two classes grows with the level of a tree that parts them."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, cast

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from fusionkit.augment.augmentation import uniform
from fusionkit.core.errors import ConfigError
from fusionkit.core.registry import objectives
from fusionkit.pretraining.class_tree import grow
from fusionkit.pretraining.identity import class_task
from fusionkit.pretraining.metric import Embedded, MetricObjective, distances
from fusionkit.pretraining.objective import Given, Looks


def hierarchical_triplet(
    positive: Float[Tensor, " anchor"],
    negative: Float[Tensor, "anchor other"],
    margin: Float[Tensor, "anchor other"],
    counts: Bool[Tensor, "anchor other"],
) -> Float[Tensor, ""]:
    r""":math:`\frac{1}{2Z} \sum [d(a, p) - d(a, n) + \alpha_z]_+` over the Z triplets that count.

    A positive at 1, negatives at 1.5 and 3 and margins of 1 give (0.5 + 0) / 4 = 0.125.

    Args:
        positive: squared distance between each anchor and its positive.
        negative: between each anchor and everything else.
        margin: of each pair.
        counts: which pairs are an anchor and a negative.
    """
    loss = (positive[:, None] - negative + margin).clamp_min(0)
    return torch.where(counts, loss, torch.zeros_like(loss)).sum() / (2 * counts.sum().clamp_min(1))


class ClassMargins(nn.Module):
    """Margins of one sensor, and the sums of this epoch that the next ones are made of.

    Args:
        classes: how many.
        out: numbers of an embedding.
        margin: of all classes before there is a tree.
    """

    count: Tensor
    total: Tensor
    squares: Tensor
    margins: Tensor
    rank: Tensor

    def __init__(self, classes: int, out: int, margin: float) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(classes))
        self.register_buffer("total", torch.zeros(classes, out))
        self.register_buffer("squares", torch.zeros(classes))
        self.register_buffer("margins", torch.full((classes, classes), margin))
        self.register_buffer("rank", torch.zeros(classes, classes, dtype=torch.long))

    @torch.no_grad()
    def add(
        self, values: Float[Tensor, "look out"], class_: Int[Tensor, " look"], counts: Bool[Tensor, " look"]
    ) -> None:
        """Count the embeddings of a batch."""
        weight = counts.to(self.count.dtype)
        values = values.to(self.total.dtype) * weight[:, None]
        self.count.index_add_(0, class_, weight)
        self.total.index_add_(0, class_, values)
        self.squares.index_add_(0, class_, values.square().sum(1))

    @torch.no_grad()
    def renew(self, levels: int, margin: float) -> float:
        r"""Margins :math:`\alpha = \beta + d_H - s` of the epoch's tree; its mean distance within classes.

        Classes that had less than two members keep theirs.
        """
        tree = grow(self.count, self.total, self.squares, levels)
        both = tree.known[:, None] & tree.known[None]
        within = tree.distance.diagonal()
        self.margins.copy_(torch.where(both, margin + tree.merged - within[:, None], self.margins))
        apart = tree.distance.masked_fill(~both, torch.inf).diagonal_scatter(torch.full_like(within, -torch.inf))
        self.rank.copy_(apart.argsort(1).argsort(1))  # 0 is the class itself
        first = float((within * tree.known).sum() / tree.known.sum().clamp_min(1))
        for sums in (self.count, self.total, self.squares):
            sums.zero_()
        return first


@objectives.register("hierarchical_triplet")
class HierarchicalTriplet(MetricObjective):
    """`hierarchical_triplet` of two augmented looks at every record with a label.

    Each look is an anchor, with one positive at random and all looks at other classes as negatives. After every epoch
    classes are merged into a tree by the distances of the epoch's own embeddings, and margins follow it; the first
    epoch has ``margin`` everywhere. Margins are squared distances, so squares are compared (the paper prints norms). The
    paper fills batches with an anchor's nearest classes; here batches are drawn at random, and ``neighbours`` leaves
    out negatives of classes that are farther.

    Args:
        given: what the builder knows.

    Raises:
        ConfigError: no task has classes, or the named one has none, or several a record.

    Reference:
        Ge et al., "Deep Metric Learning with Hierarchical Triplet Loss", ECCV 2018.
    """

    exempt: ClassVar[Mapping[str, str]] = {"gradient_reaches_encoders": "triplets that keep their margin have none"}

    compares_looks: ClassVar[bool] = False  # classes tell what is alike

    def __init__(
        self,
        given: Given,
        *,
        task: Annotated[str | None, Field(description="whose classes are alike; by default the first with any")] = None,
        levels: Annotated[int, Field(ge=1, description="of the tree")] = 16,
        margin: Annotated[float, Field(gt=0, description="beyond that of the tree")] = 0.1,
        neighbours: Annotated[int, Field(ge=0, description="nearest classes that give negatives; 0 takes all")] = 0,
        hidden: Annotated[int, Field(ge=0, description="width of the projection's layer; 0 leaves it out")] = 128,
        out: Annotated[int, Field(ge=2, description="numbers that are compared")] = 64,
    ) -> None:
        named = class_task(given.classes, task)
        super().__init__(given, named, hidden, out)
        self.levels, self.margin, self.neighbours = levels, margin, neighbours
        classes = given.classes[named]
        self.trees = nn.ModuleDict({name: ClassMargins(classes, out, margin) for name in given.sensors})

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        assert self.task is not None
        if self.task in looks.batch.targets and looks.batch.targets[self.task].ndim > 1:
            raise ConfigError(f"hierarchical_triplet: a record must have one class, but {self.task} has several labels")
        return super().forward(looks, generator)

    def compare(self, sensor: str, embedded: Embedded, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one sensor."""
        tree = cast(ClassMargins, self.trees[sensor])
        labelled = embedded.here & (embedded.identity >= 0)
        class_ = embedded.identity.clamp_min(0)
        if self.training:
            tree.add(embedded.values.detach(), class_, labelled)
        squared = distances(embedded.values, embedded.values).square()
        alike = embedded.alike & labelled[:, None]
        chosen = uniform(tuple(squared.shape), squared, generator).masked_fill(~alike, -1).argmax(1)
        positive = squared.gather(1, chosen[:, None])[:, 0]
        counts = embedded.unlike & labelled[:, None] & labelled[None] & alike.any(1)[:, None]
        if self.neighbours:
            counts = counts & (tree.rank[class_[:, None], class_[None]] <= self.neighbours)
        return hierarchical_triplet(positive, squared, tree.margins[class_[:, None], class_[None]], counts)

    def close_epoch(self) -> dict[str, float]:
        """Make the tree anew; the history hears how far apart members of a class are."""
        return {
            f"within {name}": cast(ClassMargins, tree).renew(self.levels, self.margin)
            for name, tree in self.trees.items()
        }
