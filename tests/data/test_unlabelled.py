"""Records of a second source: how they are called, who is meant by them, and which folds may see them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.core.errors import DataError
from fusionkit.core.recording import Recording
from fusionkit.core.registry import modalities, sources
from fusionkit.data.guard import check_straddling
from fusionkit.data.ingest import gather_records, ingest
from fusionkit.data.records import Records
from fusionkit.data.saving import NewSensor, save_study
from fusionkit.data.sources.joined import Grouping, Joined
from fusionkit.data.sources.source import SensorColumn
from fusionkit.data.splits import Split, SplitOptions, make_split
from fusionkit.data.study import Study
from fusionkit.data.unlabelled import Belonging, apart_from, unlabelled_notes, with_unlabelled

NAMES = ("a", "b", "")
BY = ("subject", "session", "trial", "recording", "record", "site")
NESTED = {
    "session": (1, 1),
    "trial": (2, 2),
    "recording": (2, 3),
    "site": (0, 4),
}  # names above, and the place of its own


def table(own, others, called="u"):
    """Records of both sources: tuples of subject, session, trial, recording, site; ids of the second are ``called``."""
    roles = ("subject", "session", "trial", "recording")
    rows = [{"id": f"r{n}", **dict(zip((*roles, "site"), values, strict=True))} for n, values in enumerate(own)]
    for n, values in enumerate(others):
        row = {"id": f"unlabelled/{called}{n}", **dict(zip((*roles, "site"), values, strict=True))}
        rows.append({**row, "subject": f"unlabelled/{row['subject']}"})
    made = Records.of(rows, ["site"])
    labels = {"site": tuple(site or None for site in made.labels["site"])}
    return Records(**{r: getattr(made, r) for r in ("id", *roles)}, labels=labels, unlabelled=len(others))


def oracle(by, own, other, number, train, held):
    """Whether an unlabelled record must go, told one held-out record at a time."""
    subject, session, trial, recording, site = other
    for row in held:
        s, e, t, r, where = own[row]
        if row == number:  # one id
            return True
        if by == "subject" and s == subject:
            return True
        if by == "session" and s == subject and (not session or e == session):
            return True
        if by == "site" and where == site:
            return True
        together = s == subject and (e == session or not e or not session)  # a session without a name may be any
        if together and trial and t == trial:
            return True
        if by == "trial" and s == subject and not trial:
            return True
        if by != "trial" and together and recording and r == recording:
            return True
        if by == "recording" and s == subject and not recording:
            return True
        if s == subject and not any(own[known][0] == s for known in train):
            return True
        upper, place = NESTED.get(by, (0, 0))
        if not own[row][place]:  # a group without a name may be any that does not train
            name = (*other[:upper], other[place])
            trains = [(*own[known][:upper], own[known][place]) for known in train]
            if other[place] and own[row][:upper] == other[:upper] and name not in trains:
                return True
    assert by in ("subject", "record", *NESTED)
    return by == "site" and not site


ROW = st.tuples(st.sampled_from("abc"), *[st.sampled_from(NAMES)] * 4)


@given(st.lists(st.tuples(ROW, st.sampled_from("th-")), min_size=2, max_size=8), st.lists(ROW, min_size=1), st.data())
def test_who_is_left_out_is_what_a_comparison_one_by_one_says(own, others, data):
    rows, sides = [row for row, _ in own], np.array([side for _, side in own])
    by, records = data.draw(st.sampled_from(BY)), table(rows, others, "r")
    train, held = np.flatnonzero(sides == "t"), np.flatnonzero(sides == "h")
    options = SplitOptions(kind="holdout", by=by)
    wanted = [oracle(by, rows, other, n, train.tolist(), held.tolist()) for n, other in enumerate(others)]
    assert Belonging(options, records)(train, held).tolist() == wanted
    there = np.arange(len(rows), len(records))
    assert apart_from(there, options, records, train, held).tolist() == there[~np.array(wanted)].tolist()


def test_a_session_that_one_source_does_not_name_may_be_the_one_that_is_held_out():
    own = [("a", "1", f"t{number}", "", "") for number in range(4)]
    options = SplitOptions(kind="within_subject")
    for others in (("", "t0"), ("", "t3"), ("2", "t3"), ("1", "t3")):
        records = table(own, [("a", *others, "", "")])
        out = Belonging(options, records)(np.array([0, 1]), np.array([2, 3]))
        assert out.tolist() == [others in (("", "t3"), ("1", "t3"))]


def test_a_part_that_a_column_names_is_left_out_with_its_value():
    records = table(
        [("a", "", "", "", "train"), ("b", "", "", "", "test")], [("c", "", "", "", "test"), ("d", *[""] * 4)]
    )
    options = SplitOptions(kind="column", by="subject", column="site", test=["test"], validation=["val"])
    assert Belonging(options, records)(np.array([0]), np.array([1])).tolist() == [True, False]


def people(count, each=2):
    return [(f"s{n}", "", "", "", "") for n in range(count) for _ in range(each)]


def test_the_split_is_that_of_the_first_source_and_says_who_is_seen_beside(tmp_path):
    options = SplitOptions(kind="leave_one_subject_out")
    plain = make_split(options, table(people(5), []))
    records = table(people(5), people(7, 1))
    split = with_unlabelled(make_split(options, records), records)
    assert split.digest == plain.digest and split.ids == plain.ids and len(split.unlabelled) == 7
    for fold, before in zip(split.folds, plain.folds, strict=True):
        assert all((fold.parts()[part] == rows).all() for part, rows in before.parts().items())
        held = {records.subject[row] for row in [*fold.validation, *fold.test]}
        left = {f"s{n}" for n in range(7)} - held
        assert {records.subject[row] for row in fold.unlabelled} == {f"unlabelled/{name}" for name in left}
        assert fold.seen.tolist() == [*fold.train, *fold.unlabelled] and list(fold.sets())[-1] == "unlabelled"
    split.save(tmp_path / "beside.json")
    plain.save(tmp_path / "plain.json")
    told = json.loads((tmp_path / "beside.json").read_text())
    assert told.pop("unlabelled")[0] == sorted(records.id[row] for row in split.folds[0].unlabelled)
    assert told == json.loads((tmp_path / "plain.json").read_text())
    for name, other in (("beside", table(people(5), [])), ("plain", records)):
        assert Split.load(tmp_path / f"{name}.json", other).digest == plain.digest
    every = with_unlabelled(make_split(options, records), records, "they asked us to")
    assert all(len(fold.unlabelled) == 7 for fold in every.folds)


def signal(seed, samples=20):
    return Recording(np.random.default_rng(seed).normal(size=(samples, 1)).astype("f4"), 10.0, ("a",), "V")


@pytest.fixture
def leak(tmp_path):
    """Three people, one of whom is in the second source under another name: the same signal as record r2 of person s1."""
    records = table(people(3), [("nobody", "", "", "", ""), ("stranger", "", "", "", "")])
    recordings = [signal(n) for n in range(6)] + [signal(2), signal(9, 30)]
    return save_study(tmp_path / "s.h5", records, {"ecg": NewSensor.of(recordings, "signal")})


def test_one_signal_under_another_name_is_refused_where_it_is_held_out(leak):
    def split(test, validation, why=None):
        named = SplitOptions(kind="fixed", by="subject", test=[test], validation=[validation])
        return with_unlabelled(make_split(named, leak.records), leak.records, why)

    for made in (split("s1", "s2"), split("s2", "s1")):
        with pytest.raises(
            DataError,
            match=r"'unlabelled/u0' \(train\).*take it out of data\.unlabelled, or give data\.unlabelled\.transductive",
        ):
            check_straddling(made, leak)
    assert check_straddling(split("s0", "s2"), leak) == []  # whose person trains
    assert check_straddling(split("s1", "s2", "why not"), leak) == []
    (note,) = [line for line in unlabelled_notes(split("s1", "s2", "why not"), leak, "b.csv") if "transductive" in line]
    assert "b.csv adds 2 records" in note and "(0 in fold 0): why not" in note


def test_people_put_aside_for_calibration_are_left_out_too():
    records = table(people(8), people(8, 1))
    split = with_unlabelled(make_split(SplitOptions(kind="k_fold", folds=2, calibration=0.25), records), records)
    for fold in split.folds:
        aside = {records.subject[row] for row in fold.calibration}
        assert aside and not {f"unlabelled/{name}" for name in aside} & {records.subject[r] for r in fold.unlabelled}


def test_longer_windows_are_noted(leak):
    made = with_unlabelled(make_split(SplitOptions(kind="holdout", by="subject"), leak.records), leak.records)
    plain, longer = unlabelled_notes(made, leak, "b.csv")
    assert plain.startswith("data.unlabelled: b.csv adds 2 records without labels to training; a fold")
    assert "windows of ecg are up to 3 s long there, and 2 s else" in longer


def test_a_study_keeps_how_many_there_are_and_its_digest_knows(leak, tmp_path):
    assert Study.open(leak.path).records.unlabelled == 2 and len(leak.records.divided) == 6
    plain = Records(**{**vars(leak.records), "unlabelled": 0})
    recordings = [signal(n) for n in range(6)] + [signal(2), signal(9, 30)]
    other = save_study(tmp_path / "plain.h5", plain, {"ecg": NewSensor.of(recordings, "signal")})
    assert other.digest != leak.digest and other.records.divided is other.records


def write(path, rows, columns):
    lines = [",".join(columns), *(",".join(str(row.get(name, "")) for name in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return sources.build("manifest", {"path": path})


SUBJECTS = Grouping("subject")


@pytest.fixture
def lab(tmp_path):
    """Two folders with a table each; both know the file of the first, which four records share."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    values = np.random.default_rng(0).normal(size=(40, 1)).astype("f4")
    np.save(tmp_path / "one" / "a.npy", values)
    (tmp_path / "two" / "a.npy").write_bytes((tmp_path / "one" / "a.npy").read_bytes()[:-8] + bytes(8))
    return tmp_path


