"""Labelled and unlabelled records in one step."""

from collections import Counter

import pytest
import torch

from fusionkit.training.plan import SemiSupervisedPlan


def make(labelled=10, unlabelled=90, batch=4, ratio=3, steps=25, seed=0):
    return SemiSupervisedPlan(torch.arange(labelled), torch.arange(100, 100 + unlabelled), batch, ratio, steps, seed)


def test_every_step_has_its_share_of_each_labelled_ones_first():
    steps = make()(0)
    assert len(steps) == 25
    for step in steps:
        assert (step.rows[:4] < 10).all() and (step.rows[4:] >= 100).all() and len(step.rows) == 16


@pytest.mark.parametrize("part", [slice(0, 4), slice(4, 16)])
def test_each_comes_once_through_before_any_comes_again(part):
    drawn = torch.cat([step.rows[part] for step in make()(2)]).tolist()
    count = 10 if part.start == 0 else 90
    for begin in range(0, len(drawn), count):
        whole = drawn[begin : begin + count]
        assert len(set(whole)) == len(whole)
    assert max(Counter(drawn).values()) - min(Counter(drawn).values()) <= 1


def test_an_epoch_is_the_same_whenever_it_is_asked_for_and_others_differ():
    plan = make()
    first, again, other = plan(1), plan(1), plan(2)
    assert all(torch.equal(a.rows, b.rows) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.rows, b.rows) for a, b in zip(first, other, strict=True))
    assert not all(torch.equal(a.rows, b.rows) for a, b in zip(first, make(seed=1)(1), strict=True))


@pytest.mark.parametrize(
    ("options", "known", "others"),
    [({"ratio": 0}, 4, 0), ({"labelled": 3}, 3, 12), ({"unlabelled": 5}, 4, 5), ({"unlabelled": 0}, 4, 0)],
)
def test_where_there_are_fewer_than_wanted_all_are_taken(options, known, others):
    for step in make(**options)(0):
        mine, theirs = step.rows[step.rows < 100], step.rows[step.rows >= 100]
        assert len(mine) == known and len(theirs) == others
        if "labelled" in options:
            assert sorted(mine.tolist()) == [0, 1, 2]
