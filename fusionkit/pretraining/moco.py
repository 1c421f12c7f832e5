"""Momentum contrast: a look is nearer to another look at its record than to a queue of older ones."""

import copy
from typing import Annotated, ClassVar, cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusionkit.core.processes import gathered
from fusionkit.core.registry import objectives
from fusionkit.fusion.model import FusionModel
from fusionkit.pretraining.metric import mean_where, products
from fusionkit.pretraining.momentum import encoding_copy, follow
from fusionkit.pretraining.objective import Given, Looks, PretrainingObjective
from fusionkit.pretraining.projection import Projection


def moco(
    query: Float[Tensor, "batch out"],
    key: Float[Tensor, "batch out"],
    queue: Float[Tensor, "size out"],
    filled: Bool[Tensor, " size"],
    here: Bool[Tensor, " batch"],
    temperature: float,
) -> Float[Tensor, ""]:
    r"""Mean over queries of :math:`-\log \frac{e^{q \cdot k / \tau}}{e^{q \cdot k / \tau} + \sum_j e^{q \cdot k_j / \tau}}`.

    A key equal to its query and a queue of two orthogonal ones give log(1 + 2/e) = 0.5514 at temperature 1; an empty
    queue gives 0.

    Args:
        query: unit vectors.
        key: of the same records.
        queue: of older records.
        filled: places of the queue that have been written.
        here: records that count.
        temperature: divides the cosines.
    """
    right = (query.float() * key.float()).sum(1, keepdim=True)
    wrong = products(query, queue)
    cosine = torch.cat([right, wrong.masked_fill(~filled[None], torch.finfo(wrong.dtype).min)], 1)
    return mean_where(-(cosine / temperature).log_softmax(1)[:, 0], here)


class KeyQueue(nn.Module):
    """The newest keys of one sensor: where it is full, the oldest give way.

    Args:
        size: how many.
        out: numbers of a key.
    """

    keys: Tensor
    written: Tensor

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(size, out))
        self.register_buffer("written", torch.zeros((), dtype=torch.long))

    @property
    def filled(self) -> Bool[Tensor, " size"]:
        """Places that have been written."""
        return torch.arange(len(self.keys), device=self.keys.device) < self.written

    @torch.no_grad()
    def put(self, keys: Float[Tensor, "batch out"], here: Bool[Tensor, " batch"]) -> None:
        """Take the keys that count, the last ones if there are more than places."""
        size, order = len(self.keys), here.cumsum(0)
        taken = here & (order > order[-1] - size)
        place = torch.where(taken, (self.written + order - 1) % size, size)  # one place more, for what is not taken
        longer = torch.cat([self.keys, self.keys[:1]])
        self.keys.copy_(longer.index_copy(0, place, keys.to(longer.dtype))[:size])
        self.written += order[-1]


@objectives.register("moco")
class MoCo(PretrainingObjective):
    r"""`moco` for every sensor, mean over sensors: queries by the encoder that trains, keys by a slow copy of it.

    After each step the copy moves, :math:`k \leftarrow m k + (1 - m) q`, and the batch's keys enter the queue (where
    several processes train, those of all). Keys are
    made in evaluation mode with the statistics of the encoder that trains, so that no batch statistics betray which key
    is whose (the paper shuffles batches for that). A queue longer than the study has each record's own old keys among
    the wrong ones.

    Args:
        given: what the builder knows.

    Reference:
        He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020; projection and
        temperature: Chen et al., "Improved Baselines with Momentum Contrastive Learning", 2020. Theirs are a queue of
        65536 and a momentum of 0.999, for a million images.
    """

    early: ClassVar[bool] = True
    compares_looks: ClassVar[bool] = True

    def __init__(
        self,
        given: Given,
        *,
        size: Annotated[int, Field(ge=1, description="keys in the queue of each sensor")] = 1024,
        momentum: Annotated[float, Field(ge=0, lt=1, description="of the copy that makes keys")] = 0.99,
        temperature: Annotated[float, Field(gt=0, description="divides the cosines")] = 0.2,
        hidden: Annotated[int, Field(ge=0, description="width of the projection's layer; 0 leaves it out")] = 128,
        out: Annotated[int, Field(ge=2, description="numbers that are compared")] = 64,
    ) -> None:
        super().__init__(given)
        self.momentum, self.temperature = momentum, temperature
        self.projections = nn.ModuleDict({name: Projection(given.dim, hidden, out) for name in given.sensors})
        self.key_projections = copy.deepcopy(self.projections).requires_grad_(False)
        self.queues = nn.ModuleDict({name: KeyQueue(size, out) for name in given.sensors})
        self.key_model: FusionModel | None = None
        self._waiting: dict[str, tuple[Tensor, Tensor]] = {}

    def bind(self, model: FusionModel) -> None:
        """Copy what makes tokens; fusion and heads have no part in it."""
        self.key_model = encoding_copy(model)

    def train(self, mode: bool = True) -> "MoCo":
        """Keys are always made in evaluation mode."""
        super().train(mode)
        if self.key_model is not None:
            self.key_model.eval()
        return self

    def forward(self, looks: Looks, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of one batch."""
        assert self.key_model is not None
        self._waiting, losses = {}, []
        with torch.no_grad():
            keyed = self.key_model.look(looks.batch.inputs, generator)
        for name, project in self.projections.items():
            here, queue = looks.present(name), cast(KeyQueue, self.queues[name])
            with torch.no_grad():
                key = self.key_projections[name](keyed.readout(name))
            query = project(looks.view(0).readout(name))
            losses.append(moco(query, key, queue.keys, queue.filled, here, self.temperature))
            self._waiting[name] = key, here
        return torch.stack(losses).mean()

    @torch.no_grad()
    def settle(self, model: FusionModel) -> None:
        """Move the copy, then let the batch's keys into the queues."""
        assert self.key_model is not None
        follow(self.key_model, model, self.momentum)
        follow(self.key_projections, self.projections, self.momentum)
        for name, (key, here) in self._waiting.items():
            cast(KeyQueue, self.queues[name]).put(*gathered(key.float(), here))
        self._waiting = {}
