"""One margin for all tasks, and those of their own."""

import pytest

from fusionkit.cli import main
from fusionkit.compare.findings.margins import parse_margins
from fusionkit.core.errors import ConfigError, UnknownNameError


def test_a_task_has_its_own_margin_or_that_of_all():
    margins = parse_margins(["0.02", "intensity=0.1"])
    assert (margins.of("target"), margins.of("intensity")) == (0.02, 0.1)
    assert parse_margins([]).of("target") == 0.01
    margins.check(["target", "intensity"])
    with pytest.raises(UnknownNameError, match="intensity"):
        margins.check(["target", "intensit"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["0"], "above 0, but got 0"),
        (["target=-1"], "above 0, but got -1"),
        (["nan"], "above 0, but got nan"),
        (["inf"], "above 0, but got inf"),
        (["small"], "TASK=NUMBER, but got 'small'"),
        (["target="], "TASK=NUMBER, but got 'target='"),
        (["0.1", "0.2"], "once for all tasks, but got '0.2'"),
        (["target=0.1", "target=0.2"], "once for target"),
    ],
)
def test_what_is_no_margin_is_refused(words, said):
    with pytest.raises(ConfigError, match=said):
        parse_margins(words)


def test_the_command_refuses_a_margin_of_no_task_before_anything_is_trained(capsys, tmp_path):
    words = ["compare", "quickstart", f"run.dir={tmp_path}", "--vary", "fusion.kind=concat,vote"]
    assert main([*words, "--rope", "tarket=0.1"]) == 2
    assert "tarket" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main([*words, "--rope", "target=0"]) == 2
