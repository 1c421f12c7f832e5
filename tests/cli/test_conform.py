"""The conformance suite from the command line."""

import json

import pytest

from fusionkit.cli import conform, main
from fusionkit.core.errors import ConfigError
from fusionkit.testing import CheckResult

OPERATION = '''
from collections.abc import Mapping
from typing import ClassVar
import torch
from fusionkit.fusion.operation import LateFusion


class Sum(LateFusion):
    """Forgets to normalise."""

    def merge_log_probabilities(self, decisions, present):
        return torch.where(present[(...,) + (None,) * (decisions.ndim - 2)], decisions, 0.0).sum(0)

    def merge_values(self, decisions, present):
        return decisions.nan_to_num().sum(0) * 0 + 1


class Exempt(Sum):
    exempt: ClassVar[Mapping[str, str]] = {
        "output_contract": "scores, not probabilities",
        "all_but_one_absent": "likewise",
        "all_absent": "likewise",
        "dtypes": "likewise",
        "gradient_reaches_inputs": "numbers are constant",
    }


SUM = 3
'''


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with a stranger's module."""
    (tmp_path / "strange_lab.py").write_text(OPERATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    yield
    __import__("sys").modules.pop("strange_lab", None)


def test_a_sound_component_gives_a_table_and_code_0(capsys):
    assert main(["conform", "fusion.vote", "rule=product"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("fusion.vote: ") and " failed" not in shown
    assert [line.split()[:2] for line in shown.splitlines() if "row_independence" in line] == [
        ["row_independence", "passed"]
    ]


def test_a_failure_is_named_with_its_numbers_and_code_1(lab, capsys):
    assert main(["conform", "strange_lab:Sum"]) == 1
    shown = capsys.readouterr().out
    assert "output_contract" in shown and "probabilities must sum to 1, but are off by" in shown


def test_exemptions_are_printed_with_their_reason(lab, capsys):
    assert main(["conform", "strange_lab:Exempt"]) == 0
    shown = capsys.readouterr().out
    assert "5 exempt" in shown and "scores, not probabilities" in shown


def test_several_components_get_a_line_each_and_json_says_all(lab, capsys):
    assert main(["conform", "fusion.vote", "strange_lab:Sum"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("fusion.vote: ") and shown[-1] == "1 of 2 components conform"
    assert main(["conform", "squared_error", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["squared_error"]
    assert {"name", "outcome", "detail", "case", "idle"} == set(found[0]) and {check["name"] for check in found} > {
        "runs"
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a component"),
        (["fusion.vote", "--all"], "but not both"),
        (["fusion.vot"], "did you mean 'vote'"),
        (["fusion.vote", "rul=product"], "did you mean 'rule'"),
        (["fusion.vote", "fusion.rcft", "layers=2"], "options are for one component, but there are 2"),
        (["no_such_module:Op"], "no_such_module:Op: the module must be importable"),
        (["strange_lab:Som"], "strange_lab has none such"),
        (["strange_lab:SUM"], "must be a class, but strange_lab has 3"),
        (["sources.npz"], "to be checked, but got npz"),
    ],
)
def test_mistakes_are_one_line_and_code_2(lab, words, message, capsys):
    assert main(["conform", *words]) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.startswith("error: ") and len(shown.splitlines()) == 1


def test_of_all_what_cannot_be_built_fails_and_what_lacks_its_library_is_told(monkeypatch, capsys):
    def choosy(cls, **options):
        if cls.kind == "granger_cluster":
            raise ConfigError("must be built, but is not")
        return [CheckResult("runs", "passed"), CheckResult("dtypes", "exempt", "by definition")]

    monkeypatch.setattr("fusionkit.testing.check_component", choosy)
    monkeypatch.setitem(conform.LIBRARIES, "encoders.gru", "no_such_library")
    assert main(["conform", "--all"]) == 1
    shown = capsys.readouterr().out
    assert "encoders.gru: not checked, since no_such_library is not installed" in shown
    assert "must be built, but is not" in shown
    count = shown.count("1 passed")
    assert shown.splitlines()[-1] == f"{count} of {count + 1} components conform, {count} with exemptions"