def columns(name="sig"):
    return {name: SensorColumn(name, modalities.build("signal", {"sample_rate": 10.0}), name)}


def test_records_are_called_after_their_source_and_a_mere_number_means_nobody(lab):
    first = write(lab / "one/t.csv", [{"sig": "a.npy", "y": "0"}, {"sig": "a.npy", "y": "1"}], ["sig", "y"])
    numbered = write(lab / "two/t.csv", [{"sig": "a.npy"}] * 3, ["sig"])
    records = gather_records(Joined(first, numbered, ["y"], SUBJECTS), ["y"])
    assert records.id == ("1", "2", "unlabelled/row 1", "unlabelled/row 2", "unlabelled/row 3")
    assert records.subject[2:] == records.id[2:] and records.labels["y"] == ("0", "1", None, None, None)
    options, two = SplitOptions(kind="holdout", by="subject"), (np.array([0]), np.array([1]))
    assert not Belonging(options, records)(*two).any()  # row 2 of one table is not row 2 of the other
    named = write(lab / "two/n.csv", [{"id": n, "sig": "a.npy", "y": "9"} for n in (2, 7)], ["id", "sig", "y"])
    records = gather_records(Joined(first, named, ["y"], SUBJECTS), ["y"])
    assert records.id[2:] == ("unlabelled/2", "unlabelled/7") and records.labels["y"][2:] == (None, None)
    assert Belonging(options, records)(*two).tolist() == [True, False]  # one id is one record


