"""Records of any width as points of a plane."""

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from fusionkit.core.recording import Array

STEPS = 500


def principal_map(training: Float[np.ndarray, "record width"], shown: Float[np.ndarray, "point width"]) -> Array:
    """Places along the first two principal components of the training records, ``(point, 2)``; one that is missing is 0."""
    count = min(2, *training.shape)
    placed = np.zeros((len(shown), 2))
    if np.ptp(training, 0).any():
        placed[:, :count] = PCA(count, svd_solver="full").fit(training).transform(shown)
    return placed


def neighbour_map(shown: Float[np.ndarray, "point width"], seed: int) -> Array:
    """Places by t-SNE, ``(point, 2)``: neighbours stay neighbours, and distances of groups mean nothing.

    Args:
        shown: four points or more.
        seed: of scikit-learn's optimiser, 500 steps from principal components with perplexity 30, less for few points.

    Reference:
        van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008.
    """
    if not np.ptp(shown, 0).any():
        return np.zeros((len(shown), 2))
    perplexity = min(30.0, (len(shown) - 1) / 3)
    init = "pca" if min(shown.shape) > 1 else "random"
    return np.asarray(
        TSNE(perplexity=perplexity, init=init, max_iter=STEPS, random_state=seed % 2**32).fit_transform(shown)
    )
