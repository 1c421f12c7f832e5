"""What every combination of the tasks' gradients is."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor


class Surgery(ABC):
    """Make one gradient of the shared parameters from those of several tasks.

    Its keyword-only arguments are its recipe options. Only parameters that several tasks reach go through it; only
    tasks with a label in the batch are given. The answer is on the scale of the sum, which joint training takes.
    """

    kind: ClassVar[str]

    @abstractmethod
    def __call__(
        self, gradients: Float[Tensor, "task parameter"], generator: torch.Generator | None = None
    ) -> Float[Tensor, " parameter"]:
        """Combine; whatever is drawn comes from ``generator``."""
