"""`fusionkit bench leakage`: does any split protocol find something in noise?"""

from typing import Annotated

import typer

from fusionkit.cli.options import Json


def leakage(
    repetitions: Annotated[int, typer.Option(min=2, help="seeds of every protocol")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="the first seed")] = 0,
    as_json: Json = False,
) -> None:
    """Score every split protocol on noise that knows no label: all must be at chance, but a split by smoothed windows.

    One row in 18 exceeds 3 sigma by chance at one first seed in twenty; then more repetitions bring it back. Ends with 1
    where a row is not as it must be.

    Example:
        fusionkit bench leakage
    """
    from dataclasses import asdict

    from rich.table import Table

    from fusionkit.bench.leakage import LIMIT, bench_leakage
    from fusionkit.cli.output import console, print_json
    from fusionkit.cli.progress import watch

    screen = console(stderr=as_json)
    with watch(screen) as listener:
        scores = bench_leakage(repetitions, seed=seed, report=listener.prepare)
    if as_json:
        print_json([{**asdict(score), "expected": score.expected} for score in scores])
    else:
        table = Table("protocol", "features", "accuracy", "chance", "sigma", "units", "deviation in sigma")
        for score in scores:
            numbers = (f"{value:.4f}" for value in (score.accuracy, score.chance, score.sigma))
            said = f"{score.deviation:+.1f}" + ("" if score.honest else ", window-level: leaks by design")
            table.add_row(score.protocol, score.features, *numbers, str(score.units), said)
        screen.print(table)
    wrong = [f"{score.protocol} ({score.features})" for score in scores if not score.expected]
    if wrong:
        screen.print(f"not as it must be within {LIMIT:g} sigma: {', '.join(wrong)}")
        raise typer.Exit(1)
    screen.print(
        f"every protocol within {LIMIT:g} sigma of chance; windows of smoothed trials far above it, as they must be"
    )
