import json

import pytest

from fusionkit.bench import features, generative
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


def test_an_epoch_of_a_generator_is_timed_beside_a_bare_loop(monkeypatch, capsys):
    bench = generative.bench_generative
    monkeypatch.setattr(generative, "bench_generative", lambda rounds, device: bench(rounds, 1, device, records=8))
    monkeypatch.setattr(generative, "TARGET", 100.0)
    assert main(["bench", "generative", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ratio"] == pytest.approx(found["training_ms"] / found["bare_ms"]) and found["bare_ms"] > 0
    monkeypatch.setattr(generative, "TARGET", 0.0)
    assert main(["bench", "generative", "--rounds", "1"]) == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["bare", "training", "ratio"]
