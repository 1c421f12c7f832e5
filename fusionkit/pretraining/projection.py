"""The head that contrastive objectives compare in, thrown away afterwards."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Projection(nn.Module):
    r"""Linear, ReLU, linear, unit length: :math:`z = g(h) / \lVert g(h) \rVert`.

    What comes before it serves other tasks better than what comes after.

    Args:
        dim: numbers of an embedding.
        hidden: of the layer between; 0 leaves one linear layer.
        out: of what is compared.

    Reference:
        Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020.
    """

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        layers = [nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, out)] if hidden else [nn.Linear(dim, out)]
        self.layers = nn.Sequential(*layers)

    def forward(self, embedding: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch out"]:
        """Unit vectors in single precision; zeros stay near zero."""
        return F.normalize(self.layers(embedding).float(), dim=-1)
