"""How well a strategy keeps its score as sensors fail: areas under curves, never normalised by who else took part."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from fusionkit.core.errors import ConfigError, ShapeError, UnknownNameError
from fusionkit.core.recording import Array
from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.statistics.resampled import Resampled


@dataclass(frozen=True)
class Robustness:
    """One strategy as one kind of fault grows, with intervals over subjects.

    Attributes:
        clean: the score at the lowest level.
        worst: the score at the highest.
        relative: `relative_robustness`.
        area: `missingness_area`.
        effective: `effective_robustness` against the reference; 0 of the reference itself.
    """

    clean: Interval
    worst: Interval
    relative: Interval
    area: Interval
    effective: Interval


def robustness(
    scores: Resampled, strategies: Sequence[str], levels: Sequence[float], *, reference: str
) -> dict[str, Robustness]:
    """Every strategy's robustness to one kind of fault.

    Args:
        scores: ``(strategy, level)``, of the same subjects.
        strategies: their names.
        levels: of the fault, ascending, from none.
        reference: the strategy of this comparison that the others are measured against, as a rule the late mean.

    Raises:
        ConfigError: levels are fewer than two, or do not ascend.
        ShapeError: there is not one score for each strategy and level.
        UnknownNameError: the reference is none of the strategies.
    """
    if reference not in strategies:
        raise UnknownNameError("strategy", reference, strategies)
    if scores.value.shape != (len(strategies), len(levels)):
        raise ShapeError(
            f"there must be a score for each of {len(strategies)} strategies and {len(levels)} levels, "
            f"but got {scores.value.shape}"
        )
    base = list(strategies).index(reference)
    parts = [
        scores.then(measure).intervals()
        for measure in (
            lambda values: values[..., 0],
            lambda values: values[..., -1],
            lambda values: relative_robustness(values, levels),
            lambda values: missingness_area(values, levels),
            lambda values: effective_robustness(values, values[..., [base], :]),
        )
    ]
    return {name: Robustness(*row) for name, row in zip(strategies, zip(*parts, strict=True), strict=True)}


def relative_robustness(curve: Float[np.ndarray, "*n level"], levels: Sequence[float]) -> Array:
    r"""Area under the curve of scores f over levels of a fault, by trapezoids.

    .. math:: \sum_i \tfrac{1}{2} (f_i + f_{i+1}) (\sigma_{i+1} - \sigma_i)

    Scores 1, 0.5 and 0 at levels 0, 0.5 and 1 give 0.5. Public code then rescales it so that the best strategy of a
    task has 1 and the worst 0, which makes it depend on who else took part; here it stays as it is.

    Raises:
        ConfigError: levels are fewer than two, or do not ascend.
        ShapeError: there is not one score for each level.

    Reference:
        Taori et al., Measuring Robustness to Natural Distribution Shifts, NeurIPS 2020; as MultiBench computes it:
        Liang et al., NeurIPS Datasets 2021, before its normalisation.
    """
    steps = np.asarray(levels, dtype=np.float64)
    if len(steps) < 2 or not (np.diff(steps) > 0).all():
        raise ConfigError(f"levels of a fault must be two or more and ascend, but got {list(levels)}")
    if np.shape(curve)[-1:] != steps.shape:
        raise ShapeError(f"there must be a score for each of {len(steps)} levels, but got {np.shape(curve)}")
    return np.asarray(np.trapezoid(curve, steps, axis=-1))


def missingness_area(curve: Float[np.ndarray, "*n level"], rates: Sequence[float]) -> Array:
    r"""Mean score over rates r of missing data: the area under the curve divided by the width.

    .. math:: \frac{1}{r_1 - r_0} \int_{r_0}^{r_1} f(r) \, dr

    by trapezoids. It is in units of the score: a constant score of 0.8 has 0.8 whatever the rates; scores 0.9 and 0.5
    at rates 0.05 and 0.95, 0.7. That the published area (MR-AUC) is divided by the width is our reading.

    Raises:
        ConfigError: as `relative_robustness`.
        ShapeError: as `relative_robustness`.
    """
    return np.asarray(relative_robustness(curve, rates) / (rates[-1] - rates[0]))


def effective_robustness(curve: Float[np.ndarray, "*n level"], reference: Float[np.ndarray, "*n level"]) -> Array:
    r"""How much less a strategy loses than the reference loses, summed over levels.

    .. math:: \sum_\sigma f(\sigma) - \bigl(g(\sigma) + f(0) - g(0)\bigr)

    The reference g is moved up or down until it starts where the strategy f does. Scores 0.9, 0.8, 0.6 against
    0.7, 0.5, 0.3 lose 0.1 and 0.3 where the reference loses 0.2 and 0.4: 0.2. Lines that fall alike have 0. As a sum
    it grows with the number of levels: compare strategies at the same ones.

    Raises:
        ShapeError: the two have not the same levels.

    Reference:
        As `relative_robustness`, where the reference is late fusion.
    """
    if np.shape(curve)[-1:] != np.shape(reference)[-1:]:
        raise ShapeError(f"both must have the same levels, but got {np.shape(curve)} and {np.shape(reference)}")
    return np.asarray(((curve - curve[..., :1]) - (reference - reference[..., :1])).sum(-1))
