"""`fusionkit bench fusion`: what does every fusion operation cost here?"""

from collections.abc import Iterable
from typing import Annotated

import typer

from fusionkit.cli.options import Json


def fusion(
    runs: Annotated[int, typer.Option(min=1, help="how often each number is taken, fewer where it is slow")] = 40,
    as_json: Json = False,
) -> None:
    """Time every fusion operation at batch 1 and 64 with two to four sensors, beside a plain concat and linear layer.

    Streams have 8 steps of 64 numbers; medians of processor time on one thread, in under three minutes. Each cell has
    a number for two, three and four sensors. Ends with 1 where an operation misses its target.

    Example:
        fusionkit bench fusion
    """
    from dataclasses import asdict

    from fusionkit.bench.fusion import bench_fusion, check_targets
    from fusionkit.cli.output import print_json

    def cell(numbers: Iterable[float]) -> str:
        return f"{'/'.join(f'{number:.{2 if number < 10 else 1 if number < 100 else 0}f}' for number in numbers):>18}"

    if not as_json:
        print(f"{'':37}{'forward ms':>20}{'training step ms':>37}{'over concat, batch 64':>36}")
        parts = f"{'batch 1':>18}{'batch 64':>18}" * 2 + f"{'forward':>18}{'step':>18}"
        print(f"{'operation':19}{'1000 parameters':>18}{parts}")
    table = {}
    for kind, times, refused in bench_fusion(runs=runs):
        table[kind] = [asdict(time) for time in times]
        if as_json:
            continue
        one, many = ([time for time in times if time.batch == batch] for batch in (1, 64))
        cells = [cell(time.parameters / 1e3 for time in many)]
        cells += [cell(time.forward_ms for time in group) for group in (one, many)]
        cells += [cell(time.step_ms for time in group) for group in (one, many)]
        cells += [cell(time.forward_ratio for time in many), cell(time.step_ratio for time in many)]
        print(f"{kind:19}{''.join(cells)}" + (f"  ({refused})" if refused else ""), flush=True)
    targets = check_targets(runs)
    if as_json:
        print_json({"operations": table, "targets": [{**asdict(one), "kept": one.kept} for one in targets]})
    else:
        for target in targets:
            said = "pass" if target.kept else "FAIL"
            print(f"{said}  {target.name}: {target.found_ms:.2f} ms, at most {target.limit_ms:g}")
    if not all(target.kept for target in targets):
        raise typer.Exit(1)
