"""The bench of a bundle's predictions runs, and says what is not as it must be."""

import json

import pytest

from fusionkit.bench.runtime import RuntimeBench, bench_runtime
from fusionkit.cli.frame import main
from fusionkit.core.errors import DataError
from tests.runtime import little


def test_a_bundle_is_timed(tmp_path, capsys):
    path = tmp_path / "little.fusion"
    path.write_bytes(little.pack(little.manifest(), little.files()))
    code = main(["bench", "runtime", str(path), "--rounds", "30", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (1 if found["faults"] else 0)  # this graph takes no time, and its predictions many times as much
    assert found["session_ms"] > found["graph_ms"] > 0 and found["first_s"] > 0 and found["p99_ms"] >= found["p50_ms"]


def test_a_bundle_without_references_is_refused(tmp_path):
    path = tmp_path / "little.fusion"
    path.write_bytes(little.pack(little.manifest(), {"model.onnx": little.files()["model.onnx"]}))
    with pytest.raises(DataError, match=r"little\.fusion: a bundle must have a reference\.npz to be timed"):
        bench_runtime(path, 20)


def test_faults_are_told():
    assert RuntimeBench(1.2, 1.0, 1.3, 2.0, 0.5).faults == []
    assert RuntimeBench(1.4, 1.0, 1.3, 2.0, 1.5).faults == [
        "a prediction took 1.40 times its graph, above 1.3",
        "the first answer took 1.50 s, above 1",
    ]
