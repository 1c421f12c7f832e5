"""Several tasks on one readout: what they share, a gate per task, then its head."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fusionkit.heads.mixture_of_experts import MixtureOfExperts
from fusionkit.heads.soft_sharing import SoftSharing
from fusionkit.heads.task import Task

Form = Literal["sigmoid", "notebook", "none"]
Sharing = Literal["hard", "soft", "mixture_of_experts"]


class TaskGate(nn.Module):
    r"""Let every task choose which dimensions of a shared vector it reads.

    ``sigmoid``: :math:`h_t = h \odot \sigma(e_t)`. For a linear head :math:`w` this is a head per task with
    factorised weights, since :math:`w^T (h \odot g_t) = (w \odot g_t)^T h`. An embedding of 0 lets half of everything
    through. ``notebook``: :math:`h_t = e_t \odot \sigma(V h + c)`, where the sigmoid is on the features and the
    embedding is free; an embedding of 1 and V of 0 give halves.

    Args:
        dim: width of the vector.
        tasks: how many tasks there are.
        form: which of the two.

    Reference:
        Larson, Machine Learning Lecture Notes: the multi-task slides (task one-hot, embedding, sigmoid, product), and
        the notebook beside them, which differs. The slides' embedding starts in 2 +- 0.05, gates 0.88 open; that
        start is our reconstruction. The notebook's starts in 0 +- 0.05, as Keras does.
    """

    def __init__(self, dim: int, tasks: int, form: Literal["sigmoid", "notebook"] = "sigmoid") -> None:
        super().__init__()
        start = torch.empty(tasks, dim).uniform_(-0.05, 0.05)
        self.embedding = nn.ParameterList(row + 2 if form == "sigmoid" else row.clone() for row in start)
        self.features = nn.Linear(dim, dim) if form == "notebook" else None

    def forward(self, vector: Float[Tensor, "batch dim"], task: int) -> Float[Tensor, "batch dim"]:
        """What task number ``task`` reads."""
        if self.features is None:
            gated: Tensor = vector * self.embedding[task].sigmoid()
            return gated
        opened: Tensor = self.features(vector).sigmoid() * self.embedding[task]
        return opened


class TaskHeads(nn.Module):
    """Every task's head on one readout, behind dropout, what tasks share and, if wanted, a gate per task.

    Args:
        dim: width of the readout.
        tasks: by name; the order is that of the gate's rows and of the heads.
        gate: in which form tasks read through a `TaskGate`; true means ``sigmoid``, false ``none``.
        dropout: the share of the readout that training hides.
        sharing: ``hard`` gives every task the readout, ``soft`` puts `SoftSharing` between, ``mixture_of_experts``
            a `MixtureOfExperts`.
        experts: how many, in a mixture.
        penalty: of soft sharing.
        evidence: whether the decisions are to be evidence (`Task.evidence_head`), not probabilities.
    """

    def __init__(
        self,
        dim: int,
        tasks: Mapping[str, Task],
        *,
        gate: Form | bool = True,
        dropout: float = 0.0,
        sharing: Sharing = "hard",
        experts: int = 4,
        penalty: float = 0.01,
        evidence: bool = False,
    ) -> None:
        super().__init__()
        form: Form = ("sigmoid" if gate else "none") if isinstance(gate, bool) else gate
        self.tasks = tuple(tasks)
        self.dropout = nn.Dropout(dropout)
        self.trunks = SoftSharing(dim, len(tasks), penalty=penalty) if sharing == "soft" else None
        self.mixture = MixtureOfExperts(dim, len(tasks), experts=experts) if sharing == "mixture_of_experts" else None
        self.gate = None if form == "none" else TaskGate(dim, len(tasks), form)
        made = [task.evidence_head(dim) if evidence else task.head(dim) for task in tasks.values()]
        self.heads = nn.ModuleList(made)  # a task may be named `values`

    def forward(self, readout: Float[Tensor, "batch dim"]) -> dict[str, Tensor]:
        """Every task's decision about one batch."""
        readout = self.dropout(readout)
        answers = None if self.mixture is None else self.mixture.answers(readout)
        decisions = {}
        for number, (name, head) in enumerate(zip(self.tasks, self.heads, strict=True)):
            read = readout
            if self.mixture is not None and answers is not None:
                read = self.mixture(readout, answers, number)
            if self.trunks is not None:
                read = self.trunks(readout, number)
            decisions[name] = head(read if self.gate is None else self.gate(read, number))
        return decisions
