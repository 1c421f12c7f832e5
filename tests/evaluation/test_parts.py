"""What the parts of a split hold, counted by head."""

import numpy as np

from fusionkit.data.records import Records
from fusionkit.data.splits import SplitOptions, make_split
from fusionkit.evaluation.parts import LabelFacts, describe_split, untrainable
from fusionkit.heads.classification import Classification
from fusionkit.heads.multi_label import MultiLabel
from fusionkit.heads.regression import Regression

ROWS = [  # subject, class, labels, value
    ("a", "x", "p;q", "1"), ("a", "y", "p", "3"), ("b", "x", None, None), ("b", "y", "q", "5"),
    ("c", None, "p", "2"), ("c", "x", "q", "2"), ("c", "x", "p", None),
]  # fmt: skip
RECORDS = Records.of(
    [{"id": str(i), "subject": s, "k": k, "m": m, "v": v} for i, (s, k, m, v) in enumerate(ROWS)], ["k", "m", "v"]
)


def split(**options):
    return make_split(SplitOptions(kind="fixed", **options), RECORDS)


def learned():
    tasks = {"k": Classification(), "m": MultiLabel(), "v": Regression()}
    for name, task in tasks.items():
        task.learn(RECORDS.labels[name], name)
    return tasks, [{name: task.encode(RECORDS.labels[name], name) for name, task in tasks.items()}]


def test_records_groups_and_labels_are_counted():
    parts = describe_split(split(train=["a"], validation=["b"], test=["c"]), RECORDS, *learned())
    assert [(p.fold, p.part, p.records, p.groups) for p in parts] == [
        (0, "train", 2, ("a",)),
        (0, "validation", 2, ("b",)),
        (0, "test", 3, ("c",)),
    ]
    assert parts[0].tasks == {
        "k": LabelFacts(2, 0, {"x": 1, "y": 1}, None),
        "m": LabelFacts(2, 0, {"p": 2, "q": 1}, None),
        "v": LabelFacts(2, 0, {}, 2.0),
    }
    assert parts[1].tasks["v"] == LabelFacts(1, 1, {}, 5.0)
    assert parts[2].tasks["k"] == LabelFacts(2, 1, {"x": 2, "y": 0}, None)


def test_nothing_labelled_is_said():
    tasks, targets = learned()
    targets[0]["v"] = np.full_like(targets[0]["v"], np.nan)
    parts = describe_split(split(train=["a"], validation=["b"], test=["c"]), RECORDS, tasks, targets)
    assert parts[0].tasks["v"] == LabelFacts(0, 2, {}, None)


def test_a_class_that_training_lacks_is_named_with_its_fold():
    tasks, targets = learned()
    assert untrainable(split(train=["a"], validation=["b"], test=["c"]), tasks, targets) == []
    (line,) = untrainable(split(train=["c"], validation=["a"], test=["b"]), tasks, targets)
    assert line == "fold 0: task 'k': every class must occur in training, but ['y'] do not"