def test_what_nobody_can_tell_apart_is_refused(lab):
    row = {"subject": "s1", "site": "x", "sig": "a.npy", "y": "0"}
    first = write(lab / "one/t.csv", [row, {**row, "subject": "s2"}], list(row))
    second = write(lab / "two/t.csv", [{"sig": "a.npy"}], ["sig"])
    with pytest.raises(DataError, match=r"data\.unlabelled: t\.csv must name subjects as t\.csv does"):
        Joined(first, second, ["y"], SUBJECTS).rows()
    with pytest.raises(DataError, match=r"must have the column 'site', by which data\.split goes.*transductive"):
        Joined(first, second, ["y"], Grouping("site")).rows()
    assert len(Joined(first, second, ["y"], Grouping("site", transductive=True)).rows()) == 3
    assert len(Joined(first, second, ["y"], Grouping("record")).rows()) == 3
    taken = write(lab / "one/n.csv", [{"id": "unlabelled/row 1", **row}, {"id": "b", **row}], ["id", *row])
    with pytest.raises(
        DataError, match=r"no record may be called as one of data\.unlabelled, but 'unlabelled/row 1' is"
    ):
        Joined(taken, second, ["y"], Grouping("record")).rows()


def test_a_sensor_may_be_lacking_but_not_all_and_notes_say_what_is_not_looked_at(lab):
    row = {"sig": "a.npy", "more": "a.npy", "y": "0"}
    first = write(lab / "one/t.csv", [row, row], list(row))
    joined = Joined(first, write(lab / "two/t.csv", [{"sig": "a.npy", "y": "5"}], ["sig", "y"]), ["y"], SUBJECTS)
    both = columns() | columns("more")
    assert joined.cell(2, both["more"]) is None and joined.cell(2, both["sig"]) is not None
    lines = joined.notes(both)
    assert lines == [
        "data.unlabelled: t.csv has no more: absent from its records",
        "data.unlabelled: the labels of t.csv are not looked at: y",
    ]
    with pytest.raises(DataError, match=r"data\.unlabelled: t\.csv must have a column of \['more'\], but it has"):
        joined.columns_of(columns("more"))
    sensor = SensorColumn("sig", both["sig"].modality, "sig", start="begin")
    with pytest.raises(DataError, match=r"data\.unlabelled: t\.csv: modalities\.sig\.start: no column named 'begin'"):
        joined.columns_of({"sig": sensor})


