"""`fusionkit compare --robustness`: a comparison that is done is asked again, and nothing is trained again."""

import csv
import re

import pytest

from fusionkit.cli import main
from fusionkit.compare.cells.cell import run_cell
from fusionkit.compare.cells.executor import Executor

SMALL = ["data.subjects=6", "data.records=4", "train.epochs=1", "train.device=cpu", "modalities=eeg,text"]
SMALL += ["data.seconds=1.0", "modalities.eeg.encoder.kind=mlp"]
SMALL.append("data.split={kind: k_fold, by: subject, folds: 2, validation: 0.3, calibration: 0.5}")


class Here(Executor):
    """Trains in this process."""

    def __init__(self, jobs):
        pass

    def run(self, cells):
        for cell in cells:
            yield run_cell(cell)


@pytest.mark.slow
def test_a_comparison_that_is_done_is_asked_again_and_nothing_is_trained_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fusionkit.compare.cells.executor.LocalExecutor", Here)
    words = [
        "compare",
        "quickstart",
        f"run.dir={tmp_path}",
        *SMALL,
        "--vary",
        "fusion.kind=concat,vote",
        "--seeds",
        "1",
    ]
    assert main([*words, "--no-report"]) == 0
    assert "8 cells, 8 to train\n" in capsys.readouterr().out
    (folder,) = (tmp_path / "quickstart-compare").iterdir()
    weights = {path: path.stat().st_mtime_ns for path in folder.rglob("best.safetensors")}
    assert len(weights) == 8 and not (folder / "robustness.csv").exists() and (folder / "calibration.csv").exists()
    assert main([*words, "--resume", "--robustness"]) == 0
    printed = capsys.readouterr().out
    assert "8 cells, 0 to train, 8 to ask again" in printed
    for name in ("robustness.csv", "robustness.parquet", "calibration.csv", "calibration.parquet"):
        assert f"wrote {folder / name}" in printed
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("best.safetensors")} == weights
    rows = list(csv.DictReader((folder / "robustness.csv").read_text().splitlines()))
    assert {row["absent"] for row in rows} == {"", "eeg", "text", "eeg + text"}
    assert {row["fault"] for row in rows} == {"", "noise", "channels", "bursts", "offset"}
    whole = {  # what was scored at once and what was asked again are the same
        (row["strategy"], row["fold"]): row["score"]
        for row in csv.DictReader((folder / "results.csv").read_text().splitlines())
        if not row["subject"]
    }
    for row in rows:
        if not row["absent"] and not row["fault"]:
            assert row["score"] == whole[row["strategy"], row["fold"]]
    page = (folder / "report.html").read_text()
    for part in (
        "What each sensor is worth",
        "Absent sensors",
        "Failing sensors",
        "Calibration",
        "not a promise for others",
    ):
        assert part in page
    assert re.search(r"concat: eeg (adds|is not shown to add anything|takes away)", page)
    assert main([*words, "--resume", "--robustness", "--no-report"]) == 0
    assert "8 cells, 0 to train\n" in capsys.readouterr().out
    levels = ["--faults", "noise=2", "--faults", "bursts=none", "--faults", "channels=none"]
    assert main([*words, "--resume", "--robustness", "--no-report", *levels]) == 0
    assert "8 cells, 0 to train, 8 to ask again" in capsys.readouterr().out
    rows = list(csv.DictReader((folder / "robustness.csv").read_text().splitlines()))
    assert {(row["fault"], row["level"]) for row in rows if row["fault"] in ("noise", "bursts", "channels")} == {
        ("noise", "2")
    }


def test_too_many_sensors_are_refused_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fusionkit.compare.experiment.grid.MOST", 1)
    assert main(["compare", "quickstart", f"run.dir={tmp_path}", *SMALL, "--robustness"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "every subset of the sensors, which must be 1 or fewer, but 'quickstart' has 2" in said
    assert not list(tmp_path.iterdir())
