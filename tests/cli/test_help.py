"""The frame: help opens at once and without torch, errors are lines, exit codes are right."""

import os
import re
import subprocess
import sys

import pytest
import typer

from fusionkit import __version__
from fusionkit.cli import frame, main
from fusionkit.cli.frame import VERBS, help_text
from fusionkit.core.errors import ConfigError


@pytest.fixture
def verb(monkeypatch):
    """Put a function in the place of the verb `check`."""

    def put(function):
        class Module:
            check = staticmethod(function)

        monkeypatch.setattr(frame.importlib, "import_module", lambda name: Module)

    return put


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_verb_with_its_line(arguments, capsys):
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for name, line in VERBS.items():
        assert f"{name} " in shown
        assert line in shown
    assert "fusionkit train quickstart" in shown


@pytest.mark.parametrize("name", ["ls", "copy", "explain", "schema", "init", "check"])
def test_every_verb_has_help_with_an_example(name, capsys):
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: fusionkit {name} ")
    assert f"\n  Example:\n      fusionkit {name}" in shown


def test_help_is_quick_and_imports_no_torch():
    code = (
        "import sys; from fusionkit.cli import main; main(['--help']);"
        "heavy = {'torch', 'numpy', 'mne', 'scipy', 'matplotlib', 'yaml'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    seconds = []
    for _ in range(5):
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < 0.4  # of the processor: other work on the machine does not count


def test_help_of_no_verb_imports_torch():
    code = (
        "import sys; from fusionkit.cli import frame, main\n"
        "for verb in frame.VERBS:\n"
        "    main([verb, '--help'])\n"
        "    if 'torch' in sys.modules: sys.exit(f'{verb} imports torch')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Example:") >= len(VERBS) - 1  # `data` has verbs of its own, each with its example


def test_the_module_runs():
    done = subprocess.run([sys.executable, "-m", "fusionkit", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{__version__}\n"


def test_a_wrong_verb_or_option_is_a_usage_error(capsys):
    for words, line in {
        ("chekc",): r"fusionkit: no such command 'chekc'.* \(see `fusionkit --help`\)",
        ("check", "x", "--nonsense"): r"fusionkit check: no such option: --nonsense \(see `fusionkit check --help`\)",
        ("check",): r"fusionkit check: missing argument '(recipe|RECIPE)' \(see `fusionkit check --help`\)",
    }.items():
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert re.fullmatch(f"error: {line}\n", err)


def test_a_verb_with_verbs_of_its_own_shows_its_help(capsys):
    assert main(["bench"]) == main(["bench", "--help"]) == 0
    alone, asked = capsys.readouterr().out.split("Usage: ")[1:]
    assert alone == asked


def test_a_disk_that_refuses_is_one_line(verb, tmp_path, capsys):
    def check():
        (tmp_path / "none" / "x").write_text("")

    verb(check)
    assert main(["check"]) == 2
    assert (
        capsys.readouterr().err
        == f"error: {tmp_path / 'none' / 'x'}: cannot be read or written: No such file or directory\n"
    )


def test_an_error_is_one_line_each_without_a_traceback(verb, capsys):
    def check():
        raise ConfigError("r.yaml:1: one\nr.yaml:2: two")

    verb(check)
    assert main(["check"]) == 2
    assert capsys.readouterr() == ("", "error: r.yaml:1: one\nerror: r.yaml:2: two\n")


@pytest.mark.parametrize("arguments", [["--debug", "check"], ["check", "--debug"]])
def test_debug_shows_the_traceback(verb, arguments):
    def check():
        raise ConfigError("one")

    verb(check)
    with pytest.raises(ConfigError, match="one"):
        main(arguments)


def test_a_fault_of_ours_keeps_its_traceback(verb):
    def check():
        raise ZeroDivisionError

    verb(check)
    with pytest.raises(ZeroDivisionError):
        main(["check"])


def test_an_interrupt_is_130(verb):
    def check():
        raise KeyboardInterrupt

    verb(check)
    assert main(["check"]) == 130


def test_a_verb_may_choose_its_exit_code(verb):
    def check():
        raise typer.Exit(3)

    verb(check)
    assert main(["check"]) == 3


def test_a_reader_that_goes_away_is_no_error():
    code = "from fusionkit.cli import main; import sys; sys.exit(main(['--help']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert "Traceback" not in stderr


def test_docstrings_become_help():
    def verb():
        """Do it.

        More of it.

        Args:
            x: hidden.

        Example:
            fusionkit do it
            fusionkit do more
        """

    text = help_text(verb.__doc__)
    assert text == "Do it.\n\nMore of it.\n\n\b\nExample:\n    fusionkit do it\n    fusionkit do more"


def test_verbs_of_a_verb_have_help_too(monkeypatch, capsys):
    inner = typer.Typer()

    @inner.command()
    def inspect():
        """Look at it.

        Example:
            fusionkit data inspect x
        """

    @inner.command()
    def ingest():
        """Take it in."""

    module = type("Module", (), {"app": inner, "__doc__": "Data of all kinds."})
    monkeypatch.setattr(frame.importlib, "import_module", lambda name: module)
    assert main(["data", "--help"]) == 0
    assert "Data of all kinds." in capsys.readouterr().out
    assert main(["data", "inspect", "--help"]) == 0
    assert "\n  Example:\n      fusionkit data inspect x" in capsys.readouterr().out
    assert main(["data", "ingest"]) == 0
