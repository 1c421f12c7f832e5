"""The manifest source: every kind of table says the same, and what breaks a rule is named."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionkit.core.errors import ConfigError, DataError
from fusionkit.core.registry import sources
from fusionkit.data.sources.manifest import Manifest
from fusionkit.data.sources.source import FileCell, SensorColumn, TextCell
from fusionkit.data.table import as_text, read_table

TABLE = [
    {
        "id": "a",
        "subject": "S1",
        "eeg": "eeg/one.dat",
        "eeg_start": "0.5",
        "eeg_stop": "2.25",
        "note": "Hé, you",
        "n": "1",
    },
    {"id": "b", "subject": "S1", "eeg": None, "eeg_start": None, "eeg_stop": None, "note": None, "n": None},
    {
        "id": "c",
        "subject": "S2",
        "eeg": "eeg/one.dat",
        "eeg_start": "1.0",
        "eeg_stop": None,
        "note": "two\nlines",
        "n": "2.50",
    },
]


class Files:
    """A sensor that lies in files; nothing is read here."""

    kind = "files"
    in_cells = False


class Words:
    """A sensor that is written in cells."""

    kind = "words"
    in_cells = True


FILES: Any = Files()
WORDS: Any = Words()
EEG = SensorColumn("eeg", FILES, "eeg")
NOTE = SensorColumn("text", WORDS, "note")


def write(path, rows, encoding="utf-8"):
    columns = list(rows[0])
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding=encoding) as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({k: v for k, v in row.items() if v is not None}) for row in rows) + "\n")
    else:
        arrays = {name: pyarrow.array([row[name] for row in rows], pyarrow.string()) for name in columns}
        pyarrow.parquet.write_table(pyarrow.table(arrays), path)
    return path


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "lab" / "eeg").mkdir(parents=True)
    (tmp_path / "lab" / "eeg" / "one.dat").write_bytes(b"1")
    return tmp_path / "lab"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_every_kind_of_table_says_the_same(lab, suffix, encoding):
    source = Manifest(path=write(lab / f"table{suffix}", TABLE, encoding))
    rows = source.rows()
    assert [row.id for row in rows] == ["a", "b", "c"]
    assert [row.subject for row in rows] == ["S1", "S1", "S2"]
    assert [dict(row.labels) for row in rows] == TABLE
    assert source.columns() == list(TABLE[0])
    assert source.cell(1, EEG) is None
    first, third = source.cell(0, EEG), source.cell(2, EEG)
    assert isinstance(first, FileCell)
    assert first.path == lab / "eeg" / "one.dat"
    assert (first.key, first.start, first.stop) == ("eeg/one.dat", 0.5, 2.25)
    assert (third.key, third.start, third.stop) == ("eeg/one.dat", 1.0, None)
    assert first.where == f"table{suffix} row 1, column eeg"
    note = source.cell(2, NOTE)
    assert isinstance(note, TextCell)
    assert note.text == "two\nlines"
    assert note.key != source.cell(0, NOTE).key
    assert source.cell(1, NOTE) is None


def test_it_is_built_by_name_with_checked_options(lab):
    path = write(lab / "table.csv", TABLE)
    source = sources.build("manifest", {"path": str(path), "columns": {"subject": "note"}})
    assert isinstance(source, Manifest)
    with pytest.raises(ConfigError, match="did you mean 'path'"):
        sources.build("manifest", {"paht": "x"})
    with pytest.raises(ConfigError, match="'subjct'"):
        sources.build("manifest", {"path": str(path), "columns": {"subjct": "note"}})


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6), min_size=2, max_size=2),
        min_size=1,
        max_size=4,
    )
)
def test_a_csv_of_any_text_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["one", "two"], *rows])
    found = [tuple(row.values()) for row in read_table(path).rows]
    assert found == [tuple(cell if cell.strip() else None for cell in row) for row in rows]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_told_by_the_header(lab, delimiter):
    path = lab / "table.csv"
    path.write_text(f"id{delimiter}state\na{delimiter}x, y\n")
    assert read_table(path).rows == ({"id": "a", "state": "x, y"},)


def test_numbers_of_other_formats_become_short_text(lab):
    table = pyarrow.table(
        {
            "int": pyarrow.array([1, None]),
            "single": pyarrow.array([0.1, float("nan")], pyarrow.float32()),
            "double": [27.5, float("nan")],
            "flag": [True, False],
            "word": pyarrow.array(["x", None]).dictionary_encode(),
        }
    )
    pyarrow.parquet.write_table(table, lab / "t.parquet")
    first, second = read_table(lab / "t.parquet").rows
    assert first == {"int": "1", "single": "0.1", "double": "27.5", "flag": "true", "word": "x"}
    assert second == {"int": None, "single": None, "double": None, "flag": "false", "word": None}
    (lab / "t.jsonl").write_text('{"a": 27.50, "b": 1e3, "c": NaN, "d": true}\n\n{"e": 7}\n')
    first, second = read_table(lab / "t.jsonl").rows
    assert first == {"a": "27.50", "b": "1e3", "c": None, "d": "true", "e": None}
    assert second == {"a": None, "b": None, "c": None, "d": None, "e": "7"}


# names of records


def test_names_come_from_the_columns_that_are_named(lab):
    rows = [{"who": "P1", "run": "3", "t": str(n), "eeg": None} for n in range(2)]
    path = write(lab / "t.csv", rows)
    one, two = Manifest(path=path, columns={"subject": "who", "session": "run", "trial": "t"}).rows()
    assert (one.id, one.subject, one.session, one.trial, one.recording) == ("1", "P1", "3", "0", "0")
    assert (two.id, two.recording) == ("2", "1")
    assert Manifest(path=path, columns={"session": "run"}).rows()[0].recording == "3"
    bare = Manifest(path=path).rows()[1]
    assert (bare.id, bare.subject, bare.session, bare.trial, bare.recording) == ("2", "2", "", "", "")


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([{"id": "x"}, {"id": "y"}, {"id": "x"}], {}, r"t\.csv: id must be unique, but rows 1 and 3 are both 'x'"),
        ([{"id": "x", "n": "1"}, {"id": "", "n": "1"}], {}, r"t\.csv row 2, column id: id must not be empty"),
        ([{"subject": "", "n": "1"}], {}, r"t\.csv row 1, column subject: subject must not be empty"),
        (
            [{"speaker": "a"}],
            {"subject": "speker"},
            r"columns\.subject: no column named 'speker'; did you mean 'speaker'",
        ),
    ],
)
def test_names_that_break_a_rule_are_refused(lab, rows, columns, message):
    with pytest.raises(DataError, match=message):
        Manifest(path=write(lab / "t.csv", rows), columns=columns).rows()


# tables that break a rule


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "empty"),
        ("t.csv", b"id,state\n", "empty"),
        ("t.csv", b"id,state\na,b\nc\n", r"row 2 \(line 3\): must have 2 cells .* has 1"),
        ("t.csv", b'id,state\na,"x\ny"\nc,d,e\n', r"row 2 \(line 4\): must have 2 cells .* has 3"),
        ("t.csv", b'id,state\na,"b\n', r"line 2: must be CSV"),
        ("t.csv", b"id,id\na,b\n", "two named 'id'"),
        ("t.csv", b"id,\na,b\n", "column 2 has none"),
        ("t.csv", b"id,state\na,caf\xe9\n", r"line 2: must be UTF-8 text, but byte 14 is 0xe9"),
        ("t.csv", "id,state\na,b\n".encode("utf-16"), "must be UTF-8"),
        ("t.csv", b"id,state\na,b\0c\n", "row 1, column state: .*NUL"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', r"row 2 \(line 2\): must be JSON"),
        ("t.jsonl", b"[1]\n", "must be a JSON object"),
        ("t.jsonl", b'{"a": [1, 2]}\n', "row 1, column a: a cell must hold one value"),
        ("t.jsonl", b'{"a": "\\ud800"}\n', "surrogates"),
        ("t.jsonl", b"[" * 10**5, "must be JSON"),
        ("t.parquet", b"PAR1", "must be Parquet"),
        ("t.xlsx", b"x", r"must end in one of .*'\.csv'.*, but got '\.xlsx'"),
    ],
)
def test_tables_that_break_a_rule_are_refused_by_name(lab, name, content, message):
    (lab / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        Manifest(path=lab / name).rows()
    assert str(caught.value).startswith(str(lab / name))
    assert "\n" not in str(caught.value)


def test_a_missing_table_and_a_folder_are_refused(lab):
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        Manifest(path=lab / "none.csv").rows()
    with pytest.raises(DataError, match="this is a folder"):
        Manifest(path=lab).rows()


def test_unknown_columns_are_refused_with_the_nearest(lab):
    source = Manifest(path=write(lab / "t.csv", TABLE))
    with pytest.raises(DataError) as caught:
        source.check_columns({"modalities.eeg.column": "eg", "tasks.n.column": "n", "tasks.x.column": "subjects"})
    one, two = str(caught.value).split("\n")
    assert one.startswith("t.csv: modalities.eeg.column: no column named 'eg'; did you mean 'eeg'?")
    assert "did you mean 'subject'?" in two
    with pytest.raises(DataError, match="did you mean 'eeg'"):
        source.cell(0, SensorColumn("eeg", FILES, "egg"))


# cells that break a rule


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("eeg/none.dat", "no such file: 'eeg/none.dat'"),
        ("eeg", "'eeg' is a folder"),
        ("../secret.dat", "inside the table's folder, but got '../secret.dat'"),
        ("eeg/../../secret.dat", "inside the table's folder"),
        ("/etc/passwd", "inside the table's folder"),
        ("link.dat", "inside the table's folder"),
        ("out/secret.dat", "inside the table's folder"),
        ("x" * 5000, "no such file|path of a file"),
        ("loop", "no such file|path of a file"),
    ],
)
def test_a_path_never_leaves_the_tables_folder(lab, cell, message):
    (lab.parent / "secret.dat").write_bytes(b"s")
    (lab / "link.dat").symlink_to(lab.parent / "secret.dat")
    (lab / "out").symlink_to(lab.parent)
    (lab / "loop").symlink_to(lab / "loop")
    with pytest.raises(DataError, match=message):
        Manifest(path=write(lab / "t.csv", [{"eeg": cell}])).cell(0, EEG)


def test_links_that_stay_inside_are_followed_and_name_one_file(lab):
    (lab / "alias.dat").symlink_to(lab / "eeg" / "one.dat")
    source = Manifest(path=write(lab / "t.csv", [{"eeg": "alias.dat"}, {"eeg": "eeg/../eeg/one.dat"}]))
    assert source.cell(0, EEG).key == source.cell(1, EEG).key == "eeg/one.dat"


def test_a_table_reached_through_a_link_is_read(lab):
    write(lab / "t.csv", [{"eeg": "eeg/one.dat"}])
    (lab.parent / "alias").symlink_to(lab)
    assert Manifest(path=lab.parent / "alias" / "t.csv").cell(0, EEG).path == lab / "eeg" / "one.dat"


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        ("2", "2", "start must be before stop, but start is 2 s and stop 2 s"),
        ("3", "2", "start must be before stop"),
        ("-1", "2", "eeg_start must be seconds from 0 on, but got '-1'"),
        ("0", "nan", "eeg_stop must be seconds from 0 on, but got 'nan'"),
        ("0", "inf", "eeg_stop must be seconds"),
        ("one", "2", "eeg_start must be seconds from 0 on, but got 'one'"),
        (None, "0", "start must be before stop"),
    ],
)
def test_seconds_that_break_a_rule_are_refused(lab, start, stop, message):
    row = {"eeg": "eeg/one.dat", "eeg_start": start, "eeg_stop": stop, "n": "1"}
    with pytest.raises(DataError, match=message):
        Manifest(path=write(lab / "t.csv", [row])).cell(0, EEG)


def test_the_columns_of_seconds_may_be_named(lab):
    source = Manifest(path=write(lab / "t.csv", [{"eeg": "eeg/one.dat", "from": "1", "to": "2", "eeg_start": "9"}]))
    cell = source.cell(0, SensorColumn("eeg", FILES, "eeg", start="from", stop="to"))
    assert (cell.start, cell.stop) == (1.0, 2.0)


def test_the_fingerprint_changes_with_table_place_and_options(lab):
    def fingerprint(path, **options):
        return Manifest(path=path, **options).fingerprint()

    path = write(lab / "t.csv", TABLE)
    plain = fingerprint(path)
    assert plain == fingerprint(str(path))
    assert plain != fingerprint(path, columns={"subject": "note"})
    assert plain != fingerprint(write(lab / "u.csv", TABLE))
    assert plain != fingerprint(write(path, TABLE[:2]))


def test_the_stamp_of_a_file_changes_with_the_file(lab):
    source = Manifest(path=write(lab / "t.csv", TABLE))
    before = source.cell(0, EEG).stamp()
    assert before == source.cell(0, EEG).stamp()
    (lab / "eeg" / "one.dat").write_bytes(b"22")
    assert source.cell(0, EEG).stamp() != before


def test_one_cell_as_text():
    assert [as_text(value) for value in (None, "", "  ", " a", 3, 0.5, float("nan"), True)] == [
        *[None] * 3,
        " a",
        "3",
        "0.5",
        None,
        "true",
    ]


def test_the_lab_manifest_is_read(real_data):
    source = Manifest(path=real_data / "lab" / "manifest.csv")
    rows = source.rows()
    assert len(rows) == 720
    assert len({row.subject for row in rows}) == 24
    assert rows[1].recording == "S12_arithmetic"
    assert sum(row.labels["subtractions"] is None for row in rows) == 360
    cells = [source.cell(row, EEG) for row in range(720)]
    assert len({cell.key for cell in cells}) == 48
    assert {cell.stop - cell.start for cell in cells} == {4.0}
    assert all(Path(cell.path).is_file() for cell in cells)
    assert np.isclose(min(cell.start for cell in cells), 0)
