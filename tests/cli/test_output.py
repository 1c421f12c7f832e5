"""Plain where nobody looks, JSON that is JSON."""

import json
import math

from fusionkit.cli.output import console, print_json


def test_a_console_writes_long_plain_lines_to_a_file(capsys):
    line = "x" * 500 + " [bold] 12"
    console().print(line)
    console(stderr=True).print("e")
    assert capsys.readouterr() == (f"{line}\n", "e\n")


def test_json_has_no_nan(capsys):
    print_json({"a": math.nan, "b": [1.5, (math.inf, "é")], 3: None})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"a": None, "b": [1.5, [None, "é"]], "3": None}
    assert "é" in shown
