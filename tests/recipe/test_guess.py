"""What is guessed from a table, and the draft that comes of it."""

import json
import random

import pytest

from fusionkit.core import registry
from fusionkit.core.errors import ConfigError, DataError
from fusionkit.recipe import guess as guessing
from fusionkit.recipe.channels import peek_channels
from fusionkit.recipe.draft import draft
from fusionkit.recipe.guess import guess
from fusionkit.recipe.load import load_recipe

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "wizards",
    "brew",
    "some",
    "tea",
]


class Files:
    """A stub sensor."""

    encoder = "plain"
    in_cells = False

    def __init__(self, *, channels: list[str] | None = None) -> None: ...


def sensor(*suffixes, in_cells=False):
    return type("Stub", (Files,), {"suffixes": frozenset(suffixes), "in_cells": in_cells})


class Answer:
    mergeable = True

    def __init__(self) -> None: ...


class Manifest:
    def __init__(self, *, path: str, columns: dict[str, str] | None = None) -> None: ...


@pytest.fixture(autouse=True)
def kinds(monkeypatch, stubs):
    classes = {
        "eeg": sensor(".edf"),
        "audio": sensor(".wav", ".flac"),
        "image": sensor(".png"),
        "signal": sensor(".edf", ".npy"),
        "text": sensor(".txt", in_cells=True),
    }
    monkeypatch.setattr(registry.modalities, "_classes", classes)
    monkeypatch.setattr(registry.heads, "_classes", {"classification": Answer, "regression": Answer})
    monkeypatch.setattr(registry.sources, "_classes", {"manifest": Manifest})
    monkeypatch.setitem(registry.fusion._classes, "rcft", registry.fusion._classes["mix"])
    monkeypatch.setattr(guessing, "peek_channels", lambda path: {"eeg": ["Cz", "Pz"], "ecg": ["ECG"]})


def rows(count=48, subjects=6):
    """A study: each subject has 8 records in two recordings of 4 windows."""
    rng = random.Random(0)
    table = []
    for index in range(count):
        who, inside = divmod(index, count // subjects)
        table.append(
            {
                "id": f"r{index}",
                "subject": f"S{who}",
                "eeg": f"eeg/S{who}_{inside // 4}.edf",
                "eeg_start": inside % 4 * 2.0,
                "eeg_stop": inside % 4 * 2.0 + 2,
                "voice": f"a{index}.wav" if index % 3 else None,
                "remark": " ".join(rng.sample(WORDS, 7)),
                "state": "rest" if index % 2 else "work",
                "mood": ["calm", "busy", "sad"][index % 2 * (1 + index % 4 // 2)],
                "score": round(rng.random(), 3),
                "skill": who * 1.5 + 11.25,
                "speaker": f"P{index % 7}",
                "room": "blue" if index % 2 else "red",
                "device": "same",
                "number": index,
                "code": f"x{rng.random()}",
            }
        )
    return table


@pytest.fixture
def table(tmp_path):
    """Write a table of files and give its path."""

    def write(found, name="t.jsonl"):
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(row) for row in found), encoding="utf-8")
        return path

    return write


def drop(found, *columns):
    return [{name: value for name, value in row.items() if name not in columns} for row in found]


def test_sensors_are_found_by_endings_and_sentences(table):
    found = guess(table(rows()))
    assert {sensor.name: dict(sensor.entry) for sensor in found.sensors} == {
        "eeg": {"kind": "eeg"},
        "ecg": {"kind": "signal", "column": "eeg", "channels": ["ECG"]},
        "voice": {"kind": "audio"},
        "remark": {"kind": "text"},
    }
    notes = {sensor.name: sensor.note for sensor in found.sensors}
    assert notes["eeg"] == ".edf; every record; 2 EEG channels: Cz, Pz"
    assert notes["voice"] == ".wav; 32 of 48 records"


def test_names_and_split_are_found(table):
    found = guess(table(rows()))
    assert found.roles == {"id": "id", "subject": "subject"}
    assert found.split == {"kind": "k_fold", "by": "subject", "folds": 4, "validation": 0.25}
    assert (found.records, found.subjects, found.allow_leakage, found.stand_in) == (48, 6, None, None)


def test_tasks_are_found_with_their_doubts(table):
    found = guess(table(rows()))
    tasks = {task.name: task for task in found.tasks}
    assert {name: task.kind for name, task in tasks.items() if not task.doubt} == {
        "state": "classification",
        "mood": "classification",
        "score": "regression",
        "skill": "regression",
    }
    assert tasks["state"].notes == ["rest 24, work 24", "decided by mood: the two are not independent"]
    assert "constant within each subject, so n is 6 of these and not 48 records" in tasks["skill"].notes
    assert tasks["speaker"].doubt == "7 values under a name for groups or circumstances"
    assert tasks["room"].doubt == "2 values under a name for groups or circumstances"
    assert found.left_out == {
        "device": "the same value everywhere",
        "number": "a counter",
        "code": "48 different values",
    }


def test_missing_labels_are_counted(table):
    found = rows()
    for row in found[::4]:
        row["state"] = None
    notes = next(task.notes for task in guess(table(found)).tasks if task.name == "state")
    assert "12 of 48 records have none" in notes


def test_codes_are_taken_for_groups(table):
    found = rows()
    for index, row in enumerate(found):
        row["mood"] = f"M{index % 9}"
    doubt = next(task.doubt for task in guess(table(found)).tasks if task.name == "mood")
    assert doubt == "9 values that look like names of groups: M0, M1, M2 ... M8"


def test_a_class_that_a_fold_cannot_learn_is_no_task(table):
    found = rows()
    for row in found:
        row["mood"] = "odd" if row["subject"] == "S3" else "even" if row["state"] == "rest" else "other"
    doubt = next(task.doubt for task in guess(table(found)).tasks if task.name == "mood")
    assert doubt.startswith("class 'odd' does not occur where fold ")


def test_ratings_are_classes_and_may_be_ordinal(table):
    found = rows()
    for index, row in enumerate(found):
        row["mood"] = index % 5
    task = next(task for task in guess(table(found)).tasks if task.name == "mood")
    assert (task.kind, task.notes[1]) == ("classification", "ordinal, if the numbers are an order")


def test_a_column_of_parts_is_the_split(table):
    found = rows()
    for row in found:
        row["fold"] = {"S0": "test", "S1": "dev"}.get(row["subject"], "train")
    split = guess(table(found)).split
    assert split == {
        "kind": "column",
        "by": "subject",
        "column": "fold",
        "train": ["train"],
        "validation": ["dev"],
        "test": ["test"],
    }
    for index, row in enumerate(found):  # parts that cut through subjects
        row["fold"] = "test" if index % 4 == 0 else "train"
    assert guess(table(found)).split["kind"] == "k_fold"


def test_files_on_both_sides_need_a_reason(table):
    found = rows()
    for index, row in enumerate(found):
        row["voice"] = f"stimulus{index % 3}.wav"
    assert guess(table(found)).allow_leakage == "files of voice occur on both sides of a split by subject"


def test_recordings_stand_in_for_subjects(table):
    found = guess(table(drop(rows(), "subject", "speaker", "id")))
    assert (found.roles, found.stand_in, found.subjects) == ({"subject": "eeg"}, "eeg", 12)
    assert found.split["by"] == "subject"
    assert found.allow_leakage is None


def test_speakers_stand_in_for_subjects(table):
    found = guess(table(drop(rows(), "subject", "eeg", "eeg_start", "eeg_stop")))
    assert (found.roles["subject"], found.subjects) == ("speaker", 7)
    assert all(task.name != "speaker" for task in found.tasks)


def test_without_any_group_records_are_split(table):
    found = guess(table(drop(rows(), "subject", "eeg", "eeg_start", "eeg_stop", "speaker", "id")))
    assert (found.roles, found.subjects) == ({}, None)
    assert found.split == {"kind": "k_fold", "by": "record", "folds": 4, "validation": 0.25}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("eeg", "voice", "remark"), "a column must hold files of a known kind or sentences, but none does"),
        (
            ("state", "mood", "score", "skill", "speaker", "number", "code"),
            (
                "a column must look like a task, but none does (room: 2 values under a name for groups or circumstances; "
                "device: the same value everywhere)"
            ),
        ),
    ],
)
def test_a_table_without_sensors_or_tasks_is_refused(table, columns, message):
    path = table(drop(rows(), *columns))
    with pytest.raises(ConfigError) as error:
        guess(path)
    assert str(error.value) == f"{path}: {message}"


