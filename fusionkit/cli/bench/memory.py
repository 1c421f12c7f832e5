"""`fusionkit bench memory`: does memory grow with the data?"""

from typing import Annotated

import typer

from fusionkit.cli.options import Json


def memory(
    records: Annotated[int, typer.Option(min=80, help="records of the small study")] = 400,
    as_json: Json = False,
) -> None:
    """Measure peak memory of streaming: a study of EEG, and one of ten times the records, ingested and trained.

    Ends with 1 where ten times the records take more than 1.10 times the memory.

    Example:
        fusionkit bench memory
    """
    from dataclasses import asdict

    from fusionkit.bench.memory import bench_memory
    from fusionkit.cli.output import print_json

    result = bench_memory(records)
    if as_json:
        print_json({**asdict(result), "ratio": result.ratio, "record_kb": result.record_kb})
    else:
        for count, signal, peak in zip(result.records, result.signal_mb, result.peak_mb, strict=True):
            print(f"{count:6d} records, {signal:7.1f} MB stored: peak {peak:6.1f} MB of anonymous memory")
        print(f"ratio {result.ratio:.3f}; {result.record_kb:.1f} kB a record more")
    if result.ratio > 1.10:
        raise typer.Exit(1)
