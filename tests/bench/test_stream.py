"""A stream loses nothing, its memory is flat, and decisions do not take long."""

import json
import sys
from types import SimpleNamespace

import pytest

from fusionkit.bench import stream
from fusionkit.bench.runtime import OVERHEAD
from fusionkit.bench.stream import GROWTH_MB, P50_MS, P99_MS, SPEED, StreamBench, bench_stream, train_on_noise
from fusionkit.cli import main
from fusionkit.export import run
from fusionkit.export.run import export_run


def test_what_is_not_as_it_must_be_is_said():
    right = StreamBench(1.0, 60.0, 3600, 0, 1.0, 2.0, 0.9, 1.8, 0.8, 1.1, 0.7, (80.0, 80.1))
    assert right.speed == 60 and right.faults == []
    wrong = StreamBench(1.0, 360.0, 3599, 1, 4.0, 20.0, 3.0, 5.0, 0.8, 3.7, 0.7, (80.0, 90.0))
    assert wrong.speed == 10 < SPEED and len(wrong.faults) == 6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells anonymous memory")
def test_three_minutes_of_recording_are_streamed_without_loss(tmp_path):
    export_run(train_on_noise(tmp_path), tmp_path / "model.fusion")
    found = bench_stream(tmp_path / "model.fusion")
    assert found.decisions == 180 and found.lost == 0
    assert found.memory_mb[1] - found.memory_mb[0] <= GROWTH_MB
    assert found.processor_p50_ms <= P50_MS and found.processor_p99_ms <= P99_MS
    assert 1 < found.overhead <= OVERHEAD


@pytest.mark.parametrize(("lost", "code"), [(0, 0), (2, 1)])
def test_the_command_says_how_it_went(lost, code, monkeypatch, capsys):
    found = StreamBench(1.0, 60.0, 3600 - lost, lost, 1.0, 2.0, 0.9, 1.8, 0.8, 1.1, 0.7, (80.0, 80.1))
    monkeypatch.setattr(stream, "train_on_noise", lambda folder: folder)
    monkeypatch.setattr(run, "export_run", lambda folder, path: SimpleNamespace(path=path))
    monkeypatch.setattr(stream, "bench_stream", lambda path, hours: found)
    assert main(["bench", "stream", "--hours", "1"]) == code
    said = capsys.readouterr().out
    assert "1 h in 60.0 s: 60.0 times real time" in said and ("FAIL  2 windows were lost" in said) == bool(lost)
    assert main(["bench", "stream", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["speed"] == 60
