"""Splits: whole groups, nothing twice, the same everywhere, refused where they cannot be."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fusionkit.core.errors import DataError, UnknownNameError
from fusionkit.data.protocols import natural_order
from fusionkit.data.records import Records
from fusionkit.data.splits import Fold, Split, SplitOptions, make_split

ROOT = Path(__file__).parents[2]


def table(rows):
    """Rows of (subject, session, trial, recording, part, speaker)."""
    names = ("subject", "session", "trial", "recording", "part", "speaker")
    return Records.of(
        [{"id": f"r{i:03d}", **dict(zip(names, row, strict=True))} for i, row in enumerate(rows)], ["part", "speaker"]
    )


def lab(subjects=6, trials=5, windows=2):
    """Each subject has trials, each trial windows; part follows the subject, speakers cross subjects."""
    return table(
        (f"S{s}", "", f"t{t}", f"S{s}_t{t}", "test" if s >= subjects - 2 else "train", f"P{(s + t) % 4}")
        for s in range(subjects)
        for t in range(trials)
        for _ in range(windows)
    )


def options(**given):
    return SplitOptions(**given)


def ids(records, rows):
    return {records.id[row] for row in rows}


def subjects(records, rows):
    return {records.subject[row] for row in rows}


records_strategy = st.lists(
    st.tuples(
        st.sampled_from([f"S{i}" for i in range(7)]),
        st.sampled_from(["", "a", "b"]),
        st.sampled_from(["t0", "t1", "t2"]),
        st.sampled_from(["x", "y"]),
        st.sampled_from(["train", "test"]),
        st.sampled_from(["P0", "P1", "P2", None]),
    ),
    min_size=8,
    max_size=60,
).map(table)

drawn_strategy = st.one_of(
    st.builds(
        options,
        kind=st.just("holdout"),
        test=st.floats(0.1, 0.6),
        validation=st.floats(0.1, 0.6),
        by=st.sampled_from(["subject", "session", "trial", "recording", "record", "speaker"]),
    ),
    st.builds(
        options,
        kind=st.just("k_fold"),
        folds=st.integers(2, 5),
        validation=st.floats(0.1, 0.6),
        by=st.sampled_from(["subject", "session", "trial", "recording", "record"]),
    ),
    st.builds(options, kind=st.just("leave_one_out"), by=st.sampled_from(["subject", "session", "speaker"])),
    st.builds(options, kind=st.just("leave_one_subject_out"), validation=st.floats(0.1, 0.6)),
    st.builds(options, kind=st.just("within_subject"), by=st.sampled_from(["trial", "session", "record"])),
)


@settings(max_examples=150, deadline=None)
@given(records=records_strategy, how=drawn_strategy, seed=st.integers(0, 5))
def test_every_record_is_in_one_part_and_every_group_whole(records, how, seed):
    try:
        split = make_split(how, records, seed)
    except DataError:
        return
    groups = records.group(how.by)
    for fold in split.folds:
        rows = np.concatenate([fold.train, fold.validation, fold.test])
        assert np.array_equal(np.sort(rows), np.arange(len(records)))
        parts = [set(groups[part].tolist()) for part in fold.parts().values()]
        assert all(parts) and not parts[2] & (parts[0] | parts[1])
        if parts[0] & parts[1]:  # the only training group, divided
            assert len(parts[0] | parts[1]) == 1 and split.notes(records)
            for whole in ("trial", "recording"):
                kept, drawn = (
                    {records.names(whole)[row] for row in part if getattr(records, whole)[row]}
                    for part in (fold.train, fold.validation)
                )
                assert not kept & drawn
        assert all(rows.dtype == np.int64 and (np.diff(rows) > 0).all() for rows in fold.parts().values())
    if how.kind in ("k_fold", "leave_one_out", "leave_one_subject_out"):
        tested = np.concatenate([fold.test for fold in split.folds])
        assert np.array_equal(np.sort(tested), np.arange(len(records)))
        sizes = [len(set(groups[fold.test].tolist())) for fold in split.folds]
        assert max(sizes) - min(sizes) <= 1


@settings(max_examples=60, deadline=None)
@given(how=drawn_strategy.filter(lambda how: how.kind != "within_subject"), seed=st.integers(0, 3), data=st.data())
def test_the_order_of_the_table_does_not_matter(how, seed, data):
    records = lab()
    order = data.draw(st.permutations(range(len(records))))
    fields = {name: tuple(getattr(records, name)[i] for i in order) for name in ("id", "subject", "session", "trial")}
    shuffled = Records(
        **fields,
        recording=tuple(records.recording[i] for i in order),
        labels={name: tuple(values[i] for i in order) for name, values in records.labels.items()},
    )
    one, other = make_split(how, records, seed), make_split(how, shuffled, seed)
    assert one.digest == other.digest
    for mine, theirs in zip(one.folds, other.folds, strict=True):
        for part, rows in mine.parts().items():
            assert ids(records, rows) == ids(shuffled, theirs.parts()[part])


def test_one_seed_gives_one_split_and_another_seed_another():
    records = lab(subjects=9)
    how = options(kind="k_fold", folds=3)
    assert make_split(how, records, 4).digest == make_split(how, records, 4).digest
    assert len({make_split(how, records, seed).digest for seed in range(5)}) == 5
    named = options(kind="k_fold", folds=3, seed=4)
    assert make_split(named, records, 0).digest == make_split(how, records, 4).digest
    assert make_split(how, records, 4).options.seed == 4


@pytest.mark.parametrize("kind", ["holdout", "k_fold"])
def test_the_seed_shuffles_the_groups_that_are_tested(kind):
    records = lab(subjects=12, trials=1, windows=1)
    first = [make_split(options(kind=kind), records, seed).folds[0].test.tolist() for seed in range(4)]
    assert len(set(map(tuple, first))) == 4


def test_each_fold_draws_its_own_validation_groups():
    records = lab(subjects=20, trials=1, windows=1)
    split = make_split(options(kind="leave_one_out"), records, 0)
    assert len({tuple(fold.validation) for fold in split.folds}) == 20


def test_validation_differs_between_folds_and_is_its_share_of_the_training_groups():
    records = lab(subjects=10, trials=1, windows=1)
    split = make_split(options(kind="k_fold", folds=5, validation=0.25), records, 0)
    assert [len(fold.validation) for fold in split.folds] == [2] * 5  # a quarter of 8
    assert len({tuple(fold.validation) for fold in split.folds}) > 1


def test_the_split_does_not_depend_on_the_hash_seed():
    code = (
        "from fusionkit.data.records import Records\n"
        "from fusionkit.data.splits import SplitOptions, make_split\n"
        "rows = [{'id': f'r{i}', 'subject': f'S{i % 7}', 'trial': f't{i % 5}', 'part': 'ab'[i % 7 > 4]} "
        "for i in range(40)]\n"
        "records = Records.of(rows, ['part'])\n"
        "for how in ({'kind': 'k_fold', 'folds': 3}, {'kind': 'within_subject'}, {'kind': 'leave_one_out'},\n"
        "            {'kind': 'column', 'column': 'part', 'test': ['b']}):\n"
        "    print(make_split(SplitOptions(**how), records, 1).digest)\n"
    )
    seen = set()
    for seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
        seen.add(run.stdout)
    assert len(seen) == 1 and len(seen.pop().split()) == 4


def test_holdout_takes_its_share_of_the_groups():
    records = lab(subjects=10)
    (fold,) = make_split(options(kind="holdout", test=0.3, validation=0.3), records, 0).folds
    assert Counter(part for part in fold.parts() for _ in subjects(records, fold.parts()[part])) == {
        "train": 5,
        "validation": 2,
        "test": 3,
    }


def test_leave_one_out_tests_each_group_alone():
    records = lab(subjects=5)
    split = make_split(options(kind="leave_one_out"), records, 0)
    assert [subjects(records, fold.test) for fold in split.folds] == [{f"S{i}"} for i in range(5)]


def test_fixed_lists_are_taken_at_their_word():
    records = lab()
    lists = {"train": ["S0", "S3"], "validation": ["S1"], "test": ["S5"]}
    (fold,) = make_split(options(kind="fixed", **lists), records, 0).folds
    assert {part: sorted(subjects(records, rows)) for part, rows in fold.parts().items()} == lists


def test_fixed_with_test_alone_trains_on_the_rest_and_cuts_validation_from_it():
    records = lab()
    (fold,) = make_split(options(kind="fixed", test=["S5"], validation=0.4), records, 0).folds
    assert subjects(records, fold.test) == {"S5"}
    assert len(subjects(records, fold.validation)) == 2
    assert subjects(records, fold.train) | subjects(records, fold.validation) == {f"S{i}" for i in range(5)}


def test_numbers_may_name_groups():
    records = Records.of([{"id": str(i), "subject": str(i % 4)} for i in range(8)])
    (fold,) = make_split(options(kind="fixed", test=[3]), records, 0).folds
    assert fold.test.tolist() == [3, 7]


def test_within_subject_trains_on_the_first_trials_and_tests_on_the_last():
    rows = [("S0", "", t, "", "", "") for t in "cabde"] + [("S1", "", t, "", "", "") for t in "xyzxyz"]
    records = table(rows)
    (fold,) = make_split(options(kind="within_subject", train=0.6, validation=0.3), records, 0).folds
    assert fold.train.tolist() == [0, 1, 5, 8]  # c a; x
    assert fold.validation.tolist() == [2, 6, 9]  # b; y
    assert fold.test.tolist() == [3, 4, 7, 10]  # d e; z


def test_seed_like_nine_and_six_trials_come_from_within_subject():
    records = lab(subjects=2, trials=15, windows=3)
    (fold,) = make_split(options(kind="within_subject", train=0.6), records, 0).folds
    assert len({records.trial[row] for row in fold.test}) == 6
    assert len({records.trial[row] for row in [*fold.train, *fold.validation]}) == 9


def test_a_column_names_the_parts_and_groups_are_cut_by_another():
    records = lab()
    (fold,) = make_split(options(kind="column", column="part", test=["test"]), records, 0).folds
    assert subjects(records, fold.test) == {"S4", "S5"}
    assert not subjects(records, fold.train) & subjects(records, fold.validation)
    assert len(fold.train) + len(fold.validation) == 40


def test_a_column_may_name_validation_and_leave_records_out():
    rows = [(f"S{i}", "", "", "", part, "") for i, part in enumerate(["a", "a", "b", "c", "d", None])]
    records = table(rows)
    how = options(kind="column", column="part", train=["a"], validation=["b"], test=["c"])
    (fold,) = make_split(how, records, 0).folds
    assert [part.tolist() for part in fold.parts().values()] == [[0, 1], [2], [3]]
    cut = options(kind="column", column="part", train=["a"], validation=0.5, test=["c"], by="record")
    (fold,) = make_split(cut, records, 0).folds
    assert sorted([*fold.train, *fold.validation]) == [0, 1]


def test_validation_cut_from_a_column_takes_no_record_that_was_left_out():
    rows = [(f"S{i // 2}", "", "", "", "a" if i % 2 else "unused", "") for i in range(8)] + [("T", "", "", "", "b", "")]
    how = options(kind="column", column="part", train=["a"], test=["b"])
    (fold,) = make_split(how, table(rows), 0).folds
    assert sorted([*fold.train, *fold.validation]) == [1, 3, 5, 7]


def test_a_role_may_be_the_column_of_a_cross_session_split():
    rows = [(f"S{i // 3}", f"{i % 3}", "", "", "", "") for i in range(12)]
    records = table(rows)
    (fold,) = make_split(options(kind="column", column="session", test=["2"], by="session"), records, 0).folds
    assert {records.session[row] for row in fold.test} == {"2"} and len(fold.test) == 4


def test_a_column_that_cuts_through_a_group_is_refused():
    rows = [("S0", "", "", "", "train", ""), ("S0", "", "", "", "test", ""), ("S1", "", "", "", "train", "")]
    with pytest.raises(DataError, match=r"puts 'S0' into train and test; name a smaller group under 'by'"):
        make_split(options(kind="column", column="part", test=["test"]), table(rows), 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "k_fold", "folds": 9}, "9 folds and 6 groups by subject"),
        ({"kind": "fixed", "test": ["SS5"]}, "list groups by subject .* 'SS5' is none of its 6; did you mean 'S5'"),
        ({"kind": "fixed", "by": "trial", "test": ["S0/t0"], "train": ["S1/t1"]}, "leaves 1 of 30 .* no smaller ones"),
        ({"kind": "column", "column": "part", "test": ["tset"]}, "'tset' does not occur in it; did you mean 'test'"),
        ({"kind": "fixed", "test": ["S0", "S1", "S2", "S3", "S4", "S5"]}, "leaves 0 of 6"),
        ({"kind": "within_subject", "by": "session"}, "subject 'S0' has 1 by session"),
        ({"kind": "within_subject", "by": "speaker"}, "belongs to 'S0' and 'S1'"),
    ],
)
def test_what_a_study_cannot_give_is_refused_with_values(given, message):
    with pytest.raises(DataError, match=message):
        make_split(options(**given), lab(), 0)


def test_an_unknown_grouping_or_column_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"speekr.*did you mean 'speaker'"):
        make_split(options(kind="holdout", by="speekr"), lab(), 0)
    with pytest.raises(UnknownNameError, match="prat"):
        make_split(options(kind="column", column="prat", test=["test"]), lab(), 0)


def test_one_group_is_refused():
    with pytest.raises(DataError, match=r"split by subject needs two groups or more, but the study has 1: 'S0'"):
        make_split(options(kind="holdout"), lab(subjects=1), 0)
    with pytest.raises(DataError, match="fold 0 leaves 1 of 2 groups by subject"):
        make_split(options(kind="leave_one_out"), lab(subjects=2, trials=1), 0)


def test_the_only_training_group_is_divided_by_session():
    records = table((s, e, f"t{t}", f"t{t}", "", "") for s in "ab" for e in "123" for t in range(4) for _ in range(2))
    split = make_split(options(kind="leave_one_subject_out"), records, 0)
    for fold, tested in zip(split.folds, "ab", strict=True):
        assert subjects(records, fold.test) == {tested} and len(fold.test) == 24
        kept, drawn = ({records.session[row] for row in part} for part in (fold.train, fold.validation))
        assert kept | drawn == set("123") and not kept & drawn and len(drawn) == 1
        assert subjects(records, [*fold.train, *fold.validation]) == set("ab") - {tested}
    (note,) = split.notes(records)
    assert "only training group by subject ('b' in fold 0; 2 of 2 folds)" in note
    assert make_split(options(kind="k_fold", folds=2, by="session"), records, 0).notes(records) == []


def test_the_only_training_group_is_divided_by_trial_where_it_has_one_session():
    records = lab(subjects=2)
    for fold in make_split(options(kind="leave_one_subject_out"), records, 0).folds:
        kept, drawn = ({records.trial[row] for row in part} for part in (fold.train, fold.validation))
        assert not kept & drawn and (len(kept), len(drawn)) == (4, 1)
        assert len(fold.train) + len(fold.validation) + len(fold.test) == len(records)


def test_the_only_training_group_is_never_divided_within_a_recording():
    rows = [(s, "", f"t{t}", f"r{t // 2}", "", "") for s in "ab" for t in range(4)]
    for fold in make_split(options(kind="leave_one_subject_out"), table(rows), 0).folds:
        assert len(fold.validation) == 2  # both trials of a recording
        kept, drawn = ({table(rows).recording[row] for row in part} for part in (fold.train, fold.validation))
        assert not kept & drawn
    with pytest.raises(DataError, match="leaves 1 of 2 groups by subject for both, which holds no smaller ones"):
        make_split(
            options(kind="leave_one_subject_out"), table([(s, "", f"t{t}", "r", "", "") for s in "ab" for t in "12"]), 0
        )


def test_a_record_without_a_part_is_refused_unless_train_is_listed():
    rows = [(f"S{i}", "", "", "", part, "") for i, part in enumerate(["a", "a", None, "b"])]
    with pytest.raises(DataError, match="empty for record 'r002'"):
        make_split(options(kind="column", column="part", test=["b"]), table(rows), 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "holdout", "folds": 3}, "a holdout split takes no folds"),
        ({"kind": "k_fold", "test": 0.3}, "a k_fold split takes no test, but got 0.3"),
        ({"kind": "k_fold", "validation": ["S1"]}, "takes validation as a fraction, but got \\['S1'\\]"),
        ({"kind": "fixed"}, "a fixed split needs test: a list of names"),
        ({"kind": "fixed", "test": 0.5}, "takes test as a list of names, but got 0.5"),
        ({"kind": "column", "test": ["a"]}, "a column split needs column"),
        ({"kind": "fixed", "test": ["a"], "train": ["b", "a"]}, "'a' is in train and in test"),
        ({"kind": "within_subject", "by": "subject"}, "divides a subject's groups"),
        ({"kind": "holdout", "tset": 0.2}, "tset"),
        ({"kind": "holdout", "test": 1.5}, "less than 1"),
        ({"kind": "k_fold", "folds": 1}, "greater than or equal to 2"),
        ({"kind": "quarters"}, "leave_one_out"),
        ({}, "kind"),
    ],
)
def test_options_that_do_not_fit_the_kind_are_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        options(**given)


def test_options_survive_a_round_trip_and_show_their_defaults():
    assert options(kind="k_fold").model_dump(exclude_none=True) == {
        "kind": "k_fold",
        "by": "subject",
        "folds": 5,
        "validation": 0.2,
    }
    assert options(kind="within_subject").by == "trial"
    for how in (options(kind="within_subject"), options(kind="fixed", test=["a"])):
        assert SplitOptions(**how.model_dump()) == how


def test_a_fold_with_an_empty_part_or_a_record_in_two_is_refused():
    records = lab(subjects=1, trials=2)
    how = options(kind="holdout")
    rows = [np.array(rows, dtype=np.int64) for rows in ([0], [1], [2], [])]
    with pytest.raises(DataError, match="validation of fold 0 is empty"):
        Split.of(how, [Fold(rows[0], rows[3], rows[2])], records)
    with pytest.raises(DataError, match="'r001' is in validation and test of fold 0"):
        Split.of(how, [Fold(rows[0], rows[1], rows[1])], records)


@settings(max_examples=40, deadline=None)
@given(how=drawn_strategy.filter(lambda how: how.by != "session"), seed=st.integers(0, 3))
def test_a_split_survives_saving(tmp_path_factory, how, seed):
    records = lab()
    split = make_split(how, records, seed)
    path = tmp_path_factory.mktemp("split") / "split.json"
    split.save(path)
    again = Split.load(path, records)
    assert again.digest == split.digest and again.options == split.options
    for mine, theirs in zip(split.folds, again.folds, strict=True):
        for part, rows in mine.parts().items():
            np.testing.assert_array_equal(rows, theirs.parts()[part])
    assert os.listdir(path.parent) == ["split.json"]


@settings(max_examples=60, deadline=None)
@given(how=drawn_strategy.filter(lambda how: how.by != "session"), share=st.floats(0.05, 0.9), seed=st.integers(0, 3))
def test_calibration_takes_whole_groups_of_the_training_part_and_of_no_other(tmp_path_factory, how, share, seed):
    records = lab(subjects=7)
    plain = make_split(how, records, seed)
    with_calibration = how.model_copy(update={"calibration": share})
    groups = records.group(how.by)
    try:
        split = make_split(with_calibration, records, seed)
    except DataError as error:
        assert "training and calibration need a group each" in str(error)
        assert any(len(set(groups[fold.train])) < 2 for fold in plain.folds)
        return
    for before, after in zip(plain.folds, split.folds, strict=True):
        assert list(after.parts()) == ["train", "validation", "test", "calibration"]
        np.testing.assert_array_equal(before.test, after.test)
        np.testing.assert_array_equal(before.validation, after.validation)
        np.testing.assert_array_equal(np.sort(np.concatenate([after.train, after.calibration])), before.train)
        assert not set(groups[after.calibration]) & set(groups[np.concatenate([after.train, after.test])])
        total, aside = len(set(groups[before.train])), len(set(groups[after.calibration]))
        assert aside == min(max(1, int(share * total + 0.5)), total - 1)
    assert split.digest != plain.digest
    path = tmp_path_factory.mktemp("split") / "split.json"
    split.save(path)
    again = Split.load(path, records)
    assert again.digest == split.digest and again.options == split.options
    np.testing.assert_array_equal(again.folds[-1].calibration, split.folds[-1].calibration)


def test_calibration_that_the_training_groups_do_not_give_is_refused():
    with pytest.raises(DataError, match="training and calibration need a group each, but fold 0 leaves 1 by subject"):
        make_split(options(kind="leave_one_out", calibration=0.2), lab(subjects=3), 0)
    with pytest.raises(ValidationError, match="less than 1"):
        options(kind="k_fold", calibration=1)


def test_a_split_fits_the_same_records_in_another_order(tmp_path):
    records = lab(subjects=4, trials=1, windows=1)
    split = make_split(options(kind="fixed", test=["S3"], validation=["S2"]), records, 0)
    split.save(tmp_path / "split.json")
    backwards = Records.of([{"id": name} for name in reversed(records.id)])
    (fold,) = Split.load(tmp_path / "split.json", backwards).folds
    assert ids(backwards, fold.test) == {"r003"} and fold.test.tolist() == [0]


def test_a_split_of_another_study_is_refused(tmp_path):
    make_split(options(kind="holdout"), lab(), 0).save(tmp_path / "split.json")
    other = Records.of([{"id": f"q{i}"} for i in range(60)])
    with pytest.raises(DataError, match=r"split\.json: .*record ids it was made for.*'r000'"):
        Split.load(tmp_path / "split.json", other)
    with pytest.raises(DataError, match="the study has others"):
        Split.load(tmp_path / "split.json", lab(subjects=7))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "fusionkit-split", "version": 9}', "\xff"])
def test_a_foreign_file_is_refused_by_name(tmp_path, text):
    (tmp_path / "split.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"split\.json: .*this is none"):
        Split.load(tmp_path / "split.json", lab())
    with pytest.raises(DataError, match=r"gone\.json.*No such file"):
        Split.load(tmp_path / "gone.json", lab())


def test_a_changed_file_is_refused(tmp_path):
    path = tmp_path / "split.json"
    make_split(options(kind="holdout"), lab(), 0).save(path)
    content = json.loads(path.read_text())
    content["folds"][0]["train"].append(content["folds"][0]["test"].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="digest, but its folds were changed"):
        Split.load(path, lab())


def test_the_digest_changes_exactly_when_a_record_changes_sides():
    records = lab(subjects=4, trials=1, windows=1)
    lists = {"train": ["S0", "S1"], "validation": ["S2"], "test": ["S3"]}
    digest = make_split(options(kind="fixed", **lists), records, 0).digest
    reordered = {"train": ["S1", "S0"], "validation": ["S2"], "test": ["S3"]}
    assert make_split(options(kind="fixed", **reordered), records, 7).digest == digest
    swapped = {"train": ["S0", "S2"], "validation": ["S1"], "test": ["S3"]}
    assert make_split(options(kind="fixed", **swapped), records, 0).digest != digest


def seed(subjects=2, sessions=3, trials=15, windows=2):
    """The structure of SEED: names that sort wrongly as text, and trials in no order."""
    rows = [
        (str(s), str(9 + n), str(t), f"{s}_{n}_{t}", "", "")
        for s in range(9, 9 + subjects)
        for n in range(sessions)
        for t in range(1, trials + 1)
        for _ in range(windows)
    ]
    return table(rows[::2] + rows[1::2])


protocols = st.one_of(
    st.builds(options, kind=st.just("cross_session"), per=st.sampled_from(["subject", "all"])),
    st.builds(
        options,
        kind=st.sampled_from(["seed_9_6", "seed_v_3_fold"]),
        per=st.sampled_from(["session", "subject", "all"]),
        validation=st.floats(0.1, 0.6),
    ),
)


def places(records, rows):
    """Subject, session and trial number of some rows."""
    return {(records.subject[row], records.session[row], int(records.trial[row])) for row in rows}


@settings(max_examples=40, deadline=None)
@given(how=protocols, number=st.integers(0, 3), subjects=st.integers(1, 3), sessions=st.integers(2, 3))
def test_protocols_keep_trials_whole_and_test_every_record_at_most_once(how, number, subjects, sessions):
    records = seed(subjects, sessions)
    split = make_split(how, records, number)
    trials = records.group("trial")
    for fold in split.folds:
        parts = [set(trials[rows].tolist()) for rows in fold.parts().values()]
        assert all(parts) and not parts[2] & (parts[0] | parts[1])
        if parts[0] & parts[1]:  # the only training group, divided
            assert len(parts[0] | parts[1]) == 1 and split.notes(records)
            for whole in ("trial", "recording"):
                kept, drawn = (
                    {records.names(whole)[row] for row in part if getattr(records, whole)[row]}
                    for part in (fold.train, fold.validation)
                )
                assert not kept & drawn
    tested = np.concatenate([fold.test for fold in split.folds])
    assert len(np.unique(tested)) == len(tested)
    if how.kind != "seed_9_6":
        assert len(tested) == len(records)


@pytest.mark.parametrize(("per", "folds"), [("session", 6), ("subject", 2), ("all", 1)])
def test_seed_9_6_trains_on_nine_trials_of_a_session_and_tests_on_six(per, folds):
    records = seed()
    split = make_split(options(kind="seed_9_6", per=per), records, 0)
    assert len(split.folds) == folds
    for fold in split.folds:
        test, rest = places(records, fold.test), places(records, [*fold.train, *fold.validation])
        assert {trial for *_, trial in test} == set(range(10, 16)) and {trial for *_, trial in rest} == set(
            range(1, 10)
        )
        assert {place[:2] for place in test} == {place[:2] for place in rest}
        assert len(places(records, fold.validation)) == int(0.2 * len(rest) + 0.5)
    first = split.folds[0]
    homes = {place[:2] for place in places(records, first.test)}
    assert (
        homes
        == {
            "session": {("9", "9")},
            "subject": {("9", session) for session in ("9", "10", "11")},
            "all": {(subject, session) for subject in ("9", "10") for session in ("9", "10", "11")},
        }[per]
    )


def test_seed_9_6_gives_a_fold_for_every_subject_and_session_as_the_literature_reports_it():
    assert options(kind="seed_9_6").per == "session"
    split = make_split(options(kind="seed_9_6"), seed(15, 3, windows=1), 0)
    assert len(split.folds) == 45 and all(len(fold.test) == 6 for fold in split.folds)


@pytest.mark.parametrize(("per", "folds"), [("session", 18), ("subject", 6), ("all", 3)])
def test_seed_v_tests_five_trials_of_every_session_in_turn(per, folds):
    records = seed()
    split = make_split(options(kind="seed_v_3_fold", per=per), records, 0)
    assert len(split.folds) == folds
    for number, fold in enumerate(split.folds):
        first = 5 * (number % 3) + 1
        test, rest = places(records, fold.test), places(records, [*fold.train, *fold.validation])
        assert {trial for *_, trial in test} == set(range(first, first + 5))
        assert {trial for *_, trial in rest} == set(range(1, 16)) - set(range(first, first + 5))
        assert {place[:2] for place in test} == {place[:2] for place in rest}
    assert options(kind="seed_v_3_fold").per == "subject"


def test_cross_session_tests_each_session_of_a_subject_on_its_others():
    records = seed()
    split = make_split(options(kind="cross_session"), records, 0)
    homes = [{place[:2] for place in places(records, fold.test)} for fold in split.folds]
    assert homes == [{(subject, session)} for subject in ("9", "10") for session in ("9", "10", "11")]
    for fold, ((subject, session),) in zip(split.folds, homes, strict=True):
        rest = {place[:2] for place in places(records, [*fold.train, *fold.validation])}
        assert rest == {(subject, other) for other in ("9", "10", "11") if other != session}
        assert len(places(records, fold.validation)) == 6  # trials of 30


def test_cross_session_over_all_subjects_goes_by_the_rank_of_their_sessions():
    rows = [("S2", f"{day}", f"{t}", "", "", "") for day in (20240109, 20231201) for t in range(3)]
    rows += [("S10", f"{day}", f"{t}", "", "", "") for day in (8, 9, 10) for t in range(3)]
    records = table(rows)
    split = make_split(options(kind="cross_session", per="all"), records, 0)
    tested = [{place[:2] for place in places(records, fold.test)} for fold in split.folds]
    assert tested == [{("S2", "20231201"), ("S10", "8")}, {("S2", "20240109"), ("S10", "9")}, {("S10", "10")}]
    assert all(len(np.concatenate(list(fold.parts().values()))) == len(records) for fold in split.folds)


def test_cross_session_without_trials_validates_on_a_whole_session():
    records = table([("S0", session, "", "", "", "") for session in "abc" for _ in range(4)])
    for fold in make_split(options(kind="cross_session"), records, 0).folds:
        assert {len(rows) for rows in fold.parts().values()} == {4}


def test_leave_one_subject_out_is_leave_one_out_by_subject():
    records = lab()
    named, plain = (make_split(options(kind=kind), records, 3) for kind in ("leave_one_subject_out", "leave_one_out"))
    assert named.digest == plain.digest and named.options.by == "subject"


def test_protocols_are_the_same_on_every_machine_process_and_hash_seed():
    code = (
        "import hashlib\n"
        "from fusionkit.data.records import Records\n"
        "from fusionkit.data.splits import SplitOptions, make_split\n"
        "rows = [{'id': f'{s}_{n}_{t}', 'subject': str(s), 'session': str(n), 'trial': str(t)}\n"
        "        for s in range(1, 12) for n in range(1, 4) for t in range(1, 16)]\n"
        "records, digests = Records.of(rows), []\n"
        "for how in ({'kind': 'leave_one_subject_out'}, {'kind': 'cross_session'},\n"
        "            {'kind': 'cross_session', 'per': 'all'}, {'kind': 'seed_9_6'}, {'kind': 'seed_9_6', 'per': 'all'},\n"
        "            {'kind': 'seed_v_3_fold'}, {'kind': 'k_fold'}, {'kind': 'within_subject'}, {'kind': 'holdout'}):\n"
        "    digests.append(make_split(SplitOptions(**how), records, 1).digest)\n"
        "print(hashlib.sha256(''.join(digests).encode()).hexdigest())\n"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("0", "1", "4294967295")
    ]
    seen = {run.communicate()[0].strip() for run in runs}
    assert seen == {"f747934343050828e847294ff6dbcad6163d2dc3c98b873844cf8846e9f53406"}


@pytest.mark.parametrize(
    ("given", "records", "message"),
    [
        ({"kind": "cross_session"}, lab(), "two sessions or more of every subject, but subject 'S0' has one: ''"),
        (
            {"kind": "cross_session", "by": "session"},
            table([("S0", name, "", "", "", "") for name in "12"]),
            "fold 0 leaves 1 of 2 groups by session for both",
        ),
        ({"kind": "cross_session", "by": "speaker"}, lab(), "within one session, but a group by speaker lies in"),
        ({"kind": "seed_9_6"}, lab(), "row 1: .* named by their number, but that of record 'r000' is 't0'"),
        ({"kind": "seed_9_6"}, seed(trials=12), "session '9' of subject '9' lacks 13, 14, 15"),
        ({"kind": "seed_v_3_fold"}, seed(trials=16), "trials 1 to 15 of every session, but .* has also 16"),
        (
            {"kind": "seed_v_3_fold"},
            table([("S0", "1", name, "", "", "") for name in [*map(str, range(1, 16)), "07"]]),
            "session '1' of subject 'S0' has two names for 7",
        ),
    ],
)
def test_what_a_protocol_cannot_be_made_of_is_refused_in_a_line(given, records, message):
    with pytest.raises(DataError, match=message) as caught:
        make_split(options(**given), records, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "seed_9_6", "per": "trial"}, "session"),
        ({"kind": "cross_session", "per": "session"}, "takes per subject or all, but got 'session'"),
        ({"kind": "holdout", "per": "all"}, "a holdout split takes no per, but got 'all'"),
        ({"kind": "seed_9_6", "by": "session"}, "a seed_9_6 split goes by trial, but by is 'session'"),
        ({"kind": "leave_one_subject_out", "by": "trial"}, "goes by subject, but by is 'trial'"),
        ({"kind": "cross_session", "by": "subject"}, "a cross_session split divides a subject's groups"),
        ({"kind": "seed_9_6", "test": 0.5}, "takes no test, but got 0.5"),
    ],
)
def test_options_of_protocols_are_checked(given, message):
    with pytest.raises(ValidationError, match=message):
        options(**given)


def test_protocols_show_what_gets_a_model_and_survive_saving(tmp_path):
    shown = options(kind="seed_9_6").model_dump(exclude_none=True)
    assert shown == {"kind": "seed_9_6", "by": "trial", "per": "session", "validation": 0.2}
    records = seed(1, 2)
    for kind in ("cross_session", "seed_9_6", "seed_v_3_fold"):
        split = make_split(options(kind=kind), records, 5)
        split.save(tmp_path / "split.json")
        again = Split.load(tmp_path / "split.json", records)
        assert again.digest == split.digest and again.options == split.options


def test_a_record_that_tests_two_folds_is_refused():
    records = lab(subjects=2, trials=2)
    rows = [np.array([row], dtype=np.int64) for row in range(4)]
    with pytest.raises(DataError, match="'r002' tests folds 0 and 1"):
        Split.of(options(kind="holdout"), [Fold(rows[0], rows[1], rows[2]), Fold(rows[1], rows[3], rows[2])], records)


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["s10", "s2", "s1"], ["s1", "s2", "s10"]),
        (["s1", "s"], ["s", "s1"]),
        (["01", "1", "b", ""], ["", "01", "1", "b"]),
        (["a2b10", "a2b9"], ["a2b9", "a2b10"]),
    ],
)
def test_natural_order_takes_digits_for_numbers(names, ordered):
    assert sorted(names, key=natural_order) == ordered
