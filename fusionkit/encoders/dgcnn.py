"""A graph over electrodes whose ties are learned with everything else."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.core.errors import ConfigError
from fusionkit.core.levels import Features, FeatureShape, Tokens, scrub
from fusionkit.core.registry import encoders
from fusionkit.encoders.encoder import FeatureEncoder

Places = tuple[tuple[float, float, float], ...]


def initial_adjacency(channels: int, places: Places | None) -> Float[Tensor, "channel channel"]:
    r"""How strongly two electrodes are tied before anything is learned: the nearer, the stronger.

    .. math:: w_{ij} = \exp(-d_{ij}^2 / 2 \rho^2)

    with :math:`d_{ij}` the straight distance of two electrodes and :math:`\rho` the mean distance of an electrode from
    its nearest other. Three in a line, 3 cm apart, give 0.6065 between neighbours and 0.1353 between the outer two.
    Where places are unknown, all are tied alike, by 1.

    Args:
        channels: electrodes.
        places: where each sits, in metres.

    Reference:
        Equation 1 of Song et al., 2018, which leaves :math:`\rho` open, and a distance beyond which ties are cut: here
        none is below 1e-6, for a ReLU passes no gradient to a tie of 0.
    """
    if places is None:
        return torch.ones(channels, channels)
    place = torch.tensor(places, dtype=torch.float64)
    distance = (place[:, None] - place).norm(dim=2)
    nearest = (distance + torch.diag(torch.full((channels,), torch.inf, dtype=torch.float64))).min(1).values
    scale = nearest.mean().clamp_min(1e-9)  # all in one place
    return torch.exp(-distance.square() / (2 * scale.square())).clamp_min(1e-6).float()


class GraphConvolution(nn.Module):
    r"""Chebyshev polynomials of a graph's Laplacian, whose nodes' ties are parameters.

    .. math::
        A_{ij} = \tfrac12 (\mathrm{relu}(w_{ij}) + \mathrm{relu}(w_{ji})), \quad A_{ii} = 0, \quad
        \tilde L = -D^{-1/2} A D^{-1/2}, \quad Y = \sum_{k=0}^{K} T_k(\tilde L) X \Theta_k + b

    with :math:`D` the sums of rows of :math:`A`, :math:`T_0 = 1`, :math:`T_1(x) = x` and
    :math:`T_k(x) = 2 x T_{k-1}(x) - T_{k-2}(x)`. Two nodes, however tied, have :math:`\tilde L X` = the other's values
    with the opposite sign. A node that is tied to none keeps :math:`\tilde L X` = 0.

    Args:
        adjacency: what the ties :math:`w` start from.
        inputs: numbers of a node.
        width: numbers of a node that come out.
        order: highest polynomial, :math:`K`: a node hears of nodes up to K ties away.
    """

    def __init__(self, adjacency: Float[Tensor, "channel channel"], inputs: int, width: int, order: int) -> None:
        super().__init__()
        self.adjacency = nn.Parameter(adjacency)
        self.order = order
        self.mix = nn.Linear((order + 1) * inputs, width)

    def laplacian(self) -> Float[Tensor, "channel channel"]:
        """The normalised Laplacian of the ties as they are, less 1: its eigenvalues lie between -1 and 1."""
        ties = F.relu(self.adjacency)
        ties = (ties + ties.T) / 2 * (1 - torch.eye(len(ties), dtype=ties.dtype, device=ties.device))
        degree = ties.sum(1)
        tied = degree > 0
        scale = torch.where(tied, torch.where(tied, degree, torch.ones_like(degree)).rsqrt(), torch.zeros_like(degree))
        return -scale[:, None] * ties * scale

    def forward(self, x: Float[Tensor, "batch time channel subchannel"]) -> Float[Tensor, "batch time channel width"]:
        """Filter the steps of one batch, each by itself."""
        laplacian = self.laplacian()
        terms = [x, laplacian @ x]
        for _ in range(2, self.order + 1):
            terms.append(2 * (laplacian @ terms[-1]) - terms[-2])
        filtered: Tensor = self.mix(torch.cat(terms, -1))
        return filtered


@encoders.register("dgcnn")
class DGCNNEncoder(FeatureEncoder):
    """One token per step from a graph over electrodes, whose ties are learned: the dynamical graph CNN.

    Electrodes are the nodes and the bands of each are what it knows: a graph convolution (see `GraphConvolution`),
    ReLU, then one linear map over all nodes, and a layer norm. One matrix of ties is shared by all steps and records;
    it starts from the places of the electrodes where they are known (see `initial_adjacency`). Steps do not see each
    other; an electrode that was not measured is 0, the mean.

    From the paper: ties that are learned, their ReLU, the polynomials, the 1 x 1 convolution behind them (one linear
    map with the coefficients, since nothing stands between), ReLU, and the layer over all nodes. Left open by it and
    chosen here: ties are made symmetric (only then has the Laplacian the eigenvectors that the polynomials stand for)
    and the Laplacian is the normalised one, whose largest eigenvalue is bounded by 2, so that none is computed in
    training. The ReLU stands before the Laplacian, not behind each update: a tie that falls to 0 stays cut.

    Args:
        shape: what is known of the features; ``shape.places`` are those of the electrodes.
        dim: width of a token.
        order: highest Chebyshev polynomial: an electrode hears of others up to so many ties away.
        width: numbers of an electrode behind the graph convolution.
        dropout: share of those numbers dropped in training.

    Raises:
        ConfigError: there is one electrode only.

    Reference:
        Song, Zheng, Song, Cui, "EEG Emotion Recognition Using Dynamical Graph Convolutional Neural Networks", IEEE
        Transactions on Affective Computing 11, 2020 (online 2018); Defferrard, Bresson, Vandergheynst, NeurIPS 2016.
    """

    stepwise = True

    def __init__(
        self,
        shape: FeatureShape,
        dim: int,
        *,
        order: Annotated[int, Field(ge=1, le=8, description="highest Chebyshev polynomial")] = 2,
        width: Annotated[int, Field(ge=1, description="numbers of an electrode behind the graph convolution")] = 32,
        dropout: Annotated[float, Field(ge=0, lt=1, description="share dropped in training")] = 0.1,
    ) -> None:
        super().__init__(shape, dim)
        if shape.channel < 2:
            raise ConfigError(f"a graph must have two electrodes or more, but there is {shape.channel}")
        adjacency = initial_adjacency(shape.channel, shape.places)
        self.graph = GraphConvolution(adjacency, shape.subchannel, width, order)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(shape.channel * width, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features: Features) -> Tokens:
        """Encode one batch."""
        clean = scrub(features)
        nodes = self.dropout(F.relu(self.graph(clean.values)))
        return scrub(Tokens(self.norm(self.project(nodes.flatten(2))), clean.mask, clean.present, clean.time))
