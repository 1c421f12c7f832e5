"""Permutation test of signs: no ranks and no normal law, the size of every difference counts."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from fusionkit.core.recording import Array
from fusionkit.evaluation.statistics.tested import Tested

EXACT = 15  # subjects, of which every pattern of signs is tried
NORMAL = 1000  # subjects, above which the sum of differences with random signs is near enough normal
CELLS = 20_000_000  # numbers held at a time


def sign_flip(differences: Float[np.ndarray, "*test subject"], *, seed: int = 0, flips: int = 9999) -> Tested:
    r"""The mean difference, and how often random signs of the differences give one as large.

    Under the null a difference is as likely to have the other sign. Up to 15 subjects all patterns of signs are
    tried; above, ``flips`` of them, and the observed one counts as one more; above 1000 the sum is taken for normal,
    of variance :math:`\sum_i d_i^2`. Differences 1, 2, 3 have mean 2, which 2 of 8 patterns reach: p = 0.25. As with
    ranks, subjects have to be independent.

    Args:
        differences: first strategy less second, by subject.
        seed: of the patterns, where not all are tried.
        flips: how many patterns are then tried.

    Reference:
        Fisher, The Design of Experiments, 1935, section 21.
    """
    differences = np.asarray(differences, dtype=np.float64)
    subjects = differences.shape[-1]
    rows = differences.reshape(-1, subjects)
    if subjects > NORMAL:
        spread = np.sqrt((rows**2).sum(1))
        away = np.divide(np.abs(rows.sum(1)), spread, out=np.zeros(len(rows)), where=spread > 0)
        means, p = rows.mean(1), 2 * norm.sf(away)
        return Tested(means.reshape(differences.shape[:-1]), p.reshape(differences.shape[:-1]))
    exact = subjects <= EXACT
    signs = _every_sign(subjects) if exact else _random_signs(subjects, flips, seed)
    bar = np.abs(rows.sum(1)) - 1e-12 * np.abs(rows).sum(1)  # equal sums differ by rounding
    chunk = max(1, CELLS // len(signs))
    reached = np.concatenate(
        [
            (np.abs(rows[start : start + chunk] @ signs.T) >= bar[start : start + chunk, None]).sum(1)
            for start in range(0, max(len(rows), 1), chunk)
        ]
    )
    p = reached / len(signs) if exact else (reached + 1) / (len(signs) + 1)
    return Tested(rows.mean(1).reshape(differences.shape[:-1]), p.reshape(differences.shape[:-1]))


def _every_sign(subjects: int) -> Array:
    """All patterns whose last sign is plus: the others are their mirror images, with sums as large."""
    pattern = np.arange(2 ** (subjects - 1))
    bits = (pattern[:, None] >> np.arange(subjects)) & 1
    return 1.0 - 2.0 * bits


@lru_cache(maxsize=1)
def _random_signs(subjects: int, flips: int, seed: int) -> Array:
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(flips, subjects))
