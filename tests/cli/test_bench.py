import json

import pytest

from fusionkit.bench import features
from fusionkit.cli import main


@pytest.fixture
def quick(monkeypatch):
    """The bench of features on as few windows as it takes."""
    bench = features.bench_features
    monkeypatch.setattr(features, "FEW", 4)
    monkeypatch.setattr(features, "bench_features", lambda rounds: bench(rounds, windows=16))


def test_every_kind_of_features_is_timed(quick, capsys):
    assert main(["bench", "features", "--rounds", "1"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["kind", "windows/s"]
    assert [row.split()[0] for row in rows] == ["dft", "bandpass", "seed"]


def test_ratios_are_those_of_the_rates(quick, capsys):
    assert main(["bench", "features", "--rounds", "1", "--json"]) == 0
    for found in json.loads(capsys.readouterr().out):
        ratio = found["windows_per_second"] / found["reference_per_second"]
        assert found["speedup"] == pytest.approx(ratio)
        assert 0 < found["of_reading"] < 1 and found["one_window_us"] > 1
