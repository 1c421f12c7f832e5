"""The frame of the command line: which verbs there are, how one is run, what an error looks like.

A verb is a file beside this one with a function of the same name (or, where it has verbs of its own, a file or a folder
with a `typer.Typer` called ``app``). Only that of the verb that is asked for is imported, so help opens at once.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from fusionkit.core.errors import FusionkitError

VERBS = {
    "train": "Train a recipe and write a run folder.",
    "compare": "Train strategies on one split and say which is better.",
    "pretrain": "Let encoders learn before any label is asked for.",
    "evaluate": "Score a run or a bundle on test records, or on other data.",
    "probe": "Measure what a run's encoders have learned.",
    "predict": "Answer for new data with a run or a bundle.",
    "export": "Make one file of a run that predicts without torch.",
    "adapt": "Fit a run to a new wearer: a bundle that knows them.",
    "stream": "Decide in a closed loop, from LSL streams or a recording.",
    "show": "Draw a recipe's graph; print shapes and parameter counts.",
    "check": "Read a recipe and say what is wrong with it.",
    "explain": "Say what a component does and which options it has.",
    "conform": "Run the conformance suite over a component.",
    "ls": "List recipes and components.",
    "copy": "Copy a recipe out, to change it.",
    "schema": "Print the JSON Schema of recipes, for editors.",
    "bench": "Measure speed.",
    "data": "Inspect, ingest and split data.",
    "init": "Write a recipe for a table of files.",
    "suggest": "Choose a fusion graph from the data.",
    "augment": "Measure what generated records bring.",
}
"""Every verb and its line in the help; each file's docstring says more."""

HELP = """Multi-modal sensor fusion: one recipe from raw signals to a deployable model.

Example:
    fusionkit train quickstart
    fusionkit train quickstart fusion.kind=concat train.epochs=3
"""


USAGE: Any = typer.BadParameter.__mro__[2]
"""What click raises over a command line that it cannot read; typer brings a click of its own or takes the real one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        arguments: what follows the program's name; by default that of this process.

    Returns:
        The exit code: 0, 2 for what the user can mend (one line an error on stderr), 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    # threads that wait must sleep: spinning ones made training 15 times slower on cores that others use too
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app = _app(next((word for word in words if not word.startswith("-")), None))
        return app(words, prog_name="fusionkit", standalone_mode=False) or 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone (`fusionkit ls | head`)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it when it ends
        return 1
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # `fusionkit data` alone, which has verbs of its own
            print(error)
            return 0
        lines = None if debug else _mendable(error)
        if lines is None:
            raise
        for line in lines:
            print(f"error: {line}", file=sys.stderr)
        return error.exit_code if isinstance(error, FusionkitError) else 2


def _mendable(error: Exception) -> list[str] | None:
    """What to tell of an error that the user can mend, a line each; None where the fault is ours."""
    if isinstance(error, FusionkitError):
        return str(error).splitlines() or [type(error).__name__]
    runtime = sys.modules.get("fusionkit.runtime.bundle")  # stands alone, so its error is none of ours
    if runtime is not None and isinstance(error, runtime.BundleError):
        return [" ".join(str(error).split())]
    if isinstance(error, OSError) and error.strerror:  # a disk that is full, a folder that may not be written
        return [f"{error.filename}: cannot be read or written: {error.strerror}" if error.filename else error.strerror]
    if isinstance(error, USAGE):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "fusionkit"
        text = " ".join(error.format_message().rstrip(".").split()).replace(". Did you", "; did you")
        return [f"{path}: {text[:1].lower()}{text[1:]} (see `{path} --help`)"]
    return None


def help_text(docstring: str | None) -> str:
    r"""A docstring as help: without the sections for readers of code, its example kept line by line.

    A backspace (``\b``) before a block is how the help formatter is told to leave its lines alone.
    """
    kept: list[str] = []
    for block in inspect.cleandoc(docstring or "").split("\n\n"):
        if block.startswith(("Args:", "Raises:", "Returns:", "Attributes:", "Reference:")):
            continue
        kept.append("\b\n" + block if "\n    " in block else block)
    return "\n\n".join(kept)


def _app(verb: str | None) -> typer.Typer:
    """The app with the real ``verb``, and stand-ins for the others that carry their line of help."""
    app = typer.Typer(help=help_text(HELP), add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.callback(invoke_without_command=False)(_options)
    for name, line in VERBS.items():
        if name != verb:
            app.command(name, help=line)(_stand_in)
            continue
        module = importlib.import_module(f"fusionkit.cli.{name}")
        inner = getattr(module, "app", None)
        if isinstance(inner, typer.Typer):
            for command in inner.registered_commands:
                command.help = command.help or help_text(command.callback.__doc__ if command.callback else None)
            app.add_typer(inner, name=name, help=help_text(module.__doc__), short_help=line)
        else:
            function: Callable[..., None] = getattr(module, name)
            app.command(name, help=help_text(function.__doc__), short_help=line)(function)
    return app


def _stand_in() -> None:
    """Never run: the verb that is asked for is always the real one."""


def _version(asked: bool) -> None:
    if asked:
        from fusionkit import __version__

        print(__version__)
        raise typer.Exit


def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    del version, debug  # handled before anything runs
