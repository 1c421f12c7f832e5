"""The table of false findings: what decides on every usual design, and every test beside it."""

import json

import pytest

from fusionkit.bench import null_levels
from fusionkit.bench.null_levels import SHARED, Level, bench_levels, bench_others
from fusionkit.cli import main
from fusionkit.evaluation.statistics.null_study import DECIDES, TESTS, Design, usual_designs


def test_every_usual_design_and_every_test_has_a_row():
    levels = list(bench_levels(studies=100))
    assert [one.design for one in levels] == usual_designs() and {one.test for one in levels} == {DECIDES}
    others = list(bench_others(studies=100))
    assert [one.test for one in others[:: len(SHARED)]] == list(TESTS)
    assert all(0 <= one.wrong <= 1 for one in [*levels, *others])


@pytest.mark.parametrize(("wrong", "code"), [(0.06, 0), (0.07, 1)])
def test_the_command_ends_with_1_where_the_level_is_not_kept(monkeypatch, capsys, wrong, code):
    rows = [Level(DECIDES, Design(), 0.01)] * 3 + [Level(DECIDES, Design(), wrong)]
    monkeypatch.setattr(null_levels, "bench_levels", lambda studies, seed: iter(rows))
    monkeypatch.setattr(null_levels, "bench_others", lambda studies, seed: iter(rows))
    assert main(["bench", "statistics"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["6", "4", "12", "0.0100", "0.0100", "0.0100", f"{wrong:.4f}"]
    assert lines[2] == f"{'FAIL' if code else 'pass'}  at most {wrong:.4f}; the bound is 0.0615"
    assert main(["bench", "statistics", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["bound"] == 0.0615
