"""Labels that must last before they are said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.runtime import BundleError
from fusionkit.runtime.manifest import Task
from fusionkit.runtime.stream import Debounce
from fusionkit.runtime.stream.debounce import Debouncer

CHOICE = Task("classification", ("a", "b", "c"), "probabilities", {})
LABELS = Task("multi_label", ("x", "y"), "probabilities", {})
VALUE = Task("regression", (), "value", {})


def said(options, answers, task=CHOICE, step=1.0):
    debouncer = Debouncer(options, {"state": task})
    found = [debouncer.push(step * n, {"state": np.asarray(answer, float)}) for n, answer in enumerate(answers)]
    return [labels["state"] for labels, _ in found], [sure["state"] for _, sure in found]


def of(labels):
    return [[0.8 if one == label else 0.1 for one in "abc"] for label in labels]


def test_hand_values():
    assert "".join(said(Debounce(count=2), of("ababba"))[0]) == "aaaabb"
    two = [[0.6, 0.4, 0], [0.45, 0.55, 0], [0.35, 0.65, 0]]
    assert said(Debounce(margin=0.2), two)[0] == ["a", "a", "b"]
    assert said(None, two)[0] == ["a", "b", "b"]


def test_a_label_is_held():
    assert "".join(said(Debounce(hold=3.0), of("abbbbaaac"))[0]) == "aaabbbaaa"
    assert "".join(said(Debounce(hold=0.5), of("abab"))[0]) == "abab"


def test_winning_in_a_row_means_one_and_the_same_rival():
    assert "".join(said(Debounce(count=2), of("abcbcc"))[0]) == "aaaaac"


def test_confidence_is_of_what_is_said():
    labels, sure = said(Debounce(count=2), [[0.9, 0.1, 0], [0.2, 0.8, 0]])
    assert labels == ["a", "a"] and sure == pytest.approx([0.9, 0.2])


def test_each_of_several_labels_flickers_by_itself():
    labels, sure = said(Debounce(count=2), [[0.9, 0.2], [0.2, 0.8], [0.3, 0.4]], LABELS)
    assert labels == [("x",), ("x",), ()] and sure == pytest.approx([0.8, 0.2, 0.6])
    labels, sure = said(None, [[0.9, 0.2], [0.2, 0.8]], LABELS)
    assert labels == [("x",), ("y",)] and sure == pytest.approx([0.8, 0.8])


def test_values_are_said_as_they_are():
    labels, sure = said(Debounce(count=9), [[1.5], [-2.0]], VALUE)
    assert labels == [1.5, -2.0] and np.isnan(sure).all()


@given(st.text("abc", min_size=1, max_size=20), st.integers(1, 4), st.integers(0, 4))
def test_against_a_plain_loop(labels, count, hold):
    now, since, wanted = labels[0], 0, []
    for n, _ in enumerate(labels):
        row = labels[max(0, n - count + 1) : n + 1]
        if len(set(row)) == 1 and len(row) == count and row[0] != now and n - since >= hold:
            now, since = row[0], n
        wanted.append(now)
    assert said(Debounce(count=count, hold=float(hold)), of(labels))[0] == wanted


@pytest.mark.parametrize("options", [{"count": 0}, {"margin": 1.0}, {"margin": -0.1}, {"hold": -1.0}, {"hold": np.inf}])
def test_impossible_options_are_refused(options):
    with pytest.raises(BundleError, match="debouncing must have a count of 1 or more"):
        Debounce(**options)
