"""`fusionkit init`: from a table of files to a recipe."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    manifest: Annotated[Path, typer.Argument(help="a table of files: .csv, .tsv, .jsonl or .parquet")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="file to write [default: print]")] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite a file that is there")] = False,
) -> None:
    """Look at a table of files and write a commented recipe that trains as it is.

    Sensors are guessed from file endings and sentences, tasks from columns with few values or numbers, the split from
    columns that name subjects.

    Example:
        fusionkit init lab/manifest.csv -o my.yaml
        fusionkit train my.yaml
    """
    import re

    from fusionkit.cli.copy import write_new
    from fusionkit.recipe.draft import draft
    from fusionkit.recipe.guess import guess

    name = re.sub(r"[^A-Za-z0-9_-]+", "-", (output or manifest).stem).strip("-_") or "recipe"
    command = f"fusionkit train {output or 'my.yaml'}"
    text = draft(guess(manifest), name, manifest.as_posix(), command)
    if output is None:
        print(text, end="")
        return
    write_new(output, text, force)
    print(f"wrote {output}; train it with `{command}`")
