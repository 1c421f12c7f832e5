"""`fusionkit export`: what it prints, and what its options do."""

import json

import pytest

from fusionkit.cli.frame import main
from fusionkit.runtime import read_bundle


@pytest.mark.slow
def test_eight_bits_and_what_they_cost(tiny_run, tmp_path, capsys):
    path = tmp_path / "small.fusion"
    assert main(["export", str(tiny_run.folder), "-o", str(path), "--int8", "--opset", "21", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["output"] for row in told["outputs"]] == ["target", "target", "features of eeg", "features of eeg"]
    assert [row["batch"] for row in told["outputs"]] == [1, 8, 1, 8]
    assert told["parity"] == max(row["largest"] for row in told["outputs"]) < 1e-4
    assert told["macs"] > 0 and told["parameters"] > 0
    manifest = read_bundle(path).manifest
    assert manifest.opset == 21
    assert manifest.quantised == told["quantised"]
    change = told["quantised"]["scores"]["target"]["nll"]
    assert change["difference"]["value"] == pytest.approx(change["after"]["value"] - change["before"]["value"])
    assert told["quantised"]["records"] == 24
    assert told["quantised"]["operators"]["MatMul"] > 0


@pytest.mark.slow
def test_people_read_tables(tiny_run, tmp_path, capsys):
    assert main(["export", str(tiny_run.folder), "-o", str(tmp_path / "m.fusion"), "--int8"]) == 0
    said = capsys.readouterr().out
    assert "differences from torch" in said and "features of eeg" in said
    assert "difference [95 % over subjects]" in said and "MB as int8" in said