def test_a_file_that_both_name_is_stored_once_and_two_of_one_name_are_two(lab):
    row = {"subject": "s1", "sig": "a.npy", "sig_start": 0, "sig_stop": 2, "y": 0}
    first = write(lab / "one/t.csv", [row, {**row, "sig_start": 2, "sig_stop": 4}], list(row))
    own, other = (
        write(lab / place, [{**row, "sig_start": 1, "sig_stop": 3}], ["subject", "sig", "sig_start", "sig_stop"])
        for place in ("one/u.csv", "two/u.csv")
    )
    made = ingest(Joined(first, own, ["y"], SUBJECTS), columns(), ["y"], lab / "s.h5")
    assert made.sensors["sig"].recording.tolist() == [0, 0, 0] and made.records.unlabelled == 1
    assert made.sensors["sig"].offset.tolist() == [0, 20, 10]
    made = ingest(Joined(first, other, ["y"], SUBJECTS), columns(), ["y"], lab / "o.h5")
    assert made.sensors["sig"].recording.tolist() == [0, 0, 1]


def test_arrays_and_studies_join_too(lab):
    values = np.random.default_rng(0).normal(size=(5, 1, 8)).astype("f4")
    np.savez(lab / "a.npz", sig=values, y=np.arange(5) % 2, subject=np.array(list("abcde")))
    np.savez(lab / "b.npz", sig=values[:3] * 2, subject=np.array(list("axy")))
    one, two = (sources.build("npz", {"path": lab / name, "rates": {"sig": 10}}) for name in ("a.npz", "b.npz"))
    made = ingest(Joined(one, two, ["y"], SUBJECTS), columns(), ["y"], lab / "s.h5")
    assert len(made.records) == 8 and np.allclose(made.sensors["sig"].slice(6)[:, 0], values[1, 0] * 2)
    stored = [
        ingest(source, columns(), labels, lab / f"{n}.h5")
        for n, (source, labels) in enumerate([(one, ["y"]), (two, [])])
    ]
    first, second = (sources.build("study", {"path": study.path}) for study in stored)
    again = ingest(Joined(first, second, ["y"], SUBJECTS), columns(), ["y"], lab / "t.h5")
    assert again.digest == made.digest


def test_trials_of_one_recording_may_part_but_windows_that_share_samples_may_not(lab):
    """Four trials of 0.7 s in one file; beside them a pause (the file's last second), or a window in trial 2."""
    names = ["subject", "trial", "sig", "sig_start", "sig_stop", "y"]
    own = [dict(zip(names, ("s1", f"t{n}", "a.npy", n * 0.7, n * 0.7 + 0.7, n % 2), strict=True)) for n in range(4)]
    first = write(lab / "one/t.csv", own, names)
    options = SplitOptions(kind="fixed", by="trial", test=["s1/t2"], validation=["s1/t3"])

    def made(*trials):
        rows = [dict(zip(names, ("s1", name, "a.npy", start, stop), strict=False)) for name, start, stop in trials]
        second = write(lab / "one/u.csv", rows, names[:-1])
        study = ingest(Joined(first, second, ["y"], Grouping("trial")), columns(), ["y"], lab / "s.h5")
        return study, with_unlabelled(make_split(options, study.records), study.records)

    study, split = made(("pause", 3.0, 4.0), ("t2", 1.5, 2.0), ("t1", 0.8, 1.4), ("", 3.0, 4.0))
    assert [study.records.trial[row] for row in split.folds[0].unlabelled] == ["pause", "t1"]
    assert check_straddling(split, study) == []
    study, split = made(("pause", 1.6, 2.0), ("other", 3.0, 4.0))
    with pytest.raises(DataError, match=r"windows that share samples .*'3' \(test\) and 'unlabelled/row 1' \(train\)"):
        check_straddling(split, study)
