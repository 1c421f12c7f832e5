"""The bench of fusion operations: what it counts and what it says."""

import json

import pytest

from fusionkit.bench import fusion
from fusionkit.cli import main

LEVELS = ("concat", "low_rank", "vote")


@pytest.fixture
def quick(monkeypatch):
    """Three operations, each number taken twice."""
    bench = fusion.bench_fusion
    monkeypatch.setattr(fusion, "bench_fusion", lambda runs: bench(LEVELS, runs))
    monkeypatch.setattr(
        fusion, "check_targets", lambda runs: [fusion.Target("a", 2.0, 1.0), fusion.Target("b", 2.0, 3.0)]
    )


def test_a_row_an_operation_and_code_1_where_a_target_is_missed(quick, capsys):
    assert main(["bench", "fusion", "--runs", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["forward", "operation", *LEVELS, "pass", "FAIL"]
    assert all(cell.count("/") == 2 for line in lines[2:5] for cell in line.split()[1:])


def test_numbers_are_by_sensors_and_batch(quick, capsys):
    assert main(["bench", "fusion", "--runs", "2", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [target["kept"] for target in found["targets"]] == [True, False]
    for times in found["operations"].values():
        assert [(time["sensors"], time["batch"]) for time in times] == [(m, b) for m in (2, 3, 4) for b in (1, 64)]
        assert all(time["step_ms"] > time["forward_ms"] > 0 and time["runs"] == 2 for time in times)
    rank, width = 4, 64  # factors of width + 1 a sensor, weights of the ranks and a bias
    counts = [time["parameters"] for time in found["operations"]["low_rank"][::2]]
    assert counts == [rank * width * m * (width + 1) + rank + width for m in (2, 3, 4)]


def test_every_operation_is_built_for_some_number_of_sensors():
    for kind in fusion.registry.fusion.kinds():
        assert fusion._build(kind, 2) is not None
