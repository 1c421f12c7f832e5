"""Temperature scaling: one number per task that makes a model as sure as it is right."""

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, minimize_scalar

from fusionkit.core.errors import ConfigError, DataError, ShapeError
from fusionkit.core.recording import Array
from fusionkit.evaluation.formula import LEAST

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(
    log_probabilities: Float[np.ndarray, "*record class_"], target: Float[np.ndarray, "*record"]
) -> float:
    r"""The temperature with the least negative log-likelihood.

    .. math:: \min_T \; -\sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

    It is convex in 1/T, so there is one minimum; it is sought from 0.05 to 20, and where records are all right the
    lower end is the answer. Above 1 the model was too sure. Two records answered at 0.9, one of them wrong, are right
    half of the time: no certainty is warranted, and T = 20. Which class is answered never changes.

    The records have to be of calibration groups of their own: neither training nor early stopping may have seen them.

    Args:
        log_probabilities: or logits; of labels, ``(record, label, 2)``, all labels share the temperature.
        target: class numbers; missing ones (nan) are left out.

    Raises:
        DataError: no record is labelled, a row is not finite, or a target is no class.
        ShapeError: they do not fit together.

    Reference:
        Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    if log_probabilities.shape[:-1] != np.shape(target):
        raise ShapeError(f"rows must fit targets, but got {log_probabilities.shape} and {np.shape(target)}")
    classes = log_probabilities.shape[-1]
    rows, right = log_probabilities.reshape(-1, classes), np.asarray(target, dtype=np.float64).reshape(-1)
    rows, right = rows[~np.isnan(right)], right[~np.isnan(right)]
    if not len(right):
        raise DataError("a temperature must be fitted to labelled records, but got none")
    if not np.isin(right, np.arange(classes)).all():
        raise DataError(f"targets must be class numbers below {classes}, but got {sorted(set(right.tolist()))[:9]}")
    rows = _floored(rows)
    answer = np.take_along_axis(rows, right.astype(np.int64)[:, None], axis=1)[:, 0]

    def slope(sharpness: float) -> float:
        """Derivative of the loss by 1/T: mean logit less that of the right class."""
        return float(((_softmax(rows * sharpness) * rows).sum(1) - answer).mean())

    low, high = 1 / HIGHEST, 1 / LOWEST
    if slope(low) >= 0:
        return HIGHEST
    if slope(high) <= 0:
        return LOWEST
    return 1 / float(brentq(slope, low, high, xtol=1e-10))


def fit_temperature_near(
    log_probabilities: Float[np.ndarray, "record class_"],
    target: Float[np.ndarray, " record"],
    center: float,
    *,
    spread: float = 0.5,
) -> float:
    r"""The most likely temperature of a few records, where others of its kind lie around another one.

    .. math:: \min_T \; -\sum_i \log \mathrm{softmax}(z_i / T)_{y_i} + \tfrac{1}{2 s^2} (\log T / T_0)^2

    A log-normal prior, ours: of a handful of records that are all right `fit_temperature` makes 0.05, and of two that
    are wrong 20. Without labelled records it is the center; with very many it is theirs.

    Args:
        log_probabilities: or logits.
        target: class numbers; missing ones (nan) are left out.
        center: :math:`T_0`, of other people.
        spread: :math:`s`; two thirds of people lie within a factor of ``exp(spread)`` of the center.

    Raises:
        DataError: a row is not finite.
    """
    rows, right = _floored(log_probabilities), np.asarray(target, dtype=np.float64)
    known = ~np.isnan(right)
    rows, chosen = rows[known], right[known].astype(np.int64)

    def loss(logarithm: float) -> float:
        scaled = rows / np.exp(logarithm)
        scaled = scaled - scaled.max(1, keepdims=True, initial=-np.inf)
        answered = scaled[np.arange(len(chosen)), chosen] - np.log(np.exp(scaled).sum(1))
        return float(-answered.sum() + (logarithm - np.log(center)) ** 2 / (2 * spread**2))

    bounds = np.log(LOWEST), np.log(HIGHEST)
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9}).x))


def temper(log_probabilities: Float[np.ndarray, "*record class_"], temperature: float) -> Array:
    """Probabilities at that temperature: of (0.9, 0.1) at 2, (0.75, 0.25).

    Raises:
        ConfigError: the temperature is not above 0.
        DataError: a row is not finite.
    """
    if not 0 < temperature < float("inf"):
        raise ConfigError(f"a temperature must be above 0 and finite, got {temperature:g}")
    return _softmax(_floored(log_probabilities) / temperature)


def _floored(rows: Array) -> Array:
    """Logarithms of a probability of 0 count as 1e-12, as in every score here; other rows are as they are."""
    rows = np.asarray(rows, dtype=np.float64)
    rows = rows - rows.max(-1, keepdims=True, initial=-np.inf)
    if np.isnan(rows).any():
        raise DataError("rows must be finite, but got one without a largest number")
    return np.maximum(rows, np.log(LEAST))


def _softmax(rows: Array) -> Array:
    raised = np.exp(rows - rows.max(-1, keepdims=True))
    shares: Array = raised / raised.sum(-1, keepdims=True)
    return shares
