"""Several tasks on one readout: a gate per task, then its head."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.heads.task import Task


class TaskGate(nn.Module):
    r"""Let every task choose which dimensions of a shared vector it reads.

    .. math:: g_t = \sigma(e_t), \qquad h_t = h \odot g_t

    For a linear head :math:`w` this is a head per task with factorised weights, since
    :math:`w^T (h \odot g_t) = (w \odot g_t)^T h`. An embedding of 0 lets half of everything through.

    Args:
        dim: width of the vector.
        tasks: how many tasks there are.

    Reference:
        Larson, Machine Learning Lecture Notes (multi-task slides): task one-hot, embedding, sigmoid, product.
        The embedding starts in 2 +- 0.05, gates 0.88 open; that start is our reconstruction.
    """

    def __init__(self, dim: int, tasks: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(tasks, dim).uniform_(1.95, 2.05))

    def forward(self, vector: Float[Tensor, "batch dim"], task: int) -> Float[Tensor, "batch dim"]:
        """What task number ``task`` reads."""
        return vector * self.embedding[task].sigmoid()


class TaskHeads(nn.Module):
    """Every task's head on one readout, behind dropout and, if wanted, a gate per task.

    Args:
        dim: width of the readout.
        tasks: by name; the order is that of the gate's rows and of the heads.
        gate: whether tasks read through a `TaskGate`.
        dropout: the share of the readout that training hides.
    """

    def __init__(self, dim: int, tasks: Mapping[str, Task], *, gate: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.dropout = nn.Dropout(dropout)
        self.gate = TaskGate(dim, len(tasks)) if gate else None
        self.heads = nn.ModuleList([task.head(dim) for task in tasks.values()])  # a task may be named `values`

    def forward(self, readout: Float[Tensor, "batch dim"]) -> dict[str, Tensor]:
        """Every task's decision about one batch."""
        readout = self.dropout(readout)
        decisions = {}
        for number, (name, head) in enumerate(zip(self.tasks, self.heads, strict=True)):
            decisions[name] = head(readout if self.gate is None else self.gate(readout, number))
        return decisions