def test_too_few_groups_are_refused(table):
    with pytest.raises(ConfigError, match="must divide into training, validation and test, but a split by subject"):
        guess(table(rows(count=8, subjects=1)))


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no\.csv: no such file"):
        guess(tmp_path / "no.csv")


def test_awkward_names_become_fit_for_recipes(table):
    found = [
        {
            "id": row["id"],
            "subject": row["subject"],
            "my eeg (uV)": row["eeg"],
            "values": row["voice"],
            "1st": row["state"],
        }
        for row in rows()
    ]
    result = guess(table(found))
    assert [(sensor.name, sensor.entry.get("column")) for sensor in result.sensors] == [
        ("my_eeg_uV", "my eeg (uV)"),
        ("ecg", "my eeg (uV)"),
        ("values_", "values"),
    ]
    assert result.tasks[0].entry == {"kind": "classification", "column": "1st"}
    assert result.tasks[0].name == "column_1st"


@pytest.mark.parametrize("change", ["as it is", "awkward", "shared", "no subject", "one sensor"])
def test_the_draft_is_a_recipe(table, tmp_path, change):
    found = rows()
    if change == "awkward":
        for row in found:
            row["no: way #1\n"] = row.pop("state")
            row["remark"] += "\n# not a comment"
    if change == "shared":
        for row in found:
            row["voice"] = "same.wav"
    if change == "no subject":
        found = drop(found, "subject", "speaker")
    if change == "one sensor":
        found = drop(found, "voice", "remark", "eeg")
        for index, row in enumerate(found):
            row["face"] = f"{index}.png"
    result = guess(table(found))
    text = draft(result, "mine", "some folder/t.jsonl", "fusionkit train mine.yaml")
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    recipe = load_recipe(str(path))
    assert recipe.name == "mine"
    assert recipe.data.options == {"path": "some folder/t.jsonl", "columns": dict(result.roles)}
    assert list(recipe.modalities) == [sensor.name for sensor in result.sensors]
    assert list(recipe.tasks) == [task.name for task in result.tasks if not task.doubt]
    assert (recipe.data.allow_leakage is not None) == (change == "shared")
    assert "# Guessed by `fusionkit init` from some folder/t.jsonl: 48 records" in text


def test_channels_of_a_real_file(real_data):
    channels = peek_channels(next((real_data / "lab" / "eeg").glob("*.edf")))
    assert list(channels) == ["eeg", "ecg"]
    assert len(channels["eeg"]) == 20
    assert len(channels["ecg"]) == 1


def test_a_file_that_is_none_has_no_channels(tmp_path):
    path = tmp_path / "x.edf"
    assert peek_channels(path) == {}
    path.write_bytes(b"nothing")
    assert peek_channels(path) == {}
