"""A recipe is written for a table of files, and is sound."""

import csv

import pytest

from fusionkit.cli import main


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("t.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "participant", "voice", "face", "state", "load", "Speaker"])
        for row in range(40):
            writer.writerow([row, f"S{row % 8}", f"{row}.wav", f"{row}.png", "ab"[row % 2], row / 7, f"P{row % 3}"])


def test_the_draft_is_printed_or_written_and_sound(tmp_path, capsys):
    assert main(["init", "t.csv"]) == 0
    printed = capsys.readouterr().out
    assert main(["init", "t.csv", "-o", "mine.yaml"]) == 0
    assert capsys.readouterr().out == "wrote mine.yaml; train it with `fusionkit train mine.yaml`\n"
    written = (tmp_path / "mine.yaml").read_text()
    assert written == printed.replace("name: t\n", "name: mine\n").replace("train my.yaml", "train mine.yaml")
    assert "  columns: {id: id, subject: participant}" in written
    assert "  # Speaker: {kind: classification}  # 3 values under a name for groups or circumstances; P0" in written
    assert main(["check", "mine.yaml"]) == 0
    assert "sensors: voice (audio), face (image)" in capsys.readouterr().out


def test_a_file_is_never_overwritten_without_force(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("mine")
    assert main(["init", "t.csv", "-o", "mine.yaml"]) == 2
    assert capsys.readouterr().err == "error: mine.yaml: a file that exists is overwritten only with --force\n"
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    assert main(["init", "t.csv", "-o", "mine.yaml", "--force"]) == 0


def test_a_missing_table_is_one_line(tmp_path, capsys):
    assert main(["init", "no.csv", "-o", "mine.yaml"]) == 2
    assert capsys.readouterr().err == "error: no.csv: no such file\n"
    assert not (tmp_path / "mine.yaml").exists()


def test_the_real_table_is_understood(real_data, capsys):
    assert main(["init", str(real_data / "lab" / "manifest.csv"), "-o", "lab.yaml"]) == 0
    assert main(["check", "lab.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "lab.yaml: ok",
        "sensors: eeg (eeg), ecg (signal), audio (audio), image (image), text (text)",
        "fusion: fused (rcft, intermediate)",
        (
            "tasks: state (classification), emotion (classification), count_quality (classification), "
            "subtractions (regression)"
        ),
    ]
