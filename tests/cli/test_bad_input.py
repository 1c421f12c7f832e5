"""Data that break a rule are told in a line that names file, row and rule: exit code 2, nothing left behind."""

import csv
import os
import pickle
import re
import shutil
from pathlib import Path

import mne
import numpy as np
import pytest
import soundfile
from PIL import Image

from fusionkit.cli import main


def edit(folder, change):
    """Change every row of the table by a function from number and row."""
    text = (folder / "t.csv").read_text().splitlines()
    rows = [{**row, **change(number, row)} for number, row in enumerate(csv.DictReader(text))]
    with (folder / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def cell(row, **values):
    """A spoiler that sets cells of one row, counted from 1 as errors do."""
    return lambda folder: edit(folder, lambda number, _: values if number == row - 1 else {})


def column(**values):
    """A spoiler that sets cells of every row."""
    return lambda folder: edit(folder, lambda *_: values)


def finished_below(folder):
    """Files of the cache under a final name: studies and features."""
    cached = [path for path in folder.rglob("*") if ".cache" in path.parts and path.is_file()]
    return [path for path in cached if path.suffix in (".h5", ".npy", ".json")]


def cut_edf(folder):
    os.truncate(folder / "5.edf", (folder / "5.edf").stat().st_size - 100)


def nan_fif(folder):
    values = np.random.default_rng(0).normal(0, 2e-5, (2, 200))
    values[1, 123] = np.nan
    raw = mne.io.RawArray(values, mne.create_info(["Fz", "Cz"], 100.0, "eeg"), verbose="ERROR")
    raw.save(folder / "nan_raw.fif", verbose="ERROR")
    cell(6, eeg="nan_raw.fif")(folder)


FILES = {
    "missing file": (
        cell(3, eeg="none.edf"),
        r"t\.csv row 3, column eeg: no such file: 'none\.edf'",
    ),
    "truncated EDF": (
        cut_edf,
        r"t\.csv row 6, column eeg: .*5\.edf: the header promises 2 records of 400 bytes, but the file holds 1: it is trunc.*",
    ),
    "empty EDF": (
        lambda folder: (folder / "5.edf").write_bytes(b""),
        r"t\.csv row 6, column eeg: .*5\.edf: a recording must hold samples, but the file is empty",
    ),
    "an EDF that is text": (
        lambda folder: (folder / "5.edf").write_text("hello" * 100),
        r"t\.csv row 6, column eeg: .*5\.edf: an EDF or BDF file must begin with its header, but it begins with b'hellohel'",
    ),
    "wav without samples": (
        lambda folder: soundfile.write(folder / "6.wav", np.zeros(0, "f4"), 8000),
        r"t\.csv row 7, column audio: .*6\.wav: a recording must hold samples, but it holds none",
    ),
    "wav of no bytes": (
        lambda folder: (folder / "6.wav").write_bytes(b""),
        r"t\.csv row 7, column audio: .*6\.wav: must be a sound file that libsndfile reads, but: .*",
    ),
    "corrupt PNG": (
        lambda folder: (folder / "8.png").write_bytes((folder / "8.png").read_bytes()[:60] + b"junk"),
        r"t\.csv row 9, column image: .*8\.png: must be an image that Pillow reads, but: .*",
    ),
    "PNG of another format": (
        lambda folder: (folder / "8.png").write_text("hello"),
        r"t\.csv row 9, column image: .*8\.png: must be an image that Pillow reads, but: no format that it knows",
    ),
    "PNG of 400 megapixels": (
        lambda folder: Image.new("1", (20_000, 20_000)).save(folder / "8.png"),
        r"t\.csv row 9, column image: .*8\.png: an image may hold \d+ pixels, but its header says more",
    ),
    "NaN in EEG": (
        nan_fif,
        r"t\.csv row 6, column eeg: nan_raw\.fif: samples must be finite, but channel Cz is nan at sample 123 \(1\.23 s\)",
    ),
    "one file of another rate": (
        lambda folder: (folder / "faster.edf").replace(folder / "7.edf"),
        (
            r"t\.csv row 8, column eeg: recordings of one sensor must share their sampling rate, but 0\.edf has 100 Hz and "
            r"7\.edf 150 Hz"
        ),
    ),
    "one file with a channel more": (
        lambda folder: (folder / "wider.edf").replace(folder / "7.edf"),
        (
            r"t\.csv row 8, column eeg: recordings of one sensor must share their channels, but 0\.edf has 2 channels and "
            r"7\.edf 3 \(only in one of them: Pz\)"
        ),
    ),
    "absolute path": (
        lambda folder: cell(2, eeg=folder / "0.edf")(folder),
        r"t\.csv row 2, column eeg: a path must stay inside the table's folder, but got '/.*/0\.edf'",
    ),
    "a link out of the folder": (
        lambda folder: ((folder / "1.edf").rename(folder.parent / "x"), (folder / "1.edf").symlink_to("../x")),
        r"t\.csv row 2, column eeg: a path must stay inside the table's folder, but got '1\.edf'",
    ),
    "a path out of the folder": (
        cell(2, eeg="../lab2/0.edf"),
        r"t\.csv row 2, column eeg: a path must stay inside the table's folder, but got '\.\./lab2/0\.edf'",
    ),
    "a folder": (
        lambda folder: ((folder / "sub").mkdir(), cell(2, eeg="sub")(folder)),
        r"t\.csv row 2, column eeg: must be a file, but 'sub' is a folder",
    ),
    "a path of 5000 letters": (
        cell(2, eeg="x" * 5000),
        r"t\.csv row 2, column eeg: must be the path of a file, but got 'x{80}' \(File name too long\)",
    ),
    "seconds beyond the end": (
        lambda folder: (column(eeg_start="", eeg_stop="")(folder), cell(4, eeg_start="1", eeg_stop="9")(folder)),
        r"t\.csv row 4, column eeg: 3\.edf: stop must lie within the recording, but is 9 s of 2 s",
    ),
    "a sensor that no record has": (
        column(eeg=""),
        r"t\.csv: modalities\.eeg: a sensor must be present in some record, but column 'eeg' is empty in all 16",
    ),
    "one signal for all": (
        column(eeg="0.edf"),
        (
            r"data\.split: windows that share samples may not straddle a split, but records 'r\d+' \(\w+\) and 'r\d+' "
            r"\(\w+\) of fold 0 share samples 0 to 200 of '0\.edf' \(eeg\); split by a larger group, .*"
        ),
    ),
    "one signal under two names": (
        lambda folder: shutil.copy(folder / "0.wav", folder / "9.wav"),
        (
            r"data\.split: one signal under two names may not straddle a split, but records 'r0' \(\w+\) and 'r9' \(\w+\) of "
            r"fold \d have the same samples in '0\.wav' and '9\.wav' \(audio\); .*"
        ),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_breaks_a_rule_is_named_with_its_row(lab, refusal, name, left):
    spoil, message = FILES[name]
    spoil(lab)
    before = left(lab)
    (line,) = refusal("train", "r.yaml")
    assert re.fullmatch(message, line)
    assert left(lab) - before <= {"runs"}
    if not line.startswith("data.split"):  # a study that was read to its end is kept, whatever its split
        assert not finished_below(lab)


def test_errors_of_several_files_are_told_together(lab, refusal):
    (lab / "2.edf").unlink()
    (lab / "3.wav").unlink()
    assert refusal("train", "r.yaml") == [
        "t.csv row 3, column eeg: no such file: '2.edf'",
        "t.csv row 4, column audio: no such file: '3.wav'",
    ]


def test_a_rate_that_no_file_has_is_told_for_ten_of_them(lab, refusal):
    lines = refusal("train", "r.yaml", "modalities.eeg.sample_rate=250")
    assert len(lines) == 10
    for row, line in enumerate(lines, start=1):
        assert line.startswith(f"t.csv row {row}, column eeg: ")
        assert line.endswith(f"{row - 1}.edf: sample_rate must be 250 Hz (or set resample: true), but got 100 Hz")


def test_a_file_that_is_mended_is_read_and_no_other(lab, refusal):
    whole = (lab / "5.edf").read_bytes()
    cut_edf(lab)
    refusal("train", "r.yaml")
    (lab / "5.edf").write_bytes(whole)
    assert main(["data", "split", "r.yaml"]) == 0
    assert finished_below(lab)


TABLES = {
    "a label outside the classes": (
        cell(5, state="sleep"),
        ["tasks.state.classes=[rest, work]"],
        r"t\.csv: task 'state' row 5: a label must be one of \['rest', 'work'\], but got 'sleep'",
    ),
    "a label near a class": (
        cell(5, state="works"),
        ["tasks.state.classes=[rest, work]"],
        r"t\.csv: .* but got 'works'; did you mean 'work'\?",
    ),
    "a value that is no number": (
        column(),
        ["tasks.state.kind=regression"],
        r"t\.csv: task 'state' row 1: a label must be a number, but got 'rest'",
    ),
    "a class that training lacks": (
        cell(1, state="sleep"),
        [],
        r"t\.csv: fold \d: task 'state': every class must occur in training, but \['sleep'\] do not",
    ),
    "one class": (
        column(state="rest"),
        [],
        r"t\.csv: task 'state': the labels must be of two classes or more, but got \['rest'\]",
    ),
    "no labels": (
        column(state=""),
        [],
        r"t\.csv: task 'state': the labels must be of two classes or more, but got \[\]",
    ),
    "one group": (
        column(subject="S"),
        [],
        r"t\.csv: data\.split: a split by subject needs two groups or more, but the study has 1: 'S'",
    ),
    "more folds than groups": (
        column(),
        ["data.split.folds=9"],
        r"t\.csv: data\.split: folds must not outnumber the groups, but there are 9 folds and 4 groups by subject",
    ),
    "a group that does not exist": (
        column(),
        ["data.split.kind=fixed", "data.split.test=[S9]"],
        r"t\.csv: data\.split: test must list groups by subject of the study, but 'S9' is none of its 4",
    ),
    "an unknown column of a sensor": (
        column(),
        ["modalities.eeg.column=egg"],
        r"t\.csv: modalities\.eeg\.column: no column named 'egg'; did you mean 'eeg'\?; known: \[.*\]",
    ),
    "an unknown column of a task": (
        column(),
        ["tasks.state.column=stat"],
        r"t\.csv: tasks\.state\.column: no column named 'stat'; did you mean 'state'\?; known: \[.*\]",
    ),
    "an unknown column of the split": (
        column(),
        ["data.split.by=speaker"],
        r"t\.csv: data\.split\.by: no column named 'speaker'; known: \[.*\]",
    ),
    "an id twice": (
        cell(4, id="r0"),
        [],
        r"t\.csv: id must be unique, but rows 1 and 4 are both 'r0'",
    ),
    "an empty subject": (
        cell(4, subject=""),
        [],
        r"t\.csv row 4, column subject: subject must not be empty",
    ),
    "a fold that is not there": (column(), ["--fold", "2"], r"--fold must be one of 0 to 1, but got 2"),
    "a fold before the first": (column(), ["--fold", "-1"], r"--fold must be one of 0 to 1, but got -1"),
    "a missing table": (column(), ["data.path=none.csv"], r"none\.csv: no such file"),
    "a table that is a picture": (column(), ["data.path=0.png"], r"0\.png: a table must end in one of \[.*\], but got '\.png'"),
    "a table that is a folder": (column(), ["data.path=."], r"\.: a table must be a file, but this is a folder"),
    "a run folder below a file": (
        column(),
        ["run.dir=t.csv/runs"],
        r"run\.dir: must be a folder to write to, but t\.csv/runs/small: Not a directory",
    ),
    "a device that is not there": (
        column(),
        ["train.device=cuda:77"],
        r"train\.device must name a device of this machine, but 'cuda:77' is not usable.*",
    ),
    "nothing to resume": (column(), ["--resume"], r"--resume needs an earlier run, but runs/small has none"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_what_the_table_says_is_checked_before_any_signal_is_read(lab, refusal, monkeypatch, name, left):
    spoil, words, message = TABLES[name]
    spoil(lab)
    before = left(lab)
    monkeypatch.setattr("fusionkit.training.run.open_study", None)
    (line,) = refusal("train", "r.yaml", *words)
    assert re.fullmatch(message, line)
    assert left(lab) == before and not (lab / "runs").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + b"a,b\n", r"t\.csv: row 17 \(line 18\): must have 7 cells as the header has, but has 2"),
        (lambda text: b"", r"t\.csv: a table must have rows below its columns, but it is empty"),
        (lambda text: text + "\xe4".encode("latin-1"), r"t\.csv: line 18: must be UTF-8 text, but byte \d+ is 0xe4"),
        (lambda text: text.replace(b"r3,", b"r\0,"), r"t\.csv: row 4, column id: a cell must be text without NUL .*"),
        (lambda text: text.replace(b"state", b"eeg", 1), r"t\.csv: .* but there are two named 'eeg'"),
    ],
)
def test_a_damaged_table_is_refused(lab, refusal, change, message):
    (lab / "t.csv").write_bytes(change((lab / "t.csv").read_bytes()))
    (line,) = refusal("train", "r.yaml")
    assert re.fullmatch(message, line)


def test_normalising_single_class_recordings_is_warned_of(lab, capsys):
    words = ["modalities=eeg", "modalities.eeg.normalise.kind=recording", "--no-report", "--no-export", "--fold", "0"]
    assert main(["train", "r.yaml", *words]) == 0
    out = capsys.readouterr().out
    assert (
        "note: eeg: normalisation per recording erases task 'state', for each of its 16 recordings has one class" in out
    )


NPZ = """\
data: {kind: npz, path: a.npz, rates: {eeg: 100}, split: {kind: k_fold, by: subject, folds: 2, validation: 0.5}}
modalities: {eeg: {kind: eeg}}
fusion: {kind: concat}
tasks: {state: {kind: classification}}
"""


class Evil:
    """What a pickle could do."""

    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


ARCHIVES = {
    "NaN": (
        lambda arrays: arrays["eeg"].__setitem__((3, 1, 17), np.nan),
        r"a\.npz row 4, column eeg: row 4: samples must be finite, but channel 2 is nan at sample 17 \(0\.17 s\)",
    ),
    "objects": (
        lambda arrays: arrays.update(eeg=np.array([Evil()] * 16, dtype=object)),
        r"modalities\.eeg\.column: a\.npz: array eeg holds objects, which are never unpickled; save it as numbers or text",
    ),
    "labels that are objects": (
        lambda arrays: arrays.update(state=np.array([Evil()] * 16, dtype=object)),
        r"tasks\.state\.column: a\.npz: array state holds objects, which are never unpickled; save it as numbers or text",
    ),
    "a row too few": (
        lambda arrays: arrays.update(eeg=arrays["eeg"][:15]),
        r"modalities\.eeg\.column: a\.npz: array eeg must have 16 rows as most others have, but has 15",
    ),
    "an array that is missing": (
        lambda arrays: arrays.pop("eeg"),
        r"modalities\.eeg\.column: a\.npz: no column named 'eeg'; known: \['state', 'subject'\]",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_breaks_a_rule_is_refused(tmp_path, monkeypatch, refusal, name):
    monkeypatch.chdir(tmp_path)
    spoil, message = ARCHIVES[name]
    arrays = {"eeg": np.random.default_rng(0).normal(0, 2e-5, (16, 2, 200))}
    arrays |= {"subject": np.repeat(["a", "b", "c", "d"], 4), "state": np.tile(["x", "y"], 8)}
    spoil(arrays)
    np.savez(tmp_path / "a.npz", **arrays)
    (tmp_path / "r.yaml").write_text(NPZ)
    (line,) = refusal("train", "r.yaml")
    assert re.fullmatch(message, line)
    assert not (tmp_path / "pwned").exists()
    assert not list(tmp_path.glob("runs/small*")) and not finished_below(tmp_path)


@pytest.mark.parametrize("name", ["a.npz", "s.h5"])
def test_a_truncated_archive_or_study_is_refused_by_name(lab, refusal, capsys, name):
    np.savez(lab / "a.npz", eeg=np.ones((16, 2, 200)), state=np.tile(["x", "y"], 8))
    assert main(["data", "ingest", "r.yaml", "-o", "s.h5"]) == 0
    os.truncate(lab / name, (lab / name).stat().st_size - 100)
    (line,) = refusal("train", "r.yaml", f"data.kind={'npz' if name == 'a.npz' else 'study'}", f"data.path={name}")
    assert line.startswith(f"{name}: must be a ")
    assert not list(lab.glob("runs/small*"))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda path: np.save(path, np.array([Evil()], dtype=object), allow_pickle=True),
            r".* must be a NumPy array of numbers, but Object arrays cannot be loaded.*",
        ),
        (
            lambda path: path.write_bytes(pickle.dumps(Evil())),
            r".* must be a NumPy array of numbers, but it does not begin as one",
        ),
    ],
)
def test_a_pickle_is_never_loaded(lab, refusal, write, message):
    for number in range(16):
        np.save(lab / f"{number}.npy", np.ones((20, 2)) * number)
    write(lab / "4.npy")
    edit(lab, lambda number, _: {"imu": f"{number}.npy"})
    text = (lab / "r.yaml").read_text().replace("  image:", "  imu: {kind: signal, sample_rate: 10}\n  image:")
    (lab / "r.yaml").write_text(text)
    (line,) = refusal("train", "r.yaml", "modalities=imu")
    assert re.fullmatch(r"t\.csv row 5, column imu: .*4\.npy:" + message, line)
    assert not (lab / "pwned").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("eeg=[{kind: affine}]", r"augment\.eeg: affine takes windows of 3 axes, but got \(2, 200\)"),
        (
            "image=[{kind: eeg_shift}]",
            r"augment\.image\.0: eeg_shift must be of a sensor with time, .* no sampling rate",
        ),
        ("audio=[{kind: token_drop}]", r"augment\.audio: token_drop takes windows of ids, but got torch\.float32"),
    ],
)
def test_an_augmentation_of_another_sensor_is_refused(lab, refusal, words, message):
    (line,) = refusal("train", "r.yaml", f"augment.{words}")
    assert re.fullmatch(message, line)
    assert not list(lab.glob("runs/small*"))


def test_answers_that_are_no_numbers_stop_the_training(lab, refusal):
    (line,) = refusal("train", "r.yaml", "modalities=eeg", "train.lr=1e30", "train.warmup=0", "train.clip=0")
    assert re.fullmatch(r"task 'state': answers must be finite, but in validation that of r\d+, .* is not", line)
    assert not list(lab.glob("runs/small*"))
