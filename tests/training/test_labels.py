"""Labels that are hidden on purpose: how many, which, and whose are left alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.core.errors import DataError
from fusionkit.data.records import Records
from fusionkit.heads.classification import Classification
from fusionkit.heads.regression import Regression
from fusionkit.recipe.sections import LabelSection
from fusionkit.training import fold
from fusionkit.training.checkpoint import load_tensors
from fusionkit.training.labels import hide_labels, labelled_rows
from fusionkit.training.listener import Listener
from fusionkit.training.run import train


class Notes(Listener):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def records(count, subjects=4):
    return Records.of([{"id": str(n), "subject": f"s{n % subjects}"} for n in range(count)])


def hide(recipe, targets, train=None, number=0, subjects=4):
    tasks = {name: Classification(classes=["a", "b", "c"]) for name in targets}
    count = len(next(iter(targets.values())))
    train = np.arange(count) if train is None else train
    return hide_labels(recipe, records(count, subjects), tasks, targets, train, number)


@given(st.lists(st.integers(1, 30), min_size=3, max_size=3), st.integers(3, 40), st.integers(0, 3))
def test_as_many_are_kept_as_wanted_and_every_class_its_share(sizes, keep, number):
    total = sum(sizes)
    keep = min(keep, total)
    target = np.repeat([0.0, 1.0, 2.0], sizes).astype(np.float32)
    recipe = SimpleNamespace(seed=0, data=SimpleNamespace(labels=LabelSection(keep=keep)))  # all that is asked for
    left = hide(recipe, {"y": target}, number=number)["y"]
    known = ~np.isnan(left)
    assert known.sum() == keep and (left[known] == target[known]).all()
    kept = np.array([(left == c).sum() for c in range(3)])
    assert kept.min() >= 1  # three classes, three records or more
    share = keep * np.array(sizes) / total
    assert (np.abs(kept - share) < 2).all()


def test_a_hundred_of_ten_equal_classes_are_ten_of_each(tiny):
    target = (np.arange(3000) % 3).astype(np.float32)
    left = hide(tiny("data.labels.keep=99"), {"y": target})["y"]
    assert [(left == c).sum() for c in range(3)] == [33, 33, 33]


def test_other_parts_keep_theirs_and_the_originals_are_not_touched(tiny):
    target = (np.arange(60) % 3).astype(np.float32)
    before, train = target.copy(), np.arange(40)
    left = hide(tiny("data.labels.keep=6"), {"y": target}, train)["y"]
    assert np.isnan(left[:40]).sum() == 34 and (left[40:] == target[40:]).all()
    assert (target == before).all()
    assert hide(tiny(), {"y": target}, train)["y"].tolist() == before.tolist()


def test_the_draw_follows_seed_and_fold_alone(tiny):
    target = (np.arange(60) % 3).astype(np.float32)

    def kept(*overrides, number=0):
        left = hide(tiny("data.labels.keep=9", *overrides), {"y": target}, number=number)["y"]
        return np.flatnonzero(~np.isnan(left)).tolist()

    assert kept() == kept() == kept("train.epochs=7")
    assert kept() != kept(number=1) and kept() != kept("seed=4")
    assert kept("data.labels.seed=5") == kept("data.labels.seed=5", "seed=4") != kept()


def test_groups_keep_or_lose_as_a_whole(tiny):
    target = (np.arange(60) % 3).astype(np.float32)
    left = hide(tiny("data.labels={keep: 2, by: subject}"), {"y": target})["y"]
    known = ~np.isnan(left).reshape(15, 4)
    assert sorted(known.all(0)) == [False, False, True, True] and (known.all(0) == known.any(0)).all()


def test_several_tasks_keep_the_same_records_and_combinations_are_drawn(tiny):
    one, two = (np.arange(120) % 3).astype(np.float32), (np.arange(120) // 3 % 2).astype(np.float32)
    two[:3] = np.nan
    left = hide(tiny("data.labels.keep=12"), {"one": one, "two": two})
    known = ~np.isnan(left["one"])
    assert known.sum() == 12
    pairs = {(a, b) for a, b in zip(left["one"][known], np.nan_to_num(left["two"][known], nan=-1), strict=True)}
    assert len(pairs) == 6 + 3  # three records have no second label
    assert labelled_rows(left, np.arange(120)).sum() == 12


def test_numbers_are_drawn_from_all_alike(tiny):
    level = np.arange(50, dtype=np.float32)
    left = hide_labels(
        tiny("data.labels.keep=8"), records(50), {"level": Regression()}, {"level": level}, np.arange(50), 0
    )
    assert (~np.isnan(left["level"])).sum() == 8


def test_more_than_there_are_cannot_be_kept(tiny, tmp_path):
    target = (np.arange(9) % 3).astype(np.float32)
    target[5:] = np.nan
    with pytest.raises(DataError, match="keep must not exceed the 5 labelled training records, but got 6"):
        hide(tiny("data.labels.keep=6"), {"y": target})
    with pytest.raises(DataError, match="keep must not exceed the 4 labelled training subjects, but got 5"):
        hide(tiny("data.labels={keep: 5, by: subject}"), {"y": target})
    with pytest.raises(DataError, match=r"fold 0: data\.labels\.keep must not exceed the 16 labelled"):
        train(tiny("data.labels.keep=17"))
    assert not (tmp_path / "runs").exists()


def test_a_class_without_a_label_left_is_refused_before_signals_are_read(tiny, monkeypatch):
    monkeypatch.setattr("fusionkit.training.run.open_study", None)
    with pytest.raises(DataError, match="every class must occur in training"):
        train(tiny("data.labels.keep=1"))


def test_a_run_says_what_is_hidden_and_tests_on_every_label(tiny):
    notes = Notes()
    run = train(tiny("data.labels.keep=6"), listener=notes)
    (line,) = [line for line in notes.lines if "data.labels" in line]
    assert "6 of 16 in fold 0, 6 of 16 in fold 1 (drawn by class); the other records train no task" in line
    assert line.removeprefix("note: ") in run.facts["notes"]
    states = [run.results("fused")[fold].states["target"]["counts"] for fold in (0, 1)]
    assert [sum(counts) for counts in states] == [6, 6]
    assert sum(len(result.rows["test"]) for result in run.results("fused").values()) == 48


def test_without_a_method_hidden_labels_are_as_if_they_had_never_been_there(tiny, monkeypatch):
    """Other values of them, after the draw, give the same weights."""
    recipe, learn, drawn = tiny("data.labels.keep=6"), fold.learn_tasks, []

    def remember(*given):
        drawn.append(hide_labels(*given))
        return drawn[-1]

    def turn(*given):
        tasks, targets = learn(*given)
        for name, values in targets.items():
            hidden = np.isnan(drawn[0][name])
            assert hidden.sum() == 10
            values[hidden] = 1 - values[hidden]
        return tasks, targets

    def repeat(recipe, records, tasks, targets, train, number):
        return {name: np.where(np.isnan(drawn[0][name]), np.nan, values) for name, values in targets.items()}

    monkeypatch.setattr(fold, "hide_labels", remember)
    first = train(recipe, fold=0)
    monkeypatch.setattr(fold, "hide_labels", repeat)
    monkeypatch.setattr(fold, "learn_tasks", turn)
    second = train(recipe, fold=0)
    one, two = (load_tensors(run.arm_folder(0, "fused") / "last.safetensors")[0] for run in (first, second))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
