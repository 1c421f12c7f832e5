"""Averages over decisions, by the hand values of their docs and by plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.runtime import BundleError
from fusionkit.runtime.stream import Exponential, MovingAverage
from fusionkit.runtime.stream.smoothing import Smoother

steps = st.lists(st.tuples(st.integers(1, 4), st.floats(0, 1)), min_size=1, max_size=12)


def smooth(options, numbers, values):
    smoother = Smoother(options)
    return [float(smoother.push(n, {"state": np.array([v])})["state"][0]) for n, v in zip(numbers, values, strict=True)]


def test_hand_values():
    assert smooth(MovingAverage(2), range(3), [0.2, 0.4, 0.9]) == pytest.approx([0.2, 0.3, 0.65])
    assert smooth(Exponential(0.5), range(3), [0.2, 0.6, 0.6]) == pytest.approx([0.2, 0.4, 0.5])
    assert smooth(None, range(3), [0.2, 0.6, 0.6]) == [0.2, 0.6, 0.6]


@given(steps, st.integers(1, 5))
def test_a_moving_average_is_over_steps_of_time(made, decisions):
    numbers, values = np.cumsum([step for step, _ in made]), [value for _, value in made]
    wanted = [np.mean([v for m, v in zip(numbers, values, strict=True) if n - decisions < m <= n]) for n in numbers]
    assert smooth(MovingAverage(decisions), numbers.tolist(), values) == pytest.approx(wanted)


@given(steps, st.floats(0.05, 1))
def test_an_exponential_mean_fades_in_steps_that_were_not_decided(made, share):
    """As if every step that was skipped had the answer that comes after it."""
    numbers = np.cumsum([step for step, _ in made]).tolist()
    state, wanted = None, []
    for step, value in made:
        for _ in range(step if state is not None else 1):
            state = value if state is None else state + share * (value - state)
        wanted.append(state)
    assert smooth(Exponential(share), numbers, [value for _, value in made]) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MovingAverage(0), "over 1 decision or more, but got 0"),
        (lambda: Exponential(0.0), "above 0 and at most 1, but got 0"),
        (lambda: Exponential(1.5), "above 0 and at most 1, but got 1.5"),
    ],
)
def test_impossible_options_are_refused(make, message):
    with pytest.raises(BundleError, match=message):
        make()
