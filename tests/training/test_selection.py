"""How many records are made of each class, and which are kept."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.augment.generative.generator import GenerativeAugmenter, Item, Made
from fusionkit.core.errors import DataError
from fusionkit.core.levels import WindowShape
from fusionkit.training.selection import make_all, make_sure, wanted_records

ITEM = Item("features", WindowShape((1, 2, 1)), 3)


class Counting(GenerativeAugmenter):
    """Makes records that hold a number drawn from (0, 1), which the tests' classifier takes for its confidence."""

    def __init__(self, item=ITEM):
        super().__init__(item)
        self.asked = []

    def sample(self, label, generator):
        self.asked.append(torch.bincount(label, minlength=self.item.classes).tolist())
        number = torch.rand(len(label), generator=generator)
        values = torch.stack([number, label.float()], 1)[:, None, :, None]
        return Made(values, label, torch.ones(len(label)))


def surest(values):
    """Probability of the wanted class: the record's number; the rest goes to one other class."""
    number, label = values[:, 0], values[:, 1].long()
    found = torch.zeros(len(values), 3)
    found[torch.arange(len(values)), label] = number
    found[torch.arange(len(values)), (label + 1) % 3] = 1 - number
    return found


def choose(wanted, min_confidence=0.5, candidates=3, classify=surest):
    generator = Counting()
    chosen = make_sure(
        generator,
        wanted,
        torch.Generator().manual_seed(0),
        classify=classify,
        min_confidence=min_confidence,
        candidates=candidates,
    )
    return chosen, generator


@given(st.lists(st.integers(0, 50), min_size=1, max_size=5), st.floats(0, 20))
def test_as_many_are_wanted_as_asked_and_every_class_its_share(counts, add):
    wanted = wanted_records(counts, add)
    assert sum(wanted) == round(sum(add * count for count in counts))
    assert all(abs(one - add * count) < 1 for one, count in zip(wanted, counts, strict=True))
    assert all(one == 0 for one, count in zip(wanted, counts, strict=True) if not count)


def test_shares_are_rounded_by_largest_remainder():
    assert wanted_records([3, 5], 1.5) == [5, 7]
    assert wanted_records([1, 1, 1], 0.5) == [1, 1, 0]  # 1.5 in all, and round halves to even
    assert wanted_records([10, 20], 2.0) == [20, 40]
    assert wanted_records([7, 9], 0.0) == [0, 0]


@given(st.lists(st.integers(0, 20), min_size=3, max_size=3), st.floats(0, 1), st.integers(1, 4))
def test_no_more_are_kept_than_wanted_and_only_sure_ones(wanted, least, candidates):
    chosen, _ = choose(wanted, least, candidates)
    for kept, want, tried in zip(chosen.kept, chosen.wanted, chosen.tried, strict=True):
        assert kept <= want and tried <= candidates * want
    assert (chosen.confidence >= least).all()
    assert torch.equal(surest(chosen.made.values.flatten(1)).argmax(1), chosen.made.label)


@given(st.lists(st.integers(0, 20), min_size=3, max_size=3), st.floats(0, 1))
def test_classes_keep_their_shares(wanted, least):
    chosen, _ = choose(wanted, least, 2)
    pairs = [(kept, want) for kept, want in zip(chosen.kept, wanted, strict=True) if want]
    share = max((kept / want for kept, want in pairs), default=0.0)
    assert (
        share <= min(((kept + 1) / want for kept, want in pairs), default=1.0) + 1e-9
    )  # one share explains all counts


def test_a_class_that_is_half_there_halves_the_others_and_the_surest_stay():
    def doubts(values):
        """One record of class 1 is sure, the others are taken for class 0."""
        found, scarce = surest(values), torch.nonzero(values[:, 1] == 1)[:, 0]
        found[scarce] = torch.tensor([1.0, 0.0, 0.0])
        found[scarce[:1]] = torch.tensor([0.0, 1.0, 0.0])
        return found

    chosen, _ = choose([8, 4, 0], 0.0001, 1, doubts)
    assert chosen.kept == [2, 1, 0]
    first = Counting().sample(
        torch.arange(3).repeat_interleave(torch.tensor([8, 4, 0])), torch.Generator().manual_seed(0)
    )
    numbers = first.values[first.label == 0][:, 0, 0, 0]
    sure = numbers[numbers > 0.5].sort(descending=True).values
    assert set(chosen.confidence[chosen.made.label == 0].tolist()) == set(sure[:2].tolist())


def test_candidates_come_until_a_class_is_full_and_the_surest_are_kept():
    chosen, generator = choose([8, 4, 0], 0.6, 10)
    assert chosen.kept == [8, 4, 0]
    assert generator.asked[0] == [8, 4, 0] and generator.asked[-1][2] == 0
    assert [sum(column) for column in zip(*generator.asked, strict=True)] == chosen.tried
    again = Counting()
    first = again.sample(torch.arange(3).repeat_interleave(torch.tensor([8, 4, 0])), torch.Generator().manual_seed(0))
    number = first.values[first.label == 0][
        :, 0, 0, 0
    ]  # of the first round, all that are sure are kept before any other
    sure = number[number >= 0.6].sort(descending=True).values
    assert torch.equal(chosen.confidence[chosen.made.label == 0][: len(sure)], sure)


def test_a_probable_class_must_also_be_the_most_probable():
    chosen, _ = choose([50, 0, 0], 0.0, 1)
    assert 0 < chosen.kept[0] < 50 and (chosen.confidence > 0.5).all()


def test_a_threshold_that_none_reaches_keeps_none():
    chosen, generator = choose([5, 5, 5], 0.9, 4, lambda values: torch.full((len(values), 3), 1 / 3))
    assert chosen.kept == [0, 0, 0] and chosen.tried == [20, 20, 20] and len(generator.asked) == 4
    assert chosen.made.values.shape == (0, 1, 2, 1) and chosen.confidence.shape == (0,)


def test_full_usage_appends_all_and_nobody_judges():
    chosen = make_all(Counting(), [2, 0, 3], torch.Generator().manual_seed(0))
    assert chosen.made.label.tolist() == [0, 0, 2, 2, 2] and chosen.confidence.isnan().all()
    assert chosen.wanted == chosen.tried == chosen.kept == [2, 0, 3]


def test_records_that_are_no_numbers_are_refused():
    class Broken(Counting):
        def sample(self, label, generator):
            made = super().sample(label, generator)
            made.values[1] = np.nan
            return made

    with pytest.raises(DataError, match="must be finite, but 1 of 4 are not"):
        make_all(Broken(), [4, 0, 0], torch.Generator())
