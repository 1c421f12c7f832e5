"""Data from the command line: what lies there, a study of it, and how it splits."""

import csv
import io
import json

import h5py
import numpy as np
import pytest
from PIL import Image

from fusionkit.cli import main
from fusionkit.data.inspect import inspect
from fusionkit.data.splits import Split
from fusionkit.data.study import Study

RECIPE = """
name: pictures
data: {kind: manifest, path: t.csv, split: {kind: k_fold, by: subject, folds: 2, validation: 0.5}}
modalities:
  image: {kind: image, encoder: {kind: mlp}}
  text: {kind: text, vocab_size: 300, encoder: {kind: mlp}}
fusion: {kind: concat}
tasks:
  state: {kind: classification}
  level: {kind: regression}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Four people with four records each, two classes, a sentence missing; the current folder."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    rows = []
    for number in range(16):
        Image.fromarray(noise.integers(0, 255, (6, 6, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(
            {
                "id": f"r{number}",
                "subject": f"S{number // 4}",
                "image": f"{number}.png",
                "text": f"sentence {number}" if number else "",
                "state": ("rest", "work")[number % 2],
                "level": number if number != 5 else "",
            }
        )
    write(tmp_path / "t.csv", rows)
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def said(capsys, *words):
    """Standard output of a command that succeeds."""
    assert main(["data", *map(str, words)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys, *words):
    """The errors of a command that is refused, and no more than that."""
    assert main(["data", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert all(line.startswith("error: ") for line in err.splitlines())
    return out, err


@pytest.mark.parametrize("verb", ["inspect", "ingest", "split"])
def test_every_verb_has_help_with_an_example(verb, capsys):
    assert f"\n  Example:\n      fusionkit data {verb}" in said(capsys, verb, "--help")


def test_a_folder_is_counted_and_its_tables_are_named(here, capsys):
    shown = said(capsys, "inspect", here)
    assert "a folder of 18 files" in shown
    assert f"\n  {here / 't.csv'}\n" in shown
    assert json.loads(said(capsys, "inspect", here, "--json"))["suffixes"][".png"][0] == 16


def test_a_table_is_shown_column_by_column(here, capsys):
    shown = said(capsys, "inspect", "t.csv")
    assert "t.csv: a table of 16 rows and 6 columns" in shown
    lines = {line.split()[1]: [cell.strip() for cell in line.split("│")[2:5]] for line in shown.splitlines()[4:-1]}
    assert lines["image"] == ["files (.png)", "16", "16"]
    assert lines["text"] == ["text", "15", "15"]
    assert lines["level"] == ["numbers", "15", "15"]
    found = json.loads(said(capsys, "inspect", "t.csv", "--json"))
    assert (found["what"], found["rows"], found["path"]) == ("table", 16, "t.csv")


def test_files_that_are_missing_are_counted(here, capsys):
    (here / "3.png").unlink()
    assert "1 file missing" in said(capsys, "inspect", "t.csv")


def test_an_archive_is_shown_by_its_arrays(here, capsys):
    np.savez(here / "a.npz", x=np.zeros((2, 3), np.int16), rate=250)
    shown = said(capsys, "inspect", "a.npz")
    assert "a NumPy archive of 2 arrays" in shown
    assert "2 x 3" in shown and "int16" in shown and "one value" in shown


def test_a_recording_is_read_as_its_sensors_do(here, capsys):
    assert "1 x 3 x 6 x 6 uint8" in said(capsys, "inspect", "0.png")
    found = json.loads(said(capsys, "inspect", "0.png", "--json"))
    assert found["what"] == "file" and found["read"][0]["kind"] == "image" and found["refused"] == {}
    assert "that no sensor reads" in said(capsys, "inspect", "r.yaml")


def test_a_damaged_recording_is_refused(here, capsys):
    (here / "0.png").write_bytes((here / "0.png").read_bytes()[:50])
    for words in ((), ("--json",), ("--plot", "p.png")):
        out, err = refused(capsys, "inspect", "0.png", *words)
        assert out == "" and err.startswith("error: 0.png: must be an image that Pillow reads")
    assert not (here / "p.png").exists()


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_window_of_every_sensor_is_drawn(here, capsys, suffix, start):
    assert f"wrote p.{suffix}" in said(capsys, "inspect", "0.png", "--plot", f"p.{suffix}")
    assert (here / f"p.{suffix}").read_bytes().startswith(start)


def test_what_cannot_be_drawn_is_refused(here, capsys):
    _, err = refused(capsys, "inspect", "t.csv", "--plot", "p.png")
    assert err == "error: --plot draws studies, data sets and recordings, but t.csv is none of them\n"
    _, err = refused(capsys, "inspect", "0.png", "--plot", "p.doc")
    assert err == "error: --plot must end in one of ['.png', '.svg', '.pdf'], but got 'p.doc'\n"


def test_a_study_is_made_shown_and_drawn(here, capsys):
    shown = said(capsys, "ingest", "r.yaml", "-o", "out/s.h5")
    assert "recordings: 31 done" in shown
    assert "out/s.h5: a study of 16 records of 4 subjects" in shown and "wrote out/s.h5" in shown
    with Study.open(here / "out" / "s.h5") as study:
        assert study.records.labels["state"][:2] == ("rest", "work")
        assert bytes(study.sensors["text"].slice(3)) == b"sentence 3"
    assert not list((here / "out").glob("*.parts"))
    shown = said(capsys, "inspect", "out/s.h5", "--plot", "p.png")
    assert "│ text   │ text  │ 15 of 16 │" in shown and (here / "p.png").stat().st_size > 1000
    found = json.loads(said(capsys, "ingest", "r.yaml", "-o", "out/s.h5", "--json"))
    assert found["what"] == "study" and found["digest"] == study.digest


def test_a_study_replaces_the_table_in_the_same_recipe(here, capsys):
    said(capsys, "ingest", "r.yaml", "-o", "s.h5", "--workers", "0")
    table, study = (
        json.loads(said(capsys, "split", "r.yaml", *more, "--json"))
        for more in ((), ("data.kind=study", "data.path=s.h5"))
    )
    assert table == study


def test_a_study_is_not_written_over_anything_else(here, capsys):
    _, err = refused(capsys, "ingest", "r.yaml", "-o", "s.csv")
    assert err == "error: a study must end in .h5 or .hdf5, but got 's.csv'\n"
    with h5py.File(here / "other.h5", "w") as file:
        file["x"] = 1
    before = (here / "other.h5").read_bytes()
    _, err = refused(capsys, "ingest", "r.yaml", "-o", "other.h5")
    assert err == "error: other.h5: must be a fusionkit study, but its format is None\n"
    assert (here / "other.h5").read_bytes() == before
    said(capsys, "ingest", "r.yaml", "-o", "s.h5")
    _, err = refused(capsys, "ingest", "r.yaml", "data.kind=study", "data.path=s.h5", "modalities=text", "-o", "s.h5")
    assert "must go to another file than the one it is read from" in err
    assert {sensor.name for sensor in inspect(here / "s.h5").sensors} == {"image", "text"}


def test_a_refused_file_leaves_no_study(here, capsys):
    (here / "7.png").write_bytes(b"")
    _, err = refused(capsys, "ingest", "r.yaml", "-o", "s.h5")
    assert err.startswith("error: t.csv row 8, column image: ") and "7.png" in err
    assert not (here / "s.h5").exists()


def test_a_split_is_counted_by_fold_and_part(here, capsys):
    found = json.loads(said(capsys, "split", "r.yaml", "-o", "out/split.json", "--json"))
    assert [(part["fold"], part["part"]) for part in found["parts"]] == [
        (fold, part) for fold in (0, 1) for part in ("train", "validation", "test")
    ]
    for fold in (0, 1):
        parts = {part["part"]: part for part in found["parts"] if part["fold"] == fold}
        assert [len(parts[name]["groups"]) for name in parts] == [1, 1, 2]
        assert sum(part["records"] for part in parts.values()) == 16
        assert sum(part["tasks"]["level"]["missing"] for part in parts.values()) == 1
        assert parts["test"]["tasks"]["state"]["classes"] == {"rest": 4, "work": 4}
    said(capsys, "ingest", "r.yaml", "-o", "s.h5")
    with Study.open(here / "s.h5") as study:
        kept = Split.load(here / "out" / "split.json", study.records)
    assert kept.digest == found["digest"]
    tested = [study.records.subject[row] for row in kept.folds[1].test]
    assert sorted(set(tested)) == found["parts"][5]["groups"]


def test_a_split_is_shown_as_a_table(here, capsys):
    shown = said(capsys, "split", "r.yaml")
    assert "k_fold by subject: 2 folds, 16 records" in shown
    assert shown.count("rest 4, work 4") == 2 and shown.count("rest 2, work 2") == 4
    assert ", 1 missing" in shown


def test_hidden_labels_are_missing_in_training_parts_alone(here, capsys):
    found = json.loads(said(capsys, "split", "r.yaml", "data.labels.keep=2", "--json"))
    for fold in (0, 1):
        parts = {part["part"]: part["tasks"]["state"] for part in found["parts"] if part["fold"] == fold}
        assert parts["train"]["labelled"] == 2 and parts["train"]["missing"] == 2
        assert parts["train"]["classes"] == {"rest": 1, "work": 1}
        assert parts["validation"]["missing"] == parts["test"]["missing"] == 0
    (note,) = (line for line in found["notes"] if line.startswith("data.labels hides labels"))
    assert "2 of 4 in fold 0, 2 of 4 in fold 1" in note


def test_a_fold_that_cannot_be_trained_is_noted(here, capsys):
    rows = read(here / "t.csv")
    rows[0]["state"] = "sleep"
    write(here / "t.csv", rows)
    shown = said(capsys, "split", "r.yaml")
    assert "task 'state': every class must occur in training, but ['sleep'] do not; training would refuse" in shown


def test_signal_on_two_sides_is_refused_and_nothing_written(here, capsys):
    rows = read(here / "t.csv")
    for row in rows:
        row["image"] = "0.png"
    write(here / "t.csv", rows)
    _, err = refused(capsys, "split", "r.yaml", "-o", "split.json")
    assert err.startswith("error: data.split: windows that share samples may not straddle a split, but records 'r")
    assert "fold 0 share samples" in err
    assert not (here / "split.json").exists()
    shown = said(capsys, "split", "r.yaml", "data.allow_leakage=a test", "-o", "split.json")
    assert "allowed: a test" in shown and (here / "split.json").exists()
