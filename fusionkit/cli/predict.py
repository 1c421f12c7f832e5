"""`fusionkit predict`: answers for new records."""

from pathlib import Path
from typing import Annotated

import typer

from fusionkit.cli.options import Json


def predict(
    trained: Annotated[Path, typer.Argument(help="a run folder or a bundle")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="the data: data.path=...")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="write CSV here instead of printing")] = None,
    without: Annotated[list[str] | None, typer.Option("--without", help="unplug this sensor (may be repeated)")] = None,
    fold: Annotated[int | None, typer.Option(help="which fold's model of a run answers [default: 0]")] = None,
    as_json: Json = False,
) -> None:
    """Answer every task for every record of a table; labels are not needed.

    Example:
        fusionkit predict model.fusion data.path=new/manifest.csv -o answers.csv
    """
    import csv
    import io
    import sys

    from fusionkit.cli.output import check_output, print_json
    from fusionkit.evaluation.other_data import ask, open_trained, table
    from fusionkit.training.checkpoint import write_atomically

    check_output(output)
    asked = open_trained(trained, overrides or (), fold=fold)
    lines = list(table(asked, ask(asked, absent=without or (), labels=False)))
    if as_json:
        print_json(lines)
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    if output is None:
        sys.stdout.write(text.getvalue())
    else:
        write_atomically(output, text.getvalue().encode())
        print(f"wrote {output}: {len(lines)} records")
