"""`fusionkit bench dials`: does a comparison find the best strategy where it is known?"""

from typing import Annotated

import typer

from fusionkit.cli.options import Json


def dials(
    studies: Annotated[int, typer.Option(min=1, help="made studies of every dial")] = 10,
    only: Annotated[str | None, typer.Option(help="dials, with commas [default: all]")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="trainings at once [default: one a processor]")] = None,
    as_json: Json = False,
) -> None:
    """Compare strategies on made studies whose best one is known: it must be first, and every interval leave out 0.

    Three dials (an XOR of two sensors; one cause in three of them; two sensors that see nothing), about a thousand
    trainings of a second. Ends with 1 where a dial has fewer than nine such studies of ten, or something worse is said
    to beat the best.

    Example:
        fusionkit bench dials --jobs 2
    """
    import os
    from dataclasses import asdict
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from fusionkit.bench.dials import DIALS, Ranked, bench_dials, enough
    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.progress import watch
    from fusionkit.compare.cells.executor import LocalExecutor
    from fusionkit.core.errors import UnknownNameError

    names = only.split(",") if only else list(DIALS)
    for name in names:
        if name not in DIALS:
            raise UnknownNameError("dial", name, DIALS)
    rows: list[Ranked] = []
    with TemporaryDirectory() as folder, watch(console(stderr=True)) as listener:
        executor = LocalExecutor(jobs or os.cpu_count() or 1)
        for row in bench_dials(Path(folder), executor, dials=names, studies=studies, heard=listener.cells):
            if not rows and not as_json:
                print(f"{'dial':11}{'seed':>4}  {'first':18}{'mean':>6}{'least gain':>12}  found")
            rows.append(row)
            if not as_json:
                gain = f"{row.least:12.3f}  {'yes' if row.found else 'NO'}"
                said = "".join(f"; untrue: {one}" for one in row.untrue)
                print(f"{row.dial:11}{row.seed:4}  {row.first:18}{row.means[row.first]:6.3f}{gain}{said}", flush=True)
    kept = {name: enough([row for row in rows if row.dial == name]) for name in names}
    if as_json:
        print_json([{**asdict(row), "found": row.found} for row in rows])
    else:
        for name in names:
            found = sum(row.found for row in rows if row.dial == name)
            print(f"{'pass' if kept[name] else 'FAIL'}  {name}: {found} of {studies}")
    if not all(kept.values()):
        raise typer.Exit(1)
