"""The learning rate as a function of the step alone, so that nothing of it needs saving."""

import math


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Linear warm-up over a fraction of all steps, then half a cosine down to zero.

    With 100 steps and warm-up 0.1: 0.1 at step 0, 1 at step 9, 0.5 half-way through the rest (step 55).

    Args:
        step: counted from 0.
        total: steps of the whole training.
        warmup: fraction of ``total`` spent rising, at least one step.
    """
    rising = max(1, round(total * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
