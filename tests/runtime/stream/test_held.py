"""Values of what has no time: which one counts when, and what is no value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.runtime import BundleError
from fusionkit.runtime.stream.held import MOST_VALUES, Held


@given(st.lists(st.integers(0, 20), max_size=12), st.integers(1, 6))
def test_the_newest_value_that_is_not_too_old(times, hold):
    """Against a plain loop; pushed in any order, a later push of one time counts more."""
    held = Held("text", None, float(hold))
    for number, time in enumerate(times):
        held.push(number, float(time))
    for now in range(25):
        found = None
        for number, time in enumerate(times):
            if now - hold <= time < now and (found is None or time >= times[found]):
                found = number
        assert held.at(float(now)) == found
        held.keep(float(now))


def test_no_more_values_are_kept_than_could_count():
    held = Held("text", None, 1.0)
    for number in range(MOST_VALUES + 5):
        held.push(number, float(number))
    assert held.dropped == 5 and held.taken == MOST_VALUES + 5
    held.keep(1000.0)
    assert held.at(1000.0) == 999 and len(held._times) == MOST_VALUES + 5 - 999
    held.clear()
    assert held.at(1000.0) is None


def test_bytes_of_an_image_become_numbers_from_0_to_1(made):
    face = made(None, 4, layout="3, height, width", shape=(3, 2, 2), lacks=False, limits=(0.0, 1.0))
    held = Held("face", face, 1.0)
    assert held.check(np.full((3, 2, 2), 51, np.uint8))[0, 0, 0] == pytest.approx(0.2)
    assert held.check(np.full((3, 2, 2), 0.5))[0, 0, 0] == 0.5
    for value, message in (
        (np.full((3, 2, 2), 51.0), "face: a window must hold numbers from 0 to 1"),
        (np.zeros((3, 4, 2)), r"face: a window must have shape \[3, 2, 2\]"),
        (np.full((3, 2, 2), np.nan), "face: a window must hold finite numbers"),
        (np.zeros((2, 3, 2, 2)), "face: a value must be one, but got 2"),
        ("smile", "face: a value must be 3, height, width, but got text"),
    ):
        with pytest.raises(BundleError, match=message):
            held.check(value)


def test_a_vector_gets_its_axis(made):
    held = Held("age", made(None, 1, 3, lacks=False), 1.0)
    assert held.check([1.0, 2.0, 3.0]).shape == (3, 1)
