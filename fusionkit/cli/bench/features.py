"""`fusionkit bench features`: how fast are the kinds of EEG features here?"""

from typing import Annotated

import typer

from fusionkit.cli.options import Json


def features(
    rounds: Annotated[int, typer.Option(min=1, help="how often a batch is timed")] = 10,
    as_json: Json = False,
) -> None:
    """Time the kinds of EEG features against a reference in SciPy and against reading the samples once.

    Windows of 62 channels x 200 samples, float32, on one thread; least processor time of all rounds.

    Example:
        fusionkit bench features
    """
    from dataclasses import asdict

    from fusionkit.bench.features import bench_features
    from fusionkit.cli.output import print_json

    results = bench_features(rounds)
    if as_json:
        print_json([asdict(result) for result in results])
        return
    print("kind       windows/s  one window  reference   ratio  of reading once")
    for result in results:
        print(
            f"{result.kind:9}  {result.windows_per_second:9,.0f}  {result.one_window_us:7.0f} us  "
            f"{result.reference_per_second:9,.0f}  {result.speedup:5.1f} x  {100 * result.of_reading:8.2f} %"
        )
