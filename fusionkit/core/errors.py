"""Errors a user can cause: one root class, so that the command line can tell them from our own faults."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class FusionkitError(Exception):
    """What the user can mend. The message is one line: the rule, then what was got.

    Attributes:
        exit_code: what the command line ends with.
    """

    exit_code: int = 2

    def __str__(self) -> str:
        return " ".join(str(part) for part in self.args)


class ConfigError(FusionkitError, ValueError):
    """A recipe or an argument breaks a rule."""


class ShapeError(FusionkitError, ValueError):
    """A tensor has another shape than its place asks for."""


class DataError(FusionkitError, ValueError):
    """A file, a row or a signal breaks a rule."""


class UnknownNameError(FusionkitError, KeyError):
    """A name is not among the known ones.

    The message lists the nearest and all known names.
    """

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        super().__init__(f"no {what} named {name!r}{did_you_mean(name, names)}; known: {names}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Say the nearest known name as ``"; did you mean 'slots'?"``, or nothing when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Say where an error happened: ``with located("manifest.csv row 3"): ...``."""
    try:
        yield
    except FusionkitError as error:
        error.args = (f"{where}: {error}",)
        raise
