"""What benches share: how one ends that must find no fault."""

from collections.abc import Collection

import typer


def end(faults: Collection[str], *, told: bool) -> None:
    """Print what is not as it must be, unless it was ``told`` as JSON, and end with 1 where there is any."""
    if not told:
        for fault in faults:
            print(f"FAIL  {fault}")
    if faults:
        raise typer.Exit(1)
