"""Linear CKA: how alike two sets of activations are, whatever their rotation and their scale."""

from jaxtyping import Float
from torch import Tensor


def linear_cka(first: Float[Tensor, "row width"], second: Float[Tensor, "row other"]) -> float:
    r"""Centred kernel alignment with linear kernels, from 0 to 1.

    .. math:: \frac{\|B^T A\|_F^2}{\|A^T A\|_F \, \|B^T B\|_F}

    with columns centred. Of a matrix and its rotation it is 1. With as many columns as rows it is near 1 for
    anything: see `debiased_cka`. Where something does not vary it is 0.

    Reference:
        Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019.
    """
    a, b = _centred(first), _centred(second)
    scale = float((a.T @ a).norm() * (b.T @ b).norm())
    return float((b.T @ a).square().sum()) / scale if scale > 0 else 0.0


def debiased_cka(first: Float[Tensor, "row width"], second: Float[Tensor, "row other"]) -> float:
    r"""Linear CKA with unbiased estimates of HSIC: near 0 (below it, too) for independent data of any width.

    With kernels :math:`K = A A^T, L = B B^T` whose diagonals are zero and n rows,

    .. math:: \frac{1}{n (n - 3)} \Big( \mathrm{tr}(K L) + \frac{1^T K 1 \; 1^T L 1}{(n - 1)(n - 2)}
              - \frac{2}{n - 2} 1^T K L 1 \Big)

    takes the place of HSIC. Where something does not vary, or with under four rows, it is 0.

    Reference:
        Song et al., "Feature Selection via Dependence Maximization", JMLR 13, 2012;
        Nguyen, Raghu and Kornblith, "Do Wide and Deep Networks Learn the Same Things?", ICLR 2021.
    """
    if len(first) < 4:
        return 0.0
    kernels = []
    for x in (first, second):
        centred = _centred(x)  # changes nothing but rounding
        kernels.append((centred @ centred.T).fill_diagonal_(0))
    k, l = kernels
    scale = _unbiased_hsic(k, k) * _unbiased_hsic(l, l)
    return _unbiased_hsic(k, l) / scale**0.5 if scale > 1e-30 else 0.0


def _unbiased_hsic(k: Float[Tensor, "row row"], l: Float[Tensor, "row row"]) -> float:
    n = len(k)
    ones = k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) @ l.sum(1))
    return float(((k * l).sum() + ones) / (n * (n - 3)))


def _centred(x: Float[Tensor, "row width"]) -> Float[Tensor, "row width"]:
    x = x.detach().cpu().double()  # some devices have no float64
    return x - x.mean(0)
